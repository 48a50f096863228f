"""Vashishta's potential: screened charges, and angles as of Stillinger and Weber."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.files.triplets import FromTripletFile, TripletFile
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.three_body import of_both_ends
from mdsens.potentials.weighed_angles import WeighedAnglePotential
from mdsens.units import size_of_lammps_unit
from mdsens.values import shown

#: Those of the two-body term.
PAIR_PARAMETERS = ("H", "eta", "Zi", "Zj", "lambda1", "D", "lambda4", "W", "rc")
#: LAMMPS's styles of units in which charges are those of the electron.
UNITS_WITH_ELEMENTARY_CHARGES = ("metal", "real", "electron")
#: Energy of two elementary charges times their distance, eV Ang, with the digits of LAMMPS.
COULOMB = 14.399645


class Vashishta(FromTripletFile, WeighedAnglePotential):
    """Vashishta's potential of oxides, carbides and semiconductors, for one or several species.

    E = 1/2 sum_i sum_{j != i} (U(r_ij) - U(rc) - (r_ij - rc) U'(rc))
      + 1/2 sum_i sum_{j, k != j} B_ijk x^2 / (1 + C_ijk x^2)
        exp(gamma_ij / (r_ij - r0_ij)) exp(gamma_ik / (r_ik - r0_ik)),
    U = H/r^eta + k Zi Zj/r exp(-r/lambda1) - D/r^4 exp(-r/lambda4) - W/r^6,
    x = cos theta_jik - costheta0_ijk,  k = 14.399645 eV Ang.

    The names mean what they mean in LAMMPS's pair_style vashishta. Of several species, B, C and
    costheta0 are tables over triplets, all others tables over bonds. Where [A-B] and [B-A], or
    [A-B-C] and [A-C-B], differ, each gives half the energy, while LAMMPS takes either by the order
    of the atoms. At rc the second derivative of the energy jumps.

    Arguments:
        H: strength of the repulsion, its energy at a distance of one unit of length; one value or
            a table over bonds.
        eta: exponent of the repulsion.
        Zi: effective charge of the bond's first atom, elementary charges.
        Zj: effective charge of the bond's second atom, elementary charges.
        lambda1: screening length of the charges, length; 0: they are not screened.
        D: strength of the attraction of charges and dipoles, energy length^4.
        lambda4: its screening length, length; 0: it is not screened.
        W: strength of the van der Waals attraction, energy length^6.
        rc: range of the two-body term, length.
        B: strength of the three-body term, energy; one value or a table over triplets.
        gamma: decay of the three-body term, length.
        r0: range of the three-body term, length; 0 where there is none.
        C: how the three-body term saturates.
        costheta0: cosine of the favoured angle.
        species: names of the tables' rows, e.g. ``("Si", "O")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2015-10-14")``.

    Raises:
        InputError: a parameter outside its domain.

    P. Vashishta, R. K. Kalia, J. P. Rino, I. Ebbsjo, Phys. Rev. B 41, 12197 (1990); P. Vashishta,
    R. K. Kalia, A. Nakano, J. P. Rino, J. Appl. Phys. 101, 103515 (2007).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".vashishta": (
            "H", "eta", "Zi", "Zj", "lambda1", "D", "lambda4", "W", "rc", "B", "gamma", "r0", "C",
            "costheta0",
        )
    }  # fmt: skip

    H: Parameter = parameter("energy", minimum=0.0, per="bond")
    eta: Parameter = parameter("1", minimum=0.0, per="bond")
    Zi: Parameter = parameter("1", per="bond")
    Zj: Parameter = parameter("1", per="bond")
    lambda1: Parameter = parameter("length", minimum=0.0, per="bond")
    D: Parameter = parameter("energy*length^4", minimum=0.0, per="bond")
    lambda4: Parameter = parameter("length", minimum=0.0, per="bond")
    W: Parameter = parameter("energy*length^6", minimum=0.0, per="bond")
    rc: Parameter = parameter("length", positive=True, per="bond")
    B: Parameter = parameter("energy", minimum=0.0, per="triplet")
    gamma: Parameter = parameter("length", minimum=0.0, per="bond")
    r0: Parameter = parameter("length", minimum=0.0, per="bond")
    C: Parameter = parameter("1", minimum=0.0, per="triplet")
    costheta0: Parameter = parameter("1", minimum=-1.0, maximum=1.0, per="triplet")
    species: tuple[str, ...] | None = eqx.field(static=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, default=None)

    def __init__(
        self,
        H: Any,
        eta: Any,
        Zi: Any,
        Zj: Any,
        lambda1: Any,
        D: Any,
        lambda4: Any,
        W: Any,
        rc: Any,
        B: Any,
        gamma: Any,
        r0: Any,
        C: Any,
        costheta0: Any,
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.H, self.eta, self.Zi, self.Zj, self.lambda1 = H, eta, Zi, Zj, lambda1
        self.D, self.lambda4, self.W, self.rc = D, lambda4, W, rc
        self.B, self.gamma, self.r0, self.C, self.costheta0 = B, gamma, r0, C, costheta0
        self.species, self.header = species, header

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients: pairs of any length, and triplets of short bonds."""
        energies, gradients = super().site_energies_and_gradients(edges)
        half_pairs = self._half_pairs(edges)

        def add_slot(total: Array, slot: tuple[Any, ...]) -> tuple[Array, tuple[Array, ...]]:
            """One after another, which stay in the processor's cache."""
            r, mask, neighbor, vector, gradient = slot
            energy, slope = jax.jvp(half_pairs(mask, neighbor), (r,), (jnp.ones_like(r),))
            added = tuple(
                old + slope / r * component for old, component in zip(gradient, vector, strict=True)
            )
            return total + energy, added

        slots = (edges.distances, edges.mask, edges.neighbor_species, edges.vectors, gradients)
        return jax.lax.scan(add_slot, energies, slots)

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy U before it is cut off; parameters are already those of each bond.

        Arguments:
            r: distances, in units of length.

        Returns:
            Energies, in units of energy.
        """
        charges = COULOMB * self.Zi * self.Zj * jnp.exp(-r * _inverse(self.lambda1))
        dipoles = self.D * jnp.exp(-r * _inverse(self.lambda4))
        squared = 1.0 / (r * r)
        attraction = (dipoles + self.W * squared) * squared * squared
        return self.H * jnp.exp(-self.eta * jnp.log(r)) + charges / r - attraction

    def bond_energies(
        self, r: Float[Array, "..."], zeta: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Half of what the triplets add up to, in units of energy."""
        return 0.5 * zeta

    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """B x^2 / (1 + C x^2) with x = cos - costheta0, in units of energy."""
        square = (cosine - self.costheta0) * (cosine - self.costheta0)
        return self.B * square / (1.0 + self.C * square)

    @classmethod
    def _in_metal_units(
        cls, tables: dict[str, np.ndarray], file: TripletFile
    ) -> dict[str, np.ndarray]:
        if file.units not in UNITS_WITH_ELEMENTARY_CHARGES:
            raise InputError(
                f"{file.name}, line 1: UNITS: {shown(file.units)}: allowed where charges are are "
                f"{', '.join(UNITS_WITH_ELEMENTARY_CHARGES)}; convert the file"
            )
        found = super()._in_metal_units(tables, file)
        # A power of the length that the table says.
        length = size_of_lammps_unit("length", file.units)
        return found | {"H": found["H"] * length ** tables["eta"]}

    def _half_pairs(self, edges: Edges) -> Any:
        """From mask and species of neighbours to the function that gives half a pair's energy."""
        at_end, slope_at_end = jax.jvp(self.pair_energies, (self.rc,), (jnp.ones_like(self.rc),))
        size, names = len(self.species or ("",)), PAIR_PARAMETERS
        # Ends are computed for pairs of species, and only then chosen for each edge.
        tables = (at_end, slope_at_end, *(getattr(self, name) for name in names))

        def of_slot(mask: Array, neighbor: Array) -> Any:
            places = (edges.species * size + neighbor)[None]
            end, slope, *chosen = (
                self._chosen(table, places)[0] if table.ndim and size > 1 else table.reshape(())
                for table in tables
            )
            pair = eqx.tree_at(
                lambda potential: [getattr(potential, name) for name in names], self, chosen
            )

            def energies(r: Float[Array, " C"]) -> Float[Array, " C"]:
                shifted = pair.pair_energies(r) - end - (r - pair.rc) * slope
                return jnp.where(mask & (r < pair.rc), 0.5 * shifted, 0.0)

            return energies

        return of_slot

    def weights(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Exp(gamma / (r - r0)), zero beyond r0."""
        bonded = r < self.r0
        # Beyond, 1/(r - r0) is not zero; where there are no triplets, r0 is.
        inner = jnp.where(bonded, r - self.r0, -1.0)
        return jnp.where(bonded, jnp.exp(self.gamma / inner), 0.0)

    def bond_ranges(self) -> Any:
        """The range r0 of the three-body term, in units of length."""
        return self.r0

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The longest range of a pair or a bond, in units of length."""
        ranges = in_numpy((self.rc, self.r0))
        rc, r0 = ranges
        return on_device(array_module(ranges).maximum(rc.max(), r0.max()))

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The range of each pair of species, from either of its ends, in units of length."""
        return of_both_ends(jnp.maximum(self.rc, self.r0))

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """The ranges of pairs, where second derivatives jump, and of bonds, in units of length."""
        # Where there are no triplets, r0 is zero and no distance of any pair.
        ends = (self.rc, jnp.where(self.r0 > 0.0, self.r0, self.rc))
        if self.rc.ndim + self.r0.ndim == 0:
            return jnp.stack(ends)
        size = len(self.species or ())
        tables = [jnp.broadcast_to(end, (size, size)) for end in ends]
        return jnp.stack([view for table in tables for view in (table, table.T)])


def _inverse(length: Array) -> Array:
    """One over a length; zero of zero, as LAMMPS has it."""
    some = length > 0.0
    return jnp.where(some, 1.0 / jnp.where(some, length, 1.0), 0.0)
