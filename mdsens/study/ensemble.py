"""Many random starts: derivatives through the steps of a minimiser, beside implicit ones."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError, RelaxationError
from mdsens.particles import System
from mdsens.potentials import Potential
from mdsens.relaxation import METHODS, Equilibrium, Minimiser, relax
from mdsens.sensitivities import UnrolledTangents, sensitivity, unrolled_tangents
from mdsens.sensitivities.unrolled import progress_bar
from mdsens.study.differences import determined, relax_on
from mdsens.study.run_files import ARRIVED as ARRIVED
from mdsens.study.study import Study, StudyStructure
from mdsens.study.verify import position_differences
from mdsens.units import quotient_unit_name, unit_name

#: Steps after which results.json tells how far the unrolled derivative is from the implicit one.
MARKS = (50, 100, 300, 1000, 2000)
#: The unrolled derivative is recorded after every so many steps.
EVERY = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Random starts, the minima they lead to, and d positions / d parameter by three ways.

    All norms are L1 norms. Where a start has not led to a converged, stable minimum, what needs
    one is NaN; so are finite differences where the contacts of the particles change.

    Attributes:
        parameter: name of the parameter.
        minimiser: name of the minimiser.
        seeds: S seeds.
        kinds: ``"minimum"``, ``"saddle"`` or ``"unconverged"`` for each start.
        unrolled: iterates and their derivatives.
        minima: S structures, each relaxed on from where its run ended.
        implicit: shape (S, N, D), implicit derivative at each minimum.
        finite_differences: shape (S, N, D), the same by relaxing again with changed parameters.
        distances: shape (K, S), the unrolled derivative minus the implicit one, relative to this;
            without rattlers and drifts, which the energy does not determine.
    """

    parameter: str
    minimiser: str
    seeds: tuple[int, ...]
    kinds: tuple[str, ...]
    unrolled: UnrolledTangents
    minima: tuple[Equilibrium, ...]
    implicit: Float[np.ndarray, "S N D"]
    finite_differences: Float[np.ndarray, "S N D"]
    distances: Float[np.ndarray, "K S"]

    @property
    def steps(self) -> np.ndarray:
        """Steps at which the unrolled derivative was recorded, shape (K,)."""
        return self.unrolled.steps

    @property
    def rattlers(self) -> np.ndarray:
        """Which particles nothing holds, shape (S, N)."""
        return np.array([np.asarray(minimum.landscape.rattlers) for minimum in self.minima])

    @property
    def rattler_norms(self) -> Float[np.ndarray, "K S"]:
        """Norm of the rows of the rattlers in each unrolled derivative."""
        rows = np.where(self.rattlers[None, :, :, None], self.unrolled.tangents, 0.0)
        return np.abs(rows).sum(axis=(2, 3))

    @property
    def implicit_norms(self) -> Float[np.ndarray, " S"]:
        """Norm of each implicit derivative."""
        return np.abs(self.implicit).sum(axis=(1, 2))

    @property
    def finite_difference_errors(self) -> Float[np.ndarray, " S"]:
        """Implicit derivatives minus finite differences, relative to these."""
        judges = self.finite_differences
        return np.abs(self.implicit - judges).sum(axis=(1, 2)) / np.abs(judges).sum(axis=(1, 2))

    @property
    def marks(self) -> list[int]:
        """The steps that are worth a number: those of MARKS that were taken, and the last."""
        last = int(self.steps[-1])
        return [*(step for step in MARKS if step < last), last]

    def distances_at(self, step: int) -> Float[np.ndarray, " S"]:
        """Distances after a step that was recorded."""
        (index,) = np.flatnonzero(self.steps == step)
        return self.distances[index]


def run_ensemble(
    study: Study,
    minimiser: Minimiser | None = None,
    seeds: Iterable[int] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Differentiate through a minimiser's steps from many random starts, and implicitly.

    Each run is relaxed on with the same minimiser from where it ended, then by Newton's method to
    forces of 1e-12, and the implicit derivative is taken there. Finite differences of relaxed
    positions, with the same contacts at every point, judge it.

    Arguments:
        study: a study with ``ensemble.seeds``.
        minimiser: a minimiser instead of that of the study.
        seeds: seeds instead of those of the study.
        progress: whether to show progress bars.

    Returns:
        The Ensemble.

    Raises:
        InputError: the study asks for no ensemble.
        RelaxationError: energy or forces are not finite.
    """
    if study.ensemble_parameter is None:
        raise InputError("ensemble.seeds = 0: give the number of random starts")
    chosen = study.seeds if seeds is None else tuple(seeds)
    (ensemble,) = run_ensembles([study], minimiser, [chosen], progress)
    return ensemble


def run_ensembles(
    studies: Sequence[Study],
    minimiser: Minimiser | None = None,
    seeds: Sequence[tuple[int, ...]] | None = None,
    progress: bool = False,
) -> list[Ensemble]:
    """The ensembles of several runs, the steps of all starts side by side, see `run_ensemble`.

    Arguments:
        studies: runs that differ in nothing but structures and how far these are relaxed.
        minimiser: a minimiser instead of theirs.
        seeds: those of each instead of its own.
        progress: whether to show progress bars.

    Returns:
        The Ensemble of each.

    Raises:
        InputError: starts with other numbers of atoms, species or boundaries.
        RelaxationError: energy or forces are not finite.
    """
    first = studies[0]
    name, options = first.ensemble_parameter, first.only.relaxation
    assert name is not None
    if minimiser is None:
        minimiser = METHODS[options["method"]](max_step=options["max_step"])
    chosen = [study.seeds for study in studies] if seeds is None else seeds
    starts = [study.starts(of) for study, of in zip(studies, chosen, strict=True)]
    unrolled = unrolled_tangents(
        [start for of in starts for start in of], first.potential, name, minimiser,
        first.file.ensemble.steps, EVERY, skin=options["skin"], progress=progress,
    )  # fmt: skip
    found, begin = [], 0
    bar = progress_bar("their minima:", sum(map(len, starts))) if progress else None
    with bar if bar is not None else contextlib.nullcontext():
        for study, of, seeds_of in zip(studies, starts, chosen, strict=True):
            own = unrolled.of_starts(slice(begin, begin + len(of)))
            begin += len(of)
            found.append(_judged(study, of, seeds_of, own, minimiser, bar))
    return found


def _judged(
    study: Study,
    starts: Sequence[System],
    seeds: tuple[int, ...],
    unrolled: UnrolledTangents,
    minimiser: Minimiser,
    bar: Any,
) -> Ensemble:
    """Unrolled derivatives beside those at the minima that the runs lead to."""
    structure, name = study.only, unrolled.parameter
    options = structure.relaxation | {"method": minimiser}
    minima, implicit, differences, distances = [], [], [], []
    for index, start in enumerate(starts):
        ended = start.with_positions(unrolled.positions[-1, index])
        minimum = _minimum(structure, relax(ended, study.potential, **options))
        derivative, judge = _derivatives(structure, minimum, name)
        off = determined(unrolled.tangents[:, index], minimum) - derivative
        size = np.abs(derivative).sum()
        minima.append(minimum)
        implicit.append(derivative)
        differences.append(judge)
        distances.append(np.abs(off).sum(axis=(1, 2)) / (size or np.nan))
        if bar is not None:
            bar.advance(bar.task_ids[0])
    return Ensemble(
        parameter=name,
        minimiser=type(minimiser).__name__,
        seeds=seeds,
        kinds=tuple(_kind(structure, minimum) for minimum in minima),
        unrolled=unrolled,
        minima=tuple(minima),
        implicit=np.array(implicit),
        finite_differences=np.array(differences),
        distances=np.array(distances).T,
    )


def _minimum(structure: StudyStructure, relaxed: Equilibrium) -> Equilibrium:
    """A minimum relaxed on as far as rounding allows; as it is where that fails."""
    if _kind(structure, relaxed) != "minimum":
        return relaxed
    try:
        return relax_on(structure, relaxed)
    except RelaxationError:
        return relaxed


def _kind(structure: StudyStructure, relaxed: Equilibrium) -> str:
    if not float(relaxed.largest_force) <= structure.relaxation["fmax"]:
        return "unconverged"
    return "minimum" if relaxed.certificate.stable else "saddle"


def _derivatives(
    structure: StudyStructure, minimum: Equilibrium, name: str
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]:
    """Derivatives of the positions, implicit and by finite differences; NaN where there is none."""
    nothing = np.full(minimum.positions.shape, np.nan)
    if _kind(structure, minimum) != "minimum":
        return nothing, nothing
    found = sensitivity(minimum, wrt=name, allow_unconverged=True, error_estimate=False)
    implicit = determined(np.asarray(found.positions[name]), minimum)
    try:
        return implicit, position_differences(structure, minimum, name)
    except RelaxationError:
        return implicit, nothing


def summary(ensemble: Ensemble, potential: Potential, units: str) -> dict[str, Any]:
    """What results.json says about an ensemble.

    Arguments:
        ensemble: from `run_ensemble`.
        potential: of its study.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        A dictionary of plain Python numbers, texts, lists and dictionaries.
    """
    marks = ensemble.marks
    rows = [int(np.flatnonzero(ensemble.steps == mark)[0]) for mark in marks]
    rattlers, errors = ensemble.rattlers.sum(axis=1), ensemble.finite_difference_errors

    def at_marks(values: np.ndarray) -> dict[str, float]:
        return {str(mark): float(values[row]) for mark, row in zip(marks, rows, strict=True)}

    return {
        "parameter": ensemble.parameter,
        "minimiser": ensemble.minimiser,
        "steps": int(ensemble.steps[-1]),
        "marks": marks,
        "units": {
            "norms": quotient_unit_name(
                "length", potential.parameter_dimension(ensemble.parameter), units
            ),
            "largest_force": unit_name("energy/length", units),
        },
        "starts": [
            {
                "seed": seed,
                "kind": kind,
                "converged": kind != "unconverged",
                "largest_force": float(minimum.largest_force),
                "rattlers": int(rattlers[index]),
                "implicit_norm": float(ensemble.implicit_norms[index]),
                "finite_difference_error": float(errors[index]),
                "unrolled_norms": at_marks(ensemble.unrolled.norms[:, index]),
                "rattler_norms": at_marks(ensemble.rattler_norms[:, index]),
                "distances": at_marks(ensemble.distances[:, index]),
            }
            for index, (seed, kind, minimum) in enumerate(
                zip(ensemble.seeds, ensemble.kinds, ensemble.minima, strict=True)
            )
        ],
    }


def curves(ensemble: Ensemble) -> dict[str, np.ndarray]:
    """The arrays of an ensemble that go to a file of their own.

    Arguments:
        ensemble: from `run_ensemble`.

    Returns:
        Arrays by name; K recorded steps come first, then S starts.
    """
    return {
        "seeds": np.array(ensemble.seeds),
        "steps": ensemble.steps,
        "largest_forces": ensemble.unrolled.forces,
        "unrolled_norms": ensemble.unrolled.norms,
        "rattler_norms": ensemble.rattler_norms,
        "distances": ensemble.distances,
        "implicit_norms": ensemble.implicit_norms,
        "rattlers": ensemble.rattlers,
        "positions": np.array([np.asarray(minimum.positions) for minimum in ensemble.minima]),
        "implicit": ensemble.implicit,
        "finite_differences": ensemble.finite_differences,
        "unrolled": ensemble.unrolled.tangents[-1],
    }
