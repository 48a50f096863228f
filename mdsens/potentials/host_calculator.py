"""A calculator of ASE as a function on the host: values, their noise, and derivatives from both.

NumPy and ASE alone: JAX calls this back from compiled code.
"""

import collections
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ase
import ase.calculators.calculator
import numpy as np
from jaxtyping import Bool, Float, Int

from mdsens.errors import CalculatorError, InputError
from mdsens.particles.lattice import completed_cell
from mdsens.values import shown

#: Calculators that are kept with their parameters, evaluations, and derivatives in parameters.
KEPT_CALCULATORS, KEPT_EVALUATIONS, KEPT_DERIVATIVES = 2, 32, 64
#: Spacing of the points that noise is told from, and of those that tell the third derivative,
#: length.
NOISE_SPACING, CURVING_SPACING = 1e-5, 0.01
#: Fourth difference of values at points that far apart, in which none but noise is left.
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
#: Shortest and longest displacement of an atom in a difference, length.
SHORTEST, LONGEST = 1e-7, 0.03
#: The same for a parameter, as parts of its size.
SMALLEST_CHANGE, LARGEST_CHANGE = 1e-4, 0.02
#: A length that strains are compared with displacements by, about that of a bond.
BOND = 3.0


class Evaluation(NamedTuple):
    """What a calculator says of one structure.

    Attributes:
        energy: energy.
        by_positions: dE/dx, shape (N, 3), energy/length.
        by_cell: dE/dh at fixed positions, shape (3, 3), energy/length; NaN where periodic
            directions are strained and the calculator knows no stress.
    """

    energy: float
    by_positions: Float[np.ndarray, "N 3"]
    by_cell: Float[np.ndarray, "3 3"]

    def minus(self, other: "Evaluation", scale: float) -> "Evaluation":
        """The difference with another, times a number."""
        return Evaluation(
            scale * (self.energy - other.energy),
            scale * (self.by_positions - other.by_positions),
            scale * (self.by_cell - other.by_cell),
        )


@dataclasses.dataclass(frozen=True)
class Structure:
    """What a calculator is asked about.

    Attributes:
        numbers: atomic numbers, shape (N,).
        pbc: which directions are periodic, shape (3,).
        positions: shape (N, 3), length.
        cell: lattice vectors as rows, shape (3, 3), length.
    """

    numbers: Int[np.ndarray, " N"]
    pbc: Bool[np.ndarray, " 3"]
    positions: Float[np.ndarray, "N 3"]
    cell: Float[np.ndarray, "3 3"]

    def moved(
        self, displacements: Float[np.ndarray, "N 3"], change_of_cell: Float[np.ndarray, "3 3"]
    ) -> "Structure":
        """The same atoms elsewhere, in another cell."""
        there = self.positions + displacements, self.cell + change_of_cell
        return Structure(self.numbers, self.pbc, *there)

    @property
    def key(self) -> bytes:
        """What no other structure has."""
        parts = self.numbers, self.pbc, self.positions, self.cell
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@dataclasses.dataclass(frozen=True)
class Noise:
    """How exact forces are, and what follows for differences of them.

    Attributes:
        force: root mean square error of a component of a force that repeats itself nowhere,
            energy/length.
        stiffness: typical change of a component of the forces per displacement, energy/length^2.
        step: displacement at which noise and third derivative spoil a difference alike, length.
        change: relative change of a parameter at which they do.
        energy: error of an energy as a part of it, where displacements change no force, as those
            of an atom alone in a cell do not: energies then tell how to change a parameter.
    """

    force: float
    stiffness: float
    step: float
    change: float
    energy: float | None = None


class HostCalculator:
    """Calculators of one family, made for the parameters that are asked for, and counted.

    Arguments:
        make: makes a calculator of ASE from numbers by name.
        names: of the parameters.

    Attributes:
        calls: evaluations of energy and forces so far.
        noise: the noise that was measured last; None: none was.
        largest_noise: the largest noise of a force that was measured, energy/length.
        parameter_error: the largest error of a force's change with a parameter so far, as a part of
            the parameter, over that with a displacement by one unit of length.
    """

    def __init__(self, make: Callable[..., Any], names: tuple[str, ...]) -> None:
        self._make, self._names = make, names
        self.calls, self.largest_noise, self.parameter_error = 0, 0.0, 0.0
        self._changing = threading.RLock()
        self._calculators: collections.OrderedDict[bytes, Any] = collections.OrderedDict()
        self._evaluations: collections.OrderedDict[bytes, Any] = collections.OrderedDict()
        self._derivatives: collections.OrderedDict[bytes, Any] = collections.OrderedDict()
        self._noises: dict[bytes, Noise] = {}

    def calculator(self, values: Float[np.ndarray, " P"]) -> Any:
        """The calculator with these parameters.

        Raises:
            InputError: `make_calculator` fails, or returns no calculator.
        """

        def make() -> Any:
            given = dict(zip(self._names, map(float, values), strict=True))
            try:
                made = self._make(**given)
            except Exception as error:
                raise InputError(
                    f"make_calculator failed for {shown(given)}: {_said(error)}; it is called with "
                    "the parameters by name"
                ) from error
            kind = ase.calculators.calculator.BaseCalculator
            if not isinstance(made, kind) and not hasattr(made, "get_potential_energy"):
                raise InputError(
                    f"make_calculator returned a {type(made).__name__}: return a calculator of ASE"
                )
            return made

        with self._changing:
            return _kept(self._calculators, values.tobytes(), make, KEPT_CALCULATORS)

    def has_stress(self, values: Float[np.ndarray, " P"]) -> bool:
        """Whether the calculator gives a stress."""
        known = getattr(self.calculator(values), "implemented_properties", ("stress",))
        return "stress" in known

    def evaluate(self, values: Float[np.ndarray, " P"], structure: Structure) -> Evaluation:
        """Energy and its derivatives in positions and cell.

        Arguments:
            values: of the parameters.
            structure: the atoms.

        Returns:
            The Evaluation.

        Raises:
            InputError: there is no calculator with these parameters.
            CalculatorError: it fails.
        """
        with self._changing:
            key = values.tobytes() + structure.key
            return _kept(
                self._evaluations, key, lambda: self._called(values, structure), KEPT_EVALUATIONS
            )

    def _called(self, values: np.ndarray, structure: Structure) -> Evaluation:
        calculator = self.calculator(values)
        atoms = ase.Atoms(
            structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc
        )
        atoms.calc = calculator
        periodic, stress = bool(structure.pbc.any()), None
        volume = abs(np.linalg.det(structure.cell))
        self.calls += 1
        try:
            if periodic and volume > 0.0 and self.has_stress(values):
                stress = np.asarray(atoms.get_stress(voigt=False, apply_constraint=False), float)
            forces = np.asarray(atoms.get_forces(apply_constraint=False), float)
            free = "free_energy" in getattr(calculator, "implemented_properties", ())
            energy = float(atoms.get_potential_energy(force_consistent=free))
        except Exception as error:
            raise CalculatorError(
                f"the calculator {type(calculator).__name__} failed on {atoms.symbols}: "
                f"{_said(error)}"
            ) from error
        by_cell = np.zeros((3, 3))
        if periodic and stress is None:
            by_cell[structure.pbc] = np.nan
        elif stress is not None:
            # The virial is dE/d(strain) of atoms and cell together.
            box = completed_cell(structure.cell, tuple(structure.pbc))
            of_cell = stress * volume + structure.positions.T @ forces
            by_cell = np.where(structure.pbc[:, None], np.linalg.solve(box.T, of_cell), 0.0)
        return Evaluation(energy, -forces, by_cell)

    def noise_at(self, values: Float[np.ndarray, " P"], structure: Structure) -> Noise:
        """How exact the forces are, from nine evaluations, once for each number of atoms.

        Of values at equal spacings the fourth differences are noise alone: their mean square over
        70 is its variance (J. J. More, S. M. Wild, SIAM J. Sci. Comput. 33, 1292 (2011), eq. 1.2).

        Arguments:
            values: of the parameters.
            structure: the atoms.

        Returns:
            The Noise.
        """
        key = structure.numbers.tobytes() + structure.pbc.tobytes()
        if key not in self._noises:
            self._noises[key] = self._measured(values, structure)
            self.largest_noise = max(self.largest_noise, self._noises[key].force)
        return self._noises[key]

    def _measured(self, values: np.ndarray, structure: Structure) -> Noise:
        along = np.random.default_rng(0).normal(size=structure.positions.shape)
        along /= max(np.linalg.norm(along, axis=1).max(), 1e-300)
        size, nothing = _size(along), np.zeros((3, 3))

        def evaluated(step: float) -> Evaluation:
            return self.evaluate(values, structure.moved(step * along, nothing))

        def forces(step: float) -> np.ndarray:
            return evaluated(step).by_positions

        around = [evaluated(NOISE_SPACING * place) for place in (-2, -1, 0, 1, 2)]
        near = np.stack([one.by_positions for one in around])
        fourth = np.tensordot(FOURTH, near, 1)
        slopes = [
            (forces(step) - forces(-step)) / (2.0 * step)
            for step in (CURVING_SPACING, 2.0 * CURVING_SPACING)
        ]
        stiffness = max(_size(slopes[0]) / size, 1e-300)
        # No force is more exact than its own digits, and those of the positions.
        digits = np.finfo(float).eps
        least = digits * max(_size(near[2]), stiffness * np.abs(structure.positions).max(initial=1))
        noise = max(_size(fourth) / np.linalg.norm(FOURTH), least)
        third = max(2.0 * _size(slopes[1] - slopes[0]) / CURVING_SPACING**2, 1e-300)
        step = float(np.clip((2.0 * noise / third) ** (1 / 3), SHORTEST, LONGEST))
        uncertain, of_energy = noise / stiffness, None
        if not stiffness * CURVING_SPACING > noise:
            energies = np.array([one.energy for one in around])
            apart = abs(float(FOURTH @ energies)) / np.linalg.norm(FOURTH)
            uncertain = of_energy = max(apart / max(np.abs(energies).max(), 1e-300), digits)
        change = float(np.clip(0.3 * uncertain**0.2, SMALLEST_CHANGE, LARGEST_CHANGE))
        return Noise(noise, stiffness, step, change, of_energy)

    # What JAX calls, with arrays ----------------------------------------------------------------

    def evaluate_arrays(self, values: np.ndarray, *structure: np.ndarray) -> tuple[Any, ...]:
        """The Evaluation of values, positions, cell, atomic numbers and periodic directions."""
        return _arrays(self.evaluate(values, _structure(*structure)))

    def change_along(self, values: np.ndarray, *given: np.ndarray) -> tuple[Any, ...]:
        """Changes of both first derivatives along directions of both."""
        *structure, displacements, change_of_cell = given
        found = self.change(values, _structure(*structure), displacements, change_of_cell)
        return _arrays(found)[1:]

    def change_along_parameters(self, values: np.ndarray, *given: np.ndarray) -> tuple[Any, ...]:
        """Changes of energy and both first derivatives along a direction of the parameters."""
        *parts, along = given
        structure = _structure(*parts)
        sums = [np.zeros(()), np.zeros(structure.positions.shape), np.zeros((3, 3))]
        for index in np.flatnonzero(along):
            found = self.change_in_parameter(values, structure, int(index))
            sums = [one + along[index] * more for one, more in zip(sums, found, strict=True)]
        return tuple(map(np.asarray, sums))

    def pulled_back(self, values: np.ndarray, *given: np.ndarray) -> np.ndarray:
        """The transpose: weights of these times their derivatives in each parameter."""
        *parts, by_energy, by_positions, by_cell = given
        structure, found = _structure(*parts), np.zeros(len(values))
        for index in range(len(values)):
            change = self.change_in_parameter(values, structure, index)
            found[index] = by_energy * change.energy
            found[index] += np.vdot(change.by_positions, by_positions)
            if by_cell.any():
                found[index] += np.vdot(change.by_cell, by_cell)
        return found

    # Differences --------------------------------------------------------------------------------

    def change(
        self,
        values: Float[np.ndarray, " P"],
        structure: Structure,
        displacements: Float[np.ndarray, "N 3"],
        change_of_cell: Float[np.ndarray, "3 3"],
    ) -> Evaluation:
        """How the first derivatives change along a direction, by one central difference.

        Arguments:
            values: of the parameters.
            structure: the atoms.
            displacements: of atoms, shape (N, 3).
            change_of_cell: of the lattice vectors, shape (3, 3).

        Returns:
            Changes per length of that direction.
        """
        # What neighbours move against one another is what counts.
        periodic = structure.pbc[:, None]
        box = completed_cell(structure.cell, tuple(structure.pbc))
        strain = np.linalg.solve(box, np.where(periodic, change_of_cell, 0.0))
        beside = displacements - structure.positions @ strain
        beside = beside - beside.mean(axis=0)
        longest = np.linalg.norm(beside, axis=1).max() + BOND * np.linalg.norm(strain)
        if not longest > 0.0:
            return self.evaluate(values, structure).minus(self.evaluate(values, structure), 0.0)
        step = self.noise_at(values, structure).step / longest
        ahead, behind = (
            self.evaluate(values, structure.moved(way * displacements, way * change_of_cell))
            for way in (step, -step)
        )
        return ahead.minus(behind, 0.5 / step)

    def change_in_parameter(
        self, values: Float[np.ndarray, " P"], structure: Structure, index: int
    ) -> Evaluation:
        """Derivatives of energy and first derivatives in one parameter, by four evaluations.

        Central differences of two steps, extrapolated to none.

        Arguments:
            values: of the parameters.
            structure: the atoms.
            index: which parameter.

        Returns:
            The derivatives.

        Raises:
            InputError: the parameter changes nothing.
        """
        with self._changing:
            key = values.tobytes() + structure.key + bytes([index % 256, index // 256])
            return _kept(
                self._derivatives,
                key,
                lambda: self._extrapolated(values, structure, index),
                KEPT_DERIVATIVES,
            )

    def _extrapolated(self, values: np.ndarray, structure: Structure, index: int) -> Evaluation:
        noise = self.noise_at(values, structure)
        step = noise.change * (abs(values[index]) or 1.0)

        def shifted(by: float) -> Evaluation:
            moved = values.copy()
            moved[index] += by
            return self.evaluate(moved, structure)

        sides = [shifted(way * step) for way in (1.0, -1.0, 2.0, -2.0)]
        if all(
            side.energy == sides[0].energy
            and np.array_equal(side.by_positions, sides[0].by_positions)
            for side in sides[1:]
        ):
            raise InputError(
                f"the parameter {self._names[index]!r} changes nothing: make_calculator gives the "
                f"same energy and forces for {values[index]:g} and {values[index] + step:g}; leave "
                "it out, or hand it on to the calculator"
            )
        near = sides[0].minus(sides[1], 0.5 / step)
        quarter_of_far = sides[2].minus(sides[3], 0.25 * 0.25 / step)
        found = near.minus(quarter_of_far, 4.0 / 3.0)
        error = _error_in_parameter(noise, sides[0].energy, found, near, step)
        self.parameter_error = max(self.parameter_error, error * (abs(values[index]) or 1.0))
        return found


def _error_in_parameter(
    noise: Noise, energy: float, found: Evaluation, near: Evaluation, step: float
) -> float:
    """The error of what was extrapolated, over the change with a displacement, 1/parameter."""
    # The smaller step leaves a part out, and the extrapolation about the same part of that.
    if noise.energy is None:
        left = _size(found.by_positions - near.by_positions)
        curved = min(10.0 * left**2 / max(_size(found.by_positions), 1e-300), left)
        return (noise.force / step + curved) / noise.stiffness
    left = abs(found.energy - near.energy)
    curved = min(10.0 * left**2 / max(abs(found.energy), 1e-300), left)
    return noise.energy / step + curved / max(abs(energy), 1e-300)


_families: dict[tuple[Any, tuple[str, ...]], HostCalculator] = {}


def host_calculator(make: Callable[..., Any], names: tuple[str, ...]) -> HostCalculator:
    """The calculators that one function makes, which remember what they were asked.

    Arguments:
        make: makes a calculator of ASE from numbers by name.
        names: of the parameters.

    Returns:
        The HostCalculator, one for each function and names.
    """
    if (make, names) not in _families:
        _families[make, names] = HostCalculator(make, names)
    return _families[make, names]


def _structure(
    positions: np.ndarray, cell: np.ndarray, numbers: np.ndarray, pbc: np.ndarray
) -> Structure:
    return Structure(numbers, pbc, positions, cell)


def _arrays(found: Evaluation) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part, float) for part in found)


def _kept(
    known: "collections.OrderedDict[bytes, Any]", key: bytes, make: Callable[[], Any], most: int
) -> Any:
    """What is known by a key, or is made now; the oldest is forgotten."""
    if key not in known:
        known[key] = make()
        while len(known) > most:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def _size(array: np.ndarray) -> float:
    """The root mean square of a component."""
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0


def _said(error: BaseException) -> str:
    """What an error says, with its kind."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def checked_parameters(parameters: Any) -> Mapping[str, Any]:
    """Parameters as a mapping from names, or an InputError."""
    if not isinstance(parameters, Mapping) or not parameters:
        raise InputError(
            f"parameters = {shown(parameters)}: give a dict of names and numbers, of one at least"
        )
    wrong = [name for name in parameters if not isinstance(name, str) or not name]
    if wrong:
        raise InputError(f"parameters: the name {shown(wrong[0])} is no text: give a word for each")
    return parameters
