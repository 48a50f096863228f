"""Equations and fixed points: their data, and solutions and gradients in closed form."""

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg

from benchmarks.layers.problem import Problem, Reference


def root(quick: bool) -> Problem:
    """A nonlinear diffusion equation on a grid, by the strength of its reaction at every node.

    (-laplacian + 1) x + theta x^3 = f, with x = 0 around a square.
    """
    side = 20 if quick else 100
    random = np.random.default_rng(3)
    data = {"f": 10 * random.random((side, side))}
    theta = 1 + random.random((side, side))
    name = f"root of {side**2} unknowns"
    return Problem(name, data, theta, lambda: _root(data, theta))


def _root(data: dict, theta: np.ndarray) -> Reference:
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
    return x.reshape(theta.shape), (-(x**3) * adjoint).reshape(theta.shape)


def fixed_point(quick: bool) -> Problem:
    """A deep equilibrium layer z = tanh(z W' + x U' + b) for a batch of inputs, by W."""
    batch, size, inputs = (4, 10, 5) if quick else (64, 64, 32)
    random = np.random.default_rng(8)
    W = random.normal(size=(size, size))
    W *= 0.9 / np.linalg.norm(W, 2)
    data = {
        "x": random.normal(size=(batch, inputs)),
        "U": 0.3 * random.normal(size=(size, inputs)) / np.sqrt(inputs),
        "b": 0.1 * random.normal(size=size),
    }
    name = f"deep equilibrium, {batch} inputs, {size} units"
    return Problem(name, data, W, lambda: _fixed_point(data, W))


def _fixed_point(data: dict, W: np.ndarray) -> Reference:
    """By Newton's method, one input after the other."""
    size = len(W)
    solution, gradient = np.zeros((len(data["x"]), size)), np.zeros_like(W)
    for index, x in enumerate(data["x"]):
        z = np.zeros(size)
        for _ in range(30):
            value = np.tanh(W @ z + data["U"] @ x + data["b"])
            slope = 1 - value**2
            jacobian = np.eye(size) - slope[:, None] * W
            z = z - np.linalg.solve(jacobian, z - value)
        solution[index] = z
        gradient += np.outer(slope * np.linalg.solve(jacobian.T, 2 * z), z)
    return solution, gradient


def curve_fit(quick: bool) -> Problem:
    """Sums of two exponentials fitted to noisy curves, by the curves."""
    batch, samples = (2, 20) if quick else (32, 200)
    random = np.random.default_rng(9)
    t = np.linspace(0, 4, samples)
    truth = np.asarray([1.0, 0.5, 2.0, 3.0]) * (1 + 0.1 * random.normal(size=(batch, 4)))
    theta = np.stack([a * np.exp(-b * t) + c * np.exp(-d * t) for a, b, c, d in truth])
    theta += 0.01 * random.normal(size=theta.shape)
    data = {"t": t, "start": np.asarray([1.2, 0.6, 1.6, 2.5])}
    name = f"{batch} nonlinear least-squares fits, 4 unknowns, {samples} samples"
    return Problem(name, data, theta, lambda: _curve_fit(data, theta))


def _curve_fit(data: dict, theta: np.ndarray) -> Reference:
    """By SciPy's least squares, and Newton steps from there."""
    t = data["t"]
    solution, gradient = np.zeros((len(theta), 4)), np.zeros_like(theta)
    for index, y in enumerate(theta):

        def residual(x: np.ndarray, y: np.ndarray = y) -> np.ndarray:
            return x[0] * np.exp(-x[1] * t) + x[2] * np.exp(-x[3] * t) - y

        x = scipy.optimize.least_squares(residual, data["start"], xtol=1e-12, ftol=1e-12).x
        for _ in range(4):
            (a, b, c, d), r = x, residual(x)
            first, second = np.exp(-b * t), np.exp(-d * t)
            jacobian = np.stack([first, -t * a * first, second, -t * c * second], 1)
            hessian = jacobian.T @ jacobian
            for offset, amplitude, decay in ((0, a, first), (2, c, second)):
                hessian[offset, offset + 1] -= r @ (t * decay)
                hessian[offset + 1, offset] -= r @ (t * decay)
                hessian[offset + 1, offset + 1] += r @ (t**2 * amplitude * decay)
            x = x - np.linalg.solve(hessian, jacobian.T @ r)
        solution[index] = x
        gradient[index] = jacobian @ np.linalg.solve(hessian, 2 * x)
    return solution, gradient
