"""Regressions and classifiers: their data, and solutions and gradients in closed form."""

import numpy as np
import scipy.sparse
import scipy.special

from benchmarks.layers.problem import Problem, Reference


def svm(quick: bool) -> Problem:
    """Validation loss of a multiclass SVM in its dual, by the logarithm of its regularisation.

    Blondel et al. 2021, arXiv 2105.15183, section 4.1: minimise over rows of x in the simplex
    theta |W|^2 / 2 + <x, Y> with W = X'(Y - x) / theta.
    """
    samples, features, classes = (100, 200, 5) if quick else (400, 500, 5)
    random = np.random.default_rng(0)
    centres = 1.5 * random.normal(size=(classes, features)) / np.sqrt(features)
    labels = random.integers(classes, size=2 * samples)
    points = centres[labels] + random.normal(size=(2 * samples, features)) / np.sqrt(features)
    one_hot = np.eye(classes)[labels]
    data = {
        "X": points[:samples],
        "Y": one_hot[:samples],
        "X_validation": points[samples:],
        "Y_validation": one_hot[samples:],
    }
    theta = np.asarray([4.5])  # soft enough that some samples violate the margin
    name = f"multiclass SVM, {samples} x {classes} unknowns, {features} features"
    return Problem(name, data, theta, lambda: _svm(data, float(theta[0])))


def _svm(data: dict, log_penalty: float) -> Reference:
    """By Clarabel for the support, and the linear system on it."""
    import clarabel

    X, Y, penalty = data["X"], data["Y"], np.exp(log_penalty)
    samples, classes = Y.shape
    gram = X @ X.T / penalty
    # vec(x) row by row: the Hessian couples samples within a class.
    hessian = scipy.sparse.csc_matrix(np.triu(np.kron(gram, np.eye(classes))))
    linear = (Y - gram @ Y).reshape(-1)
    sums = scipy.sparse.kron(scipy.sparse.eye(samples), np.ones((1, classes)))
    bounds = -scipy.sparse.eye(samples * classes)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    solution = clarabel.DefaultSolver(
        hessian,
        linear,
        scipy.sparse.vstack([sums, bounds], format="csc"),
        np.concatenate([np.ones(samples), np.zeros(samples * classes)]),
        [clarabel.ZeroConeT(samples), clarabel.NonnegativeConeT(samples * classes)],
        settings,
    ).solve()
    x = np.asarray(solution.x)
    free = np.flatnonzero(x > np.asarray(solution.z)[samples:])
    blocks = np.kron(gram, np.eye(classes))[np.ix_(free, free)]
    rows = np.zeros((samples, free.size))
    rows[free // classes, np.arange(free.size)] = 1
    system = np.block([[blocks, rows.T], [rows, np.zeros((samples, samples))]])
    known = np.concatenate([-linear[free], np.ones(samples)])
    x[:] = 0
    x[free] = np.linalg.solve(system, known)[: free.size]
    # d/dlog(penalty): gram falls by itself, so that the gradient gram (x - Y) + Y changes.
    left = Y - x.reshape(Y.shape)
    change = np.concatenate([-(gram @ left).reshape(-1)[free], np.zeros(samples)])
    moved = np.zeros(x.size)
    moved[free] = np.linalg.solve(system, change)[: free.size]
    W = X.T @ left / penalty
    W_change = -X.T @ moved.reshape(Y.shape) / penalty - W
    residual = data["X_validation"] @ W - data["Y_validation"]
    gradient = np.asarray([np.sum(residual * (data["X_validation"] @ W_change)) / samples])
    return x.reshape(Y.shape), gradient


def lasso(quick: bool) -> Problem:
    """Validation loss along a lasso path, by the logarithms of all penalties."""
    samples, features, count = (60, 120, 5) if quick else (300, 1000, 20)
    random = np.random.default_rng(1)
    X = random.normal(size=(2 * samples, features)) / np.sqrt(samples)
    weights = np.where(random.random(features) < 0.05, 2 * random.normal(size=features), 0)
    y = X @ weights + 0.1 * random.normal(size=2 * samples)
    data = {
        "X": X[:samples],
        "y": y[:samples],
        "X_validation": X[samples:],
        "y_validation": y[samples:],
    }
    largest = np.max(np.abs(data["X"].T @ data["y"]))
    theta = np.log(largest * np.geomspace(0.5, 0.05, count))
    name = f"lasso path, {count} penalties, {features} unknowns, {samples} samples"
    return Problem(name, data, theta, lambda: _lasso(data, theta))


def _lasso(data: dict, theta: np.ndarray) -> Reference:
    """By scikit-learn's coordinate descent for the support, and least squares on it."""
    from sklearn.linear_model import lasso_path

    X, y = data["X"], data["y"]
    samples = len(y)
    _, coefficients, _ = lasso_path(
        X, y, alphas=np.exp(theta) / samples, tol=1e-14, max_iter=1_000_000
    )
    gradient, solution = np.zeros(theta.size), np.zeros((theta.size, X.shape[1]))
    for index, penalty in enumerate(np.exp(theta)):
        support = np.flatnonzero(coefficients[:, index])
        signs = np.sign(coefficients[support, index])
        gram = X[:, support].T @ X[:, support]
        x = np.linalg.solve(gram, X[:, support].T @ y - penalty * signs)
        solution[index, support] = x
        moved = -penalty * np.linalg.solve(gram, signs)
        valid = data["X_validation"][:, support]
        residual = valid @ x - data["y_validation"]
        gradient[index] = residual @ (valid @ moved) / len(residual) / theta.size
    return solution, gradient


def isotonic(quick: bool) -> Problem:
    """The sum of squares of a batch of isotonic regressions, by what they fit.

    JAXopt's is a loop that Numba compiles, or without it one of Python.
    """
    batch, size = (4, 50) if quick else (32, 1000)
    random = np.random.default_rng(4)
    theta = np.linspace(0, 3, size) + random.normal(size=(batch, size))
    name = f"{batch} isotonic regressions of {size} numbers"
    return Problem(name, {}, theta, lambda: _isotonic(theta))


def _isotonic(theta: np.ndarray) -> Reference:
    """By scikit-learn: the derivative projects, and the solution is its own projection."""
    from sklearn.isotonic import isotonic_regression

    solution = np.stack([isotonic_regression(y) for y in theta])
    return solution, 2 * solution


def logistic(quick: bool) -> Problem:
    """The sum of squares of a logistic regression's weights, by the logarithm of its penalty."""
    samples, features = (60, 5) if quick else (500, 50)
    random = np.random.default_rng(5)
    X = random.normal(size=(samples, features))
    y = (X @ random.normal(size=features) + random.normal(size=samples) > 0).astype(float)
    theta = np.asarray([-1.0])
    data = {"X": X, "y": y}
    name = f"logistic regression, {samples} samples, {features} unknowns"
    return Problem(name, data, theta, lambda: _logistic(data, float(np.exp(theta[0]))))


def _logistic(data: dict, penalty: float) -> Reference:
    """By SciPy's BFGS, Newton steps from there, and the linear system of the derivative."""
    import scipy.optimize

    X, y = data["X"], data["y"]

    def slope(w: np.ndarray) -> np.ndarray:
        return X.T @ (scipy.special.expit(X @ w) - y) / len(y) + penalty * w

    def objective(w: np.ndarray) -> float:
        margins = X @ w
        return float(np.mean(np.logaddexp(0, margins) - y * margins) + penalty * w @ w / 2)

    w = scipy.optimize.minimize(objective, np.zeros(X.shape[1]), jac=slope, method="BFGS").x
    for _ in range(3):
        p = scipy.special.expit(X @ w)
        hessian = (X * (p * (1 - p))[:, None]).T @ X / len(y) + penalty * np.eye(len(w))
        w = w - np.linalg.solve(hessian, slope(w))
    return w, np.asarray([-2 * penalty * w @ np.linalg.solve(hessian, w)])


def ridge(quick: bool) -> Problem:
    """Validation loss along a ridge path, by the logarithms of all penalties."""
    samples, features, count = (60, 20, 5) if quick else (500, 200, 20)
    random = np.random.default_rng(6)
    X = random.normal(size=(2 * samples, features)) / np.sqrt(samples)
    y = X @ random.normal(size=features) + 0.5 * random.normal(size=2 * samples)
    data = {
        "X": X[:samples],
        "y": y[:samples],
        "X_validation": X[samples:],
        "y_validation": y[samples:],
    }
    theta = np.log(np.geomspace(0.01, 1, count))
    name = f"ridge path, {count} penalties, {features} unknowns, {samples} samples"
    return Problem(name, data, theta, lambda: _ridge(data, theta))


def _ridge(data: dict, theta: np.ndarray) -> Reference:
    """By the singular values."""
    left, values, right = np.linalg.svd(data["X"], full_matrices=False)
    known = values * (left.T @ data["y"])
    solution, moved = (
        np.stack([right.T @ (known * weight(np.exp(log))) for log in theta])
        for weight in (
            lambda penalty: 1 / (values**2 + penalty),
            lambda penalty: -penalty / (values**2 + penalty) ** 2,
        )
    )
    residual = solution @ data["X_validation"].T - data["y_validation"]
    gradient = np.sum(residual * (moved @ data["X_validation"].T), 1) / residual.size
    return solution, gradient


def sparse_coding(quick: bool) -> Problem:
    """The squared length of sparse codes, by the dictionary.

    min |Y - x D|^2 / 2 + penalty |x|_1 over codes x, the inner problem of dictionary learning.
    """
    samples, atoms, features = (10, 20, 10) if quick else (100, 64, 32)
    random = np.random.default_rng(7)
    theta = random.normal(size=(atoms, features))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    codes = np.where(random.random((samples, atoms)) < 0.1, random.normal(size=(samples, atoms)), 0)
    noise = 0.01 * random.normal(size=(samples, features))
    data = {"Y": codes @ theta + noise, "penalty": np.asarray(0.05)}
    name = f"sparse coding, {samples} samples, {atoms} atoms of {features} numbers"
    return Problem(name, data, theta, lambda: _sparse_coding(data, theta))


def _sparse_coding(data: dict, D: np.ndarray) -> Reference:
    """By scikit-learn's coordinate descent for the supports, and least squares on them."""
    from sklearn.linear_model import Lasso

    samples, penalty = data["Y"], float(data["penalty"])
    solver = Lasso(penalty / D.shape[1], fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    solution, gradient = np.zeros((len(samples), len(D))), np.zeros_like(D)
    for index, y in enumerate(samples):
        rough = solver.fit(D.T, y).coef_
        support = np.flatnonzero(rough)
        atoms, signs = D[support], np.sign(rough[support])
        gram = atoms @ atoms.T
        x = np.linalg.solve(gram, atoms @ y - penalty * signs)
        solution[index, support] = x
        # The condition atoms (x atoms - y) + penalty signs = 0, with the loss's gradient 2 x.
        adjoint = np.linalg.solve(gram, 2 * x)
        residual = x @ atoms - y
        gradient[support] -= np.outer(adjoint, residual) + np.outer(x, adjoint @ atoms)
    return solution, gradient
