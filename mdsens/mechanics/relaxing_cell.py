"""How a cell relaxes: which strains it may have, what they do to it, and the load against them."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.mechanics.stress import tensor_of
from mdsens.modules import Module
from mdsens.particles.system import System
from mdsens.values import is_traced
from mdsens.voigt import COMPONENTS, VOIGT_INDICES

#: What of the cell relaxes: nothing, a name, or which strain components in Voigt order.
CellMode = str | tuple[bool, ...] | None
#: The names there are; None is a fixed cell.
CELL_MODES = (None, "isotropic", "diagonal", "full", "shape")
#: Strains that depend on one another to this part are not counted twice.
DEPENDENT = 1e-10
#: What two projections leave but for this part is common to both.
COMMON = 1e-6


class RelaxingCell(Module):
    """The strains that a cell may have, and what does work as it has them.

    Coordinates eta, shape (D, D), give the strain S = projection(eta) / c, symmetric, and the
    stretch F = 1 + S. The cell is its reference times the deformation A = F; at constant volume
    F is divided by the D-th root of its determinant, so that the determinant of A is 1 to rounding,
    whatever the strain. The length c gives a strain the curvature of one atom's displacement, so
    that one tolerance serves both (as in the unit-cell filters of E. B. Tadmor et al., Phys. Rev. B
    59, 235 (1999)).

    Of a slab or a wire only the span of the lattice vectors is strained: with P the projection onto
    it, S = P S P, and what was said of D directions holds for those within it.

    The load is a pressure p and a tension T without trace, which is zero where the load is a
    pressure alone. Their work is that of M. Parrinello and A. Rahman, J. Appl. Phys. 52, 7182
    (1981): -p V + T : E, with Green's strain E = (A A^T - 1) / 2 of the reference cell.

    Attributes:
        mode: what relaxes.
        directions: number of periodic directions.
        strains: orthogonal projection onto the allowed strains, shape (D, D, D, D).
        span: P, shape (D, D); the unit matrix where all directions are periodic.
        length: c, which turns strain into a coordinate.
        pressure: p, energy/length^D.
        tension: T, shape (D, D): the stress beside the pressure, times the volume of the
            reference cell, energy.
        stress_weight: the force that counts as much as a unit of stress that is left,
            length^(D - 1); None: rows of the cell count as those of atoms.
    """

    mode: CellMode = eqx.field(static=True)
    directions: int = eqx.field(static=True)
    strains: Float[Array, "D D D D"]
    span: Float[Array, "D D"]
    length: Float[Array, ""]
    pressure: Float[Array, ""]
    tension: Float[Array, "D D"]
    stress_weight: Float[Array, ""] | None

    @staticmethod
    def of(
        system: System,
        mode: CellMode,
        pressure: float | Float[Any, ""] = 0.0,
        stress: Float[Any, " V"] | None = None,
        stress_weight: float | None = None,
    ) -> "RelaxingCell | None":
        """What of a system's cell relaxes, and against which load.

        Arguments:
            system: N atoms in D dimensions, periodic somewhere.
            mode: what relaxes; None: nothing.
            pressure: external pressure, energy/length^D.
            stress: external stress in its place, Voigt components, energy/length^D; positive under
                tension.
            stress_weight: as in the attributes.

        Returns:
            The RelaxingCell; None for a fixed cell.
        """
        if mode is None:
            return None
        cell = in_numpy(system.cell)
        span, directions = span_of(system), sum(system.pbc)
        tension: Any = np.zeros(cell.shape)
        if stress is not None:
            within = span @ tensor_of(in_numpy(stress)) @ span
            pressure = -within.trace() / directions
            tension = in_numpy(system.volume) * (within + pressure * span)
        strains, constraints = strain_projection(mode, span), system.constraints
        if constraints is not None and constraints.strains is not None:
            strains = _common(strains, in_numpy(constraints.strains))
        return RelaxingCell(
            mode,
            directions,
            on_device(strains),
            on_device(span),
            on_device(strain_length(system)),
            on_device(pressure, float),
            on_device(tension),
            None if stress_weight is None else on_device(stress_weight, float),
        )

    @property
    def strain_count(self) -> int:
        """How many strains there are, independent of each other; of numbers alone."""
        return count_of(self.strains)

    def project(self, eta: Float[Any, "D D"]) -> Float[Any, "D D"]:
        """The part of eta that is an allowed strain."""
        eta, strains = in_numpy((eta, self.strains))
        return array_module((eta, strains)).tensordot(strains, eta, 2)

    def stretch(self, eta: Float[Any, "D D"]) -> Float[Any, "D D"]:
        """F = 1 + S, whose determinant is that of the deformation where the volume may change."""
        strain, length = in_numpy((self.project(eta), self.length))
        return np.eye(len(strain)) + strain / length

    def deformation(self, eta: Float[Any, "D D"]) -> Float[Any, "D D"]:
        """The matrix A that the reference cell is multiplied with from the right."""
        stretch, span = in_numpy((self.stretch(eta), self.span))
        if self.mode != "shape":
            return stretch
        # Across the span F is the unit matrix, and is not scaled.
        xp, across = array_module((stretch, span)), np.eye(len(span)) - span
        return across + (stretch - across) * xp.linalg.det(stretch) ** (-1.0 / self.directions)

    def pulled_back(self, eta: Float[Any, "D D"], work: Float[Any, "D D"]) -> Float[Any, "D D"]:
        """The derivative of an energy in eta, from that in a strain of the cell as it is.

        Arguments:
            eta: coordinates of the cell, shape (D, D).
            work: dH/d(strain), shape (D, D), energy: of A going to A (1 + strain).

        Returns:
            dH/d(eta), shape (D, D), energy/length.
        """
        work, span, length = in_numpy((work, self.span, self.length))
        if self.mode == "shape":
            # Scaling undoes what would change the volume.
            work = work - span * (span * work).sum() / self.directions
        stretch = self.stretch(eta)
        xp = array_module((stretch, work, length))
        return self.project(xp.linalg.solve(stretch.T, work)) / length

    def load(
        self, deformation: Float[Any, "D D"], volume: Float[Any, ""]
    ) -> tuple[Float[Any, ""], Float[Any, "D D"]]:
        """What the load adds to the enthalpy.

        Arguments:
            deformation: A, shape (D, D).
            volume: of the deformed cell, length^D.

        Returns:
            p V - T : E, energy; and its derivative in a strain of the cell as it is, shape (D, D).
        """
        given = in_numpy((deformation, volume, self.pressure, self.tension))
        deformation, volume, pressure, tension = given
        identity = np.eye(len(deformation))
        green = (deformation @ deformation.T - identity) / 2
        energy = pressure * volume - (tension * green).sum()
        return energy, pressure * volume * identity - deformation.T @ tension @ deformation

    def stress_left(
        self, eta: Float[Any, "D D"], slope: Float[Any, "D D"], reference_volume: Float[Any, ""]
    ) -> Float[Any, ""]:
        """The largest component of the stress that the load does not balance.

        Arguments:
            eta: coordinates of the cell, shape (D, D).
            slope: dH/d(eta), shape (D, D), energy/length.
            reference_volume: of the reference cell, length^D.

        Returns:
            Energy/length^D; of strains that are not allowed nothing is counted. NaN where the cell
            has no volume.
        """
        given = in_numpy((self.strains, slope, self.length, reference_volume))
        strains, slope, length, volume = given
        stretch, size = self.stretch(eta), len(slope) ** 2
        xp = array_module((stretch, given))
        # The inverse of pulling back, among the allowed strains.
        within, inverse = strains.reshape(size, size), xp.linalg.inv(stretch).T
        pull = within @ xp.kron(inverse, np.eye(len(slope))) @ within
        left = xp.linalg.solve(pull + np.eye(size) - within, length * slope.reshape(-1))
        now = volume * xp.abs(xp.linalg.det(self.deformation(eta)))
        return xp.max(xp.abs(left)) / xp.where(now > 0.0, now, np.nan)


def name_of_mode(mode: CellMode) -> str:
    """A mode as text: its name, or the strain components that relax."""
    if mode is None or isinstance(mode, str):
        return mode or "none"
    dimension = next(d for d, names in COMPONENTS.items() if len(names) == len(mode))
    return " ".join(name for name, yes in zip(COMPONENTS[dimension], mode, strict=True) if yes)


def span_of(system: System) -> Float[Any, "D D"]:
    """The projection onto the span of the lattice vectors of the periodic directions."""
    if all(system.pbc):
        return np.eye(system.dimension)
    return _span(in_numpy(system.cell)[np.flatnonzero(system.pbc)])


def _span(lattice: Float[Any, "k D"]) -> Float[Any, "D D"]:
    return lattice.T @ array_module(lattice).linalg.solve(lattice @ lattice.T, lattice)


def strain_projection(mode: CellMode, span: Float[Any, "D D"]) -> Float[Any, "D D D D"]:
    """The orthogonal projection of matrices onto the strains that a mode allows within a span.

    Allowed is what is left within the span of a strain with the mode's components; where all
    directions are periodic, these components themselves.

    Arguments:
        mode: ``"isotropic"``, ``"diagonal"``, ``"full"``, ``"shape"``, or a mask of components.
        span: projection onto the span of the lattice vectors, shape (D, D).

    Returns:
        Shape (D, D, D, D).
    """
    xp, dimension = array_module(span), len(span)
    if mode == "isotropic":
        generators = span[None]
    else:
        units = np.zeros((len(COMPONENTS[dimension]), dimension, dimension))
        for unit, i, j in zip(units, *VOIGT_INDICES[dimension], strict=True):
            unit[i, j] = unit[j, i] = 1.0
        wanted = np.ones(len(units), bool)
        if mode == "diagonal":
            wanted = np.arange(len(units)) < dimension
        elif not isinstance(mode, str):
            wanted = np.array(mode, bool)
        generators = span @ units[wanted] @ span
        if mode == "shape":
            trace = xp.trace(generators, axis1=1, axis2=2) / xp.trace(span)
            generators = generators - trace[:, None, None] * span[None]
    flat = generators.reshape(len(generators), -1)
    # With a one beside them, so that rounding is none of them where there is nothing else.
    overlaps = xp.pad(flat @ flat.T, ((0, 1), (0, 1)))
    overlaps = overlaps + np.diag(np.arange(len(overlaps)) // len(flat) * 1.0)
    inverse = xp.linalg.pinv(overlaps, DEPENDENT, hermitian=True)[:-1, :-1]
    return (flat.T @ inverse @ flat).reshape(4 * (dimension,))


def _common(first: Float[Any, "D D D D"], second: Float[Any, "D D D D"]) -> Float[Any, "D D D D"]:
    """The projection onto what two projections of matrices both leave."""
    shape, size = first.shape, first.shape[0] ** 2
    xp, both = array_module((first, second)), first.reshape(size, size)
    both = both @ second.reshape(size, size) @ both
    values, vectors = xp.linalg.eigh((both + both.T) / 2)
    kept = xp.where((values > 1.0 - COMMON)[None], vectors, 0.0)
    return (kept @ kept.T).reshape(shape)


def count_of(projection: Float[Any, "*D"]) -> int:
    """The dimension of what a projection of matrices, shape (D, D, D, D), leaves."""
    return round(float(np.einsum("ijij", np.asarray(projection))))


def strain_length(system: System) -> Float[Any, ""]:
    """The length c that turns strain into a coordinate: sqrt(N) times the distance of neighbours.

    That distance is (V/N)^(1/D). Across a slab or a wire the volume is that of a plate or a
    cylinder with the atoms' variance; where they are thinner than one layer, (A/N)^(1/2) or L/N.

    Arguments:
        system: N atoms in D dimensions, periodic somewhere.

    Returns:
        The length; nothing is differentiated through it.
    """
    count, dimension = system.positions.shape
    known = system.cell, system.positions
    # To stop what is not traced would have JAX trace it within another trace.
    cell, positions = jax.lax.stop_gradient(known) if is_traced(known) else in_numpy(known)
    xp = array_module((cell, positions))
    if all(system.pbc):
        distance = (xp.abs(xp.linalg.det(cell)) / count) ** (1.0 / dimension)
        return xp.sqrt(float(count)) * distance
    directions = sum(system.pbc)
    lattice = cell[np.flatnonzero(system.pbc)]
    extent = xp.sqrt(xp.linalg.det(lattice @ lattice.T))
    off = (positions - positions.mean(axis=0, keepdims=True)) @ (np.eye(dimension) - _span(lattice))
    variance = (off**2).sum() / count
    width = xp.sqrt(12.0 * variance) if dimension - directions == 1 else 2.0 * np.pi * variance
    layer, bulk = extent / count, extent * width / count
    distance = xp.maximum(layer ** (1.0 / directions), bulk ** (1.0 / dimension))
    return xp.sqrt(float(count)) * distance
