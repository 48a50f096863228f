"""What quasi-Newton methods of limited memory know of the curvature: their past steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import on_device, scalar_product
from mdsens.compilation import compiled
from mdsens.modules import Module


class LBFGSHistory(Module):
    """Past steps s and gradient changes y in a ring, with 1/(s.y); where that is 0 there is none.

    The inverse Hessian that they model is that of the two-loop recursion (algorithm 7.4 of J.
    Nocedal, S. J. Wright, Numerical Optimization, 2nd ed.): `backward`, then any model of the
    inverse Hessian without them, then `forward`. Neither is a loop, but a product with the inverse
    of the triangle R_ij = s_i.y_j, i not after j, which grows by a column with each step (R. H.
    Byrd, J. Nocedal, R. B. Schnabel, Math. Program. 63, 129 (1994), theorem 2.2): long vectors are
    read twice, and not twice for each step, and what is small takes no time.
    """

    steps: Float[Array, "M *shape"]
    changes: Float[Array, "M *shape"]
    triangle: Float[Array, "M M"]
    inverses: Float[Array, " M"]
    newest: Int[Array, ""]

    @classmethod
    def none(cls, history: int, q: Float[Array, "*shape"]) -> "LBFGSHistory":
        """Room for so many steps, and none yet."""
        # Each of its own memory, which compiled code may write over.
        return cls(
            on_device(np.zeros((history, *q.shape)), q.dtype),
            on_device(np.zeros((history, *q.shape)), q.dtype),
            on_device(np.zeros((history, history)), q.dtype),
            on_device(np.zeros(history), q.dtype), on_device(0),
        )  # fmt: skip

    @property
    def empty(self) -> Bool[Array, ""]:
        """Whether there is none."""
        return self.inverses[self.newest] == 0

    def forgotten(self, wanted: Bool[Any, ""]) -> "LBFGSHistory":
        """None of them where that is wanted."""
        triangle, inverses = _unless(wanted, self.triangle, self.inverses)
        return LBFGSHistory(self.steps, self.changes, triangle, inverses, self.newest)

    @compiled
    def with_step(
        self, s: Float[Array, "*shape"], y: Float[Array, "*shape"], accepted: Bool[Any, ""]
    ) -> "LBFGSHistory":
        """One step more, in the place of the oldest, if it was accepted and tells of curvature."""
        sy, along = scalar_product(s, y), _products(self.steps, y)
        useful = accepted & (sy > jnp.finfo(s.dtype).eps * scalar_product(y, y))
        # Always so; but what is written must depend on what is read, or the rings would be copied.
        useful &= jnp.all(jnp.isfinite(along))
        place = jnp.where(useful, (self.newest + 1) % len(self.inverses), self.newest)

        def with_new(old: Array, new: Array) -> Array:
            # Only this place is written to: the rest of a long ring stays where it is.
            return old.at[place].set(jnp.where(useful, new, old[place]))

        inverse = 1.0 / jnp.where(useful, sy, 1.0)
        triangle = _with_column(self.triangle, along, inverse, place)
        return LBFGSHistory(
            with_new(self.steps, s),
            with_new(self.changes, y),
            jnp.where(useful, triangle, self.triangle),
            with_new(self.inverses, inverse),
            place,
        )

    @property
    def scale(self) -> Float[Array, ""]:
        """The inverse curvature s.y / y.y along the newest step; 1 without any."""
        y = self.changes[self.newest]
        curvature = self.inverses[self.newest] * scalar_product(y, y)
        return 1.0 / jnp.where(curvature > 0, curvature, 1.0)

    @compiled
    def backward(self, vector: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Array]:
        """The first loop: what is left of a vector, and the weights for the second."""
        weights = self.triangle @ _products(self.steps, vector)
        return vector - _combination(self.changes, weights), weights

    @compiled
    def forward(self, vector: Float[Array, "*shape"], weights: Array) -> Float[Array, "*shape"]:
        """The second loop, with the weights of the first."""
        own = jnp.where(self.inverses > 0, 1.0 / jnp.where(self.inverses > 0, self.inverses, 1), 0)
        added = (own * weights - _products(self.changes, vector)) @ self.triangle
        return vector + _combination(self.steps, added)

    def inverse_hessian_product(
        self, vector: Float[Array, "*shape"], scaled: bool = True
    ) -> Float[Array, "*shape"]:
        """The product with the modelled inverse Hessian, scaled as the newest step tells."""
        left, weights = self.backward(vector)
        return self.forward(self.scale * left if scaled else left, weights)

    def restricted(self, free: Bool[Array, "*shape"]) -> "LBFGSHistory":
        """The same curvature in the subspace of the free variables."""
        steps, changes = (jnp.where(free, ring, 0) for ring in (self.steps, self.changes))
        # Of each step in a row with all changes.
        products = jax.vmap(lambda step: _products(changes, step))(steps)
        own = jnp.diag(products)
        floor = jnp.finfo(own.dtype).eps * jnp.sum(changes**2, axis=tuple(range(1, changes.ndim)))
        useful = (self.inverses > 0) & (own > floor)
        inverses = jnp.where(useful, 1 / jnp.where(useful, own, 1), 0)
        order = self._order

        def one(triangle: Array, place: Array) -> tuple[Array, None]:
            column = jnp.where(useful, products[:, place], 0)
            new = _with_column(triangle, column, inverses[place], place)
            return jnp.where(useful[place], new, triangle), None

        triangle = jax.lax.scan(one, jnp.zeros_like(products), order)[0]
        # The newest that tells of any curvature here gives the scale.
        newest = order[jnp.max(jnp.where(inverses[order] > 0, jnp.arange(len(order)), 0))]
        return LBFGSHistory(steps, changes, triangle, inverses, newest)

    @property
    def _order(self) -> Int[Array, " M"]:
        """Places from the oldest to the newest."""
        return (self.newest + 1 + jnp.arange(len(self.inverses))) % len(self.inverses)


@compiled
def _unless(
    wanted: Bool[Any, ""], triangle: Float[Array, "M M"], inverses: Float[Array, " M"]
) -> tuple[Float[Array, "M M"], Float[Array, " M"]]:
    """Zeros where that is wanted."""
    return jnp.where(wanted, 0.0, triangle), jnp.where(wanted, 0.0, inverses)


def _with_column(
    triangle: Float[Array, "M M"],
    along: Float[Array, " M"],
    inverse: Float[Array, ""],
    place: Int[Array, ""],
) -> Float[Array, "M M"]:
    """The inverse of a triangle with another last column, in the place of the first of all.

    Without its first row and column the inverse is that of the rest.

    Arguments:
        triangle: inverse of the triangle so far, zero where there are no steps.
        along: products of its steps with the new change.
        inverse: 1 over the product of the new step with it.
        place: where it goes.
    """
    here = jnp.arange(len(along)) == place
    rest = jnp.where(here[:, None] | here[None], 0.0, triangle)
    column = jnp.where(here, inverse, -inverse * (rest @ along))
    return jnp.where(here, column[:, None], rest)


def _products(ring: Float[Array, "M *shape"], vector: Float[Array, "*shape"]) -> Float[Array, " M"]:
    """The scalar product of a vector with each of a ring."""
    return ring.reshape(len(ring), -1) @ vector.reshape(-1)


def _combination(
    ring: Float[Array, "M *shape"], weights: Float[Array, " M"]
) -> Float[Array, "*shape"]:
    """The sum of a ring's vectors with these weights, in one pass; as a product it takes four."""
    return sum((weights[i] * ring[i] for i in range(1, len(ring))), start=weights[0] * ring[0])


@dataclasses.dataclass(eq=False)
class HostHistory:
    """The same for minimisers on the host: NumPy's arrays, which each step is written into.

    Of long vectors nothing is copied to JAX and back, which takes longer than the products.

    Attributes:
        steps: shape (M, n), past steps in a ring.
        changes: shape (M, n), the changes of the gradient along them.
        triangle: shape (M, M), as that of `LBFGSHistory`.
        inverses: shape (M,), 1 over the products of both.
        newest: the place of the newest.
        filled: how many there are.
        scale: the inverse curvature s.y / y.y along the newest step; 1 without any.
    """

    steps: Float[np.ndarray, "M n"]
    changes: Float[np.ndarray, "M n"]
    triangle: Float[np.ndarray, "M M"]
    inverses: Float[np.ndarray, " M"]
    newest: int = 0
    filled: int = 0
    scale: float = 1.0

    @classmethod
    def none(cls, history: int, size: int) -> "HostHistory":
        """Room for so many steps of vectors of a length, and none yet."""
        rings = np.zeros((history, size)), np.zeros((history, size))
        return cls(*rings, np.zeros((history, history)), np.zeros(history))

    def forget(self) -> None:
        """There are no past steps any more."""
        self.triangle[:], self.inverses[:] = 0.0, 0.0
        self.newest, self.filled, self.scale = 0, 0, 1.0

    def add(self, s: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> None:
        """One step more, in the place of the oldest, if it tells of curvature.

        Arguments:
            s: shape (n,), the step.
            y: shape (n,), the change of the gradient along it.
        """
        sy, yy, history = float(np.vdot(s, y)), float(np.vdot(y, y)), len(self.inverses)
        if not sy > np.finfo(float).eps * yy:
            return
        place = (self.newest + 1) % history if self.filled else 0
        along = np.zeros(history)
        along[: self.filled] = self.steps[: self.filled] @ y
        self.triangle[place], self.triangle[:, place] = 0.0, 0.0
        along[place] = 0.0
        self.triangle[:, place] = (self.triangle @ along) / -sy
        self.triangle[place, place] = self.inverses[place] = 1.0 / sy
        self.steps[place], self.changes[place] = s, y
        self.newest, self.filled = place, min(self.filled + 1, history)
        self.scale = sy / yy

    def backward(self, vector: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """As that of `LBFGSHistory`: what is left of a vector, and the weights for the second."""
        some = slice(self.filled)
        weights = self.triangle[some, some] @ (self.steps[some] @ vector)
        return vector - weights @ self.changes[some], weights

    def forward(
        self, vector: Float[np.ndarray, " n"], weights: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, " n"]:
        """The second loop, with the weights of the first."""
        some = slice(self.filled)
        added = (weights / self.inverses[some] - self.changes[some] @ vector) @ (
            self.triangle[some, some]
        )
        product: np.ndarray = added @ self.steps[some]
        product += vector
        return product
