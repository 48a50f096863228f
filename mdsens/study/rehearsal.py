"""A rehearsal: what a study will compute is computed from its start, so that its code is there.

Nearly all that a user of small systems waits for is the compiler, and one thread compiles one
program at a time. So another thread does with the structures as they are given what is done with
them once they are relaxed: certificate, derivatives, observables. Its numbers are thrown away; its
programs are those that the run asks for next.
"""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

from mdsens.compilation import rehearsing
from mdsens.errors import without_warnings
from mdsens.kept_programs import knows_task
from mdsens.relaxation.relax import at_start
from mdsens.resources import available_cores
from mdsens.sensitivities.sensitivity import rehearse
from mdsens.study.study import Study

#: Atoms up to which computing takes so little that it may be done twice.
MOST_ATOMS = 600

_threads: list[threading.Thread] = []


@contextlib.contextmanager
def rehearsal(study: Study) -> Iterator[None]:
    """Compile on another thread what a study needs after its relaxations, while the block runs.

    Where there is a core for it, little is computed, and no earlier run has kept its programs. It
    ends with the block, but for a program that is being compiled.

    Arguments:
        study: what is going to be computed.
    """
    worth_it = study.file.sensitivity.mode != "reverse" and not study.potential.made_by_calls
    if available_cores() < 2 or knows_task() or not worth_it:
        yield
        return
    ended = threading.Event()
    # Not waited for by a process that has failed: see `under_way`.
    thread = threading.Thread(target=_rehearse, args=(study, ended), daemon=True)
    _threads.append(thread)
    thread.start()
    try:
        yield
    finally:
        ended.set()
    thread.join()


def under_way() -> bool:
    """Whether a rehearsal may still be compiling, and crash if the interpreter is taken down."""
    return any(thread.is_alive() for thread in _threads)


def _rehearse(study: Study, ended: threading.Event) -> None:
    with (
        rehearsing(ended.is_set), study.of_one_size(),
        without_warnings(), np.errstate(all="ignore"),
    ):  # fmt: skip
        for structure in study.structures.values():
            if ended.is_set() or structure.system.atom_count > MOST_ATOMS:
                continue
            # Whatever is wrong is said where it counts; here it may be so at the start alone.
            with contextlib.suppress(Exception):
                start = at_start(structure.system, structure.potential, **structure.relaxation)
                rehearse(start, structure.observables, study.parameters)
