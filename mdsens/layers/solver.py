"""What all iterative solvers share: one loop, one verdict, one place that attaches derivatives."""

import abc
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from mdsens.compilation import compiled
from mdsens.errors import ConvergenceError, InputError
from mdsens.implicit import SolverAt, custom_root
from mdsens.implicit.arguments import floats_to_arrays
from mdsens.implicit.closures import closes_over_tracers
from mdsens.implicit.host import raise_where
from mdsens.implicit.linear import Solver
from mdsens.implicit.proximal_system import ProximalSystem
from mdsens.layers.checks import booleans, counts, float_array, known_real
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import dtype_of, norm
from mdsens.values import choice, integer, is_traced

__all__ = ["Derivative", "IterativeSolver", "without_derivatives"]

Derivative = Literal["implicit", "unrolled", "one-step"]

#: Numbers computed in one iteration from which on fast code is worth the longer time to compile it:
#: loops of fewer take as long in code that was compiled in a hurry, to a twentieth.
_LITTLE = 4_000


class IterativeSolver(eqx.Module):
    """An iteration and the condition that its limit fulfils.

    A solver defines `init_state`, `update` and `optimality_fun`; its states have the fields
    `iter_num` (iterations done), `error` (what is compared with `tol`) and `converged`.

    Arguments:
        maxiter: most iterations.
        tol: error at which the iterations stop, in the units of the condition (of the gradient,
            where something is minimised); None: the square root of the machine precision of the
            parameters, 1.5e-8 in double precision.
        throw: whether it is an error not to converge; otherwise `state.converged` tells.
        derivative: "implicit": that of the solution, through the condition (Blondel et al. 2021,
            arXiv 2105.15183, equation 2); "unrolled": that of the iterations, with the step sizes
            that searches have found held constant; "one-step": that of a last iteration begun at
            the solution (Bolte, Pauwels & Vaiter 2023, arXiv 2305.13768, equation 3).
        implicit_diff_solve: how to solve the linear systems of implicit derivatives, as in
            `mdsens.implicit.custom_root`: a word, a lineax solver, or `solve(matvec, b)`.
        implicit_diff: False is the same as `derivative="unrolled"`.
        verbose: whether to print the error of every iteration of `run`.
        jit: whether `run` compiles its loop; if not, it is one of Python, in which the functions
            may be NumPy's, as long as nothing is traced.
        unroll: without effect: loops are differentiated in both modes whenever iterations are.
    """

    maxiter: int = eqx.field(kw_only=True, default=500)
    tol: float | None = eqx.field(kw_only=True, default=None)
    throw: bool = eqx.field(kw_only=True, default=True)
    derivative: Derivative = eqx.field(kw_only=True, default="implicit")
    implicit_diff_solve: Solver | None = eqx.field(kw_only=True, default=None)
    implicit_diff: bool = eqx.field(kw_only=True, default=True)
    verbose: bool | int = eqx.field(kw_only=True, default=False)
    jit: bool = eqx.field(kw_only=True, default=True)
    unroll: bool | Literal["auto"] = eqx.field(kw_only=True, default="auto")

    derivatives: ClassVar[tuple[str, ...]] = ("implicit", "unrolled", "one-step")
    symmetric: ClassVar[bool] = False

    def __check_init__(self) -> None:
        choice(self.derivative, f"derivative of {type(self).__name__}", self.derivatives)
        counts(self, "maxiter")
        booleans(self, "throw", "implicit_diff", "jit")
        if self.derivative == "one-step" and not self.implicit_diff:
            raise InputError(
                "derivative = 'one-step' and implicit_diff = False: give the derivative alone"
            )
        choice(self.differentiation, f"derivative of {type(self).__name__}", self.derivatives)
        # As in JAXopt, where 2 says more than 1.
        integer(int(self.verbose), "verbose", at_least=0)
        if self.unroll != "auto":
            booleans(self, "unroll")
        if self.tol is not None:
            known_real(self.tol, "tol", at_least=0.0)

    def __hash__(self) -> int:
        # Arrays among the options are compared, and need not be hashed.
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, *(leaf for leaf in leaves if not eqx.is_array(leaf))))

    @property
    def differentiation(self) -> Derivative:
        """Whose derivative it is: that of `derivative`, or of the iterations."""
        return self.derivative if self.implicit_diff else "unrolled"

    @abc.abstractmethod
    def init_state(self, init_params: PyTree, *args: Any, **kwargs: Any) -> Any:
        """The state before the first iteration."""

    @abc.abstractmethod
    def update(self, params: PyTree, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """The parameters and the state after one more iteration."""

    def one_step(self, params: PyTree, state: Any, *args: Any, **kwargs: Any) -> PyTree:
        """The parameters after the iteration whose derivative `derivative="one-step"` takes."""
        return self.update(params, state, *args, **kwargs).params

    if TYPE_CHECKING:  # a method of most solvers, a field of those that the user gives it to

        @property
        def optimality_fun(self) -> Callable[..., Any]:
            """The condition F(params, *args), zero at a solution, with params' structure."""

    def linear_system(self, params: PyTree, *args: Any, **kwargs: Any) -> ProximalSystem | None:
        """What is known of the condition's derivative, None if nothing is."""
        del params, args, kwargs
        return None

    def residual(self, params: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """The value of `optimality_fun`, without auxiliary output where it has one."""
        return self.optimality_fun(params, *args, **kwargs)

    def l2_optimality_error(self, params: PyTree, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """The Euclidean norm of the condition, which vanishes at a solution."""
        return norm(self.residual(params, *args, **kwargs))

    def tolerance(self, params: PyTree) -> float:
        """The error at which the iterations stop."""
        if self.tol is None:
            return float(jnp.finfo(dtype_of(params)).eps) ** 0.5
        return self.tol

    def converged(self, params: PyTree, state: Any, tol: float) -> Bool[Array, ""]:
        """Whether a state is a solution's; not if its error is no number."""
        del params
        converged: Array = state.error <= tol
        return converged

    def unfinished(self, params: PyTree, state: Any, tol: float) -> Bool[Array, ""]:
        """Whether to iterate once more, as far as `maxiter` allows."""
        return ~self.converged(params, state, tol) & ~jnp.isnan(state.error)

    def run(self, init_params: PyTree, *args: Any, **kwargs: Any) -> OptStep:
        """Iterate until the error is at most `tol`.

        Arguments:
            init_params: where to begin, a pytree of floating-point arrays.
            *args: what `update` and `optimality_fun` take after the parameters; the result can be
                differentiated in every float among them. Python floats become arrays.
            **kwargs: likewise.

        Returns:
            The solution and the last state.

        Raises:
            InputError: for parameters that are not floating-point arrays.
            ConvergenceError: if the error is still above `tol` after `maxiter` iterations or not a
                number, with `throw`; inside compiled code the runtime's error with this message.
        """
        if isinstance(init_params, OptStep):
            raise InputError("init_params is an OptStep: give its params; a run begins anew")
        init_params = jax.tree.map(lambda leaf: float_array("init_params", leaf), init_params)
        if not any(leaf.size for leaf in jax.tree.leaves(init_params)):
            raise InputError("init_params holds no numbers: give a start with at least one")
        args, kwargs = jax.tree.map(_to_array, (args, kwargs))
        if self.differentiation == "implicit":
            solve = _differentiable(self, (args, kwargs))
            return OptStep(*solve(init_params, args, kwargs))
        if self.differentiation == "unrolled":
            return OptStep(*_solve(init_params, self, args, kwargs))
        params, state = without_derivatives(
            lambda init: _iterate(init, self, args, kwargs), init_params
        )
        params, state = _checked(self, params, state)
        return OptStep(self.one_step(params, state, *args, **kwargs), state)

    def run_iterator(
        self, init_params: PyTree, iterator: Iterator[Any], *args: Any, **kwargs: Any
    ) -> OptStep:
        """Iterate once with each batch of data, as stochastic methods do.

        Arguments:
            init_params: where to begin, a pytree of floating-point arrays.
            iterator: of batches, each of which the functions get as the argument `data`; the first
                one is for `init_state` alone.
            *args: what `update` takes after the parameters.
            **kwargs: likewise.

        Returns:
            The parameters and the state after `maxiter` batches, or when there are no more.

        Raises:
            InputError: if there is no batch at all.
        """
        init_params = jax.tree.map(lambda leaf: float_array("init_params", leaf), init_params)
        iterator = iter(iterator)
        first = list(itertools.islice(iterator, 1))
        if not first:
            raise InputError("iterator has no batch of data: give one with at least one")
        args, kwargs = jax.tree.map(_to_array, (args, kwargs))
        update: Callable[..., OptStep] = IterativeSolver._update
        if self.jit:
            closed = _closes_over_tracers(self, (args, kwargs))
            update = eqx.filter_jit(update) if closed else _compiled_update
        state = self.init_state(init_params, *args, **kwargs, data=first[0])
        step = OptStep(init_params, state)
        for data in itertools.islice(iterator, self.maxiter):
            step = update(self, step, args, {**kwargs, "data": jax.tree.map(_to_array, data)})
        return step

    def _update(self, step: OptStep, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OptStep:
        step = self.update(*step, *args, **kwargs)
        if self.verbose:
            _report(self, step.state)
        return step


def without_derivatives(function: Callable[..., Any], *args: Any) -> Any:
    """The function's value as a constant, whatever it closes over.

    Loops that end when something is found have no derivative in reverse mode, and need none.

    Arguments:
        function: of pytrees of arrays.
        *args: these pytrees.

    Returns:
        `function(*args)`, with zero derivatives.
    """
    args = jax.lax.stop_gradient(args)
    converted = eqx.filter_closure_convert(function, *args)
    dynamic, static = eqx.partition(converted, eqx.is_inexact_array)
    converted = eqx.combine(jax.lax.stop_gradient(dynamic), static)
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf,
        converted(*args),
    )


def _to_array(leaf: Any) -> Any:
    if isinstance(leaf, complex) or (eqx.is_array(leaf) and jnp.iscomplexobj(leaf)):
        raise InputError("an argument is complex: give its real and imaginary parts")
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "fiub":
        return jnp.asarray(leaf)
    return floats_to_arrays(leaf)


def _closes_over_tracers(solver: IterativeSolver, arguments: Any) -> bool:
    """Whether the solver, or a function among its arguments, reads a value that JAX is tracing."""
    return closes_over_tracers(solver, eqx.filter(arguments, eqx.is_array, inverse=True))


def _differentiable(
    solver: IterativeSolver, arguments: Any
) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], tuple[Any, Any]]:
    if _closes_over_tracers(solver, arguments):
        return custom_root(
            lambda params, args, kwargs: solver.residual(params, *args, **kwargs),
            has_aux=True,
            solve=solver.implicit_diff_solve,
            symmetric=solver.symmetric,
            least_squares=True,
        )(lambda init, args, kwargs: _solve(init, solver, args, kwargs))
    solve = solver.implicit_diff_solve
    if solve is None and type(solver).linear_system is not IterativeSolver.linear_system:
        solve = _SYSTEM_OF_SOLVER
    decorated = _decorated(solve, solver.symmetric)
    return lambda init, args, kwargs: decorated(init, solver, args, kwargs)


def _linear_system(
    params: Any, solver: IterativeSolver, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> ProximalSystem | None:
    # As a constant: derivatives of the linear solve are by the condition's own products.
    params, solver, args, kwargs = jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf,
        (params, solver, args, kwargs),
    )
    return solver.linear_system(params, *args, **kwargs)


_SYSTEM_OF_SOLVER = SolverAt(_linear_system)


@functools.lru_cache
def _decorated(solve: Solver | SolverAt | None, symmetric: bool) -> Callable[..., Any]:
    # The solver is an argument, so that what is compiled for one serves all that are equal to it,
    # and arrays inside it (a step size, the weights of an objective) are differentiated too.
    def condition(
        params: Any, solver: IterativeSolver, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return solver.residual(params, *args, **kwargs)

    # The solvers look at their conditions themselves, hence least_squares.
    return custom_root(
        condition, has_aux=True, solve=solve, symmetric=symmetric, least_squares=True
    )(_solve)


def _solve(
    init_params: Any, solver: IterativeSolver, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return _checked(solver, *_iterate(init_params, solver, args, kwargs))


def _iterate(
    init_params: Any, solver: IterativeSolver, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    # Once more, since in eager derivatives JAX hands Python floats over as they were.
    init_params, args, kwargs = jax.tree.map(_to_array, (init_params, args, kwargs))
    if solver.jit or is_traced((init_params, args, kwargs)):
        # What it closes over is no argument, and may be what is differentiated.
        closed = _closes_over_tracers(solver, (args, kwargs))
        loop = eqx.filter_jit(_loop) if closed else _compiled_loop
        return loop(init_params, solver, args, kwargs)
    tol = solver.tolerance(init_params)
    step = OptStep(init_params, solver.init_state(init_params, *args, **kwargs))
    while step.state.iter_num < solver.maxiter and solver.unfinished(*step, tol):
        step = solver._update(step, args, kwargs)
    return step.params, step.state._replace(converged=solver.converged(*step, tol))


@compiled
def _compiled_update(
    solver: IterativeSolver, step: OptStep, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> OptStep:
    return solver._update(step, args, kwargs)


def _report(solver: IterativeSolver, state: Any) -> None:
    """A line on the screen, as soon as the state is known."""
    jax.debug.print(
        type(solver).__name__ + ": iteration {}, error {:.3e}", state.iter_num, state.error
    )


def _loop(
    init_params: Any, solver: IterativeSolver, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The whole loop."""
    tol = solver.tolerance(init_params)
    start = (init_params, solver.init_state(init_params, *args, **kwargs))
    dynamic, static = eqx.partition(start, eqx.is_array)

    def unfinished(dynamic: Any) -> Array:
        params, state = eqx.combine(dynamic, static)
        return solver.unfinished(params, state, tol) & (state.iter_num < solver.maxiter)

    def step(dynamic: Any) -> Any:
        step = solver._update(OptStep(*eqx.combine(dynamic, static)), args, kwargs)
        return eqx.filter(tuple(step), eqx.is_array)

    if solver.differentiation == "unrolled":
        dynamic = eqxi.while_loop(
            unfinished, step, dynamic, max_steps=solver.maxiter, kind="bounded"
        )
    else:
        dynamic = jax.lax.while_loop(unfinished, step, dynamic)
    params, state = eqx.combine(dynamic, static)
    return params, state._replace(converged=solver.converged(params, state, tol))


#: Compiled once per solver and shapes, and for derivatives outside `jit` not once more.
_compiled_loop = compiled(heavy=True, much=_LITTLE)(_loop)


def _checked(solver: IterativeSolver, params: Any, state: Any) -> tuple[Any, Any]:
    """The same, or the error that the iterations did not converge."""
    if not solver.throw:
        return params, state
    name, tol = type(solver).__name__, solver.tolerance(params)
    if isinstance(state.converged, jax.core.Tracer):
        problem = jnp.where(state.converged, -1, jnp.where(jnp.isnan(state.error), 0, 1))
        messages = [_not_a_number(name, ""), _not_converged(name, "", tol, solver.maxiter)]
        return raise_where(params, problem, messages, ConvergenceError), state
    if np.any(np.isnan(state.error)):
        raise ConvergenceError(_not_a_number(name, f" in iteration {int(state.iter_num)}"))
    if not np.all(state.converged):
        reached = f" with an error of {float(state.error):.1e}"
        raise ConvergenceError(_not_converged(name, reached, tol, solver.maxiter))
    return params, state


def _not_a_number(name: str, where: str) -> str:
    return (
        f"{name} met numbers that are not finite{where}; look at the function and its gradient at "
        "init_params, begin elsewhere, or pass a smaller stepsize where there is one."
    )


def _not_converged(name: str, reached: str, tol: float, maxiter: int) -> str:
    return (
        f"{name} did not converge: maxiter={maxiter} iterations ended{reached} above "
        f"tol={tol:.1e}; raise maxiter, scale the problem, or accept a larger tol; "
        "throw=False only flags it."
    )
