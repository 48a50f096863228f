"""Trees without the names of species, so that one program serves all elements alike.

What a program computes follows from numbers: a name decides only which row of a table an atom has,
and the order of names tells that as well. Code that asks a name for more than whether it is another
name, as the mass of an element does, fails with the names that stand for them here, and is compiled
for the species that it has.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax

T = TypeVar("T")


@runtime_checkable
class HasNames(Protocol):
    """A module of which some static fields are names.

    Attributes:
        species_fields: those that hold names of species, or None.
        told_fields: those that are only told, and decide nothing.
    """

    species_fields: ClassVar[tuple[str, ...]]
    told_fields: ClassVar[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Name:
    """Stands for a name, of which it is known which one it is, and not what it says."""

    number: int

    #: What looks a name up in a table has to know what it says.
    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise TypeError("what this name says is part of no program")


def nameless(tree: T) -> tuple[T, tuple[Any, ...]]:
    """A tree without names.

    Arguments:
        tree: a pytree of modules of this package.

    Returns:
        The tree with a `Name` in the place of each name; and what these say, in their order.
    """
    numbers: dict[str, Name] = {}
    said: list[Any] = []

    def numbered(value: Any) -> Name:
        said.append(value)
        return Name(len(said) - 1)

    def name_of(species: str) -> Name:
        if species not in numbers:
            numbers[species] = numbered(species)
        return numbers[species]

    tree = _copied(tree)
    for module in _modules_with_names(tree):
        own = {field.name for field in dataclasses.fields(module)}
        for field in own.intersection(module.species_fields):
            species = getattr(module, field)
            if species is not None:
                object.__setattr__(module, field, tuple(map(name_of, species)))
        for field in module.told_fields:
            if field in own:
                object.__setattr__(module, field, numbered(getattr(module, field)))
    return tree, tuple(said)


def named(tree: T, said: tuple[Any, ...]) -> T:
    """The same with its names again.

    Arguments:
        tree: a tree with names from `nameless`.
        said: what they say.

    Returns:
        The tree.
    """
    if not said:
        return tree
    tree = _copied(tree)
    for module in _modules_with_names(tree):
        for field in (*module.species_fields, *module.told_fields):
            value = vars(module).get(field)
            if isinstance(value, Name):
                object.__setattr__(module, field, said[value.number])
            elif isinstance(value, tuple) and any(isinstance(one, Name) for one in value):
                names = tuple(said[one.number] for one in value)
                object.__setattr__(module, field, names)
    return tree


def _copied(tree: T) -> T:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, leaves)


def _modules_with_names(tree: Any) -> Iterator[Any]:
    """Modules with names anywhere in a tree, always in the same order."""

    def inside(part: Any) -> bool:
        return part is not tree and isinstance(part, eqx.Module)

    if isinstance(tree, eqx.Module) and isinstance(tree, HasNames):
        yield tree
    for part in jax.tree.leaves(tree, is_leaf=inside):
        if inside(part):
            yield from _modules_with_names(part)
