"""What quasi-Newton methods of limited memory know of the curvature: their past steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import on_device, scalar_product
from mdsens.compilation import compiled


class LBFGSHistory(eqx.Module):
    """Past steps s and gradient changes y in a ring, with 1/(s.y); where that is 0 there is none.

    The inverse Hessian that they model is applied by the two-loop recursion (algorithm 7.4 of J.
    Nocedal, S. J. Wright, Numerical Optimization, 2nd ed.): `backward`, then any model of the
    inverse Hessian without them, then `forward`. Both loops are over numbers, the products s.y of
    all pairs, so that long vectors are read twice, and not twice for each step (as in R. H. Byrd,
    J. Nocedal, R. B. Schnabel, Math. Program. 63, 129 (1994), section 3).
    """

    steps: Float[Array, "M *shape"]
    changes: Float[Array, "M *shape"]
    products: Float[Array, "M M"]
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

    def forgotten(self, wanted: Bool[Array, ""]) -> "LBFGSHistory":
        """None of them where that is wanted."""
        inverses = _unless(wanted, self.inverses)
        return LBFGSHistory(self.steps, self.changes, self.products, inverses, self.newest)

    @compiled
    def with_step(
        self, s: Float[Array, "*shape"], y: Float[Array, "*shape"], accepted: Bool[Array, ""]
    ) -> "LBFGSHistory":
        """One step more, in the place of the oldest, if it was accepted and tells of curvature."""
        sy = scalar_product(s, y)
        across, down = _products(self.changes, s), _products(self.steps, y)
        useful = accepted & (sy > jnp.finfo(s.dtype).eps * scalar_product(y, y))
        # Always so; but what is written must depend on what is read, or the rings would be copied.
        useful &= jnp.all(jnp.isfinite(across) & jnp.isfinite(down))
        place = jnp.where(useful, (self.newest + 1) % len(self.inverses), self.newest)

        def with_new(old: Array, new: Array) -> Array:
            # Only this place is written to: the rest of a long ring stays where it is.
            return old.at[place].set(jnp.where(useful, new, old[place]))

        return LBFGSHistory(
            with_new(self.steps, s),
            with_new(self.changes, y),
            # The product of a step with its own change is in the inverses, and not read from here.
            with_new(with_new(self.products, across).T, down).T,
            with_new(self.inverses, 1.0 / jnp.where(useful, sy, 1.0)),
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
        along = _products(self.steps, vector)

        def one(weights: Array, place: Array) -> tuple[Array, None]:
            # Those of older steps are still zero.
            left = along[place] - jnp.vdot(self.products[place], weights)
            return weights.at[place].set(self.inverses[place] * left), None

        weights = jax.lax.scan(one, jnp.zeros_like(along), self._order, reverse=True)[0]
        return vector - _combination(self.changes, weights), weights

    @compiled
    def forward(self, vector: Float[Array, "*shape"], weights: Array) -> Float[Array, "*shape"]:
        """The second loop, with the weights of the first."""
        along = _products(self.changes, vector)

        def one(added: Array, place: Array) -> tuple[Array, None]:
            # What newer steps add is still zero.
            now = along[place] + jnp.vdot(self.products[:, place], added)
            return added.at[place].set(weights[place] - self.inverses[place] * now), None

        added = jax.lax.scan(one, jnp.zeros_like(along), self._order)[0]
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
        products = jax.vmap(lambda step: _products(changes, step))(steps)
        own = jnp.diag(products)
        floor = jnp.finfo(own.dtype).eps * jnp.sum(changes**2, axis=tuple(range(1, changes.ndim)))
        useful = (self.inverses > 0) & (own > floor)
        inverses = jnp.where(useful, 1 / jnp.where(useful, own, 1), 0)
        # The newest that tells of any curvature here gives the scale.
        order = self._order
        newest = order[jnp.max(jnp.where(inverses[order] > 0, jnp.arange(len(order)), 0))]
        return LBFGSHistory(steps, changes, products, inverses, newest)

    @property
    def _order(self) -> Int[Array, " M"]:
        """Places from the oldest to the newest."""
        return (self.newest + 1 + jnp.arange(len(self.inverses))) % len(self.inverses)


@compiled
def _unless(wanted: Bool[Array, ""], inverses: Float[Array, " M"]) -> Float[Array, " M"]:
    """Zeros where that is wanted."""
    return jnp.where(wanted, 0.0, inverses)


def _products(ring: Float[Array, "M *shape"], vector: Float[Array, "*shape"]) -> Float[Array, " M"]:
    """The scalar product of a vector with each of a ring."""
    return ring.reshape(len(ring), -1) @ vector.reshape(-1)


def _combination(
    ring: Float[Array, "M *shape"], weights: Float[Array, " M"]
) -> Float[Array, "*shape"]:
    """The sum of a ring's vectors with these weights, in one pass; as a product it takes four."""
    return sum((weights[i] * ring[i] for i in range(1, len(ring))), start=weights[0] * ring[0])
