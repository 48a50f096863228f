"""Phantom gradients: the linear system of an implicit derivative by a few terms of a series."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PyTree

from mdsens.errors import InputError
from mdsens.implicit.backends import MatrixVectorProduct
from mdsens.values import integer, is_traced, real

__all__ = ["TruncatedNeumann"]


class TruncatedNeumann(eqx.Module):
    """A linear solver that ends after a few terms, for derivatives of fixed points.

    Give it as the `solve` of `custom_fixed_point` or the `implicit_diff_solve` of a fixed-point
    solver. The derivative is then that of `steps` damped iterations that begin at the solution, a
    phantom gradient: with one step and no damping the one-step derivative, with ever more of them
    the exact one. It is approximate, and never says so by itself: its error is M^steps times the
    derivative, with the M below, so that it shrinks by the contraction of T with every step.
    `mdsens.implicit.vjp_solution(..., solve=TruncatedNeumann(steps)).residual` is the relative
    residual that is left.

    Arguments:
        steps: number of terms.
        damping: lambda in T_damped(x) = (1 - lambda) x + lambda T(x); less than 1 makes iterations
            converge of which the undamped ones would oscillate. For the condition grad f = 0 in
            place of T(x) - x = 0 it is minus the step size of gradient descent.
        tolerance: relative residual |A v - b| / |b| above which the derivative is an error. The
            vector of zeros has a residual of 1, so that above 1, which is the default, the series
            is worse than no derivative at all; infinity: never.

    v = -lambda sum_(k < steps) M^k b with M = 1 + lambda A and A = dT/dx - 1: the phantom gradient
    by Neumann series of Geng et al. 2021, arXiv 2111.05177; for A = -(grad grad f) the truncated
    series of Lorraine et al. 2020, arXiv 1911.02590.
    """

    steps: int = 5
    damping: float | Float[Array, ""] = 1.0
    tolerance: float = 1.0

    def __check_init__(self) -> None:
        integer(self.steps, "steps", at_least=1)
        if not is_traced(self.damping) and real(self.damping, "damping") == 0:
            raise InputError("damping = 0: give another number, 1 for none")
        if self.tolerance != float("inf"):
            real(self.tolerance, "tolerance", above=0.0)

    def __call__(self, matvec: MatrixVectorProduct, b: PyTree) -> PyTree:
        """An approximate solution of A v = b.

        Arguments:
            matvec: v -> A v.
            b: right-hand side, a pytree of floating-point arrays.

        Returns:
            v, with the structure of `b`.
        """
        first = jax.tree.map(lambda leaf: -self.damping * leaf, b)

        def step(v: PyTree, _: None) -> tuple[PyTree, None]:
            product = matvec(v)
            return jax.tree.map(lambda f, x, Ax: f + x + self.damping * Ax, first, v, product), None

        return jax.lax.scan(step, first, length=self.steps - 1)[0]
