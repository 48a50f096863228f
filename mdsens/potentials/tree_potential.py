"""Potentials whose parameters are the leaves of a pytree of any kind."""

from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from mdsens.errors import InputError
from mdsens.potentials.parameter_tree import (
    Constants,
    check_finite,
    entries_of,
    is_within,
    leaf_names,
    parameters_and_constants,
)
from mdsens.potentials.potential import Potential
from mdsens.summary import Summary
from mdsens.units import UNKNOWN, powers, unit_name
from mdsens.values import is_traced, nearest, shown

#: Up to so many numbers are told one by one; of more, each array in a line.
MOST_TOLD = 24


class TreePotential(Potential):
    """A potential whose parameters stand in a tree, and are called by their paths there.

    Attributes:
        tree: the parameters, arrays of double precision, with None in the place of each constant.
        constants: whatever else the tree holds.
        dimensions: names of parameters, or of parts of the tree, and their physical dimensions.
        name: what messages and reports call the energy.
        species: names of species, where the energy tells them apart.
    """

    tree: PyTree
    constants: Constants = eqx.field(static=True)
    dimensions: tuple[tuple[str, str], ...] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    species: tuple[str, ...] | None = eqx.field(static=True)

    def _set(self, name: str, parameters: PyTree, dimensions: Any, species: Any) -> None:
        """Set all fields from what a user gives."""
        self.name, self.species = name, species
        self.tree, self.constants = parameters_and_constants(parameters, self._title)
        if not isinstance(dimensions, (Mapping, type(None))):
            raise InputError(f"dimensions = {shown(dimensions)}: give a dict of names and texts")
        self.dimensions = tuple((dimensions or {}).items())

    def __check_init__(self) -> None:
        names = leaf_names(self.tree)
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(
                f"{self._title}: two parameters would be called {twice[0]!r}: give them other names"
            )
        for whole, dimension in self.dimensions:
            if not any(is_within(name, str(whole)) for name in names):
                raise InputError(
                    f"{self._title}: dimensions: there is no parameter {shown(whole)}"
                    f"{nearest(whole, names)}; allowed are {', '.join(names[:MOST_TOLD])}"
                )
            powers(dimension)
        check_finite(self.tree, self._title)

    @property
    def _title(self) -> str:
        return f"{type(self).__name__} {self.name}"

    @property
    def parameter_tree(self) -> PyTree:
        """The parameters and constants in the tree that they were given in."""
        return eqx.combine(self.tree, self.constants.tree())

    def _with(self, **fields: Any) -> Self:
        """The same with other values of some fields that are no parameters."""
        leaves, structure = jax.tree.flatten(self)
        other = jax.tree.unflatten(structure, leaves)
        for field, value in fields.items():
            object.__setattr__(other, field, value)
        return other

    # Parameters by name ------------------------------------------------------------------------

    def _entries(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        shapes = tuple(np.shape(leaf) for leaf in jax.tree.leaves(self.tree))
        return entries_of(leaf_names(self.tree), shapes)

    def _table(self, table: Any) -> Any:
        return jax.tree.leaves(self.tree)[leaf_names(self.tree).index(table)]

    def _places(self, table: Any, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {index}

    def _label(self, table: Any) -> str:
        return self._title

    def _named(self, name: str) -> list[str]:
        found = [entry for entry in self._entries() if is_within(entry, name)]
        return [] if found == [name] else found

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``; ``"unknown"`` if nobody said."""
        table, _ = self._entry(name)
        found = [one for whole, one in self.dimensions if is_within(table, whole)]
        return found[-1] if found else UNKNOWN

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of parameters with values and units as text; arrays of many in a line each.

        Arguments:
            units: ``"ase"`` or ``"reduced"``.

        Returns:
            E.g. ``[("k", "2 eV/Ang^2"), ("layers[0].weight", "64 by 8 numbers, unknown unit")]``.
        """
        if len(self._entries()) <= MOST_TOLD:
            return super().described_parameters(units)
        described = []
        for name, leaf in zip(leaf_names(self.tree), jax.tree.leaves(self.tree), strict=True):
            size = " by ".join(map(str, leaf.shape)) or "one"
            first = next(one for one, (table, _) in self._entries().items() if table == name)
            unit = unit_name(self.parameter_dimension(first), units)
            described.append((name, f"{size} number{'s' if leaf.shape else ''}, {unit}"))
        return described + self._settings(units)

    def _settings(self, units: str) -> list[tuple[str, str]]:
        return [] if self.species is None else [("species", shown(self.species))]

    def _summary(self) -> Summary | None:
        leaves = jax.tree.leaves(self.tree)
        if is_traced(leaves) or not all(isinstance(one, (jax.Array, np.ndarray)) for one in leaves):
            return None
        title = f"{type(self).__name__} (in eV and Ang, or all in reduced units)"
        return Summary(title, self.described_parameters())
