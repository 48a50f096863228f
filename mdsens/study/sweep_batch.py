"""Runs of a sweep that are relaxed and differentiated side by side.

Which runs go together follows from the sweep alone, never from what is done already or from where:
compiled code rounds otherwise in a batch of another size. So a run has the same bits, however often
its sweep was interrupted, and in however many processes it was done.
"""

import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mdsens.batches import relax_batch, sensitivity_batch
from mdsens.errors import MdsensError
from mdsens.potentials import Potential
from mdsens.sensitivities import Sensitivity
from mdsens.sensitivities.variables import kind_of
from mdsens.study.compilation import CompilationClock
from mdsens.study.ensemble import Ensemble, run_ensembles
from mdsens.study.run import Solved
from mdsens.study.study import Study, StudyStructure
from mdsens.study.sweep import Sweep, SweptKey

#: Degrees of freedom of a structure up to which a batch takes less time than one after the other.
MOST_DEGREES = 600
#: Runs below which compiling for a batch takes longer than it saves.
FEWEST = 8
#: Part of a batch that has to be there, so that it is filled up.
FILLED = 0.75
#: Names of keys of a structure or a relaxation that may differ from run to run of a batch.
MAY_DIFFER = ("seed", "file", "amplitude", "fmax")
#: Keys of a potential that say which it is.
KINDS_OF_POTENTIAL = ("type", "file", "calculator", "elements", "species", "units")


def groups_of(sweep: Sweep) -> list[tuple[int, ...]]:
    """Which runs of a sweep are done together, as far as its swept keys tell.

    Arguments:
        sweep: the sweep.

    Returns:
        Numbers of runs; each is in one group, and one that nothing may be beside is alone.
    """
    size, file = sweep.options.batch_size, sweep.text_of(0).file
    # Figures need the course of each relaxation, which a batch does not keep.
    if size == 1 or sweep.options.reports or not _has_plain_results(file):
        return [(run,) for run in range(sweep.count)]
    # Steps are only differentiated side by side in one potential.
    apart = [
        key for key in sweep.keys
        if not _may_differ(key) or (file.ensemble.seeds and key.parts[0] == "potential")
    ]  # fmt: skip
    alike: dict[str, list[int]] = {}
    for run in range(sweep.count):
        settings = sweep.settings(run)
        alike.setdefault(repr([settings[key.key] for key in apart]), []).append(run)
    groups = []
    for runs in alike.values():
        if len(runs) < min(size, FEWEST):
            groups += [(run,) for run in runs]
        else:
            parts = np.array_split(runs, -(-len(runs) // size))
            groups += [tuple(part.tolist()) for part in parts]
    return sorted(groups)


def size_of_batches(groups: Sequence[Sequence[int]]) -> int:
    """How many runs are computed side by side in the batches of a sweep, which are of one size.

    Code is compiled for a size: one run more that nobody reads takes less than compiling again.

    Arguments:
        groups: from `groups_of`.

    Returns:
        The number of runs of the largest.
    """
    return max(map(len, groups))


def _has_plain_results(file: Any) -> bool:
    """Whether a run is a relaxation and its derivatives in forward mode, with one random start."""
    more = file.energy_volume.points or file.phonon_bands.points
    return not more and file.ensemble.seeds <= 1 and file.sensitivity.mode in ("auto", "forward")


def _may_differ(key: SweptKey) -> bool:
    if key.parts[0] == "potential":
        return not any(part in KINDS_OF_POTENTIAL for part in key.parts)
    return key.parts[0] in ("structure", "structures", "relaxation") and key.parts[-1] in MAY_DIFFER


def solved_together(studies: Sequence[Study | None], size: int = 0) -> list[Solved | None]:
    """The structures of several runs, relaxed and differentiated side by side.

    Arguments:
        studies: of the runs of a group; None for one that has a mistake.
        size: from `size_of_batches`: the last run is there again where a few are missing.

    Returns:
        What is known of each; None where a run has to be done by itself: what a batch cannot do,
        and what did not come to a converged, stable minimum.
    """
    found: list[Solved | None] = [None] * len(studies)
    traced: set[Hashable] = set()
    able = [(run, study) for run, study in enumerate(studies) if study and _is_able(study, traced)]
    if len(able) < 2:
        return found
    runs, those = [run for run, _ in able], [study for _, study in able]
    try:
        solved = _solved(those, size if len(those) >= FILLED * size else len(those))
    except MdsensError:
        # Each run says by itself what is wrong with it.
        return found
    for run, of in zip(runs, solved, strict=True):
        found[run] = of
    return found


def _is_able(study: Study, traced: set[Hashable]) -> bool:
    """Whether a study can be run beside others; ``traced`` as for its check."""
    if any(kind_of(name, study.potential) for name in study.parameters):
        return False
    if study.potential.of_structure or not all(map(_can_relax, study.structures.values())):
        return False
    try:
        study.check(traced)
    except MdsensError:
        return False
    return True


def _can_relax(structure: StudyStructure) -> bool:
    try:
        system = structure.system
    except (MdsensError, OSError):
        return False
    given = structure.relaxation
    return (
        system.positions.size <= MOST_DEGREES
        and system.constraints is None
        and given["method"] != "preconditioned-lbfgs"
        and given["stress"] is None
        and given["smax"] is None
        and all(observable.traceable for observable in structure.observables)
    )


def _solved(studies: list[Study], size: int) -> list[Solved | None]:
    structures: list[dict[str, Sensitivity]] = [{} for _ in studies]
    steps: list[dict[str, int]] = [{} for _ in studies]
    spent = {"relax_s": 0.0, "sensitivity_s": 0.0}
    potentials = _potentials(studies)
    last = len(studies) - 1
    left = [min(place, last) for place in range(size)]
    with CompilationClock() as compilation:
        for name in studies[0].structures:
            those = [studies[run].structures[name] for run in left]
            begun = time.perf_counter()
            given = those[0].relaxation
            batch = relax_batch(
                [of.system for of in those],
                [potentials[run] for run in left],
                **given | {"fmax": [of.relaxation["fmax"] for of in those]},
            )
            relaxed = time.perf_counter()
            good = np.flatnonzero(batch.converged)
            spent["relax_s"] += relaxed - begun
            taken = [int(batch.steps[place]) for place in good]
            left = [left[place] for place in good]
            if not left:
                break
            found = sensitivity_batch(
                batch[good],
                those[0].observables,
                studies[0].parameters,
                allow_unconverged=True,
                error_estimate=studies[0].file.sensitivity.error_estimate,
            )
            stable = np.flatnonzero(found.stable)
            for place in stable:
                run = left[place]
                structures[run][name] = found.at(int(place))
                steps[run][name] = taken[place]
            left = [left[place] for place in stable]
            spent["sensitivity_s"] += time.perf_counter() - relaxed
            if not left:
                break
        begun = time.perf_counter()
        ensembles = _ensembles(studies, left)
        if ensembles:
            spent["ensemble_s"] = time.perf_counter() - begun
    # Each has its share of what all took together.
    spent["compile_s"] = compilation.seconds
    timing = {key: seconds / len(studies) for key, seconds in spent.items()}
    return [
        Solved(structures[run], steps[run], timing, ensembles.get(run)) if run in left else None
        for run in range(len(studies))
    ]


def _ensembles(studies: list[Study], runs: list[int]) -> dict[int, Ensemble]:
    """The random starts of runs, differentiated side by side; none where that cannot be."""
    those = [studies[run] for run in runs]
    if not those or not those[0].seeds:
        return {}
    try:
        return dict(zip(runs, run_ensembles(those), strict=True))
    except MdsensError:
        # Each run says by itself what is wrong with it.
        return {}


def _potentials(studies: list[Study]) -> list[Potential]:
    """The potential of each; those that are the same as the first one's are that one."""
    first = studies[0]
    return [
        first.potential if study.table["potential"] == first.table["potential"] else study.potential
        for study in studies
    ]
