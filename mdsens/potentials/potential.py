"""The base class of all potentials: their energies, ranges and species."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.particles.edge_search import EdgeSearch
from mdsens.particles.edges import Edges
from mdsens.particles.system import System
from mdsens.potentials.edge_sums import along_rows, sum_of_products
from mdsens.potentials.named_parameters import NamedParameters
from mdsens.potentials.overlap_law import OverlapLaw
from mdsens.potentials.parameters import Parameter
from mdsens.values import is_traced

#: For formulas so long that XLA's emitters of fusions take half of the time to compile, without
#: which code is as fast.
LONG_FORMULAS = {"xla_cpu_use_fusion_emitters": False}
#: Skin of the edges as a fraction of the potential's range; and where particles only push, longer,
#: for it adds few edges, and to find them anew takes as long as 10 evaluations of the forces.
SKIN_FRACTION, CONTACT_SKIN_FRACTION = 0.1, 0.4
#: Pairs of edges whose second derivatives are computed at a time, each a component: 32 MiB.
AT_A_TIME = 2**22


class RadialDerivatives(NamedTuple):
    """Derivatives along edges, each of shape (K, C), in energy or density per length and square.

    The density is what the neighbour adds at the atom; that of the reverse, what the atom adds
    there.
    """

    pair_slope: Array
    pair_curvature: Array
    density_slope: Array
    density_curvature: Array
    reverse_density_slope: Array
    reverse_density_curvature: Array


class Potential(NamedParameters):
    """An energy as a sum over atoms of functions of the atom's own edges.

    A potential is a pytree whose float leaves are its parameters. A subclass declares them with
    `parameter`, says how far it reaches (`cutoff`), and gives `site_energies`; forces, stress,
    Hessian and sensitivities follow for every potential alike.
    """

    #: Whether the site energy is half a sum over edges of a function that both ends agree on;
    #: the force on an atom is then read off its own edges alone.
    pairwise: ClassVar[bool] = False
    #: Whether the site energy is half a sum over edges and an embedding in a density, another sum;
    #: `embedding_derivatives` and `radial_derivatives` then give its second derivatives.
    embedded: ClassVar[bool] = False
    #: Whether `site_densities` and `bond_slopes` give the forces of such an energy in two passes.
    in_two_passes: ClassVar[bool] = False
    #: Whether particles only push one another, where they touch; a particle that too few others
    #: push is then a rattler, and its position means nothing.
    contact: ClassVar[bool] = False
    #: Whether atoms interact along edges; if not, none are found or asked for energies.
    acts_along_edges: ClassVar[bool] = True
    #: Whether there is a `structure_energy`, beyond what `site_energies` know.
    of_structure: ClassVar[bool] = False
    #: Whether that is a sum over groups of a few atoms each, and `structure_blocks` tells of them.
    in_groups: ClassVar[bool] = False
    #: Whether the energy is the same wherever the whole system is.
    invariant: ClassVar[bool] = True
    #: Whether it is then also the same however the system is turned.
    isotropic: ClassVar[bool] = True
    #: Whether each product with the Hessian calls something slow, of which few calls are wanted.
    made_by_calls: ClassVar[bool] = False
    #: Whether the Hessian takes as long as tens of evaluations of the forces.
    dear_hessian: ClassVar[bool] = False

    #: Options that XLA compiles programs of this potential with, beside those of all.
    compiler_options: ClassVar[Mapping[str, Any]] = {}

    species: eqx.AbstractVar[tuple[str, ...] | None]

    @abc.abstractmethod
    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energy of each atom, from its own edges alone.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (C,), in units of energy.
        """

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"] | None:
        """Energy that each atom has by itself, whatever is around it; here there is none.

        Arguments:
            species: shape (N,), species index of each atom.

        Returns:
            Shape (N,), in units of energy; None where atoms have none.
        """
        return None

    def evaluated_in(self, system: System) -> Self:
        """This potential with what `structure_energy` needs of a system beside its arguments.

        Unlike `in_system`, at each evaluation, where JAX may trace the system.

        Arguments:
            system: the atoms.

        Returns:
            The potential, for this evaluation alone; here itself.
        """
        return self

    def check_use(self, system: System, cell: Any) -> None:
        """Raise InputError where a system cannot relax in this potential; here it can.

        Arguments:
            system: the atoms.
            cell: what of the cell relaxes, or None.
        """

    @property
    def calls(self) -> int:
        """How often something slow was called for forces; here there is nothing."""
        return 0

    @property
    def force_noise(self) -> float:
        """Error of a component of a force beyond rounding, energy/length; here there is none."""
        return 0.0

    @property
    def parameter_error(self) -> float:
        """Relative error of derivatives of forces in a parameter; here there is none."""
        return 0.0

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """Energy beyond that of edges, of a potential that is `of_structure`.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            The energy.

        Raises:
            NotImplementedError: there is none.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no structure_energy")

    def structure_mechanics(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
        """The same with forces and virial, by differentiation.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            Energy; forces, shape (N, D), energy/length; virial dE/d(strain), shape (D, D), energy.
        """

        def strained(positions: Array, strain: Array) -> Float[Array, ""]:
            deformation = jnp.eye(len(strain)) + strain
            return self.structure_energy(positions @ deformation, cell @ deformation, species)

        value_and_gradients = jax.value_and_grad(strained, argnums=(0, 1))
        energy, (gradient, virial) = value_and_gradients(positions, jnp.zeros_like(cell))
        return energy, -gradient, virial

    def structure_blocks(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> list[tuple[Float[Array, "T n n D D"], Int[Array, "T n"]]]:
        """Second derivatives of the terms of a structure's energy that is `in_groups`.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            For each kind of group the second derivatives of its T terms in the positions of its n
            atoms, energy/length^2, and the indices of these atoms.

        Raises:
            NotImplementedError: there are no groups.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no structure_blocks")

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Energy of each atom and its derivative with respect to the atom's own edge vectors.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Energies, shape (C,), and D components of gradients, each (K, C), in energy/length.
        """

        def energies(vectors: tuple[Array, ...]) -> tuple[Array, Array]:
            per_site = self.site_energies(edges.with_vectors(vectors))
            return jnp.sum(per_site), per_site

        gradients, per_site = jax.grad(energies, has_aux=True)(edges.vectors)
        return per_site, gradients

    def site_energies_and_weights(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], Float[Array, "K C"]]:
        """Energy of each atom, and phi'/r of each edge, which forces along it are made of.

        Of a `pairwise` potential that is `invariant`: half of each phi(r) is the atom's own.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Energies, shape (C,); weights, shape (K, C), in energy/length^2, zero where there is
            no edge.
        """
        energies, gradients = self.site_energies_and_gradients(edges)
        along = sum(g * r for g, r in zip(gradients, edges.vectors, strict=True))
        square = sum(component * component for component in edges.vectors)
        return energies, jnp.asarray(2.0 * along / square)

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """Second derivatives of each site energy with respect to the atom's own edge vectors.

        By differentiation of the gradients, one edge and component after another; what a faster
        closed form gives in its place has to be symmetric.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (C, K, K, D, D), in energy/length^2; zero where there is no edge.
        """
        (slots, atoms), dimension = edges.mask.shape, len(edges.vectors)
        if self.pairwise:
            # Half of a pair's energy is the atom's own, and no edge knows of another.
            own = jnp.stack([jnp.stack(row) for row in self.edge_hessians(edges)])
            each = 0.5 * own.transpose(3, 2, 0, 1)[:, :, None]
            return each * jnp.eye(slots)[None, :, :, None, None]

        def column(slot: Array, axis: Array) -> Float[Array, "D K C"]:
            unit = jnp.zeros((dimension, slots, atoms)).at[axis, slot].set(1.0)
            return jnp.stack(self._change_of_gradients(edges, tuple(unit)))

        def columns(slot: Array) -> Float[Array, "D D K C"]:
            return jax.vmap(column, (None, 0))(slot, jnp.arange(dimension))

        # Of few atoms many slots at a time: a loop takes longer than what it does.
        some = max(1, min(slots, AT_A_TIME // max(1, dimension * slots * slots * atoms)))
        rounds = -(-slots // some)
        places = jnp.minimum(jnp.arange(rounds * some), slots - 1).reshape(rounds, some)
        found = jax.lax.map(jax.vmap(columns), places).reshape(-1, *2 * (dimension,), slots, atoms)
        matrix = found[:slots].transpose(4, 0, 3, 1, 2)
        matrix = jnp.where(edges.mask.T[:, :, None, None, None], matrix, 0.0)
        matrix = jnp.where(edges.mask.T[:, None, :, None, None], matrix, 0.0)
        return (matrix + matrix.transpose(0, 2, 1, 4, 3)) / 2

    def second_variations(
        self, edges: Edges, changes: tuple[Float[Array, "K V C"], ...]
    ) -> Float[Array, "V V"]:
        """Second derivatives of the sum of site energies along V changes of the edge vectors.

        By differentiation of the gradients along one change after another.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.
            changes: D components of V changes, each (K, V, C), in units of length; zero where
                there is no edge.

        Returns:
            Shape (V, V), in units of energy.
        """
        if self.pairwise:
            # Half of a pair's energy is the atom's own, and no edge knows of another.
            return 0.5 * along_rows(self.edge_hessians(edges), changes)

        each = tuple(jnp.moveaxis(change, 1, 0) for change in changes)
        pushed = jax.lax.map(lambda change: self._change_of_gradients(edges, change), each)
        return sum_of_products(each, pushed, ((1, 2), (1, 2)))

    def edge_hessians(self, edges: Edges) -> list[list[Float[Array, "K C"]]]:
        """Second derivatives of each edge's whole pair energy with respect to its vector.

        Of a `pairwise` potential, in which no edge's gradient depends on another edge.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            D rows of D components, each (K, C), energy/length^2; zero where there is no edge.
        """
        ones, zeros = jnp.ones(edges.mask.shape), jnp.zeros(edges.mask.shape)
        axes = range(len(edges.vectors))
        columns = [
            self._change_of_gradients(edges, tuple(ones if i == j else zeros for i in axes))
            for j in axes
        ]
        return [[jnp.where(edges.mask, 2.0 * columns[j][i], 0.0) for j in axes] for i in axes]

    def site_densities(self, edges: Edges) -> Float[Array, " C"]:
        """Density around each atom of a potential that is `in_two_passes`, a sum over its edges.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (C,).

        Raises:
            NotImplementedError: the potential has no densities.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no site_densities")

    def embedding(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """F and F' of each atom in a density, of a potential that is `in_two_passes`.

        Arguments:
            density: shape (C,).
            species: shape (C,), species index of each atom.

        Returns:
            Shape (C,) each, energy and energy per density.

        Raises:
            NotImplementedError: the potential has no densities.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no embedding")

    def bond_slopes(
        self, edges: Edges, here: Float[Array, " C"], there: Float[Array, "K C"]
    ) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
        """Pair energies, and slopes of the whole energy along each edge, of both of its ends.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.
            here: F' of the atoms, energy per density.
            there: F' of their neighbours.

        Returns:
            Shape (K, C) each, energy and energy/length, zero where there is no edge.

        Raises:
            NotImplementedError: the potential has no densities.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no bond_slopes")

    def embedding_derivatives(self, edges: Edges) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """F' and F'' of each atom of an `embedded` potential.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (C,) each, in energy per density and its square.

        Raises:
            NotImplementedError: the potential is not embedded.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no embedding_derivatives")

    def radial_derivatives(self, edges: Edges) -> "RadialDerivatives":
        """Slopes and curvatures of the pair energy and the density of an `embedded` potential.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Those along each edge, zero where there is none.

        Raises:
            NotImplementedError: the potential is not embedded.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no radial_derivatives")

    def __add__(self, other: "Potential") -> "Potential":
        """The sum with another potential."""
        from mdsens.potentials.combined import sum_of

        return sum_of(self, other) if isinstance(other, Potential) else NotImplemented

    def __rmul__(self, scale: Any) -> "Potential":
        """A multiple of this potential."""
        from mdsens.potentials.combined import ScaledPotential

        return ScaledPotential(scale, self)

    def _change_of_gradients(
        self, edges: Edges, tangents: tuple[Float[Array, "K C"], ...]
    ) -> tuple[Float[Array, "K C"], ...]:
        def gradients(vectors: tuple[Array, ...]) -> tuple[Array, ...]:
            return self.site_energies_and_gradients(edges.with_vectors(vectors))[1]

        return jax.jvp(gradients, (edges.vectors,), (tangents,))[1]

    @property
    @abc.abstractmethod
    def interaction_range(self) -> float | Float[Array, ""]:
        """Distance beyond which nothing interacts along edges; a natural length without edges."""

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The same for each pair of its S species; None where it is the same for all of them."""
        return None

    @property
    def switch_interval(self) -> tuple[Any, Any] | None:
        """Onset and cutoff of a smooth switch, in units of length; None where there is none.

        Two numbers, or numbers and tables over pairs of its S species, (S, S).
        """
        return None

    @property
    def overlap_law(self) -> OverlapLaw | None:
        """The whole energy, where it is that of pairs by a power of their overlap; else None.

        Compiled loops of the host then relax large packings; what differentiates does not use it.
        """
        return None

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Distances of pairs at which some derivative of the energy jumps, in units of length.

        M for all pairs, or M for each pair of its S species. Finite differences are kept from
        crossing them; by default the one where the interaction ends.
        """
        if not self.acts_along_edges:
            return jnp.zeros(0)
        ranges = self.pair_ranges
        return jnp.reshape(self.interaction_range, (1,)) if ranges is None else ranges[None]

    def edge_search(self, system: System, skin: float | Array | None = None) -> EdgeSearch:
        """How the edges of a system are found, as far as this potential needs them.

        Arguments:
            system: N atoms.
            skin: length by which edges reach beyond the range; None: a fraction of the range.

        Returns:
            The EdgeSearch.
        """
        if not self.acts_along_edges:
            return EdgeSearch(system.pbc, 0.0, np.inf, with_reverse=False)
        # What JAX does not trace must stay known: room for edges is made by it.
        lengths = _ranges if is_traced(self) else _compiled_ranges
        reach, ranges, usual = lengths(self)
        return EdgeSearch(
            system.pbc,
            reach,
            usual if skin is None else skin,
            ranges,
            None if ranges is None else self.species_index(system),
            with_reverse=not self.pairwise,
            by_slots=self.pairwise or self.in_two_passes,
        )

    # Species -----------------------------------------------------------------------------------

    def species_index(self, system: System) -> Int[Array, " N"]:
        """Index of each atom's species in this potential's tables.

        Arguments:
            system: the atoms.

        Returns:
            Shape (N,); all zero where the potential treats every species alike.

        Raises:
            InputError: the system has a species that the potential has no parameters for.
        """
        if self.species is None:
            return on_device(np.zeros(system.species.shape, system.species.dtype))
        missing = [name for name in system.symbols if name not in self.species]
        if missing:
            raise InputError(
                f"{type(self).__name__} has no parameters for species {', '.join(missing)}: "
                f"it knows {', '.join(self.species)}"
            )
        order = np.array([self.species.index(name) for name in system.symbols], np.int32)
        if not is_traced(system.species):
            return on_device(order[np.asarray(system.species)])
        return on_device(order)[system.species]

    def in_system(self, system: System) -> Self:
        """This potential as it acts in a system, of which it may have to find something out.

        Arguments:
            system: where it is to act.

        Returns:
            The same parameters, perhaps with other settings.

        Raises:
            InputError: it cannot act there.
        """
        self.species_index(system)
        return self

    def per_pair(self, edges: Edges) -> Self:
        """This potential with every table replaced by the value for each edge, shape (K, C)."""

        def value(leaf: Parameter) -> Parameter:
            if leaf.ndim != 2:
                return leaf
            symmetric = (leaf + leaf.T) / 2
            if leaf.shape[0] == 1:
                return symmetric[0, 0]
            return looked_up(symmetric, edges.species[None, :], edges.neighbor_species)

        return jax.tree.map(value, self)


#: Species up to which an entry of a table is chosen among all, and not looked up.
FEW_SPECIES = 3


def looked_up(table: Float[Array, "..."], *indices: Int[Array, "..."]) -> Float[Array, "..."]:
    """The entries of a table of few species, or of many, with these indices.

    A processor compares many numbers at a time, and looks up one after the other (measured on discs
    of two sizes: a quarter of the time of the forces).

    Arguments:
        table: an axis for each index.
        indices: in range, of shapes that go together.

    Returns:
        Of the shape that the indices have together.
    """
    if len(table) > FEW_SPECIES:
        return table[indices]
    first, *others = indices
    rows = [looked_up(row, *others) if others else row for row in table]
    found = rows[0]
    for index in range(1, len(rows)):
        found = jnp.where(first == index, rows[index], found)
    shape = jnp.broadcast_shapes(*(index.shape for index in indices))
    return jnp.broadcast_to(found, shape)


def _ranges(potential: Potential) -> tuple[Any, Array | None, Any]:
    """The range of a potential, those of pairs of species, and the usual skin, lengths."""
    reach = potential.interaction_range
    fraction = CONTACT_SKIN_FRACTION if potential.contact else SKIN_FRACTION
    return reach, potential.pair_ranges, fraction * reach


_compiled_ranges = compiled(_ranges)
