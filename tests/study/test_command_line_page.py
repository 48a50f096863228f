"""The page of the command line: each of its examples does what it says."""

import re
import shlex
from pathlib import Path

import pytest

from mdsens import cli

pytestmark = pytest.mark.xdist_group("command line page")
PAGE = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text("utf-8")
STATUS = re.compile(r"\s*# exit status (\d+)$")


def examples():
    """Commands with their exit status and the lines that are shown of what they print."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                status = STATUS.search(line)
                found.append((STATUS.sub("", line[2:]), int(status[1]) if status else 0, []))
            else:
                found[-1][2].append(line)
    return found


def test_every_command_has_an_example():
    names = {one.name or one.callback.__name__ for one in cli.app.registered_commands}
    used = {shlex.split(command)[1] for command, _, _ in examples()}
    assert used == names


def test_every_example_runs(command, tmp_path, monkeypatch):
    monkeypatch.setenv("MDSENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli, "keep_compiled_code", lambda: None)
    structure = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1]
    Path("argon.xyz").write_text(structure)
    for line, expected, shown in examples():
        status, out, errors = command(*shlex.split(line)[1:])
        assert status == expected, (line, errors)
        said = " ".join((out + errors).split())
        for words in shown:
            for part in words.split("..."):
                assert " ".join(part.split()) in said, (line, words)
