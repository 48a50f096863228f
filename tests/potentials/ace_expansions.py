"""A small atomic cluster expansion of two elements, as a table and in closed form.

The closed form is of the papers, with SciPy's functions and a loop over everything: it shares no
code, no recursion and no order of sums with what is tested.
"""

import itertools
import math

import numpy as np
import scipy.special

ELEMENTS = ("Cu", "Ag")
#: Radial bases of the pairs, of which each has another.
BASES = {(0, 0): "ChebPow", (0, 1): "SBessel", (1, 0): "ChebExpCos", (1, 1): "ChebLinear"}
CUTOFFS = {(0, 0): 4.2, (0, 1): 4.5, (1, 0): 4.4, (1, 1): 4.1}
RADIAL, MOMENTA, BASIS = 2, 3, 4


def three_j(l, m):
    """Wigner's symbol of three angular momenta, by Racah's sum."""
    (a, b, c), (x, y, z) = l, m
    if x + y + z or not abs(a - b) <= c <= a + b:
        return 0.0
    f = math.factorial
    total = 0.0
    for k in range(a + b + c + 1):
        parts = (k, c - b + k + x, c - a + k - y, a + b - c - k, a - k - x, b - k + y)
        if min(parts) >= 0:
            total += (-1) ** k / math.prod(map(f, parts))
    triangle = f(a + b - c) * f(a - b + c) * f(-a + b + c) / f(a + b + c + 1)
    others = math.prod(
        f(one + sign * two) for one, two in zip(l, m, strict=True) for sign in (1, -1)
    )
    return (-1) ** (a - b - z) * math.sqrt(triangle * others) * total


def couplings(l):
    """Combinations of m and the invariants of these momenta: (T, rank), (T, invariants)."""
    ms = [m for m in itertools.product(*(range(-one, one + 1) for one in l)) if not sum(m)]
    if len(l) == 1:
        rows = [[1.0] for _ in ms]
    elif len(l) == 2:
        rows = [[(-1.0) ** m[0]] for m in ms]
    elif len(l) == 3:
        rows = [[three_j(l, m)] for m in ms]
    else:
        # Of four, the products of two pairs, in two ways.
        rows = [
            [
                (-1.0) ** (m[0] + m[2]) * (m[0] == -m[1]) * (m[2] == -m[3]),
                (-1.0) ** (m[0] + m[1]) * (m[0] == -m[2]) * (m[1] == -m[3]),
            ]
            for m in ms
        ]
    kept = [(m, row) for m, row in zip(ms, rows, strict=True) if any(row)]
    return [m for m, _ in kept], np.array([row for _, row in kept])


def table(inner="density"):
    """All that a file says, as it stands in one."""
    rng = np.random.default_rng(5)
    embeddings = {
        0: {
            "ndensity": 2, "FS_parameters": [1.0, 1.0, 0.7, 0.5],
            "npoti": "FinnisSinclairShiftedScaled", "rho_core_cutoff": 3.0, "drho_core_cutoff": 2.8,
        },
        1: {
            "ndensity": 1, "FS_parameters": [0.8, 0.9], "npoti": "FinnisSinclair",
            "rho_core_cutoff": 5.0, "drho_core_cutoff": 4.9,
        },
    }  # fmt: skip
    bonds = {
        pair: {
            "nradmax": RADIAL, "lmax": MOMENTA - 1, "nradbasemax": BASIS, "radbasename": name,
            "radparameters": [3.5 + 0.2 * sum(pair)],
            "radcoefficients": rng.normal(size=(RADIAL, MOMENTA, BASIS)).tolist(),
            "prehc": 5.0 + pair[0], "lambdahc": 0.4 + 0.1 * pair[1], "rcut": CUTOFFS[pair],
            "dcut": 0.9, "rcut_in": 2.75, "dcut_in": 0.7, "inner_cutoff_type": inner,
        }
        for pair, name in BASES.items()
    }  # fmt: skip
    if inner == "density":
        for bond in bonds.values():
            bond |= {"rcut_in": 0.0, "dcut_in": 0.0}
    functions = {
        element: [
            function(rng, element, *factors, embeddings[element]["ndensity"])
            for factors in [
                *(((mu,), (n,), (0,)) for mu in (0, 1) for n in range(1, BASIS + 1)),
                *((mu, (1, 2), (l, l)) for mu in ((0, 0), (0, 1), (1, 1)) for l in range(MOMENTA)),
                ((0, 1, 1), (1, 1, 2), (1, 1, 2)),
                ((0, 0, 1), (2, 1, 1), (2, 2, 2)),
                ((0, 0, 1, 1), (1, 2, 1, 2), (1, 1, 1, 1)),
                ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
            ]
        ]
        for element in (0, 1)
    }
    return {
        "elements": list(ELEMENTS), "E0": [-0.3, 0.2], "deltaSplineBins": 0.001,
        "embeddings": embeddings, "bonds": bonds, "functions": functions,
    }  # fmt: skip


def function(rng, element, mus, ns, ls, densities):
    """A function with coefficients at random, of which rotations make nothing else."""
    ms, invariants = couplings(ls)
    numbers = invariants @ rng.normal(size=(invariants.shape[1], densities))
    numbers *= 0.4 ** (len(mus) - 1)
    if len(mus) == 1 and densities > 1:
        # Of a density that has none of a function.
        numbers[:, 1] *= ns[0] > 1
    return {
        "mu0": element, "rank": len(mus), "ndensity": densities, "num_ms_combs": len(ms),
        "mus": list(mus), "ns": list(ns), "ls": list(ls),
        "ms_combs": [one for m in ms for one in m], "ctildes": numbers.ravel().tolist(),
    }  # fmt: skip


def text(contents):
    """The file of a table, in YAML."""

    def flow(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(flow, value)) + "]"
        return value if isinstance(value, str) else repr(value)

    lines = [f"{key}: {flow(contents[key])}" for key in ("elements", "E0", "deltaSplineBins")]
    for key in ("embeddings", "bonds"):
        lines.append(f"{key}:")
        lines += [f"  {flow(list(k) if key == 'bonds' else k)}: {flow(v)}"
                  for k, v in contents[key].items()]  # fmt: skip
    lines.append("functions:")
    for element, functions in contents["functions"].items():
        lines += [f"  {element}:", *(f"    - {flow(one)}" for one in functions)]
    return "\n".join(lines) + "\n"


def harmonic(l, m, unit):
    """sqrt(4 pi) Y_lm, with the phase of Condon and Shortley in SciPy's Legendre functions."""
    if m < 0:
        return (-1) ** m * np.conj(harmonic(l, -m, unit))
    norm = math.sqrt((2 * l + 1) * math.factorial(l - m) / math.factorial(l + m))
    phase = np.exp(1j * m * np.arctan2(unit[:, 1], unit[:, 0]))
    return norm * scipy.special.lpmv(m, l, unit[:, 2]) * phase


def step(x, end, width):
    """The switch as an integral of (1 - t^2)^2 from its end."""
    t = np.clip(1 + 2 * (np.asarray(x) - end) / width if width else np.sign(x - end), -1, 1)
    return 15 / 16 * (8 / 15 - (t - 2 * t**3 / 3 + t**5 / 5))


def waves(r, cutoff, count):
    """Kocer's functions: sums of two waves, made orthonormal by integrals over the sphere."""
    points, weights = np.polynomial.legendre.leggauss(60)
    points, weights = (points + 1) * cutoff / 2, weights * cutoff / 2

    def bare(x, n):
        k = np.pi * np.array([n + 1, n + 2]) / cutoff
        return (-1) ** n * sum(np.sin(one * x) / (one * x) for one in k)

    found = []
    for n in range(count):
        on_grid, there = bare(points, n), bare(r, n)
        for other, elsewhere in found:
            overlap = np.sum(weights * points**2 * on_grid * other)
            on_grid, there = on_grid - overlap * other, there - overlap * elsewhere
        norm = math.sqrt(np.sum(weights * points**2 * on_grid**2))
        found.append((on_grid / norm, there / norm))
    return np.array([there for _, there in found])


def radial(bond, r):
    """The functions g of a bond, by cosines in the place of recursions."""
    k, cutoff, decay = (
        np.arange(bond["nradbasemax"] + 1)[:, None],
        bond["rcut"],
        bond["radparameters"][0],
    )
    name = bond["radbasename"]
    if name == "SBessel":
        return waves(r, cutoff, len(k) - 1)
    x = {
        "ChebPow": 1 - 2 * (1 - r / cutoff) ** decay,
        "ChebLinear": 1 - r / cutoff,
        "ChebExpCos": 1 - 2 * (np.exp(-decay * r / cutoff) - np.exp(-decay)) / (1 - np.exp(-decay)),
    }[name]
    found = (1 - np.cos(k * np.arccos(x))) / 2
    if name != "ChebExpCos":
        return found[1:]
    found[0] = 1.0
    end = np.clip((r - cutoff + bond["dcut"]) / bond["dcut"], 0, 1)
    return found[:-1] * (1 + np.cos(np.pi * r / cutoff)) / 2 * (1 + np.cos(np.pi * end)) / 2


def embedded(name, density, exponent):
    """The embedding of one density."""
    size, sign = abs(density), -1.0 if density < 0 else 1.0
    if name == "FinnisSinclair":
        return sign * size**exponent
    if exponent == 1.0:
        return density
    start = exponent ** (-1 / (exponent - 1))
    return sign * ((size + start * math.exp(-size)) ** exponent - start**exponent * math.exp(-size))


def site_energy(contents, element, kinds, vectors):
    """Energy of an atom of an element with these neighbours."""
    distances = np.linalg.norm(vectors, axis=1)
    A, singles, core = {}, {}, 0.0
    for mu in range(len(contents["elements"])):
        bond = contents["bonds"][element, mu]
        near = (kinds == mu) & (distances < bond["rcut"])
        r, unit = distances[near], vectors[near] / distances[near, None]
        g, inner = radial(bond, r), 0.0
        v = bond["prehc"] * np.exp(-bond["lambdahc"] * r**2) / r
        v *= (1 + np.cos(np.pi * r / bond["rcut"])) / 2
        if bond["inner_cutoff_type"] == "distance":
            inner = step(r, bond["rcut_in"], bond["dcut_in"])
            v *= inner
        core += v.sum()
        g = g * (1.0 - inner)
        R = np.einsum("nlk,kj->nlj", np.array(bond["radcoefficients"]), g)
        for n, one in enumerate(g):
            singles[mu, n + 1] = one.sum()
        for l in range(bond["lmax"] + 1):
            for m in range(-l, l + 1):
                Y = harmonic(l, m, unit)
                for n in range(bond["nradmax"]):
                    A[mu, n + 1, l, m] = np.sum(R[n, l] * Y)
    embedding = contents["embeddings"][element]
    densities = np.zeros(embedding["ndensity"])
    for one in contents["functions"][element]:
        rank = one["rank"]
        numbers = np.reshape(one["ctildes"], (-1, len(densities)))
        for m, c in zip(np.reshape(one["ms_combs"], (-1, rank)), numbers, strict=True):
            factors = zip(one["mus"], one["ns"], one["ls"], m.tolist(), strict=True)
            product = math.prod(A[key] if rank > 1 else singles[key[:2]] for key in factors)
            densities += c * product.real
    energy = sum(
        w * embedded(embedding["npoti"], density, exponent)
        for density, w, exponent in zip(
            densities, embedding["FS_parameters"][::2], embedding["FS_parameters"][1::2],
            strict=True,
        )
    )  # fmt: skip
    energy *= step(core, embedding["rho_core_cutoff"], embedding["drho_core_cutoff"])
    return energy + core + contents["E0"][element]
