"""Parameters in a pytree of any kind: which leaves are numbers to differentiate by; names.

A name is the path to a leaf as one would write it in Python, and the place in an array:
``"k"``, ``"layers[0].weight[1,2]"``.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.values import is_traced, shown

#: What a parameter is called that is the whole tree.
ALONE = "parameter"


class Constants:
    """The leaves of a tree that are no parameters: part of the program, and compared by value.

    Arguments:
        tree: a tree with None in the place of each parameter.
        label: whose they are, for messages.

    Raises:
        InputError: a leaf that cannot be compared.
    """

    def __init__(self, tree: PyTree, label: str) -> None:
        self.label = label
        self.leaves, self.structure = jax.tree.flatten(tree)
        self.leaves = [
            np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf for leaf in self.leaves
        ]
        try:
            self._key = (self.structure, *map(_key, self.leaves))
            self._hash = hash(self._key)
        except TypeError as error:
            raise InputError(
                f"{label}: parameters hold something that cannot be compared ({error}): give a "
                "tree of numbers and arrays"
            ) from None

    def tree(self) -> PyTree:
        """The tree, with None in the place of each parameter."""
        return jax.tree.unflatten(self.structure, self.leaves)

    def __getstate__(self) -> dict[str, Any]:
        return {"tree": self.tree(), "label": self.label}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constants) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash


def _key(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf.shape, leaf.dtype.str, leaf.tobytes()
    return type(leaf), leaf


def parameters_and_constants(tree: PyTree, label: str) -> tuple[PyTree, Constants]:
    """A tree in two parts: float leaves in double precision, and all else.

    Arguments:
        tree: dicts, lists, modules of Equinox, or any other pytree.
        label: whose it is, for messages.

    Returns:
        Trees of arrays, with None where the other part has a leaf.

    Raises:
        InputError: no float leaf, a complex one, or a number that is not finite.
    """
    named = jax.tree_util.tree_leaves_with_path(tree)
    complex_ones = [path for path, leaf in named if _kind(leaf) == "c"]
    if complex_ones:
        name = _text(complex_ones[0])
        raise InputError(f"{label}: {name} is complex: give its real and its imaginary part")
    numbers, others = eqx.partition(tree, lambda leaf: _kind(leaf) == "f")
    numbers = jax.tree.map(_double, numbers)
    if not jax.tree.leaves(numbers):
        raise InputError(
            f"{label}: parameters = {shown(tree)}: there is no float among them; give numbers such "
            "as 1.0, or arrays of them"
        )
    check_finite(numbers, label)
    return numbers, Constants(others, label)


def _kind(leaf: Any) -> str:
    """``"f"`` for floats, ``"c"`` for complex numbers, nothing for all else."""
    if isinstance(leaf, (float, np.floating)):
        return "f"
    if isinstance(leaf, (complex, np.complexfloating)):
        return "c"
    if eqx.is_array_like(leaf) and hasattr(leaf, "dtype"):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return "f"
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return "c"
    return ""


def _double(leaf: Any) -> Array:
    return leaf.astype("float64") if is_traced(leaf) else on_device(leaf, np.dtype("float64"))


def check_finite(tree: PyTree, label: str) -> None:
    """Raise InputError unless all numbers of a tree are finite, where JAX does not trace them.

    Arguments:
        tree: of arrays.
        label: whose they are, for the message.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not is_traced(leaf) and not np.isfinite(np.asarray(leaf)).all():
            raise InputError(f"{label}: {_text(path)} is not finite: give finite numbers")


def leaf_names(tree: PyTree) -> tuple[str, ...]:
    """The names of a tree's leaves, in their order.

    Arguments:
        tree: any pytree.

    Returns:
        E.g. ``("bias", "layers[0].weight")``.
    """
    return _leaf_names(jax.tree.structure(tree))


@functools.lru_cache(maxsize=64)
def _leaf_names(structure: Any) -> tuple[str, ...]:
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    return tuple(_text(path) for path, _ in jax.tree_util.tree_leaves_with_path(numbered))


@functools.lru_cache(maxsize=64)
def entries_of(
    names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The leaf and the place of each number, by its name; not to be changed.

    Arguments:
        names: of leaves, as `leaf_names` gives them.
        shapes: of the same.

    Returns:
        E.g. ``{"bias": ("bias", ()), "w[0,1]": ("w", (0, 1))}``.
    """
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in zip(names, shapes, strict=True):
        for place in np.ndindex(shape):
            entries[f"{name}[{','.join(map(str, place))}]" if place else name] = (name, place)
    return entries


def is_within(name: str, whole: str) -> bool:
    """Whether what a name is of is part of what another names, such as a layer of a network."""
    return name == whole or (name.startswith(whole) and name[len(whole)] in ".[")


def _text(path: tuple[Any, ...]) -> str:
    text = ""
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            text += f".{key.name}"
        elif isinstance(key, jax.tree_util.DictKey) and isinstance(key.key, str):
            text += f".{key.key}"
        elif isinstance(key, jax.tree_util.SequenceKey):
            text += f"[{key.idx}]"
        else:
            text += f"[{getattr(key, 'key', key)}]"
    return text.removeprefix(".") or ALONE
