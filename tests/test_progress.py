"""Progress bars in notebooks: an output that changes, and needs no widgets."""

import re
import warnings

import IPython.display
import pytest
from rich.progress import TextColumn

from mdsens import progress


@pytest.fixture
def outputs(monkeypatch):
    """What a notebook would show, one after another."""
    shown = []

    class Handle:
        def update(self, output):
            shown.append(re.sub(r"<.*?>", "", output.data))

    def display(output, display_id):
        assert display_id
        Handle().update(output)
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    return shown


def test_a_bar_in_a_notebook_shows_each_step(outputs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with progress.new_bar(TextColumn("step {task.completed}")) as bar:
            task = bar.add_task("", total=3)
            for step in (1, 2, 3):
                bar.update(task, completed=step)
    assert [one.strip() for one in outputs][-4:] == ["step 1", "step 2", "step 3", "step 3"]


def test_a_passing_bar_leaves_nothing_behind(outputs):
    assert list(progress.tracked([1, 2, 3], "solving")) == [1, 2, 3]
    assert any("solving" in one and "67%" in one for one in outputs)
    assert outputs[-1] == ""


def test_a_bar_that_is_not_wanted_shows_nothing(outputs):
    assert list(progress.tracked([1, 2], "solving", disable=True)) == [1, 2]
    with progress.new_bar(TextColumn("step"), disable=True) as bar:
        bar.update(bar.add_task("", total=1), completed=1)
    assert outputs == []


def test_a_terminal_has_the_bars_of_rich():
    assert not progress.in_notebook()
    assert type(progress.new_bar(TextColumn("step"))).__module__ == "rich.progress"
