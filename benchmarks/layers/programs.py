"""Constrained programs: their data, and solutions and gradients by their active rows."""

import numpy as np
import scipy.optimize
import scipy.sparse

from benchmarks.layers.problem import Problem, Reference


def qp(quick: bool) -> Problem:
    """A batch of quadratic programs, by their linear terms."""
    batch, size, equalities, inequalities = (8, 20, 4, 10) if quick else (128, 100, 20, 50)
    random = np.random.default_rng(2)
    factors = random.normal(size=(batch, size, size)) / np.sqrt(size)
    inside = random.normal(size=(batch, size))
    A = random.normal(size=(batch, equalities, size))
    G = random.normal(size=(batch, inequalities, size))
    data = {
        "Q": factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(size),
        "A": A,
        "b": np.einsum("kij,kj->ki", A, inside),
        "G": G,
        "h": np.einsum("kij,kj->ki", G, inside) + random.random((batch, inequalities)),
    }
    theta = random.normal(size=(batch, size))
    name = f"{batch} quadratic programs, {size} unknowns, {equalities} + {inequalities} rows"
    return Problem(name, data, theta, lambda: _programs(data, theta))


def _programs(data: dict, theta: np.ndarray) -> Reference:
    """Of quadratic programs with linear terms theta, for the sum of squares."""
    solution, gradient = np.zeros_like(theta), np.zeros_like(theta)
    for index, c in enumerate(theta):
        x, system, _ = _on_active_rows(c, *(data[key][index] for key in ("Q", "A", "b", "G", "h")))
        solution[index] = x
        weights = np.concatenate([2 * x, np.zeros(len(system) - c.size)])
        gradient[index] = -np.linalg.solve(system, weights)[: c.size]
    return solution, gradient


def _on_active_rows(c, Q, A, b, G, h) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The solution by Clarabel and a linear solve, its KKT matrix, and which rows are active."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    found = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(Q)),
        c,
        scipy.sparse.csc_matrix(np.vstack([A, G])),
        np.concatenate([b, h]),
        [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))],
        settings,
    ).solve()
    active = np.asarray(found.z)[len(b) :] > np.asarray(found.s)[len(b) :]
    rows = np.vstack([A, G[active]])
    system = np.block([[Q, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    x = np.linalg.solve(system, np.concatenate([-c, b, h[active]]))[: c.size]
    return x, system, active


def portfolio(quick: bool) -> Problem:
    """One large quadratic program: weights of assets by a factor model, by their returns.

    min x'(F F' + D) x - theta'x over x >= 0 with sum x = 1: 1 + n rows, most of which are bounds.
    """
    assets, factors = (40, 5) if quick else (500, 50)
    random = np.random.default_rng(10)
    F = random.normal(size=(assets, factors)) / np.sqrt(factors)
    data = {
        "Q": (F @ F.T + np.diag(0.5 + random.random(assets)))[None],
        "A": np.ones((1, 1, assets)),
        "b": np.ones((1, 1)),
        "G": -np.eye(assets)[None],
        "h": np.zeros((1, assets)),
    }
    theta = -0.1 * random.normal(size=(1, assets))
    name = f"one quadratic program, {assets} unknowns, 1 + {assets} rows"
    return Problem(name, data, theta, lambda: _programs(data, theta))


def lp(quick: bool) -> Problem:
    """A batch of linear programs with a vertex as solution, by their bounds."""
    batch, size, rows = (4, 10, 25) if quick else (32, 50, 120)
    random = np.random.default_rng(11)
    G = random.normal(size=(batch, rows, size))
    inside = random.normal(size=(batch, size))
    # A positive combination of rows keeps the objective from falling without end.
    prices = random.random((batch, rows))
    data = {"G": G, "c": -np.einsum("kij,ki->kj", G, prices)}
    theta = np.einsum("kij,kj->ki", G, inside) + random.random((batch, rows))
    name = f"{batch} linear programs, {size} unknowns, {rows} rows"
    return Problem(name, data, theta, lambda: _linear_programs(data, theta))


def _linear_programs(data: dict, theta: np.ndarray) -> Reference:
    """By SciPy's HiGHS for the vertex, and its rows."""
    solution, gradient = np.zeros_like(data["c"]), np.zeros_like(theta)
    for index, (c, G, h) in enumerate(zip(data["c"], data["G"], theta, strict=True)):
        found = scipy.optimize.linprog(c, G, h, bounds=(None, None), method="highs-ds")
        active = np.argsort(found.slack)[: c.size]
        x = np.linalg.solve(G[active], h[active])
        solution[index] = x
        gradient[index, active] = np.linalg.solve(G[active].T, 2 * x)
    return solution, gradient


def conic(quick: bool) -> Problem:
    """A batch of second-order cone programs: returns against risk, by the returns.

    min -theta'x + t subject to |L x| <= t and sum x = 1.
    """
    batch, size = (2, 8) if quick else (16, 40)
    random = np.random.default_rng(12)
    data = {"L": 2 * np.eye(size) + random.normal(size=(batch, size, size)) / np.sqrt(size)}
    theta = random.normal(size=(batch, size)) / np.sqrt(size)
    name = f"{batch} second-order cone programs, {size + 1} unknowns, {size + 2} rows"
    return Problem(name, data, theta, lambda: _cone_programs(data, theta))


def _cone_programs(data: dict, theta: np.ndarray) -> Reference:
    """By Newton's method: |L x| is smooth where it is not zero."""
    solution, gradient = np.zeros_like(theta), np.zeros_like(theta)
    for index, (L, returns) in enumerate(zip(data["L"], theta, strict=True)):
        size, S = returns.size, L.T @ L
        x, price = np.full(size, 1 / size), 0.0
        for _ in range(60):
            risk = np.sqrt(x @ S @ x)
            slope = S @ x / risk
            hessian = (S - np.outer(slope, slope)) / risk
            ones = np.ones((size, 1))
            system = np.block([[hessian, ones], [ones.T, np.zeros((1, 1))]])
            residual = np.concatenate([slope - returns + price, [0]])
            step = np.linalg.solve(system, -residual)
            length = min(1.0, 0.3 * risk / np.linalg.norm(L @ step[:-1]))
            x, price = x + length * step[:-1], price + length * step[-1]
        solution[index] = x
        gradient[index] = np.linalg.solve(system, np.append(2 * x, 0))[:-1]
    return solution, gradient


def nlp(quick: bool) -> Problem:
    """A batch of nonlinear programs, by the points that their solutions are to be near.

    min sum (x - theta)^4 / 4 + |x - theta|^2 / 2 subject to |x|^2 <= 1 and sum sin x = 1 / 2.
    """
    batch, size = (2, 5) if quick else (16, 20)
    random = np.random.default_rng(13)
    theta = random.normal(size=(batch, size))
    data = {"weights": random.normal(size=size)}
    name = f"{batch} nonlinear programs, {size} unknowns, an equation and an inequality"
    return Problem(name, data, theta, lambda: _nonlinear_programs(data, theta))


def _nonlinear_programs(data: dict, theta: np.ndarray) -> Reference:
    """By SciPy's SLSQP, and Newton's method with both rows active."""
    solution, gradient = np.zeros_like(theta), np.zeros_like(theta)
    for index, goal in enumerate(theta):
        size = goal.size
        rows = (
            {"type": "eq", "fun": lambda x: np.sum(np.sin(x)) - 0.5},
            {"type": "ineq", "fun": lambda x: 1 - x @ x},
        )
        x = scipy.optimize.minimize(
            lambda x, goal=goal: np.sum((x - goal) ** 4) / 4 + np.sum((x - goal) ** 2) / 2,
            np.full(size, 0.1),
            method="SLSQP",
            constraints=rows,
            options={"ftol": 1e-13, "maxiter": 500},
        ).x
        jacobian = np.stack([np.cos(x), 2 * x], 1)
        prices = -np.linalg.lstsq(jacobian, (x - goal) ** 3 + x - goal)[0]
        for _ in range(8):
            jacobian = np.stack([np.cos(x), 2 * x], 1)
            curvature = 3 * (x - goal) ** 2 + 1
            hessian = np.diag(curvature - prices[0] * np.sin(x) + 2 * prices[1])
            system = np.block([[hessian, jacobian], [jacobian.T, np.zeros((2, 2))]])
            slope = (x - goal) ** 3 + x - goal + jacobian @ prices
            residual = np.concatenate([slope, [np.sum(np.sin(x)) - 0.5, x @ x - 1]])
            step = np.linalg.solve(system, -residual)
            x, prices = x + step[:size], prices + step[size:]
        assert prices[1] > 0
        solution[index] = x
        adjoint = np.linalg.solve(system, np.concatenate([data["weights"], np.zeros(2)]))
        gradient[index] = curvature * adjoint[:size]
    return solution, gradient


def transport(quick: bool) -> Problem:
    """The Euclidean projection of a matrix onto a transport polytope, by the matrix."""
    rows, columns = (5, 6) if quick else (25, 30)
    random = np.random.default_rng(14)
    theta = random.normal(size=(rows, columns)) / columns
    data = {
        "rows": random.dirichlet(np.full(rows, 5.0)),
        "columns": random.dirichlet(np.full(columns, 5.0)),
    }
    name = f"projection onto a transport polytope, {rows} x {columns}"
    return Problem(name, data, theta, lambda: _transport(data, theta))


def _transport(data: dict, theta: np.ndarray) -> Reference:
    """As a quadratic program; the last of its equations follows from the others."""
    rows, columns = theta.shape
    sums = np.vstack(
        [
            np.kron(np.eye(rows), np.ones((1, columns))),
            np.kron(np.ones((1, rows)), np.eye(columns)),
        ]
    )[:-1]
    known = np.concatenate([data["rows"], data["columns"]])[:-1]
    size = theta.size
    c = -theta.reshape(-1)
    x, system, _ = _on_active_rows(c, np.eye(size), sums, known, -np.eye(size), np.zeros(size))
    weights = np.concatenate([2 * x, np.zeros(len(system) - size)])
    gradient = np.linalg.solve(system, weights)[:size]
    return x.reshape(theta.shape), gradient.reshape(theta.shape)
