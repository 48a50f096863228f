"""The structure of an atomic cluster expansion: which products of which sums there are.

All that is no parameter of an `ACE`, as numbers in bytes, which are compared and hashed fast; and
the plan by which its products are computed, each from a shorter one and a further factor.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.potentials.files.ace_contents import (
    ACEBond,
    ACEContents,
    ACEEmbedding,
    ACEFunction,
)


@dataclasses.dataclass(frozen=True)
class BondSettings:
    """What is no parameter of the radial functions of a pair; see `files.ace_contents.ACEBond`."""

    radial_basis: str
    decay: float
    cutoff: float
    cutoff_width: float
    inner_cutoff: float
    inner_width: float
    inner_kind: str
    shape: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class EmbeddingSettings:
    """What is no parameter of an embedding; see `files.ace_contents.ACEEmbedding`."""

    function: str
    densities: int
    core_cutoff: float
    core_width: float


@dataclasses.dataclass(frozen=True)
class ACEBasis:
    """Which functions an expansion has, of S elements and P densities at most.

    A coefficient belongs to a function and a density, as the whole sum over the components m is
    what rotations leave as it is; how it is spread over T products, is fixed by `shares`.

    Attributes:
        bonds: settings of each pair of elements, in rows by that of the atom.
        embeddings: settings of each element.
        sizes: number of functions of radial bases, radial functions and angular momenta.
        rank: most factors of a product.
        function_count: F.
        products: int32 (T, 2 + 4 rank): function, number of factors, and of each the neighbour's
            element, n, l, m.
        shares: float64 (T, P), what a product has of its function's coefficient; of length 1 over
            the products of a function.
        places: int32 (F, 2), element of each function, and its place among those of the element.
    """

    bonds: tuple[tuple[BondSettings, ...], ...]
    embeddings: tuple[EmbeddingSettings, ...]
    sizes: tuple[int, int, int]
    rank: int
    function_count: int
    products: bytes
    shares: bytes
    places: bytes

    @property
    def densities(self) -> int:
        """P."""
        return max(embedding.densities for embedding in self.embeddings)

    @property
    def cutoffs(self) -> Float[np.ndarray, "S S"]:
        """Cutoff of each pair of elements, length."""
        return np.array([[bond.cutoff for bond in row] for row in self.bonds])

    @property
    def product_table(self) -> Int[np.ndarray, "T w"]:
        """The table `products`."""
        return np.frombuffer(self.products, np.int32).reshape(-1, 2 + 4 * self.rank)

    @property
    def share_table(self) -> Float[np.ndarray, "T P"]:
        """The table `shares`."""
        return np.frombuffer(self.shares).reshape(-1, self.densities)

    @property
    def place_table(self) -> Int[np.ndarray, "F 2"]:
        """The table `places`."""
        return np.frombuffer(self.places, np.int32).reshape(-1, 2)


def basis_and_coefficients(contents: ACEContents) -> tuple[ACEBasis, dict[str, np.ndarray]]:
    """The structure of what a file holds, and the numbers that are parameters of an `ACE`.

    Arguments:
        contents: what the file holds.

    Returns:
        The basis; tables by the names of the fields of `ACE`.
    """
    size = range(len(contents.elements))
    pairs = [[contents.bonds[i, j] for j in size] for i in size]
    shapes = [bond.coefficients.shape for row in pairs for bond in row]
    radial, momenta, base = (max(lengths) for lengths in zip(*shapes, strict=True))
    embeddings = contents.embeddings
    densities = max(len(embedding.factors) for embedding in embeddings)
    fields, coefficients = tables_of_functions(contents.functions, densities)
    crad = np.zeros((len(pairs), len(pairs), radial, momenta, base))
    for (i, j), bond in contents.bonds.items():
        n, l, k = bond.coefficients.shape
        crad[i, j, :n, :l, :k] = bond.coefficients
    # Of a density that an element has not, which has no factor, and no coefficients.
    factors, exponents = np.zeros((2, len(embeddings), densities))
    exponents += 1.0
    for row, embedding in enumerate(embeddings):
        factors[row, : len(embedding.factors)] = embedding.factors
        exponents[row, : len(embedding.exponents)] = embedding.exponents
    basis = ACEBasis(
        tuple(
            tuple(
                BondSettings(
                    bond.radial_basis, bond.decay, bond.cutoff, bond.cutoff_width,
                    bond.inner_cutoff, bond.inner_width, bond.inner_kind, bond.coefficients.shape,
                )
                for bond in row
            )
            for row in pairs
        ),
        tuple(
            EmbeddingSettings(one.function, len(one.factors), one.core_cutoff, one.core_width)
            for one in embeddings
        ),
        (base, radial, momenta),
        **fields,
    )  # fmt: skip
    return basis, {
        "c": coefficients, "crad": crad,
        "embedding_factor": factors, "embedding_exponent": exponents,
        "core_strength": np.array([[bond.core_strength for bond in row] for row in pairs]),
        "core_decay": np.array([[bond.core_decay for bond in row] for row in pairs]),
    }  # fmt: skip


def contents_of(
    basis: ACEBasis, tables: dict[str, np.ndarray]
) -> tuple[tuple[ACEEmbedding, ...], dict[tuple[int, int], ACEBond], tuple[ACEFunction, ...]]:
    """Embeddings, bonds and functions of a file: what `basis_and_coefficients` has taken apart.

    Arguments:
        basis: the structure.
        tables: by the names of the fields of `ACE`.
    """
    embeddings = tuple(
        ACEEmbedding(
            one.function,
            tuple(tables["embedding_factor"][row, : one.densities].tolist()),
            tuple(tables["embedding_exponent"][row, : one.densities].tolist()),
            one.core_cutoff,
            one.core_width,
        )
        for row, one in enumerate(basis.embeddings)
    )
    bonds = {
        (i, j): ACEBond(
            bond.radial_basis, bond.decay, bond.cutoff, bond.cutoff_width,
            tables["crad"][i, j][tuple(map(slice, bond.shape))],
            float(tables["core_strength"][i, j]), float(tables["core_decay"][i, j]),
            bond.inner_cutoff, bond.inner_width, bond.inner_kind,
        )
        for i, row in enumerate(basis.bonds)
        for j, bond in enumerate(row)
    }  # fmt: skip
    rows, shares, places = basis.product_table, basis.share_table, basis.place_table
    ends = np.searchsorted(rows[:, 0], np.arange(1, basis.function_count))
    functions = []
    for number, (own, share) in enumerate(
        zip(np.split(rows, ends), np.split(shares, ends), strict=True)
    ):
        element, rank = int(places[number, 0]), int(own[0, 1])
        mu, n, l, _ = own[0, 2 : 2 + 4 * rank].reshape(rank, 4).T.tolist()
        m = own[:, 5 : 2 + 4 * rank : 4].tolist()
        kept = basis.embeddings[element].densities
        functions.append(
            ACEFunction(
                element, tuple(mu), tuple(n), tuple(l), tuple(map(tuple, m)),
                (share * tables["c"][number])[:, :kept],
            )
        )  # fmt: skip
    return embeddings, bonds, tuple(functions)


def tables_of_functions(
    functions: tuple[ACEFunction, ...], densities: int
) -> tuple[dict[str, Any], Float[np.ndarray, "F P"]]:
    """Tables of an `ACEBasis` from functions of a file, and the functions' coefficients.

    Arguments:
        functions: those of the first element, then those of the next.
        densities: P.

    Returns:
        The fields of the basis that tell of functions; coefficients, zero in densities that an
        element has not.
    """
    rank = max(len(function.n) for function in functions)
    products, shares, places = list[list[int]](), [], []
    coefficients = np.zeros((len(functions), densities))
    counts: dict[int, int] = {}
    for number, function in enumerate(functions):
        place = counts[function.element] = counts.get(function.element, -1) + 1
        places.append((function.element, place))
        share = np.zeros((len(function.m), densities))
        lengths = np.linalg.norm(function.coefficients, axis=0)
        known = np.flatnonzero(lengths)
        for density in range(function.coefficients.shape[1]):
            # Where a density has none of a function, it has it as another density would.
            row = density if lengths[density] else (known[0] if len(known) else None)
            if row is not None:
                column = function.coefficients[:, row]
                sign = np.sign(column[np.flatnonzero(column)[0]])
                share[:, density] = sign * column / lengths[row]
                coefficients[number, density] = sign * lengths[density]
        shares.append(share)
        for m in function.m:
            factors = zip(function.neighbors, function.n, function.l, m, strict=True)
            row_of = [number, len(m), *(one for factor in factors for one in factor)]
            products.append(row_of + [0] * (2 + 4 * rank - len(row_of)))
    fields: dict[str, Any] = {
        "rank": rank,
        "function_count": len(functions),
        "products": np.array(products, np.int32).tobytes(),
        "shares": np.concatenate(shares).tobytes(),
        "places": np.array(places, np.int32).tobytes(),
    }
    return fields, coefficients


class Level(NamedTuple):
    """Products of one number of factors, each a shorter one times a factor A.

    Attributes:
        parents: places among the kept products with one factor less.
        factors: places among the factors A.
        kept: those of which longer ones are made, whose imaginary part is wanted, too.
    """

    parents: Int[np.ndarray, " q"]
    factors: Int[np.ndarray, " q"]
    kept: Int[np.ndarray, " k"]


class ProductPlan(NamedTuple):
    """How the Q products of an `ACEBasis` are computed, the real part of each.

    Attributes:
        singles: places of products of a single factor among the sums of radial bases.
        levels: those of two factors, of three and so on.
        entry: (T,), which of the Q products each of the basis is.
    """

    singles: Int[np.ndarray, " s"]
    levels: tuple[Level, ...]
    entry: Int[np.ndarray, " T"]


@functools.lru_cache(8)
def product_plan(basis: ACEBasis) -> ProductPlan:
    """The plan for a basis; products that differ in order alone, or in all signs of m, are one.

    That all signs of m turn makes the conjugate, since they add up to zero, and real parts are all
    that is wanted.
    """
    base, radial, momenta = basis.sizes
    table = basis.product_table
    of_rank: list[dict[tuple[int, ...], int]] = [{} for _ in range(basis.rank + 1)]
    keys = list[tuple[int, tuple[int, ...]]]()
    for row in table.tolist():
        rank = row[1]
        factors = [tuple(row[2 + 4 * i : 6 + 4 * i]) for i in range(rank)]
        if rank == 1:
            ((mu, n, _, _),) = factors
            key: tuple[int, ...] = (mu * base + n - 1,)
        else:

            def place(sign: int, factors: list[tuple[int, ...]] = factors) -> tuple[int, ...]:
                return tuple(
                    sorted(
                        ((mu * radial + n - 1) * momenta**2 + l * l + l + sign * m)
                        for mu, n, l, m in factors
                    )
                )

            key = min(place(1), place(-1))
        of_rank[rank].setdefault(key, len(of_rank[rank]))
        keys.append((rank, key))
    singles = np.array([key[0] for key in of_rank[1]], np.int32)
    # What is needed of each rank: products of the basis, and beginnings of longer ones after them.
    needed = [dict(found) for found in of_rank]
    for rank in range(basis.rank, 2, -1):
        for key in needed[rank]:
            needed[rank - 1].setdefault(key[:-1], len(needed[rank - 1]))
    levels = list[Level]()
    count = len(basis.bonds) * radial * momenta**2
    below: dict[tuple[int, ...], int] = {(index,): index for index in range(count)}
    starts, total = [0, 0], len(of_rank[1])
    for rank in range(2, basis.rank + 1):
        starts.append(total)
        total += len(needed[rank])
        kept = (
            sorted({needed[rank][key[:-1]] for key in needed[rank + 1]})
            if rank < basis.rank
            else []
        )
        levels.append(
            Level(
                np.array([below[key[:-1]] for key in needed[rank]], np.int32),
                np.array([key[-1] for key in needed[rank]], np.int32),
                np.array(kept, np.int32),
            )
        )
        names = list(needed[rank])
        below = {names[index]: place for place, index in enumerate(kept)}
    entry = [starts[rank] + (of_rank if rank == 1 else needed)[rank][key] for rank, key in keys]
    return ProductPlan(singles, tuple(levels), np.array(entry, np.int32))


def density_coefficients(
    basis: ACEBasis, coefficients: Float[Array, "F P"]
) -> Float[Array, "S P Q"]:
    """What each product of the plan adds to the densities at atoms of each element."""
    plan = product_plan(basis)
    functions = basis.product_table[:, 0]
    each = coefficients[functions] * basis.share_table
    width = len(plan.singles) + sum(len(level.parents) for level in plan.levels)
    elements = basis.place_table[functions, 0]
    zeros = jnp.zeros((len(basis.bonds), width, basis.densities))
    return zeros.at[elements, plan.entry].add(each).transpose(0, 2, 1)


def factor_table(
    basis: ACEBasis, sums: Float[Array, "h C"]
) -> tuple[Float[Array, "a C"], Float[Array, "a C"]]:
    """Factors A of all m, real and imaginary parts, from the sums with harmonics of m >= 0.

    Arguments:
        basis: the basis.
        sums: for each neighbour's element, n and l the real parts of m = 0 to l and the imaginary
            of 1 to l.

    Returns:
        Those of m = -l to l, in the same order: A_(l, -m) = (-1)^m conj(A_lm).
    """
    momenta = basis.sizes[2]
    real, imaginary, signs, phases = [], [], [], []
    for l in range(momenta):
        for m in range(-l, l + 1):
            phase = (-1.0) ** m if m < 0 else 1.0
            real.append(l * l + abs(m))
            imaginary.append(l * l + l + abs(m) if m else 0)
            signs.append(phase)
            phases.append((-phase if m < 0 else phase) if m else 0.0)
    rows = np.arange(sums.shape[0] // momenta**2)[:, None] * momenta**2
    repeated = len(rows)
    return (
        sums[(rows + np.array(real)).ravel()] * np.tile(signs, repeated)[:, None],
        sums[(rows + np.array(imaginary)).ravel()] * np.tile(phases, repeated)[:, None],
    )


def products(
    basis: ACEBasis, singles: Float[Array, "s C"], sums: Float[Array, "h C"]
) -> Float[Array, "Q C"]:
    """Real parts of the Q products of the plan.

    Arguments:
        basis: the basis.
        singles: sums of radial bases over neighbours, for each element.
        sums: of radial functions and harmonics, as for `factor_table`.
    """
    plan = product_plan(basis)
    found = [singles[plan.singles]]
    if plan.levels:
        factors = factor_table(basis, sums)
        below = factors
        for level in plan.levels:
            a, b = (part[level.parents] for part in below)
            c, d = (part[level.factors] for part in factors)
            real = a * c - b * d
            found.append(real)
            if len(level.kept):
                imaginary = a[level.kept] * d[level.kept] + b[level.kept] * c[level.kept]
                below = real[level.kept], imaginary
    return jnp.concatenate(found)
