"""Arguments of compiled functions, and what is the same in all calls that one program serves."""

import copy
import itertools
from typing import Any

import equinox as eqx
import jax

from mdsens.nameless import nameless

#: Settings of JAX of which a program is made.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_device",
)


class Call:
    """Arguments, and what is the same in all calls that one program serves.

    Arguments:
        args: arguments by position.
        kwargs: arguments by name.
        apart: whether the arrays of the first argument are to be told from the others.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], apart: bool) -> None:
        self._leaves, self._structure = jax.tree.flatten((args, kwargs))
        self._apart = apart
        # What names say that programs do not know.
        self.said: tuple[Any, ...] = ()
        first = len(jax.tree.leaves(args[0])) if apart else len(self._leaves)
        self.arrays = (
            [leaf for leaf in self._leaves[:first] if eqx.is_array(leaf)],
            [leaf for leaf in self._leaves[first:] if eqx.is_array(leaf)],
        )
        self.kind = (self._structure, *map(_kind, self._leaves), *settings(SETTINGS))

    @property
    def given(self) -> Any:
        """All arguments."""
        return jax.tree.unflatten(self._structure, self._leaves)

    @property
    def size(self) -> int:
        """How many numbers all arrays have."""
        return sum(array.size for arrays in self.arrays for array in arrays)

    def with_array(self, array: Any, other: Any) -> "Call":
        """The same call with another array in the place of one, of the same shape and type."""
        call = copy.copy(self)
        call._leaves = [other if leaf is array else leaf for leaf in self._leaves]
        first, rest = self.arrays
        call.arrays = (
            [other if leaf is array else leaf for leaf in first],
            [other if leaf is array else leaf for leaf in rest],
        )
        return call

    def with_arrays(self, *arrays: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with others in the place of `arrays`."""
        others = itertools.chain(*arrays)
        given = [next(others) if eqx.is_array(leaf) else leaf for leaf in self._leaves]
        args, kwargs = jax.tree.unflatten(self._structure, given)
        return args, kwargs

    def nameless(self) -> "Call":
        """The call as a program sees it that serves all species alike."""
        (args, kwargs), said = nameless(self.given)
        call = Call(args, kwargs, self._apart)
        call.said = said
        return call

    def described(self) -> tuple[Any, ...]:
        """All of the kind, of parts that can be written down."""
        leaves = [_Leaf(_kind(leaf)) for leaf in self._leaves]
        return jax.tree.unflatten(self._structure, leaves), *map(str, settings(SETTINGS))


class _Leaf(tuple[Any, ...]):
    """What a program depends on of an argument."""


def _kind(leaf: Any) -> tuple[Any, ...]:
    if not eqx.is_array(leaf):
        # One number may equal another that is of another type.
        return type(leaf), leaf
    if isinstance(leaf, jax.Array):
        placed = leaf.sharding if leaf.committed else None
        return leaf.shape, leaf.dtype, leaf.weak_type, placed
    return leaf.shape, leaf.dtype, False, None


def settings(names: tuple[str, ...]) -> tuple[Any, ...]:
    """The present values of settings of JAX."""
    return tuple(getattr(jax.config, name) for name in names)
