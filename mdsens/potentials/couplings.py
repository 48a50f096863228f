"""Second derivatives of sums of components of the bispectrum, in harmonics of densities.

The mean of three densities is a sum over triples of harmonics, of which few have a mean
(`mdsens.potentials.harmonics`): 2 or 3 products for each second derivative at degree 8, in place of
a sum over the 1,183 nodes that the density itself is integrated at.
"""

import dataclasses
import functools
import itertools

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from mdsens.potentials.bispectrum import Quadrature, quadrature
from mdsens.potentials.harmonics import harmonics, means_of_three

#: Groups of entries are made of at most 2, 4, 8, ... products each.
FEWEST_TERMS = 2
#: Which densities of a triple are called first, second and third.
ROLES = tuple(itertools.permutations(range(3)))


@dataclasses.dataclass(frozen=True, eq=False)
class Couplings:
    """How second derivatives are made of densities, both in harmonics.

    The derivative in two coefficients is a sum over those of a third degree, times the mean of
    three harmonics; two degrees and a third have a factor of their own, a coupling.

    Attributes:
        to_harmonics: for each degree, from values at its points to coefficients of its harmonics.
        factors: for each of `ROLES`, from the factors of triples to those of Q couplings.
        coupling_of: shape (Y,), the coupling in each product of a factor with a coefficient.
        coefficient_of: shape (Y,), the coefficient in it.
        terms: groups of entries that are sums of as many of these products: their indices and what
            each is multiplied by, shape (terms, entries).
        places: shape (V, V), where each second derivative is among all entries and a last one, 0.
    """

    to_harmonics: tuple[Float[np.ndarray, "_ _"], ...]
    factors: tuple[Float[np.ndarray, "Q T"], ...]
    coupling_of: Int[np.ndarray, " Y"]
    coefficient_of: Int[np.ndarray, " Y"]
    terms: tuple[tuple[Int[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]], ...]
    places: Int[np.ndarray, "V V"]


@functools.cache
def couplings(twojmax: int) -> Couplings:
    """The couplings of degrees up to twojmax, made once.

    Of two second derivatives that are the same, the one with the higher degree first is kept, and
    half of each where degrees are the same: all are what is kept and its transpose.

    Arguments:
        twojmax: highest degree.

    Returns:
        The Couplings.
    """
    table = quadrature(twojmax)
    numbers: dict[tuple[int, ...], int] = {}
    found = []
    for role, order in enumerate(ROLES):
        for place, triple in enumerate(table.triples):
            degrees = tuple(triple[one] for one in order)
            if degrees[0] >= degrees[1]:
                share = 0.5 if degrees[0] == degrees[1] else 1.0
                found.append((role, numbers.setdefault(degrees, len(numbers)), place, share))
    factors = np.zeros((len(ROLES), len(numbers), len(table.triples)))
    for role, coupling, place, share in found:
        factors[role, coupling, place] += share
    sizes = [(third + 1) ** 2 for _, _, third in numbers]
    coefficients = [
        np.arange(table.places[third].stop)[table.places[third]] for *_, third in numbers
    ]
    terms, places = _groups(_means(table, list(numbers)))
    return Couplings(
        tuple(np.linalg.inv(harmonics(j, table.points[: (j + 1) ** 2])) for j in table.degrees),
        tuple(factors),
        np.repeat(np.arange(len(numbers)), sizes),
        np.concatenate(coefficients),
        terms,
        places,
    )


def _means(table: Quadrature, triples: list[tuple[int, ...]]) -> scipy.sparse.csr_array:
    """What products of couplings and coefficients are multiplied by, for each pair of harmonics."""
    count = table.places[-1].stop
    rows, columns, values = [], [], []
    start = 0
    for first, second, third in triples:
        means = means_of_three(first, second, third).tocoo()
        row, column = np.divmod(means.row, (second + 1) ** 2)
        row, column = row + table.places[first].start, column + table.places[second].start
        rows.append(row * count + column)
        columns.append(means.col + start)
        values.append(means.data)
        start += (third + 1) ** 2
    places = np.concatenate(rows), np.concatenate(columns)
    return scipy.sparse.coo_array((np.concatenate(values), places), (count**2, start)).tocsr()


def _groups(
    means: scipy.sparse.csr_array,
) -> tuple[
    tuple[tuple[Int[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]], ...], Int[np.ndarray, "V V"]
]:
    """Rows of a sparse matrix by how many entries they have, filled up with zeros."""
    lengths = np.diff(means.indptr)
    groups, order = [], []
    fewest, most = 0, FEWEST_TERMS
    while fewest < lengths.max():
        rows = np.flatnonzero((lengths > fewest) & (lengths <= most))
        if len(rows):
            steps = np.arange(min(most, lengths.max()))[:, None]
            there = steps < lengths[rows]
            at = np.where(there, means.indptr[rows] + steps, 0)
            groups.append((means.indices[at], np.where(there, means.data[at], 0.0)))
            order.append(rows)
        fewest, most = most, 2 * most
    ranked = np.concatenate(order)
    size = int(np.sqrt(len(lengths)))
    places = np.full(size**2, len(ranked))
    places[ranked] = np.arange(len(ranked))
    return tuple(groups), places.reshape(size, size)


def to_harmonics(table: Quadrature, values: Float[Array, "E V L"]) -> Float[Array, "E V L"]:
    """Coefficients of harmonics, of densities that have some values at the points.

    Arguments:
        table: the points.
        values: of each element, degree after degree; any number of densities.

    Returns:
        The same shape.
    """
    parts = [
        jnp.einsum("ab,ebl->eal", matrix, values[:, place])
        for matrix, place in zip(couplings(table.twojmax).to_harmonics, table.places, strict=True)
    ]
    return jnp.concatenate(parts, axis=1)


def halves_of_curvatures(
    table: Quadrature, coefficients: Float[Array, "E V C"], factors: Float[Array, "E E E T _"]
) -> Float[Array, "C EV EV"]:
    """Second derivatives of sum factors < f_{j1} f_{j2} f_j > in the coefficients of harmonics.

    Arguments:
        table: the degrees.
        coefficients: of each density f.
        factors: of each mean; the last axis may have length 1.

    Returns:
        Shape (C, E V, E V), element after element; they are this matrix and its transpose.
    """
    known = couplings(table.twojmax)
    elements, count, atoms = coefficients.shape
    if elements == 1:
        of_couplings = jnp.einsum("qt,efgtc->efgqc", sum(known.factors), factors)
    else:
        of_roles = [
            jnp.einsum("qt,efgtc->efgqc", matrix, factors.transpose(*order, 3, 4))
            for order, matrix in zip(ROLES, known.factors, strict=True)
        ]
        of_couplings = sum(of_roles[1:], start=of_roles[0])
    # Atoms before what is picked of each.
    of_couplings = jnp.moveaxis(of_couplings, -1, 2)[..., known.coupling_of]
    third = jnp.moveaxis(coefficients, -1, 0)[..., known.coefficient_of]
    products = jnp.einsum("efcgy,cgy->efcy", of_couplings, third)
    entries = [
        jnp.sum(jnp.asarray(means)[None, None, None] * _picked(products, indices), axis=-2)
        for indices, means in known.terms
    ]
    none = jnp.zeros((elements, elements, atoms, 1))
    found = _picked(jnp.concatenate([*entries, none], axis=-1), known.places)
    return found.transpose(2, 0, 3, 1, 4).reshape(atoms, elements * count, elements * count)


def _picked(values: Float[Array, "E E C _"], places: Int[np.ndarray, "_ _"]) -> Array:
    """Some of the values of each atom, at places that are there."""
    return values.at[..., jnp.asarray(places, jnp.int32)].get(mode="promise_in_bounds")
