"""What is minimised or solved, in JAX, the same for every program."""

import jax
import jax.numpy as jnp

#: The iterations end when their own measure of the error is below, or after so many; what was
#: reached is measured.
TOLERANCE = 1e-8
STEPS = 2_000


def svm_weights(x, theta, data):
    """The primal weights of the dual variables x."""
    return data["X"].T @ (data["Y"] - x) / jnp.exp(theta[0])


def svm_objective(x, theta, data):
    """theta |W|^2 / 2 + <x, Y>."""
    W = svm_weights(x, theta, data)
    return jnp.exp(theta[0]) * jnp.sum(W**2) / 2 + jnp.vdot(x, data["Y"])


def svm_loss(x, theta, data):
    """The squared error on the validation data."""
    residual = data["X_validation"] @ svm_weights(x, theta, data) - data["Y_validation"]
    return jnp.sum(residual**2) / 2 / len(residual)


def svm_start(data):
    """Every class alike."""
    return jnp.full(data["Y"].shape, 1 / data["Y"].shape[1])


def lasso_objective(x, data):
    """|X x - y|^2 / 2."""
    residual = data["X"] @ x - data["y"]
    return residual @ residual / 2


def lasso_loss(x, theta, data):
    """The squared error on the validation data, the mean over the path."""
    del theta
    residual = x @ data["X_validation"].T - data["y_validation"][None]
    return jnp.mean(residual**2) / 2


def sum_of_squares(x, theta, data):
    """Of all unknowns."""
    del theta, data
    return jnp.sum(x**2)


def logistic_objective(w, theta, data):
    """The mean logistic loss with a penalty exp(theta) |w|^2 / 2."""
    margins = data["X"] @ w
    losses = jax.nn.softplus(margins) - data["y"] * margins
    return jnp.mean(losses) + jnp.exp(theta[0]) * jnp.sum(w**2) / 2


def root_condition(x, theta, data):
    """(-laplacian + 1) x + theta x^3 - f."""
    padded = jnp.pad(x, 1)
    neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
    return 5 * x - neighbours + theta * x**3 - data["f"]


def root_solver(theta, data):
    """Newton's method with conjugate gradients, for programs that bring no solver of their own."""

    def step(carry):
        x, _, count = carry
        value, matvec = jax.linearize(lambda y: root_condition(y, theta, data), x)
        change = jax.scipy.sparse.linalg.cg(matvec, value, tol=1e-6)[0]
        return x - change, jnp.max(jnp.abs(value)), count + 1

    def unfinished(carry):
        return (carry[1] > 1e-10) & (carry[2] < 50)

    start = (jnp.zeros_like(theta), jnp.asarray(jnp.inf), jnp.asarray(0))
    return jax.lax.while_loop(unfinished, step, start)[0]
