"""The quasi-harmonic approximation: the volume at which the free energy of a crystal is least.

G(s) = E(s) + p V(s) + F_vib(s, T) with s = ln(V / V_0) of a reference cell that is strained by the
same amount in all directions, and ions that are at rest at each volume, in the energy alone (the
zero static internal stress approximation of N. L. Allan, T. H. K. Barron, J. A. O. Bruno, J. Chem.
Phys. 105, 8300 (1996)). The slope of E + p V is that of the virial, exactly; F_vib is computed at
Chebyshev's points around the minimum, between which a polynomial is as good as it is: its error
falls geometrically with the number of points.

Ions take one Newton step with a matrix that is kept, and modes are kept too: values are stationary
in both, and their first derivatives need none of theirs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.mechanics.dynamical_matrix import hessians_of_waves, require_known_waves
from mdsens.mechanics.energy import energy_forces_virial
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.gruneisen import compliance_of
from mdsens.mechanics.relaxing_cell import RelaxingCell
from mdsens.mechanics.shared_energy import mechanics_at
from mdsens.mechanics.vibrations import Modes, modes_of_hessians, squares_of_modes
from mdsens.modules import Module
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Points in the volume, and half the width in s that they lie in: measured for argon at 40 K, it
#: gives ten digits of the thermal expansion. Less, down to the second number, where the free energy
#: is not smooth within that.
POINTS, HALF_WIDTH, LEAST_WIDTH = 7, 0.008, 0.001
#: A minimum this near to the middle, as a part of that, is near enough.
NEAR = 0.25
#: The last powers of polynomials that are good enough, as parts of the second: of smooth functions
#: they are below a millionth.
ROUGH = 1e-4
#: The longest step in s, and the largest |s|: volumes from 0.67 to 1.5 of the reference.
LONGEST, LARGEST = 0.04, 0.4
#: Volumes to try, and steps of Newton's method for the ions at each.
MOST_VOLUMES, MOST_STEPS = 40, 20
#: The last of these steps, and the longest, as parts of the potential's range.
AT_REST, FAR = 1e-10, 0.2
#: How much further than the range edges reach, so that they serve where the cell is compressed.
SPARE = 0.04

#: Chebyshev's points in [-1, 1], and the powers of a polynomial through values at them.
PLACES = np.cos(np.pi * np.arange(POINTS) / (POINTS - 1))
POWERS = np.linalg.inv(np.vander(PLACES, increasing=True))


class Crystal(NamedTuple):
    """What is strained and vibrates.

    Attributes:
        system: N atoms in the reference cell.
        potential: the potential.
        relaxing_cell: what bears the load; None: there is none.
        deformation: of the reference cell of the load, shape (D, D).
    """

    system: System
    potential: Potential
    relaxing_cell: RelaxingCell | None
    deformation: Float[Array, "D D"]

    @staticmethod
    def of(landscape: Landscape, q: Float[Array, "R D"]) -> "Crystal":
        """That of a landscape, in the cell it has at some degrees of freedom."""
        deformation = on_device(landscape.deformation(q))
        system, potential = landscape.system_at(q), landscape.potential
        return Crystal(system, potential, landscape.relaxing_cell, deformation)

    def at(self, s: Any, displacements: Any) -> System:
        """The system at another volume.

        Arguments:
            s: the logarithm of the volume over the reference.
            displacements: of the atoms beyond the strain, shape (N, D), length.

        Returns:
            The System.
        """
        given = in_numpy((s, displacements, self.system.positions, self.system.cell))
        s, displacements, positions, cell = given
        scale = array_module(given).exp(s / self.system.dimension)
        moved = on_device(positions * scale + displacements), on_device(cell * scale)
        return eqx.tree_at(lambda system: (system.positions, system.cell), self.system, moved)

    def slope(self, s: Any, virial: Float[Any, "D D"]) -> Float[Any, ""]:
        """The slope of the enthalpy in s, energy.

        Arguments:
            s: where.
            virial: of the system there, shape (D, D), energy.

        Returns:
            dH/ds, at positions that follow the strain.
        """
        given = in_numpy((s, virial, self.deformation, self.system.volume))
        s, work, deformation, volume = given
        if self.relaxing_cell is not None:
            xp = array_module(given)
            deformation = deformation * xp.exp(s / self.system.dimension)
            work = work + self.relaxing_cell.load(deformation, volume * xp.exp(s))[1]
        return work.trace() / self.system.dimension


class Vibrations(NamedTuple):
    """What vibrates, and how heavy it is.

    Attributes:
        vectors: shape (Q, D), in the basis of the reciprocal lattice; the first is zero.
        inverse_roots: shape (N,), one over the root of each atom's mass, 0 for one that is fixed.
    """

    vectors: Float[Any, "Q D"]
    inverse_roots: Float[Array, " N"]


class FreeEnergyAroundMinimum(Module):
    """Volumes around that of the least free energy, with what is kept of each.

    Attributes:
        centre: the s in the middle.
        width: from there to the last point.
        minimum: the s of the least free energy.
        curvature: the second slope of the free energy in s there, energy.
        displacements: shape (P, N, D), of the atoms beyond the strain at each point, length.
        compliances: shape (P, N D, N D), displacements by forces, length^2/energy.
        modes: the modes at each point; each array has P of what it has of one.
        edge_list: edges that serve at all of them.
    """

    centre: Float[Array, ""]
    width: Float[Array, ""]
    minimum: Float[Array, ""]
    curvature: Float[Array, ""]
    displacements: Float[Array, "P N D"]
    compliances: Float[Array, "P ND ND"]
    modes: Modes
    edge_list: EdgeList


class _UnstableError(Exception):
    """There are imaginary frequencies at a volume, or ions leave their places."""


class _Volumes(NamedTuple):
    """Points around a volume: displacements, compliances, modes, slopes of the enthalpy."""

    displacements: np.ndarray
    compliances: np.ndarray
    modes: Modes
    slopes: np.ndarray


class Polynomials(NamedTuple):
    """Powers of t = (s - centre) / width of what is known at the points.

    Attributes:
        width: from the centre to the last point.
        slopes: of the slope of the enthalpy in s, energy.
        free_energies: of the free energy of vibrations, energy.
        entropies: of their entropy.
    """

    width: Float[Any, ""]
    slopes: Float[Any, " P"]
    free_energies: Float[Any, " P"]
    entropies: Float[Any, " P"] | None = None

    @property
    def rough(self) -> bool:
        """Whether the last powers have no business to be there; on the host."""
        change = np.abs(self.slopes[1]) + 2.0 * np.abs(self.free_energies[2]) / self.width
        last = self.slopes[-1], POINTS * self.free_energies[-1] / self.width
        return bool(np.abs(last).max() > ROUGH * change)

    def slope(self, t: Any) -> Float[Any, ""]:
        """The slope of the free energy in s at some t, energy."""
        return _polynomial(self.slopes, t) + _polynomial(self.free_energies, t, 1) / self.width

    def curvature(self, t: Any) -> Float[Any, ""]:
        """Its second slope."""
        of_free_energy = _polynomial(self.free_energies, t, 2) / self.width
        return (_polynomial(self.slopes, t, 1) + of_free_energy) / self.width

    def entropy_slope(self, t: Any) -> Float[Any, ""]:
        """The slope of the entropy in s."""
        return _polynomial(self.entropies, t, 1) / self.width


def _polynomial(powers: Any, t: Any, slopes: int = 0) -> Any:
    """A polynomial in t by its coefficients in ascending order, or one of its slopes."""
    factors = [math.perm(power, slopes) for power in range(slopes, len(powers))]
    found = 0.0
    for factor, power in zip(reversed(factors), powers[slopes:][::-1], strict=True):
        found = found * t + factor * power
    return found


def least_free_energy(
    crystal: Crystal,
    vibrations: Vibrations,
    free_energies: Callable[[Modes], Float[np.ndarray, " P"]],
    null_vectors: Float[Any, "M N D"],
    constrained: Any,
    start: float = 0.0,
    name: str = "quasi-harmonic approximation",
) -> FreeEnergyAroundMinimum:
    """Look for the volume of the least free energy; on the host.

    Arguments:
        crystal: the crystal.
        vibrations: its vibrations.
        free_energies: of vibrations, from their modes at all points, shape (P,), energy.
        null_vectors: shape (M, N, D), displacements that cost no energy by symmetry.
        constrained: shape (N,), atoms that follow the strain, and no force.
        start: the s to begin at.
        name: of what is looked for, for messages.

    Returns:
        The FreeEnergyAroundMinimum.

    Raises:
        InputError: the crystal is not stable, or there is no minimum.
    """
    search = _Search(crystal, vibrations, null_vectors, constrained)
    # Where the free energy falls and where it rises; Newton's steps stay between.
    low, high, last = -math.inf, math.inf, None
    s, width = start, HALF_WIDTH
    for _ in range(MOST_VOLUMES):
        try:
            points = search.points(s, width)
        except _UnstableError as error:
            volume = search.volume_text(s)
            if last is None:
                raise InputError(
                    f"{name}: at the volume of {volume}, where it begins, {error}: relax the "
                    "structure, or take one that is stable"
                ) from None
            if abs(s - last) < HALF_WIDTH:
                raise InputError(
                    f"{name}: the free energy has no minimum up to the volume of {volume}, where "
                    f"{error}: ask for a lower temperature"
                ) from None
            s = (s + last) / 2
            continue
        found = Polynomials(width, POWERS @ points.slopes, POWERS @ free_energies(points.modes))
        slope, curvature = float(found.slope(0.0)), float(found.curvature(0.0))
        step = -slope / curvature if curvature > 0.0 else -math.copysign(LONGEST, slope)
        if found.rough:
            if width > LEAST_WIDTH:
                width = width / 2
                continue
            # By differences between its ends.
            slope = float(points.slopes.mean() + found.free_energies[1::2].sum() / width)
            step = -math.copysign(HALF_WIDTH, slope)
        elif abs(step) <= NEAR * width:
            t = step / width
            for _ in range(4):
                t -= float(found.slope(t) / found.curvature(t)) / width
            return FreeEnergyAroundMinimum(
                on_device(s),
                on_device(width),
                on_device(s + t * width),
                on_device(found.curvature(t)),
                on_device(points.displacements),
                on_device(points.compliances),
                jax.tree.map(on_device, points.modes),
                search.edge_list,
            )
        low, high = (s, high) if slope < 0.0 else (low, s)
        last, width, s = s, HALF_WIDTH, s + float(np.clip(step, -LONGEST, LONGEST))
        if not low < s < high:
            s = (low + high) / 2
        if high - low < LEAST_WIDTH:
            raise InputError(
                f"{name}: the free energy is not smooth around its minimum, at the volume of "
                f"{search.volume_text(s)}: a shell of neighbours crosses the end of the potential "
                "or of its switch there; choose cutoff and onset between two shells"
            )
        if abs(s) > LARGEST:
            break
    raise InputError(
        f"{name}: the free energy has no minimum up to the volume of {search.volume_text(s)}: ask "
        "for a lower temperature, or relax the cell"
    )


class _Search:
    """Points in the volume of a crystal, with the ions at rest at each.

    Arguments:
        crystal: the crystal.
        vibrations: its vibrations.
        null_vectors: shape (M, N, D), displacements that cost no energy by symmetry.
        constrained: shape (N,), atoms that follow the strain, and no force.
    """

    def __init__(
        self, crystal: Crystal, vibrations: Vibrations, null_vectors: Any, constrained: Any
    ) -> None:
        self.crystal, self.vibrations = crystal, vibrations
        self.null_vectors, self.constrained = np.asarray(null_vectors), np.asarray(constrained)
        self.reach = float(crystal.potential.interaction_range)
        self.edge_list = self._edges(SPARE * self.reach)

    def volume_text(self, s: float) -> str:
        """A volume with its unit."""
        unit = "Ang^3" if self.crystal.system.dimension == 3 else "Ang^2"
        return f"{float(self.crystal.system.volume) * math.exp(s):.5g} {unit}"

    def points(self, centre: float, width: float) -> _Volumes:
        """What is at all points around one volume."""
        lowest = math.exp((centre - width) / self.crystal.system.dimension)
        if float(self.edge_list.reach) * lowest < (1.0 + SPARE / 4) * self.reach:
            capacity = self.edge_list.capacity
            self.edge_list = self._edges(self.reach * ((1.0 + SPARE) / lowest - 1.0), capacity)
        displacements = np.zeros(self.crystal.system.positions.shape)
        found: list[tuple[Any, ...]] = []
        for place in PLACES:
            found.append(self._at_rest(centre + width * place, displacements))
            displacements = found[-1][0]
        moves, compliances, modes, slopes = zip(*found, strict=True)
        together = jax.tree.map(lambda *leaves: np.stack(list(map(np.asarray, leaves))), *modes)
        return _Volumes(np.stack(moves), np.stack(compliances), together, np.array(slopes))

    def _edges(self, skin: float, capacity: tuple[int, int] = (1, 0)) -> EdgeList:
        system = self.crystal.system
        search = self.crystal.potential.edge_search(system, skin)
        return search.find(system.positions, system.cell, capacity)

    def _at_rest(self, s: float, displacements: Float[np.ndarray, "N D"]) -> tuple[Any, ...]:
        """Displacements, compliance, modes and slope of the enthalpy at one volume."""
        crystal, vectors = self.crystal, np.asarray(self.vibrations.vectors)
        scale = math.exp(s / crystal.system.dimension)
        require_known_waves(crystal.potential, vectors)
        for _ in range(MOST_STEPS):
            given = crystal.at(s, displacements), crystal.potential, self.edge_list
            _, forces, virial = map(np.asarray, mechanics_at(*given))
            hessians = np.asarray(hessians_of_waves(*given, vectors))
            if not np.isfinite(hessians).all():
                break
            compliance = compliance_of(hessians[0].real, self.constrained, self.null_vectors)
            step = (compliance @ forces.reshape(-1)).reshape(forces.shape)
            displacements = displacements + step
            moved = float(np.abs(displacements).max(initial=0.0))
            near = 2.0 * math.sqrt(crystal.system.dimension) * moved
            if moved > FAR * self.reach or near > float(self.edge_list.reach) * scale - self.reach:
                break
            if np.abs(step).max(initial=0.0) <= AT_REST * self.reach:
                roots = self.vibrations.inverse_roots
                modes = modes_of_hessians(hessians, vectors, roots, self.null_vectors)
                self._require_stable(modes)
                return displacements, compliance, modes, float(crystal.slope(s, virial))
        raise _UnstableError("the ions find no place of rest nearby")

    def _require_stable(self, modes: Modes) -> None:
        squares = np.asarray(modes.squares)
        if (squares < 0.0).any():
            worst = np.asarray(self.vibrations.vectors)[squares.min(axis=1).argmin()]
            at = ", ".join(f"{one:.4g}" for one in worst)
            raise _UnstableError(
                f"{(squares < 0.0).sum()} of {squares.size} vibrations are imaginary, the worst at "
                f"q = ({at})"
            )


@compiled(heavy=True)
def slopes_and_squares(
    crystal: Crystal, held: FreeEnergyAroundMinimum
) -> tuple[Float[Array, " P"], Float[Array, "P Q F"]]:
    """Slopes of the enthalpy and squares of frequencies at all points, with the ions at rest.

    Arguments:
        crystal: the crystal.
        held: what is kept of each point, and counts as constant.

    Returns:
        Shape (P,), energy; shape (P, Q, F), energy/length^2/mass.
    """
    potential, edge_list = crystal.potential, held.edge_list

    def at_point(point: tuple[Any, ...]) -> tuple[Array, Array]:
        s, displacements, compliance, modes = point
        forces = energy_forces_virial(crystal.at(s, displacements), potential, edge_list)[1]
        step = (compliance @ forces.reshape(-1)).reshape(forces.shape)
        given = crystal.at(s, displacements + step), potential, edge_list
        squares = squares_of_modes(*given, modes)
        return crystal.slope(s, energy_forces_virial(*given)[2]), squares

    places = held.centre + held.width * jnp.asarray(PLACES)
    kept = held.displacements, held.compliances, held.modes
    return jax.lax.map(at_point, (places, *kept))
