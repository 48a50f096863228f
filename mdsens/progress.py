"""Progress bars: of rich in terminals, and in notebooks as an output that changes.

In a notebook rich asks for ipywidgets, warns without them, and shows nothing.
"""

import io
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich import get_console
from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID, track

#: Seconds between two pictures of a bar in a notebook.
EVERY = 0.2
#: Letters in a line of a notebook.
WIDTH = 100


def new_bar(
    *columns: str | ProgressColumn, transient: bool = False, disable: bool = False
) -> Progress:
    """A progress bar for where it is shown.

    Arguments:
        columns: those of rich.
        transient: whether it goes when all is done.
        disable: whether it is not shown at all.

    Returns:
        The bar.
    """
    kind = NotebookProgress if in_notebook() else Progress
    return kind(*columns, transient=transient, disable=disable)


def tracked(things: Sequence[Any], description: str, disable: bool = False) -> Iterable[Any]:
    """Things one after another, with a bar that goes when all are done.

    Arguments:
        things: what to go through.
        description: what stands before the bar.
        disable: whether there is none.

    Yields:
        The things.
    """
    if disable or not in_notebook():
        yield from track(things, description, transient=True, disable=disable)
        return
    with NotebookProgress(transient=True) as bar:
        yield from bar.track(things, description=description)


def in_notebook() -> bool:
    """Whether what is shown goes to a notebook."""
    return get_console().is_jupyter


class NotebookProgress(Progress):
    """A bar of rich as an output of a notebook, which needs no widgets."""

    def __init__(
        self, *columns: str | ProgressColumn, transient: bool = False, disable: bool = False
    ):
        super().__init__(
            *columns, transient=transient, disable=disable, auto_refresh=False,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self.live: Any = _Output(self, transient)

    def update(self, task_id: TaskID, **changed: Any) -> None:
        """Say what has changed."""
        super().update(task_id, **changed)
        self.refresh()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Say how much more is done."""
        super().advance(task_id, advance)
        self.refresh()


class _Output:
    """What `rich.live.Live` is elsewhere: the output, made anew when there is something new.

    Arguments:
        bar: what it shows.
        transient: whether it is emptied at the end.
    """

    auto_refresh = False

    def __init__(self, bar: Progress, transient: bool) -> None:
        self.bar, self.transient = bar, transient
        self.console = Console(
            file=io.StringIO(), force_terminal=True, force_jupyter=False, width=WIDTH, record=True
        )
        self.is_started, self._shown, self._handle = False, 0.0, None

    def start(self, refresh: bool = False) -> None:
        from IPython import display

        if not self.is_started:
            self.is_started = True
            self._handle = display.display(self._html(), display_id=True)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        if self.is_started:
            self.is_started = False
            self._show(self._html(empty=self.transient))

    def refresh(self) -> None:
        if time.monotonic() - self._shown > EVERY:
            self._show(self._html())

    def _show(self, output: Any) -> None:
        self._shown = time.monotonic()
        if self._handle is not None:
            self._handle.update(output)

    def _html(self, empty: bool = False) -> Any:
        from IPython import display

        text = ""
        if not empty:
            self.console.print(self.bar.get_renderable())
            code = "<pre style='line-height: normal; margin: 0'>{code}</pre>"
            text = self.console.export_html(inline_styles=True, code_format=code)
        return display.HTML(text)  # type: ignore[no-untyped-call]
