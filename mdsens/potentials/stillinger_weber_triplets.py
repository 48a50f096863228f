"""The Stillinger-Weber potential whose three-body term is given for each triplet of species."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.potentials.files.triplets import FromTripletFile
from mdsens.potentials.parameters import Parameter, parameter, require_higher_power
from mdsens.potentials.weighed_angles import WeighedAnglePotential

#: Relative difference of entries that are the same but for their rounding.
SAME = 1e-12


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
