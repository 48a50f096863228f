"""Solvers of others, on the host: Clarabel, OSQP and SCS, called through JAX's callbacks.

Under vmap the whole batch is one callback. Nothing here may call JAX: a callback that does can wait
for itself for ever. The packages are optional and, as SciPy is, imported on first use.
"""

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.layers.program import INFEASIBLE, SOLVED, UNBOUNDED, UNSOLVED, Program

__all__ = ["call_host", "clarabel_cone_program", "host_program", "scs_cone_program"]

Answer: TypeAlias = tuple[np.ndarray, np.ndarray, int, int]
"""x, multipliers, a status of `mdsens.layers.program`, the number of iterations."""


def host_program(
    program: Program, solver: str, tol: float, maxiter: int
) -> tuple[Float[Array, " n"], Float[Array, " m"], Int[Array, ""], Int[Array, ""]]:
    """Solve a quadratic program on the host.

    Arguments:
        program: the program; traced or not, batched by vmap or not.
        solver: "clarabel" or "osqp".
        tol: the solver's tolerance.
        maxiter: most iterations.

    Returns:
        x (n,), the multipliers (m,) of the rows, a status of `mdsens.layers.program`, and the
        number of iterations.
    """
    solve: Callable[..., Answer] = _clarabel_program if solver == "clarabel" else _osqp_program
    require_package(solver)
    sizes = (program.c.shape[0], program.lower.shape[0])
    return call_host(lambda *numbers: solve(*numbers, tol, maxiter), sizes, *program)


def require_package(name: str) -> Any:
    """The module of an optional solver.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"solver={name!r} needs the package {name}, which is not installed; install it, or "
            "choose another solver."
        ) from error


def call_host(solve: Callable[..., Answer], sizes: Sequence[int], *inputs: Array) -> Any:
    """An answer of NumPy code: at once if the inputs are known, else from a callback.

    Arguments:
        solve: what to call with the inputs as NumPy arrays in double precision.
        sizes: the lengths of x and of the multipliers.
        *inputs: arrays of one precision, which becomes that of the answer.

    Returns:
        What `solve` returns, as arrays.
    """
    dtype = np.dtype(jnp.result_type(*inputs))
    shapes = [array.shape for array in inputs]

    def solve_batch(*arrays: Any) -> Any:
        values = [np.asarray(array, np.float64) for array in arrays]
        # An axis of length 1 stands for an input that is the same for the whole batch.
        leading = [v.shape[: v.ndim - len(s)] for v, s in zip(values, shapes, strict=True)]
        batch = np.broadcast_shapes(*leading)
        values = [np.broadcast_to(v, batch + s) for v, s in zip(values, shapes, strict=True)]
        answer = (
            *(np.empty((*batch, size), dtype) for size in sizes),
            np.empty(batch, np.int32),
            np.empty(batch, np.int32),
        )
        for index in itertools.product(*map(range, batch)):
            for place, value in zip(answer, solve(*(v[index] for v in values)), strict=True):
                place[index] = value
        return answer

    if not any(isinstance(array, jax.core.Tracer) for array in inputs):
        return tuple(jnp.asarray(value) for value in solve_batch(*inputs))
    number = jax.ShapeDtypeStruct((), np.int32)
    vectors = [jax.ShapeDtypeStruct((size,), dtype) for size in sizes]
    return jax.pure_callback(
        solve_batch, (*vectors, number, number), *inputs, vmap_method="expand_dims"
    )


def _clarabel_program(
    Q: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    tol: float,
    maxiter: int,
) -> Answer:
    equal = lower == upper
    below, above = np.isfinite(lower) & ~equal, np.isfinite(upper) & ~equal
    x, dual, _, status, iterations = clarabel_cone_program(
        Q,
        c,
        np.concatenate([A[equal], A[above], -A[below]]),
        np.concatenate([upper[equal], upper[above], -lower[below]]),
        (int(equal.sum()), int(above.sum() + below.sum()), (), 0),
        tol,
        maxiter,
    )
    y = np.zeros(len(lower))
    of_equal, of_above, of_below = np.split(dual, np.cumsum([equal.sum(), above.sum()]))
    y[equal] = of_equal
    y[above] += of_above
    y[below] -= of_below
    return x, y, status, iterations


def clarabel_cone_program(
    P: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    cones: tuple[int, int, Sequence[int], int],
    tol: float,
    maxiter: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Solve min 1/2 x'Px + c'x with b - A x in a product of cones by Clarabel.

    Arguments:
        P: (n, n).
        c: (n,).
        A: (m, n).
        b: (m,).
        cones: rows in the zero and in the nonnegative cone, sizes of second-order cones, and the
            number of exponential cones, in this order of rows.
        tol: gap and residuals at which to stop.
        maxiter: most iterations.

    Returns:
        x (n,), the dual variables (m,), the slacks b - A x (m,), a status, and the number of
        iterations.
    """
    import clarabel
    import scipy.sparse

    zero, nonnegative, second_order, exponential = cones
    sets: list[Any] = [clarabel.ZeroConeT(zero)] if zero else []
    sets += [clarabel.NonnegativeConeT(nonnegative)] if nonnegative else []
    sets += [clarabel.SecondOrderConeT(size) for size in second_order]
    sets += [clarabel.ExponentialConeT()] * exponential
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_iter = maxiter
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tol
    settings.max_threads = 1
    result = clarabel.DefaultSolver(
        scipy.sparse.triu(P, format="csc"), c, scipy.sparse.csc_matrix(A), b, sets, settings
    ).solve()
    word = str(result.status)
    status = UNSOLVED
    if word in ("Solved", "AlmostSolved", "InsufficientProgress"):
        status = SOLVED  # how well, the error of the result will tell
    elif word.endswith("PrimalInfeasible"):
        status = INFEASIBLE
    elif word.endswith("DualInfeasible"):
        status = UNBOUNDED
    return np.array(result.x), np.array(result.z), np.array(result.s), status, result.iterations


def scs_cone_program(
    P: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    b: np.ndarray,
    cones: tuple[int, int, Sequence[int], int],
    tol: float,
    maxiter: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Solve min 1/2 x'Px + c'x with b - A x in a product of cones by SCS.

    Arguments:
        P: (n, n).
        c: (n,).
        A: (m, n).
        b: (m,).
        cones: as in `clarabel_cone_program`.
        tol: absolute and relative residuals at which to stop.
        maxiter: most iterations.

    Returns:
        As `clarabel_cone_program`.
    """
    import scipy.sparse
    import scs

    zero, nonnegative, second_order, exponential = cones
    data = {
        "P": scipy.sparse.triu(P, format="csc"),
        "A": scipy.sparse.csc_matrix(A),
        "b": np.array(b),
        "c": np.array(c),
    }
    sets = {"z": zero, "l": nonnegative, "q": list(second_order), "ep": exponential}
    result = scs.SCS(data, sets, verbose=False, eps_abs=tol, eps_rel=tol, max_iters=maxiter).solve()
    code = result["info"]["status_val"]
    status = {1: SOLVED, -2: INFEASIBLE, -7: INFEASIBLE, -1: UNBOUNDED, -6: UNBOUNDED}
    return (
        result["x"],
        result["y"],
        result["s"],
        status.get(code, UNSOLVED),
        result["info"]["iter"],
    )


def _osqp_program(
    Q: np.ndarray,
    c: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    tol: float,
    maxiter: int,
) -> Answer:
    import osqp
    import scipy.sparse

    solver = osqp.OSQP()
    solver.setup(
        P=scipy.sparse.triu(Q, format="csc"),
        q=c,
        A=scipy.sparse.csc_matrix(A),
        l=lower,
        u=upper,
        verbose=False,
        eps_abs=tol,
        eps_rel=tol,
        max_iter=maxiter,
    )
    result = solver.solve(raise_error=False)
    word = result.info.status
    status = SOLVED
    if "primal infeasible" in word:
        status = INFEASIBLE
    elif "dual infeasible" in word:
        status = UNBOUNDED
    elif "solved" not in word or "unsolved" in word:
        status = UNSOLVED
    return result.x, result.y, status, result.info.iter
