"""The derivatives of a condition F(sol, *args) at a solution: products with dF/dx and dF/dtheta."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mdsens.arrays import all_finite
from mdsens.compilation import MUCH_IN_TWO_CALLS, compiled
from mdsens.errors import InputError
from mdsens.implicit.arguments import directions_of, hashable, is_differentiable, stacked_count
from mdsens.implicit.backends import for_each, for_each_in_turn
from mdsens.values import is_traced

#: Numbers in all right-hand sides from which on a function for these alone, which does a third of
#: the work of one that serves for more, is worth compiling.
WORTH_COMPILING = 1_000_000
#: Directions from which on they are taken side by side, and how many at a time: what does not
#: depend on them is then computed once for all of these.
MANY, SIDE_BY_SIDE = 16, 16
#: Numbers from which on the former function is worth it where directions are taken one by one, as
#: it then serves for any number of them.
WORTH_COMPILING_FOR_ONE = 10_000


@runtime_checkable
class FilledUp(Protocol):
    """A condition that compiled code takes with a longer solution, so as to serve several sizes."""

    def filled(self) -> tuple[Any, Any] | None:
        """The condition, and what fills its solutions up; None where it is taken as it is."""

    def serves_as_it_is(self) -> None:
        """Note that with a longer solution it is not finite."""


def _by_filling_up(optimality_fun: Any, compute: Callable[[Any, Any], PyTree]) -> PyTree | None:
    """What is computed with a longer solution; None where it is to be taken as it is."""
    filled = optimality_fun.filled() if isinstance(optimality_fun, FilledUp) else None
    if filled is None:
        return None
    found = compute(*filled)
    if all_finite(found):
        return found
    optimality_fun.serves_as_it_is()
    return None


def linearise(
    optimality_fun: Callable[..., PyTree], sol: PyTree, args: tuple[Any, ...]
) -> Callable[[PyTree], PyTree]:
    """The map v -> dF/dx v at a solution.

    Arguments:
        optimality_fun: F.
        sol: the solution, a pytree of floating-point arrays.
        args: the other arguments of F.

    Returns:
        The map, of pytrees with the structure of `sol`.

    Raises:
        InputError: the solution or F is not of real floating-point numbers, or they differ in
            structure or shapes.
    """
    sol = jax.tree.map(jnp.asarray, sol)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(sol)):
        raise InputError(
            f"the solution holds {sorted({str(leaf.dtype) for leaf in jax.tree.leaves(sol)})}; "
            "allowed are floating-point arrays: convert it in the solver, or return it as aux."
        )
    value, linear = jax.linearize(
        lambda x: jax.tree.map(jnp.asarray, optimality_fun(x, *args)), sol
    )
    if shapes_of(value) != shapes_of(sol):
        raise InputError(
            f"optimality_fun returned {shapes_of(value)}, but the solution is "
            f"{shapes_of(sol)}; they must have the same structure and shapes."
        )
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(value)}
    if not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        raise InputError(
            f"optimality_fun returned {', '.join(sorted(kinds))}; allowed are real "
            "floating-point arrays: of complex numbers give real and imaginary parts."
        )
    # A condition that is not a number may yet have a derivative that is one, and a wrong
    # derivative would come of it: the factor carries the news into the linear system.
    finite = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(value)])
    factor = jnp.where(jax.lax.stop_gradient(jnp.all(finite)), 1.0, jnp.nan)

    def matvec(v: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), linear(v))

    return matvec


def shapes_of(tree: Any) -> Any:
    """Structure and shapes, to be compared."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float64), tree)


def transposed_product(matvec: Callable[..., Any], sol: Any) -> Callable[..., Any]:
    """The product with the transposed matrix.

    Arguments:
        matvec: v -> A v, linear, from and to the structure of `sol`.
        sol: an example.

    Returns:
        v -> A^T v.
    """
    example = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), sol)
    transposed = jax.linear_transpose(matvec, example)
    return lambda v: transposed(v)[0]


def directional_change(
    function: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    sol_tangent: PyTree = None,
) -> PyTree:
    """Derivative of a function of the solution and its arguments along directions of these.

    Arguments:
        function: (sol, *args) -> any pytree.
        sol: as in `root_jvp`.
        args: likewise.
        tangents: likewise.
        sol_tangent: a direction of the solution, or K of them; `None`: along the arguments alone.

    Returns:
        Its tangent, with the structure of what it returns, or its tangents along K directions.

    Raises:
        InputError: if `args` and `tangents` differ in length, structure or shapes.
    """
    leaves, structure = jax.tree.flatten(tuple(args))
    directions = directions_of(args, tangents)
    varied = [index for index, direction in enumerate(directions) if direction is not None]

    def of_varied(sol: Any, values: list[Any]) -> Any:
        filled = list(leaves)
        for index, value in zip(varied, values, strict=True):
            filled[index] = value
        return function(sol, *jax.tree.unflatten(structure, filled))

    values = [jnp.asarray(leaves[index]) for index in varied]
    steps = [
        jnp.asarray(directions[index], value.dtype)
        for index, value in zip(varied, values, strict=True)
    ]
    count = stacked_count(values, steps)

    def along(directions: tuple[Any, list[Array]]) -> Any:
        sol_step, steps = directions
        if sol_step is None:
            return jax.jvp(lambda values: of_varied(sol, values), (values,), (steps,))[1]
        return jax.jvp(of_varied, (sol, values), (sol_step, steps))[1]

    both = sol_tangent, steps
    return along(both) if count is None else for_each(along, both, ravel_pytree(sol)[0].size)


def _compilable(function: Callable[..., Any]) -> bool:
    """Whether what is compiled of a function would be found again."""
    return hashable(eqx.filter(function, eqx.is_array, inverse=True))


_change_of_one = compiled(seldom=True, much=MUCH_IN_TWO_CALLS)(directional_change)


def compiled_change(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    tangents: tuple[Any, ...],
    sol_tangent: PyTree = None,
    one_by_one: bool = False,
) -> PyTree:
    """`directional_change` of a condition, by code that is compiled here where none is traced.

    Arguments:
        optimality_fun: F; compiled once for each, with what it holds as a pytree for arguments.
        sol: as in `directional_change`, as are all that follow.
        args: likewise.
        tangents: likewise.
        sol_tangent: likewise.
        one_by_one: whether many directions of a large solution take less time one after the other
            than side by side.

    Returns:
        What is left of dF/dx v + dF/dtheta w, for one direction or K.

    Raises:
        As `directional_change`.
    """
    if is_traced((optimality_fun, sol, args, tangents, sol_tangent)) or not _compilable(
        optimality_fun
    ):
        return directional_change(optimality_fun, sol, args, tangents, sol_tangent)

    def filled_up(more: Any, filling: Any) -> PyTree:
        along = None if sol_tangent is None else filling.rows(sol_tangent)
        given = filling.places(sol), args, tangents, along, one_by_one
        return filling.taken(compiled_change(more, *given))

    if (found := _by_filling_up(optimality_fun, filled_up)) is not None:
        return found
    leaves = jax.tree.leaves(tuple(args))
    count = stacked_count(leaves, directions_of(args, tangents))
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(sol))
    one_by_one = one_by_one and (count or 1) * size >= WORTH_COMPILING_FOR_ONE
    if count is not None and count >= MANY and not one_by_one:
        return _change_of_many(optimality_fun, sol, args, (tangents, sol_tangent), count)
    worth_it = one_by_one or (count or 1) * size >= WORTH_COMPILING
    if sol_tangent is None and not worth_it:
        # One function serves both alone and together.
        shape = () if count is None else (count,)
        sol_tangent = jax.tree.map(lambda leaf: np.zeros((*shape, *np.shape(leaf))), sol)
    along = functools.partial(_change_of_one, optimality_fun, sol, args)
    if count is None:
        return along(tangents, sol_tangent)
    return for_each_in_turn(lambda both: along(*both), (tangents, sol_tangent), count)


def _change_of_many(
    optimality_fun: Callable[..., PyTree],
    sol: PyTree,
    args: tuple[Any, ...],
    directions: PyTree,
    count: int,
) -> PyTree:
    """The change along K directions, some of them at a time; zeros fill the last group."""
    groups = -(-count // SIDE_BY_SIDE)

    def grouped(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        filling = [(0, groups * SIDE_BY_SIDE - count)] + [(0, 0)] * (leaf.ndim - 1)
        return np.pad(leaf, filling).reshape(groups, SIDE_BY_SIDE, *leaf.shape[1:])

    along = functools.partial(_change_of_one, optimality_fun, sol, args)
    found = for_each_in_turn(lambda both: along(*both), jax.tree.map(grouped, directions), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)


def compiled_product(
    optimality_fun: Callable[..., PyTree], sol: PyTree, args: tuple[Any, ...], vectors: PyTree
) -> PyTree:
    """dF/dx times one vector, or K of them, by the same compiled code.

    Arguments:
        optimality_fun: as in `compiled_change`.
        sol: the solution.
        args: the other arguments of F.
        vectors: with the structure of `sol`; of K with an extra leading axis on every leaf.

    Returns:
        The products, with the structure of `vectors`.
    """
    count = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(vectors))
    shape = () if count is None else (count,)

    def zeros(leaf: Any) -> np.ndarray | None:
        return np.zeros((*shape, *np.shape(leaf))) if is_differentiable(leaf) else None

    nothing = jax.tree.map(zeros, tuple(args))
    return compiled_change(optimality_fun, sol, args, nothing, vectors)


def pull_back(
    optimality_fun: Callable[..., PyTree], sol: PyTree, args: tuple[Any, ...], weights: PyTree
) -> tuple[Any, ...]:
    """w^T dF/dtheta for one vector of weights or K.

    Arguments:
        optimality_fun: F.
        sol: the solution.
        args: the other arguments of F.
        weights: w, with the structure of `sol`; of K with an extra leading axis on every leaf.

    Returns:
        One cotangent per argument, or K stacked, as `root_vjp` returns them.
    """
    several = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(weights)) is not None
    varied, constant = eqx.partition(tuple(args), is_differentiable)
    varied = jax.tree.map(jnp.asarray, varied)
    value, pull = jax.vjp(
        lambda values: optimality_fun(sol, *eqx.combine(values, constant)), varied
    )
    weights = jax.tree.map(lambda w, f: w.astype(f.dtype), weights, value)
    if not several:
        return tuple(pull(weights)[0])
    return tuple(for_each(lambda one: pull(one)[0], weights, ravel_pytree(sol)[0].size))


_pull_back_of_one = compiled(seldom=True, much=MUCH_IN_TWO_CALLS)(pull_back)


def compiled_pull_back(
    optimality_fun: Callable[..., PyTree], sol: PyTree, args: tuple[Any, ...], weights: PyTree
) -> tuple[Any, ...]:
    """`pull_back`, by code that is compiled here where none is traced.

    Arguments:
        optimality_fun: as in `compiled_change`.
        sol: as in `pull_back`, as are all that follow.
        args: likewise.
        weights: likewise.

    Returns:
        What `pull_back` returns; stacked in NumPy.
    """
    if is_traced((optimality_fun, sol, args, weights)) or not _compilable(optimality_fun):
        return pull_back(optimality_fun, sol, args, weights)

    def filled_up(more: Any, filling: Any) -> tuple[Any, ...]:
        return compiled_pull_back(more, filling.places(sol), args, filling.rows(weights))

    if (found := _by_filling_up(optimality_fun, filled_up)) is not None:
        return found
    count = stacked_count(jax.tree.leaves(sol), jax.tree.leaves(weights))
    if count is None:
        return _pull_back_of_one(optimality_fun, sol, args, weights)
    return for_each_in_turn(
        lambda one: _pull_back_of_one(optimality_fun, sol, args, one), weights, count
    )
