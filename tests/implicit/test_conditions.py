"""Every condition of the catalogue: solved by something else, differentiated, compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from numerical import agrees, derivative

from mdsens.implicit import conditions, custom_fixed_point, custom_root

MODES = pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
RANDOM = np.random.default_rng(7)
EPSILON = np.finfo(float).eps
DESIGN, TARGET = RANDOM.normal(size=(12, 4)), RANDOM.normal(size=12)


def squares(x, target):
    residual = DESIGN @ x - target
    return residual @ residual / 2


def soft_threshold(x, threshold, scaling=1.0):
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - scaling * threshold, 0)


def simplex_projection(x, radius=1.0):
    descending = jnp.sort(x)[::-1]
    thresholds = (jnp.cumsum(descending) - radius) / jnp.arange(1.0, len(x) + 1)
    return jnp.maximum(x - thresholds[jnp.sum(descending > thresholds) - 1], 0)


def lasso_solution(target, penalty):
    """By coordinate descent in NumPy."""
    x, norms = np.zeros(4), (DESIGN**2).sum(axis=0)
    for _ in range(3000):
        for j in range(4):
            slope = DESIGN[:, j] @ (target - DESIGN @ x) + norms[j] * x[j]
            x[j] = np.sign(slope) * max(abs(slope) - penalty, 0) / norms[j]
    return x


PENALTY = 3.0


def lasso_derivative(target):
    """Of the solution in the target: least squares on the support."""
    support = lasso_solution(target, PENALTY) != 0
    assert 0 < support.sum() < 4
    derivative = np.zeros((4, 12))
    derivative[support] = np.linalg.pinv(DESIGN[:, support])
    return derivative


@MODES
def test_stationary_gives_least_squares(mode):
    solver = custom_root(conditions.stationary(squares), symmetric=True)(
        lambda init, target: np.linalg.lstsq(DESIGN, np.asarray(target))[0]
    )
    derivative = mode(lambda target: solver(None, target))(jnp.asarray(TARGET))
    np.testing.assert_allclose(derivative, np.linalg.pinv(DESIGN), atol=1e-13)


FIXED_POINTS = {
    "proximal gradient": conditions.proximal_gradient(squares, soft_threshold, 0.3),
    "block proximal gradient": conditions.block_proximal_gradient(
        squares, soft_threshold, [0.1, 0.2, 0.3, 0.4]
    ),
}


@MODES
@pytest.mark.parametrize("name", FIXED_POINTS)
def test_proximal_gradients_give_the_lasso(name, mode):
    solver = custom_fixed_point(FIXED_POINTS[name])(
        lambda init, penalty, target: lasso_solution(np.asarray(target), PENALTY)
    )
    by_target = mode(lambda target: solver(None, PENALTY, target))(jnp.asarray(TARGET))
    np.testing.assert_allclose(by_target, lasso_derivative(TARGET), atol=1e-12)


@pytest.mark.slow
def test_blocks_may_be_a_list_with_a_prox_for_each():
    def first_free(x, penalty, scaling):
        return x

    condition = conditions.block_proximal_gradient(
        lambda x, target: squares(jnp.concatenate(x), target), [first_free, soft_threshold], 0.1
    )
    solver = custom_fixed_point(condition)(
        lambda init, penalty, target: [jnp.asarray(x[:3]), jnp.asarray(x[3:])]
    )
    # With the penalty on the last coefficient alone, and large: it vanishes, the others are free.
    x = np.append(np.linalg.lstsq(DESIGN[:, :3], TARGET)[0], 0.0)
    derivative = jax.jacrev(lambda target: solver(None, 100.0, target)[0])(jnp.asarray(TARGET))
    np.testing.assert_allclose(derivative, np.linalg.pinv(DESIGN[:, :3]), atol=1e-12)


def quadratic(x, linear):
    return x @ jnp.asarray(CURVATURE) @ x / 2 - linear @ x


CURVATURE = np.asarray([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]])
LINEAR = np.asarray([1.0, 0.8, -2.0])


def simplex_minimum(linear):
    """With the third component zero: one equation for the first, x1 = 1 - x0."""
    a, b, c = CURVATURE[0, 0], CURVATURE[0, 1], CURVATURE[1, 1]
    x = (linear[0] - linear[1] + c - b) / (a - 2 * b + c)
    return np.asarray([x, 1 - x, 0.0])


SIMPLEX_DERIVATIVE = np.asarray([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0, 0, 0]]) / (
    CURVATURE[0, 0] - 2 * CURVATURE[0, 1] + CURVATURE[1, 1]
)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("stepsize", [0.1, 2.0])
def test_projected_gradients_give_the_minimum_on_the_simplex(mode, stepsize):
    condition = conditions.projected_gradient(quadratic, simplex_projection, stepsize)
    solver = custom_fixed_point(condition)(
        lambda init, radius, linear: simplex_minimum(np.asarray(linear))
    )
    derivative = mode(lambda linear: solver(None, 1.0, linear))(jnp.asarray(LINEAR))
    np.testing.assert_allclose(derivative, SIMPLEX_DERIVATIVE, atol=1e-13)


@pytest.mark.slow
@MODES
def test_mirror_descent_gives_the_minimum_on_the_simplex(mode):
    """In the interior, where the softmax reaches; the third component is left out."""

    def of_two(x, linear):
        return quadratic(jnp.append(x, 0.0), linear)

    condition = conditions.mirror_descent(of_two, lambda y, _: jax.nn.softmax(y), 0.7)
    solver = custom_fixed_point(condition)(
        lambda init, nothing, linear: simplex_minimum(np.asarray(linear))[:2]
    )
    derivative = mode(lambda linear: solver(None, None, linear))(jnp.asarray(LINEAR))
    np.testing.assert_allclose(derivative, SIMPLEX_DERIVATIVE[:2], atol=1e-13)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("stepsize", [1.0, 0.5])
def test_newton_gives_the_root(mode, stepsize):
    condition = conditions.newton(lambda x, t: x**3 - t, stepsize)
    solver = custom_fixed_point(condition)(lambda init, t: jnp.cbrt(t))
    t = jnp.asarray([1.0, 8.0])
    derivative = mode(lambda t: solver(None, t))(t)
    np.testing.assert_allclose(derivative, np.diag([1 / 3, 1 / 12]), atol=1e-14)


@pytest.mark.slow
def test_kkt_gives_the_derivatives_of_primal_and_dual():
    """Minimise |x - p|^2 / 2 on a line a.x = b, above the first axis; x1 = 0 is active."""
    condition = conditions.kkt(
        lambda x, p: jnp.sum((x - p) ** 2) / 2,
        lambda x, params: params[0] @ x - params[1],
        lambda x, lower: lower - x[1],
    )
    a = np.asarray([1.0, 2.0])

    @custom_root(condition)
    def solver(init, p, params_eq, lower):
        result = scipy.optimize.minimize(
            lambda x: np.sum((x - p) ** 2) / 2,
            np.zeros(2),
            constraints={"type": "eq", "fun": lambda x: a @ x - 1.0},
            bounds=[(None, None), (0.0, None)],
        )
        x = np.asarray([1.0, 0.0])
        np.testing.assert_allclose(result.x, x, atol=1e-6)
        # p - x = dual_eq a - dual_ineq e1
        dual_eq = p[0] - x[0]
        return conditions.KKTSolution(x, dual_eq, 2 * dual_eq - p[1] + x[1])

    p = jnp.asarray([0.4, -2.0])
    derivative = jax.jacrev(lambda p, b, lower: solver(None, p, (a, b), lower), argnums=(0, 1, 2))(
        p, 1.0, 0.0
    )
    # x1 = lower, x0 = b - 2 lower; dual_eq = p0 - x0; dual_ineq = 2 dual_eq - p1 + x1.
    expected = conditions.KKTSolution(
        (np.zeros((2, 2)), [1.0, 0.0], [-2.0, 1.0]),
        ([1.0, 0.0], -1.0, 2.0),
        ([2.0, -1.0], -2.0, 5.0),
    )
    for found, known in zip(derivative, expected, strict=True):
        for one, other in zip(found, known, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-13)


@pytest.mark.slow
@MODES
def test_the_conic_residual_gives_the_nearest_point_of_a_disc(mode):
    """Minimise t with |x - p| <= t and |x| <= 1: for p outside, x = p / |p|."""
    A = -np.asarray([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], float)

    def project(v):
        def one(w):
            norm = jnp.linalg.norm(w[1:])
            middle = (w[0] + norm) / 2
            edge = middle * jnp.concatenate([jnp.ones(1), w[1:] / norm])
            return jnp.where(norm <= w[0], w, jnp.where(norm <= -w[0], 0, edge))

        return jnp.concatenate([one(v[:3]), one(v[3:])])

    @custom_root(conditions.conic(project))
    def solver(init, A, b, c):
        p = -np.asarray(b[1:3])
        x = p / np.linalg.norm(p)
        slack = np.asarray(b) - np.asarray(A) @ np.append(x, np.linalg.norm(x - p))
        # The dual of each cone lies opposite to its slack, in units of c.
        dual = np.concatenate([[1.0], -slack[1:3] / slack[0], [1.0], -slack[4:] / slack[3]])
        return jnp.append(x, slack[0]), jnp.asarray(dual - slack)

    p = np.asarray([1.5, 2.0])

    def nearest(p):
        b = jnp.concatenate([jnp.zeros(1), -p, jnp.ones(1), jnp.zeros(2)])
        return solver(None, jnp.asarray(A), b, jnp.asarray([0.0, 0.0, 1.0]))[0]

    unit = p / np.linalg.norm(p)
    expected = np.vstack([(np.eye(2) - np.outer(unit, unit)) / np.linalg.norm(p), unit])
    np.testing.assert_allclose(mode(nearest)(jnp.asarray(p)), expected, atol=1e-12)


REWARDS = RANDOM.normal(size=(3, 2))
TRANSITIONS = RANDOM.dirichlet(np.ones(3), size=(3, 2))


def soft_values(discount, rewards, temperature):
    values = np.zeros(3)
    for _ in range(500):
        worth = rewards + discount * TRANSITIONS @ values
        best = worth.max(axis=1, keepdims=True)
        if temperature:
            soft = np.log(np.exp((worth - best) / temperature).sum(axis=1))
            values = best[:, 0] + temperature * soft
        else:
            values = best[:, 0]
    return values


@pytest.mark.parametrize("temperature", [0.0, 0.4])
def test_values_of_a_decision_process_change_as_if_iterated_again(temperature):
    condition = conditions.bellman(lambda r: r, lambda r: TRANSITIONS, temperature)
    solver = custom_fixed_point(condition)(
        lambda init, discount, r: soft_values(float(discount), np.asarray(r), temperature)
    )
    by_discount, by_rewards = jax.jacrev(
        lambda discount, r: solver(None, discount, r), argnums=(0, 1)
    )(0.9, jnp.asarray(REWARDS))
    # Rounding in the last of the iterations that still count, of which there are 1 / (1 - 0.9).
    noise = 10 * 4 * EPSILON * np.abs(soft_values(0.9, REWARDS, temperature)).max()
    expected = derivative(lambda d: soft_values(d, REWARDS, temperature), 0.9, noise=noise)
    agrees(by_discount, expected, 1e-8)
    direction = RANDOM.normal(size=(3, 2))
    expected = derivative(
        lambda t: soft_values(0.9, REWARDS + t * direction, temperature), noise=noise
    )
    agrees(np.tensordot(by_rewards, direction, 2), expected, 1e-8)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("constrained", [False, True], ids=["free", "rigid rod"])
def test_a_hanging_pendulum_leans_with_the_wind(mode, constrained):
    """A mass on a rod of length 2 under weight 3 and wind w hangs along (w, -3)."""

    def rod(x, *_):
        return jnp.sum(x**2) - 4.0

    def energy(x, wind):
        stiff = 0.0 if constrained else 50.0 * rod(x) ** 2
        return 3.0 * x[1] - wind * x[0] + stiff

    def position(wind):  # with a spring, its stretch balances the whole pull
        pull = np.asarray([float(wind), -3.0])
        size = np.linalg.norm(pull)
        length = 2.0
        if not constrained:
            length = scipy.optimize.brentq(
                lambda r: 200 * r * (r**2 - 4) - size, 2, 3, xtol=1e-15, rtol=1e-14
            )
        return length * pull / size, size / (2 * length)

    condition = conditions.force_balance(energy, rod if constrained else None)

    @custom_root(condition, symmetric=True)
    def hang(init, wind):
        x, multiplier = position(wind)
        return conditions.ConstrainedState(x, multiplier) if constrained else x

    found = mode(lambda w: hang(None, w))(1.0)
    # brentq finds the length to 1e-14; the multiplier is smaller than the positions.
    for index, one in enumerate(found if constrained else (found,)):
        of_wind = derivative(lambda w, index=index: position(w)[index], 1.0, 3e-2, noise=5e-14)
        agrees(one, of_wind, 1e-8)


def test_a_negative_temperature_is_an_error():
    with pytest.raises(ValueError, match="temperature=-1 is negative"):
        conditions.bellman(lambda: REWARDS, lambda: TRANSITIONS, -1)


def test_a_sequence_of_proxes_for_one_array_is_an_error():
    condition = conditions.block_proximal_gradient(squares, [soft_threshold] * 4)
    with pytest.raises(ValueError, match="pass x as a list of blocks"):
        condition(jnp.zeros(4), 1.0, TARGET)
