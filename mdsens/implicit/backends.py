"""The ways to solve one linear system for flat vectors: dense, lineax's solvers, any function.

Each gives a `Backend`; `linear.py` adds the null space, the derivatives and the verdict.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from mdsens.implicit.conjugate_gradients import conjugate_gradients
from mdsens.implicit.known_matrix import KnownMatrix
from mdsens.implicit.minres import minres
from mdsens.implicit.proximal_system import ProximalSystem

MatrixVectorProduct: TypeAlias = Callable[[Any], Any]
Solver: TypeAlias = (
    str
    | lineax.AbstractLinearSolver
    | ProximalSystem
    | KnownMatrix
    | Callable[[MatrixVectorProduct, Any], Any]
)

_COLUMNS_AT_ONCE = 128
_NUMBERS_AT_ONCE = 100_000
_FALSE = np.zeros((), bool)


class Backend(NamedTuple):
    """Solves A x = b and A^T x = b for flat b of norm 1, and tells the number of iterations."""

    forward: Callable[[Array], tuple[Array, Array]]
    backward: Callable[[Array], tuple[Array, Array]]
    singular: ArrayLike
    asymmetric: ArrayLike
    not_finite: ArrayLike


def materialise(matvec: Callable[..., Any], size: int, dtype: Any) -> Array:
    """The matrix of a linear function of flat vectors."""
    identity = jnp.eye(size, dtype=dtype)
    if size <= _COLUMNS_AT_ONCE:
        return jax.vmap(matvec, out_axes=1)(identity)
    # In chunks, since one product may need far more memory than the column that it yields.
    return jax.lax.map(matvec, identity, batch_size=_COLUMNS_AT_ONCE).T


def for_each(function: Callable[..., Any], stacked: Any, size: int) -> Any:
    """A function of each element of a stack: small ones side by side, large ones in turn.

    Arguments:
        function: of a pytree of arrays.
        stacked: the pytree with an extra leading axis on every leaf.
        size: numbers in one element.

    Returns:
        The results, stacked likewise.
    """
    at_once = max(_NUMBERS_AT_ONCE // max(size, 1), 1)
    if len(jax.tree.leaves(stacked)[0]) <= at_once:
        return jax.vmap(function)(stacked)
    return jax.lax.map(function, stacked, batch_size=at_once if at_once > 1 else None)


def for_each_in_turn(function: Callable[[Any], Any], stacked: Any, count: int) -> Any:
    """A compiled function of each element of a stack, outside JAX.

    In turn, and not in a loop of JAX, of which each count would be compiled anew.

    Arguments:
        function: of a pytree of arrays.
        stacked: the pytree with an extra leading axis of length K on every leaf.
        count: K.

    Returns:
        The results, stacked likewise, in NumPy.
    """
    given = jax.tree.map(np.asarray, stacked)
    found = [function(jax.tree.map(lambda leaf, k=k: leaf[k, ...], given)) for k in range(count)]
    return jax.tree.map(lambda *parts: np.stack([np.asarray(part) for part in parts]), *found)


class Probed(NamedTuple):
    """What a few products tell of a matrix A that is never formed.

    Attributes:
        quotient: a Rayleigh quotient, with its sign.
        asymmetry: |p'Aq - q'Ap| in units of |Ap| |q| for two probes p and q.
        finite: whether the products are.
        stretch: the largest |Av| / |v|, a lower bound of the norm of A.
    """

    quotient: Array
    asymmetry: Array
    finite: Array
    stretch: Array


def probe_matrix(
    matvec: Callable[..., Any],
    project: Callable[..., Any],
    size: int,
    dtype: Any,
    others: Sequence[Array] = (),
) -> Probed:
    """Products with two probes, and other vectors that are of interest, tell of a matrix."""
    probes = jnp.stack([probe(size, dtype), probe(size, dtype, 0.7548776662), *others])
    probes = jax.vmap(project)(probes)
    # A loop: one copy of the product to compile.
    products = jax.lax.map(matvec, probes)
    (first, second), (of_first, of_second) = probes[:2], products[:2]
    quotient = jnp.vdot(first, of_first) / jnp.maximum(jnp.vdot(first, first), 1e-30)
    scale = jnp.linalg.norm(of_first) * jnp.linalg.norm(second)
    difference = jnp.abs(jnp.vdot(second, of_first) - jnp.vdot(first, of_second))
    asymmetry = difference / jnp.where(scale > 0, scale, 1)
    lengths = jnp.linalg.norm(probes, axis=1)
    stretches = jnp.linalg.norm(products, axis=1) / jnp.where(lengths > 0, lengths, 1)
    return Probed(quotient, asymmetry, jnp.all(jnp.isfinite(products)), jnp.max(stretches))


# One program, as what factorises: eager operations are compiled each on its own.
@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def probe(size: int, dtype: Any, ratio: float = 0.6180339887498949) -> Array:
    """A fixed vector without structure: fractional parts of multiples of a golden ratio."""
    return ((jnp.arange(1, size + 1, dtype=float) * ratio) % 1 - 0.5).astype(dtype)


def dense(matrix: Array, symmetric: bool, definite: bool = False) -> Backend:
    """A factorisation of the equilibrated matrix R A C, done once for all right-hand sides.

    That of Cholesky where a symmetric matrix is said to be definite and turns out to be positive,
    else LU; of a `vmap` all by LU where one needs it.
    """
    size, dtype = matrix.shape[0], matrix.dtype
    epsilon = jnp.finfo(dtype).eps
    by_pivots: ArrayLike = True
    asymmetric: ArrayLike = _FALSE
    if symmetric and definite:
        factors, asymmetry = _by_cholesky(matrix)
        asymmetric = asymmetry > epsilon**0.5
        # LU sees both triangles, if they differ by more than rounding.
        failed = ~(jnp.isfinite(factors[0][-1, -1]) & (asymmetry <= 100 * epsilon))
        by_pivots = eqxi.unvmap_any(failed)
        factors = either(by_pivots, lambda: _by_lu(matrix), lambda: factors)
    else:
        factors = _by_lu(matrix)
        if symmetric:
            largest = jnp.max(jnp.abs(matrix))
            asymmetric = jnp.max(jnp.abs(matrix - matrix.T)) > epsilon**0.5 * largest
    first, second, order, row_scale, column_scale, norm = factors

    def solve(b: Array, transposed: bool) -> Array:
        # Both solves are with a triangle as it lies, where SciPy's functions in JAX move it first.
        if transposed:
            places = jnp.argsort(order)
            return _triangular(first, _triangular(second, b, False), True)[places]
        return _triangular(second, _triangular(first, b[order], False), True)

    # Inverse iteration from a generic vector bounds the norm of the inverse from below. A small
    # pivot alone would not do: LU without full pivoting may hide a singular matrix.
    start = probe(size, dtype)
    grown = solve(start / jnp.linalg.norm(start), transposed=False)
    growth = jnp.linalg.norm(grown) * norm
    singular = ~(growth * max(size, 16) * epsilon < 1)
    # It also puts the solves one after the other: under vmap, two of them at the same time can
    # wait for each other for ever in jaxlib's threads (seen on 0.10.1 with two cores).
    valid = jnp.where(singular, jnp.nan, 1).astype(dtype)

    def forward(b: Array) -> tuple[Array, Array]:
        return column_scale * solve(valid * row_scale * b, transposed=False), jnp.zeros((), int)

    def transposed(b: Array) -> tuple[Array, Array]:
        return row_scale * solve(valid * column_scale * b, transposed=True), jnp.zeros((), int)

    backward = forward if symmetric else transposed
    # No entry of a scaled matrix is so large that the norm of finite ones overflows.
    return Backend(forward, backward, singular, asymmetric, ~jnp.isfinite(norm))


#: Two lower triangles, the first and the transpose of the second, both transposed as they lie,
#: which is how LAPACK has them; the order of rows; scales of rows and of columns; the norm of the
#: scaled matrix.
_Factors: TypeAlias = tuple[Array, Array, Array, Array, Array, Array]


@jax.jit
def _by_lu(matrix: Array) -> _Factors:
    # Equilibrated, since otherwise unknowns in different units would look like a singular matrix.
    row_scale = _reciprocal(jnp.max(jnp.abs(matrix), axis=1))
    balanced = row_scale[:, None] * matrix
    column_scale = _reciprocal(jnp.max(jnp.abs(balanced), axis=0))
    balanced = balanced * column_scale[None, :]
    triangles, _, order = jax.lax.linalg.lu(balanced)
    unit = jnp.tril(triangles, -1) + jnp.eye(len(matrix), dtype=matrix.dtype)
    scales_and_norm = row_scale, column_scale, jnp.linalg.norm(balanced)
    return unit.T, jnp.triu(triangles), order, *scales_and_norm


@jax.jit
def _by_cholesky(matrix: Array) -> tuple[_Factors, Array]:
    """The same with the lower triangle, not a number where the matrix is not positive definite.

    Also the norm of what the scaled matrix and its transpose differ by, in units of its own, as far
    as a product with each tells.
    """
    scale = _reciprocal(jnp.sqrt(jnp.abs(jnp.diagonal(matrix))))
    balanced = scale[:, None] * matrix * scale[None, :]
    triangle = jax.lax.linalg.cholesky(balanced, symmetrize_input=False)
    order = jnp.arange(len(matrix), dtype=jnp.int32)
    norm = jnp.linalg.norm(balanced)
    # Of a generic vector both products have the same part of both norms, in the mean.
    generic = probe(len(matrix), matrix.dtype)
    difference = jnp.linalg.norm(balanced @ generic - generic @ balanced)
    usual = norm * jnp.linalg.norm(generic) / len(matrix) ** 0.5
    asymmetry = difference / jnp.where(usual > 0, usual, 1)
    return (triangle.T, triangle.T, order, scale, scale, norm), asymmetry


@functools.partial(jax.jit, static_argnums=2)
def _triangular(triangle: Array, b: Array, transposed: bool) -> Array:
    """The solution with a lower triangle that is given transposed, or with its transpose."""
    return jax.lax.linalg.triangular_solve(
        triangle.T, b[:, None], left_side=True, lower=True, transpose_a=transposed
    )[:, 0]


def either(condition: ArrayLike, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
    """What one of two functions returns; outside compiled code the other is not even traced.

    Arguments:
        condition: whether it is the first; one for all elements of a `vmap`, by `unvmap_any`, lest
            both are computed.
        first: a function of nothing.
        second: likewise, with results of the same shapes.

    Returns:
        The result.
    """
    if isinstance(condition, jax.core.Tracer):
        return jax.lax.cond(condition, first, second)
    return first() if condition else second()


def _reciprocal(sizes: Array) -> Array:
    return 1 / jnp.where((sizes > 0) & jnp.isfinite(sizes), sizes, 1)


def symmetric_iterations(
    name: str,
    matvec: Callable[..., Any],
    example: Array,
    scale: Array,
    preconditioner: Callable[..., Any] | None,
    rtol: float | Float[Array, ""],
    max_steps: int | None,
) -> Backend:
    """Conjugate gradients on A / s, which is positive definite for either sign of A, or MINRES."""
    most = 10 * example.size if max_steps is None else max_steps

    def run(b: Array) -> tuple[Array, Array]:
        if name == "minres":
            return minres(matvec, b, preconditioner, rtol, most)
        x, steps = conjugate_gradients(
            lambda v: matvec(v) / scale, b, scaled(preconditioner, scale), rtol, most
        )
        return x / scale, steps

    return Backend(run, run, _FALSE, _FALSE, _FALSE)


def scaled(product: Callable[..., Any] | None, scale: Array) -> Callable[..., Any] | None:
    """The product with s A, or None if there is none with A."""
    return None if product is None else lambda v: scale * product(v)


def gmres(
    matvec: Callable[..., Any],
    example: Array,
    scale: Array,
    preconditioner: Callable[..., Any] | None,
    rtol: float,
    dense_limit: int,
    first: Backend | None = None,
) -> Backend:
    """GMRES with frequent restarts; if these do not suffice, a factorisation or rare restarts.

    Frequent restarts are the fastest where the spectrum is kind, but may never converge elsewhere.
    Another way may come first in their place.
    """
    size, dtype = example.size, example.dtype
    acceptable = max(100 * rtol, 1e-10 if dtype == jnp.float64 else 1e-5)
    if first is None:
        first = restarted_gmres(matvec, example, scale, preconditioner, rtol, 20, 10)

    def last_resort(b: Array, transposed: bool) -> tuple[Array, Array]:
        if size <= dense_limit:
            backend = dense(materialise(matvec, size, dtype), symmetric=False)
        else:
            backend = restarted_gmres(matvec, example, scale, preconditioner, rtol, 100, None)
        x, steps = (backend.backward if transposed else backend.forward)(b)
        return jnp.where(backend.singular, jnp.nan, x), steps

    def with_last_resort(
        apply: Callable[..., Any], multiply: Callable[..., Any], transposed: bool
    ) -> Callable[..., Any]:
        def run(b: Array) -> tuple[Array, Array]:
            x, steps = apply(b)
            missed = ~(jnp.linalg.norm(multiply(x) - b) <= acceptable * jnp.linalg.norm(b))

            def again(b: Array) -> tuple[Array, Array]:
                return last_resort(b, transposed)

            given = eqx.filter_closure_convert(again, b)
            arrays, static = eqx.partition(given, eqx.is_array)

            # One element of a vmap after the other: a factorisation needs many times the memory of
            # its matrix, and few elements, if any, need one.
            @jax.custom_batching.sequential_vmap  # type: ignore[untyped-decorator]
            def where_missed(
                missed: Array, arrays: Any, b: Array, x: Array, steps: Array
            ) -> tuple[Array, Array]:
                return jax.lax.cond(
                    missed,
                    lambda arrays, b, x, steps: eqx.combine(arrays, static)(b),
                    lambda arrays, b, x, steps: (x, steps),
                    arrays, b, x, steps,
                )  # fmt: skip

            # One condition for all elements of a vmap: else both branches would be taken.
            return jax.lax.cond(
                eqxi.unvmap_any(missed),
                where_missed,
                lambda missed, arrays, b, x, steps: (x, steps),
                missed, arrays, b, x, steps,
            )  # fmt: skip

        return run

    def multiply_transposed(v: Array) -> Array:
        return jax.linear_transpose(matvec, example)(v)[0]

    return first._replace(
        forward=with_last_resort(first.forward, matvec, transposed=False),
        backward=with_last_resort(first.backward, multiply_transposed, transposed=True),
    )


def proximal(
    solver: ProximalSystem,
    matvec: Callable[..., Any],
    example: Array,
    unravel: Callable[..., Any],
    rtol: float | Float[Array, ""],
) -> Backend:
    """Symmetric iterations for the system of a proximal operator."""

    def multiply_transposed(v: Array) -> Array:
        return jax.linear_transpose(matvec, example)(v)[0]

    def forward(b: Array) -> tuple[Array, Array]:
        return solver.solve(matvec, b, unravel, rtol)

    def backward(b: Array) -> tuple[Array, Array]:
        return solver.transposed().solve(multiply_transposed, b, unravel, rtol)

    return Backend(forward, backward, _FALSE, _FALSE, _FALSE)


def restarted_gmres(
    matvec: Callable[..., Any],
    example: Array,
    scale: Array,
    preconditioner: Callable[..., Any] | None,
    rtol: float,
    restart: int,
    cycles: int | None,
) -> Backend:
    """GMRES of lineax on A / s."""
    # lineax compares entry by entry with atol + rtol |b|; with |b| = 1 this atol bounds the norm
    # of the residual by 2 rtol.
    atol = rtol / example.size**0.5
    restart = min(restart, example.size)
    solver = lineax.GMRES(rtol=rtol, atol=atol, restart=restart, max_steps=cycles)
    backend = from_lineax(
        solver, lambda v: matvec(v) / scale, example, False, scaled(preconditioner, scale)
    )

    def rescaled(apply: Callable[..., Any]) -> Callable[..., Any]:
        def run(b: Array) -> tuple[Array, Array]:
            x, steps = apply(b)
            return x / scale, steps

        return run

    return backend._replace(forward=rescaled(backend.forward), backward=rescaled(backend.backward))


def from_lineax(
    solver: lineax.AbstractLinearSolver,
    matvec: Callable[..., Any],
    example: Array,
    symmetric: bool,
    preconditioner: Callable[..., Any] | None,
) -> Backend:
    """Any solver of lineax; it is set up once for all right-hand sides."""
    structure = jax.ShapeDtypeStruct(example.shape, example.dtype)
    tags: Any = frozenset()
    if isinstance(solver, lineax.CG | lineax.Cholesky):
        tags = lineax.positive_semidefinite_tag
    elif symmetric:
        tags = lineax.symmetric_tag
    operator = lineax.FunctionLinearOperator(matvec, structure, tags)
    options: dict[str, Any] = {}
    if preconditioner is not None:
        tags = lineax.positive_semidefinite_tag if symmetric else frozenset()
        options["preconditioner"] = lineax.FunctionLinearOperator(preconditioner, structure, tags)
    state = solver.init(operator, options)

    def forward(b: Array) -> tuple[Array, Array]:
        solution = lineax.linear_solve(
            operator, b, solver, state=state, options=options, throw=False
        )
        return solution.value, _steps(solution)

    def backward(b: Array) -> tuple[Array, Array]:
        transposed_state, transposed_options = solver.transpose(state, options)
        solution = lineax.linear_solve(
            operator.transpose(),
            b,
            solver,
            state=transposed_state,
            options=transposed_options,
            throw=False,
        )
        return solution.value, _steps(solution)

    return Backend(forward, backward, _FALSE, _FALSE, _FALSE)


def _steps(solution: lineax.Solution) -> Array:
    return jnp.asarray(solution.stats.get("num_steps", 0), int)


def from_function(
    solver: Callable[..., Any],
    matvec: Callable[..., Any],
    example: Array,
    unravel: Callable[..., Any],
) -> Backend:
    """A function (matvec, b) -> x of pytrees."""

    def solve_with(product: Callable[..., Any]) -> Callable[..., Any]:
        def run(b: Array) -> tuple[Array, Array]:
            x = solver(lambda v: unravel(product(_ravel(v))), unravel(b))
            return _ravel(x), jnp.zeros((), int)

        return run

    def transposed(v: Array) -> Array:
        return jax.linear_transpose(matvec, example)(v)[0]

    return Backend(solve_with(matvec), solve_with(transposed), _FALSE, _FALSE, _FALSE)


def _ravel(tree: Any) -> Array:
    return ravel_pytree(tree)[0]
