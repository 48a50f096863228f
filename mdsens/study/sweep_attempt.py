"""Do runs of a sweep: those of a group together, each into its own folder."""

import contextlib
import gc
import time
from collections.abc import Iterator

import jax

from mdsens.compilation import count_calls_anew, forget_programs
from mdsens.errors import InputError, one_line
from mdsens.signals import signal_behind
from mdsens.study.output import WriteError
from mdsens.study.run import Solved, run_study
from mdsens.study.study import Study, study_of
from mdsens.study.study_file import study_text
from mdsens.study.sweep_batch import solved_together
from mdsens.study.sweep_workers import Ended, Task, TaskRun

#: Memory maps of this process, of 65,530 that Linux allows, from which on programs are let go of.
MANY_MAPS = 30_000


def attempt(task: Task) -> Iterator[tuple[int, Ended]]:
    """The runs of a group, and what became of them.

    Arguments:
        task: the group.

    Yields:
        The number of each run that is to be done, and what there is to say of it.
    """
    begun = time.monotonic()
    studies, solved = _known(task)
    share = (time.monotonic() - begun) / len(task.runs)
    for one, study, known in zip(task.runs, studies, solved, strict=True):
        if one.target is not None:
            ended = _attempt(task, one, study, known, share)
            yield one.run, ended
            if ended.fatal:
                return
    _let_go_of_programs()


def _known(task: Task) -> tuple[list[Study | None], list[Solved | None]]:
    """What can be found out of all runs of a group together."""
    nothing = [None] * len(task.runs)
    if len(task.runs) == 1:
        return list(nothing), list(nothing)
    studies: list[Study | None] = []
    for one in task.runs:
        try:
            studies.append(study_of(study_text(task.path, one.table)))
        except (InputError, OSError):
            # Said again when the run itself is done.
            studies.append(None)
    count_calls_anew()
    return studies, solved_together(studies, task.size)


def _attempt(
    task: Task, one: TaskRun, study: Study | None, solved: Solved | None, share: float
) -> Ended:
    """One run of a group, of which something may be known."""
    begun, reason, fatal = time.monotonic(), "", ""
    count_calls_anew()
    try:
        run_study(
            study or study_of(study_text(task.path, one.table)),
            one.target,
            task.allow_unconverged,
            report=task.report,
            about=one.about,
            resume=task.resume,
            solved=solved,
        )
    except (WriteError, OSError) as error:
        # As on a full disk, where all that follows would fail, too.
        fatal = one_line(str(error))
    except Exception as error:
        if signal_behind(error) is not None:
            raise
        reason = _reason(error)
    return Ended(share + time.monotonic() - begun, reason, fatal)


def _reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    told = "pass allow_unconverged=True"
    text = one_line(str(error).replace(told, "set sensitivity.allow_unconverged = true"))
    known = isinstance(error, InputError) or type(error).__module__.startswith("mdsens.")
    return text if known and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _let_go_of_programs() -> None:
    """Forget compiled code where it has filled the memory maps that a process may have."""
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        if sum(1 for _ in maps) > MANY_MAPS:
            forget_programs()
            jax.clear_caches()
            gc.collect()
