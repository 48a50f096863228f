"""Finite differences of relaxed structures along one parameter, and what they can resolve."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.errors import RelaxationError
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.mechanics.pairs import Pairs
from mdsens.observables import Observable
from mdsens.relaxation import Equilibrium
from mdsens.relaxation.relax import relax_further
from mdsens.sensitivities.variables import Variables
from mdsens.study.formulas import Expansion, Formula
from mdsens.study.study import POSITIONS, StudyStructure
from mdsens.units import unit_name

#: Largest force that structures are relaxed to for finite differences, energy/length.
TIGHT_FMAX = 1e-12
#: How far two displacements that should be opposite, or double, may be off.
LINEARITY = 0.2
#: Shortest and longest step as a part of the parameter that is chosen where nothing is known to be
#: in the way, and the shortest that serves derivatives which vanish, too.
SHORTEST, LONGEST, SERVING_ZEROS = 1e-8, 1e-3, 1e-5
#: Pairs are looked for this much farther away than the potential reaches, as a part of its range.
MARGIN = 0.02


@dataclasses.dataclass(frozen=True)
class Difference:
    """A derivative by finite differences.

    Attributes:
        value: the derivative, extrapolated from two steps.
        truncation: how much two steps disagree, of the same shape.
        noise: what rounding and residual forces make of it, of the same shape.
    """

    value: np.ndarray | np.float64
    truncation: np.ndarray | np.float64
    noise: np.ndarray | np.float64


class Differences:
    """Structures relaxed at a few values of one parameter, and differences between them.

    Each parameter is changed by +h, -h, +h/2, -h/2, the structure relaxed anew from there, and the
    central differences D(h) are extrapolated, (4 D(h/2) - D(h)) / 3, to an error of order h^4 (L.
    F. Richardson, Phil. Trans. R. Soc. A 210, 307 (1911)). What is known of that error: the change
    from D(h/2), and how far the even part E(h) = O(h) + O(-h) - 2 O(0) is from being a square, by
    |E(h) - 4 E(h/2)| / 2h; the latter is half the jump of a derivative that jumps in between.

    Arguments:
        study: how to relax.
        base: the structure at the parameter's own value.
        name: the parameter.
        observables: what to differentiate beside the positions.
        tangents: derivatives of positions and cell in the parameter, which say how long a step may
            be before a pair crosses a kink of the energy.
        uncertainty: error of a relaxed coordinate, shape (N, D), length.
    """

    def __init__(
        self,
        study: StudyStructure,
        base: Equilibrium,
        name: str,
        observables: Iterable[Observable],
        tangents: tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "D D"]],
        uncertainty: Float[np.ndarray, "N D"],
    ) -> None:
        self.study, self.base, self.name = study, base, name
        self.observables: dict[str, Callable[..., Any]] = {o.name: o for o in observables}
        self.observables[POSITIONS] = lambda point: moves(point, base)
        self.tangents, self.uncertainty = tangents, uncertainty
        self.variables = Variables.of(base.landscape, [name])
        self.scale = abs(self.variables.values([name])[name]) or 1.0
        self.points: dict[float, Equilibrium] = {0.0: base}
        # Pairs with rattlers carry no load.
        self.pairs = Pairs(base.system, base.potential, MARGIN, np.asarray(base.landscape.rattlers))
        self.largest_force = 0.0

    @property
    def _noise(self) -> float:
        """Error of the positions as a part of what they do when the parameter doubles."""
        moved = self.scale * np.abs(self.tangents[0]).max(initial=0.0)
        off = np.abs(self.uncertainty).max(initial=0.0)
        return float(off / max(moved, off, 1e-300))

    @property
    def shortest(self) -> float:
        """The shortest step at which what moves most still stands out from the noise."""
        least = 10.0 * self._noise / self.study.file.verify.tolerance
        return self.scale * float(np.clip(least, SHORTEST, SERVING_ZEROS))

    def first_step(self) -> float:
        """The step to begin with.

        With noise e relative to the change, the error of two extrapolated steps of relative size x
        is about e/x + x^4, and that of one about e/x + x^2: in between, x = e^(1/4) serves both
        the value and the estimate of its error. It is shortened to half of that at which the first
        pair crosses a kink, as far as derivatives that vanish can still be told from noise.
        """
        if self.study.file.verify.step is not None:
            return self.study.file.verify.step * self.scale
        step = self.scale * float(np.clip(self._noise**0.25, SERVING_ZEROS, LONGEST))
        return min(step, max(0.5 * self._first_crossing(step), SERVING_ZEROS * self.scale))

    def _first_crossing(self, step: float) -> float:
        """About how far the parameter may change until a pair crosses a kink of the energy."""
        base = self.base
        positions, cell = np.asarray(base.positions), np.asarray(base.cell)
        here = self._beyond(base)
        moved, strained = (np.asarray(tangent) * step for tangent in self.tangents)
        there = self.pairs.beyond(positions + moved, cell + strained, self._changed(step).potential)
        change = np.abs(there - here)
        # What moves by rounding crosses nothing.
        moving = change > 1e-12 * float(base.potential.interaction_range)
        return step * float((np.abs(here)[moving] / change[moving]).min(initial=np.inf))

    def _beyond(self, point: Equilibrium) -> Float[np.ndarray, "M P"]:
        """How far each pair of a relaxed structure is beyond each kink, length."""
        positions, cell = np.asarray(point.positions), np.asarray(point.cell)
        return self.pairs.beyond(positions, cell, point.potential)

    def _changed(self, change: float) -> Equilibrium:
        """The base under other conditions or in another potential, before it relaxes."""
        # Not by with_parameters: one step out of a parameter's domain, as below q = 0 of
        # Stillinger-Weber, the energy goes on smoothly.
        return self.variables.changed(self.name, change).at(self.base, self.base.q)

    def at(self, change: float) -> Equilibrium:
        """The structure with the parameter changed.

        Raises:
            RelaxationError: it does not relax.
        """
        if change not in self.points:
            self.points[change] = relax_on(self.study, self._changed(change))
            self.largest_force = max(self.largest_force, float(self.points[change].largest_force))
        return self.points[change]

    def trouble(self, step: float) -> str:
        """Why the points at this step do not all belong to the same minimum; empty if they do."""
        try:
            points = {change: self.at(change) for change in (step, -step, step / 2, -step / 2)}
        except RelaxationError as error:
            return str(error)
        found = {change: moves(point, self.base) for change, point in points.items()}
        up, down, half = found[step], found[-step], found[step / 2]
        size = max(np.linalg.norm(up), np.linalg.norm(down))
        # Displacements that are rounding have no direction.
        nothing = 1e-9 * float(self.base.potential.interaction_range) * np.sqrt(up.size)
        for off in (up + down, up - 2.0 * half):
            if np.linalg.norm(off) > LINEARITY * size + nothing:
                return "another minimum is reached"
        return ""

    def crossing(self, step: float) -> str:
        """Which pair crosses a kink of the energy between the points; empty if none does."""
        here = self._beyond(self.base)
        crossed = np.zeros(here.shape, bool)
        for change in (step, -step, step / 2, -step / 2):
            crossed |= (self._beyond(self.at(change)) > 0) != (here > 0)
        if not crossed.any():
            return ""
        kink, pair = np.unravel_index(
            np.argmin(np.where(crossed, np.abs(here), np.inf)), here.shape
        )
        length = self.pairs.lengths(np.asarray(self.base.positions), np.asarray(self.base.cell))
        apart, unit = length[pair], unit_name("length", self.study.file.units)
        others = int(crossed.sum()) - 1
        likewise = "others do" if others > 1 else "other does"
        more = f" (and {others} {likewise} likewise)" if others else ""
        return (
            f"atoms {self.pairs.first[pair]} and {self.pairs.second[pair]}, {apart:.8g} {unit} "
            f"apart, cross {apart - here[kink, pair]:.8g} {unit}, where the energy is not "
            f"smooth{more}"
        )

    def of(self, observable: str, step: float, error: np.ndarray | float) -> Difference:
        """The derivative of an observable, or of the positions.

        Arguments:
            observable: its name.
            step: h.
            error: absolute error of its value at the base.

        Returns:
            The Difference.
        """
        function = self.observables[observable]

        def value(change: float) -> np.ndarray | np.float64:
            return np.asarray(function(self.at(change)), float)

        return extrapolated(value, step, self.worse * np.asarray(error))

    @property
    def worse(self) -> float:
        """How much less well known structures are that came down less far than the base."""
        return max(1.0, self.largest_force / max(float(self.base.largest_force), 1e-300))


def extrapolated(
    value: Callable[[float], np.ndarray | np.float64], step: float, error: np.ndarray | float
) -> Difference:
    """A derivative from values at a few changes of a parameter, see `Differences`.

    Arguments:
        value: gives the value at a change.
        step: h.
        error: absolute error of each value.

    Returns:
        The Difference.
    """
    values = {change: value(change) for change in (0.0, step, -step, step / 2, -step / 2)}

    def central(h: float) -> np.ndarray | np.float64:
        return (values[h] - values[-h]) / (2.0 * h)

    def even(h: float) -> np.ndarray | np.float64:
        return values[h] + values[-h] - 2.0 * values[0.0]

    wide, narrow = central(step), central(step / 2)
    uneven = np.abs(even(step) - 4.0 * even(step / 2)) / (2.0 * step)
    return Difference(
        (4.0 * narrow - wide) / 3.0,
        np.abs(narrow - wide) / 3.0 + uneven,
        2.0 * np.asarray(error) / step + np.zeros(wide.shape),
    )


class FormulaDifferences:
    """Differences of formulas between structures that are relaxed with one parameter changed.

    Arguments:
        formulas: what to differentiate.
        structures: differences of each structure, by its name, along the same parameter.
        errors: absolute errors of the parts of formulas at the base, by their names.
        begin: the step to begin with: the shortest that one of the structures needed.
    """

    def __init__(
        self,
        formulas: Iterable[Formula],
        structures: Mapping[str, Differences],
        errors: Mapping[str, float],
        begin: float,
    ) -> None:
        self.formulas = {formula.name: formula for formula in formulas}
        self.structures, self.errors, self.begin = structures, errors, begin
        self.atoms = {name: of.base.system.atom_count for name, of in structures.items()}

    @property
    def name(self) -> str:
        """Name of the parameter."""
        return next(iter(self.structures.values())).name

    @property
    def shortest(self) -> float:
        """The shortest step at which what moves most still stands out in each structure."""
        return max(of.shortest for of in self.structures.values())

    @property
    def largest_force(self) -> float:
        """The largest force left over in any structure."""
        return max(of.largest_force for of in self.structures.values())

    def first_step(self) -> float:
        """The step to begin with."""
        return self.begin

    def trouble(self, step: float) -> str:
        """Why points at this step do not belong to the same minima; empty if they do."""
        return self._first(lambda of: of.trouble(step))

    def crossing(self, step: float) -> str:
        """Which pair crosses a kink of the energy between the points; empty if none does."""
        return self._first(lambda of: of.crossing(step))

    def _first(self, ask: Callable[[Differences], str]) -> str:
        for name, of in self.structures.items():
            if said := ask(of):
                return f"{name}: {said}" if name else said
        return ""

    def of(self, formula: str, step: float, error: np.ndarray | float) -> Difference:
        """The derivative of a formula, as in `Differences.of`.

        Arguments:
            formula: its name.
            step: h.
            error: absolute error of its value at the base.

        Returns:
            The Difference.
        """
        given = self.formulas[formula]

        def expansion(change: float) -> Expansion:
            values = {
                part.name: float(part.observable(self.structures[part.structure].at(change)))
                for part in given.parts
            }
            return given.expand(values, self.atoms)

        # What is known less well in one structure is not so in the others.
        more = [
            abs(slope) * (self.structures[part.structure].worse - 1.0) * self.errors[part.name]
            for slope, part in zip(expansion(0.0).slopes, given.parts, strict=True)
        ]
        return extrapolated(
            lambda change: np.float64(expansion(change).value), step, np.asarray(error) + sum(more)
        )


def relax_on(study: StudyStructure, moved: Equilibrium) -> Equilibrium:
    """Relax a structure again under conditions that changed, as far down as rounding allows.

    Arguments:
        study: what may move, and how far down at least.
        moved: where to begin, in its potential and under its load.

    Returns:
        The Equilibrium, by Newton's method, which stays in its valley.

    Raises:
        RelaxationError: the forces do not come down to what the study asks for.
    """
    options = {name: study.relaxation[name] for name in ("max_steps", "max_step", "skin")}
    found = relax_further(moved, moved.potential, "newton", TIGHT_FMAX, **options)
    if not float(found.largest_force) <= max(study.relaxation["fmax"], TIGHT_FMAX):
        raise RelaxationError(
            "a structure with a parameter changed a little does not relax below a largest force "
            f"of {float(found.largest_force):.1e}: give a smaller verify.step or a larger "
            "relaxation.fmax"
        )
    return found


def moves(point: Equilibrium, base: Equilibrium) -> Float[np.ndarray, "N D"]:
    """Displacements of the atoms between two structures, without what moves nothing."""
    return determined(np.asarray(point.positions - base.positions), base)


def determined(displacements: np.ndarray, base: Equilibrium) -> np.ndarray:
    """The part of displacements that the energy determines: no rattlers, no drift, no turning.

    Arguments:
        displacements: shape (..., N, D).
        base: where they begin.

    Returns:
        The same shape, with zeros for rattlers and without null modes.
    """
    count = base.system.atom_count
    rattlers = np.asarray(base.landscape.rattlers)
    displacements = np.where(rattlers[:, None], 0.0, displacements)
    floppy = base.certificate.floppy_vectors
    vectors = np.asarray(base.landscape.null_vectors(base.q))
    size = count * displacements.shape[-1]
    rows = np.concatenate([vectors, floppy])[:, :count].reshape(-1, size)
    basis = orthonormal_rows(rows)
    flat = displacements.reshape(-1, size)
    return (flat - (flat @ basis.T) @ basis).reshape(displacements.shape)
