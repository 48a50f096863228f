"""Linear systems of proximal gradient's fixed points, by symmetric iterations.

The derivative of prox(x - grad f(x)) - x is -(1 - D G), with D the derivative of the proximal
operator and G = 1 - H, H the Hessian of f. It is not symmetric, but D and G are (D is itself a
Hessian: Moreau 1965, Bull. Soc. Math. France 93, 273), and S = D - D G D is positive semi-definite
at a minimum:

    (1 - D G) x = b  with  S y = D G b  and  x = b + D y,
    (1 - G D) x = b  with  S y = D b    and  x = b + G D y.

D leaves but the unknowns that are not at a kink or a bound: conjugate gradients see no others.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from mdsens.implicit.conjugate_gradients import conjugate_gradients

__all__ = ["ProximalSystem"]

Product = Callable[[PyTree], PyTree]

_PASSES = 3


@dataclasses.dataclass(frozen=True)
class ProximalSystem:
    """A solver of systems with -(1 - D G), or with the transpose.

    Arguments:
        proximal: v -> D v, for pytrees.
        hessian: v -> H v, likewise.
        transpose: whether the matrix is -(1 - G D).
    """

    proximal: Product
    hessian: Product
    transpose: bool = False

    def transposed(self) -> "ProximalSystem":
        """The solver of the transposed systems."""
        return dataclasses.replace(self, transpose=not self.transpose)

    def solve(
        self,
        matvec: Callable[[Array], Array],
        b: Float[Array, " n"],
        unravel: Callable[[Array], PyTree],
        rtol: float | Array,
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Solve for one right-hand side.

        Arguments:
            matvec: the product with the matrix itself, of flat vectors, for residuals.
            b: right-hand side.
            unravel: flat vector -> pytree.
            rtol: residual, relative to b, at which to stop.

        Returns:
            x and the number of iterations. Whoever calls it looks at the residual.
        """

        def D(v: Array) -> Array:
            product: Array = ravel_pytree(self.proximal(unravel(v)))[0]
            return product

        def G(v: Array) -> Array:
            product: Array = v - ravel_pytree(self.hessian(unravel(v)))[0]
            return product

        def S(v: Array) -> Array:
            free = D(v)
            return free - D(G(free))

        def correct(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            x, residual, steps, count = state
            right = D(-residual if self.transpose else G(-residual))
            y, more = conjugate_gradients(S, right, None, rtol, 10 * b.size)
            free = D(y)
            x = x - residual + (G(free) if self.transpose else free)
            return x, b - matvec(x), steps + more, count + 1

        # G may enlarge what conjugate gradients leave: then they solve for the rest.
        def unfinished(state: tuple[Array, Array, Array, Array]) -> Array:
            _, residual, _, count = state
            limit = 10 * rtol * jnp.linalg.norm(b)
            return (jnp.linalg.norm(residual) > limit) & (count < _PASSES)

        zero = jnp.asarray(0)
        x, _, steps, _ = jax.lax.while_loop(unfinished, correct, (jnp.zeros_like(b), b, zero, zero))
        return x, steps
