"""Conic programs as layers, by the residual map of their homogeneous self-dual embedding."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Int

from mdsens.errors import InputError
from mdsens.implicit.conditions import conic
from mdsens.implicit.root import custom_root
from mdsens.layers.checks import float_array
from mdsens.layers.cones import Cones, projection_dual_cone
from mdsens.layers.host_solvers import (
    call_host,
    clarabel_cone_program,
    require_package,
    scs_cone_program,
)
from mdsens.layers.program import (
    INFEASIBLE,
    INFINITE,
    NONCONVEX,
    SOLVED,
    UNBOUNDED,
    UNSOLVED,
    is_convex,
    largest,
    raise_unless_solved,
)
from mdsens.layers.program_solver import ProgramLayer, check_options
from mdsens.layers.quadratic_program import require_shape
from mdsens.layers.solution import OptStep
from mdsens.values import instance, real

__all__ = ["ConicProgram", "ConicSolution", "ConicState"]

_SOLVERS = {"clarabel": (clarabel_cone_program, 200), "scs": (scs_cone_program, 100_000)}


_NEWTON_STEPS = 3


class ConicSolution(NamedTuple):
    """The solution of a conic program.

    Attributes:
        primal: x, (n,).
        dual: y in the dual cone, (m,), with P x + c + A'y = 0.
        slack: s = b - A x in the cone, (m,).
    """

    primal: Float[Array, " n"]
    dual: Float[Array, " m"]
    slack: Float[Array, " m"]


class ConicState(NamedTuple):
    """How a conic program was solved.

    Attributes:
        iter_num: iterations of the solver.
        error: largest relative error in the optimality conditions.
    """

    iter_num: Int[Array, ""]
    error: Float[Array, ""]


class ConicProgram(ProgramLayer):
    """min 1/2 x'Px + c'x subject to A x + s = b and s in a product of cones.

    The solver works on the host; a batch under vmap is one callback. Solution, dual variables and
    slacks have derivatives of any order, in both modes, in P, A, b and c. Where they are not
    unique there is none, and asking for it is an error of the linear solve ("singular matrix").

    Arguments:
        cones: the cones, in the order of the rows of A.
        solver: "clarabel", an interior-point method, accurate, or "scs", of first order, for large
            problems.
        tol: the solver's tolerance. A result whose error is above its square root is an error.
        maxiter: most iterations; `None`: 200 for Clarabel, 100 000 for SCS.

    Condition: with v = y - s, y = P*(v) the projection onto the dual cone, (P x + c + A'y,
    b - A x - s) = 0; Agrawal et al. 2019, arXiv 1904.09043, section 3, at w = 1.
    """

    cones: Cones
    solver: Literal["clarabel", "scs"] = "clarabel"
    tol: float = 1e-10
    maxiter: int | None = None

    def __check_init__(self) -> None:
        instance(self.cones, "cones", Cones, "a mdsens.layers.Cones")
        real(self.tol, "tol", above=0.0)
        check_options(self.solver, self.tol, self.maxiter, _SOLVERS)

    def run(
        self,
        init_params: Any = None,
        A: ArrayLike | None = None,
        b: ArrayLike | None = None,
        c: ArrayLike | None = None,
        P: ArrayLike | None = None,
    ) -> OptStep:
        """The solution of one program; use `jax.vmap` for a batch.

        Arguments:
            init_params: not used.
            A: (m, n), with m the dimension of the cones.
            b: (m,).
            c: (n,).
            P: positive semi-definite matrix, (n, n), of which the symmetric part counts; `None`:
                a linear objective.

        Returns:
            An `OptStep` of a `ConicSolution` and a `ConicState`.

        Raises:
            InputError: for wrong shapes; for numbers that are not finite and for P with
                a negative eigenvalue; and its subclasses `InfeasibleError`, `UnboundedError` and
                `UnsolvedError`. Inside compiled code the latter ones are the runtime's.
        """
        del init_params
        if A is None or b is None or c is None:
            raise InputError("A, b and c are needed; give all three.")
        A, b, c = float_array("A", A), float_array("b", b), float_array("c", c)
        if c.ndim != 1 or not c.size:
            raise InputError(f"c has the shape {c.shape}; allowed is (n,) with n at least 1.")
        require_shape("b", b, (self.cones.dimension,))
        require_shape("A", A, (self.cones.dimension, len(c)))
        P = jnp.zeros((len(c), len(c)), c.dtype) if P is None else float_array("P", P)
        require_shape("P", P, (len(c), len(c)))
        dtype = jnp.result_type(A, b, c, P)
        A, b, c, P = (jnp.asarray(value, dtype) for value in (A, b, c, P))
        require_package(self.solver)
        maxiter = _SOLVERS[self.solver][1] if self.maxiter is None else self.maxiter
        solve = _differentiable_solver(self.cones, self.solver, self.tol, maxiter)
        sound, P, A, b, c = _inspect((P + P.T) / 2, A, b, c)
        (x, v), (status, iterations) = solve(None, P, A, b, c)
        accept = max(self.tol, float(jnp.finfo(dtype).eps)) ** 0.5
        solution, state, status = _finish(self.cones, accept, x, v, P, A, b, c, status, iterations)
        status = jnp.where(sound == SOLVED, status, sound)
        return OptStep(*raise_unless_solved((solution, state), status, "conic program"))

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> ConicState:
        """The state before a program is solved: no iterations, and an infinite error."""
        del init_params, args, kwargs
        return ConicState(jnp.asarray(0), jnp.asarray(jnp.inf))

    def optimality_fun(
        self,
        params: ConicSolution,
        A: ArrayLike,
        b: ArrayLike,
        c: ArrayLike,
        P: ArrayLike | None = None,
    ) -> ConicSolution:
        """Stationarity, what y lacks of the projection of y - s, and b - A x - s."""
        A, b, c = map(jnp.asarray, (A, b, c))
        x, y, s = params
        gradient = c if P is None else c + jnp.asarray(P) @ x
        projected = projection_dual_cone(y - s, self.cones)
        return ConicSolution(gradient + y @ A, projected - y, b - A @ x - s)


def _condition(cones: Cones) -> Callable[..., tuple[Array, Array]]:
    """F((x, v), P, A, b, c), zero at a solution."""
    linear = conic(lambda v: projection_dual_cone(v, cones))

    def optimality_fun(
        solution: tuple[Array, Array], P: Array, A: Array, b: Array, c: Array
    ) -> tuple[Array, Array]:
        return linear(solution, A, b, P @ solution[0] + c)

    return optimality_fun


@functools.lru_cache(maxsize=128)
def _differentiable_solver(
    cones: Cones, solver: str, tol: float, maxiter: int
) -> Callable[..., Any]:
    """The host's solver (init_params, P, A, b, c) -> ((x, v), (status, iterations))."""
    sizes = (cones.zero, cones.nonnegative, cones.second_order, cones.exponential)
    polish = jax.jit(functools.partial(_newton, _condition(cones)))
    host, _ = _SOLVERS[solver]

    def on_host(P: Any, A: Any, b: Any, c: Any) -> tuple[Any, ...]:
        x, y, s, status, iterations = host(P, c, A, b, sizes, tol, maxiter)
        return x, y - s, status, iterations

    @custom_root(_condition(cones), has_aux=True)
    def solve(init_params: Any, P: Array, A: Array, b: Array, c: Array) -> tuple[Any, ...]:
        del init_params
        x, v, status, iterations = call_host(on_host, (len(c), len(b)), P, A, b, c)
        return polish((x, v), P, A, b, c), (status, iterations)

    return solve


def _newton(
    condition: Callable[..., Any], solution: tuple[Array, Array], *args: Array
) -> tuple[Array, Array]:
    """The solution after Newton steps on its condition, as long as they lower the residual.

    A solver that stops at a small gap leaves errors of its square root near the cones' boundary.
    """
    flat, unravel = ravel_pytree(solution)

    def residual(point: Array) -> Array:
        return ravel_pytree(condition(unravel(point), *args))[0]

    def improve(state: tuple[Any, ...]) -> tuple[Any, ...]:
        point, value, count, _ = state
        new = point - jnp.linalg.solve(jax.jacfwd(residual)(point), value)
        new_value = residual(new)
        # False for the infinities of a singular matrix.
        better = jnp.linalg.norm(new_value) < jnp.linalg.norm(value)
        point, value = (jnp.where(better, a, b) for a, b in ((new, point), (new_value, value)))
        return point, value, count + 1, better

    start = (flat, residual(flat), jnp.asarray(0), jnp.asarray(True))
    point, *_ = jax.lax.while_loop(
        lambda state: state[3] & (state[2] < _NEWTON_STEPS), improve, start
    )
    result: tuple[Array, Array] = unravel(point)
    return result


@jax.jit
def _inspect(P: Array, A: Array, b: Array, c: Array) -> tuple[Array, Array, Array, Array, Array]:
    """What is wrong with the numbers, and zeros in their place if something is."""
    constant = jax.lax.stop_gradient((P, A, b, c))
    finite = jnp.stack([jnp.all(jnp.isfinite(value)) for value in constant])
    status = jnp.where(is_convex(constant[0]), SOLVED, NONCONVEX)
    status = jnp.where(jnp.all(finite), status, INFINITE)
    usable = status == SOLVED
    P, A, b, c = (jnp.where(usable, value, 0) for value in (P, A, b, c))
    return status, P, A, b, c


@functools.partial(jax.jit, static_argnums=(0, 1))
def _finish(
    cones: Cones,
    accept: float,
    x: Array,
    v: Array,
    P: Array,
    A: Array,
    b: Array,
    c: Array,
    status: Array,
    iterations: Array,
) -> tuple[ConicSolution, ConicState, Array]:
    y = projection_dual_cone(v, cones)
    solution = ConicSolution(x, y, y - v)
    constant = jax.lax.stop_gradient(((x, v), P, A, b, c))
    stationarity, feasibility = _condition(cones)(*constant)
    size = jnp.maximum(largest(constant[4]), largest(constant[2].T @ jax.lax.stop_gradient(y)))
    error = jnp.maximum(
        largest(stationarity) / (1 + size), largest(feasibility) / (1 + largest(constant[3]))
    )
    certified = (status == INFEASIBLE) | (status == UNBOUNDED)
    status = jnp.where(certified, status, jnp.where(error <= accept, SOLVED, UNSOLVED))
    return solution, ConicState(jnp.asarray(iterations), error), status
