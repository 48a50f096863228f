"""Quadratic programs whose matrices are functions, or whose unknowns are pytrees.

The matrices are formed, column by column, since the solvers factorise them: what is linear in JAX
has its matrix from products with unit vectors, and derivatives go through these products.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.implicit.arguments import floats_to_arrays, hashable
from mdsens.implicit.closures import closes_over_tracers
from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.checks import callables, float_array, members
from mdsens.layers.program_solver import ProgramSolver

__all__ = ["FlatProgram", "ProgramByFunctions", "ProgramOperators"]


class FlatProgram(NamedTuple):
    """A program of vectors and matrices, and the way back.

    Attributes:
        objective: (Q, c).
        equalities: (A, b), or None.
        inequalities: (G, h), or None.
        flat: a `KKTSolution` of pytrees -> that of vectors.
        restored: a `KKTSolution` of vectors -> that of pytrees.
    """

    objective: tuple[Float[Array, "n n"], Float[Array, " n"]]
    equalities: tuple[Float[Array, "p n"], Float[Array, " p"]] | None
    inequalities: tuple[Float[Array, "m n"], Float[Array, " m"]] | None
    flat: Callable[[KKTSolution], KKTSolution]
    restored: Callable[[KKTSolution], KKTSolution]


class ProgramOperators(eqx.Module):
    """What stands for the matrices of a quadratic program.

    Arguments:
        matvec_Q: (params_Q, x) -> Q x, with the structure of x, in place of Q in `params_obj`.
        matvec_A: (params_A, x) -> A x, with the structure of b, in place of A in `params_eq`.
        matvec_G: (params_G, x) -> G x, with the structure of h, in place of G in `params_ineq`.
        fun: f(x, params_obj), a convex quadratic function of x, in place of Q and c; `init_params`
            then tells the structure of x.
    """

    matvec_Q: Callable[..., Any] | None = None
    matvec_A: Callable[..., Any] | None = None
    matvec_G: Callable[..., Any] | None = None
    fun: Callable[..., Any] | None = None

    def __check_init__(self) -> None:
        for name in ("matvec_Q", "matvec_A", "matvec_G", "fun"):
            if getattr(self, name) is not None:
                callables(self, name)
        if self.fun is not None and self.matvec_Q is not None:
            raise InputError("fun and matvec_Q were both given: give one of them")

    def needed(self, *params: Any) -> bool:
        """Whether anything stands for a matrix, or a vector is a pytree."""
        if any(f is not None for f in (self.matvec_Q, self.matvec_A, self.matvec_G, self.fun)):
            return True
        pairs = [pair for pair in params if isinstance(pair, tuple | list) and len(pair) == 2]
        return any(_is_pytree(pair[1]) for pair in pairs)

    def equality_system(
        self, init_params: Any, params_obj: Any, params_eq: Any
    ) -> tuple[Callable[[PyTree], PyTree], PyTree]:
        """The linear system of a program with equations alone, without forming a matrix.

        Arguments:
            init_params: as in `flattened`, as are all that follow.
            params_obj: (params_Q, c), or the parameters of `fun`.
            params_eq: (params_A, b), or None.

        Returns:
            (x, y) -> (Q x + A' y, A x) and (-c, b), of which y and b are None without equations.

        Raises:
            InputError: if structures or shapes do not go together.
        """
        if self.fun is not None:
            zero = _zeros("init_params", self._example(init_params))
            fun = self.fun
            c, times_Q = jax.linearize(lambda x: jax.grad(fun)(x, params_obj), zero)
        else:
            params_Q, given = members("params_obj", params_obj, ("Q", "c"))
            c = jax.tree.map(lambda leaf: float_array("c", leaf), given)
            zero = jax.tree.map(jnp.zeros_like, c)
            times_Q = _symmetric(_product("Q", self.matvec_Q, params_Q, zero, c), zero)
        right = jax.tree.map(jnp.negative, c)
        if params_eq is None:
            return lambda point: (times_Q(point[0]), None), (right, None)
        params_A, given = members("params_eq", params_eq, ("A", "b"))
        b = jax.tree.map(lambda leaf: float_array("b", leaf), given)
        times_A = _product("A", self.matvec_A, params_A, zero, b)
        transposed = jax.linear_transpose(times_A, zero)

        def product(point: PyTree) -> PyTree:
            x, y = point
            return jax.tree.map(jnp.add, times_Q(x), transposed(y)[0]), times_A(x)

        return product, (right, b)

    @staticmethod
    def _example(init_params: Any) -> Any:
        example = init_params.primal if isinstance(init_params, KKTSolution) else init_params
        if example is None:
            raise InputError("fun was given without init_params: give an x of the right structure")
        return example

    def flattened(
        self, init_params: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> FlatProgram:
        """The program of vectors and matrices.

        Arguments:
            init_params: a `KKTSolution` or x itself, an example of the unknowns, needed for `fun`.
            params_obj: (params_Q, c), or the parameters of `fun`.
            params_eq: (params_A, b), or None.
            params_ineq: (params_G, h), or None.

        Returns:
            The flat program.

        Raises:
            InputError: if structures or shapes do not go together.
        """
        example = None if self.fun is None else self._example(init_params)
        given = jax.tree.map(floats_to_arrays, (example, params_obj, params_eq, params_ineq))
        structures = self._structures(*given)
        # One program: products with unit vectors are dozens of operations.
        static = eqx.filter((self, given), eqx.is_array, inverse=True)
        known = hashable(static) and not closes_over_tracers(self, static)
        matrices = _compiled_matrices if known else ProgramOperators._matrices
        objective, equalities, inequalities = matrices(self, *given)

        def restored(solution: KKTSolution) -> KKTSolution:
            return KKTSolution(
                *(None if back is None else back(part)
                  for back, part in zip(structures, solution, strict=True))
            )  # fmt: skip

        def flat(solution: KKTSolution) -> KKTSolution:
            return KKTSolution(*(None if s is None else ravel_pytree(s)[0] for s in solution))

        return FlatProgram(objective, equalities, inequalities, flat, restored)

    def _structures(
        self, example: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> tuple[Callable[[Array], Any] | None, ...]:
        """What gives vectors the structures of x, b and h; None for rows that are not given."""
        if self.fun is None:
            x = _way_back("c", members("params_obj", params_obj, ("Q", "c"))[1])
        else:
            x = _way_back("init_params", example)
        rows = zip(("A", "G"), ("b", "h"), ("eq", "ineq"), (params_eq, params_ineq), strict=True)
        return x, *(
            None
            if given is None
            else _way_back(letter, members(f"params_{kind}", given, (name, letter))[1])
            for name, letter, kind, given in rows
        )

    def _matrices(
        self, example: Any, params_obj: Any, params_eq: Any, params_ineq: Any
    ) -> tuple[Any, Any, Any]:
        """The pairs of matrix and vector of the flat program."""
        if self.fun is not None:
            zero, unravel = ravel_pytree(_zeros("init_params", example))
            fun = self.fun

            def value(x: Array) -> Array:
                return fun(unravel(x), params_obj)

            if jax.eval_shape(value, zero).shape != ():
                raise InputError("fun returned an array: return a scalar")
            objective = (jax.hessian(value)(zero), jax.grad(value)(zero))
        else:
            params_Q, c = params_obj
            linear, unravel = _raveled("c", c)
            zero = jnp.zeros_like(linear)
            objective = (_matrix("Q", self.matvec_Q, params_Q, c, zero, unravel), linear)
        rows: list[Any] = []
        for name, letter, matvec, given in (
            ("A", "b", self.matvec_A, params_eq),
            ("G", "h", self.matvec_G, params_ineq),
        ):
            if given is None:
                rows.append(None)
                continue
            vector, _ = _raveled(letter, given[1])
            rows.append((_matrix(name, matvec, given[0], given[1], zero, unravel), vector))
        return objective, rows[0], rows[1]


_compiled_matrices = compiled(ProgramOperators._matrices)


def _is_pytree(value: Any) -> bool:
    """Whether it is a pytree of arrays; a list of numbers is an array."""
    if jax.tree_util.all_leaves([value]):
        return False
    return not isinstance(value, list | tuple) or any(map(jnp.ndim, jax.tree.leaves(value)))


def _raveled(name: str, tree: PyTree) -> tuple[Array, Callable[[Array], Any]]:
    return ravel_pytree(jax.tree.map(lambda leaf: float_array(name, leaf), tree))


def _way_back(name: str, tree: PyTree) -> Callable[[Array], Any]:
    """What gives vectors the structure of a tree, of which no number is touched."""
    found: list[Callable[[Array], Any]] = []

    def ravel(tree: PyTree) -> Array:
        vector, back = _raveled(name, tree)
        found.append(back)
        return vector

    eqx.filter_eval_shape(ravel, tree)
    return found[0]


def _zeros(name: str, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.zeros_like(float_array(name, leaf)), tree)


def _matrix(
    name: str,
    matvec: Callable[..., Any] | None,
    params: Any,
    image: PyTree,
    zero: Float[Array, " n"],
    unravel: Callable[[Array], Any],
) -> Float[Array, "rows n"]:
    """The matrix of a linear function; without one the matrices of a pytree, leaf by leaf."""

    def product(x: Array) -> Array:
        return ravel_pytree(_times(name, matvec, params, unravel(x), image))[0].astype(x.dtype)

    try:
        columns: Array = jax.vmap(product, out_axes=1)(jnp.eye(zero.size, dtype=zero.dtype))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if matvec is None:
            raise InputError(
                f"{name} does not go with x: give a matrix for each array of it, or matvec_{name}"
            ) from None
        raise
    # A function with an offset would be taken for its slope plus the offset in each column.
    return columns - product(zero)[:, None]


def _times(
    name: str, matvec: Callable[..., Any] | None, params: Any, point: PyTree, image: PyTree
) -> PyTree:
    """A matrix, or the function in its place, times a point."""
    result = jax.tree.map(jnp.dot, params, point) if matvec is None else matvec(params, point)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (result, image)]
    if shapes[0] != shapes[1]:
        raise InputError(f"{name} x has the shapes {shapes[0]}: allowed are {shapes[1]}")
    return result


def _product(
    name: str, matvec: Callable[..., Any] | None, params: Any, zero: PyTree, image: PyTree
) -> Callable[[PyTree], PyTree]:
    """The linear part of the function in place of a matrix, in the precision of the image."""

    def function(x: PyTree) -> PyTree:
        product = _times(name, matvec, params, x, image)
        return jax.tree.map(lambda p, i: p.astype(i.dtype), product, image)

    linear: Callable[[PyTree], PyTree] = jax.linearize(function, zero)[1]
    return linear


def _symmetric(product: Callable[[PyTree], PyTree], zero: PyTree) -> Callable[[PyTree], PyTree]:
    """The product with the symmetric part of a matrix, as formed matrices have it."""
    transposed = jax.linear_transpose(product, zero)
    return lambda x: jax.tree.map(lambda a, b: (a + b) / 2, product(x), transposed(x)[0])


class ProgramByFunctions(ProgramSolver):
    """A solver of programs whose matrices may be functions.

    Arguments:
        matvec_Q, matvec_A, fun: as in `ProgramOperators`.
    """

    matvec_Q: Callable[..., Any] | None = eqx.field(kw_only=True, default=None)
    matvec_A: Callable[..., Any] | None = eqx.field(kw_only=True, default=None)
    fun: Callable[..., Any] | None = eqx.field(kw_only=True, default=None)

    def __check_init__(self) -> None:
        _ = self.operators

    @property
    def operators(self) -> ProgramOperators:
        """What stands for matrices."""
        return ProgramOperators(
            self.matvec_Q, self.matvec_A, getattr(self, "matvec_G", None), self.fun
        )
