"""Optimality conditions: functions that build F, zero at a solution, or T, whose fixed point it is.

`custom_root` takes what builds an F, `custom_fixed_point` what builds a T. Those with a proximal
operator, a projection or a geometry take its parameters as the first argument after the solution,
as JAXopt 0.8 does. The catalogue is that of Blondel et al. 2021, arXiv 2105.15183, section 2.2 and
its table 1, to which the equation numbers refer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, Scalar

from mdsens.errors import InputError
from mdsens.implicit.linear import Solver
from mdsens.implicit.linear import solve as linear_solve

__all__ = [
    "ConstrainedState",
    "KKTSolution",
    "bellman",
    "block_proximal_gradient",
    "conic",
    "force_balance",
    "kkt",
    "kl_mapping",
    "mirror_descent",
    "newton",
    "projected_gradient",
    "proximal_gradient",
    "stationary",
]

Objective = Callable[..., Scalar]


class KKTSolution(NamedTuple):
    """The solution of a constrained problem with its dual variables; None for what is absent.

    Attributes:
        primal: x.
        dual_eq: multipliers of the equalities, with their structure.
        dual_ineq: multipliers of the inequalities, not negative.
    """

    primal: PyTree
    dual_eq: PyTree = None
    dual_ineq: PyTree = None


class ConstrainedState(NamedTuple):
    """A state of equilibrium under constraints.

    Attributes:
        positions: x.
        multipliers: the constraint forces' magnitudes, with the structure of the constraints.
    """

    positions: PyTree
    multipliers: PyTree


def stationary(fun: Objective) -> Callable[..., PyTree]:
    """The condition that the gradient of an objective vanishes.

    Arguments:
        fun: f(x, *args) -> scalar.

    Returns:
        F(x, *args) = grad_x f, with the structure of x; symmetric.

    Blondel et al. 2021, equation 4.
    """
    return jax.grad(fun)


def kkt(
    fun: Objective,
    eq_fun: Callable[..., PyTree] | None = None,
    ineq_fun: Callable[..., PyTree] | None = None,
) -> Callable[..., KKTSolution]:
    """The conditions of Karush, Kuhn and Tucker, primal and dual.

    Stationarity of the Lagrangian, the equalities, and complementary slackness. Primal and dual
    feasibility of the inequalities are the solver's matter. The Jacobian is regular where
    no constraint is active with multiplier zero and the active ones are independent.

    Arguments:
        fun: f(x, params_obj) -> scalar, minimised.
        eq_fun: h(x, params_eq), zero at a feasible point, any pytree; `None`: no equalities.
        ineq_fun: g(x, params_ineq), not positive at a feasible point; `None`: no inequalities.

    Returns:
        F(solution, params_obj, params_eq, params_ineq) of a `KKTSolution`, with its structure.
        Parameters of what is absent are `None` and may be left out.

    Blondel et al. 2021, equation 6.
    """

    def optimality_fun(
        solution: KKTSolution,
        params_obj: Any = None,
        params_eq: Any = None,
        params_ineq: Any = None,
    ) -> KKTSolution:
        def lagrangian(x: Any) -> Scalar:
            value = fun(x, params_obj)
            if eq_fun is not None:
                value += _inner(solution.dual_eq, eq_fun(x, params_eq))
            if ineq_fun is not None:
                value += _inner(solution.dual_ineq, ineq_fun(x, params_ineq))
            return value

        x = solution.primal
        equalities = slackness = None
        if eq_fun is not None:
            equalities = eq_fun(x, params_eq)
        if ineq_fun is not None:
            slackness = jax.tree.map(jnp.multiply, solution.dual_ineq, ineq_fun(x, params_ineq))
        return KKTSolution(jax.grad(lagrangian)(x), equalities, slackness)

    return optimality_fun


def proximal_gradient(
    fun: Objective, prox: Callable[..., PyTree], stepsize: float | Float[Array, ""] = 1.0
) -> Callable[..., PyTree]:
    """The fixed point of one step of proximal gradient descent on f + g.

    Arguments:
        fun: f(x, *args) -> scalar, smooth.
        prox: prox(v, hyperparams_prox, scaling) -> the proximal operator of `scaling` times g.
        stepsize: eta; every positive number gives the same solution and derivative.

    Returns:
        T(x, hyperparams_prox, *args) = prox(x - eta grad f(x), hyperparams_prox, eta).

    Blondel et al. 2021, equation 7.
    """

    def fixed_point_fun(x: Any, /, hyperparams_prox: Any, *args: Any, **kwargs: Any) -> Any:
        return prox(_descended(fun, x, stepsize, args, kwargs), hyperparams_prox, stepsize)

    return fixed_point_fun


def projected_gradient(
    fun: Objective, projection: Callable[..., PyTree], stepsize: float | Float[Array, ""] = 1.0
) -> Callable[..., PyTree]:
    """The fixed point of one step of projected gradient descent.

    Arguments:
        fun: f(x, *args) -> scalar, smooth.
        projection: projection(v, hyperparams_proj) -> the nearest point of the convex set.
        stepsize: eta; every positive number gives the same solution and derivative.

    Returns:
        T(x, hyperparams_proj, *args) = projection(x - eta grad f(x), hyperparams_proj).

    Blondel et al. 2021, equation 9.
    """

    def fixed_point_fun(x: Any, /, hyperparams_proj: Any, *args: Any, **kwargs: Any) -> Any:
        return projection(_descended(fun, x, stepsize, args, kwargs), hyperparams_proj)

    return fixed_point_fun


def kl_mapping(x: PyTree) -> PyTree:
    """The mirror map of the Kullback-Leibler divergence, grad phi(x) = log x.

    It belongs to phi(x) = <x, log x - 1>, and to projections in that divergence, such as the
    softmax for the simplex.

    Arguments:
        x: positive numbers; zero is taken for the smallest one.

    Returns:
        log x, with the structure of x.
    """
    return jax.tree.map(lambda leaf: jnp.log(jnp.maximum(leaf, jnp.finfo(leaf.dtype).tiny)), x)


def mirror_descent(
    fun: Objective,
    projection: Callable[..., PyTree],
    stepsize: float | Float[Array, ""] = 1.0,
    mapping_fun: Callable[[PyTree], PyTree] = kl_mapping,
) -> Callable[..., PyTree]:
    """The fixed point of one step of mirror descent in a Bregman geometry.

    Arguments:
        fun: f(x, *args) -> scalar, smooth.
        projection: projection(y, hyperparams_proj) -> argmin over the set of the Bregman divergence
            to the point whose mirror image is y, for instance the softmax.
        stepsize: eta; every positive number gives the same solution and derivative.
        mapping_fun: the mirror map grad phi; that of the Kullback-Leibler divergence by default.

    Returns:
        T(x, hyperparams_proj, *args) = projection(grad phi(x) - eta grad f(x), ...).

    Blondel et al. 2021, equation 13.
    """

    def fixed_point_fun(x: Any, /, hyperparams_proj: Any, *args: Any, **kwargs: Any) -> Any:
        gradient = jax.grad(fun)(x, *args, **kwargs)
        mirrored = jax.tree.map(lambda y, g: y - stepsize * g, mapping_fun(x), gradient)
        return projection(mirrored, hyperparams_proj)

    return fixed_point_fun


def newton(
    optimality_fun: Callable[..., PyTree],
    stepsize: float | Float[Array, ""] = 1.0,
    solve: Solver | None = None,
    *,
    symmetric: bool = False,
) -> Callable[..., PyTree]:
    """The fixed point of one Newton step for the root of another condition.

    Arguments:
        optimality_fun: G(x, *args), with the structure of x; `stationary(f)` for minima.
        stepsize: eta; every positive number gives the same solution and derivative.
        solve: how to solve with dG/dx, as in `custom_root`.
        symmetric: whether dG/dx is symmetric.

    Returns:
        T(x, *args) = x - eta (dG/dx)^-1 G(x).

    Blondel et al. 2021, equation 14. At a root dT/dx = (1 - eta) 1, so that the derivative of the
    fixed point costs one product with dT/dtheta.
    """

    def fixed_point_fun(x: Any, /, *args: Any, **kwargs: Any) -> Any:
        x = jax.tree.map(jnp.asarray, x)
        value, matvec = jax.linearize(lambda y: optimality_fun(y, *args, **kwargs), x)
        step = linear_solve(matvec, value, solver=solve, symmetric=symmetric).value
        return jax.tree.map(lambda leaf, s: leaf - stepsize * s, x, step)

    return fixed_point_fun


def block_proximal_gradient(
    fun: Objective,
    block_prox: Callable[..., Array] | Sequence[Callable[..., Array]],
    stepsizes: float | Float[Array, " blocks"] | Sequence[float] = 1.0,
) -> Callable[..., Any]:
    """The fixed point of proximal gradient steps in every block, with a step size for each.

    Arguments:
        fun: f(x, *args) -> scalar, smooth; x is an array whose leading axis counts blocks, or a
            sequence of arrays, one per block.
        block_prox: prox_j(v, hyperparams_prox, scaling) of one block, the same for all or one per
            block of a sequence.
        stepsizes: eta_j, one for all or one per block; positive numbers all give the same solution.

    Returns:
        T(x, hyperparams_prox, *args), with [T]_j = prox_j(x_j - eta_j [grad f(x)]_j).

    Blondel et al. 2021, equation 15.
    """

    def fixed_point_fun(x: Any, /, hyperparams_prox: Any, *args: Any, **kwargs: Any) -> Any:
        gradient = jax.grad(fun)(x, *args, **kwargs)
        count = len(x)
        steps = jnp.broadcast_to(jnp.asarray(stepsizes), (count,))

        def updated(block: Array, slope: Array, step: Array, prox: Callable[..., Any]) -> Array:
            return prox(block - step * slope, hyperparams_prox, step)

        if isinstance(x, list | tuple):
            proxes = [block_prox] * count if callable(block_prox) else list(block_prox)
            blocks = [updated(*parts) for parts in zip(x, gradient, steps, proxes, strict=True)]
            return type(x)(blocks)
        if not callable(block_prox):
            raise InputError(
                "block_prox is a sequence, but x is one array; allowed is one function for the "
                "blocks of an array: pass x as a list of blocks."
            )
        return jax.vmap(lambda b, g, s: updated(b, g, s, block_prox))(x, gradient, steps)

    return fixed_point_fun


def conic(
    projection_dual_cone: Callable[[Float[Array, " m"]], Float[Array, " m"]],
) -> Callable[..., tuple[Float[Array, " n"], Float[Array, " m"]]]:
    """The residual map of the homogeneous self-dual embedding of a conic program.

    The program is: minimise c'x over x and s in a cone K with A x + s = b. The embedding is
    homogeneous, so that its third variable, here set to 1, only fixes the scale.

    Arguments:
        projection_dual_cone: v -> the nearest point of the dual cone K*, differentiable.

    Returns:
        F((u, v), A, b, c) -> (A' y + c, b - A x - s), with x = u, y = P(v) and s = P(v) - v for the
        projection P. The solution is x = u, with the dual variables y and slacks s.

    Blondel et al. 2021, equation 18; Agrawal et al. 2019, arXiv 1904.09043, section 3.2.
    """

    def optimality_fun(
        solution: tuple[Float[Array, " n"], Float[Array, " m"]],
        A: Float[Array, "m n"],
        b: Float[Array, " m"],
        c: Float[Array, " n"],
    ) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
        u, v = solution
        dual = projection_dual_cone(v)
        return A.T @ dual + c, b - A @ u - (dual - v)

    return optimality_fun


def bellman(
    rewards_fun: Callable[..., Float[Array, "states actions"]],
    transitions_fun: Callable[..., Float[Array, "states actions states"]],
    temperature: float = 0.0,
) -> Callable[..., Float[Array, " states"]]:
    """The fixed point of the Bellman operator of a Markov decision process.

    Arguments:
        rewards_fun: (*args) -> expected reward of each action in each state.
        transitions_fun: (*args) -> probabilities of the next state; the last axis sums to 1.
        temperature: 0: the best action; above: the entropy-regularised (soft) maximum, whose
            derivative is continuous.

    Returns:
        T(values, discount, *args), a contraction for a discount in [0, 1), with T(v)_s = max_a r_sa
        + discount sum_t P_sat v_t.

    Raises:
        InputError: if the temperature is negative.

    Bellman 1957; the soft maximum as in Haarnoja et al. 2017, arXiv 1702.08165, equation 3.
    """
    if temperature < 0:
        raise InputError(
            f"temperature={temperature} is negative; allowed are 0 (the best action) and above."
        )

    def fixed_point_fun(
        values: Float[Array, " states"], discount: Float[Array, ""], *args: Any
    ) -> Float[Array, " states"]:
        worth = rewards_fun(*args) + discount * (transitions_fun(*args) @ values)
        if temperature == 0:
            return jnp.max(worth, axis=1)
        return temperature * jax.nn.logsumexp(worth / temperature, axis=1)

    return fixed_point_fun


def force_balance(
    energy_fun: Objective, constraint_fun: Callable[..., PyTree] | None = None
) -> Callable[..., Any]:
    """The condition that no force is left on any particle, with or without constraints.

    Arguments:
        energy_fun: E(x, *args) -> energy; x is any pytree of positions, in length.
        constraint_fun: c(x, *args), zero where the constraints hold (rigid bonds, a fixed
            dihedral), independent of each other; `None`: no constraints.

    Returns:
        Without constraints F(x, *args) = -dE/dx, the forces. With them F of a `ConstrainedState`,
        which returns (-dE/dx - multipliers . dc/dx, -c). Both are symmetric; with constraints the
        system is indefinite. The multiplier of c is the constraint force along dc/dx with the
        opposite sign, in energy per unit of c.
    """
    if constraint_fun is None:
        return lambda x, *args, **kwargs: jax.tree.map(
            jnp.negative, jax.grad(energy_fun)(x, *args, **kwargs)
        )

    def optimality_fun(state: ConstrainedState, *args: Any, **kwargs: Any) -> ConstrainedState:
        def negative_lagrangian(state: ConstrainedState) -> Scalar:
            kept = constraint_fun(state.positions, *args, **kwargs)
            energy = energy_fun(state.positions, *args, **kwargs)
            return -energy - _inner(state.multipliers, kept)

        return jax.grad(negative_lagrangian)(state)

    return optimality_fun


def _descended(
    fun: Objective, x: Any, stepsize: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    gradient = jax.grad(fun)(x, *args, **kwargs)
    return jax.tree.map(lambda leaf, g: leaf - stepsize * g, x, gradient)


def _inner(first: Any, second: Any) -> Scalar:
    return jnp.vdot(ravel_pytree(first)[0], ravel_pytree(second)[0])
