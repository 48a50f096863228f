"""The base class of all potentials: site energies, and names and units of their parameters."""

import abc
import dataclasses
import difflib
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.particles.system import System, is_concrete
from mdsens.units import unit_name

#: One value for all species, a value per species (S,), or a symmetric table per pair (S, S).
Parameter: TypeAlias = Float[Array, "..."]


def parameter(
    dimension: str = "1",
    positive: bool = False,
    minimum: float | None = None,
    per: str = "pair",
    **field_options: Any,
) -> Any:
    """Declare a parameter of a potential: a float leaf that derivatives can be asked for.

    Arguments:
        dimension: physical dimension in powers of energy and length, e.g. ``"energy/length^3"``.
        positive: whether only values above zero are allowed.
        minimum: the smallest value allowed; None for no bound.
        per: ``"pair"`` if the parameter may be a table over pairs of species, ``"species"`` if it
            may also be one value per species, ``"all"`` if there is one value only.
        field_options: further options of ``equinox.field``, such as ``default``.

    Returns:
        The field, for use in the body of a Potential.
    """
    metadata = {
        "parameter": True,
        "dimension": dimension,
        "positive": positive,
        "minimum": minimum,
        "per": per,
    }
    return eqx.field(metadata=metadata, **field_options)


class Potential(eqx.Module):
    """An energy as a sum over atoms of functions of the atom's own edges.

    A potential is a pytree whose float leaves are its parameters. A subclass declares them with
    `parameter`, says how far it reaches (`cutoff`), and gives `site_energies`; forces, stress,
    Hessian and sensitivities follow for every potential alike.
    """

    #: Whether the site energy is half a sum over edges of a function that both ends agree on;
    #: the force on an atom is then read off its own edges alone.
    pairwise: ClassVar[bool] = False
    #: Whether particles only push one another, where they touch; a particle that too few others
    #: push is then a rattler, and its position means nothing.
    contact: ClassVar[bool] = False

    species: eqx.AbstractVar[tuple[str, ...] | None]

    @abc.abstractmethod
    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energy of each atom, from its own edges alone.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (C,), in units of energy.
        """

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

    @property
    @abc.abstractmethod
    def interaction_range(self) -> float | Float[Array, ""]:
        """Distance beyond which nothing interacts, in units of length."""

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The same for each pair of its S species; None where it is the same for all of them."""
        return None

    # Parameters by name ------------------------------------------------------------------------

    def __check_init__(self) -> None:
        for field in _parameter_fields(self):
            name, label = field.name, type(self).__name__
            value = self._checked_table(field)
            object.__setattr__(self, name, value)
            if not is_concrete(value):
                continue
            numbers, bound = np.asarray(value), field.metadata["minimum"]
            given = f"{label}: {name} = {numbers.tolist()}"
            if not np.isfinite(numbers).all():
                raise InputError(f"{given} is not finite: give numbers")
            if field.metadata["positive"] and (numbers <= 0).any():
                raise InputError(f"{given} is not allowed: give values above zero")
            if bound is not None and (numbers < bound).any():
                raise InputError(f"{given} is not allowed: give values of at least {bound}")
            if numbers.ndim == 2 and not np.array_equal(numbers, numbers.T):
                raise InputError(f"{given} is not symmetric: entries [A-B] and [B-A] must agree")

    def _checked_table(self, field: dataclasses.Field) -> Parameter:
        value, label = getattr(self, field.name), f"{type(self).__name__}: {field.name}"
        names = self.species
        if isinstance(value, Mapping):
            value = _table_from_names(value, names, label)
        # A copy: JAX may share the memory of a NumPy array that its owner goes on to change.
        value = jnp.array(value, dtype=jnp.float64)
        allowed: dict[str, tuple[int, ...]] = {"all": (0,), "pair": (0, 2), "species": (0, 1, 2)}
        if value.ndim not in allowed[field.metadata["per"]]:
            raise InputError(
                f"{label} has shape {value.shape}: one value"
                + ("" if field.metadata["per"] == "all" else " or a species-by-species table")
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
        return value

    @property
    def parameters(self) -> dict[str, float]:
        """Every parameter's name and value, e.g. ``{"sigma[Ar-Kr]": 3.5, ...}``."""
        return {
            name: float(np.asarray(getattr(self, field))[index])
            for name, (field, index) in self._entries().items()
        }

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters; a table has one per pair of species."""
        return tuple(self._entries())

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``."""
        field = self._entry(name)[0]
        return next(f for f in _parameter_fields(self) if f.name == field).metadata["dimension"]

    def parameter_units(self, name: str, units: str = "ase") -> str:
        """Unit of a parameter in a system of units, e.g. ``"eV"``."""
        return unit_name(self.parameter_dimension(name), units)

    def expand_parameter_names(self, names: str | list[str] | tuple[str, ...] | None) -> list[str]:
        """Resolve names such as ``"sigma"`` to single parameters; a table's name means all of it.

        Raises:
            InputError: there is no such parameter; the nearest match is named.
        """
        if names is None:
            return list(self.parameter_names)
        expanded: list[str] = []
        for name in [names] if isinstance(names, str) else names:
            of_field = [entry for entry, (field, _) in self._entries().items() if field == name]
            expanded += of_field or [self._canonical(name)]
        return list(dict.fromkeys(expanded))

    def direction(self, name: str) -> Self:
        """The unit tangent along one parameter: 1 in its entry (and its mirror), 0 elsewhere."""
        field, index = self._entry(name)
        zeros = jax.tree.map(jnp.zeros_like, self)
        unit = jnp.zeros_like(getattr(self, field)).at[index].set(1.0)
        unit = unit.at[index[::-1]].set(1.0)
        return eqx.tree_at(operator.attrgetter(field), zeros, unit)

    def with_parameters(self, values: Mapping[str, float | Float[Array, ""]]) -> Self:
        """This potential with some parameters changed, by name; checked as when first given."""
        changed = self
        for name, value in values.items():
            field, index = self._entry(name)
            leaf = getattr(changed, field).at[index].set(value).at[index[::-1]].set(value)
            changed = eqx.tree_at(operator.attrgetter(field), changed, leaf)
        changed.__check_init__()
        return changed

    def derivative(self, gradient: "Potential", name: str) -> Float[Array, ""]:
        """The derivative along one named parameter, from a derivative shaped like the potential."""
        products = jax.tree.map(lambda d, g: jnp.sum(d * g), self.direction(name), gradient)
        return sum(jax.tree.leaves(products), start=jnp.zeros(()))

    def _entries(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        entries: dict[str, tuple[str, tuple[int, ...]]] = {}
        for field in _parameter_fields(self):
            shape, names = getattr(self, field.name).shape, self.species or ()
            if len(shape) == 0:
                entries[field.name] = (field.name, ())
            elif len(shape) == 1:
                for i, first in enumerate(names):
                    entries[f"{field.name}[{first}]"] = (field.name, (i,))
            else:
                for i, first in enumerate(names):
                    for j in range(i, len(names)):
                        entries[f"{field.name}[{first}-{names[j]}]"] = (field.name, (i, j))
        return entries

    def _canonical(self, name: str) -> str:
        entries = self._entries()
        if name in entries:
            return name
        field, bracket, pair = name.partition("[")
        swapped = f"{field}[{'-'.join(reversed(pair.rstrip(']').split('-')))}]" if bracket else name
        if swapped in entries:
            return swapped
        near = difflib.get_close_matches(name, entries, 1, 0.0)
        raise InputError(
            f"{type(self).__name__} has no parameter {name!r}: allowed are {', '.join(entries)}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )

    def _entry(self, name: str) -> tuple[str, tuple[int, ...]]:
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
            return jnp.zeros_like(system.species)
        missing = [name for name in system.symbols if name not in self.species]
        if missing:
            raise InputError(
                f"{type(self).__name__} has no parameters for species {', '.join(missing)}: "
                f"it knows {', '.join(self.species)}"
            )
        order = jnp.asarray([self.species.index(name) for name in system.symbols], jnp.int32)
        return order[system.species]

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


def _parameter_fields(potential: Potential) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(potential) if field.metadata.get("parameter")]


def _table_from_names(
    values: Mapping[str, float], names: tuple[str, ...] | None, label: str
) -> np.ndarray:
    """A table over pairs of species (or a value per species) from names such as ``"Ar-Kr"``."""
    if names is None:
        raise InputError(f"{label} is a table: name its rows, as in species=('Ar', 'Kr')")
    single = all(key in names for key in values)
    table = np.full((len(names),) * (1 if single else 2), np.nan)
    for key, value in values.items():
        parts = (key,) if single else tuple(key.split("-"))
        if len(parts) != table.ndim or any(part not in names for part in parts):
            raise InputError(f"{label}: {key!r} is no pair of the species {', '.join(names)}")
        index = tuple(names.index(part) for part in parts)
        table[index] = table[index[::-1]] = value
    if np.isnan(table).any():
        first, *rest = np.argwhere(np.isnan(table))[0]
        missing = "-".join(names[index] for index in (first, *rest))
        raise InputError(f"{label} has no value for {missing}: give one")
    return table
