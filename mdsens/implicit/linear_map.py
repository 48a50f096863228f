"""A linear map that is computed by whatever code there is, where there are numbers to compute with.

JAX computes derivatives outside `jit` by running what is linear in the tangents later, and, for
gradients, backwards. What this module hands it in between is a primitive of its own, which then
calls host code, or programs that are kept, in place of compiling the map into one more program.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear map between pytrees of floating-point arrays.

    Attributes:
        forwards: takes K inputs, returns K outputs, each stacked along an extra leading axis of
            every leaf; may be host code, and is called with numbers alone.
        backwards: the same of the transposed map.
        traced: the map of one input, written in JAX, for code that is compiled.
        inputs: an example of an input, or its shapes.
        outputs: an example of an output, or its shapes.
    """

    forwards: Callable[[PyTree], PyTree]
    backwards: Callable[[PyTree], PyTree]
    traced: Callable[[PyTree], PyTree]
    inputs: PyTree
    outputs: PyTree

    def __call__(self, given: PyTree) -> PyTree:
        """The output for one input, which JAX may trace."""
        leaves = [
            jnp.asarray(leaf, like.dtype)
            for leaf, like in zip(jax.tree.leaves(given), jax.tree.leaves(self.inputs), strict=True)
        ]
        found = _primitive.bind(*leaves, linear_map=self, transposed=False, count=None)
        return jax.tree.unflatten(jax.tree.structure(self.outputs), found)

    def ends(self, transposed: bool) -> tuple[PyTree, PyTree]:
        """What it leads from and to, or its transposed map."""
        return (self.outputs, self.inputs) if transposed else (self.inputs, self.outputs)


_primitive = Primitive("linear_map")
_primitive.multiple_results = True


def _evaluated(
    *leaves: Any, linear_map: LinearMap, transposed: bool, count: int | None
) -> list[Any]:
    start, end = linear_map.ends(transposed)
    if count is None:
        leaves = tuple(leaf[None] for leaf in leaves)
    function = linear_map.backwards if transposed else linear_map.forwards
    found = jax.tree.leaves(function(jax.tree.unflatten(jax.tree.structure(start), leaves)))
    if count is None:
        found = [leaf[0] for leaf in found]
    likes = jax.tree.leaves(end)
    return [jnp.asarray(leaf, like.dtype) for leaf, like in zip(found, likes, strict=True)]


def _in_jax(*leaves: Any, linear_map: LinearMap, transposed: bool, count: int | None) -> list[Any]:
    start, _ = linear_map.ends(transposed)
    function = linear_map.traced
    if transposed:
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), linear_map.inputs
        )
        transpose = jax.linear_transpose(linear_map.traced, shapes)

        def function(cotangent: Any) -> Any:
            return transpose(cotangent)[0]

    if count is not None:
        function = jax.vmap(function)
    found: list[Any] = jax.tree.leaves(
        function(jax.tree.unflatten(jax.tree.structure(start), leaves))
    )
    return found


def _shapes(*_: Any, linear_map: LinearMap, transposed: bool, count: int | None) -> list[Any]:
    first = () if count is None else (count,)
    return [
        jax.core.ShapedArray((*first, *jnp.shape(leaf)), leaf.dtype)
        for leaf in jax.tree.leaves(linear_map.ends(transposed)[1])
    ]


def _transposed(
    cotangents: Any, *_: Any, linear_map: LinearMap, transposed: bool, count: int | None
) -> list[Any]:
    given = [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    return _primitive.bind(*given, linear_map=linear_map, transposed=not transposed, count=count)


def _side_by_side(
    leaves: Any, axes: Any, *, linear_map: LinearMap, transposed: bool, count: int | None
) -> tuple[list[Any], list[int]]:
    size = next(
        leaf.shape[axis]
        for leaf, axis in zip(leaves, axes, strict=True)
        if axis is not batching.not_mapped
    )
    moved = [
        jnp.broadcast_to(leaf, (size, *leaf.shape))
        if axis is batching.not_mapped
        else jnp.moveaxis(leaf, axis, 0)
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    first = (size,) if count is None else (size, count)
    merged = [leaf.reshape(math.prod(first), *leaf.shape[len(first) :]) for leaf in moved]
    found = _primitive.bind(
        *merged, linear_map=linear_map, transposed=transposed, count=math.prod(first)
    )
    return [leaf.reshape(*first, *leaf.shape[1:]) for leaf in found], [0] * len(found)


_primitive.def_impl(_evaluated)
_primitive.def_abstract_eval(_shapes)
ad.deflinear2(_primitive, _transposed)
batching.primitive_batchers[_primitive] = _side_by_side
mlir.register_lowering(_primitive, mlir.lower_fun(_in_jax, multiple_results=True))
