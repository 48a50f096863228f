"""A report that another process draws, which imports what it needs while the run goes on."""

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from mdsens.resources import available_cores

#: More processes than these have no figures to draw.
MOST_PROCESSES = 4
#: What the process executes, with the same packages as this one.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from mdsens.study.report_process import main; main()"
)


class ReportProcess:
    """A process that waits for the files of a run, to draw their report.

    Arguments:
        process: the process; None where there is none.
    """

    def __init__(self, process: "subprocess.Popen[str] | None") -> None:
        self._process = process

    def make_report(self, folder: Path, meanwhile: Callable[[], object] | None = None) -> bool:
        """Have the report of a run drawn in its folder.

        Arguments:
            folder: where its files are.
            meanwhile: what this process does until it is there; None: it waits.

        Returns:
            Whether it is there, whole; if not, whoever draws it anew will hear why.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return False
        try:
            print(json.dumps(str(folder.absolute())), file=process.stdin, flush=True)
            if meanwhile is not None:
                meanwhile()
            told = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            return False
        for text in told["warnings"]:
            warnings.warn(text, stacklevel=2)
        return bool(told["drawn"])


@contextlib.contextmanager
def report_process(wanted: bool = True) -> Iterator[ReportProcess]:
    """A process for reports, where a core is free for it; it ends with the block, at the latest.

    Arguments:
        wanted: without, there is none in any case.

    Yields:
        What stands for it.
    """
    process = None
    if wanted and available_cores() > 1:
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=sys.path)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
            )  # fmt: skip
    try:
        yield ReportProcess(process)
    finally:
        if process is not None:
            process.kill()
            process.communicate()


def _make_ready_to_draw() -> None:
    """Draw a figure for nobody: fonts and all else are there then, also where this is forked."""
    from mdsens.plots import convergence_figure, write_figures

    with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as folder:
        figure = convergence_figure([0, 1], [1.0, 1e-9], 1e-10)
        write_figures([(Path(folder) / "figure.png", figure)])


def main() -> None:
    """Draw the report of each folder that is named on the standard input, and say so."""
    import signal

    # What it imports lives to its end, and is looked through for garbage in vain.
    gc.disable()
    # Who interrupts the run sends its process the same; it ends with its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing else that is printed is taken for an answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from mdsens.lazy_packages import import_lazily

    import_lazily()
    from mdsens.study.report import make_report

    _make_ready_to_draw()
    for line in sys.stdin:
        folder, drawn = Path(json.loads(line)), True
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("default")
            # The run draws it itself then, and says what is wrong.
            try:
                make_report(folder, folder, min(available_cores(), MOST_PROCESSES))
            except Exception:
                drawn = False
        told = {"drawn": drawn, "warnings": [str(one.message) for one in heard]}
        print(json.dumps(told), file=answers, flush=True)
