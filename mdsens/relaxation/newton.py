"""Newton's method: with the dense Hessian for small systems, the sparse one for large."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.relaxation.hessian_solver import HessianSolver
from mdsens.relaxation.landscape import Landscape, largest_force
from mdsens.relaxation.line_search import LineSearchMinimiser, search
from mdsens.relaxation.minimiser import State

#: Degrees of freedom up to which the Hessian is built and diagonalised.
DENSE_LIMIT = 1000
#: Eigenvalues below this fraction of the largest are null modes.
NULL_FRACTION = 1e-10
#: Relative residuals of the linear solves, far from the minimum and near it.
LARGEST_RTOL = 0.1
SMALLEST_RTOL = 1e-6
#: Iterations of a linear solve above which its preconditioner is built anew for the next.
SLOW_STEPS = 40


class Newton(LineSearchMinimiser):
    """Newton steps with a line search; where the Hessian curves down, the step goes down it too.

    Small systems use |H|^-1, the inverse with the absolute eigenvalues, which turns saddles into
    points to leave (Y. Dauphin et al., NeurIPS 2014, arXiv 1406.2572). Large ones assemble the
    sparse Hessian and solve with it as exactly as the distance from the minimum is worth, by
    conjugate gradients preconditioned by multigrid that end at a direction of negative curvature
    (T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983)); the hierarchy is kept from step to step.

    Arguments:
        max_step: largest move of an atom in one trial, length.
    """

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Large systems are solved by host code."""
        return q.size > DENSE_LIMIT

    def start(self, q: Float[Array, "R D"]) -> Any:
        """Nothing to remember for a small system; for a large one its preconditioner."""
        return _Memory(None, 0, None) if self.runs_on_host(q) else ()

    def step(self, landscape: Landscape, state: State) -> State:
        """Move by the Newton step."""
        if self.runs_on_host(state.q):
            return self._sparse_step(landscape, state)
        direction = _dense_direction(landscape, state)
        result, accepted = _search_down(landscape, state, direction, self.max_step)
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted, (),
        )  # fmt: skip

    def _sparse_step(self, landscape: Landscape, state: State) -> State:
        force = float(largest_force(state.gradient))
        memory: _Memory = state.memory
        first = memory.first_force or force
        solver = HessianSolver(landscape, state.q, preconditioner=memory.preconditioner)
        # Near the minimum the error falls as its square, and so may that of the linear solve.
        rtol = float(np.clip(force / first, SMALLEST_RTOL, LARGEST_RTOL))
        direction, steps = solver.descent_direction(np.asarray(state.gradient), rtol)
        result, accepted = _compiled_search(
            landscape, state.without_memory(), jnp.asarray(direction), jnp.asarray(self.max_step)
        )
        # A hierarchy that has become a poor likeness is built anew.
        slow = steps > SLOW_STEPS
        kept = _Memory(None if slow else solver.preconditioner, steps, first)
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted, kept,
        )  # fmt: skip


class _Memory(eqx.Module):
    """What Newton's method keeps of a large system from step to step."""

    preconditioner: Any = eqx.field(static=True)
    linear_steps: int = eqx.field(static=True)
    first_force: float | None = eqx.field(static=True)


def _search_down(
    landscape: Landscape,
    state: State,
    direction: Float[Array, "R D"],
    max_step: float | Float[Array, ""],
) -> tuple[Any, Array]:
    direction = jnp.where(jnp.vdot(direction, state.gradient) < 0, direction, -state.gradient)
    return search(landscape, state, direction, jnp.ones(()), max_step, curvature=0.9)


_compiled_search = eqx.filter_jit(_search_down)


def hessian_product(
    landscape: Landscape, q: Float[Array, "R D"], vector: Float[Array, "R D"]
) -> Float[Array, "R D"]:
    """Product of d2H/dq2 with a vector: the change of the gradient along it."""
    return jax.jvp(lambda x: landscape.enthalpy_and_gradient(x)[1], (q,), (vector,))[1]


def dense_jacobian(landscape: Landscape, q: Float[Array, "R D"]) -> Float[Array, "RD RD"]:
    """The matrix of the condition's derivative: the Hessian, and 1 on the diagonal of held atoms.

    Arguments:
        landscape: the function.
        q: degrees of freedom, shape (R, D).

    Returns:
        Shape (R D, R D), symmetrised, in units of energy/length^2.
    """

    def column(index: Array) -> Array:
        unit = jnp.zeros(q.size).at[index].set(1.0).reshape(q.shape)
        return jax.jvp(landscape.condition, (q,), (unit,))[1].reshape(-1)

    matrix = jax.lax.map(column, jnp.arange(q.size), batch_size=min(64, q.size))
    return (matrix + matrix.T) / 2


compiled_dense_jacobian = eqx.filter_jit(dense_jacobian)


def _dense_direction(landscape: Landscape, state: State) -> Float[Array, "R D"]:
    values, vectors = jnp.linalg.eigh(dense_jacobian(landscape, state.q))
    sizes = jnp.abs(values)
    inverse = jnp.where(sizes > NULL_FRACTION * jnp.max(sizes), 1.0 / sizes, 0.0)
    along = vectors.T @ state.gradient.reshape(-1)
    return -(vectors @ (inverse * along)).reshape(state.q.shape)
