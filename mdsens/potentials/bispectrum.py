"""Bispectra of neighbourhoods on the sphere in four dimensions, as integrals over that sphere.

SNAP maps each neighbour to a point q of the unit sphere in four dimensions. Up to degree j the
density of these points is

    f_j(p) = w U_j(p_0) + sum_k s_k U_j(p . q_k),

with Chebyshev's polynomials of the second kind U_j, the characters of SU(2): the atom itself stands
at (1, 0, 0, 0). The components of the bispectrum are means over the sphere,

    B_{j1 j2 j} = (j + 1) < f_{j1} f_{j2} f_j >,

the same numbers as sums over Clebsch-Gordan coefficients of products of Wigner's matrices, since
f_j is the sum of U^j_{mm'} conj(D^j_{mm'}(p)), and the mean of three matrices D is a product of two
Clebsch-Gordan coefficients over j + 1. Degrees add up to even numbers, and a rotation group's
sampling theorem (P. J. Kostelec, D. N. Rockmore, J. Fourier Anal. Appl. 14, 145 (2008)) makes the
mean a finite sum over nodes, exact but for rounding. Each f_j is one of (j + 1)^2 functions, so it
is computed at as many points, and interpolated to the nodes by a matrix: all that takes time is
products of matrices, and derivatives of any order are products with the same.

A. P. Bartok, M. C. Payne, R. Kondor, G. Csanyi, Phys. Rev. Lett. 104, 136403 (2010); A. P.
Thompson et al., J. Comput. Phys. 285, 316 (2015); for several elements M. A. Cusentino, M. A. Wood,
A. P. Thompson, J. Phys. Chem. A 124, 5456 (2020).
"""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

#: Density of each degree at the nodes, for each of E elements: twojmax + 1 arrays (E, G, C).
Densities = list[Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Quadrature:
    """What the bispectrum up to some degree is computed with.

    Attributes:
        twojmax: highest degree, twice the highest J.
        triples: degrees (j1, j2, j) of the components, j2 <= j1 <= j, in the order of LAMMPS.
        weights: shape (G,), of the nodes; they add up to 1.
        points: shape (A, 4), of the unit sphere; the first (j + 1)^2 serve degree j.
        interpolation: for each degree, shape (G, (j + 1)^2), from points to nodes.
    """

    twojmax: int
    triples: tuple[tuple[int, int, int], ...]
    weights: Float[np.ndarray, " G"]
    points: Float[np.ndarray, "A 4"]
    interpolation: tuple[Float[np.ndarray, "G _"], ...]

    @property
    def degrees(self) -> range:
        """All degrees."""
        return range(self.twojmax + 1)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[tuple[tuple[int, int], ...], tuple[np.ndarray, ...]], ...]:
        """For each degree, which products of two densities make slopes in its own, and how.

        Pairs of degrees, the lower one first, and three matrices from factors of triples to those
        of the pairs: where the degree is the first, the second or the third of a triple.
        """
        found: list[dict[tuple[int, int], list[tuple[int, int]]]] = [{} for _ in self.degrees]
        for place, (j1, j2, j) in enumerate(self.triples):
            for role, (degree, pair) in enumerate(((j1, (j2, j)), (j2, (j1, j)), (j, (j2, j1)))):
                found[degree].setdefault(pair, []).append((role, place))
        of_degrees = []
        for of_degree in found:
            matrices = np.zeros((3, len(of_degree), len(self.triples)))
            for row, entries in enumerate(of_degree.values()):
                for role, place in entries:
                    matrices[role, row, place] += 1.0
            of_degrees.append((tuple(of_degree), tuple(matrices)))
        return tuple(of_degrees)

    @functools.cached_property
    def points_of_values(self) -> Float[np.ndarray, "V 4"]:
        """The point of each value, degree after degree."""
        return np.concatenate([self.points[: (j + 1) ** 2] for j in self.degrees])

    @functools.cached_property
    def places(self) -> tuple[slice, ...]:
        """Where the values of each degree are among all values."""
        ends = np.cumsum([0, *((j + 1) ** 2 for j in self.degrees)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))


def triples_of_degrees(twojmax: int) -> tuple[tuple[int, int, int], ...]:
    """Degrees (j1, j2, j) of the components of the bispectrum, in the order of LAMMPS."""
    return tuple(
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    )


@functools.cache
def quadrature(twojmax: int) -> Quadrature:
    """The nodes, points and matrices for degrees up to twojmax.

    Points are chosen among the nodes by pivoting, so that interpolation from them is well
    conditioned.

    Arguments:
        twojmax: highest degree.

    Returns:
        The Quadrature, made once.
    """
    nodes, weights = _nodes(twojmax)
    functions = [_orthonormal(nodes, weights, degree) for degree in range(twojmax + 1)]
    # Those that tell all functions of a degree apart are the candidates of the next lower one.
    chosen, left = np.arange(len(nodes)), [np.zeros(0, int)]
    for degree in reversed(range(twojmax + 1)):
        _, _, order = scipy.linalg.qr(functions[degree][chosen].T, pivoting=True, mode="economic")
        first = order[: (degree + 1) ** 2]
        if degree < twojmax:
            left.insert(0, np.delete(chosen, first))
        chosen = chosen[first]
    chosen = np.concatenate([chosen, *left])
    matrices = tuple(
        scipy.linalg.solve(functions[degree][chosen[: (degree + 1) ** 2]].T, functions[degree].T).T
        for degree in range(twojmax + 1)
    )
    return Quadrature(twojmax, triples_of_degrees(twojmax), weights, nodes[chosen], matrices)


def _nodes(twojmax: int) -> tuple[Float[np.ndarray, "G 4"], Float[np.ndarray, " G"]]:
    """Nodes on half of the sphere and their weights, exact for even degrees up to 3 twojmax."""
    highest = 3 * twojmax // 2
    turns = 2.0 * np.pi * np.arange(highest + 1) / (highest + 1)
    cosines, gauss = np.polynomial.legendre.leggauss(highest // 2 + 1)
    alpha, beta, gamma = np.meshgrid(turns, np.arccos(cosines), turns, indexing="ij")
    half_sum, half_difference = (alpha + gamma) / 2.0, (alpha - gamma) / 2.0
    inner, outer = np.cos(beta / 2.0), np.sin(beta / 2.0)
    parts = (
        inner * np.cos(half_sum), outer * np.cos(half_difference),
        outer * np.sin(half_difference), inner * np.sin(half_sum),
    )  # fmt: skip
    nodes = np.stack(parts, axis=-1).reshape(-1, 4)
    weights = np.broadcast_to(gauss[None, :, None] / (2.0 * len(turns) ** 2), alpha.shape)
    return nodes, weights.ravel()


def _orthonormal(
    nodes: Float[np.ndarray, "G 4"], weights: Float[np.ndarray, " G"], degree: int
) -> Float[np.ndarray, "G M"]:
    """Functions of a degree at the nodes, orthonormal in the mean over the sphere."""
    size = (degree + 1) ** 2
    some = np.random.default_rng(degree).normal(size=(2 * size, 4))
    some /= np.linalg.norm(some, axis=1, keepdims=True)
    spanning = chebyshev(nodes @ some.T, degree)[degree]
    roots = np.sqrt(weights)[:, None]
    vectors, _, _ = np.linalg.svd(roots * spanning, full_matrices=False)
    return vectors[:, :size] / roots


def chebyshev(x: Any, degree: int) -> list[Any]:
    """Chebyshev's polynomials of the second kind, U_0 to that of a degree."""
    values = [0.0 * x + 1.0, 2.0 * x]
    for _ in range(degree - 1):
        values.append(2.0 * x * values[-1] - values[-2])
    return values[: degree + 1]


def values_at_points(table: Quadrature, q: tuple[Array, ...]) -> Float[Array, "V ..."]:
    """U_j(p . q) at the points p of each degree j.

    Arguments:
        table: the points.
        q: four components, each (...,), or fewer where the others are zero.

    Returns:
        Shape (V, ...), degree after degree.
    """
    return _by_degree(table, chebyshev(_cosines(table, q), table.twojmax))


def derivatives_at_points(
    table: Quadrature, q: tuple[Array, ...], order: int = 1
) -> list[Float[Array, "V ..."]]:
    """U_j(p . q), U_j'(p . q), ..., whose products with p, and with pairs of p, are those in q.

    Arguments:
        table: the points.
        q: four components, each (...,), or fewer where the others are zero.
        order: of the highest derivative.

    Returns:
        An array (V, ...) for each order from 0.
    """
    x = _cosines(table, q)
    found = [chebyshev(x, table.twojmax)]
    for k in range(1, order + 1):
        # The recursion of U_j, derived k times.
        of_order = [0.0 * x, 0.0 * x + (2.0 if k == 1 else 0.0)]
        for lower in found[-1][1:-1]:
            of_order.append(2.0 * k * lower + 2.0 * x * of_order[-1] - of_order[-2])
        found.append(of_order)
    return [_by_degree(table, values) for values in found]


def _cosines(table: Quadrature, q: tuple[Array, ...]) -> Float[Array, "A ..."]:
    columns = table.points.T.reshape(4, -1, *[1] * q[0].ndim)
    terms = [column * component[None] for column, component in zip(columns, q, strict=False)]
    return sum(terms[1:], start=terms[0])


def _by_degree(table: Quadrature, values: list[Array]) -> Float[Array, "V ..."]:
    """What each degree has at its points, degree after degree."""
    return jnp.concatenate([values[j][: (j + 1) ** 2] for j in table.degrees])


def values_of_centre(table: Quadrature) -> Float[np.ndarray, " V"]:
    """The same for the atom itself, q = (1, 0, 0, 0)."""
    values = chebyshev(table.points[:, 0], table.twojmax)
    return np.concatenate([values[j][: (j + 1) ** 2] for j in table.degrees])


def densities(table: Quadrature, values: Float[Array, "E V C"]) -> Densities:
    """F_j at the nodes, from its values at the points."""
    return [
        jnp.einsum("ga,eac->egc", table.interpolation[j], values[:, table.places[j]])
        for j in table.degrees
    ]


def to_points(table: Quadrature, slopes: Densities) -> Float[Array, "E V C"]:
    """Slopes in values at the points, from slopes in f_j at the nodes."""
    parts = [jnp.einsum("ga,egc->eac", table.interpolation[j], slopes[j]) for j in table.degrees]
    return jnp.concatenate(parts, axis=1)


def _weights(table: Quadrature) -> Float[np.ndarray, "1 G 1"]:
    return table.weights[None, :, None]


def components(table: Quadrature, f: Densities) -> Float[Array, "E E E T C"]:
    """Means < f_{j1} f_{j2} f_j > of all triples of degrees and elements."""
    means: list[Any] = [None] * len(table.triples)
    for j in table.degrees:
        # Those of one degree together, which compiles in a fraction of the time.
        places = [place for place, triple in enumerate(table.triples) if triple[2] == j]
        pairs = [table.triples[place][:2] for place in places]
        products = jnp.stack([f[j1][:, None] * f[j2][None] for j1, j2 in pairs])
        found = jnp.einsum("tabgc,dgc->tabdc", products, _weights(table) * f[j])
        for place, mean in zip(places, found, strict=True):
            means[place] = mean
    return jnp.stack(means, axis=3)


def _of_pairs(
    table: Quadrature, degree: int, factors: Float[Array, "E E E T _"]
) -> Float[Array, "P E E E _"]:
    """Factors of the products of two densities in the slopes in that of a degree.

    Of `Quadrature.pairs`, the element of the slope first.
    """
    turned = (factors, factors.transpose(1, 0, 2, 3, 4), factors.transpose(2, 1, 0, 3, 4))
    terms = [
        jnp.einsum("pt,abdtc->pabdc", matrix, one)
        for matrix, one in zip(table.pairs[degree][1], turned, strict=True)
    ]
    return sum(terms[1:], start=terms[0])


def slopes_of_sum(table: Quadrature, f: Densities, factors: Float[Array, "E E E T _"]) -> Densities:
    """Slopes of sum factors < f_{j1} f_{j2} f_j > in the densities at the nodes.

    Arguments:
        table: the nodes.
        f: densities at the nodes.
        factors: of each mean; the last axis may have length 1.

    Returns:
        An array (E, G, C) for each degree.
    """
    found = []
    for degree in table.degrees:
        each = _of_pairs(table, degree, factors)
        total: Any = 0.0
        for (first, second), factor in zip(table.pairs[degree][0], each, strict=True):
            if len(f[0]) == 1:
                total = total + factor[0] * (f[first] * f[second])
            else:
                product = f[first][None, :, None] * f[second][None, None, :]
                total = total + jnp.sum(factor[:, :, :, None] * product, axis=(1, 2))
        found.append(_weights(table) * total)
    return found


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def slopes_at_points(
    table: Quadrature, f: Densities, factors: Float[Array, "E E E T _"]
) -> Float[Array, "E V C"]:
    """The same slopes in the values at the points.

    Along directions of the factors, derivatives are sums of those of the means, which are computed
    once for all directions.
    """
    return to_points(table, slopes_of_sum(table, f, factors))


def _along_slopes_at_points(table: Quadrature, primals: Any, tangents: Any) -> tuple[Any, Any]:
    f, factors = primals
    along_f, along_factors = tangents
    found = slopes_at_points(table, f, factors)
    total = jnp.zeros_like(found)
    if not isinstance(along_factors, SymbolicZero):
        total = total + _weighed_slopes_of_means(table, f, along_factors)
    if not all(isinstance(one, SymbolicZero) for one in along_f):
        steps = [jnp.zeros(one.shape) if isinstance(one, SymbolicZero) else one for one in along_f]
        change = jax.jvp(lambda f: slopes_of_sum(table, f, factors), (f,), (steps,))[1]
        total = total + to_points(table, change)
    return found, total


slopes_at_points.defjvp(_along_slopes_at_points, symbolic_zeros=True)


def _slopes_of_pairs(table: Quadrature, f: Densities, degree: int) -> Float[Array, "P E E M C"]:
    """Slopes that products of two densities make in the values of a degree at its points."""
    products = [
        f[first][:, None] * (_weights(table) * f[second])[None]
        for first, second in table.pairs[degree][0]
    ]
    return jnp.einsum("ga,pefgc->pefac", table.interpolation[degree], jnp.stack(products))


def _weighed_slopes_of_means(
    table: Quadrature, f: Densities, factors: Float[Array, "E E E T _"]
) -> Float[Array, "E V C"]:
    """What `slopes_at_points` returns, from the slopes of each mean."""
    return jnp.concatenate(
        [
            jnp.sum(
                _of_pairs(table, degree, factors)[:, :, :, :, None]
                * _slopes_of_pairs(table, f, degree)[:, None],
                axis=(0, 2, 3),
            )
            for degree in table.degrees
        ],
        axis=1,
    )


def slopes_of_means(table: Quadrature, f: Densities) -> Float[Array, "N E V C"]:
    """Slopes of all N = E^3 T means in the values at the points, in the order of `components`."""
    elements = len(f[0])
    count = elements**3 * len(table.triples)
    units = np.eye(count).reshape(count, *(elements,) * 3, -1, 1)
    parts = []
    for degree in table.degrees:
        each = jax.vmap(lambda unit, j=degree: _of_pairs(table, j, unit))(jnp.asarray(units))
        pairs = _slopes_of_pairs(table, f, degree)
        parts.append(jnp.einsum("npxef,pefac->nxac", each[..., 0], pairs))
    return jnp.concatenate(parts, axis=2)
