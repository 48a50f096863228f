"""Nonlinear programs with equations, inequalities and bounds, as layers."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mdsens.errors import InputError
from mdsens.implicit.arguments import floats_to_arrays
from mdsens.layers.checks import booleans, float_array, members
from mdsens.layers.nonlinear_kkt import Functions, as_vector, residuals
from mdsens.layers.nonlinear_outcome import NonlinearProgramState
from mdsens.layers.nonlinear_solve import MAXITER, differentiable, primal
from mdsens.layers.parameters import leafwise
from mdsens.layers.program import UNSOLVED
from mdsens.layers.program_solver import ProgramLayer, check_options
from mdsens.layers.signature import positional
from mdsens.layers.solution import OptStep
from mdsens.layers.trees import dtype_of

__all__ = ["NonlinearProgram", "NonlinearProgramState", "NonlinearSolution"]

SolverName: TypeAlias = Literal["auto", "interior-point", "slsqp", "trust-constr"]


class NonlinearSolution(NamedTuple):
    """A minimum with its multipliers; None for what is absent.

    The gradient of f + <dual_eq, g> + <dual_ineq, h> + <dual_bounds, x> is zero.

    Attributes:
        primal: x.
        dual_eq: multipliers of the equations, with the structure of g.
        dual_ineq: multipliers of the inequalities, with the structure of h, not negative.
        dual_bounds: multipliers of the bounds, with the structure of x: positive where the upper
            bound holds x back, negative where the lower one does.
    """

    primal: PyTree
    dual_eq: PyTree = None
    dual_ineq: PyTree = None
    dual_bounds: PyTree = None


@positional("fun", "eq_fun", "ineq_fun")
class NonlinearProgram(ProgramLayer):
    """min f(x, *args) subject to g(x, *args) = 0, h(x, *args) <= 0 and bounds on x.

    A local minimum next to the start. x and all multipliers have derivatives of any order and in
    both modes, in every float among the arguments and in the bounds: those of the solution of the
    Karush-Kuhn-Tucker conditions with the active rows. Multipliers are shadow prices: that of a row
    is minus the derivative of the least f by its right-hand side.

    Where active rows depend on each other the derivatives are of least norm and `state.unique` is
    false; where one is just touched, with multiplier zero, they are one-sided and `state.strict`
    is false. They are never NaN.

    Arguments:
        fun: f(x, *args) -> scalar, twice differentiable.
        eq_fun: g(x, *args), zero where it holds, any pytree; None: no equations.
        ineq_fun: h(x, *args), not positive where it holds, any pytree; None: no inequalities.
        solver: "interior-point" (also "auto") runs in JAX, under jit and vmap, with exact Hessians;
            "slsqp" and "trust-constr" are SciPy's. These run on the host and call compiled
            functions: known numbers alone, with all derivatives but not under jit and vmap.
        tol: largest error in the conditions, relative; None: the square root of the machine
            precision, 1.5e-8 in double precision. Newton steps on the active rows then make the
            solution exact to rounding where it is unique.
        maxiter: most iterations; None: 200, 1000 for SLSQP and 5000 for trust-constr.
        throw: whether it is an error to find no minimum; otherwise `state` tells.

    Matrices are dense, of the number of unknowns and rows together: for up to a few hundred.

    The solver: `mdsens.layers.nonlinear_interior_point`. The derivative: Fiacco 1976, Math.
    Program. 10, 287, theorem 2.1; Blondel et al. 2021, arXiv 2105.15183, equation 6.
    """

    fun: Callable[..., Any]
    eq_fun: Callable[..., Any] | None = None
    ineq_fun: Callable[..., Any] | None = None
    solver: SolverName = eqx.field(kw_only=True, default="auto")
    tol: float | None = eqx.field(kw_only=True, default=None)
    maxiter: int | None = eqx.field(kw_only=True, default=None)
    throw: bool = eqx.field(kw_only=True, default=True)

    def __check_init__(self) -> None:
        for name in ("fun", "eq_fun", "ineq_fun"):
            value = getattr(self, name)
            if not (callable(value) or (value is None and name != "fun")):
                raise InputError(f"{name} = {value!r}: give a function")
        check_options(self.solver, self.tol, self.maxiter, ("auto", *MAXITER))
        booleans(self, "throw")

    def run(
        self,
        init_params: PyTree = None,
        *args: Any,
        bounds: Any = None,
        **kwargs: Any,
    ) -> OptStep:
        """The minimum next to a start.

        Arguments:
            init_params: where to begin, a pytree of floating-point arrays; it need fulfil neither
                the rows nor the bounds. Its nearest point strictly inside the bounds is taken.
            *args: what the functions take after x, all of them the same.
            bounds: (lower, upper), each with the structure of x or one number; infinite ones are
                none. The functions are evaluated between them only. None: no bounds.
            **kwargs: as `args`.

        Returns:
            An `OptStep` of a `NonlinearSolution` and a `NonlinearProgramState`.

        Raises:
            InputError: for parameters that are no floating-point arrays; for functions that are
                not finite at the start or return something else than stated; and its subclasses
                `InfeasibleError` (no point near fulfils the rows), `UnboundedError` and
                `UnsolvedError` (also for a saddle point), with `throw`. Inside compiled code the
                latter ones are the runtime's.
        """
        init_params = jax.tree.map(lambda leaf: float_array("init_params", leaf), init_params)
        if not any(leaf.size for leaf in jax.tree.leaves(init_params)):
            raise InputError("init_params holds no numbers: give a start with at least one")
        args, kwargs = jax.tree.map(floats_to_arrays, (args, kwargs))
        if bounds is not None:
            dtype = dtype_of(init_params)
            pair = members("bounds", bounds, ("lower", "upper"))
            bounds = tuple(_like(bound, init_params, dtype) for bound in pair)
        self._check_outputs(init_params, args, kwargs)
        if self.solver in ("slsqp", "trust-constr") and any(
            isinstance(leaf, jax.core.Tracer)
            for leaf in jax.tree.leaves(primal((init_params, args, kwargs, bounds)))
        ):
            raise InputError(
                f"solver={self.solver!r} calls your functions from the host, which cannot be done "
                "under jit or vmap; use solver='interior-point' there, or call it outside."
            )
        (x, y), state = differentiable(self)(init_params, bounds, args, kwargs)
        _, unravel = ravel_pytree(init_params)
        sizes, structures = self._row_structures(init_params, args, kwargs)
        y_eq, y_ineq, y_bounds = jnp.split(y, np.cumsum(sizes))
        solution = NonlinearSolution(
            unravel(x),
            structures[0](y_eq) if structures[0] else None,
            structures[1](y_ineq) if structures[1] else None,
            unravel(y_bounds) if bounds is not None else None,
        )
        value = jnp.asarray(self.fun(solution.primal, *args, **kwargs))
        return OptStep(solution, state._replace(value=value))

    def optimality_fun(
        self,
        params: NonlinearSolution,
        *args: Any,
        bounds: Any = None,
        **kwargs: Any,
    ) -> NonlinearSolution:
        """The conditions of a minimum to first order, zero at one.

        Arguments:
            params: x and the multipliers.
            *args: as in `run`.
            bounds: as in `run`.
            **kwargs: as in `run`.

        Returns:
            The gradient of the Lagrangian; g; the larger one of h and minus its multipliers; and
            the bounds' likewise, x - clip(x + dual_bounds, lower, upper). These say feasible,
            complementary and of the right sign at once.
        """
        x, dual_eq, dual_ineq, dual_bounds = params
        flat, unravel = ravel_pytree(x)
        dtype = flat.dtype
        pair = None
        if bounds is not None:
            lower, upper = members("bounds", bounds, ("lower", "upper"))
            pair = (_like(lower, x, dtype), _like(upper, x, dtype))
        functions = self.functions(x, pair, args, kwargs)
        duals = (dual_eq, dual_ineq, dual_bounds)
        y = jnp.concatenate([as_vector(dual, dtype) for dual in duals])
        slope, missed = residuals(functions, flat, y)
        sizes, structures = self._row_structures(x, args, kwargs)
        of_eq, of_ineq, of_bounds = jnp.split(missed, np.cumsum(sizes))
        return NonlinearSolution(
            unravel(slope),
            structures[0](of_eq) if structures[0] else None,
            structures[1](of_ineq) if structures[1] else None,
            unravel(of_bounds) if bounds is not None else None,
        )

    def init_state(self, init_params: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The state before the program is solved: no iterations, and an infinite error."""
        del init_params, args, kwargs
        no = jnp.asarray(False)
        return NonlinearProgramState(
            jnp.asarray(0), jnp.asarray(jnp.inf), no, jnp.asarray(UNSOLVED), no, no
        )

    def update(self, params: Any, state: Any, *args: Any, **kwargs: Any) -> OptStep:
        """The solution, begun at `params`: all iterations of the solver."""
        del state
        start = params.primal if isinstance(params, NonlinearSolution) else params
        return self.run(start, *args, **kwargs)

    def _row_structures(
        self, init_params: PyTree, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[int], list[Callable[[Array], PyTree] | None]]:
        """The numbers of equations and inequalities, and what gives them their structures."""
        sizes: list[int] = []
        structures: list[Callable[[Array], PyTree] | None] = []
        for function in (self.eq_fun, self.ineq_fun):
            if function is None:
                sizes.append(0)
                structures.append(None)
                continue
            shape = jax.eval_shape(lambda p, f=function: f(p, *args, **kwargs), init_params)
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
            flat, unravel = ravel_pytree(zeros)
            sizes.append(flat.size)
            structures.append(unravel)
        return sizes, structures

    def _check_outputs(
        self, init_params: PyTree, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        value = jax.eval_shape(lambda p: self.fun(p, *args, **kwargs), init_params)
        if getattr(value, "shape", None) != ():
            raise InputError(
                f"fun returned {value}; allowed is a scalar: sum or average what it returns."
            )
        for name in ("eq_fun", "ineq_fun"):
            function = getattr(self, name)
            if function is None:
                continue
            rows = jax.eval_shape(lambda p, f=function: f(p, *args, **kwargs), init_params)
            for leaf in jax.tree.leaves(rows):
                if not jnp.issubdtype(leaf.dtype, jnp.floating):
                    raise InputError(
                        f"{name} returned {leaf.dtype} numbers; allowed are floating-point arrays."
                    )

    def functions(
        self,
        init_params: PyTree,
        bounds: tuple[PyTree, PyTree] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Functions:
        """The program for flat vectors, with rows (g, h, x)."""
        flat, unravel = ravel_pytree(init_params)
        dtype = flat.dtype
        (equations, inequalities), _ = self._row_structures(init_params, args, kwargs)

        def objective(x: Array) -> Array:
            value: Array = jnp.asarray(self.fun(unravel(x), *args, **kwargs), dtype)
            return value

        def rows(x: Array) -> Array:
            params = unravel(x)
            parts = [
                as_vector(function(params, *args, **kwargs), dtype)
                for function in (self.eq_fun, self.ineq_fun)
                if function is not None
            ]
            return jnp.concatenate([*parts, *([x] if bounds is not None else []), x[:0]])

        lower = [jnp.zeros(equations, dtype), jnp.full(inequalities, -jnp.inf, dtype)]
        upper = [jnp.zeros(equations + inequalities, dtype)]
        if bounds is not None:
            lower.append(as_vector(bounds[0], dtype))
            upper.append(as_vector(bounds[1], dtype))
        return Functions(
            objective, rows, jnp.concatenate(lower), jnp.concatenate(upper), bounds is not None
        )


def _like(bound: PyTree, params: PyTree, dtype: Any) -> PyTree:
    """The bound as a pytree like the parameters."""
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(
        structure,
        [
            jnp.broadcast_to(jnp.asarray(one, dtype), jnp.shape(leaf))
            for one, leaf in zip(leafwise("a bound", bound, params), leaves, strict=True)
        ],
    )
