"""The base class of all potentials: site energies, and names and units of their parameters."""

import abc
import dataclasses
import difflib
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.archive import Importable
from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.digits import with_digits
from mdsens.errors import InputError
from mdsens.particles.edge_search import EdgeSearch
from mdsens.particles.edges import Edges
from mdsens.particles.system import System
from mdsens.potentials.parameters import DIMENSIONS, Parameter, is_symmetric, parameter_fields
from mdsens.potentials.tables import (
    given_twice,
    names_of_entries,
    names_of_pairs,
    table_from_names,
)
from mdsens.summary import Summarised, Summary
from mdsens.units import unit_name
from mdsens.values import distinct_names, is_traced, listing, real_array, shown

#: Names of fields that are no parameters and yet lengths.
LENGTH_FIELDS = ("cutoff", "onset")
#: Skin of the edges as a fraction of the potential's range; and where particles only push, longer,
#: for it adds few edges (measured on discs: a tenth less time).
SKIN_FRACTION, CONTACT_SKIN_FRACTION = 0.1, 0.15


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


class Potential(Summarised, Importable, eqx.Module):
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
    #: Whether particles only push one another, where they touch; a particle that too few others
    #: push is then a rattler, and its position means nothing.
    contact: ClassVar[bool] = False
    #: Whether atoms interact along edges; if not, none are found or asked for energies.
    acts_along_edges: ClassVar[bool] = True
    #: Whether there is a `structure_energy`, beyond what `site_energies` know.
    of_structure: ClassVar[bool] = False
    #: Whether that is a sum over groups of a few atoms each, and `structure_blocks` tells of them.
    in_groups: ClassVar[bool] = False
    #: Whether the energy is the same wherever the whole system is, and however it is turned.
    invariant: ClassVar[bool] = True
    #: Whether each product with the Hessian calls something slow, of which few calls are wanted.
    made_by_calls: ClassVar[bool] = False

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

        matrix = jax.lax.map(columns, jnp.arange(slots)).transpose(4, 0, 3, 1, 2)
        matrix = jnp.where(edges.mask.T[:, :, None, None, None], matrix, 0.0)
        matrix = jnp.where(edges.mask.T[:, None, :, None, None], matrix, 0.0)
        return (matrix + matrix.transpose(0, 2, 1, 4, 3)) / 2

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
        )

    # Parameters by name ------------------------------------------------------------------------

    def check_relations(self) -> None:
        """Raise InputError where values do not go together that are each allowed.

        Called when a potential is made or its parameters are changed, after each value has been
        checked. A subclass extends it, and asks `mdsens.values.is_traced` before it reads numbers:
        JAX may be tracing them.
        """

    def __check_init__(self) -> None:
        label = type(self).__name__
        if self.species is not None:
            names = distinct_names(self.species, f"{label}: species")
            # A property, as of a potential that wraps another, is what it is.
            if any(field.name == "species" for field in dataclasses.fields(self)):
                object.__setattr__(self, "species", names)
            names_of_pairs(names, label)
        for field in parameter_fields(self):
            object.__setattr__(self, field.name, self._checked_table(field))
        self._check_settings()
        self.check_relations()

    def _check_settings(self) -> None:
        """Raise InputError where a setting does not go with the parameters' values."""

    def _checked_table(self, field: dataclasses.Field[Any]) -> Parameter:
        value, label = getattr(self, field.name), f"{type(self).__name__}: {field.name}"
        names = self.species
        if field.metadata["per"] == "coefficient":
            return self._checked_rows(value, label)
        if isinstance(value, Mapping):
            value = table_from_names(value, names, label, field.metadata["per"])
        value = real_array(value, label, **field.metadata["bounds"])
        dimensions = DIMENSIONS[field.metadata["per"]]
        if value.ndim not in dimensions:
            table = "-by-".join(["species"] * dimensions[-1])
            allowed = {0: "", 1: " or one for each species"}
            raise InputError(
                f"{label} has shape {value.shape}: one value"
                + allowed.get(dimensions[-1], f" or a {table} table")
                + " is allowed"
            )
        if value.ndim:
            if names is None:
                raise InputError(f"{label} is a table: name its rows, as in species=('Ar', 'Kr')")
            if value.shape != (len(names),) * value.ndim:
                raise InputError(
                    f"{label} has shape {value.shape}: allowed for species {names} is "
                    f"{(len(names),) * value.ndim}"
                )
        mirrored = value.ndim == 2 and is_symmetric(field) and not is_traced(value)
        if mirrored and not np.array_equal(value, value.T):
            raise InputError(
                f"{label} = {shown(value.tolist())} is not symmetric: entries [A-B] and [B-A] must "
                "agree"
            )
        return on_device(value)

    def _checked_rows(self, value: Any, label: str) -> Parameter:
        """A row of numbers for each species, whose count is the potential's to check."""
        if self.species is None:
            raise InputError(f"{label} is a table: name its rows, as in species=('W', 'Be')")
        rows = real_array(value, label)
        if rows.ndim != 2 or len(rows) != len(self.species):
            raise InputError(
                f"{label} has shape {rows.shape}: allowed for species {self.species} is "
                f"({len(self.species)}, count), a row of numbers for each"
            )
        return on_device(rows)

    @property
    def parameters(self) -> dict[str, float]:
        """Every parameter's name and value, e.g. ``{"sigma[Ar-Kr]": 3.5, ...}``."""
        entries = self._entries()
        tables = {table: np.asarray(self._table(table)) for table, _ in entries.values()}
        return {name: float(tables[table][index]) for name, (table, index) in entries.items()}

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters; a table has one per pair of species."""
        return tuple(self._entries())

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``."""
        field = self._entry(name)[0]
        return next(f for f in parameter_fields(self) if f.name == field).metadata["dimension"]

    def parameter_units(self, name: str, units: str = "ase") -> str:
        """Unit of a parameter in a system of units, e.g. ``"eV"``."""
        return unit_name(self.parameter_dimension(name), units)

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of parameters, and of other lengths and settings, with values and units as text.

        Arguments:
            units: ``"ase"`` or ``"reduced"``.

        Returns:
            E.g. ``[("sigma", "3.405 Ang"), ("cutoff", "8.5 Ang")]``.
        """
        described = [
            (name, _with_unit(value, self.parameter_dimension(name), units))
            for name, value in self.parameters.items()
        ]
        return described + self._settings(units)

    def _settings(self, units: str) -> list[tuple[str, str]]:
        """What there is beside parameters, by name and as text."""
        settings: list[tuple[str, str]] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("parameter") or value is None:
                continue
            if field.name == "header":
                settings += [(key.lower(), text) for key, text in value]
                continue
            text = shown(value)
            if field.name in LENGTH_FIELDS and isinstance(value, str):
                text = value
            elif field.name in LENGTH_FIELDS and isinstance(value, float):
                text = _with_unit(value, "length", units)
            settings.append((field.name, text))
        return settings

    def _summary(self) -> Summary | None:
        shape = () if self.species is None else (len(self.species),)
        for field in parameter_fields(self):
            leaf = getattr(self, field.name, None)
            if is_traced(leaf) or not isinstance(leaf, (jax.Array, np.ndarray)):
                return None
            if field.metadata["per"] == "coefficient":
                continue
            if leaf.shape not in ((), shape, shape * 2, shape * 3):
                return None
        # A potential does not know the units of the systems that it will act in.
        title = f"{type(self).__name__} (in eV and Ang, or all in reduced units)"
        return Summary(title, self.described_parameters())

    def expand_parameter_names(self, names: str | list[str] | tuple[str, ...] | None) -> list[str]:
        """Resolve names such as ``"sigma"`` to single parameters; a table's name means all of it.

        Raises:
            InputError: there is no such parameter; the nearest match is named.
        """
        if names is None:
            return list(self.parameter_names)
        expanded: list[str] = []
        for name in distinct_names(names, "names"):
            expanded += self._named(name) or [self._canonical(name)]
        return list(dict.fromkeys(expanded))

    def direction(self, name: str) -> Self:
        """The unit tangent along one parameter: 1 in its entry (and its mirror), 0 elsewhere."""
        table, index = self._entry(name)
        zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), jnp.result_type(leaf)), self)
        unit = zeros._table(table)
        for place in self._places(table, index):
            unit[place] = 1.0
        return zeros

    def with_parameters(self, values: Mapping[str, float | Float[Array, ""]]) -> Self:
        """This potential with some parameters changed, by name; checked as when first given.

        Arguments:
            values: a number for each name, such as ``"sigma"`` or ``"sigma[Ar-Kr]"``.

        Returns:
            The potential.

        Raises:
            InputError: there is no such parameter, one is named twice, or its value is not allowed.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"values = {shown(values)}: give a dict of names and numbers")
        changed, given = self, dict[tuple[Any, ...], str]()
        for name, value in values.items():
            table, index = self._entry(name)
            label = self._label(table)
            if (table, index) in given:
                raise InputError(given_twice(label, given[table, index], name))
            given[table, index] = name
            number = real_array(value, f"{label}: {name}", ())
            leaf = changed._table(table)
            for place in self._places(table, index):
                leaf = leaf.at[place].set(number)
            changed = eqx.tree_at(operator.methodcaller("_table", table), changed, leaf)
        changed._check({table for table, _ in given})
        return changed

    def derivative(self, gradient: "Potential", name: str) -> Float[Array, ""]:
        """The derivative along one named parameter, from a derivative shaped like the potential."""
        table, index = self._entry(name)
        leaf = in_numpy(gradient._table(table))
        return on_device(sum(leaf[place] for place in self._places(table, index)))

    # Where parameters are: each has a name, and is an entry of a table, which is a leaf. A subclass
    # whose tables are no fields of its own says where they are.

    def _entries(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """The table and the index of each parameter by its name."""
        entries: dict[str, tuple[Any, tuple[int, ...]]] = {}
        for field in parameter_fields(self):
            shape, names = getattr(self, field.name).shape, self.species or ()
            if len(shape) == 0:
                entries[field.name] = (field.name, ())
            elif field.metadata["per"] == "coefficient":
                for row, number in np.ndindex(shape):
                    entries[f"{field.name}[{names[row]},{number}]"] = (field.name, (row, number))
            elif not is_symmetric(field):
                for entry, place in names_of_entries(names, len(shape)).items():
                    entries[f"{field.name}[{entry}]"] = (field.name, place)
            elif len(shape) == 1:
                for i, first in enumerate(names):
                    entries[f"{field.name}[{first}]"] = (field.name, (i,))
            else:
                for i, first in enumerate(names):
                    for j in range(i, len(names)):
                        entries[f"{field.name}[{first}-{names[j]}]"] = (field.name, (i, j))
        return entries

    def _table(self, table: Any) -> Any:
        """The leaf that a table is, of this potential or of a tree that is shaped like it."""
        return getattr(self, table)

    def _places(self, table: Any, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        """All places in a parameter's table that one entry stands in."""
        symmetric = any(is_symmetric(f) for f in parameter_fields(self) if f.name == table)
        return {index, index[::-1]} if symmetric else {index}

    def _label(self, table: Any) -> str:
        """What messages call the potential that a table is of."""
        return type(self).__name__

    def _check(self, tables: set[Any]) -> None:
        """Check the values of a potential of which some tables were changed, as when it is made."""
        # As equinox does when a module is made: not one class's checks alone.
        for kind in type(self).__mro__:
            if "__check_init__" in vars(kind):
                vars(kind)["__check_init__"](self)

    def _named(self, name: str) -> list[str]:
        """The parameters of a table by its name; none where no table is called so."""
        return [entry for entry, (table, _) in self._entries().items() if table == name]

    def _canonical(self, name: str) -> str:
        entries = self._entries()
        if isinstance(name, str) and name in entries:
            return name
        for entry, (field, index) in entries.items():
            if self.species is not None and len(index) > 1 and len(self._places(field, index)) > 1:
                first, second = (self.species[i] for i in index[:2])
                rest = "".join(f",{i}" for i in index[2:])
                if name == f"{field}[{second}-{first}{rest}]":
                    return entry
        near = difflib.get_close_matches(str(name), entries, 1, 0.0)
        raise InputError(
            f"{type(self).__name__} has no parameter {shown(name)}: allowed are "
            f"{listing(entries, 24)}" + (f"; did you mean {near[0]!r}?" if near else "")
        )

    def _entry(self, name: str) -> tuple[Any, tuple[int, ...]]:
        return self._entries()[self._canonical(name)]

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
            return symmetric[edges.species[None, :], edges.neighbor_species]

        return jax.tree.map(value, self)


def _with_unit(value: float, dimension: str, units: str) -> str:
    unit = unit_name(dimension, units)
    return with_digits(value, most=10) + (f" {unit}" if unit != "1" else "")


def _ranges(potential: Potential) -> tuple[Any, Array | None, Any]:
    """The range of a potential, those of pairs of species, and the usual skin, lengths."""
    reach = potential.interaction_range
    fraction = CONTACT_SKIN_FRACTION if potential.contact else SKIN_FRACTION
    return reach, potential.pair_ranges, fraction * reach


_compiled_ranges = compiled(_ranges)
