"""JAXopt's examples, written anew: a changed import gives the answers of JAXopt 0.8.5."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jaxopt_isotonic import without_numba

from mdsens import layers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt
    import jaxopt.tree_util

pytestmark = pytest.mark.promotes("JAXopt does")
without_numba()

RANDOM = np.random.default_rng(7)
X = jnp.asarray(RANDOM.normal(size=(20, 4)))
Y = X @ jnp.asarray([1.0, -2.0, 0.0, 0.5]) + jnp.asarray(0.1 * RANDOM.normal(size=20))
VALIDATION = jnp.asarray(RANDOM.normal(size=(10, 4))), jnp.asarray(RANDOM.normal(size=10))
LABELS = jnp.asarray(RANDOM.integers(0, 3, size=20))
ONE_HOT = jax.nn.one_hot(LABELS, 3)


def ridge_regression(lib):
    """The gradient of a validation loss in the penalty, through a closed-form solution."""

    def ridge_objective(params, l2reg, data):
        inputs, targets = data
        residuals = inputs @ params - targets
        return 0.5 * jnp.mean(residuals**2) + 0.5 * l2reg * jnp.sum(params**2)

    @lib.implicit_diff.custom_root(jax.grad(ridge_objective))
    def ridge_solver(init_params, l2reg, data):
        inputs, targets = data
        gram = inputs.T @ inputs / len(targets) + l2reg * jnp.eye(4)
        return jnp.linalg.solve(gram, inputs.T @ targets / len(targets))

    def validation_loss(log_l2reg):
        inputs, targets = VALIDATION
        w = ridge_solver(jnp.zeros(4), l2reg=jnp.exp(log_l2reg), data=(X, Y))
        return jnp.mean((inputs @ w - targets) ** 2)

    return jax.value_and_grad(validation_loss)(0.3)


def lasso(lib):
    """Likewise of a lasso, by proximal gradient and by block coordinate descent."""

    def validation_loss(theta, solver):
        inputs, targets = VALIDATION
        w = solver.run(jnp.zeros(4), hyperparams_prox=jnp.exp(theta), data=(X, Y)).params
        return jnp.mean((inputs @ w - targets) ** 2)

    def pair(kind, **options):
        objective, prox = lib.objective.least_squares, lib.prox.prox_lasso
        return kind(objective, prox, implicit_diff=True, tol=1e-10, maxiter=2000, **options)

    return [
        jax.value_and_grad(lambda theta, solver=solver: validation_loss(theta, solver))(-2.0)
        for solver in (pair(lib.ProximalGradient), pair(lib.BlockCoordinateDescent))
    ]


def non_negative_factorisation(lib):
    """Two rounds of alternating non-negative least squares."""
    matrix = jnp.abs(X)
    W, H = jnp.abs(X[:, :2]) + 0.1, jnp.abs(X[:2].T) + 0.1
    solver = lib.BlockCoordinateDescent(
        fun=lib.objective.least_squares, block_prox=lib.prox.prox_non_negative_ridge,
        tol=1e-10, maxiter=3000,
    )  # fmt: skip
    for _ in range(2):
        H = solver.run(H.T, hyperparams_prox=0.01, data=(W, matrix)).params.T
        W = solver.run(W.T, hyperparams_prox=0.01, data=(H, matrix.T)).params.T
    return W @ H.T


def sparse_coding(lib):
    """Codes of samples in a dictionary, and the gradient of a loss in it."""
    dictionary = X[:3] / jnp.linalg.norm(X[:3], axis=1, keepdims=True)

    def reconstruction(codes, dictionary, samples):
        return 0.5 * jnp.sum((samples - codes @ dictionary) ** 2)

    solver = lib.ProximalGradient(
        fun=reconstruction, prox=lib.prox.prox_lasso, maxiter=2000, tol=1e-10
    )

    def loss(dictionary):
        codes = solver.run(jnp.zeros((5, 3)), 0.3, dictionary, samples=X[5:10]).params
        return jnp.sum(jnp.tanh(codes))

    return jax.value_and_grad(loss)(dictionary)


def multiclass_svm(lib):
    """The dual support vector machine by three solvers, and its derivative in the penalty."""
    objective = lib.objective.multiclass_linear_svm_dual
    options = {"tol": 1e-9, "maxiter": 20_000}
    rows = jax.vmap(lib.projection.projection_simplex)
    start = jnp.full((20, 3), 1 / 3)

    def primal(beta, l2reg):
        return X.T @ (ONE_HOT - beta) / l2reg

    def by_blocks(l2reg):
        solver = lib.BlockCoordinateDescent(
            objective, lambda v, _, scaling: lib.projection.projection_simplex(v), **options
        )
        return primal(solver.run(start, None, l2reg=l2reg, data=(X, ONE_HOT)).params, l2reg)

    def by_projections(l2reg):
        solver = lib.ProjectedGradient(objective, lambda v, _: rows(v), **options)
        return primal(solver.run(start, l2reg=l2reg, data=(X, ONE_HOT)).params, l2reg)

    return by_blocks(0.7), by_projections(0.7)


def kernel_svm(lib):
    """The dual of a binary support vector machine with intercept, two ways."""
    kernel = X @ X.T + 0.5 * jnp.eye(20)
    signs = jnp.where(X[:, 0] > 0.3, 1.0, -1.0)
    C = 0.5

    def objective(beta, C):
        return 0.5 * beta @ kernel @ beta - beta @ signs

    lower, upper = jnp.minimum(0.0, C * signs), jnp.maximum(0.0, C * signs)
    by_projections = lib.ProjectedGradient(
        fun=objective, projection=lib.projection.projection_box_section, tol=1e-10, maxiter=5000
    )
    section = (lower, upper, jnp.ones(20), 0.0)
    first = by_projections.run(jnp.zeros(20), hyperparams_proj=section, C=C).params

    by_splitting = lib.BoxOSQP(tol=1e-7)
    rows = jnp.concatenate([jnp.ones((1, 20)), jnp.eye(20)])
    bounds = (jnp.concatenate([jnp.zeros(1), lower]), jnp.concatenate([jnp.zeros(1), upper]))
    solution, _ = by_splitting.run(
        None, params_obj=(kernel, -signs), params_eq=rows, params_ineq=bounds
    )
    return first, solution.primal[0]


TIMES = jnp.linspace(0.0, 1.0, 21)


def picard_iteration(lib):
    """A logistic equation as fixed point of an integral, also when updates get the start anew."""

    def integral(y, rate):
        slope = rate * y * (1 - y)
        steps = 0.5 * (slope[1:] + slope[:-1]) * jnp.diff(TIMES)
        return 0.1 + jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])

    start = jnp.full(21, 0.1)
    plain = lib.FixedPointIteration(fixed_point_fun=integral, maxiter=200, tol=1e-12)
    accelerated = lib.AndersonAcceleration(
        integral, history_size=5, maxiter=200, tol=1e-10, ridge=1e-12
    )
    solutions = [solver.run(start, 2.0).params for solver in (plain, accelerated)]
    slope = jax.jacrev(lambda rate: plain.run(start, rate).params[-1])(2.0)
    state = accelerated.init_state(start, 2.0)
    update = jax.jit(accelerated.update)
    for _ in range(30):
        params, state = update(start, state, 2.0)
    return [*solutions, params, slope]


def anderson_acceleration(lib):
    """A linear map on a pytree, with keyword arguments."""
    matrix = 0.9 * X[:4] / jnp.linalg.norm(X[:4], 2)

    def fixed_point(params, shift):
        return {"x": matrix @ params["x"] + shift, "y": 0.5 * params["y"] + params["x"]}

    solver = lib.AndersonAcceleration(
        fixed_point, history_size=6, mixing_frequency=2, beta=0.8, maxiter=500, tol=1e-11,
        ridge=1e-12, implicit_diff_solve=lib.linear_solve.solve_gmres,
    )  # fmt: skip
    start = {"x": jnp.zeros(4), "y": jnp.zeros(4)}
    return solver.run(start, shift=jnp.arange(4.0)).params


def meta_learning(lib):
    """One outer gradient of implicit MAML: sines with an inner ridge around the meta parameters."""
    inputs = jnp.linspace(-2.0, 2.0, 8)[:, None]

    def model(params, inputs):
        return jnp.tanh(inputs * params["w"] + params["b"]) @ params["v"]

    def inner_objective(params, meta, phase):
        residuals = model(params, inputs) - jnp.sin(inputs[:, 0] + phase)
        away = jax.tree.map(lambda p, m: jnp.sum((p - m) ** 2), params, meta)
        return jnp.mean(residuals**2) + sum(jax.tree.leaves(away))

    solver = lib.LBFGS(inner_objective, tol=1e-9, maxiter=500)
    meta = {
        "w": jnp.asarray([0.5, -1.0]),
        "b": jnp.asarray([0.1, 0.4]),
        "v": jnp.asarray([1.0, 2.0]),
    }

    def outer(meta):
        def of_task(phase):
            params = solver.run(meta, meta, phase).params
            return jnp.mean(
                (model(params, inputs + 0.1) - jnp.sin(inputs[:, 0] + 0.1 + phase)) ** 2
            )

        return jnp.mean(jax.vmap(of_task)(jnp.asarray([0.0, 0.7])))

    return jax.value_and_grad(outer)(meta)


def accelerated_descent(lib):
    """Steps of gradient descent, taken by arithmetic of pytrees, accelerated."""
    step = jax.grad(lib.objective.ridge_regression)

    def descent(params, l2reg, data):
        return lib.tree_util.tree_sub(
            params, lib.tree_util.tree_scalar_mul(0.3, step(params, l2reg, data))
        )

    solver = lib.AndersonAcceleration(
        descent, history_size=3, beta=0.9, maxiter=200, tol=1e-9, ridge=1e-10
    )
    params = solver.run(jnp.zeros(4), 0.1, (X, Y)).params
    return params, lib.tree_util.tree_l2_norm(params)


def accelerated_blocks(lib):
    """Block coordinate descent of a lasso, accelerated, step by step."""
    blocks = lib.BlockCoordinateDescent(
        lib.objective.least_squares, block_prox=lib.prox.prox_lasso, maxiter=80, tol=1e-10
    )
    solver = lib.AndersonWrapper(blocks, history_size=3, mixing_frequency=3, ridge=1e-6)
    params, arguments = jnp.zeros(4), {"hyperparams_prox": 0.05, "data": (X, Y)}
    state = solver.init_state(params, **arguments)
    update = jax.jit(solver.update)
    for _ in range(400):
        params, state = update(params, state, **arguments)
    return params


def isotonic_regression(lib):
    """The nearest rising sequence, between bounds, and its derivatives."""
    pav = lib.isotonic.isotonic_l2_pav
    pull = jax.vjp(lambda y: pav(y, y_min=-2.0, y_max=1.5), Y)[1]
    return pav(Y), pav(Y, increasing=False), pull(jnp.arange(20.0))


def perturbed_optimisers(lib):
    """A perturbed ranking, its Jacobian, and a Fenchel-Young loss, of the same samples."""

    def ranking(values):
        return jnp.argsort(jnp.argsort(values)).astype(values.dtype)

    make, key = lib.perturbations, jax.random.key(0)
    rank = make.make_perturbed_argmax(ranking, num_samples=200, sigma=0.5, noise=make.Normal())
    highest = make.make_perturbed_max(ranking, num_samples=200, sigma=0.5, noise=make.Normal())
    loss = lib.loss.make_fenchel_young_loss(max_fun=highest)
    slope = jax.grad(loss, argnums=1)(jnp.arange(4.0), X[0], key)
    return rank(X[0], key), jax.jacobian(rank)(X[0], key), slope


def deep_equilibrium(lib):
    """The loss of a classifier whose features are a fixed point, and its gradient."""
    features = jnp.concatenate([X, X**2], axis=1)

    def block(z, params, x):
        return jnp.tanh(x @ params["in"] + 0.4 * z @ params["mix"])

    fixed = lib.AndersonAcceleration(
        block, history_size=5, mixing_frequency=1, beta=1.0, ridge=1e-10, maxiter=100, tol=1e-10,
        implicit_diff=True, implicit_diff_solve=lib.linear_solve.solve_normal_cg,
    )  # fmt: skip

    def loss(params):
        z = fixed.run(jnp.zeros((20, 8)), params, features).params
        losses = jax.vmap(lib.loss.multiclass_logistic_loss)(LABELS, z @ params["out"])
        return jnp.mean(losses)

    weights = {
        "in": features[:8] / 5, "mix": features[8:16] / jnp.linalg.norm(features[8:16], 2),
        "out": features[16:19].T,
    }  # fmt: skip
    return jax.value_and_grad(loss)(weights)


# Both solve to their tolerances, and what differs are these and how steps are rounded.
EXAMPLES = [
    (ridge_regression, 1e-6),
    (lasso, 1e-6),
    (non_negative_factorisation, 1e-6),
    (sparse_coding, 1e-5),  # JAXopt's linear systems are solved to as many digits
    (multiclass_svm, 1e-6),
    (kernel_svm, 1e-5),
    (picard_iteration, 1e-7),
    (anderson_acceleration, 1e-8),
    (meta_learning, 1e-6),
    (accelerated_descent, 1e-8),
    (accelerated_blocks, 1e-5),  # JAXopt converges as slowly as without acceleration
    (isotonic_regression, 1e-6),  # JAXopt divides by the length of a block and 1e-9
    (perturbed_optimisers, 1e-9),
    (deep_equilibrium, 1e-5),  # JAXopt's linear systems, as above
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("example", "atol"), EXAMPLES, ids=lambda v: getattr(v, "__name__", ""))
def test_an_example_has_the_answer_of_jaxopt(example, atol):
    found, expected = example(layers), example(jaxopt)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_the_fixed_point_of_the_integral_solves_the_logistic_equation():
    found = picard_iteration(layers)[0]
    exact = scipy.integrate.solve_ivp(lambda t, y: 2 * y * (1 - y), (0, 1), [0.1], rtol=1e-8).y
    np.testing.assert_allclose(found[-1], exact[0, -1], rtol=0, atol=1e-3)  # of the trapezoids
