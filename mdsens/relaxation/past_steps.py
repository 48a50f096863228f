"""What quasi-Newton methods of limited memory know of the curvature: their past steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class PastSteps(eqx.Module):
    """Past steps s, gradient changes y and 1/(s.y), in a ring; where that is 0 there is none.

    The inverse Hessian that they model is applied by the two-loop recursion (algorithm 7.4 of J.
    Nocedal, S. J. Wright, Numerical Optimization, 2nd ed.): `backward`, then any model of the
    inverse Hessian without them, then `forward`.
    """

    steps: Float[Array, "M R D"]
    changes: Float[Array, "M R D"]
    inverses: Float[Array, " M"]
    newest: Int[Array, ""]

    @classmethod
    def none(cls, history: int, q: Float[Array, "R D"]) -> "PastSteps":
        """Room for so many steps, and none yet."""
        shape = (history, *q.shape)
        # Each of its own memory, which compiled code may write over.
        return cls(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(history), jnp.asarray(0))

    @property
    def empty(self) -> Bool[Array, ""]:
        """Whether there is none."""
        return self.inverses[self.newest] == 0

    def forgotten(self, wanted: Bool[Array, ""]) -> "PastSteps":
        """None of them where that is wanted."""
        inverses = jnp.where(wanted, 0.0, self.inverses)
        return PastSteps(self.steps, self.changes, inverses, self.newest)

    @eqx.filter_jit
    def with_step(
        self, s: Float[Array, "R D"], y: Float[Array, "R D"], accepted: Bool[Array, ""]
    ) -> "PastSteps":
        """One step more, in the place of the oldest, if it was accepted and tells of curvature."""
        sy = jnp.vdot(s, y)
        useful = accepted & (sy > 1e-14 * jnp.vdot(y, y))
        place = jnp.where(useful, (self.newest + 1) % len(self.inverses), self.newest)

        def with_new(old: Array, new: Array) -> Array:
            # Only this place is written to: the rest of a long ring stays where it is.
            return old.at[place].set(jnp.where(useful, new, old[place]))

        return PastSteps(
            with_new(self.steps, s),
            with_new(self.changes, y),
            with_new(self.inverses, 1.0 / jnp.where(useful, sy, 1.0)),
            place,
        )

    @property
    def scale(self) -> Float[Array, ""]:
        """The inverse curvature s.y / y.y along the newest step, length^2/energy; 1 without any."""
        y = self.changes[self.newest]
        curvature = self.inverses[self.newest] * jnp.vdot(y, y)
        return 1.0 / jnp.where(curvature > 0, curvature, 1.0)

    @eqx.filter_jit
    def backward(self, vector: Float[Array, "R D"]) -> tuple[Float[Array, "R D"], Array]:
        """The first loop: what is left of a vector, and the weights for the second."""

        def one(r: Array, place: Array) -> tuple[Array, Array]:
            weight = self.inverses[place] * jnp.vdot(self.steps[place], r)
            return r - weight * self.changes[place], weight

        return jax.lax.scan(one, vector, self._order, reverse=True)

    @eqx.filter_jit
    def forward(self, vector: Float[Array, "R D"], weights: Array) -> Float[Array, "R D"]:
        """The second loop, with the weights of the first."""

        def one(r: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
            place, weight = inputs
            other = self.inverses[place] * jnp.vdot(self.changes[place], r)
            return r + self.steps[place] * (weight - other), None

        return jax.lax.scan(one, vector, (self._order, weights))[0]

    @property
    def _order(self) -> Int[Array, " M"]:
        """Places from the oldest to the newest."""
        return (self.newest + 1 + jnp.arange(len(self.inverses))) % len(self.inverses)
