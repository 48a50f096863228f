"""The problems with SciPy and scikit-learn, which solve and have no derivatives."""

import functools

import numpy as np
import scipy.optimize
import sklearn.isotonic
import sklearn.linear_model

from benchmarks.layers.objectives import TOLERANCE

VARIANTS = ("",)
#: It runs as it is: nothing compiles it, and nothing differentiates it.
COMPILED = False
DIFFERENTIATED = False


def ridge(variant):
    def solution(theta, data):
        alphas = np.exp(theta)
        solver = functools.partial(sklearn.linear_model.Ridge, fit_intercept=False)
        return np.stack([solver(alpha).fit(data["X"], data["y"]).coef_ for alpha in alphas])

    return solution


def lasso(variant):
    def solution(theta, data):
        X, y = data["X"], data["y"]
        alphas = np.exp(theta) / len(y)
        return sklearn.linear_model.lasso_path(X, y, alphas=alphas, tol=1e-10, max_iter=100_000)[
            1
        ].T

    return solution


def logistic(variant):
    def solution(theta, data):
        penalty = float(np.exp(theta[0])) * len(data["y"])
        solver = sklearn.linear_model.LogisticRegression(
            C=1 / penalty, fit_intercept=False, tol=TOLERANCE, max_iter=1000
        )
        return solver.fit(data["X"], data["y"]).coef_[0]

    return solution


def sparse_coding(variant):
    def solution(theta, data):
        alpha = float(data["penalty"]) / theta.shape[1]
        solver = sklearn.linear_model.Lasso(alpha, fit_intercept=False, tol=1e-10, max_iter=100_000)
        return solver.fit(theta.T, data["Y"].T).coef_

    return solution


def isotonic(variant):
    return lambda theta, data: np.stack([sklearn.isotonic.isotonic_regression(y) for y in theta])


def curve_fit(variant):
    def one(y, t, start):
        def residual(x):
            return x[0] * np.exp(-x[1] * t) + x[2] * np.exp(-x[3] * t) - y

        def jacobian(x):
            first, second = np.exp(-x[1] * t), np.exp(-x[3] * t)
            return np.stack([first, -t * x[0] * first, second, -t * x[2] * second], 1)

        limits = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}
        return scipy.optimize.least_squares(residual, start, jacobian, method="lm", **limits).x

    return lambda theta, data: np.stack([one(y, data["t"], data["start"]) for y in theta])


def fixed_point(variant):
    def solution(theta, data):
        known = data["x"] @ data["U"].T + data["b"]
        start = np.zeros_like(known)
        return scipy.optimize.anderson(
            lambda z: np.tanh(z @ theta.T + known) - z, start, f_tol=TOLERANCE, maxiter=1000
        )

    return solution


def root(variant):
    def condition(x, theta, f):
        padded = np.pad(x, 1)
        neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
        return 5 * x - neighbours + theta * x**3 - f

    def solution(theta, data):
        return scipy.optimize.newton_krylov(
            lambda x: condition(x, theta, data["f"]), np.zeros_like(theta), f_tol=TOLERANCE
        )

    return solution


def lp(variant):
    def one(c, G, h):
        return scipy.optimize.linprog(c, G, h, bounds=(None, None), method="highs").x

    return lambda theta, data: np.stack([*map(one, data["c"], data["G"], theta)])


def nlp(variant):
    def one(goal):
        rows = (
            {"type": "eq", "fun": lambda x: np.sum(np.sin(x)) - 0.5, "jac": np.cos},
            {"type": "ineq", "fun": lambda x: 1 - x @ x, "jac": lambda x: -2 * x},
        )

        def objective(x):
            distance = x - goal
            return np.sum(distance**4) / 4 + distance @ distance / 2, distance**3 + distance

        return scipy.optimize.minimize(
            objective, np.full(goal.size, 0.1), jac=True, method="SLSQP", constraints=rows,
            options={"ftol": 1e-14, "maxiter": 500},
        ).x  # fmt: skip

    return lambda theta, data: np.stack([*map(one, theta)])
