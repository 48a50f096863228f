"""The embedded-atom potential of Zhou, Johnson and Wadley: metals and their alloys, closed form."""

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import in_numpy
from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.embedded_atom import RadialFunctions
from mdsens.potentials.pair import CutOffPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.tabulated import WrittenAsTables
from mdsens.values import is_traced


class ZhouEAM(CutOffPotential, WrittenAsTables):
    """The embedded-atom potential of X. W. Zhou, R. A. Johnson and H. N. G. Wadley.

    With x = r/r_e, of one element

        phi(r) = A exp(-alpha (x - 1)) / (1 + (x - kappa)^20)
                 - B exp(-beta (x - 1)) / (1 + (x - lambda)^20),
        f(r) = f_e exp(-beta (x - 1)) / (1 + (x - lambda)^20),
        F(rho) = sum_i Fn_i (rho/rho_n - 1)^i      below rho_n = inner rho_e,
                 sum_i F_i (rho/rho_e - 1)^i       up to outer rho_e,
                 Fe (1 - eta ln(rho/rho_s)) (rho/rho_s)^eta   beyond.

    A pair of elements a and b has phi_ab = (f_b/f_a phi_aa + f_a/f_b phi_bb) / 2, so that an alloy
    takes the numbers of its elements alone. phi and f are multiplied by the switch of the smooth
    truncation of pairs, as tables of this potential that simply end are not.

    The published numbers have six digits, and the branches of F meet as well as these allow: the
    energy jumps by some 1e-6 eV where one begins, and F'' by more. Derivatives are those of the
    branch that an atom is in: in a crystal near its own lattice constant, of the middle one.

    Arguments:
        r_e: distance of nearest neighbours, length; one value, or one for each element, as all.
        f_e: scale of the density.
        rho_e: density of the crystal.
        rho_s: density that the last branch of F is scaled by.
        alpha: decay of the repulsion.
        beta: decay of the attraction and of the density.
        A: strength of the repulsion, energy.
        B: strength of the attraction, energy.
        kappa: where the repulsion ends, in r_e.
        lambda_: where attraction and density end, in r_e.
        Fn0: coefficients of F below rho_n, energy; Fn1, Fn2 and Fn3 likewise.
        F0: coefficients around rho_e, energy; F1, F2 and F3 likewise.
        eta: exponent of F beyond.
        Fe: its strength, energy.
        cutoff: distance from which on there is no interaction, length.
        species: names of the elements, e.g. ``("Cu", "Ni")``.
        onset: where the smooth switch begins, length; 0.9 cutoff by default.
        inner: rho_n / rho_e.
        outer: where the last branch begins, in rho_e.

    Raises:
        InputError: a scale or density that is not positive, inner not below outer, or an onset
            outside the cutoff.

    Phys. Rev. B 69, 144113 (2004), whose Table III has the numbers of 16 metals.
    """

    r_e: Parameter = parameter("length", positive=True, per="atom")
    f_e: Parameter = parameter("1", positive=True, per="atom")
    rho_e: Parameter = parameter("1", positive=True, per="atom")
    rho_s: Parameter = parameter("1", positive=True, per="atom")
    alpha: Parameter = parameter("1", positive=True, per="atom")
    beta: Parameter = parameter("1", positive=True, per="atom")
    A: Parameter = parameter("energy", per="atom")
    B: Parameter = parameter("energy", per="atom")
    kappa: Parameter = parameter("1", per="atom")
    lambda_: Parameter = parameter("1", per="atom")
    Fn0: Parameter = parameter("energy", per="atom")
    Fn1: Parameter = parameter("energy", per="atom")
    Fn2: Parameter = parameter("energy", per="atom")
    Fn3: Parameter = parameter("energy", per="atom")
    F0: Parameter = parameter("energy", per="atom")
    F1: Parameter = parameter("energy", per="atom")
    F2: Parameter = parameter("energy", per="atom")
    F3: Parameter = parameter("energy", per="atom")
    eta: Parameter = parameter("1", per="atom")
    Fe: Parameter = parameter("energy", per="atom")
    inner: Parameter = parameter("1", positive=True, per="atom")
    outer: Parameter = parameter("1", positive=True, per="atom")

    def __init__(
        self,
        r_e: Any,
        f_e: Any,
        rho_e: Any,
        rho_s: Any,
        alpha: Any,
        beta: Any,
        A: Any,
        B: Any,
        kappa: Any,
        lambda_: Any,
        Fn0: Any,
        Fn1: Any,
        Fn2: Any,
        Fn3: Any,
        F0: Any,
        F1: Any,
        F2: Any,
        F3: Any,
        eta: Any,
        Fe: Any,
        cutoff: float,
        species: Any = None,
        onset: float | None = None,
        inner: Any = 0.85,
        outer: Any = 1.15,
    ):
        self.r_e, self.f_e, self.rho_e, self.rho_s = r_e, f_e, rho_e, rho_s
        self.alpha, self.beta, self.A, self.B = alpha, beta, A, B
        self.kappa, self.lambda_ = kappa, lambda_
        self.Fn0, self.Fn1, self.Fn2, self.Fn3 = Fn0, Fn1, Fn2, Fn3
        self.F0, self.F1, self.F2, self.F3 = F0, F1, F2, F3
        self.eta, self.Fe, self.inner, self.outer = eta, Fe, inner, outer
        self.cutoff, self.species, self.onset = cutoff, species, onset

    def check_relations(self) -> None:
        """Raise InputError unless the branches of F come one after the other."""
        inner, outer = in_numpy((self.inner, self.outer))
        if not is_traced((inner, outer)) and np.any(inner >= outer):
            raise InputError(
                f"ZhouEAM: inner = {np.max(inner):g} is not below outer = {np.min(outer):g}: give "
                "fractions of rho_e such as 0.85 and 1.15"
            )

    def radial_functions(self, edges: Edges) -> RadialFunctions:
        """The function r -> (phi, f) of these edges, switched off, zero where there is no edge."""
        here, there = self._of(edges.species[None]), self._of(edges.neighbor_species)

        def functions(r: Float[Array, "K C"]) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
            inside = edges.mask & (r < self.cutoff_distance)
            # What is far away has densities of zero, which nothing can be divided by.
            near = jnp.where(inside, r, self.cutoff_distance)
            switch = self.switch(r)
            density, energy = there._own_density(near), there._own_energy(near)
            if not self._alike:
                ratio = density / here._own_density(near)
                energy = 0.5 * (ratio * here._own_energy(near) + energy / ratio)
            return jnp.where(inside, energy * switch, 0.0), jnp.where(inside, density * switch, 0.0)

        return functions

    def densities_at_neighbors(
        self, edges: Edges
    ) -> Callable[[Float[Array, "K C"]], Float[Array, "K C"]] | None:
        """What the atoms add to their neighbours' density, over distance; None for one element."""
        if self._alike:
            return None
        here = self._of(edges.species[None])

        def densities(r: Float[Array, "K C"]) -> Float[Array, "K C"]:
            inside = edges.mask & (r < self.cutoff_distance)
            near = jnp.where(inside, r, self.cutoff_distance)
            return jnp.where(inside, here._own_density(near) * self.switch(r), 0.0)

        return densities

    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """F of the atoms' own elements, in units of energy."""
        own = self._of(species)
        low, high = density < own.inner * own.rho_e, density >= own.outer * own.rho_e
        x = density / (own.inner * own.rho_e) - 1.0
        below = own.Fn0 + x * (own.Fn1 + x * (own.Fn2 + x * own.Fn3))
        x = density / own.rho_e - 1.0
        around = own.F0 + x * (own.F1 + x * (own.F2 + x * own.F3))
        # A logarithm of a positive number in every branch: one not taken must have a gradient.
        logarithm = jnp.log(jnp.where(high, density, own.rho_s) / own.rho_s)
        beyond = own.Fe * (1.0 - own.eta * logarithm) * jnp.exp(own.eta * logarithm)
        return jnp.where(low, below, jnp.where(high, beyond, around))

    @property
    def _alike(self) -> bool:
        """Whether there are no two elements."""
        return self.species is None or len(self.species) == 1

    def _of(self, species: Int[Array, "..."]) -> Self:
        """This potential with the numbers of some atoms."""
        return jax.tree.map(lambda leaf: leaf[species] if leaf.ndim else leaf, self)

    def _own_density(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        x = r / self.r_e
        return self.f_e * jnp.exp(-self.beta * (x - 1.0)) / (1.0 + (x - self.lambda_) ** 20)

    def _own_energy(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """Phi of two atoms of the same element."""
        x = r / self.r_e
        repulsion = self.A * jnp.exp(-self.alpha * (x - 1.0)) / (1.0 + (x - self.kappa) ** 20)
        decay = jnp.exp(-self.beta * (x - 1.0)) / (1.0 + (x - self.lambda_) ** 20)
        return repulsion - self.B * decay
