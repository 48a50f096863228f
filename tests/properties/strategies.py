"""Random structures, potentials and values of every kind."""

import numpy as np
from ase.geometry import find_mic, minkowski_reduce
from hypothesis import strategies as st

from mdsens import System

#: Sizes of the strange numbers: zeros, tiny, huge, and what is none.
STRANGE_NUMBERS = (
    0, 1, -1, 3, 2**31, 2**32, 2**63, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e-160, 1e160, 1.7e308,
    float("inf"), -float("inf"), float("nan"), True, False, 1j,
)  # fmt: skip

numbers = st.one_of(
    st.sampled_from(STRANGE_NUMBERS), st.floats(-10, 10), st.integers(-10, 10), st.floats()
)
texts = st.one_of(
    st.sampled_from(
        ["", " ", "Ar", "Ar-Kr", "a", "3.4", "nan", "1e999", "3.4 Ang", "[/]", "\0", "α"]
    ),
    st.text(max_size=12),
    st.integers(300, 3000).map(lambda count: "x" * count),
)
plain = st.one_of(numbers, texts)


def junk():
    """A value of any kind: what a script may hand over by mistake."""
    return st.one_of(
        st.none(),
        plain,
        st.lists(plain, max_size=4),
        # Keys of one kind: equinox cannot hold others, and says so before anybody is asked.
        st.dictionaries(texts, plain, max_size=2),
        st.dictionaries(st.integers(0, 3), plain, max_size=2),
        st.lists(st.lists(numbers, max_size=3), max_size=4),
        arrays(),
        st.sampled_from([object(), int, np, np.zeros, np.array(None), (1, (2, "a")), {1}, b"Ar"]),
    )


@st.composite
def arrays(draw):
    """An array of NumPy of any shape and of many types, some of its numbers strange."""
    shape = draw(
        st.sampled_from([(), (0,), (1,), (2,), (3,), (4,), (3, 3), (4, 3), (4, 2), (2, 2)])
    )
    kind = draw(st.sampled_from(["float64", "float32", "int64", "bool", "complex128", "U3", "O"]))
    values = np.full(shape, draw(st.sampled_from([0, 1, 2, -1, 5])), dtype=kind)
    if values.size and kind == "float64" and draw(st.booleans()):
        values.flat[draw(st.integers(0, values.size - 1))] = draw(
            st.sampled_from([np.nan, np.inf, 1e300, -1e-300])
        )
    return values


def toml():
    """A value that a study file can hold."""
    simple = st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-3, 3),
        st.floats(),
        texts.filter(lambda text: "\r" not in text),
    )
    return st.one_of(
        simple,
        st.lists(simple, max_size=3),
        st.dictionaries(texts, simple, max_size=2),
        st.lists(st.lists(simple, max_size=2), max_size=2),
    )


@st.composite
def cells(draw, dimension):
    """Lattice vectors as rows, of edges from 2 to 6: as they are, or another basis, much skewed."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    while True:
        cell = np.diag(seed.uniform(2.0, 6.0, dimension)) + seed.uniform(-1, 1, (dimension,) * 2)
        if abs(np.linalg.det(cell)) > 2.0**dimension / 2:
            break
    for _ in range(draw(st.integers(0, 4))):
        # A multiple of one vector is added to another: the same lattice in a worse basis.
        i, j = seed.permutation(dimension)[:2]
        cell[i] += seed.integers(-3, 4) * cell[j]
    return cell


@st.composite
def systems(draw, dimension=3, count=4, nearest=0.0, symbols=("X",)):
    """Atoms in and far outside of cells of all kinds, periodic in any of their directions."""
    cell = draw(cells(dimension))
    pbc = tuple(draw(st.lists(st.booleans(), min_size=dimension, max_size=dimension)))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    while True:
        positions = seed.uniform(-2.0, 3.0, (count, dimension)) @ cell
        if _nearest(positions, cell, pbc) > nearest:
            break
        cell = cell * 1.1
    species = seed.integers(0, len(symbols), count)
    return System(positions, cell, symbols, species, pbc, units="reduced")


def reduced(cell, pbc):
    """A basis of short vectors of the same lattice, by ASE."""
    whole, boundaries = _padded(cell, pbc)
    return minkowski_reduce(whole, boundaries)[0][: len(cell), : len(cell)]


def _padded(cell, pbc):
    """Three lattice vectors, with zeros where nothing is repeated."""
    whole = np.zeros((3, 3))
    whole[: len(cell), : len(cell)] = np.where(np.array(pbc)[:, None], cell, 0.0)
    return whole, [*pbc, *[False] * (3 - len(pbc))]


def _nearest(positions, cell, pbc):
    """The smallest distance between two atoms, or an atom and its image, by ASE."""
    whole, boundaries = _padded(cell, pbc)
    pairs = np.array([a - b for i, a in enumerate(positions) for b in positions[:i]])
    padded = np.zeros((len(pairs), 3))
    padded[:, : len(cell)] = pairs
    own = np.linalg.norm(reduced(cell, pbc)[list(pbc)], axis=1).min(initial=np.inf)
    return min(find_mic(padded, whole, boundaries)[1].min(), own)
