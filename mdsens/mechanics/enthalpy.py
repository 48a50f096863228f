"""The function that is minimised: enthalpy of the degrees of freedom, and its gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.implicit.linearisation import compiled_product
from mdsens.mechanics.energy import (
    compiled_energy_forces_virial,
    energy_and_forces,
    energy_forces_virial,
)
from mdsens.particles.edge_search import approach_bound
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced

#: What of the cell may relax.
CELL_MODES = (None, "isotropic", "diagonal", "full")


class Landscape(eqx.Module):
    """Enthalpy H(q) = E + pressure * volume of a system as a function of its degrees of freedom.

    With a fixed cell, q is the positions, shape (N, D). With a relaxing cell, D more rows hold
    eta, and positions and cell follow from both: with the strain S = projection(eta) / c and
    A = 1 + S, positions = q A and cell = reference cell A. The length c = sqrt(N) (V/N)^(1/D)
    gives a strain the curvature of one atom's displacement, so that one tolerance serves both
    (as in the unit-cell filters of E. B. Tadmor et al., Phys. Rev. B 59, 235 (1999)).

    Attributes:
        system: reference positions and cell, species, fixed atoms.
        potential: the potential.
        edge_list: edges within the potential's range, valid near q.
        pressure: external pressure, energy/length^D.
        rattlers: shape (N,), atoms without load, which stay where they are: rattlers, lone atoms.
        floppy: shape (M, R, D), null vectors of the Hessian beyond those of symmetry.
        cell_mode: None, ``"isotropic"``, ``"diagonal"`` or ``"full"``.
    """

    system: System
    potential: Potential
    edge_list: EdgeList
    pressure: Float[Array, ""]
    rattlers: Bool[Array, " N"]
    floppy: Float[Array, "M R D"]
    cell_mode: str | None = eqx.field(static=True)

    @staticmethod
    def of(
        system: System,
        potential: Potential,
        edge_list: EdgeList,
        cell_mode: str | None = None,
        pressure: float | Float[Array, ""] = 0.0,
        rattlers: Bool[Array, " N"] | None = None,
    ) -> "Landscape":
        """The landscape of a system, with no null vectors but those of symmetry.

        Arguments:
            system: N atoms in D dimensions.
            potential: the potential.
            edge_list: edges within its range.
            cell_mode: what of the cell relaxes.
            pressure: external pressure, energy/length^D.
            rattlers: shape (N,), atoms without load; None: there are none.

        Returns:
            The Landscape.
        """
        count, dimension = system.atom_count, system.dimension
        rows = count + (0 if cell_mode is None else dimension)
        return Landscape(
            system, potential, edge_list, on_device(pressure, float),
            on_device(np.zeros(count, bool)) if rattlers is None else rattlers,
            on_device(np.zeros((0, rows, dimension))), cell_mode,
        )  # fmt: skip

    @property
    def coordinates(self) -> Float[Array, "R D"]:
        """The degrees of freedom of the reference system, R = N or N + D rows."""
        if self.cell_mode is None:
            return self.system.positions
        dimension = self.system.dimension
        xp = array_module(self.system.positions)
        blank = np.zeros((dimension, dimension))
        return on_device(xp.concatenate([self.system.positions, blank]))

    @property
    def strain_length(self) -> Float[Any, ""]:
        """The length c that turns strain into a coordinate."""
        count, dimension = self.system.positions.shape
        volume = in_numpy(jax.lax.stop_gradient(self.system.volume))
        return array_module(volume).sqrt(float(count)) * (volume / count) ** (1.0 / dimension)

    def constrained_rows(self, q: Float[Any, "R D"]) -> Any:
        """Whether each row of q is that of an atom that is fixed or a rattler, shape (R, 1)."""
        fixed, rattlers = in_numpy((self.system.fixed, self.rattlers))
        free = np.zeros(q.shape[0] - self.system.atom_count, bool)
        return array_module((fixed, rattlers)).concatenate([fixed | rattlers, free])[:, None]

    def project_strain(self, eta: Float[Any, "D D"]) -> Float[Any, "D D"]:
        """The part of eta that the cell mode allows: symmetric, diagonal, or isotropic."""
        if self.cell_mode == "full":
            return (eta + eta.T) / 2
        xp = array_module(eta)
        diagonal = xp.diag(xp.diag(eta))
        if self.cell_mode == "diagonal":
            return diagonal
        return np.eye(eta.shape[0]) * xp.trace(eta) / eta.shape[0]

    def deformation(self, q: Float[Any, "R D"]) -> Float[Any, "D D"]:
        """The matrix A of positions = q A and cell = reference cell A."""
        dimension = self.system.dimension
        if self.cell_mode is None:
            return np.eye(dimension)
        eta = in_numpy(q)[self.system.atom_count :]
        return np.eye(dimension) + self.project_strain(eta) / self.strain_length

    def system_at(self, q: Float[Any, "R D"]) -> System:
        """The system at given degrees of freedom; constrained atoms stay at their reference."""
        count = self.system.atom_count
        here, reference = in_numpy((in_numpy(q)[:count], self.system.positions))
        constrained = self.constrained_rows(q)[:count]
        positions = array_module((here, constrained)).where(constrained, reference, here)
        # What JAX does not trace, as a cell that is fixed, stays known.
        if self.cell_mode is None:
            return eqx.tree_at(lambda system: system.positions, self.system, on_device(positions))
        deformation = self.deformation(q)
        moved = positions @ deformation, in_numpy(self.system.cell) @ deformation
        return eqx.tree_at(
            lambda system: (system.positions, system.cell),
            self.system,
            tuple(map(on_device, moved)),
        )

    def displacement_bound(
        self, q: Float[Any, "R D"], reference: Float[Any, "R D"]
    ) -> Float[Any, ""]:
        """An upper bound on how much nearer any two images have come since ``reference``, length.

        Edges found there miss no pair as long as it is less than their skin.
        """
        count = self.system.atom_count
        q, reference, reach = in_numpy((q, reference, self.edge_list.reach))
        moved = largest_force(q[:count] - reference[:count])
        if self.cell_mode is None:
            return 2.0 * moved
        now, before = self.deformation(q), self.deformation(reference)
        linalg = array_module((now, before)).linalg
        # Displacements follow the deformation, and are no longer than this.
        moved = moved * (1.0 + linalg.norm(now))
        return approach_bound(moved, linalg.solve(before, now), reach)

    def enthalpy_and_gradient(
        self, q: Float[Array, "R D"]
    ) -> tuple[Float[Array, ""], Float[Array, "R D"]]:
        """H(q) in units of energy and dH/dq in energy/length; zero rows for constrained atoms."""
        system = self.system_at(q)
        if self.cell_mode is None:
            energy, forces = energy_and_forces(system, self.potential, self.edge_list)
            return self._of_mechanics(q, system, energy, forces, None)
        found = energy_forces_virial(system, self.potential, self.edge_list)
        return self._of_mechanics(q, system, *found)

    def evaluate(self, q: Float[Array, "R D"]) -> tuple[Float[Array, ""], Float[Array, "R D"]]:
        """`enthalpy_and_gradient` on the host, by the program that evaluates everything else."""
        system = self.system_at(q)
        found = compiled_energy_forces_virial(system, self.potential, self.edge_list)
        enthalpy, gradient = self._of_mechanics(q, system, *found)
        return on_device(enthalpy), on_device(gradient)

    def _of_mechanics(
        self,
        q: Float[Array, "R D"],
        system: System,
        energy: Float[Array, ""],
        forces: Float[Array, "N D"],
        virial: Float[Array, "D D"] | None,
    ) -> tuple[Any, Any]:
        """The enthalpy and its gradient from energy, forces and virial."""
        known = in_numpy((energy, forces, virial, self.pressure, system.volume))
        energy, forces, virial, pressure, volume = known
        xp, constrained = array_module(known), self.constrained_rows(q)
        if self.cell_mode is None or virial is None:
            return energy, xp.where(constrained, 0.0, -forces)
        deformation = self.deformation(q)
        work = virial + pressure * volume * np.eye(system.dimension)
        strain_gradient = self.project_strain(xp.linalg.solve(deformation.T, work))
        rows = xp.concatenate([-forces @ deformation.T, strain_gradient / self.strain_length])
        return energy + pressure * volume, xp.where(constrained, 0.0, rows)

    def condition(self, q: Float[Array, "R D"]) -> Float[Array, "R D"]:
        """The optimality condition F(q) = 0: no force, and constrained atoms at their reference."""
        count = self.system.atom_count
        displaced = q[:count] - self.system.positions
        rows = jnp.zeros_like(q).at[:count].set(displaced)
        return jnp.where(self.constrained_rows(q), rows, self.enthalpy_and_gradient(q)[1])

    @compiled
    def null_vectors(self, q: Float[Array, "R D"]) -> Float[Array, "M R D"]:
        """Directions along which the condition does not change by symmetry, one per row.

        Translations where no atom is fixed; the rotations that there also are; and the parts of eta
        that the cell mode ignores. A row may be zero, as for the rotation of a linear molecule
        about its axis.
        """
        count, dimension = self.system.atom_count, self.system.dimension
        vectors = []
        free = jnp.where(jnp.any(self.system.fixed), 0.0, 1.0)
        moving = jnp.where(self.rattlers, 0.0, free)
        for axis in range(dimension):
            vectors.append(jnp.zeros_like(q).at[:count, axis].set(moving))
        centred = moving[:, None] * (q[:count] - jnp.mean(q[:count], axis=0, keepdims=True))
        for generator in self.rotations():
            vectors.append(jnp.zeros_like(q).at[:count].set(centred @ generator))
        if self.cell_mode is not None:
            for i in range(dimension):
                for j in range(dimension):
                    unit = jnp.zeros((dimension, dimension)).at[i, j].set(1.0)
                    vectors.append(
                        jnp.zeros_like(q).at[count:].set(unit - self.project_strain(unit))
                    )
        return jnp.concatenate([jnp.stack(vectors), self.floppy])

    def with_rattlers_at(self, q: Float[Array, "R D"]) -> "Landscape":
        """This landscape with the reference of its rattlers where q has them."""
        return self if self._holds_all else self._with_rattlers_at(q)

    def backbone(self) -> "Landscape":
        """This landscape without the edges of rattlers, which carry no load."""
        return self if self._holds_all else self._backbone()

    @property
    def _holds_all(self) -> bool:
        """Whether it is known that there are no rattlers."""
        return not is_traced(self.rattlers) and not np.asarray(self.rattlers).any()

    @compiled
    def _with_rattlers_at(self, q: Float[Array, "R D"]) -> "Landscape":
        here = jax.lax.stop_gradient(q[: self.system.atom_count])
        positions = jnp.where(self.rattlers[:, None], here, self.system.positions)
        return eqx.tree_at(lambda landscape: landscape.system.positions, self, positions)

    @compiled
    def _backbone(self) -> "Landscape":
        edge_list = self.edge_list
        blocks, _, size = edge_list.neighbors.shape
        rattlers = jnp.concatenate(
            [self.rattlers, self.rattlers[edge_list.ghost_owners], jnp.ones(1, bool)]
        )
        sites = jnp.pad(self.rattlers, (0, blocks * size - self.rattlers.shape[0]))
        gone = rattlers[edge_list.neighbors] | sites.reshape(blocks, 1, size)
        neighbors = jnp.where(gone, rattlers.shape[0] - 1, edge_list.neighbors)
        reverse = edge_list.reverse
        if reverse is not None:
            # A slot without an edge is its own reverse.
            own = jnp.arange(neighbors.size, dtype=jnp.int32).reshape(neighbors.shape)
            reverse = jnp.where(gone, own, reverse)
        return eqx.tree_at(
            lambda landscape: (landscape.edge_list.neighbors, landscape.edge_list.reverse),
            self,
            (neighbors, reverse),
            is_leaf=lambda leaf: leaf is None,
        )

    def rotations(self) -> Float[Array, "M D D"]:
        """Generators W of the rotations that leave the boundaries as they are: x turns by x W.

        Of all where nothing is periodic. Of three directions one may be, and the system then turns
        about its lattice vector, wherever that points; with two there is no rotation left.
        """
        dimension = self.system.dimension
        planes = [(i, j) for i in range(dimension) for j in range(i + 1, dimension)]
        generators = np.zeros((len(planes), dimension, dimension))
        for plane, (i, j) in enumerate(planes):
            generators[plane, i, j], generators[plane, j, i] = 1.0, -1.0
        periods = self.system.cell[np.flatnonzero(self.system.pbc)]
        if len(periods) == 0:
            return jnp.asarray(generators)
        if len(periods) > 1 or dimension == 2:
            return jnp.zeros((0, dimension, dimension))
        x, y, z = periods[0] / jnp.linalg.norm(periods[0])
        # The planes are xy, xz and yz.
        return jnp.tensordot(jnp.stack([z, -y, x]), jnp.asarray(generators), 1)[None]


def condition_in(
    landscape: Landscape, q: Float[Array, "R D"], potential: Potential
) -> Float[Array, "R D"]:
    """The optimality condition F(q, theta) of a landscape in a potential."""
    return eqx.tree_at(lambda given: given.potential, landscape, potential).condition(q)


def hessian_products(
    landscape: Landscape, q: Float[Array, "R D"], vectors: Float[np.ndarray, "*K R D"]
) -> Float[Any, "*K R D"]:
    """Products of the enthalpy's Hessian with one vector or K, by code that is compiled once.

    Arguments:
        landscape: the landscape.
        q: degrees of freedom, shape (R, D), length.
        vectors: directions of these, length.

    Returns:
        Changes of the condition along them, shaped like the vectors, energy/length.
    """
    condition = jax.tree_util.Partial(condition_in, landscape)
    return compiled_product(condition, q, (landscape.potential,), vectors)


def largest_force(gradient: Float[Any, "R D"]) -> Float[Any, ""]:
    """The largest norm of a row: the largest force on an atom (or on the cell), energy/length."""
    xp = array_module(gradient)
    return xp.sqrt(xp.max(xp.sum(in_numpy(gradient) ** 2, axis=1)))


def typical_force(gradient: Float[Any, "R D"]) -> Float[Any, ""]:
    """The root mean square norm of the rows that are not zero, energy/length.

    Zero are those of atoms that are constrained or touch nothing, and those that only fill up a
    batch.
    """
    xp = array_module(gradient)
    squares = xp.sum(in_numpy(gradient) ** 2, axis=1)
    return xp.sqrt(xp.sum(squares) / xp.maximum(xp.sum(squares > 0.0, dtype=float), 1.0))
