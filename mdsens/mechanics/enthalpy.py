"""The function that is minimised: enthalpy of the degrees of freedom, and its gradient."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import array_module, in_numpy, on_device, squared_lengths
from mdsens.compilation import compiled, inside_a_trace
from mdsens.implicit.null_space import OrthonormalRows
from mdsens.mechanics.constrained_motion import ConstrainedMotion
from mdsens.mechanics.energy import (
    compiled_energy_forces_virial,
    energy_and_forces,
    energy_forces_virial,
)
from mdsens.mechanics.filling import Filling, filling_of, serves_alone
from mdsens.mechanics.relaxing_cell import CellMode, RelaxingCell
from mdsens.mechanics.shared_energy import mechanics_on_host
from mdsens.modules import Module, known_once
from mdsens.particles.edge_search import approach_bound
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced

#: Atoms below which what evaluates forces again and again finds the virial as well.
FEWEST_WITHOUT_VIRIAL = 2000

#: What gives enthalpy and gradient at degrees of freedom, on the host.
Evaluation: TypeAlias = Callable[
    [Float[np.ndarray, "R D"]], tuple[Float[np.ndarray, ""], Float[np.ndarray, "R D"]]
]


class Landscape(Module):
    """Enthalpy H(q) of a system as a function of its degrees of freedom: E and the load's work.

    With a fixed cell, q is the positions, shape (N, D). With a relaxing cell, D more rows hold
    eta, and positions and cell follow from both: with the deformation A(eta) of `RelaxingCell`,
    positions = q A and cell = reference cell A.

    Attributes:
        system: reference positions and cell, species, fixed atoms.
        potential: the potential.
        edge_list: edges within the potential's range, valid near q.
        relaxing_cell: what of the cell relaxes, and against which load; None: it is fixed.
        rattlers: shape (N,), atoms without load, which stay where they are: rattlers, lone atoms.
        floppy: shape (M, R, D), null vectors of the Hessian beyond those of symmetry.
        motion: how constraints let atoms move; None where they are fixed or free.
    """

    system: System
    potential: Potential
    edge_list: EdgeList
    relaxing_cell: RelaxingCell | None
    rattlers: Bool[Array, " N"]
    floppy: Float[Array, "M R D"]
    motion: ConstrainedMotion | None = None

    @staticmethod
    def of(
        system: System,
        potential: Potential,
        edge_list: EdgeList,
        cell_mode: CellMode = None,
        pressure: float | Float[Any, ""] = 0.0,
        rattlers: Bool[Array, " N"] | None = None,
        stress: Float[Any, " V"] | None = None,
        stress_weight: float | None = None,
    ) -> "Landscape":
        """The landscape of a system, with no null vectors but those of symmetry.

        Arguments:
            system: N atoms in D dimensions.
            potential: the potential.
            edge_list: edges within its range.
            cell_mode: what of the cell relaxes.
            pressure: external pressure, energy/length^D.
            rattlers: shape (N,), atoms without load; None: there are none.
            stress: external stress in place of a pressure, Voigt components, energy/length^D.
            stress_weight: the force that counts as much as a unit of stress, length^(D - 1); None:
                rows of the cell count as those of atoms.

        Returns:
            The Landscape.
        """
        cell = RelaxingCell.of(system, cell_mode, pressure, stress, stress_weight)
        return Landscape.in_cell(system, potential, edge_list, cell, rattlers)

    @staticmethod
    def in_cell(
        system: System,
        potential: Potential,
        edge_list: EdgeList,
        relaxing_cell: RelaxingCell | None,
        rattlers: Bool[Array, " N"] | None = None,
    ) -> "Landscape":
        """The same in a cell of which is known how it relaxes.

        Arguments:
            system: N atoms in D dimensions.
            potential: the potential.
            edge_list: edges within its range.
            relaxing_cell: how the cell relaxes; None: it is fixed.
            rattlers: shape (N,), atoms without load; None: there are none.

        Returns:
            The Landscape.
        """
        count, dimension = system.atom_count, system.dimension
        rows = count + (0 if relaxing_cell is None else dimension)
        return Landscape(
            system, potential, edge_list, relaxing_cell,
            on_device(np.zeros(count, bool)) if rattlers is None else rattlers,
            on_device(np.zeros((0, rows, dimension))),
            ConstrainedMotion.of(system),
        )  # fmt: skip

    @property
    def cell_mode(self) -> CellMode:
        """What of the cell relaxes; None where it is fixed."""
        return None if self.relaxing_cell is None else self.relaxing_cell.mode

    @property
    def filled(self) -> "Filled | None":
        """It as compiled code takes it, filled up; None where that takes it as it is."""
        # What was filled up before it was found that its potential serves no atom alone is not.
        if inside_a_trace() or not serves_alone(self.potential):
            return None
        return self._filled

    @property
    @known_once
    def _filled(self) -> "Filled | None":
        if self.motion is not None or is_traced((self.rattlers, self.relaxing_cell)):
            return None
        filling = filling_of(self.system, self.potential, self.edge_list)
        return None if filling is None else Filled(filling.landscape(self), filling)

    @property
    def coordinates(self) -> Float[Array, "R D"]:
        """The degrees of freedom of the reference system, R = N or N + D rows."""
        if self.cell_mode is None:
            return self.system.positions
        dimension = self.system.dimension
        xp = array_module(self.system.positions)
        blank = np.zeros((dimension, dimension))
        return on_device(xp.concatenate([self.system.positions, blank]))

    def constrained_rows(self, q: Float[Any, "R D"]) -> Any:
        """Whether each row of q is that of an atom that is fixed or a rattler, shape (R, 1)."""
        fixed, rattlers = in_numpy((self.system.fixed, self.rattlers))
        free = np.zeros(q.shape[0] - self.system.atom_count, bool)
        return array_module((fixed, rattlers)).concatenate([fixed | rattlers, free])[:, None]

    def deformation(self, q: Float[Any, "R D"]) -> Float[Any, "D D"]:
        """The matrix A of positions = q A and cell = reference cell A."""
        if self.relaxing_cell is None:
            return np.eye(self.system.dimension)
        return self.relaxing_cell.deformation(in_numpy(q)[self.system.atom_count :])

    def system_at(self, q: Float[Any, "R D"]) -> System:
        """The system at given degrees of freedom; fixed atoms stay at their reference."""
        # A derivative outside of compiled code compiles every operation on its own.
        return self._traced_at(q) if is_traced((self, q)) else self._at(q)

    @compiled
    def _traced_at(self, q: Float[Array, "R D"]) -> System:
        return self._at(q)

    def _at(self, q: Float[Any, "R D"]) -> System:
        count = self.system.atom_count
        here, reference = in_numpy((in_numpy(q)[:count], self.system.positions))
        if self.motion is not None:
            here = self.motion.placed(here, reference)
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
        if not self.potential.acts_along_edges:
            return np.asarray(0.0)
        count = self.system.atom_count
        q, reference, reach = in_numpy((q, reference, self.edge_list.reach))
        here, there = q[:count], reference[:count]
        if self.motion is not None and self.holds_bonds:
            # Bonds turn further than their atoms move.
            held = self.system.positions
            here, there = self.motion.placed(here, held), self.motion.placed(there, held)
        moved = largest_force(here - there)
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
        given = system, self.potential, self.edge_list
        if is_traced((q, self)):
            found: tuple[Any, ...] = compiled_energy_forces_virial(*given)
        else:
            found = mechanics_on_host(*given, self.takes_virial)(system.positions)
        enthalpy, gradient = self._of_mechanics(q, system, *found)
        return on_device(enthalpy), on_device(gradient)

    @property
    def takes_virial(self) -> bool:
        """Whether the host evaluates the virial as well: where the cell relaxes, and of few atoms.

        Of these it takes less time than to compile another program without it.
        """
        return self.cell_mode is not None or self.system.atom_count < FEWEST_WITHOUT_VIRIAL

    def evaluation(self) -> Evaluation:
        """`enthalpy_and_gradient` on the host as a function of q, for many evaluations.

        Where the cell is fixed and atoms are free or held, nothing else is computed.
        """
        if self.cell_mode is not None or self.motion is not None:
            return lambda q: in_numpy(self.evaluate(on_device(q)))
        reference = np.asarray(self.system.positions)
        held = np.asarray(self.constrained_rows(reference))[:, 0]
        some_held = bool(held.any())
        given = self.system, self.potential, self.edge_list
        mechanics = mechanics_on_host(*given, self.takes_virial)

        def evaluate(
            q: Float[np.ndarray, "N D"],
        ) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, "N D"]]:
            positions = np.where(held[:, None], reference, q) if some_held else q
            energy, forces, _ = mechanics(positions)
            gradient = -forces
            if some_held:
                gradient[held] = 0.0
            return energy, gradient

        return evaluate

    def _of_mechanics(
        self,
        q: Float[Array, "R D"],
        system: System,
        energy: Float[Any, ""],
        forces: Float[Any, "N D"],
        virial: Float[Any, "D D"] | None,
    ) -> tuple[Any, Any]:
        """The enthalpy and its gradient from energy, forces and virial."""
        q, energy, forces, virial = in_numpy((q, energy, forces, virial))
        gradient = self.gradient_of_mechanics(q, system, forces, virial)
        if self.relaxing_cell is None:
            return energy, gradient
        load, _ = self.relaxing_cell.load(self.deformation(q), system.volume)
        return energy + load, gradient

    def gradient_of_mechanics(
        self,
        q: Float[Any, "R D"],
        system: System,
        forces: Float[Any, "N D"],
        virial: Float[Any, "D D"] | None,
    ) -> Float[Any, "R D"]:
        """dH/dq from forces and virial.

        Arguments:
            q: degrees of freedom, shape (R, D), length.
            system: the system there.
            forces: shape (N, D), energy/length.
            virial: shape (D, D), energy; not needed where the cell is fixed.

        Returns:
            Shape (R, D), energy/length; zero rows for constrained atoms.
        """
        q, forces, virial = in_numpy((q, forces, virial))
        cell = self.relaxing_cell
        if cell is None or virial is None:
            return self.of_moving_atoms(q, system.positions, -forces)
        eta, deformation = q[system.atom_count :], self.deformation(q)
        _, work = cell.load(deformation, system.volume)
        gradient = -forces @ deformation.T, cell.pulled_back(eta, virial + work)
        gradient = array_module(gradient).concatenate(gradient)
        return self.of_moving_atoms(q, system.positions, gradient)

    def of_moving_atoms(
        self, q: Float[Any, "R D"], positions: Float[Any, "N D"], gradient: Float[Any, "R D"]
    ) -> Float[Any, "R D"]:
        """What is left of a gradient where constraints hold atoms.

        Arguments:
            q: degrees of freedom, shape (R, D), length.
            positions: of the atoms there, shape (N, D), length.
            gradient: of atoms that are all free, and of the cell, shape (R, D), energy/length.

        Returns:
            Shape (R, D), energy/length; zero rows for atoms that are fixed, and for rattlers.
        """
        gradient, constrained = in_numpy(gradient), self.constrained_rows(q)
        if self.motion is not None:
            count = self.system.atom_count
            of_atoms = self.motion.pulled_back(gradient[:count], positions)
            xp = array_module((of_atoms, gradient))
            gradient = xp.concatenate([of_atoms, gradient[count:]])
        return array_module((gradient, constrained)).where(constrained, 0.0, gradient)

    def held_back(self, q: Float[Any, "R D"]) -> Float[Any, "R D"]:
        """How far degrees of freedom are from where constraints hold them, shape (R, D), length.

        Arguments:
            q: degrees of freedom, shape (R, D), length.

        Returns:
            Zero where nothing is held, and where everything is where it is held.
        """
        count = self.system.atom_count
        q, reference = in_numpy((q, self.system.positions))
        constrained = self.constrained_rows(q)
        xp = array_module((q, reference, constrained))
        moved = q[:count] - reference
        apart = 0.0 if self.motion is None else self.motion.apart(q[:count], reference)
        rows = xp.where(constrained[:count], moved, apart)
        return xp.concatenate([rows, xp.zeros_like(q[count:])])

    def forces_left(
        self, q: Float[Any, "R D"], gradient: Float[Any, "R D"]
    ) -> tuple[Float[Any, ""], Float[Any, ""] | None]:
        """What keeps the gradient from zero: the largest force, and the largest stress.

        Arguments:
            q: degrees of freedom, shape (R, D).
            gradient: dH/dq there, shape (R, D), energy/length.

        Returns:
            The largest norm of a force on an atom, energy/length, or on the cell too, where its
            stress has no tolerance of its own; and the largest component of the stress that the
            load does not balance, energy/length^D, None where the cell is fixed.
        """
        cell, count = self.relaxing_cell, self.system.atom_count
        if cell is None:
            return largest_force(gradient), None
        q, gradient, volume = in_numpy((q, gradient, self.system.volume))
        stress = cell.stress_left(q[count:], gradient[count:], volume)
        if cell.stress_weight is None:
            return largest_force(gradient), stress
        # Of atoms alone, as they are in the deformed cell.
        deformation = self.deformation(q)
        inverse = array_module((gradient, deformation)).linalg.inv(deformation)
        return largest_force(gradient[:count] @ inverse.T), stress

    def held_against_fmax(
        self, force: Float[Any, ""], stress: Float[Any, ""] | None
    ) -> Float[Any, ""]:
        """The number that convergence goes by, from what `forces_left` has found.

        Arguments:
            force: largest force, energy/length.
            stress: largest stress, energy/length^D, or None.

        Returns:
            The largest force; or the stress in its unit, where that has a tolerance of its own and
            is further from it.
        """
        cell = self.relaxing_cell
        if cell is None or cell.stress_weight is None:
            return force
        force, stress, weight = known = in_numpy((force, stress, cell.stress_weight))
        return array_module(known).maximum(force, weight * stress)

    def condition(self, q: Float[Array, "R D"]) -> Float[Array, "R D"]:
        """The optimality condition F(q) = 0: no force, and what is held where it is held."""
        return self.held_back(q) + self.enthalpy_and_gradient(q)[1]

    @compiled
    def null_vectors(self, q: Float[Array, "R D"]) -> Float[Array, "M R D"]:
        """Directions along which the condition does not change by symmetry, one per row.

        Translations where no atom is fixed and the energy is invariant; the rotations that there
        also are; and the parts of eta that the cell mode ignores. A row may be zero, as for the
        rotation of a linear molecule about its axis.
        """
        count, dimension = self.system.atom_count, self.system.dimension
        free = jnp.where(jnp.any(self.system.fixed), 0.0, float(self.potential.invariant))
        moving = jnp.where(self.rattlers, 0.0, free)
        rows = jnp.pad(moving, (0, len(q) - count))
        vectors = list(jnp.eye(dimension)[:, None, :] * rows[None, :, None])
        centred = moving[:, None] * (q[:count] - jnp.mean(q[:count], axis=0, keepdims=True))
        for generator in self.rotations():
            vectors.append(jnp.zeros_like(q).at[:count].set(centred @ generator))
        if self.motion is not None:
            of_atoms = jnp.stack(vectors)[:, :count]
            vectors = list(
                jnp.zeros((len(vectors), *q.shape))
                .at[:, :count]
                .set(self.motion.combinations(of_atoms))
            )
        if self.relaxing_cell is not None:
            for i in range(dimension):
                for j in range(dimension):
                    unit = jnp.zeros((dimension, dimension)).at[i, j].set(1.0)
                    ignored = unit - self.relaxing_cell.project(unit)
                    vectors.append(jnp.zeros_like(q).at[count:].set(ignored))
        return jnp.concatenate([jnp.stack(vectors), self.floppy])

    def null_basis(self, q: Float[Array, "R D"]) -> OrthonormalRows | Float[Array, "M R D"]:
        """`null_vectors`, made a basis where that takes no more than to scale them."""
        held = self.cell_mode is not None or self.motion is not None
        if held or len(self.floppy) or len(self.rotations()):
            return self.null_vectors(q)
        rows = self.null_vectors(q)
        # Translations alone: each moves the same atoms by as much.
        length = jnp.sqrt(jnp.sum(rows[0]))
        return OrthonormalRows(rows / jnp.where(length > 0.0, length, 1.0))

    @property
    def couples_all(self) -> bool:
        """Whether no block of the Hessian is known to be zero: it is dense, or not made at all.

        So it is where constraints couple many atoms, and where the energy is one of the structure
        that is not in groups of a few atoms.
        """
        coupled = self.motion is not None and self.motion.coupled
        return coupled or (self.potential.of_structure and not self.potential.in_groups)

    @property
    def holds_bonds(self) -> bool:
        """Whether lengths of bonds are held."""
        return self.motion is not None and self.motion.bonds is not None

    def touching(self, q: Float[Array, "R D"]) -> "Landscape":
        """This landscape with the directions that bonds which are held have at q, `settled`."""
        if self.motion is None or not self.holds_bonds:
            return self
        motion = self.motion.touching(q[: self.system.atom_count])
        return eqx.tree_at(lambda landscape: landscape.motion, self, motion)

    def settled(self, q: Float[Array, "R D"]) -> Float[Array, "R D"]:
        """Degrees of freedom of the same positions that are these positions themselves."""
        return self.system_at(q).positions if self.holds_bonds else q

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
        about its lattice vector, wherever that points; with two there is no rotation left, nor
        where the energy changes as the system moves or turns.
        """
        dimension = self.system.dimension
        if not (self.potential.invariant and self.potential.isotropic):
            return jnp.zeros((0, dimension, dimension))
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


class Filled(NamedTuple):
    """A landscape filled up with atoms that do not move, and how."""

    landscape: Landscape
    filling: Filling


def largest_force(gradient: Float[Any, "R D"]) -> Float[Any, ""]:
    """The largest norm of a row: the largest force on an atom (or on the cell), energy/length."""
    xp = array_module(gradient)
    return xp.sqrt(xp.max(squared_lengths(gradient)))


def typical_force(gradient: Float[Any, "R D"]) -> Float[Any, ""]:
    """The root mean square norm of the rows that are not zero, energy/length.

    Zero are those of atoms that are constrained or touch nothing, and those that only fill up a
    batch.
    """
    xp = array_module(gradient)
    squares = squared_lengths(gradient)
    return xp.sqrt(xp.sum(squares) / xp.maximum(xp.sum(squares > 0.0, dtype=float), 1.0))
