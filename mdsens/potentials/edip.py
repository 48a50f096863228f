"""The environment-dependent interatomic potential: bonds and angles that know the coordination."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.potentials.files.triplets import FromTripletFile
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.three_body import ThreeBodyPotential
from mdsens.values import is_traced, shown

#: How close, in units of its width, the switch comes to its end: it is zero in every digit before.
NEAREST_END = 1e-9


class EDIP(FromTripletFile, ThreeBodyPotential):
    """The environment-dependent interatomic potential, for one or several species.

    E = sum_i sum_{j != i} A ((B/r_ij)^rho - exp(-beta Z_i^2)) exp(sigma / (r_ij - a))
      + sum_i sum_{j<k} exp(gamma_ij / (r_ij - a_ij)) exp(gamma_ik / (r_ik - a_ik))
        lambda (1 - exp(-Q (cos theta_jik + tau)^2) + eta Q (cos theta_jik + tau)^2),
    Q = Q0 exp(-mu Z_i),  tau = u1 + u2 (u3 exp(-u4 Z_i) - exp(-2 u4 Z_i)),
    Z_i = sum_{j != i} f(r_ij),
    f = exp(alpha / (1 - x^-3)) with x = (r - c) / (a - c) between c and a, 1 before and 0 beyond.

    The names mean what they mean in LAMMPS's pair_style edip/multi, where a is called cutoffA and c
    cutoffC; pair_style edip computes the same from tables. Of several species, lambda_, eta, mu, Q0
    and u1 to u4 are tables over triplets, all others tables over bonds. Where [A-B-C] and [A-C-B]
    differ, each gives half the energy, while LAMMPS takes either by the order of the atoms. At c
    the third derivative of the energy jumps.

    Arguments:
        A: strength of the two-body term, energy; one value or a table over bonds.
        B: length scale of the repulsion, length.
        a: range, length.
        c: where an atom begins to count less in the coordination, length; below a.
        alpha: steepness of the coordination's end.
        beta: how the attraction weakens with the coordination.
        eta: strength of the harmonic part of the angular function.
        gamma: decay of the three-body term, length.
        lambda_: strength of the three-body term, energy.
        mu: how angles soften with the coordination.
        rho: exponent of the repulsion.
        sigma: decay of the two-body term, length.
        Q0: sharpness of the angular function.
        u1: cosine of the favoured angle at high coordination, with the other sign.
        u2: how the favoured angle changes with the coordination, as do u3 and u4.
        u3: weight of the slower change.
        u4: its decay.
        species: names of the tables' rows, e.g. ``("Si", "C")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2011-09-15")``.

    Raises:
        InputError: a parameter outside its domain, or c not below a.

    J. F. Justo, M. Z. Bazant, E. Kaxiras, V. V. Bulatov, S. Yip, Phys. Rev. B 58, 2539 (1998); of
    several species: C. Jiang, D. Morgan, I. Szlufarska, Phys. Rev. B 86, 144118 (2012).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".edip": (
            "A", "B", "a", "c", "alpha", "beta", "eta", "gamma", "lambda_", "mu",
            "rho", "sigma", "Q0", "u1", "u2", "u3", "u4",
        )
    }  # fmt: skip
    coordinated: ClassVar[bool] = True

    A: Parameter = parameter("energy", minimum=0.0, per="bond")
    B: Parameter = parameter("length", positive=True, per="bond")
    a: Parameter = parameter("length", positive=True, per="bond")
    c: Parameter = parameter("length", minimum=0.0, per="bond")
    alpha: Parameter = parameter("1", positive=True, per="bond")
    beta: Parameter = parameter("1", minimum=0.0, per="bond")
    eta: Parameter = parameter("1", minimum=0.0, per="triplet")
    gamma: Parameter = parameter("length", positive=True, per="bond")
    lambda_: Parameter = parameter("energy", minimum=0.0, per="triplet")
    mu: Parameter = parameter("1", minimum=0.0, per="triplet")
    rho: Parameter = parameter("1", positive=True, per="bond")
    sigma: Parameter = parameter("length", positive=True, per="bond")
    Q0: Parameter = parameter("1", minimum=0.0, per="triplet")
    u1: Parameter = parameter("1", per="triplet")
    u2: Parameter = parameter("1", per="triplet")
    u3: Parameter = parameter("1", per="triplet")
    u4: Parameter = parameter("1", minimum=0.0, per="triplet")
    species: tuple[str, ...] | None = eqx.field(static=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, default=None)
    #: Z of atoms, where the formulas are asked at one.
    coordination: Float[Array, "..."] | None = None

    def __init__(
        self,
        A: Any,
        B: Any,
        a: Any,
        c: Any,
        alpha: Any,
        beta: Any,
        eta: Any,
        gamma: Any,
        lambda_: Any,
        mu: Any,
        rho: Any,
        sigma: Any,
        Q0: Any,
        u1: Any,
        u2: Any,
        u3: Any,
        u4: Any,
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.A, self.B, self.a, self.c, self.alpha = A, B, a, c, alpha
        self.beta, self.eta, self.gamma, self.lambda_, self.mu = beta, eta, gamma, lambda_, mu
        self.rho, self.sigma, self.Q0 = rho, sigma, Q0
        self.u1, self.u2, self.u3, self.u4 = u1, u2, u3, u4
        self.species, self.header, self.coordination = species, header, None

    def check_relations(self) -> None:
        """Raise InputError unless c is below a."""
        if is_traced((self.a, self.c)):
            return
        low, high = np.asarray(self.c), np.asarray(self.a)
        if not np.all(low < high):
            raise InputError(
                f"EDIP: c = {shown(low.tolist())} is not below a = "
                f"{shown(high.tolist())}: give a coordination that ends after it begins to"
            )

    def at_coordination(self, coordination: Float[Array, "1 C"]) -> Self:
        """This potential with the coordination that its formulas depend on."""
        return eqx.tree_at(
            lambda potential: potential.coordination,
            self,
            coordination,
            is_leaf=lambda leaf: leaf is None,
        )

    def coordination_terms(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """F, from 1 at c to 0 at a, as smooth as a cubic where it begins."""
        x = (r - self.c) / (self.a - self.c)
        x = jnp.clip(x, 0.0, 1.0 - NEAREST_END)
        cube = x * x * x
        return jnp.where(r < self.a, jnp.exp(-self.alpha * cube / (1.0 - cube)), 0.0)

    def bond_energies(
        self, r: Float[Array, "..."], zeta: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """The two-body energy and half of what the triplets add up to, in units of energy."""
        bonded, r = self._within_range(r)
        repulsion = jnp.exp(self.rho * jnp.log(self.B / r))
        order = jnp.exp(-self.beta * self._Z * self._Z)
        two_body = self.A * (repulsion - order) * jnp.exp(self.sigma / (r - self.a))
        return jnp.where(bonded, two_body, 0.0) + 0.5 * zeta

    def triplet_terms(
        self,
        first: Self,
        second: Self,
        r_first: Float[Array, "..."],
        r_second: Float[Array, "..."],
        cosine: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """Lambda (1 - exp(-Q x^2) + eta Q x^2) with x = cos + tau, times both weights, energy."""
        decay = jnp.exp(-self.u4 * self._Z)
        turned = cosine + self.u1 + self.u2 * (self.u3 - decay) * decay
        square = self.Q0 * jnp.exp(-self.mu * self._Z) * turned * turned
        angular = self.lambda_ * (self.eta * square - jnp.expm1(-square))
        return angular * first._weights(r_first) * second._weights(r_second)

    @property
    def _Z(self) -> Float[Array, "..."]:
        return jnp.zeros(()) if self.coordination is None else self.coordination

    def _weights(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        bonded, r = self._within_range(r)
        return jnp.where(bonded, jnp.exp(self.gamma / (r - self.a)), 0.0)

    def _within_range(self, r: Float[Array, "..."]) -> tuple[Any, Float[Array, "..."]]:
        """Whether bonds are, and lengths that are within: beyond, 1/(r - a) is not zero."""
        bonded = r < self.a
        return bonded, jnp.where(bonded, r, 0.5 * self.a)

    def bond_ranges(self) -> Any:
        """The range a, in units of length."""
        return self.a

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Where the coordination's ends begin, and the ranges, in units of length."""
        ends = (self.c, self.a)
        if self.c.ndim + self.a.ndim == 0:
            return jnp.stack(ends)
        size = len(self.species or ())
        tables = [jnp.broadcast_to(end, (size, size)) for end in ends]
        return jnp.stack([view for table in tables for view in (table, table.T)])
