"""The Stillinger-Weber potential, for one or several species."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.particles.edges import Edges
from mdsens.potentials.edge_sums import of_slots_held, sum_over_slots
from mdsens.potentials.parameters import Parameter, parameter, require_higher_power
from mdsens.potentials.potential import Potential
from mdsens.potentials.stillinger_weber_triplets import StillingerWeberTriplets


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
        q: exponent of the attraction, below p: else atoms would fall into one another.
        species: names of the tables' rows, e.g. ``("Ga", "N")``.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2007-06-11")``.

    Raises:
        InputError: a parameter outside its domain, or p not above q.

    F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6.
    """

    epsilon: Parameter = parameter("energy", positive=True)
    sigma: Parameter = parameter("length", positive=True)
    a: Parameter = parameter("1", positive=True)
    lambda_: Parameter = parameter("1", minimum=0.0)
    gamma: Parameter = parameter("1", positive=True)
    costheta0: Parameter = parameter("1", minimum=-1.0, maximum=1.0, per="all")
    A: Parameter = parameter("1", positive=True)
    B: Parameter = parameter("1", minimum=0.0)
    p: Parameter = parameter("1", minimum=0.0)
    q: Parameter = parameter("1", minimum=0.0)
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

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None,
    ) -> "StillingerWeber | StillingerWeberTriplets":
        """Read a file of LAMMPS's, with the ending ``.sw``.

        Arguments:
            path: of the file, e.g. ``"Si.sw"``; one that is not there is looked for among those of
                an installed LAMMPS.
            elements: which of the file's elements to take, or a dict that says for each species
                which; all by default.

        Returns:
            This potential of one element; of several a `StillingerWeberTriplets`, with parameters
            of each triplet such as ``lambda_[Cd-Te-Te]``.

        Raises:
            InputError: no such file, units without a size, a broken entry, an element that is
                not there, or a triplet without an entry.
        """
        triplets = StillingerWeberTriplets.from_file(path, elements)
        table = triplets.separated() if len(triplets.species or "1") == 1 else None
        return triplets if table is None else cls(**table)

    def to_file(self, path: str | Path) -> None:
        """Write a file that LAMMPS reads, with the ending ``.sw``.

        Arguments:
            path: of the file; one that is there is replaced.

        Raises:
            InputError: another ending, no names of species, or the file cannot be written.
        """
        StillingerWeberTriplets.of_pairs(self).to_file(path)

    def check_relations(self) -> None:
        """Raise InputError unless the repulsion is of higher power than the attraction."""
        require_higher_power(self, "p", "q")

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The largest a sigma, in units of length."""
        a, sigma = in_numpy((self.a, self.sigma))
        return on_device((a * sigma).max())

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Half the two-body energies and all triplets around the atom, shape (C,), energy."""
        return self.site_energies_and_gradients(edges)[0]

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients in closed form, in two passes over the bonds.

        With weights w_j and unit vectors u_j, the sum over pairs of bonds is
        sum_{j<k} w_j w_k (u_j . u_k - c)^2 = (T:T - 2 c V.V + c^2 S^2 - (1 - c)^2 Q) / 2 with the
        moments T = sum w u u, V = sum w u, S = sum w, Q = sum w^2, so that the cost grows with the
        number of bonds and not of their pairs. Bonds are taken one slot at a time, which XLA fuses
        well: five times faster than the general reverse derivative. Slots without any are left
        out: of silicon's 16 edges within reach of a relaxation 4 are bonds.
        """
        slots, c, axes = edges.mask.shape[0], self.costheta0, range(len(edges.vectors))
        pairs = [(i, j) for i in axes for j in axes if i <= j]

        def add_moments(moments: tuple[Any, ...], slot: Array) -> tuple[Any, ...]:
            bond = self._bond(edges, slot)
            w, u = bond.weight, bond.unit
            more = (bond.energy, w, w * w, [w * x for x in u], [w * u[i] * u[j] for i, j in pairs])
            return jax.tree.map(jnp.add, moments, more)

        pair, every = self.per_pair(edges), jnp.arange(slots)
        held = jnp.any(edges.mask & (edges.distances < pair.a * pair.sigma), axis=1)
        nothing = jnp.zeros(edges.mask.shape[1])
        start = (nothing, nothing, nothing, [nothing for _ in axes], [nothing for _ in pairs])
        two_body, S, Q, V, upper = sum_over_slots(add_moments, start, every, held)
        T = [[upper[pairs.index((min(i, j), max(i, j)))] for j in axes] for i in axes]
        strength = self.lambda_ * self.epsilon if self._one_strength else jnp.ones(())
        square = sum((T[i][j] ** 2 for i in axes for j in axes), start=nothing)
        bias = sum((V[i] ** 2 for i in axes), start=nothing)
        triplets = 0.5 * strength * (square - 2 * c * bias + (c * S) ** 2 - (1 - c) ** 2 * Q)

        def gradient(slot: Array) -> tuple[Array, ...]:
            bond = self._bond(edges, slot)
            w, u = bond.weight, bond.unit
            Tu = [sum((T[i][j] * u[j] for j in axes), start=nothing) for i in axes]
            uTu = sum((u[i] * Tu[i] for i in axes), start=nothing)
            Vu = sum((V[i] * u[i] for i in axes), start=nothing)
            by_weight = strength * (uTu - 2 * c * Vu + c**2 * S - (1 - c) ** 2 * w)
            radial = 0.5 * bond.energy_slope + by_weight * bond.weight_slope
            turning = 2.0 * strength * w * bond.inverse_length
            return tuple(
                radial * u[i] + turning * (Tu[i] - c * V[i] - (uTu - c * Vu) * u[i]) for i in axes
            )

        return 0.5 * two_body + triplets, of_slots_held(gradient, every, held)

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """Second derivatives of each site energy, in closed form.

        Of s w_j w_k g with g = (c_jk - c)^2 and c_jk = u_j . u_k, whose gradient in R_j is
        a_jk = (u_k - c_jk u_j) / r_j: what one bond and the other do, and what one does twice,
        summed over the others.
        """
        axes, (r, units, of_pairs, of_weights) = range(len(edges.vectors)), self._bonds(edges)
        inverse = 1.0 / r
        # Of bond j along the first axis, of bond k along the second.
        u, u_k = ([jnp.expand_dims(x, axis) for x in units] for axis in (1, 0))
        w, dw, d2w = (part[:, None] for part in of_weights)
        w_k, dw_k = (part[None] for part in of_weights[:2])
        inverse, inverse_k = inverse[:, None], inverse[None]
        cosine = sum((x * y for x, y in zip(u, u_k, strict=True)), start=jnp.zeros(()))
        strength = self.lambda_ * self.epsilon if self._one_strength else jnp.ones(())
        others, off = strength * (1.0 - jnp.eye(len(r))[:, :, None]), cosine - self.costheta0
        g, slope, curvature = others * off**2, others * 2.0 * off, others * 2.0
        a = [inverse * (y - cosine * x) for x, y in zip(u, u_k, strict=True)]
        b = [jnp.swapaxes(part, 0, 1) for part in a]

        def mixed(i: int, j: int) -> Array:
            """Of one axis of bond j and one of bond k."""
            turned = (float(i == j) - u_k[i] * u_k[j]) * inverse_k
            bend = curvature * a[i] * b[j] + slope * inverse * (turned - u[i] * b[j])
            by_one = dw * w_k * u[i] * b[j] + w * dw_k * a[i] * u_k[j]
            return dw * dw_k * g * u[i] * u_k[j] + slope * by_one + w * w_k * bend

        def twice(i: int, j: int) -> Array:
            """Of two axes of bond j."""
            along = u[i] * u[j]
            turned, both = (float(i == j) - along) * inverse, u[i] * a[j] + a[i] * u[j]
            bend = curvature * a[i] * a[j] - slope * inverse * (both + cosine * turned)
            own = g * (d2w * along + dw * turned) + dw * slope * both + w * bend
            of_pair = of_pairs[2][:, None] * along + of_pairs[1][:, None] * turned
            return 0.5 * of_pair + jnp.sum(w_k * own, axis=1, keepdims=True)

        alone = jnp.eye(len(r))[:, :, None]
        rows = [[mixed(i, j) + alone * twice(i, j) for j in axes] for i in axes]
        matrix = jnp.stack([jnp.stack(row) for row in rows]).transpose(4, 2, 3, 0, 1)
        return (matrix + matrix.transpose(0, 2, 1, 4, 3)) / 2

    def second_variations(
        self, edges: Edges, changes: tuple[Float[Array, "K V C"], ...]
    ) -> Float[Array, "V V"]:
        """Second derivatives of the sum of site energies along V changes of the edge vectors.

        From the moments of `site_energies_and_gradients`: what their changes do to one another, and
        what one bond does while they stay, psi(R) = a(r) + w(r) p(u) with a quadratic p. A change d
        of a bond stretches it by x = u . d and turns it by t = (d - x u) / r, and of two of them

            psi'' = (a'' + w'' p) x x + ((a' + w' p) r - w g.u) t.t + (w' - w / r) (x g.t + g.t x)
                  + w t.p''.t,  g = p'
        """
        axes, c, (r, units, of_pairs, of_weights) = (
            range(len(edges.vectors)), self.costheta0, self._bonds(edges)
        )  # fmt: skip
        s = self.lambda_ * self.epsilon if self._one_strength else jnp.ones(())
        alone, pairs = s * (1.0 - c) ** 2, [(i, j) for i in axes for j in axes if i <= j]
        w, nothing = of_weights[0], jnp.zeros(r.shape[1])

        def add_moments(total: Any, bond: Any) -> Any:
            w, u = bond
            more = [w * u[i] * u[j] for i, j in pairs], [w * x for x in u], w
            return jax.tree.map(jnp.add, total, more)

        held, empty = jnp.any(edges.mask, axis=1), ([nothing] * len(pairs), [nothing] * len(axes))
        found = sum_over_slots(add_moments, (*empty, nothing), (w, units), held)
        upper, V, S = _along_changes(found)
        T = [[upper[pairs.index((min(i, j), max(i, j)))] for j in axes] for i in axes]
        count = changes[0].shape[1]

        def add_bond(total: Any, bond: Any) -> Any:
            (r, u, (_, dphi, d2phi), (w, dw, d2w)), change = _along_changes(bond[:-1]), bond[-1]
            Tu, Vu = [_product(row, u) for row in T], _product(V, u)
            p = s * (_product(Tu, u) - 2.0 * c * Vu + c**2 * S)
            g = [2.0 * s * (a - c * b) for a, b in zip(Tu, V, strict=True)]
            da, d2a = 0.5 * dphi - alone * w * dw, 0.5 * d2phi - alone * (dw**2 + w * d2w)
            across, mixed = (da + dw * p) * r - w * _product(g, u), dw - w / r
            along, sw = d2a + d2w * p, 2.0 * s * w
            x = _product(u, change)
            t = [(d - x * y) / r for d, y in zip(change, u, strict=True)]
            gt = _product(g, t)
            pushed = [across * t[i] + sw * _product(T[i], t) for i in axes]
            one, other = [x, gt, *t], [along * x + mixed * gt, mixed * x, *pushed]
            found = jnp.concatenate(one, axis=1) @ jnp.concatenate(other, axis=1).T
            # How the moments change.
            wt, dwx = [w * part for part in t], dw * x
            dT = [dwx * (u[i] * u[j]) + wt[i] * u[j] + u[i] * wt[j] for i, j in pairs]
            dV = [dwx * u[i] + wt[i] for i in axes]
            return jax.tree.map(jnp.add, total, (found, dT, dV, dwx))

        none = jnp.zeros((count, len(nothing)))
        start = jnp.zeros((count, count)), [none for _ in pairs], [none for _ in axes], none
        bonds = r, units, of_pairs, of_weights, changes
        found, dT, dV, dS = sum_over_slots(add_bond, start, bonds, held)
        twice = [1.0 if i == j else 2.0 for i, j in pairs]
        moments = [n * part @ part.T for n, part in zip(twice, dT, strict=True)]
        moments += [-2.0 * c * part @ part.T for part in dV]
        return found + s * sum(moments, start=c**2 * dS @ dS.T)

    def _bonds(self, edges: Edges) -> tuple[Array, list[Array], list[Array], list[Array]]:
        """Lengths and unit vectors of all slots, phi and w with their derivatives along r; zeros
        where there is no bond.
        """
        pair, r = self.per_pair(edges), edges.distances
        bonded = edges.mask & (r < pair.a * pair.sigma)
        safe_r = jnp.where(bonded, r, 0.5 * pair.a * pair.sigma)
        of_pairs, of_weights = (
            [jnp.where(bonded, part, 0.0) for part in _value_slope_curvature(function, safe_r)]
            for function in (pair._two_body, pair._weight)
        )
        units = [jnp.where(bonded, component / safe_r, 0.0) for component in edges.vectors]
        return safe_r, units, of_pairs, of_weights

    def _bond(self, edges: Edges, slot: Array) -> "_Bond":
        """What the energy needs of one slot of all atoms; zeros where it holds no bond."""
        one_slot = Edges(
            tuple(component[slot][None] for component in edges.vectors),
            edges.mask[slot][None],
            edges.species,
            edges.neighbor_species[slot][None],
        )
        pair = self.per_pair(one_slot)
        r = one_slot.distances
        bonded = one_slot.mask & (r < pair.a * pair.sigma)
        # Beyond the range the exponentials are zero with all derivatives; 1/(r - a sigma) is not.
        safe_r = jnp.where(bonded, r, 0.5 * pair.a * pair.sigma)
        energy, energy_slope = jax.jvp(pair._two_body, (safe_r,), (jnp.ones_like(r),))
        weight, weight_slope = jax.jvp(pair._weight, (safe_r,), (jnp.ones_like(r),))
        units = [component / safe_r for component in one_slot.vectors]

        def only_bonds(values: Array) -> Array:
            return jnp.where(bonded, values, 0.0)[0]

        return _Bond(
            only_bonds(energy),
            only_bonds(energy_slope),
            only_bonds(weight),
            only_bonds(weight_slope),
            [only_bonds(unit) for unit in units],
            1.0 / safe_r[0],
        )

    @property
    def _one_strength(self) -> bool:
        # With one strength for all, the weights carry none of it: at zero a root has no slope.
        return self.lambda_.ndim == 0 and self.epsilon.ndim == 0

    def _two_body(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        log_ratio = jnp.log(self.sigma / r)
        decay = self.sigma / (r - self.a * self.sigma)
        repulsion = self.B * jnp.exp(self.p * log_ratio + decay)
        return self.A * self.epsilon * (repulsion - jnp.exp(self.q * log_ratio + decay))

    def _weight(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        weight = jnp.exp(self.gamma * self.sigma / (r - self.a * self.sigma))
        return weight if self._one_strength else jnp.sqrt(self.lambda_ * self.epsilon) * weight


def _along_changes(of_atoms: Any) -> Any:
    """Arrays of atoms with an axis of changes before them."""
    return jax.tree.map(lambda array: array[None], of_atoms)


def _product(one: Any, other: Any) -> Array:
    """The sum of the products of components."""
    first, *others = (a * b for a, b in zip(one, other, strict=True))
    return sum(others, start=first)


def _value_slope_curvature(
    function: Callable[[Array], Array], r: Float[Array, "K C"]
) -> tuple[Array, Array, Array]:
    """A function of each length, and its first and second derivative."""
    ones = jnp.ones_like(r)

    def with_slope(r: Array) -> tuple[Array, Array]:
        value, slope = jax.jvp(function, (r,), (ones,))
        return value, slope

    (value, slope), (_, curvature) = jax.jvp(with_slope, (r,), (ones,))
    return value, slope, curvature


class _Bond(NamedTuple):
    """One slot of all atoms: arrays of shape (C,)."""

    energy: Array
    energy_slope: Array
    weight: Array
    weight_slope: Array
    unit: list[Array]
    inverse_length: Array
