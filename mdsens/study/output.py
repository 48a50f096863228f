"""The folder that results go to: written aside, put in place when complete, and never another's.

Beside a folder ``results/x`` that is being written stands ``results/.x.mdsens``. It holds a file
that the run keeps locked, the new results, and, while these are put in place, the earlier ones. A
run that is killed leaves it behind; the lock went with the run, so that the next run into the same
folder knows whose it was, puts back what was half replaced, and sweeps it away. Checkpoints of its
relaxations are there too, and stay when a run is interrupted, for the next one to go on from.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mdsens.errors import InputError
from mdsens.study.marker import (
    MARKER_NAME,
    FileRecord,
    Marker,
    changed,
    foreign,
    read_marker,
    records,
)
from mdsens.study.run_lock import (
    CHECKPOINTS_NAME,
    EARLIER_NAME,
    LOCK_NAME,
    NEW_NAME,
    acquire,
    claim_of,
    run_folder,
)


@contextlib.contextmanager
def output_folder(
    target: Path,
    names: Iterable[str] = (),
    inputs: Iterable[Path] = (),
    replaces: Callable[[str], bool] = lambda name: True,
) -> Iterator[Path]:
    """A folder to write to, whose files are put into the target if all goes well.

    Of the files in the target, only those are replaced or deleted that mdsens has written, by the
    target's marker. Whatever ends the work early, an error or Ctrl-C, removes what was written;
    what an earlier run left is there until the very end, and again where that goes wrong.

    Arguments:
        target: where the results shall be; its files that are not ours stay.
        names: paths inside the target that may be written: where another's file stands, nothing
            is begun.
        inputs: files that have been read: where they are ours, they may have changed since.
        replaces: whether a file of the earlier run is to go, by its path inside the target.

    Yields:
        The folder to write into.

    Raises:
        InputError: the place cannot be written to, holds something that mdsens did not write, or
            another run is writing to it.
    """
    with kept_folder(target, names, inputs, replaces) as output, output.files() as folder:
        yield folder


@contextlib.contextmanager
def kept_folder(
    target: Path,
    names: Iterable[str] = (),
    inputs: Iterable[Path] = (),
    replaces: Callable[[str], bool] = lambda name: True,
) -> Iterator["Output"]:
    """A target that no other run writes to meanwhile, and whose files may be put there in parts.

    Arguments:
        target: as for `output_folder`.
        names: likewise.
        inputs: likewise.
        replaces: likewise.

    Yields:
        The Output, whose `files` are written as those of `output_folder`.

    Raises:
        InputError: as there.
    """
    target = Path(os.path.abspath(target))
    target = Path(os.path.realpath(target.parent)) / target.name
    names = list(names)
    output = Output(target, {path.resolve() for path in inputs}, replaces)
    with _as_input_error(target):
        output.require_room(names)
    made: list[Path] = []
    try:
        with _as_input_error(target):
            lock = acquire(target, made)
        try:
            with _as_input_error(target):
                output.settle()
                output.require_room(names)
            yield output
        finally:
            output.clean_up()
            os.close(lock)
    finally:
        for folder in reversed(made):
            # Only what this run made, and only if nothing came to be in it.
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what goes wrong while files are written, as on a full disk, into one line.

    Arguments:
        target: the folder to name.

    Raises:
        InputError: a file cannot be written.
    """
    with _as_input_error(target):
        yield


class WriteError(InputError):
    """A file of results cannot be written, as on a full disk."""


class Output:
    """A target, and the folder of the run that writes to it and holds its lock.

    Arguments:
        target: where the results shall be.
        inputs: files that have been read.
        replaces: whether a file that is there is to go, by its path inside the target.
    """

    def __init__(self, target: Path, inputs: set[Path], replaces: Callable[[str], bool]) -> None:
        self.target, self.inputs, self.replaces = target, inputs, replaces
        self.run = run_folder(target)
        self.new, self.earlier = self.run / NEW_NAME, self.run / EARLIER_NAME

    @contextlib.contextmanager
    def files(self, replaces: Callable[[str], bool] | None = None) -> Iterator[Path]:
        """A folder to write to, whose files are put into the target if all goes well.

        Arguments:
            replaces: whether a file that is there is to go; as the Output was given by default.

        Yields:
            The folder to write into.

        Raises:
            InputError: the target cannot be written to.
        """
        self.replaces = replaces or self.replaces
        try:
            with _as_input_error(self.target):
                self.new.mkdir()
            yield self.new
            with _as_input_error(self.target):
                self.put_in_place()
        finally:
            self.tidy()

    @contextlib.contextmanager
    def checkpoints(self, resume: bool) -> Iterator[Path]:
        """A folder for checkpoints, which stays as it is if what is done meanwhile is ended early.

        Arguments:
            resume: whether those of an earlier run may be gone on from; else they are removed.

        Yields:
            The folder.

        Raises:
            InputError: it cannot be written.
        """
        folder = self.run / CHECKPOINTS_NAME
        with _as_input_error(self.target):
            if folder.exists() and not resume:
                shutil.rmtree(folder)
            folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def require_room(self, names: Iterable[str]) -> Marker:
        """The target's marker, after a look whether everything may be written there."""
        target = self.target
        if target.is_symlink() or (os.path.lexists(target) and not target.is_dir()):
            raise InputError(f"output {str(target)!r} is no folder: give another with --out")
        if not target.is_dir() or not any(target.iterdir()):
            return Marker.of({})
        marker = read_marker(target)
        if marker is None:
            raise InputError(
                f"output folder {str(target)!r} holds files, and no {MARKER_NAME} that says that "
                "mdsens has written them: move it away, or give another folder with --out"
            )
        going = [name for name in sorted(marker.names) if self.replaces(name)]
        for name in changed(target, marker, going, self.inputs):
            raise InputError(
                f"output folder {str(target)!r}: {name!r} was changed after mdsens wrote it; move "
                "it away, or give another folder with --out"
            )
        for name in foreign(target, names, going):
            raise InputError(
                f"output folder {str(target)!r} holds {name!r}, which mdsens did not write; move "
                "it away, or give another folder with --out"
            )
        return marker

    def settle(self) -> None:
        """Undo what a dead run has begun, and sweep away what it has left."""
        if self.target.is_dir() and not self.target.is_symlink():
            marker = read_marker(self.target)
            if marker is not None and not marker.complete:
                self.roll_back(marker)
        for left in (self.new, self.earlier):
            if left.exists():
                shutil.rmtree(left)

    def put_in_place(self) -> None:
        """Move the new files into the target, or leave everything as it was."""
        new = records(self.new)
        if not self.target.exists():
            self._write_marker(self.new, Marker.of(new))
            os.replace(self.new, self.target)
            return
        marker = self.require_room(new)
        going = [name for name in marker.files if self.replaces(name)]
        kept = {name: found for name, found in marker.files.items() if name not in going}
        after = Marker.of(kept | new)
        begun = after.model_copy(update={"complete": False, "earlier": marker.files})
        self._write_marker(self.target, begun)
        try:
            for name in going:
                if (self.target / name).exists():
                    _move(self.target / name, self.earlier / name)
            for name in new:
                _move(self.new / name, self.target / name)
            self._write_marker(self.target, after)
        except BaseException:
            self.roll_back(begun)
            raise
        self._remove_empty_folders(going)

    def roll_back(self, begun: Marker) -> None:
        """Bring the target back to where the run before had left it."""
        for name in begun.files:
            path = self.target / name
            if (
                name not in begun.earlier
                and path.exists()
                and begun.is_unchanged(self.target, name)
            ):
                path.unlink()
        self._remove_empty_folders(begun.files)
        for path in [path for path in self.earlier.rglob("*") if path.is_file()]:
            _move(path, self.target / path.relative_to(self.earlier))
        before: dict[str, FileRecord] = {
            name: found for name, found in begun.earlier.items() if (self.target / name).exists()
        }
        if before:
            self._write_marker(self.target, Marker.of(before))
        else:
            (self.target / MARKER_NAME).unlink()

    def tidy(self) -> bool:
        """Remove what is not in place; not what is of an earlier run that is not put back."""
        shutil.rmtree(self.new, ignore_errors=True)
        marker = None
        with contextlib.suppress(OSError, InputError):
            marker = read_marker(self.target)
        settled = marker is None or marker.complete
        if settled:
            shutil.rmtree(self.earlier, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self.run / MARKER_NAME).unlink(missing_ok=True)
        return settled

    def clean_up(self) -> None:
        """Remove the run's folder; not checkpoints, nor what of an earlier run is not put back."""
        checkpoints = self.run / CHECKPOINTS_NAME
        with contextlib.suppress(OSError):
            checkpoints.rmdir()
        with contextlib.suppress(OSError):
            if self.tidy() and not checkpoints.exists():
                (self.run / LOCK_NAME).unlink()
            else:
                # Where there are no locks, this is how the next run knows that this one has ended.
                (self.run / LOCK_NAME).write_text(claim_of(self.target, None), "utf-8")
        with contextlib.suppress(OSError):
            self.run.rmdir()

    def _write_marker(self, folder: Path, marker: Marker) -> None:
        aside = self.run / MARKER_NAME
        aside.write_text(marker.to_json(), "utf-8")
        os.replace(aside, folder / MARKER_NAME)

    def _remove_empty_folders(self, names: Iterable[str]) -> None:
        for name in names:
            for parent in (self.target / name).parents:
                if parent == self.target:
                    break
                with contextlib.suppress(OSError):
                    parent.rmdir()


def has_checkpoint(target: Path) -> bool:
    """Whether an interrupted run has left a checkpoint to go on from.

    Arguments:
        target: an output folder.
    """
    folder = run_folder(Path(os.path.realpath(target.absolute().parent)) / target.name)
    return any((folder / CHECKPOINTS_NAME).glob("*.npz"))


def keep_on_disk(folder: Path) -> None:
    """Have the disk hold the files of a folder, so that a power cut leaves them whole.

    Arguments:
        folder: what was put in place.

    Raises:
        OSError: it cannot.
    """
    folders = [folder, folder.parent]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
            continue
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for one in folders:
        # Some systems open no folders.
        with contextlib.suppress(OSError):
            opened = os.open(one, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def _move(source: Path, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, goal)


@contextlib.contextmanager
def _as_input_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"output folder {str(target)!r} cannot be written: {error.strerror or error}; give "
            "another with --out"
        ) from None
