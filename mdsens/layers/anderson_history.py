"""The differences of past points that Anderson acceleration combines, kept in a ring."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["AndersonHistory"]


class AndersonHistory(NamedTuple):
    """Differences of successive points and residuals; rows that are not filled yet are zero.

    A new pair replaces the oldest, and the products of the residuals' differences are kept, since
    of these a new one changes one row: an iteration passes over the history twice.

    Attributes:
        params: differences of the points, flattened.
        residuals: differences of the residuals there.
        gram: the products of the latter with one another.
    """

    params: Float[Array, "history n"]
    residuals: Float[Array, "history n"]
    gram: Float[Array, "history history"]

    @staticmethod
    def empty(size: int, like: Float[Array, " n"]) -> "AndersonHistory":
        """A history of `size` differences of vectors like this one, none of which is known."""
        nothing = jnp.zeros((size, like.size), like.dtype)
        return AndersonHistory(nothing, nothing, jnp.zeros((size, size), like.dtype))

    def remembered(
        self, iter_num: Int[Array, ""], step: Float[Array, " n"], change: Float[Array, " n"]
    ) -> "AndersonHistory":
        """The history with one more pair of differences; in iteration 0 there are none.

        Arguments:
            iter_num: iterations done, which tells the row.
            step: the last difference of points, (n,).
            change: that of the residuals, (n,).

        Returns:
            The history.
        """
        known = iter_num > 0
        row = jnp.maximum(iter_num - 1, 0) % len(self.gram)
        step, change = jnp.where(known, step, 0), jnp.where(known, change, 0)
        residuals = self.residuals.at[row].set(change)
        products = residuals @ change
        gram = self.gram.at[row].set(products).at[:, row].set(products)
        return AndersonHistory(self.params.at[row].set(step), residuals, gram)

    def correction(
        self, residual: Float[Array, " n"], beta: float, ridge: float
    ) -> Float[Array, " n"]:
        """(dX + beta dF) argmin_gamma |f - dF gamma|, what x + beta f is too far.

        Arguments:
            residual: f, (n,).
            beta: part of the residual that is added.
            ridge: regularisation of the least-squares problem, relative to the residuals' lengths.

        Returns:
            The correction, (n,).
        """
        # Scaled to length 1, since residuals shrink by orders of magnitude within the history.
        squares = jnp.diagonal(self.gram)
        lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1))
        epsilon = 10 * jnp.finfo(self.gram.dtype).eps
        # A one on the diagonal where a row is missing keeps the system regular.
        diagonal = jnp.where(squares > 0, jnp.maximum(ridge, epsilon), 1)
        gram = self.gram / jnp.outer(lengths, lengths) + jnp.diag(diagonal.astype(lengths.dtype))
        weights = jnp.linalg.solve(gram, self.residuals @ residual / lengths) / lengths
        return weights @ self.params + beta * (weights @ self.residuals)
