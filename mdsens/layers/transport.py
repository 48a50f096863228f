"""Projections onto the transport polytope, the matrices >= 0 with given sums of rows and columns.

Both the Euclidean and the Kullback-Leibler projection have the form P_i = rows(S_i + v), with one
number v_j per column: `rows` gives the nearest row of the right sum, and v is the root of the sums
of the columns less what they have to be. That residual is the gradient of a convex function of v,
the semi-dual of Blondel, Seguy and Rolet 2018, arXiv 1710.06276, equation 10. Its Jacobian is the
Laplacian of a graph whose nodes are the columns, so v is found by Newton's method and
differentiated implicitly; the null space are the vectors that are constant on connected columns.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from mdsens.errors import InputError
from mdsens.implicit import custom_root
from mdsens.layers.checks import float_array, members, require
from mdsens.layers.closed_form_projections import projection_simplex
from mdsens.values import boolean, shown

__all__ = [
    "kl_projection_birkhoff",
    "kl_projection_transport",
    "projection_birkhoff",
    "projection_transport",
]

Marginals = tuple[Real[ArrayLike, "m"], Real[ArrayLike, "n"]]
Rows = Callable[[Array, Array], Array]
MakeSolver = Callable[[Callable[..., Array]], Any]

_MAX_STEPS = 500
_MAX_HALVINGS = 40
_DAMPING = 0.3  # of Newton's method, for an error as large as the total
_GROWTH = 3.0  # of S from one stage of the annealing to the next
_ROUGH = 1e-2  # error, relative to the total, that is good enough for all stages but the last
_BALANCE = 1e3  # rounding units, relative to the total, by which the sums of marginals may differ


def projection_transport(
    sim_matrix: Real[ArrayLike, "m n"],
    marginals: Marginals,
    make_solver: MakeSolver | None = None,
    use_semi_dual: bool = True,
) -> Float[Array, "m n"]:
    """The nearest matrix >= 0 with given sums of rows and columns.

    Arguments:
        sim_matrix: the similarity matrix S to project, minus the cost of transport, **shape**
            (m, n).
        marginals: `(a, b)`: sums of the rows, **shape** (m,), and of the columns, **shape** (n,),
            not negative and with the same total.
        make_solver: fun -> the solver of the layers that minimises it, before Newton's method takes
            what it finds to rounding; None: Newton's method alone.
        use_semi_dual: whether that is a function of the columns' potentials alone, or of the pair
            of the rows' and the columns'; the plan is the same.

    Returns:
        The plan P that minimises |P - S|^2 / 2, **shape** (m, n). The derivative in the marginals
        is for changes that keep their totals equal; where rows and columns fall into groups with
        no transport between them, for those that leave every group balanced.

    Raises:
        InputError: if shapes do not fit, a marginal is negative, or the
            totals differ. The runtime's error if Newton's method does not converge.
    """
    S, a, b = _checked(sim_matrix, marginals)
    return _plan(_euclidean_rows, S, a, b, make_solver, use_semi_dual)


def projection_birkhoff(
    sim_matrix: Real[ArrayLike, "n n"],
    make_solver: MakeSolver | None = None,
    use_semi_dual: bool = True,
) -> Float[Array, "n n"]:
    """The nearest doubly stochastic matrix: >= 0, with sums of rows and columns of 1.

    Arguments:
        sim_matrix: the matrix to project, **shape** (n, n).
        make_solver: fun -> the solver of the layers that minimises it, before Newton's method takes
            what it finds to rounding; None: Newton's method alone.
        use_semi_dual: whether that is a function of the columns' potentials alone, or of the pair
            of the rows' and the columns'; the plan is the same.

    Returns:
        A matrix of **shape** (n, n).

    Raises:
        InputError: if `sim_matrix` is not a square matrix.
    """
    return projection_transport(*_square(sim_matrix), make_solver, use_semi_dual)


def kl_projection_transport(
    sim_matrix: Real[ArrayLike, "m n"],
    marginals: Marginals,
    make_solver: MakeSolver | None = None,
    use_semi_dual: bool = True,
) -> Float[Array, "m n"]:
    """The matrix with given sums of rows and columns that is nearest to exp(S) in divergence.

    Arguments:
        sim_matrix: S, minus the cost of transport over the temperature, **shape** (m, n).
        marginals: `(a, b)`: sums of the rows, **shape** (m,), and of the columns, **shape** (n,),
            positive and with the same total.
        make_solver: fun -> the solver of the layers that minimises it, before Newton's method takes
            what it finds to rounding; None: Newton's method alone.
        use_semi_dual: whether that is a function of the columns' potentials alone, or of the pair
            of the rows' and the columns'; the plan is the same.

    Returns:
        The plan P that minimises KL(P, exp(S)), or sum P log P - sum P S, **shape** (m, n). Its
        form is diag(exp u) exp(S) diag(exp v). The derivative in the marginals is for changes that
        keep their totals equal.

    Raises:
        InputError: if shapes do not fit, a marginal is not positive, or the
            totals differ. The runtime's error if Newton's method does not converge.

    Cuturi 2013, arXiv 1306.0895, equation 2.
    """
    S, a, b = _checked(sim_matrix, marginals)
    message = "a marginal is 0; allowed are positive ones: leave out that row or column."
    a, b = require(a, a > 0, message), require(b, b > 0, message)
    return _plan(_entropic_rows, S, a, b, make_solver, use_semi_dual)


def kl_projection_birkhoff(
    sim_matrix: Real[ArrayLike, "n n"],
    make_solver: MakeSolver | None = None,
    use_semi_dual: bool = True,
) -> Float[Array, "n n"]:
    """The doubly stochastic matrix that is nearest to exp(S) in the Kullback-Leibler divergence.

    Arguments:
        sim_matrix: S, **shape** (n, n).
        make_solver: fun -> the solver of the layers that minimises it, before Newton's method takes
            what it finds to rounding; None: Newton's method alone.
        use_semi_dual: whether that is a function of the columns' potentials alone, or of the pair
            of the rows' and the columns'; the plan is the same.

    Returns:
        A matrix of **shape** (n, n).

    Raises:
        InputError: if `sim_matrix` is not a square matrix.
    """
    return kl_projection_transport(*_square(sim_matrix), make_solver, use_semi_dual)


def _square(sim_matrix: ArrayLike) -> tuple[Array, tuple[Array, Array]]:
    S = float_array("sim_matrix", sim_matrix)
    if S.ndim != 2 or S.shape[0] != S.shape[1]:
        raise InputError(f"sim_matrix has shape {S.shape}; allowed is a square matrix (n, n).")
    ones = jnp.ones(S.shape[0], S.dtype)
    return S, (ones, ones)


def _checked(sim_matrix: ArrayLike, marginals: Marginals) -> tuple[Array, Array, Array]:
    S = float_array("sim_matrix", sim_matrix)
    pair = members("marginals", marginals, ("a", "b"))
    a, b = (float_array("a marginal", marginal) for marginal in pair)
    if S.ndim != 2 or S.size == 0 or a.shape != S.shape[:1] or b.shape != S.shape[1:]:
        raise InputError(
            f"sim_matrix and marginals have shapes {S.shape}, {a.shape} and {b.shape}; allowed are "
            "(m, n), (m,) and (n,)."
        )
    S = require(S, jnp.isfinite(S), "sim_matrix holds NaN or infinity; allowed are finite numbers.")
    message = "a marginal has a negative entry, or one that is not finite; allowed are sums >= 0."
    a, b = (require(m, (m >= 0) & (m < jnp.inf), message) for m in (a, b))
    total = jnp.sum(a)
    balanced = jnp.abs(total - jnp.sum(b)) <= _BALANCE * jnp.finfo(S.dtype).eps * total
    return S, a, require(b, balanced, "the marginals have different totals; allowed are equal ones")


def _euclidean_rows(scores: Array, sums: Array) -> Array:
    return jax.vmap(projection_simplex)(scores, sums)


def _entropic_rows(scores: Array, sums: Array) -> Array:
    return sums[:, None] * jax.nn.softmax(scores, axis=1)


def _weights(rows: Rows, P: Array) -> Array:
    """How strongly each entry answers to its score, before its row is balanced again."""
    return (P > 0).astype(P.dtype) if rows is _euclidean_rows else P


def _laplacian(weights: Array) -> Array:
    """The Jacobian of the sums of columns in v."""
    row_sums = jnp.sum(weights, axis=1, keepdims=True)
    shares = weights / jnp.where(row_sums > 0, row_sums, 1)
    return jnp.diag(jnp.sum(weights, axis=0)) - weights.T @ shares


def _connected(laplacian: Array) -> Array:
    """One row per column of the plan, 1 for all columns that it is connected to."""
    n = laplacian.shape[0]
    threshold = 10 * n * jnp.finfo(laplacian.dtype).eps * jnp.max(jnp.abs(laplacian))
    reach = (jnp.abs(laplacian) > threshold) | jnp.eye(n, dtype=bool)
    # Each product doubles the length of the paths.
    for _ in range(max(n - 1, 1).bit_length()):
        reach = (reach.astype(laplacian.dtype) @ reach.astype(laplacian.dtype)) > 0
    return reach.astype(laplacian.dtype)


def _dual(rows: Rows, use_semi_dual: bool) -> Callable[..., Array]:
    """A convex function whose minimum has the potentials of the plan.

    Blondel, Seguy and Rolet 2018, equations 7 and 10.
    """

    def of_both(potentials: tuple[Array, Array], S: Array, a: Array, b: Array) -> Array:
        u, v = potentials
        scores = S + u[:, None] + v[None, :]
        inside = jnp.exp(scores) if rows is _entropic_rows else jnp.maximum(scores, 0) ** 2 / 2
        return jnp.sum(inside) - u @ a - v @ b

    def of_columns(v: Array, S: Array, a: Array, b: Array) -> Array:
        scores = S + v[None, :]
        if rows is _entropic_rows:
            return a @ jax.nn.logsumexp(scores, axis=1) - v @ b
        P = jax.lax.stop_gradient(rows(scores, a))  # a maximum's: the gradient is that at fixed P
        return jnp.sum(P * scores) - jnp.sum(P**2) / 2 - v @ b

    return of_columns if use_semi_dual else of_both


def _plan(
    rows: Rows,
    S: Array,
    a: Array,
    b: Array,
    make_solver: MakeSolver | None,
    use_semi_dual: bool,
) -> Array:
    boolean(use_semi_dual, "use_semi_dual")
    if make_solver is not None and not callable(make_solver):
        raise InputError(f"make_solver = {shown(make_solver)}: give a function, or None")

    def residual(v: Array, S: Array, a: Array, b: Array) -> Array:
        return jnp.sum(rows(S + v[None, :], a), axis=0) - b

    def null_space(v: Array, S: Array, a: Array, b: Array) -> Array:
        return _connected(_laplacian(_weights(rows, rows(S + v[None, :], a))))

    # Marginals that move apart have no plan; least_squares takes the part that stays balanced.
    @custom_root(residual, symmetric=True, definite=True, null_space=null_space, least_squares=True)
    def solve(v: Array, S: Array, a: Array, b: Array) -> Array:
        if make_solver is None:
            return _anneal(rows, v, S, a, b)
        start = v if use_semi_dual else (jnp.zeros_like(a), v)
        found = make_solver(_dual(rows, use_semi_dual)).run(start, S, a, b).params
        return _rounded(rows, found if use_semi_dual else found[1], S, a, b)

    v = solve(jnp.zeros_like(b), S, a, b)
    return rows(S + v[None, :], a)


def _anneal(rows: Rows, v: Array, S: Array, a: Array, b: Array) -> Array:
    """The root for S from the roots for fractions of S, which are easy while S is small.

    Where S is large the plan is nearly that of a linear program, and v nearly proportional to S.
    """
    epsilon, shape = jnp.finfo(S.dtype).eps, S.shape
    total = jnp.sum(a)
    unit = jnp.where(total > 0, total, 1)
    spread = jnp.max(S) - jnp.min(S)
    # How far scores have to differ for an entry to vanish.
    easy = total / max(shape) if rows is _euclidean_rows else jnp.ones_like(total)
    rounding = _rounding(rows, S, a)

    def advance(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        fraction, v, _ = state
        new = jnp.minimum(_GROWTH * fraction, 1)
        tolerance = jnp.where(new < 1, _ROUGH * unit, 8 * rounding)
        v, error = _newton(rows, v * (new / fraction), new * S, a, b, tolerance)
        return new, v, error

    first = jnp.minimum(jnp.maximum(easy / jnp.where(spread > 0, spread, 1), epsilon), 1)
    state = (first / _GROWTH, v, jnp.zeros_like(total))
    _, v, error = jax.lax.while_loop(lambda state: state[0] < 1, advance, state)
    return _solved(v, error, rounding)


def _rounding(rows: Rows, S: Array, a: Array) -> Array:
    """What rounding of scores does to sums of columns."""
    epsilon, total, spread = jnp.finfo(S.dtype).eps, jnp.sum(a), jnp.max(S) - jnp.min(S)
    unit = jnp.where(total > 0, total, 1)
    if rows is _euclidean_rows:
        return epsilon * (unit + spread * S.shape[0] ** 0.5)
    return epsilon * unit * (1 + spread)


def _rounded(rows: Rows, v: Array, S: Array, a: Array, b: Array) -> Array:
    """The root from potentials that are near it."""
    rounding = _rounding(rows, S, a)
    return _solved(*_newton(rows, v, S, a, b, 8 * rounding), rounding)


def _solved(v: Array, error: Array, rounding: Array) -> Array:
    message = "Newton's method for the transport plan did not converge; scale sim_matrix down."
    return require(v, error <= 1e4 * rounding, message)


def _newton(
    rows: Rows, v: Array, S: Array, a: Array, b: Array, tolerance: Array
) -> tuple[Array, Array]:
    """The minimiser of the semi-dual and its error, by a regularised semismooth Newton method.

    Li, Sun and Toh 2020, Math. Program. 179, 419, algorithm 1, with an exact linear solve.
    """
    n = v.size
    total = jnp.sum(a)
    unit = jnp.where(total > 0, total, 1)
    # The size of the Jacobian where every score counts.
    scale = unit / n if rows is _entropic_rows else jnp.ones_like(total)
    floor = 10 * n * jnp.finfo(S.dtype).eps

    def gradient(v: Array) -> tuple[Array, Array]:
        P = rows(S + v[None, :], a)
        return P, jnp.sum(P, axis=0) - b

    def largest(g: Array) -> Array:
        return jnp.max(jnp.abs(g))

    def unsolved(state: tuple[Any, ...]) -> Array:
        _, _, g, count, stuck = state
        return (largest(g) > tolerance) & (count < _MAX_STEPS) & ~stuck

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        v, P, g, count, _ = state
        laplacian = _laplacian(_weights(rows, P))
        damping = scale * jnp.maximum(_DAMPING * jnp.minimum(largest(g) / unit, 1), floor)
        factor = jax.scipy.linalg.cho_factor(laplacian + damping * jnp.eye(n, dtype=S.dtype))
        direction = -jax.scipy.linalg.cho_solve(factor, g - jnp.mean(g))

        # The slope along the line grows: as long as it is negative the function has decreased.
        def too_far(trial: tuple[Any, ...]) -> Array:
            _, _, g_new, _, halvings = trial
            accepted = (largest(g_new) <= largest(g) / 2) | (jnp.dot(g_new, direction) <= 0)
            return ~accepted & (halvings < _MAX_HALVINGS)

        def attempt(length: Array, halvings: Array) -> tuple[Any, ...]:
            v_new = v + length * direction
            return v_new, *gradient(v_new), length, halvings

        v, P, g, _, halvings = jax.lax.while_loop(
            too_far,
            lambda trial: attempt(trial[3] / 2, trial[4] + 1),
            attempt(jnp.ones_like(total), jnp.asarray(0)),
        )
        return v, P, g, count + 1, halvings >= _MAX_HALVINGS

    state = (v, *gradient(v), jnp.asarray(0), jnp.asarray(False))
    v, _, g, _, _ = jax.lax.while_loop(unsolved, step, state)
    return v, largest(g)
