"""Derivatives of solutions against closed forms, SciPy and finite differences."""

import functools

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
from numerical import agrees, derivative

from mdsens.errors import InputError
from mdsens.implicit import SolveOptions, custom_fixed_point, custom_root, root_jvp, root_vjp

RANDOM = np.random.default_rng(2)
EPSILON = np.finfo(float).eps
DATA, TARGET = RANDOM.normal(size=(20, 4)), RANDOM.normal(size=20)
FROM_THE_RUNTIME = (RuntimeError, ValueError)
MODES = pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)


# Ridge regression: w = (X^T X + penalty)^-1 X^T y, and all its derivatives in closed form.


def ridge_objective(weights, penalty, data, target):
    loss = 0.5 * jnp.sum((data @ weights - target) ** 2)
    return loss + 0.5 * penalty * jnp.sum(weights**2)


ridge_condition = jax.grad(ridge_objective)


def ridge_derivative(penalty, order):
    """The order-th derivative of the weights in the penalty."""
    matrix = DATA.T @ DATA + penalty * np.eye(4)
    value = np.linalg.solve(matrix, DATA.T @ TARGET)
    for power in range(1, order + 1):
        value = -power * np.linalg.solve(matrix, value)
    return value


@custom_root(ridge_condition, symmetric=True)
def ridge(init_params, penalty, data, target):
    del init_params
    matrix = data.T @ data + penalty * jnp.eye(data.shape[1])
    return jnp.linalg.solve(matrix, data.T @ target)


def ridge_by_penalty(penalty):
    return ridge(None, penalty, jnp.asarray(DATA), jnp.asarray(TARGET))


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_ridge_regression_has_its_closed_form_derivative(mode, wrap):
    derivative = wrap(mode(ridge_by_penalty))(3.0)
    np.testing.assert_allclose(derivative, ridge_derivative(3.0, 1), rtol=1e-11)


@pytest.mark.slow
@MODES
def test_ridge_regression_by_target_is_the_pseudo_inverse(mode):
    derivative = mode(lambda y: ridge(None, 3.0, jnp.asarray(DATA), y))(jnp.asarray(TARGET))
    expected = np.linalg.solve(DATA.T @ DATA + 3.0 * np.eye(4), DATA.T)
    np.testing.assert_allclose(derivative, expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))],
    ids=["hessian", "reverse over reverse"],
)
def test_the_second_derivative_of_ridge_regression(transform):
    derivative = transform(ridge_by_penalty)(3.0)
    np.testing.assert_allclose(derivative, ridge_derivative(3.0, 2), rtol=1e-8)


@pytest.mark.slow
def test_the_third_derivative_of_ridge_regression():
    derivative = jax.jit(jax.jacfwd(jax.hessian(ridge_by_penalty)))(3.0)
    np.testing.assert_allclose(derivative, ridge_derivative(3.0, 3), rtol=1e-8)


def test_derivatives_can_be_mapped_over_parameters():
    derivative = jax.jit(jax.vmap(jax.jacrev(ridge_by_penalty)))(jnp.asarray([0.5, 3.0]))
    expected = [ridge_derivative(0.5, 1), ridge_derivative(3.0, 1)]
    np.testing.assert_allclose(derivative, expected, rtol=1e-10)


@pytest.mark.slow
def test_a_solution_inside_a_scan_can_be_differentiated():
    def total(penalty):
        def body(carry, factor):
            return carry + ridge_by_penalty(factor * penalty), None

        return jax.lax.scan(body, jnp.zeros(4), jnp.asarray([1.0, 2.0]))[0]

    expected = ridge_derivative(3.0, 1) + 2 * ridge_derivative(6.0, 1)
    np.testing.assert_allclose(jax.jacrev(total)(3.0), expected, rtol=1e-10)


@pytest.mark.slow
def test_a_solution_may_be_a_parameter_of_the_next():
    """The inner root is t^(1/3), the outer one its square root."""

    @custom_root(lambda x, t: x**3 - t)
    def inner(init, t):
        return jnp.cbrt(t)

    @custom_root(lambda y, t: y**2 - inner(None, t))
    def outer(init, t):
        return jnp.sqrt(inner(None, t))

    for order, transform in enumerate([jax.grad, lambda f: jax.grad(jax.grad(f))], start=1):
        expected = [1 / 6 * 2.0 ** (-5 / 6), -5 / 36 * 2.0 ** (-11 / 6)][order - 1]
        np.testing.assert_allclose(transform(lambda t: outer(None, t))(2.0), expected, rtol=1e-11)


# Systems without symmetry, fixed points.


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("solve", [None, "gmres", lineax.LU()], ids=["auto", "gmres", "lineax"])
def test_a_system_without_symmetry(mode, solve):
    """x0 x1 = a, x0 / x1 = b has the roots sqrt(a b), sqrt(a / b)."""

    @custom_root(lambda x, a, b: jnp.stack([x[0] * x[1] - a, x[0] / x[1] - b]), solve=solve)
    def root(init, a, b):
        return jnp.stack([jnp.sqrt(a * b), jnp.sqrt(a / b)])

    by_a, by_b = jax.jit(mode(functools.partial(root, None), argnums=(0, 1)))(2.0, 3.0)
    np.testing.assert_allclose(by_a, [np.sqrt(3 / 2) / 2, 1 / np.sqrt(6) / 2], rtol=1e-11)
    np.testing.assert_allclose(
        by_b, [np.sqrt(2 / 3) / 2, -0.5 * np.sqrt(2) * 3.0**-1.5], rtol=1e-11
    )


COUPLING = RANDOM.normal(size=(3, 3)) / 4


def contraction(x, bias):
    return jnp.tanh(COUPLING @ x + bias)


def iterate(init, bias):
    x = np.zeros(3) if init is None else init
    for _ in range(300):
        x = np.tanh(COUPLING @ x + np.asarray(bias))
    return x


@MODES
def test_a_fixed_point_of_a_contraction(mode):
    bias = np.asarray([0.3, -0.2, 0.5])
    found = mode(lambda b: custom_fixed_point(contraction)(iterate)(None, b))(bias)
    for column, e in zip(found.T, np.eye(3), strict=True):
        of_bias = derivative(
            lambda t, e=e: iterate(None, bias + t * e), 0.0, 1e-2, 4, noise=4 * EPSILON
        )
        agrees(column, of_bias, 1e-10, scale=1.0)


# What a solver may return and be given.


@MODES
def test_auxiliary_results_come_along_and_have_no_derivative(mode):
    @custom_root(lambda x, t: x**2 - t, has_aux=True)
    def root(init, t):
        return jnp.sqrt(t), {"steps": 7, "residual": t * 0.5, "message": "converged"}

    assert root(None, 4.0)[1]["message"] == "converged"
    assert root(None, 4.0)[1]["steps"] == 7
    by_t, by_residual = mode(lambda t: (root(None, t)[0], root(None, t)[1]["residual"]))(4.0)
    np.testing.assert_allclose(by_t, 0.25, rtol=1e-14)
    assert by_residual == 0


@pytest.mark.slow
def test_keyword_arguments_find_their_place():
    @custom_root(ridge_condition, symmetric=True)
    def solver(init, *, target, penalty, data):
        return ridge(init, penalty, data, target)

    def by_keyword(penalty):
        return solver(None, data=jnp.asarray(DATA), penalty=penalty, target=jnp.asarray(TARGET))

    np.testing.assert_allclose(
        jax.grad(lambda p: by_keyword(p)[0])(3.0), ridge_derivative(3.0, 1)[0]
    )


def test_keyword_arguments_go_by_the_reference_signature():
    def signature(init, offset, factor=2.0):
        """Other names than the condition's, and a default."""

    @custom_root(lambda x, a, b: b * x - a, reference_signature=signature)
    def solver(init, factor=2.0, offset=0.0):
        return offset / factor

    np.testing.assert_allclose(jax.grad(lambda t: solver(None, offset=t))(6.0), 0.5)
    np.testing.assert_allclose(jax.grad(lambda t: solver(None, offset=6.0, factor=t))(3.0), -6 / 9)


def test_keyword_arguments_that_fit_no_signature_are_named():
    solver = custom_root(lambda x, t: x - t)(lambda init, **options: options["t"])
    with pytest.raises(InputError, match=r"\['t', 'verbose'\] do not fit.*reference_signature"):
        solver(None, t=1.0, verbose=True)


@MODES
def test_solutions_and_arguments_may_be_pytrees(mode):
    def condition(sol, theta):
        return {"x": sol["x"] ** 2 - theta["a"], "y": (sol["y"][0] - theta["b"][0] * sol["x"],)}

    @custom_root(condition)
    def root(init, theta):
        return {"x": jnp.sqrt(theta["a"]), "y": (theta["b"][0] * jnp.sqrt(theta["a"]),)}

    theta = {"a": jnp.asarray([4.0, 9.0]), "b": [jnp.asarray(2.0)]}
    derivative = mode(functools.partial(root, None))(theta)
    np.testing.assert_allclose(derivative["x"]["a"], np.diag([1 / 4, 1 / 6]), atol=1e-14)
    np.testing.assert_allclose(derivative["y"][0]["a"], np.diag([1 / 2, 1 / 3]), atol=1e-14)
    np.testing.assert_allclose(derivative["y"][0]["b"][0], [2, 3], atol=1e-14)
    np.testing.assert_allclose(derivative["x"]["b"][0], 0, atol=1e-14)


class Unhashable:
    __hash__ = None
    power = 2


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_arguments_without_derivative_are_handed_through(wrap):
    seen = []

    def condition(x, t, index, flag, word, function, thing):
        assert word == "word"
        assert flag is True
        return function(x) - t[index] ** (thing.power - 1)

    @custom_root(condition)
    def root(init, t, index, flag, word, function, thing):
        seen.append((flag, word))
        return jnp.sqrt(t[index])

    def value(t):
        indices = jnp.asarray([1, 2])
        return root(None, t, indices, True, "word", jnp.square, Unhashable())

    derivative = wrap(jax.jacrev(value))(jnp.asarray([1.0, 4.0, 9.0]))
    np.testing.assert_allclose(derivative, [[0, 1 / 4, 0], [0, 0, 1 / 6]], atol=1e-14)
    assert set(seen) == {(True, "word")}


def test_there_is_no_derivative_in_the_starting_point():
    @custom_root(lambda x, t: x**2 - t)
    def root(init, t):
        return init + (jnp.sqrt(t) - init)

    by_start, by_t = jax.grad(root, argnums=(0, 1))(1.5, 4.0)
    assert by_start == 0
    np.testing.assert_allclose(by_t, 0.25, rtol=1e-14)


# Solvers that are not written in JAX.


def rosenbrock(x, theta):
    return (theta[0] - x[0]) ** 2 + theta[1] * (x[1] - x[0] ** 2) ** 2 + 0.1 * x[1] ** 2


def rosenbrock_minimum(theta):
    """By elimination: x1 from its own equation, x0 from the cubic that is left."""
    a, b = theta
    c = 0.1 * b / (b + 0.1)
    roots = np.roots([4 * c, 0.0, 2.0, -2 * a])
    x = float(roots[np.abs(roots.imag) < 1e-12].real[0])
    return np.asarray([x, b * x**2 / (b + 0.1)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [jax.jacfwd, jax.jacrev, jax.hessian],
    ids=["forward", "reverse", "hessian"],
)
def test_a_scipy_solver_sees_numbers_and_is_differentiated(transform):
    seen = []

    @custom_root(jax.grad(rosenbrock), symmetric=True)
    def minimise(init, theta):
        seen.append(isinstance(theta, jax.core.Tracer))
        theta = np.asarray(theta)
        value = jax.value_and_grad(rosenbrock)
        result = scipy.optimize.minimize(
            value, init, theta, jac=True, method="BFGS", options={"gtol": 1e-9}
        )
        newton = jax.hessian(rosenbrock)(result.x, theta)  # polish to rounding
        return result.x - np.linalg.solve(newton, value(result.x, theta)[1])

    theta = np.asarray([1.0, 3.0])
    found = transform(lambda t: minimise(np.zeros(2), t))(jnp.asarray(theta))
    assert not any(seen)

    def along(e, at=theta):  # rounding as NumPy's roots have it
        return derivative(lambda t: rosenbrock_minimum(at + t * e), 0.0, 5e-2, 4, noise=8 * EPSILON)

    for j, ej in enumerate(np.eye(2)):
        if found.ndim == 2:
            agrees(found[:, j], along(ej), 1e-9, scale=1.0)
            continue
        for k, ek in enumerate(np.eye(2)):
            noise = along(ej).error.max()
            second = derivative(
                lambda t, ej=ej, ek=ek: along(ej, theta + t * ek).value, 0.0, 5e-2, 4, noise=noise
            )
            agrees(found[:, j, k], second, 1e-7, scale=1.0)


def test_repeated_derivatives_do_not_trace_the_condition_again():
    traces = []

    def condition(x, t):
        traces.append(1)
        return x**2 - t

    root = custom_root(condition)(lambda init, t: np.sqrt(np.asarray(t)))
    gradient = jax.grad(lambda t: root(None, t))
    gradient(4.0)
    first = len(traces)
    assert gradient(9.0) == pytest.approx(1 / 6, rel=1e-13)
    assert len(traces) == first


# Traced values that are closed over.


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [
        jax.jacfwd,
        jax.jacrev,
        lambda f: jax.jit(jax.jacrev(f)),
        lambda f: jax.jacrev(jax.jit(f)),
        lambda f: lambda p: jax.vmap(jax.jacrev(f))(p[None])[0],
    ],
    ids=["forward", "reverse", "inside jit", "outside jit", "vmap"],
)
def test_closed_over_values_are_differentiated(transform):
    def solution(penalty):
        @custom_root(lambda w, y: ridge_condition(w, penalty, DATA, y), symmetric=True)
        def solver(init, y):
            return jnp.linalg.solve(DATA.T @ DATA + penalty * jnp.eye(4), DATA.T @ y)

        return solver(None, jnp.asarray(TARGET))

    derivative = transform(solution)(jnp.asarray(3.0))
    np.testing.assert_allclose(derivative, ridge_derivative(3.0, 1), rtol=1e-10)


def test_a_host_solver_that_closes_over_traced_values_is_an_error():
    def solution(t):
        return custom_root(lambda x: x**2 - t)(lambda init: np.sqrt(np.asarray(t)))(None)

    with pytest.raises(InputError, match="pass these values as arguments"):
        jax.grad(solution)(4.0)


# root_jvp and root_vjp.


def mixed_condition(x, a, index, b):
    return jnp.stack([x[0] ** 3 + x[1] * a[index], jnp.sin(x[1]) - b * x[0]])


def test_forward_and_reverse_are_each_others_transpose():
    x, a, b = jnp.asarray([0.8, 0.4]), jnp.asarray([0.3, 1.7]), 0.9
    directions = (jnp.asarray([0.4, -1.0]), None, 0.6)
    cotangent = jnp.asarray([0.2, 1.5])
    tangent = jax.jit(lambda x: root_jvp(mixed_condition, x, (a, 1, b), directions))(x)
    matrix = np.asarray([[3 * 0.8**2, 1.7], [-0.9, np.cos(0.4)]])
    expected = -np.linalg.solve(matrix, [0.4 * -1.0, -0.8 * 0.6])
    np.testing.assert_allclose(tangent, expected, rtol=1e-12)
    by_a, by_index, by_b = jax.jit(lambda x: root_vjp(mixed_condition, x, (a, 1, b), cotangent))(x)
    assert by_index is None
    adjoint = -np.linalg.solve(matrix.T, cotangent)
    np.testing.assert_allclose(by_a, [0, 0.4 * adjoint[0]], rtol=1e-12)
    np.testing.assert_allclose(by_b, -0.8 * adjoint[1], rtol=1e-12)


def test_many_directions_share_one_factorisation():
    data, target = jnp.asarray(DATA), jnp.asarray(TARGET)
    arguments = (3.0, data, target)
    sol = ridge(None, *arguments)

    def forward(direction):
        return root_jvp(ridge_condition, sol, arguments, (None, None, direction), symmetric=True)

    def backward(cotangent):
        return root_vjp(ridge_condition, sol, arguments, cotangent, symmetric=True)[2]

    expected = np.linalg.solve(DATA.T @ DATA + 3.0 * np.eye(4), DATA.T)
    for function, basis, result in (
        (forward, jnp.eye(20), expected.T),
        (backward, jnp.eye(4), expected),
    ):
        batched = jax.vmap(function)
        np.testing.assert_allclose(jax.jit(batched)(basis), result, rtol=1e-10)
        lines = [
            line
            for line in str(jax.make_jaxpr(batched)(basis)).splitlines()
            if "= lu" in line and "lu_pivots" not in line
        ]
        assert len(lines) == 1
        assert "f64[4,4]" in lines[0]


def test_tangents_must_match_the_arguments():
    with pytest.raises(ValueError, match="1 tangents were given for 2 arguments"):
        root_jvp(lambda x, a, b: x - a - b, 1.0, (1.0, 2.0), (1.0,))


def test_the_condition_must_have_the_shape_of_the_solution():
    with pytest.raises(ValueError, match="must have the same structure and shapes"):
        root_jvp(lambda x, t: jnp.sum(x) - t, jnp.ones(2), (1.0,), (1.0,))


def test_a_solution_of_integers_is_an_error():
    with pytest.raises(ValueError, match="allowed are floating-point arrays"):
        root_jvp(lambda x, t: x - t, jnp.asarray([1, 2]), (1.0,), (1.0,))


# Singular conditions: three springs in the plane, free to translate and to rotate.

STIFFNESS = np.asarray([1.0, 2.0, 0.7])
LENGTHS = np.asarray([1.0, 1.2, 0.9])
ENDS = np.asarray([[0, 1], [1, 2], [2, 0]])


def springs_energy(positions, lengths):
    bonds = positions[ENDS[:, 1]] - positions[ENDS[:, 0]]
    return 0.5 * jnp.sum(STIFFNESS * (jnp.sqrt(jnp.sum(bonds**2, axis=1)) - lengths) ** 2)


def rigid_motions(positions, lengths):
    translations = jnp.broadcast_to(jnp.eye(2)[:, None], (2, 3, 2))
    rotation = jnp.stack([-positions[:, 1], positions[:, 0]], axis=1)
    return jnp.concatenate([translations, jnp.zeros((1, 3, 2)), 10 * rotation[None]])


def triangle(lengths, numpy=np):
    """At rest every spring has its own length; one gauge of many."""
    a, b, c = lengths
    x = (a**2 + c**2 - b**2) / (2 * a)
    y = numpy.sqrt(c**2 - x**2)
    return numpy.stack([numpy.stack([0 * a, 0 * a]), numpy.stack([a, 0 * a]), numpy.stack([x, y])])


@functools.partial(custom_root, symmetric=True, null_space=rigid_motions)(jax.grad(springs_energy))
def springs(init, lengths):
    return triangle(np.asarray(lengths))


def springs_jacobian(positions, lengths):
    """dx/dlengths of least norm from the Hessian in closed form, by NumPy's pseudo-inverse."""
    hessian, mixed = np.zeros((6, 6)), np.zeros((6, 3))
    for s, (i, j) in enumerate(ENDS):
        bond = positions[j] - positions[i]
        distance = np.linalg.norm(bond)
        unit = bond / distance
        ends = np.concatenate([-np.eye(2), np.eye(2)], axis=1).T  # d bond / d (x_i, x_j)
        tension = STIFFNESS[s] * (distance - lengths[s])
        block = STIFFNESS[s] * np.outer(unit, unit)
        block += tension / distance * (np.eye(2) - np.outer(unit, unit))
        rows = [2 * i, 2 * i + 1, 2 * j, 2 * j + 1]
        hessian[np.ix_(rows, rows)] += ends @ block @ ends.T
        mixed[rows, s] -= STIFFNESS[s] * ends @ unit
    return (-np.linalg.pinv(hessian, rcond=1e-6) @ mixed).reshape(3, 2, 3)


def heron(lengths):
    half = jnp.sum(lengths) / 2
    return jnp.sqrt(half * jnp.prod(half - lengths))


def area(positions):
    first, second = positions[1] - positions[0], positions[2] - positions[0]
    return 0.5 * (first[0] * second[1] - first[1] * second[0])


@pytest.mark.slow
@MODES
def test_free_springs_have_the_derivative_of_least_norm(mode):
    derivative = mode(functools.partial(springs, None))(jnp.asarray(LENGTHS))
    expected = springs_jacobian(triangle(LENGTHS), LENGTHS)
    np.testing.assert_allclose(derivative, expected, atol=1e-10)


@pytest.mark.slow
def test_the_area_of_free_springs_is_that_of_heron():
    """Up to the second derivative, through a solver in NumPy."""
    hessian = jax.hessian(lambda lengths: area(springs(None, lengths)))(jnp.asarray(LENGTHS))
    np.testing.assert_allclose(hessian, jax.hessian(heron)(jnp.asarray(LENGTHS)), atol=1e-10)


@pytest.mark.slow
def test_the_second_derivative_of_free_springs():
    """Along the solutions that the first derivative itself leads to, the gauge of the second."""
    condition = jax.grad(springs_energy)
    traced = custom_root(condition, symmetric=True, null_space=rigid_motions)(
        lambda init, lengths: triangle(lengths, jnp)
    )
    change = np.asarray([0.3, -0.5, 0.8])

    def first_along(lengths):
        return jax.jvp(lambda x: traced(None, x), (lengths,), (change,))[1]

    second = jax.jit(lambda lengths: jax.jvp(first_along, (lengths,), (change,))[1])(
        jnp.asarray(LENGTHS)
    )
    positions = triangle(LENGTHS)
    shift = springs_jacobian(positions, LENGTHS) @ change
    expected = derivative(
        lambda t: springs_jacobian(positions + t * shift, LENGTHS + t * change) @ change,
        # Farther away the solution is none, and turning is no null mode; noise of a pseudo-inverse.
        0.0, 4e-4, noise=1e-14,
    )  # fmt: skip
    agrees(second.ravel(), expected.reshape(-1), 1e-8, scale=1.0)


@pytest.mark.slow
def test_free_springs_without_their_null_space_are_an_error():
    free = custom_root(jax.grad(springs_energy), symmetric=True)(
        lambda init, lengths: triangle(np.asarray(lengths))
    )
    with pytest.raises(FROM_THE_RUNTIME, match="singular matrix: pass null_space"):
        jax.block_until_ready(jax.jacrev(functools.partial(free, None))(jnp.asarray(LENGTHS)))


# Large systems.


@pytest.mark.slow
def test_five_thousand_unknowns_by_conjugate_gradients():
    """A chain on nonlinear sites, 2 x_i - x_(i-1) - x_(i+1) + x_i + x_i^3 = theta_i."""
    size = 5000
    chain = scipy.sparse.diags([-1.0, 3.0, -1.0], [-1, 0, 1], (size, size), format="csc")

    def condition(x, theta):
        padded = jnp.pad(x, 1)
        return 3 * x - padded[:-2] - padded[2:] + x**3 - theta

    def jacobian(x):
        return (chain + scipy.sparse.diags(3 * x**2)).tocsc()

    @custom_root(condition, symmetric=True)
    def solver(init, theta):
        x = np.zeros(size)
        for _ in range(30):
            residual = chain @ x + x**3 - np.asarray(theta)
            x = x - scipy.sparse.linalg.spsolve(jacobian(x), residual)
        return x

    theta, direction = RANDOM.normal(size=(2, size))
    x, tangent = jax.jvp(
        functools.partial(solver, None), (jnp.asarray(theta),), (jnp.asarray(direction),)
    )
    expected = scipy.sparse.linalg.spsolve(jacobian(np.asarray(x)), direction)
    assert np.linalg.norm(tangent - expected) < 1e-11 * np.linalg.norm(expected)
    gradient = jax.grad(lambda t: solver(None, t) @ direction)(jnp.asarray(theta))
    assert np.linalg.norm(gradient - expected) < 1e-11 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_derivative_whose_solve_does_not_converge_is_an_error(wrap):
    diagonal = jnp.linspace(1.0, 1e4, 100)
    solver = lineax.CG(rtol=1e-12, atol=1e-12, max_steps=3)
    root = custom_root(lambda x, t: diagonal * x - t, solve=solver, symmetric=True)(
        lambda init, t: t / diagonal
    )
    with pytest.raises(FROM_THE_RUNTIME, match="did not converge"):
        jax.block_until_ready(wrap(jax.grad(lambda t: jnp.sum(root(None, t))))(jnp.ones(100)))


@pytest.mark.slow
def test_a_solve_function_as_in_jaxopt():
    used = []

    def conjugate_gradients(matvec, b):
        used.append(1)
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-13)[0]

    solver = custom_root(ridge_condition, solve=conjugate_gradients)(
        lambda init, *arguments: ridge(None, *arguments)
    )
    derivative = jax.jacrev(lambda p: solver(None, p, jnp.asarray(DATA), jnp.asarray(TARGET)))(3.0)
    np.testing.assert_allclose(derivative, ridge_derivative(3.0, 1), rtol=1e-10)
    assert used


def test_all_options_at_once_are_those_by_name_and_a_wrong_one_is_one_line():
    arguments = (
        lambda x, t: 2.0 * x - t,
        jnp.ones(2),
        (jnp.full(2, 2.0),),
        (jnp.array([1.0, 3.0]),),
    )
    by_name = root_jvp(*arguments, "cg", symmetric=True)
    at_once = root_jvp(*arguments, SolveOptions("cg", symmetric=True))
    np.testing.assert_array_equal(by_name, at_once)
    np.testing.assert_allclose(at_once, [0.5, 1.5], rtol=1e-12)
    with pytest.raises(InputError, match=r"'symetric'.*'symmetric'\?"):
        root_jvp(*arguments, symetric=True)
    with pytest.raises(InputError, match="symmetric beside it"):
        root_jvp(*arguments, SolveOptions("cg"), symmetric=True)


def test_a_solution_without_numbers_has_derivatives_without_numbers():
    square_root = custom_root(lambda x, a: x**2 - a)(lambda start, a: jnp.sqrt(a))
    nothing = jnp.zeros(0)
    assert jax.hessian(square_root, argnums=1)(nothing, nothing).shape == (0, 0, 0)
    assert jax.jit(jax.jacrev(square_root, argnums=1))(nothing, nothing).shape == (0, 0)


@MODES
def test_a_function_among_the_arguments_may_close_over_what_is_differentiated(mode):
    @custom_root(lambda x, scale: x**3 - scale(2.0))
    def cube_root(start, scale):
        return jnp.cbrt(scale(2.0))

    def of(a):
        return cube_root(None, lambda t: t * a**2)

    # (2 a^2)^(1/3)
    value = 2 ** (1 / 3) * 3 ** (2 / 3)
    np.testing.assert_allclose(mode(of)(3.0), 2 / 9 * value, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(mode(mode(of)))(3.0), -2 / 81 * value, rtol=1e-12)
