"""Newton's method with the Hessian: dense for small systems, by conjugate gradients for large."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.relaxation.landscape import Landscape
from mdsens.relaxation.line_search import LineSearchMinimiser, search
from mdsens.relaxation.minimiser import State

#: Degrees of freedom up to which the Hessian is built and diagonalised.
DENSE_LIMIT = 1000
#: Eigenvalues below this fraction of the largest are null modes.
NULL_FRACTION = 1e-10


class Newton(LineSearchMinimiser):
    """Newton steps with a line search; where the Hessian curves down, the step goes down it too.

    Small systems use |H|^-1, the inverse with the absolute eigenvalues, which turns saddles into
    points to leave (Y. Dauphin et al., NeurIPS 2014, arXiv 1406.2572); large ones the truncated
    conjugate gradients of T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983).

    Arguments:
        max_step: largest move of an atom in one trial, length.
        max_products: Hessian-vector products per step of a large system.
    """

    max_products: int = eqx.field(static=True, default=500)

    def start(self, q: Float[Array, "R D"]) -> Any:
        """Nothing to remember."""
        return ()

    def step(self, landscape: Landscape, state: State) -> State:
        """Move by the Newton step."""
        if state.q.size <= DENSE_LIMIT:
            direction = _dense_direction(landscape, state)
        else:
            direction = _truncated_direction(landscape, state, self.max_products)
        direction = jnp.where(jnp.vdot(direction, state.gradient) < 0, direction, -state.gradient)
        result, accepted = search(
            landscape, state, direction, jnp.ones(()), self.max_step, curvature=0.9
        )
        return State(
            result.q, result.enthalpy, result.gradient,
            state.evaluations + result.trials, ~accepted, (),
        )  # fmt: skip


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


def _truncated_direction(
    landscape: Landscape, state: State, max_products: int
) -> Float[Array, "R D"]:
    """Conjugate gradients on H p = -g, ended by accuracy or by negative curvature."""
    g = state.gradient
    square_0 = jnp.vdot(g, g)
    # Tighter as the gradient falls, so that the last steps converge quadratically.
    tolerance = 1e-6

    def unfinished(carry: tuple) -> Array:
        _, _, _, square, products, curved = carry
        return (square > tolerance**2 * square_0) & (products < max_products) & ~curved

    def one_product(carry: tuple) -> tuple:
        p, r, d, square, products, _ = carry
        hd = hessian_product(landscape, state.q, d)
        curvature = jnp.vdot(d, hd)
        curved = curvature <= 0
        a = jnp.where(curved, 0.0, square / jnp.where(curved, 1.0, curvature))
        # Before any progress, the direction of negative curvature itself goes downhill.
        p = jnp.where(curved & (products == 0), d, p + a * d)
        r = r + a * hd
        new_square = jnp.vdot(r, r)
        d = -r + new_square / square * d
        return p, r, d, new_square, products + 1, curved

    start = (jnp.zeros_like(g), g, -g, square_0, jnp.asarray(0), jnp.asarray(False))
    return jax.lax.while_loop(unfinished, one_product, start)[0]
