"""Harmonics on the sphere in four dimensions, and the means of products of three of them.

Those of degree j are the (j + 1)^2 entries of Wigner's matrix D^j(p) of the point p, a unit
quaternion. As D_{-m,-m'} = (-1)^(m - m') conj(D_{mm'}), real ones are made of two entries each.
The mean of three entries is a product of two of Wigner's 3j symbols,

    < D^a_{mm'} D^b_{nn'} D^d_{kk'} > = (a b d; m n k) (a b d; m' n' k'),

zero unless m + n + k = m' + n' + k' = 0: of all products of three, few have a mean. Degrees and
orders are twice those of physics, whole numbers.

D. A. Varshalovich, A. N. Moskalev, V. K. Khersonskii, Quantum Theory of Angular Momentum (1988),
sections 4.3, 4.11 and 8.2.
"""

import functools
import math

import numpy as np
import scipy.sparse
from jaxtyping import Complex, Float, Int

#: Means that are zero come out as large as this at most, since they are sums of a few of order 1.
ROUNDING = 1e-13


def wigner_matrices(degree: int, points: Float[np.ndarray, "A 4"]) -> Complex[np.ndarray, "A _ _"]:
    """Wigner's matrices of a degree at points of the sphere.

    Arguments:
        degree: j, twice the spin.
        points: shape (A, 4), unit quaternions.

    Returns:
        Shape (A, j + 1, j + 1): how (a x + b y)^(j-k) (-b* x + a* y)^k, of a = p0 + i p3 and
        b = p2 + i p1, is made of the powers x^(j-i) y^i, all of them normalised.
    """
    a, b = points[:, 0] + 1j * points[:, 3], points[:, 2] + 1j * points[:, 1]
    found = np.zeros((len(points), degree + 1, degree + 1), complex)
    factorial = math.factorial
    for k in range(degree + 1):
        for first in range(degree - k + 1):
            for second in range(k + 1):
                # So many factors y are taken from either power.
                i = first + second
                root = math.sqrt(
                    factorial(i) * factorial(degree - i) / (factorial(k) * factorial(degree - k))
                )
                count = math.comb(degree - k, first) * math.comb(k, second) * root
                powers = a ** (degree - k - first) * b**first
                powers *= (-b.conj()) ** (k - second) * a.conj() ** second
                found[:, i, k] += count * powers
    return found


@functools.cache
def _real(degree: int) -> tuple[Int[np.ndarray, "M 2"], Complex[np.ndarray, "M 2"]]:
    """Which two entries of Wigner's matrix each real harmonic is made of, and with what factors."""
    entries, factors = [], []
    root = math.sqrt((degree + 1) / 2.0)
    for i, k in np.ndindex(degree + 1, degree + 1):
        this, other = i * (degree + 1) + k, (degree - i) * (degree + 1) + degree - k
        sign = (-1) ** (i - k)
        if this < other:
            entries += [(this, other)] * 2
            factors += [(root, root * sign), (-1j * root, 1j * root * sign)]
        elif this == other:
            entries.append((this, this))
            factors.append((root / math.sqrt(2.0), root / math.sqrt(2.0)))
    return np.array(entries), np.array(factors, complex)


def harmonics(degree: int, points: Float[np.ndarray, "A 4"]) -> Float[np.ndarray, "A M"]:
    """The M = (degree + 1)^2 real harmonics, orthonormal in the mean over the sphere.

    Arguments:
        degree: twice the spin.
        points: shape (A, 4), of the unit sphere.

    Returns:
        Shape (A, M).
    """
    entries, factors = _real(degree)
    values = wigner_matrices(degree, points).reshape(len(points), -1)
    return np.einsum("amt,mt->am", values[:, entries], factors).real


@functools.cache
def three_j(a: int, b: int, d: int) -> Float[np.ndarray, "_ _"]:
    """Wigner's 3j symbols (a b d; m n -m-n) by Racah's sum, of all orders m and n.

    Arguments:
        a: degree, twice the spin.
        b: that of the second.
        d: that of the third, from |a - b| to a + b in steps of 2.

    Returns:
        Shape (a + 1, b + 1); zero where m + n is no order of d.
    """
    factorial = math.factorial
    found = np.zeros((a + 1, b + 1))
    sides = (a + b - d) // 2, (a - b + d) // 2, (b - a + d) // 2
    triangle = math.prod(map(factorial, sides)) / factorial((a + b + d) // 2 + 1)
    for i, k in np.ndindex(a + 1, b + 1):
        m, n = 2 * i - a, 2 * k - b
        if abs(m + n) > d:
            continue
        orders = (a + m, a - m, b + n, b - n, d + m + n, d - m - n)
        root = math.sqrt(triangle * math.prod(factorial(order // 2) for order in orders))
        total = 0.0
        for t in range((a + b + d) // 2 + 1):
            parts = (
                t, (d - b + m) // 2 + t, (d - a - n) // 2 + t,
                sides[0] - t, (a - m) // 2 - t, (b + n) // 2 - t,
            )  # fmt: skip
            if min(parts) >= 0:
                total += (-1) ** t / math.prod(map(factorial, parts))
        found[i, k] = (-1) ** ((a - b + m + n) // 2) * root * total
    return found


def means_of_three(a: int, b: int, d: int) -> scipy.sparse.csr_array:
    """Means over the sphere of products of real harmonics of three degrees.

    Arguments:
        a: degree of the first.
        b: that of the second.
        d: that of the third, from |a - b| to a + b in steps of 2.

    Returns:
        Shape ((a + 1)^2 (b + 1)^2, (d + 1)^2), a row for each pair of the first two.
    """
    symbols, shift = three_j(a, b, d), (a + b + d) // 2
    (entries_a, factors_a), (entries_b, factors_b) = _real(a), _real(b)
    first, second = np.indices((len(entries_a), len(entries_b)))
    rows, columns, values = [], [], []
    for s, t in np.ndindex(2, 2):
        i, k = np.divmod(entries_a[first, s], a + 1)
        m, n = np.divmod(entries_b[second, t], b + 1)
        product = factors_a[first, s] * factors_b[second, t] * symbols[i, m] * symbols[k, n]
        row, column = shift - i - m, shift - k - n
        there = (np.minimum(row, column) >= 0) & (np.maximum(row, column) <= d)
        rows.append((first * len(entries_b) + second)[there])
        columns.append((row * (d + 1) + column)[there])
        values.append(product[there])
    size = (d + 1) ** 2
    places = np.concatenate(rows), np.concatenate(columns)
    with_entries = scipy.sparse.coo_array(
        (np.concatenate(values), places), (len(entries_a) * len(entries_b), size)
    )
    entries_d, factors_d = _real(d)
    third = scipy.sparse.coo_array(
        (factors_d.ravel(), (entries_d.ravel(), np.repeat(np.arange(size), 2))), (size, size)
    )
    found = (with_entries.tocsr() @ third.tocsr()).real.tocsr()
    found.data[np.abs(found.data) < ROUNDING] = 0.0
    found.eliminate_zeros()
    return found
