"""Parameters of a potential by their names: values, units, changes and directions."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.archive import Importable
from mdsens.arrays import in_numpy, on_device
from mdsens.digits import with_digits
from mdsens.errors import InputError
from mdsens.modules import Module
from mdsens.potentials.parameters import DIMENSIONS, Parameter, is_symmetric, parameter_fields
from mdsens.potentials.tables import (
    given_twice,
    names_of_entries,
    names_of_pairs,
    table_from_names,
)
from mdsens.summary import Summarised, Summary
from mdsens.units import unit_name
from mdsens.values import distinct_names, is_traced, listing, nearest, real_array, shown

#: Names of fields that are no parameters and yet lengths.
LENGTH_FIELDS = ("cutoff", "onset")


class NamedParameters(Summarised, Importable, Module):
    """A pytree whose float leaves are parameters with names and units.

    Each parameter is an entry of a table, which is a leaf; a subclass whose tables are no fields of
    its own says where they are.
    """

    #: Fields that hold names of species, and those that programs need not know.
    species_fields: ClassVar[tuple[str, ...]] = ("species",)
    told_fields: ClassVar[tuple[str, ...]] = ("header", "comments", "atoms")

    species: eqx.AbstractVar[tuple[str, ...] | None]

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

    def derivative(self, gradient: "NamedParameters", name: str) -> Float[Array, ""]:
        """The derivative along one named parameter, from a derivative shaped like the potential."""
        table, index = self._entry(name)
        leaf = in_numpy(gradient._table(table))
        return on_device(sum(leaf[place] for place in self._places(table, index)))

    # Where parameters are ----------------------------------------------------------------------

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
        raise InputError(
            f"{type(self).__name__} has no parameter {shown(name)}: allowed are "
            f"{listing(entries, 24)}{nearest(name, entries)}"
        )

    def _entry(self, name: str) -> tuple[Any, tuple[int, ...]]:
        return self._entries()[self._canonical(name)]


def _with_unit(value: float, dimension: str, units: str) -> str:
    unit = unit_name(dimension, units)
    return with_digits(value, most=10) + (f" {unit}" if unit != "1" else "")
