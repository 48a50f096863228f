"""What is minimised or solved, and its loss, in JAX, the same for every program."""

import jax
import jax.numpy as jnp

#: The iterations end when their own measure of the error is below, or after so many; what was
#: reached is measured.
TOLERANCE = 1e-8
STEPS = 2_000


def ridge_objective(x, penalty, data):
    """|X x - y|^2 / 2 + penalty |x|^2 / 2."""
    residual = data["X"] @ x - data["y"]
    return residual @ residual / 2 + penalty * x @ x / 2


def ridge_solution(penalty, data):
    """By a Cholesky factorisation, for programs that are handed a solution."""
    X = data["X"]
    gram = X.T @ X + penalty * jnp.eye(X.shape[1])
    return jax.scipy.linalg.solve(gram, X.T @ data["y"], assume_a="pos")


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


def path_loss(x, theta, data):
    """The squared error on the validation data, the mean over a path."""
    del theta
    residual = x @ data["X_validation"].T - data["y_validation"][None]
    return jnp.mean(residual**2) / 2


def sum_of_squares(x, theta, data):
    """Of all unknowns."""
    del theta, data
    return jnp.sum(x**2)


def weighted_sum(x, theta, data):
    """Of all unknowns."""
    del theta
    return jnp.sum(x @ data["weights"])


def sparse_coding_objective(x, D, data):
    """|x D - Y|^2 / 2."""
    return jnp.sum((x @ D - data["Y"]) ** 2) / 2


def layer(z, W, data):
    """One layer of the deep equilibrium, for all inputs."""
    return jnp.tanh(z @ W.T + data["x"] @ data["U"].T + data["b"])


def curve_residual(x, t, y):
    """Two exponentials minus what was seen."""
    return x[0] * jnp.exp(-x[1] * t) + x[2] * jnp.exp(-x[3] * t) - y


def nlp_objective(x, goal):
    """sum (x - goal)^4 / 4 + |x - goal|^2 / 2."""
    return jnp.sum((x - goal) ** 4) / 4 + jnp.sum((x - goal) ** 2) / 2


def nlp_equation(x):
    """sum sin x - 1 / 2."""
    return jnp.sum(jnp.sin(x)) - 0.5


def nlp_inequality(x):
    """|x|^2 - 1."""
    return jnp.sum(x**2) - 1


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


#: The loss of each problem's solution.
LOSSES = {
    "ridge": path_loss,
    "lasso": path_loss,
    "svm": svm_loss,
    "nlp": weighted_sum,
}


def loss_of(problem):
    """loss(x, theta, data) of a problem."""
    return LOSSES.get(problem, sum_of_squares)
