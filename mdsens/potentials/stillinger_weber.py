"""The Stillinger-Weber potential, for one or several species."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.particles.edges import Edges
from mdsens.potentials.potential import Parameter, Potential, parameter


class StillingerWeber(Potential):
    """Stillinger-Weber: a two-body term and a three-body term that favours one bond angle.

    E = sum_{i<j} A epsilon (B (sigma/r)^p - (sigma/r)^q) exp(sigma / (r - a sigma))
      + sum_i sum_{j<k} lambda epsilon (cos theta_jik - costheta0)^2
        exp(gamma sigma / (r_ij - a sigma)) exp(gamma sigma / (r_ik - a sigma))

    The names mean what they mean in LAMMPS's pair_style sw. Where a parameter is a table over
    pairs of species, the strength of a triplet is the geometric mean of its two bonds' values of
    lambda epsilon.

    Arguments:
        epsilon: energy scale; one value or a species-by-species table, as are all below.
        sigma: length scale.
        a: range in units of sigma.
        lambda_: strength of the three-body term in units of epsilon.
        gamma: decay of the three-body term.
        costheta0: cosine of the favoured bond angle; one value.
        A: strength of the two-body term in units of epsilon.
        B: strength of the repulsion.
        p: exponent of the repulsion.
        q: exponent of the attraction.
        species: names of the tables' rows, e.g. ``("Ga", "N")``.

    Raises:
        InputError: a parameter outside its domain.

    F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6.
    """

    epsilon: Parameter = parameter("energy", positive=True)
    sigma: Parameter = parameter("length", positive=True)
    a: Parameter = parameter("1", positive=True)
    lambda_: Parameter = parameter("1", minimum=0.0)
    gamma: Parameter = parameter("1", positive=True)
    costheta0: Parameter = parameter("1", minimum=-1.0, per="all")
    A: Parameter = parameter("1", positive=True)
    B: Parameter = parameter("1", minimum=0.0)
    p: Parameter = parameter("1", minimum=0.0)
    q: Parameter = parameter("1", minimum=0.0)
    species: tuple[str, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        epsilon: Any,
        sigma: Any,
        a: Any,
        lambda_: Any,
        gamma: Any,
        costheta0: Any,
        A: Any,
        B: Any,
        p: Any,
        q: Any,
        species: tuple[str, ...] | list[str] | None = None,
    ):
        self.epsilon, self.sigma, self.a, self.lambda_, self.gamma = (
            epsilon, sigma, a, lambda_, gamma,
        )  # fmt: skip
        self.costheta0, self.A, self.B, self.p, self.q = costheta0, A, B, p, q
        self.species = None if species is None else tuple(species)

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The largest a sigma, in units of length."""
        return jnp.max(self.a * self.sigma)

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Half the two-body energies and all triplets around the atom, shape (C,), energy."""
        return self.site_energies_and_gradients(edges)[0]

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients in closed form, in one pass over bonds each.

        With weights w_j and unit vectors u_j, the sum over pairs of bonds is
        sum_{j<k} w_j w_k (u_j . u_k - c)^2 = (T:T - 2 c V.V + c^2 S^2 - (1 - c)^2 Q) / 2 with the
        moments T = sum w u u, V = sum w u, S = sum w, Q = sum w^2. Five times faster than the
        general reverse derivative.
        """
        pair = self.per_pair(edges)
        r = edges.distances
        bonded = edges.mask & (r < pair.a * pair.sigma)
        # Beyond the range the exponentials are zero with all derivatives; 1/(r - a sigma) is not.
        safe_r = jnp.where(bonded, r, 0.5 * pair.a * pair.sigma)
        inverse_r = 1.0 / safe_r
        ones = jnp.ones_like(r)
        two_body, two_body_slope = jax.jvp(pair._two_body, (safe_r,), (ones,))
        w, w_slope = jax.jvp(pair._weight, (safe_r,), (ones,))
        w, w_slope = jnp.where(bonded, w, 0.0), jnp.where(bonded, w_slope, 0.0)

        c, axes = pair.costheta0, range(len(edges.vectors))
        u = [jnp.where(bonded, component * inverse_r, 0.0) for component in edges.vectors]
        S, Q = jnp.sum(w, axis=0), jnp.sum(w * w, axis=0)
        V = [jnp.sum(w * u[i], axis=0) for i in axes]
        half = {(i, j): jnp.sum(w * u[i] * u[j], axis=0) for i in axes for j in axes if i <= j}
        T = [[half[min(i, j), max(i, j)] for j in axes] for i in axes]
        square = sum((T[i][j] ** 2 for i in axes for j in axes), start=jnp.zeros_like(S))
        bias = sum((V[i] ** 2 for i in axes), start=jnp.zeros_like(S))
        # With one strength for all, the weights carry none of it: at zero a root has no slope.
        strength = self.lambda_ * self.epsilon if self._one_strength else jnp.ones(())
        triplets = 0.5 * strength * (square - 2 * c * bias + (c * S) ** 2 - (1 - c) ** 2 * Q)
        energies = 0.5 * jnp.sum(jnp.where(bonded, two_body, 0.0), axis=0) + triplets

        Tu = [sum((T[i][j] * u[j] for j in axes), start=jnp.zeros_like(r)) for i in axes]
        uTu = sum((u[i] * Tu[i] for i in axes), start=jnp.zeros_like(r))
        Vu = sum((V[i] * u[i] for i in axes), start=jnp.zeros_like(r))
        by_weight = strength * (uTu - 2 * c * Vu + c**2 * S - (1 - c) ** 2 * w)
        radial = jnp.where(bonded, 0.5 * two_body_slope, 0.0) + by_weight * w_slope
        turning = 2.0 * strength * w * inverse_r
        gradients = tuple(
            radial * u[i] + turning * (Tu[i] - c * V[i] - (uTu - c * Vu) * u[i]) for i in axes
        )
        return energies, gradients

    @property
    def _one_strength(self) -> bool:
        return self.lambda_.ndim == 0 and self.epsilon.ndim == 0

    def _two_body(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        log_ratio = jnp.log(self.sigma / r)
        decay = self.sigma / (r - self.a * self.sigma)
        repulsion = self.B * jnp.exp(self.p * log_ratio + decay)
        return self.A * self.epsilon * (repulsion - jnp.exp(self.q * log_ratio + decay))

    def _weight(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        weight = jnp.exp(self.gamma * self.sigma / (r - self.a * self.sigma))
        return weight if self._one_strength else jnp.sqrt(self.lambda_ * self.epsilon) * weight
