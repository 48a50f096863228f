"""The Stillinger-Weber potential whose three-body term is given for each triplet of species."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.potentials.files.triplets import FromTripletFile
from mdsens.potentials.parameters import Parameter, parameter, require_higher_power
from mdsens.potentials.three_body import Bonds, changed, row, rows, sum_over
from mdsens.potentials.weighed_angles import WeighedAnglePotential

#: Relative difference of entries that are the same but for their rounding.
SAME = 1e-12
#: Of more species, moments of each would be more than there are bonds.
MOST_WITH_MOMENTS = 3


class StillingerWeberTriplets(FromTripletFile, WeighedAnglePotential):
    """Stillinger-Weber with parameters of the three-body term for each triplet of species.

    E = 1/2 sum_i sum_{j != i} A epsilon_ijj (B (sigma/r)^p - (sigma/r)^q) exp(sigma/(r - a sigma))
      + 1/2 sum_i sum_{j, k != j} lambda_ijk epsilon_ijk (cos theta_jik - costheta0_ijk)^2
        exp(gamma_ij sigma_ij / (r_ij - a_ij sigma_ij))
        exp(gamma_ik sigma_ik / (r_ik - a_ik sigma_ik))

    The names mean what they mean in LAMMPS's pair_style sw. Each entry is a parameter of its own:
    where [A-B] and [B-A], or [A-B-C] and [A-C-B], differ, each gives half the energy, while LAMMPS
    takes either by the order of the atoms.

    Arguments:
        epsilon: energy scale; one value or a table over triplets, as are lambda_ and costheta0.
        sigma: length scale; one value or a table over bonds, as are all others.
        a: range in units of sigma.
        lambda_: strength of the three-body term in units of epsilon.
        gamma: decay of the three-body term.
        costheta0: cosine of the favoured bond angle.
        A: strength of the two-body term in units of epsilon.
        B: strength of the repulsion.
        p: exponent of the repulsion.
        q: exponent of the attraction, below p: else atoms would fall into one another.
        species: names of the tables' rows, e.g. ``("Cd", "Te")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2007-06-11")``.

    Raises:
        InputError: a parameter outside its domain, or p not above q.

    F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6; X. W. Zhou et al.,
    Phys. Rev. B 88, 085309 (2013).
    """

    layouts: ClassVar[dict[str, tuple[str, ...]]] = {
        ".sw": (
            "epsilon", "sigma", "a", "lambda_", "gamma", "costheta0", "A", "B", "p", "q", "tol",
        )
    }  # fmt: skip

    epsilon: Parameter = parameter("energy", positive=True, per="triplet")
    sigma: Parameter = parameter("length", positive=True, per="bond")
    a: Parameter = parameter("1", positive=True, per="bond")
    lambda_: Parameter = parameter("1", minimum=0.0, per="triplet")
    gamma: Parameter = parameter("1", positive=True, per="bond")
    costheta0: Parameter = parameter("1", minimum=-1.0, maximum=1.0, per="triplet")
    A: Parameter = parameter("1", positive=True, per="bond")
    B: Parameter = parameter("1", minimum=0.0, per="bond")
    p: Parameter = parameter("1", minimum=0.0, per="bond")
    q: Parameter = parameter("1", minimum=0.0, per="bond")
    species: tuple[str, ...] | None = eqx.field(static=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, default=None)

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
        species: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.epsilon, self.sigma, self.a, self.lambda_, self.gamma = (
            epsilon, sigma, a, lambda_, gamma,
        )  # fmt: skip
        self.costheta0, self.A, self.B, self.p, self.q = costheta0, A, B, p, q
        self.species, self.header = species, header

    def check_relations(self) -> None:
        """Raise InputError unless the repulsion is of higher power than the attraction."""
        require_higher_power(self, "p", "q")

    def bond_energies(
        self, r: Float[Array, "..."], zeta: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Half the two-body energy and half of what the triplets add up to, in units of energy."""
        bonded, r = self._within_range(r)
        log_ratio = jnp.log(self.sigma / r)
        decay = self.sigma / (r - self.a * self.sigma)
        repulsion = self.B * jnp.exp(self.p * log_ratio + decay)
        two_body = self.A * self.epsilon * (repulsion - jnp.exp(self.q * log_ratio + decay))
        return 0.5 * jnp.where(bonded, two_body, 0.0) + 0.5 * zeta

    def angular(self, cosine: Float[Array, "..."]) -> Float[Array, "..."]:
        """Lambda epsilon (cos theta - costheta0)^2, in units of energy."""
        turned = cosine - self.costheta0
        return self.lambda_ * self.epsilon * turned * turned

    def weights(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Exp(gamma sigma / (r - a sigma)), zero beyond the range."""
        bonded, r = self._within_range(r)
        return jnp.where(bonded, jnp.exp(self.gamma * self.sigma / (r - self.a * self.sigma)), 0.0)

    def _of_chosen_bonds(
        self, bonds: Bonds
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "R C"], ...]]:
        """Site energies, and gradients along each bond: as many terms as there are bonds.

        With the moments T_s = sum w u u, V_s = sum w u, S_s = sum w and Q_s = sum w^2 of the bonds
        to atoms of species s, unit vectors u and weights w, the triplets add up to
        1/2 sum_st (A_st T_s:T_t - 2 B_st V_s . V_t + D_st S_s S_t) - 1/2 sum_s (A - 2 B + D)_ss Q_s
        where A, B and D are lambda epsilon, times costheta0 and its square, either order's half.
        """
        size = self._size
        if size > MOST_WITH_MOMENTS:
            return super()._of_chosen_bonds(bonds)
        centre, species, _, r, units, most = bonds
        (pairs, weights), (pair_slopes, weight_slopes) = self._along_bonds(bonds)
        nothing, axes, kinds = jnp.zeros((1, r.shape[1])), range(len(units)), range(size)
        products = [(i, j) for i in axes for j in axes if i <= j]

        def add_moments(slot: Array, moments: Any) -> Any:
            w, u, kind = row(weights, slot), rows(units, slot), row(species, slot)

            def of(s: int) -> Any:
                own = jnp.where(kind == s, w, 0.0)
                more = [own * u[i] * u[j] for i, j in products], [own * v for v in u]
                return *more, own, own * own

            return jax.tree.map(jnp.add, moments, [of(s) for s in kinds])

        start = ([nothing for _ in products], [nothing for _ in axes], nothing, nothing)
        moments = sum_over(len(r), lambda slot: slot < most, add_moments, [start for _ in kinds])
        strength, c = self.lambda_ * self.epsilon, self.costheta0
        factors = [self._of_both_orders(table, centre) for table in (strength, strength * c)]
        factors.append(self._of_both_orders(strength * c * c, centre))
        A, B, D = factors
        # What the moments of each species stand in: slopes of the energy in them.
        T = [
            [sum_of(A[s][t] * moments[t][0][k] for t in kinds) for k in range(len(products))]
            for s in kinds
        ]
        V = [[sum_of(B[s][t] * moments[t][1][i] for t in kinds) for i in axes] for s in kinds]
        S = [sum_of(D[s][t] * moments[t][2] for t in kinds) for s in kinds]
        Q = [A[s][s] - 2.0 * B[s][s] + D[s][s] for s in kinds]
        twice = [1.0 if i == j else 2.0 for i, j in products]
        energy = sum_of(
            sum_of(n * x * y for n, x, y in zip(twice, T[s], moments[s][0], strict=True))
            - 2.0 * sum_of(x * y for x, y in zip(V[s], moments[s][1], strict=True))
            + S[s] * moments[s][2]
            - Q[s] * moments[s][3]
            for s in kinds
        )

        def add_gradients(slot: Array, gradients: tuple[Array, ...]) -> tuple[Array, ...]:
            w, u, kind = row(weights, slot), rows(units, slot), row(species, slot)

            def own(values: list[Array]) -> Array:
                found = values[0]
                for s in kinds[1:]:
                    found = jnp.where(kind == s, values[s], found)
                return found

            upper = [own([T[s][k] for s in kinds]) for k in range(len(products))]
            Tu = [
                sum_of(upper[products.index((min(i, j), max(i, j)))] * u[j] for j in axes)
                for i in axes
            ]
            V_own = [own([V[s][i] for s in kinds]) for i in axes]
            uTu, Vu = (
                sum_of(x * y for x, y in zip(u, Tu, strict=True)),
                sum_of(x * y for x, y in zip(u, V_own, strict=True)),
            )
            by_weight = uTu - 2.0 * Vu + own(S) - own(Q) * w
            radial = row(pair_slopes, slot) + by_weight * row(weight_slopes, slot)
            turning = 2.0 * w / row(r, slot)
            return tuple(
                changed(
                    values, radial * u[i] + turning * (Tu[i] - V_own[i] - (uTu - Vu) * u[i]), slot
                )
                for i, values in enumerate(gradients)
            )

        zeros = tuple(jnp.zeros_like(r) for _ in axes)
        gradients = sum_over(len(r), lambda slot: slot < most, add_gradients, zeros)
        return 0.5 * energy[0] + jnp.sum(pairs, axis=0), gradients

    def _of_both_orders(self, table: Array, centre: Int[Array, "1 C"]) -> list[list[Array]]:
        """Means of a table over triplets and the same in the other order: rows of each atom's."""
        kinds = range(self._size)
        if table.ndim == 0:
            return [[table for _ in kinds] for _ in kinds]
        mean = (table + table.swapaxes(1, 2)) / 2.0
        return [
            [
                self._chosen(mean[:, s, t], centre) if self._size > 1 else mean[0, 0, 0]
                for t in kinds
            ]
            for s in kinds
        ]

    def _within_range(self, r: Float[Array, "..."]) -> tuple[Any, Float[Array, "..."]]:
        """Whether bonds are, and lengths that are within: beyond, 1/(r - a sigma) is not zero."""
        bonded = r < self.a * self.sigma
        return bonded, jnp.where(bonded, r, 0.5 * self.a * self.sigma)

    def bond_ranges(self) -> Any:
        """A sigma of each bond, in units of length."""
        return self.a * self.sigma

    @classmethod
    def of_pairs(cls, potential: Any) -> Self:
        """A `StillingerWeber` with the entry of each triplet written out."""
        names = potential.species
        size = 1 if names is None else len(names)
        pairs = {
            name: np.broadcast_to(np.asarray(getattr(potential, name)), (size, size))
            for name in ("epsilon", "sigma", "a", "lambda_", "gamma", "A", "B", "p", "q")
        }
        epsilon = np.repeat(pairs["epsilon"][:, :, None], size, axis=2)
        root = np.sqrt(pairs["lambda_"] * pairs["epsilon"])
        lambda_ = root[:, :, None] * root[:, None, :] / epsilon
        tables = pairs | {
            "epsilon": epsilon,
            # Of two equal bonds, that of the bond in every digit.
            "lambda_": np.where(np.eye(size, dtype=bool), pairs["lambda_"][:, :, None], lambda_),
            "costheta0": np.asarray(potential.costheta0),
        }
        if size == 1:
            tables = {name: table.reshape(()) for name, table in tables.items()}
        return cls(**tables, species=names, header=potential.header)

    def separated(self) -> dict[str, Any] | None:
        """The arguments of a `StillingerWeber` that is the same; None where there is none."""
        names = self.species or ("",)
        size = len(names)

        def table(name: str, dimensions: int) -> np.ndarray:
            return np.broadcast_to(np.asarray(getattr(self, name)), (size,) * dimensions)

        bond = np.arange(size)
        epsilon, lambda_ = table("epsilon", 3), table("lambda_", 3)
        strength = lambda_ * epsilon
        pairs = {name: table(name, 2) for name in ("sigma", "a", "gamma", "A", "B", "p", "q")}
        pairs |= {"epsilon": epsilon[:, bond, bond], "lambda_": lambda_[:, bond, bond]}
        own = np.sqrt(strength[:, bond, bond])
        costheta0 = table("costheta0", 3)
        separable = (
            np.allclose(strength, own[:, :, None] * own[:, None, :], SAME, 0.0)
            and all(np.array_equal(pair, pair.T) for pair in pairs.values())
            and np.all(costheta0 == costheta0.flat[0])
        )
        if not separable:
            return None
        arguments: dict[str, Any] = {
            name: pair if np.ptp(pair) else float(pair.flat[0]) for name, pair in pairs.items()
        }
        return arguments | {
            "costheta0": float(costheta0.flat[0]), "species": self.species, "header": self.header,
        }  # fmt: skip

    @classmethod
    def _tables_to_arguments(cls, tables: dict[str, np.ndarray], name: str) -> dict[str, Any]:
        tables = dict(tables)
        # Entries of two different bonds need no tolerance, nor does anything below it.
        if np.any(tables.pop("tol")):
            raise InputError(
                f"{name}: tol is not zero: allowed are ranges of a sigma and nothing less; give 0"
            )
        return super()._tables_to_arguments(tables, name)

    def _column(self, column: str, size: int) -> np.ndarray:
        return np.zeros((size,) * 3) if column == "tol" else super()._column(column, size)


def sum_of(terms: Iterable[Any]) -> Any:
    """A sum of arrays of at least one."""
    first, *others = terms
    return sum(others, start=first)
