"""The problems: their data, and gradients from closed forms in NumPy and SciPy.

Every problem has a vector theta, a solution x(theta), and a loss of the solution. `reference`
gives the gradient of the loss in theta without any of the programs that are compared.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import scipy.special


@dataclasses.dataclass(frozen=True)
class Problem:
    """A layer to differentiate.

    Attributes:
        name: what it is, with its size.
        data: arrays by name.
        theta: where the gradient is taken.
        reference: the gradient there, in closed form.
    """

    name: str
    data: dict[str, np.ndarray]
    theta: np.ndarray
    reference: Callable[[], np.ndarray]


def svm(quick: bool) -> Problem:
    """Validation loss of a multiclass SVM in its dual, by the logarithm of its regularisation.

    Blondel et al. 2021, arXiv 2105.15183, section 4.1: minimise over rows of x in the simplex
    theta |W|^2 / 2 + <x, Y> with W = X'(Y - x) / theta.
    """
    samples, features, classes = (100, 200, 5) if quick else (700, 1000, 5)
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
    return Problem(name, data, theta, lambda: _svm_gradient(data, float(theta[0])))


def _svm_gradient(data: dict, log_penalty: float) -> np.ndarray:
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
    return np.asarray([np.sum(residual * (data["X_validation"] @ W_change)) / samples])


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
    return Problem(name, data, theta, lambda: _lasso_gradient(data, theta))


def _lasso_gradient(data: dict, theta: np.ndarray) -> np.ndarray:
    """By scikit-learn's coordinate descent for the support, and least squares on it."""
    from sklearn.linear_model import lasso_path

    X, y = data["X"], data["y"]
    samples = len(y)
    _, coefficients, _ = lasso_path(
        X, y, alphas=np.exp(theta) / samples, tol=1e-14, max_iter=1_000_000
    )
    gradient = np.zeros(theta.size)
    for index, penalty in enumerate(np.exp(theta)):
        support = np.flatnonzero(coefficients[:, index])
        signs = np.sign(coefficients[support, index])
        gram = X[:, support].T @ X[:, support]
        x = np.linalg.solve(gram, X[:, support].T @ y - penalty * signs)
        moved = -penalty * np.linalg.solve(gram, signs)
        valid = data["X_validation"][:, support]
        residual = valid @ x - data["y_validation"]
        gradient[index] = residual @ (valid @ moved) / len(residual) / theta.size
    return gradient


def quadratic_program(quick: bool) -> Problem:
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
    return Problem(name, data, theta, lambda: _program_gradient(data, theta))


def _program_gradient(data: dict, theta: np.ndarray) -> np.ndarray:
    """By Clarabel for the active rows, and their linear system."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    gradient = np.zeros_like(theta)
    for index, c in enumerate(theta):
        Q, A, b, G, h = (data[key][index] for key in ("Q", "A", "b", "G", "h"))
        solution = clarabel.DefaultSolver(
            scipy.sparse.csc_matrix(np.triu(Q)),
            c,
            scipy.sparse.csc_matrix(np.vstack([A, G])),
            np.concatenate([b, h]),
            [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))],
            settings,
        ).solve()
        active = np.asarray(solution.z)[len(b) :] > np.asarray(solution.s)[len(b) :]
        rows = np.vstack([A, G[active]])
        system = np.block([[Q, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
        x = np.linalg.solve(system, np.concatenate([-c, b, h[active]]))[: c.size]
        weights = np.concatenate([2 * x, np.zeros(len(rows))])
        gradient[index] = -np.linalg.solve(system, weights)[: c.size]
    return gradient


def root(quick: bool) -> Problem:
    """A nonlinear diffusion equation on a grid, by the strength of its reaction at every node.

    (-laplacian + 1) x + theta x^3 = f, with x = 0 around a square.
    """
    side = 20 if quick else 100
    random = np.random.default_rng(3)
    data = {"f": 10 * random.random((side, side))}
    theta = 1 + random.random((side, side))
    name = f"root of {side**2} unknowns"
    return Problem(name, data, theta, lambda: _root_gradient(data, theta))


def _root_gradient(data: dict, theta: np.ndarray) -> np.ndarray:
    """By Newton's method with a sparse factorisation."""
    side = len(theta)
    line = scipy.sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (side, side))
    identity = scipy.sparse.eye(side)
    operator = scipy.sparse.kron(line, identity) + scipy.sparse.kron(identity, line)
    operator = (operator + scipy.sparse.eye(side**2)).tocsc()
    strength, f = theta.reshape(-1), data["f"].reshape(-1)
    x = np.zeros(side**2)
    for _ in range(30):
        jacobian = (operator + scipy.sparse.diags(3 * strength * x**2)).tocsc()
        x = x - scipy.sparse.linalg.spsolve(jacobian, operator @ x + strength * x**3 - f)
    adjoint = scipy.sparse.linalg.spsolve(jacobian, 2 * x)
    return (-(x**3) * adjoint).reshape(theta.shape)


def isotonic(quick: bool) -> Problem:
    """The sum of squares of a batch of isotonic regressions, by what they fit.

    JAXopt's is a loop of Python unless Numba is installed.
    """
    batch, size = (4, 50) if quick else (32, 1000)
    random = np.random.default_rng(4)
    theta = np.linspace(0, 3, size) + random.normal(size=(batch, size))
    name = f"{batch} isotonic regressions of {size} numbers"
    return Problem(name, {}, theta, lambda: _isotonic_gradient(theta))


def _isotonic_gradient(theta: np.ndarray) -> np.ndarray:
    """By scikit-learn: the derivative projects, and the solution is its own projection."""
    from sklearn.isotonic import isotonic_regression

    return np.stack([2 * isotonic_regression(y) for y in theta])


def bfgs(quick: bool) -> Problem:
    """The sum of squares of a logistic regression's weights, by the logarithm of its penalty."""
    samples, features = (60, 5) if quick else (500, 50)
    random = np.random.default_rng(5)
    X = random.normal(size=(samples, features))
    y = (X @ random.normal(size=features) + random.normal(size=samples) > 0).astype(float)
    theta = np.asarray([-1.0])
    data = {"X": X, "y": y}
    name = f"logistic regression by BFGS, {samples} samples, {features} unknowns"
    return Problem(name, data, theta, lambda: _bfgs_gradient(data, float(np.exp(theta[0]))))


def _bfgs_gradient(data: dict, penalty: float) -> np.ndarray:
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
    return np.asarray([-2 * penalty * w @ np.linalg.solve(hessian, w)])


PROBLEMS = {
    "svm": svm,
    "lasso": lasso,
    "qp": quadratic_program,
    "root": root,
    "isotonic": isotonic,
    "bfgs": bfgs,
}
