"""Newton's method with the assembled Hessian."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.implicit.multigrid import HostPreconditioner
from mdsens.relaxation.hessian_solver import HessianSolver
from mdsens.relaxation.landscape import Landscape, largest_force
from mdsens.relaxation.line_search import LineSearchMinimiser, search
from mdsens.relaxation.minimiser import State

#: Degrees of freedom up to which a Hessian is diagonalised.
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

    The sparse Hessian is assembled at every step. Small systems factorise it, and where it curves
    down use |H|^-1, the inverse with the absolute eigenvalues, which turns saddles into points to
    leave (Y. Dauphin et al., NeurIPS 2014, arXiv 1406.2572). Large ones solve as exactly as the
    distance from the minimum is worth, by conjugate gradients preconditioned by multigrid that end
    at a direction of negative curvature (T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983)); the
    hierarchy is kept from step to step.

    Arguments:
        max_step: largest move of an atom in one trial, length.
    """

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Always: the Hessian is assembled and solved with by host code."""
        return True

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No preconditioner yet."""
        return _Memory(None, None)

    def step(self, landscape: Landscape, state: State) -> State:
        """Move by the Newton step."""
        gradient, memory = np.asarray(state.gradient), state.memory
        force = float(largest_force(state.gradient))
        first = memory.first_force or force
        solver = HessianSolver(landscape, state.q, preconditioner=memory.preconditioner)
        if state.q.size <= DENSE_LIMIT and solver.sparse.negative_pivots != 0:
            direction, steps = _saddle_free_direction(solver.dense(), gradient), 0
        else:
            # Near the minimum the error falls as its square, and so may that of the solve.
            rtol = float(np.clip(force / first, SMALLEST_RTOL, LARGEST_RTOL))
            direction, steps = solver.descent_direction(gradient, rtol)
        result, accepted = _search_down(
            landscape, state.without_memory(), jnp.asarray(direction), jnp.asarray(self.max_step)
        )
        # A hierarchy that has become a poor likeness is built anew.
        kept = solver.sparse.preconditioner if 0 < steps <= SLOW_STEPS else None
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted, _Memory(kept, first),
        )  # fmt: skip


class _Memory(eqx.Module):
    """What Newton's method keeps from step to step."""

    preconditioner: HostPreconditioner | None = eqx.field(static=True)
    first_force: float | None = eqx.field(static=True)


@eqx.filter_jit
def _search_down(
    landscape: Landscape,
    state: State,
    direction: Float[Array, "R D"],
    max_step: Float[Array, ""],
) -> tuple[Any, Array]:
    direction = jnp.where(jnp.vdot(direction, state.gradient) < 0, direction, -state.gradient)
    return search(landscape, state, direction, jnp.ones(()), max_step, curvature=0.9)


def hessian_product(
    landscape: Landscape, q: Float[Array, "R D"], vector: Float[Array, "R D"]
) -> Float[Array, "R D"]:
    """Product of d2H/dq2 with a vector: the change of the gradient along it."""
    return jax.jvp(lambda x: landscape.enthalpy_and_gradient(x)[1], (q,), (vector,))[1]


def _saddle_free_direction(
    hessian: Float[np.ndarray, "RD RD"], gradient: Float[np.ndarray, "R D"]
) -> Float[np.ndarray, "R D"]:
    values, vectors = np.linalg.eigh(hessian)
    sizes = np.abs(values)
    kept = sizes > NULL_FRACTION * sizes.max(initial=0.0)
    inverse = np.where(kept, 1.0 / np.where(kept, sizes, 1.0), 0.0)
    return -(vectors @ (inverse * (vectors.T @ gradient.reshape(-1)))).reshape(gradient.shape)
