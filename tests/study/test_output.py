"""The output folder: what is ours is replaced as a whole, what is not ours is never touched."""

import errno
import json
import os
import signal
import warnings
from pathlib import Path

import pytest

from mdsens.errors import InputError
from mdsens.study.marker import MARKER_NAME, read_marker
from mdsens.study.output import kept_folder, output_folder
from mdsens.study.run_lock import run_folder


def fill(target: Path, files: dict[str, str], **options) -> None:
    with output_folder(target, **options) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder but for the marker."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER_NAME
    }


FIRST = {"results.json": "1", "a.png": "1", "input/x.xyz": "1"}
SECOND = {"results.json": "2", "b.png": "2", "input/y.xyz": "2"}


@pytest.fixture
def target(tmp_path) -> Path:
    """An output folder with the results of a first run."""
    fill(tmp_path / "out", FIRST)
    return tmp_path / "out"


def refused(target: Path, *words: str, **options) -> None:
    """A run into the target is refused in a line, and changes nothing."""
    before = content(target.parent)
    with pytest.raises(InputError) as caught:
        fill(target, SECOND, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert content(target.parent) == before
    assert not run_folder(target).exists()


def test_the_marker_names_what_was_written(target):
    marker = read_marker(target)
    assert marker is not None
    assert set(marker.files) == set(FIRST)
    assert json.loads((target / MARKER_NAME).read_text())["schema"] == 1
    assert sorted(path.name for path in target.parent.iterdir()) == ["out"]


def test_a_run_replaces_what_is_ours_and_nothing_else(target):
    (target / "notes.txt").write_text("mine")
    (target / "input" / "mine.txt").write_text("mine")
    fill(target, SECOND)
    assert content(target) == SECOND | {"notes.txt": "mine", "input/mine.txt": "mine"}
    fill(target, {"results.json": "3"})
    assert content(target) == {
        "results.json": "3", "notes.txt": "mine", "input/mine.txt": "mine"
    }  # fmt: skip
    (target / "input" / "mine.txt").unlink()
    fill(target, {"input/y.xyz": "4"})
    fill(target, {"results.json": "5"})
    # A folder of ours goes with its last file.
    assert sorted(path.name for path in target.iterdir()) == [
        MARKER_NAME, "notes.txt", "results.json"
    ]  # fmt: skip


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path):
    (tmp_path / "out").mkdir()
    number = (tmp_path / "out").stat().st_ino
    fill(tmp_path / "out", FIRST)
    assert content(tmp_path / "out") == FIRST
    assert (tmp_path / "out").stat().st_ino == number


@pytest.mark.parametrize(
    "files",
    [
        {"results.json": '{"schema": 1}'},
        {"results.json": '{"schema": "of another program", "data": []}', "data.bin": "x"},
        {"thesis.tex": "important"},
        {".hidden": "x"},
        {MARKER_NAME: "{}"},
        {MARKER_NAME: '{"program": "mdsens", "schema": 2, "files": {}}'},
        {MARKER_NAME: '{"program": "mdsens", "schema": 1, "files": {"../x": {"size": 1}}}'},
        {MARKER_NAME: "[" * 100_000},
    ],
    ids=["schema", "other", "thesis", "hidden", "empty", "newer", "outside", "deep"],
)
def test_a_folder_without_our_marker_is_never_touched(tmp_path, files):
    target = tmp_path / "out"
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text)
    refused(target, str(target), MARKER_NAME)
    for name, text in files.items():
        assert (target / name).read_text() == text


@pytest.mark.parametrize(
    "name", ["../victim", "/victim", "input/../../victim", "a\\b", MARKER_NAME]
)
def test_a_marker_cannot_reach_out_of_its_folder(target, name):
    (target.parent / "victim").write_text("important")
    marker = json.loads((target / MARKER_NAME).read_text())
    marker["files"][name] = marker["files"]["a.png"]
    (target / MARKER_NAME).write_text(json.dumps(marker))
    refused(target, "damaged")


def test_what_was_changed_since_is_not_ours_any_more(target):
    (target / "a.png").write_text("a better figure")
    refused(target, "'a.png'", "changed")
    (target / "a.png").unlink()
    fill(target, SECOND)
    assert content(target) == SECOND


def test_a_study_that_was_changed_where_it_is_may_be_run_there(target):
    (target / "results.json").write_text("changed")
    refused(target, "'results.json'", "changed")
    fill(target, SECOND, inputs=[target / "results.json"])
    assert content(target) == SECOND


def test_a_file_of_another_is_not_replaced_by_one_of_ours(target):
    (target / "b.png").write_text("mine")
    refused(target, "'b.png'", "did not write")
    # Before anything long is computed, where the name is known.
    with (
        pytest.raises(InputError, match=r"b\.png"),
        output_folder(target, ["results.json", "b.png"]),
    ):
        pytest.fail("begun")


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_link_does_not_lead_out_of_the_folder(target, kind):
    aside = target.parent / "aside"
    if kind == "file":
        (target / "results.json").rename(aside)
        (target / "results.json").symlink_to(aside)
        refused(target, "'results.json'")
    elif kind == "folder":
        (target / "input").rename(aside)
        (target / "input").symlink_to(aside)
        refused(target, "input")
    else:
        target.rename(aside)
        target.symlink_to(aside)
        refused(target, "no folder")
    assert aside.exists()


def test_only_what_a_report_makes_is_replaced_by_a_report(target):
    fill(target, {"b.png": "2"}, replaces=lambda name: name.endswith(".png"))
    assert content(target) == {"results.json": "1", "b.png": "2", "input/x.xyz": "1"}
    marker = read_marker(target)
    assert marker is not None
    assert set(marker.files) == {"results.json", "b.png", "input/x.xyz"}


@pytest.mark.parametrize("at", range(8))
def test_what_goes_wrong_while_files_are_put_in_place_is_undone(target, monkeypatch, at):
    moves = iter(range(100))
    real = os.replace

    def replace(*paths):
        if next(moves) == at:
            raise OSError(28, "No space left on device")
        real(*paths)

    (target / "notes.txt").write_text("mine")
    monkeypatch.setattr(os, "replace", replace)
    refused(target, "No space left on device")
    monkeypatch.undo()
    fill(target, SECOND)
    assert content(target) == SECOND | {"notes.txt": "mine"}


def test_two_runs_into_one_folder_never_mix(target):
    with output_folder(target) as folder:
        (folder / "results.json").write_text("slow")
        with pytest.raises(InputError, match="another run of mdsens is writing"):
            fill(target, SECOND)
        assert folder.is_dir()
        # Into another folder beside it, all goes its way.
        fill(target.parent / "other", SECOND)
    assert content(target) == {"results.json": "slow"}


def killed_run(target: Path, at: int) -> None:
    """A process that is killed while it computes (-1), or before a move into the target."""
    moves, real = iter(range(100)), os.replace

    def replace(*paths):
        if next(moves) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)

    with warnings.catch_warnings():
        # JAX fears for its threads; none of them is used here.
        warnings.simplefilter("ignore", RuntimeWarning)
        process = os.fork()
    if process == 0:
        os.replace = replace
        with output_folder(target) as folder:
            (folder / "results.json").write_text("2")
            (folder / "b.png").write_text("2")
            if at == -1:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("at", range(-1, 7))
def test_the_next_run_sweeps_up_after_one_that_was_killed(target, at):
    (target / "notes.txt").write_text("mine")
    killed_run(target, at)
    assert run_folder(target).is_dir()
    if at >= 2:
        assert content(target) != FIRST | {"notes.txt": "mine"}
    # A run that fails itself leaves what there was before the one that was killed.
    with pytest.raises(KeyboardInterrupt), output_folder(target):
        raise KeyboardInterrupt
    assert content(target) == FIRST | {"notes.txt": "mine"}
    assert not run_folder(target).exists()
    fill(target, SECOND)
    assert content(target) == SECOND | {"notes.txt": "mine"}


@pytest.mark.parametrize("files", [{"results": "mine"}, {"run.json": "mine"}, {"other": "mine"}])
def test_a_folder_of_another_with_the_name_of_a_runs_own_stays(target, files):
    run_folder(target).mkdir()
    for name, text in files.items():
        (run_folder(target) / name).write_text(text)
    (run_folder(target) / "more").write_text("mine")
    with pytest.raises(InputError, match="did not write it"):
        fill(target, SECOND)
    assert content(run_folder(target)) == files | {"more": "mine"}
    assert content(target) == FIRST


def test_without_locks_an_interrupted_run_does_not_block_the_next(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    target = tmp_path / "out"

    def interrupted():
        with kept_folder(target) as output, output.checkpoints(resume=False) as folder:
            (folder / "relaxation.npz").write_bytes(b"where it was")
            # While it works, nobody else may.
            with pytest.raises(InputError, match="of another run of mdsens"), kept_folder(target):
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with kept_folder(target) as output, output.checkpoints(resume=True) as folder:
        assert (folder / "relaxation.npz").read_bytes() == b"where it was"
    assert not run_folder(target).exists()
