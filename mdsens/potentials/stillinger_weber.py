"""The Stillinger-Weber potential, for one or several species."""

from typing import Any

import equinox as eqx
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
        """Half the two-body energies and all triplets around the atom, shape (C,).

        The sum over pairs of bonds is done in one pass over bonds: with weights w_j and unit
        vectors u_j, sum_{jk} w_j w_k (u_j . u_k - c)^2 = T:T - 2 c V.V + c^2 S^2 with the moments
        T = sum w u u, V = sum w u, S = sum w.
        """
        pair = self.per_pair(edges)
        r = edges.distances
        depth = r - pair.a * pair.sigma
        bonded = edges.mask & (depth < 0)
        # Beyond the range both exponentials are zero with all derivatives; 1/depth is not.
        inverse_depth = 1.0 / jnp.where(bonded, depth, -1.0)
        ratio = pair.sigma / r
        two_body = (
            pair.A * pair.epsilon * (pair.B * ratio**pair.p - ratio**pair.q)
        ) * jnp.exp(pair.sigma * inverse_depth)  # fmt: skip
        energy = 0.5 * jnp.sum(jnp.where(bonded, two_body, 0.0), axis=0)

        # lambda = 0 is allowed, where the square root has no derivative: one value needs no root.
        strength = pair.lambda_ * pair.epsilon
        common = strength.ndim == 0
        root = 1.0 if common else jnp.sqrt(strength)
        weights = root * jnp.exp(pair.gamma * pair.sigma * inverse_depth)
        w = jnp.where(bonded, weights, 0.0)
        u = edges.vectors / r
        wu = w * u
        c = pair.costheta0
        tensors = jnp.sum(wu[:, None] * u[None, :], axis=2)
        moments = (
            jnp.sum(tensors**2, axis=(0, 1))
            - 2.0 * c * jnp.sum(jnp.sum(wu, axis=1) ** 2, axis=0)
            + (c * jnp.sum(w, axis=0)) ** 2
            - (1.0 - c) ** 2 * jnp.sum(w * w, axis=0)
        )
        return energy + 0.5 * (strength if common else 1.0) * moments
