"""Tersoff's bond-order potential, and its kin."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.potentials.files.triplets import FromTripletFile
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.three_body import ThreeBodyPotential
from mdsens.values import is_traced, real, shown

#: Bonds whose order is below have no others: a power of zero has no slope.
SMALLEST_ORDER = 1e-100
#: Powers that the difference of two lengths may be raised to.
POWERS = (1, 3)
#: Constants of the repulsion of nuclei, with the digits that LAMMPS takes: Ang and e^2/(eV Ang).
BOHR, VACUUM_PERMITTIVITY = 0.529, 0.00552635
#: Factors and decays of the universal screening function.
SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016))


class BondOrderPotential(FromTripletFile, ThreeBodyPotential):
    """Bonds that attract the less, the more and the closer the atom's other bonds are.

    E = 1/2 sum_i sum_{j != i} fC(r_ij) (fR(r_ij) - b(zeta_ij) fA(r_ij)),
    zeta_ij = sum_{k != i, j} fC(r_ik) g(cos theta_jik) exp((lambda3 (r_ij - r_ik))^m),
    fR = A exp(-lambda1 r), fA = B exp(-lambda2 r).

    A subclass gives the switch fC, the angular function g and the bond order b. Where two ends of a
    bond have different parameters, each end gives half the energy.

    J. Tersoff, Phys. Rev. B 37, 6991 (1988); 39, 5566 (1989).
    """

    m: eqx.AbstractVar[int]
    lambda3: eqx.AbstractVar[Parameter]
    R: eqx.AbstractVar[Parameter]
    D: eqx.AbstractVar[Parameter]
    A: eqx.AbstractVar[Parameter]
    B: eqx.AbstractVar[Parameter]
    lambda1: eqx.AbstractVar[Parameter]
    lambda2: eqx.AbstractVar[Parameter]

    def check_relations(self) -> None:
        """Raise InputError unless m is 1 or 3 and each switch begins at no negative distance."""
        label = type(self).__name__
        if real(self.m, f"{label}: m") not in POWERS:
            raise InputError(f"{label}: m = {shown(self.m)}: allowed are 1 and 3")
        object.__setattr__(self, "m", int(self.m))
        if is_traced((self.R, self.D)):
            return
        R, D = np.asarray(self.R), np.asarray(self.D)
        if R.shape == D.shape and not np.all(D <= R):
            raise InputError(
                f"{label}: D = {shown(D.tolist())} is above R = {shown(R.tolist())}: give half the "
                "width of a switch that begins at no negative distance"
            )

    @classmethod
    def _tables_to_arguments(cls, tables: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        powers = sorted(set(tables["m"].flat))
        if len(powers) > 1:
            raise InputError(
                f"{name}: m = {shown(powers)}: one is allowed for all triplets; name fewer elements"
            )
        return super()._tables_to_arguments(tables, name) | {"m": float(powers[0])}

    def switch(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """fC, from 1 at R - D to 0 at R + D: (1 - sin(pi (r - R) / 2D)) / 2."""
        return 0.5 * (1.0 - jnp.sin(0.5 * jnp.pi * self._within_switch(r)))

    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """G of the cosine of an angle."""
        raise NotImplementedError(f"{type(self).__name__} gives no angular")

    def bond_order(self, zeta: Float[Array, "..."]) -> Float[Array, "..."]:
        """B of zeta, above zero; 1 where zeta vanishes."""
        raise NotImplementedError(f"{type(self).__name__} gives no bond_order")

    def repulsion(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy fC fR, in units of energy."""
        return self.switch(r) * self.A * jnp.exp(-self.lambda1 * r)

    def attraction(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy fC fA of a bond of order 1, in units of energy."""
        return self.switch(r) * self.B * jnp.exp(-self.lambda2 * r)

    def bond_energies(
        self, r: Float[Array, "..."], zeta: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Half of fC (fR - b fA), in units of energy."""
        bonded = zeta > SMALLEST_ORDER
        order = jnp.where(bonded, self.bond_order(jnp.where(bonded, zeta, 1.0)), 1.0)
        return 0.5 * (self.repulsion(r) - order * self.attraction(r))

    def triplet_terms(
        self,
        first: Self,
        second: Self,
        r_first: Float[Array, "..."],
        r_second: Float[Array, "..."],
        cosine: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        """fC(r_ik) g(cos theta) exp((lambda3 (r_ij - r_ik))^m)."""
        difference = self.lambda3 * (r_first - r_second)
        power = difference if self.m == 1 else difference * difference * difference
        return self.switch(r_second) * self.angular(cosine) * jnp.exp(power)

    def _within_switch(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """From -1 where the switch begins to 1 where it ends, and constant beyond."""
        # A switch without a width is a step.
        return jnp.clip((r - self.R) / jnp.where(self.D > 0.0, self.D, 1e-100), -1.0, 1.0)

    def bond_ranges(self) -> Any:
        """R + D, of each triplet or all, in units of length."""
        return self.R + self.D

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Where switches begin and end, in units of length: second derivatives jump there."""
        ends = [self.R - self.D, self.R + self.D]
        if self.R.ndim + self.D.ndim == 0:
            return jnp.stack(ends)
        size = len(self.species or ())
        tables = [jnp.broadcast_to(end, (size,) * 3) for end in ends]
        return jnp.concatenate(
            [table.transpose(order) for table in tables for order in ((1, 0, 2), (1, 2, 0))]
        )


class Tersoff(BondOrderPotential):
    """Tersoff's potential, for one or several species.

    E = 1/2 sum_i sum_{j != i} fC(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)),
    b_ij = (1 + (beta zeta_ij)^n)^(-1/(2n)),
    zeta_ij = sum_{k != i, j} fC(r_ik) g(cos theta_jik) exp((lambda3 (r_ij - r_ik))^m),
    g(x) = gamma (1 + c^2/d^2 - c^2/(d^2 + (costheta0 - x)^2)),
    fC(r) = (1 - sin(pi (r - R) / 2D)) / 2 between R - D and R + D.

    The names mean what they mean in LAMMPS's pair_style tersoff. Of several species, gamma,
    lambda3, c, d, costheta0, R and D are tables over triplets, all others tables over bonds; where
    the two ends of a bond have different parameters, each end gives half the energy.

    Arguments:
        m: 1 or 3, power of the difference of lengths, of all triplets.
        gamma: factor of the angular function; one value or a table over triplets, as are
            lambda3, c, d, costheta0, R and D.
        lambda3: decay with the difference of lengths, 1/length.
        c: strength of the angular function.
        d: sharpness of the angular function.
        costheta0: cosine of the angle at which zeta is least.
        n: power of the bond order; one value or a table over bonds, as are all below but R and D.
        beta: strength of the bond order.
        lambda2: decay of the attraction, 1/length.
        B: strength of the attraction, energy.
        R: middle of the switch, length.
        D: half the width of the switch, length.
        lambda1: decay of the repulsion, 1/length.
        A: strength of the repulsion, energy.
        species: names of the tables' rows, e.g. ``("Si", "C")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2007-10-25")``.

    Raises:
        InputError: a parameter outside its domain.

    J. Tersoff, Phys. Rev. B 37, 6991 (1988); 39, 5566 (1989).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".tersoff": (
            "m", "gamma", "lambda3", "c", "d", "costheta0", "n", "beta", "lambda2", "B", "R", "D",
            "lambda1", "A",
        )
    }  # fmt: skip

    gamma: Parameter = parameter("1", minimum=0.0, per="triplet")
    lambda3: Parameter = parameter("1/length", per="triplet")
    c: Parameter = parameter("1", minimum=0.0, per="triplet")
    d: Parameter = parameter("1", positive=True, per="triplet")
    costheta0: Parameter = parameter("1", per="triplet")
    n: Parameter = parameter("1", positive=True, per="bond")
    beta: Parameter = parameter("1", minimum=0.0, per="bond")
    lambda2: Parameter = parameter("1/length", minimum=0.0, per="bond")
    B: Parameter = parameter("energy", minimum=0.0, per="bond")
    R: Parameter = parameter("length", minimum=0.0, per="triplet")
    D: Parameter = parameter("length", minimum=0.0, per="triplet")
    lambda1: Parameter = parameter("1/length", minimum=0.0, per="bond")
    A: Parameter = parameter("energy", minimum=0.0, per="bond")
    m: int = eqx.field(static=True)
    species: tuple[str, ...] | None = eqx.field(static=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        m: Any,
        gamma: Any,
        lambda3: Any,
        c: Any,
        d: Any,
        costheta0: Any,
        n: Any,
        beta: Any,
        lambda2: Any,
        B: Any,
        R: Any,
        D: Any,
        lambda1: Any,
        A: Any,
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.m, self.gamma, self.lambda3, self.c, self.d = m, gamma, lambda3, c, d
        self.costheta0, self.n, self.beta, self.lambda2, self.B = costheta0, n, beta, lambda2, B
        self.R, self.D, self.lambda1, self.A = R, D, lambda1, A
        self.species, self.header = species, header

    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gamma (1 + c^2/d^2 - c^2/(d^2 + (costheta0 - cosine)^2))."""
        turned = self.costheta0 - cosine
        c, d = self.c * self.c, self.d * self.d
        return self.gamma * (1.0 + c / d - c / (d + turned * turned))

    def bond_order(self, zeta: Float[Array, "..."]) -> Float[Array, "..."]:
        """(1 + (beta zeta)^n)^(-1/(2n))."""
        return _softened_power(self.beta, zeta, self.n, 2.0 * self.n)


class TersoffMod(BondOrderPotential):
    """Tersoff's potential as modified for the melting and elasticity of silicon.

    E = 1/2 sum_i sum_{j != i} fC(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij) + c0),
    b_ij = (1 + (beta zeta_ij)^eta)^(-1/(2n)),
    zeta_ij = sum_{k != i, j} fC(r_ik) g(cos theta_jik) exp((lambda3 (r_ij - r_ik))^m),
    g(x) = c1 + c2 (h - x)^2 / (c3 + (h - x)^2) (1 + c4 exp(-c5 (h - x)^2)),
    fC(r) = 1/2 - 9/16 sin(pi (r - R) / 2D) - 1/16 sin(3 pi (r - R) / 2D) between R - D and R + D.

    In LAMMPS this is pair_style tersoff/mod, and with c0 tersoff/mod/c, where m is called beta,
    lambda3 alpha, and beta beta_ters.

    Arguments:
        m: 1 or 3, power of the difference of lengths, of all triplets.
        lambda3: decay with the difference of lengths, 1/length; one value or a table over
            triplets, as are h, R, D and c1 to c5.
        h: cosine of the angle at which zeta is least.
        eta: power of the bond order; one value or a table over bonds, as are beta, n, A, B,
            lambda1, lambda2 and c0.
        beta: strength of the bond order.
        lambda2: decay of the attraction, 1/length.
        B: strength of the attraction, energy.
        R: middle of the switch, length.
        D: half the width of the switch, length.
        lambda1: decay of the repulsion, 1/length.
        A: strength of the repulsion, energy.
        n: the bond order falls as zeta^(-eta/(2n)).
        c1: least value of the angular function.
        c2: strength of the angular function.
        c3: sharpness of the angular function.
        c4: strength of what is added near the least angle.
        c5: sharpness of what is added near the least angle.
        c0: energy of each bond before the switch.
        species: names of the tables' rows, e.g. ``("Si",)``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2013-07-26")``.

    Raises:
        InputError: a parameter outside its domain.

    T. Kumagai, S. Izumi, S. Hara, S. Sakai, Comput. Mater. Sci. 39, 457 (2007); c0: G. P. Purja
    Pun, Y. Mishin, Phys. Rev. B 95, 224103 (2017).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".tersoff.mod": (
            "m", "lambda3", "h", "eta", "beta", "lambda2", "B", "R", "D", "lambda1", "A", "n",
            "c1", "c2", "c3", "c4", "c5",
        ),
        ".tersoff.modc": (
            "m", "lambda3", "h", "eta", "beta", "lambda2", "B", "R", "D", "lambda1", "A", "n",
            "c1", "c2", "c3", "c4", "c5", "c0",
        ),
    }  # fmt: skip

    lambda3: Parameter = parameter("1/length", per="triplet")
    h: Parameter = parameter("1", per="triplet")
    eta: Parameter = parameter("1", positive=True, per="bond")
    beta: Parameter = parameter("1", minimum=0.0, per="bond")
    lambda2: Parameter = parameter("1/length", minimum=0.0, per="bond")
    B: Parameter = parameter("energy", minimum=0.0, per="bond")
    R: Parameter = parameter("length", minimum=0.0, per="triplet")
    D: Parameter = parameter("length", minimum=0.0, per="triplet")
    lambda1: Parameter = parameter("1/length", minimum=0.0, per="bond")
    A: Parameter = parameter("energy", minimum=0.0, per="bond")
    n: Parameter = parameter("1", positive=True, per="bond")
    c1: Parameter = parameter("1", per="triplet")
    c2: Parameter = parameter("1", per="triplet")
    c3: Parameter = parameter("1", positive=True, per="triplet")
    c4: Parameter = parameter("1", per="triplet")
    c5: Parameter = parameter("1", per="triplet")
    c0: Parameter = parameter("energy", per="bond")
    m: int = eqx.field(static=True)
    species: tuple[str, ...] | None = eqx.field(static=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        m: Any,
        lambda3: Any,
        h: Any,
        eta: Any,
        beta: Any,
        lambda2: Any,
        B: Any,
        R: Any,
        D: Any,
        lambda1: Any,
        A: Any,
        n: Any,
        c1: Any,
        c2: Any,
        c3: Any,
        c4: Any,
        c5: Any,
        c0: Any = 0.0,
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.m, self.lambda3, self.h, self.eta, self.beta = m, lambda3, h, eta, beta
        self.lambda2, self.B, self.R, self.D, self.lambda1, self.A = lambda2, B, R, D, lambda1, A
        self.n, self.c1, self.c2, self.c3, self.c4, self.c5 = n, c1, c2, c3, c4, c5
        self.c0, self.species, self.header = c0, species, header

    def switch(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """fC, from 1 at R - D to 0 at R + D; its second derivative is continuous."""
        angle = 0.5 * jnp.pi * self._within_switch(r)
        return 0.5 - 0.5625 * jnp.sin(angle) - 0.0625 * jnp.sin(3.0 * angle)

    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """c1 + c2 x^2 / (c3 + x^2) (1 + c4 exp(-c5 x^2)) with x = h - cosine."""
        square = (self.h - cosine) * (self.h - cosine)
        added = 1.0 + self.c4 * jnp.exp(-self.c5 * square)
        return self.c1 + self.c2 * square / (self.c3 + square) * added

    def bond_order(self, zeta: Float[Array, "..."]) -> Float[Array, "..."]:
        """(1 + (beta zeta)^eta)^(-1/(2n))."""
        return _softened_power(self.beta, zeta, self.eta, 2.0 * self.n)

    def repulsion(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy fC (fR + c0), in units of energy."""
        return super().repulsion(r) + self.c0 * self.switch(r)


class TersoffZBL(Tersoff):
    """Tersoff's potential with the repulsion of bare nuclei at short distances.

    E = 1/2 sum_i sum_{j != i} (1 - F(r_ij)) V(r_ij)
      + F(r_ij) fC(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)),
    F(r) = 1 / (1 + exp(-ZBLexpscale (r - ZBLcut))),
    V(r) = Z_i Z_j e^2 / (4 pi epsilon0 r) phi(r / a),  a = 0.8854 a0 / (Z_i^0.23 + Z_j^0.23),
    phi(x) = 0.1818 exp(-3.2 x) + 0.5099 exp(-0.9423 x) + 0.2802 exp(-0.4029 x)
      + 0.02817 exp(-0.2016 x).

    All else is as in `Tersoff`; the names mean what they mean in LAMMPS's pair_style tersoff/zbl,
    and the constants of nature have its digits: a0 = 0.529 Ang, epsilon0 = 0.00552635 e^2/(eV Ang).

    Arguments:
        m: as for `Tersoff`, and so are all up to A.
        gamma: factor of the angular function.
        lambda3: decay with the difference of lengths, 1/length.
        c: strength of the angular function.
        d: sharpness of the angular function.
        costheta0: cosine of the angle at which zeta is least.
        n: power of the bond order.
        beta: strength of the bond order.
        lambda2: decay of the attraction, 1/length.
        B: strength of the attraction, energy.
        R: middle of the switch, length.
        D: half the width of the switch, length.
        lambda1: decay of the repulsion, 1/length.
        A: strength of the repulsion, energy.
        Z_i: charge of the nucleus of the bond's first atom; one value or a table over bonds, as
            are all below.
        Z_j: charge of the nucleus of the bond's second atom.
        ZBLcut: distance at which one repulsion goes over into the other, length.
        ZBLexpscale: how steeply it does, 1/length.
        species: names of the tables' rows, e.g. ``("Si", "C")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2009-04-15")``.

    Raises:
        InputError: a parameter outside its domain.

    J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (1985); R.
    Devanathan, T. Diaz de la Rubia, W. J. Weber, J. Nucl. Mater. 253, 47 (1998).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".tersoff.zbl": (*Tersoff.layouts[".tersoff"], "Z_i", "Z_j", "ZBLcut", "ZBLexpscale")
    }

    Z_i: Parameter = parameter("1", minimum=1.0, per="bond")
    Z_j: Parameter = parameter("1", minimum=1.0, per="bond")
    ZBLcut: Parameter = parameter("length", minimum=0.0, per="bond")
    ZBLexpscale: Parameter = parameter("1/length", minimum=0.0, per="bond")

    def __init__(
        self,
        m: Any,
        gamma: Any,
        lambda3: Any,
        c: Any,
        d: Any,
        costheta0: Any,
        n: Any,
        beta: Any,
        lambda2: Any,
        B: Any,
        R: Any,
        D: Any,
        lambda1: Any,
        A: Any,
        Z_i: Any,
        Z_j: Any,
        ZBLcut: Any,
        ZBLexpscale: Any,
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        super().__init__(
            m, gamma, lambda3, c, d, costheta0, n, beta, lambda2, B, R, D, lambda1, A, species,
            header,
        )  # fmt: skip
        self.Z_i, self.Z_j, self.ZBLcut, self.ZBLexpscale = Z_i, Z_j, ZBLcut, ZBLexpscale

    def repulsion(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy (1 - F) V + F fC fR within R + D, in units of energy."""
        x = r * (self.Z_i**0.23 + self.Z_j**0.23) / (0.8854 * BOHR)
        screening = sum((a * jnp.exp(-b * x) for a, b in SCREENING), start=jnp.zeros(()))
        coulomb = self.Z_i * self.Z_j / (4.0 * jnp.pi * VACUUM_PERMITTIVITY * r) * screening
        outer = self._outer(r)
        # The nuclei are screened by no switch, and yet not felt beyond it.
        near = jnp.where(r < self.R + self.D, (1.0 - outer) * coulomb, 0.0)
        return near + outer * super().repulsion(r)

    def attraction(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy F fC fA of a bond of order 1, in units of energy."""
        return self._outer(r) * super().attraction(r)

    def _outer(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.nn.sigmoid(self.ZBLexpscale * (r - self.ZBLcut))


def _softened_power(
    beta: Array, zeta: Float[Array, "..."], power: Array, root: Array
) -> Float[Array, "..."]:
    """(1 + (beta zeta)^power)^(-1/root); 1 where beta is zero."""
    some = beta > 0.0
    logarithm = power * (jnp.log(jnp.where(some, beta, 1.0)) + jnp.log(zeta))
    # Log(1 + x) of x far above and far below 1 alike.
    return jnp.where(some, jnp.exp(-jax.nn.softplus(logarithm) / root), 1.0)
