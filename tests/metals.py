"""Numbers of a few metals, and closed forms of their energies written out once more with NumPy."""

import numpy as np

#: Copper as X. W. Zhou et al. have it (2004), and a made-up metal beside it.
COPPER = {
    "r_e": 2.556162, "f_e": 1.554485, "rho_e": 21.175871, "rho_s": 21.175395, "alpha": 8.127620,
    "beta": 4.334731, "A": 0.396620, "B": 0.548085, "kappa": 0.308782, "lambda_": 0.756515,
    "Fn0": -2.170269, "Fn1": -0.263788, "Fn2": 1.088878, "Fn3": -0.817603, "F0": -2.19, "F1": 0.0,
    "F2": 0.561830, "F3": -2.100595, "eta": 0.310490, "Fe": -2.186568,
}  # fmt: skip
OTHER = {
    name: 1.2 * value if name.startswith("F") else value for name, value in COPPER.items()
} | {
    "r_e": 2.75, "f_e": 1.9, "rho_e": 25.0, "rho_s": 25.0, "alpha": 8.5, "beta": 4.6, "A": 0.45,
    "B": 0.65, "kappa": 0.35, "lambda_": 0.8,
}  # fmt: skip
ALLOY = {name: [COPPER[name], OTHER[name]] for name in COPPER}
#: F. Cleri, V. Rosato (1993), table II: copper and gold; between them, means.
GUPTA = {
    "A": [[0.0855, 0.14], [0.14, 0.2061]], "xi": [[1.224, 1.47], [1.47, 1.790]],
    "p": [[10.960, 10.6], [10.6, 10.229]], "q": [[2.278, 3.1], [3.1, 4.036]],
    "r0": [[2.556, 2.72], [2.72, 2.884]],
}  # fmt: skip
#: Numbers of the size that M. W. Finnis and J. E. Sinclair (1984) have for tungsten and iron.
FINNIS_SINCLAIR = {
    "A": [1.9, 1.83], "d": [[4.2, 4.17], [4.17, 4.15]], "beta": [[0.0, 0.8], [0.8, 1.8]],
    "c": [[3.2, 3.22], [3.22, 3.25]], "c0": [[47.1, 12.0], [12.0, 1.24]],
    "c1": [[-33.6, -9.0], [-9.0, -0.36]], "c2": [[6.25, 2.0], [2.0, -0.01]],
}  # fmt: skip


def zhou_density(m, r):
    return (
        m["f_e"]
        * np.exp(-m["beta"] * (r / m["r_e"] - 1))
        / (1 + (r / m["r_e"] - m["lambda_"]) ** 20)
    )


def zhou_pair(m, r):
    repulsion = m["A"] * np.exp(-m["alpha"] * (r / m["r_e"] - 1))
    repulsion = repulsion / (1 + (r / m["r_e"] - m["kappa"]) ** 20)
    return repulsion - m["B"] / m["f_e"] * zhou_density(m, r)


def zhou_embedding(m, rho):
    if rho < 0.85 * m["rho_e"]:
        return sum(m[f"Fn{i}"] * (rho / (0.85 * m["rho_e"]) - 1) ** i for i in range(4))
    if rho < 1.15 * m["rho_e"]:
        return sum(m[f"F{i}"] * (rho / m["rho_e"] - 1) ** i for i in range(4))
    x = (rho / m["rho_s"]) ** m["eta"]
    return m["Fe"] * (1 - np.log(x)) * x


def zhou(first, second):
    """phi of a pair, f that each adds, and F of each, as functions."""

    def pair(r):
        if first is second:
            return zhou_pair(first, r)
        ratio = zhou_density(second, r) / zhou_density(first, r)
        return 0.5 * (ratio * zhou_pair(first, r) + zhou_pair(second, r) / ratio)

    return pair


def gupta_pair(i, j, r):
    m = {name: GUPTA[name][i][j] for name in GUPTA}
    return 2 * m["A"] * np.exp(-m["p"] * (r / m["r0"] - 1))


def gupta_density(i, j, r):
    m = {name: GUPTA[name][i][j] for name in GUPTA}
    return m["xi"] ** 2 * np.exp(-2 * m["q"] * (r / m["r0"] - 1))


def finnis_sinclair_pair(i, j, r):
    c, c0, c1, c2 = (FINNIS_SINCLAIR[name][i][j] for name in ("c", "c0", "c1", "c2"))
    return np.where(r < c, (r - c) ** 2 * (c0 + c1 * r + c2 * r**2), 0.0)


def finnis_sinclair_density(i, j, r):
    d, beta = (FINNIS_SINCLAIR[name][i][j] for name in ("d", "beta"))
    return np.where(r < d, (r - d) ** 2 + beta * (r - d) ** 3 / d, 0.0)
