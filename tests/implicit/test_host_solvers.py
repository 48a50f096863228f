"""Solvers outside JAX: SciPy, Clarabel and an ASE relaxation, also in compiled code."""

import ase
import ase.build
import ase.optimize
import clarabel
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from ase.calculators import emt
from ase.units import Bohr
from numerical import agrees, derivative

from mdsens.errors import InputError
from mdsens.implicit import LinearSolveError, custom_root
from mdsens.implicit.conditions import KKTSolution, kkt

FROM_THE_RUNTIME = (RuntimeError, ValueError)


# A logistic regression by SciPy's L-BFGS-B, whose objective is itself compiled by JAX.

RANDOM = np.random.default_rng(3)
POINTS = RANDOM.normal(size=(40, 3))
LABELS = np.sign(POINTS @ [1.0, -2.0, 0.5] + 0.5 * RANDOM.normal(size=40))


def regularised_loss(w, log_penalty):
    return jnp.mean(jnp.logaddexp(0, -LABELS * (POINTS @ w))) + jnp.exp(log_penalty) * w @ w / 2


loss_and_gradient = jax.jit(jax.value_and_grad(regularised_loss))


def minimise(init, log_penalty):
    result = scipy.optimize.minimize(
        lambda w: tuple(map(np.asarray, loss_and_gradient(w, log_penalty))),
        np.asarray(init),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-12},
    )
    return result.x


logistic = custom_root(jax.grad(regularised_loss), symmetric=True)(minimise)


def expected_derivative(log_penalty):
    w = minimise(np.zeros(3), log_penalty)
    margins = LABELS * (POINTS @ w)
    curvature = 1 / (2 * np.cosh(margins / 2)) ** 2
    hessian = (POINTS.T * curvature) @ POINTS / 40 + np.exp(log_penalty) * np.eye(3)
    return -np.linalg.solve(hessian, np.exp(log_penalty) * w)


def scipy_solution(log_penalty):
    return logistic(jnp.zeros(3), log_penalty)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.jit(jax.jacfwd(f)),
        lambda f: jax.jit(jax.jacrev(f)),
        lambda f: jax.jacrev(jax.jit(f)),
    ],
    ids=["jit-jacfwd", "jit-jacrev", "jacrev-jit"],
)
def test_scipy_under_jit(transform):
    derivative = transform(scipy_solution)(-2.0)
    np.testing.assert_allclose(derivative, expected_derivative(-2.0), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_scipy_under_vmap(wrap):
    penalties = jnp.asarray([-3.0, -2.0, -1.0])
    derivatives = wrap(jax.vmap(jax.jacfwd(scipy_solution)))(penalties)
    expected = [expected_derivative(penalty) for penalty in np.asarray(penalties)]
    np.testing.assert_allclose(derivatives, expected, rtol=1e-7)


def test_a_callback_with_large_arrays_does_not_wait_for_itself():
    @custom_root(lambda x, t: x - t**2, symmetric=True, host=True)
    def square(init, t):
        return np.asarray(t) ** 2

    t = jnp.linspace(0.0, 1.0, 300_000)
    total = jax.jit(jax.grad(lambda t: jnp.sum(square(jnp.zeros_like(t), t))))(t)
    np.testing.assert_allclose(total, 2 * t, atol=1e-12)


@pytest.mark.slow
def test_scipy_inside_another_implicit_function():
    """The penalty for which the weights have a given norm, by bisection around the fit."""

    @custom_root(lambda p, norm: jnp.sum(scipy_solution(p) ** 2) - norm**2)
    def penalty_of_norm(init, norm):
        def excess(p):
            return np.sum(minimise(np.zeros(3), p) ** 2) - float(norm) ** 2

        return scipy.optimize.brentq(excess, -8.0, 3.0, xtol=1e-13)

    slope = jax.grad(lambda norm: penalty_of_norm(None, norm))(1.0)
    at = penalty_of_norm(None, 1.0)
    w = minimise(np.zeros(3), float(at))
    np.testing.assert_allclose(slope, 1 / (w @ expected_derivative(float(at))), rtol=1e-6)


# A quadratic program by Clarabel.


def objective(x, params):
    Q, c = params
    return x @ Q @ x / 2 + c @ x


def equalities(x, params):
    A, b = params
    return A @ x - b


def inequalities(x, params):
    G, h = params
    return G @ x - h


@custom_root(kkt(objective, equalities, inequalities), host=True)
def quadratic_program(init, params_obj, params_eq, params_ineq):
    (Q, c), (A, b), (G, h) = jax.tree.map(np.asarray, (params_obj, params_eq, params_ineq))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-13
    solution = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(Q)),
        c,
        scipy.sparse.csc_matrix(np.vstack([A, G])),
        np.concatenate([b, h]),
        [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))],
        settings,
    ).solve()
    assert str(solution.status) == "Solved"
    dual = np.asarray(solution.z)
    return KKTSolution(np.asarray(solution.x), dual[: len(b)], dual[len(b) :])


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_clarabel_has_the_derivative_of_its_active_set(wrap):
    """Minimise |x - p|^2 / 2 with sum x = 1 and x >= 0: the projection on the simplex."""
    p = jnp.asarray([0.9, 0.4, -0.5, 0.1])
    start = KKTSolution(jnp.zeros(4), jnp.zeros(1), jnp.zeros(4))

    def projection(p):
        obj = (jnp.eye(4), -p)
        eq = (jnp.ones((1, 4)), jnp.ones(1))
        return quadratic_program(start, obj, eq, (-jnp.eye(4), jnp.zeros(4))).primal

    support = np.asarray([1.0, 1.0, 0.0, 0.0])
    expected = np.diag(support) - np.outer(support, support) / 2
    np.testing.assert_allclose(wrap(projection)(p), [0.75, 0.25, 0, 0], atol=1e-9)
    np.testing.assert_allclose(wrap(jax.jacrev(projection))(p), expected, atol=1e-8)


# A cluster of copper by ASE with effective medium theory.


def effective_medium_energy(positions, theta):
    """Jacobsen, Stoltze and Norskov 1996, Surf. Sci. 366, 394; one element, all pairs in reach."""
    V0, decay = theta  # eV, 1/Ang
    E0, s0, _, eta2, kappa, _, _ = emt.parameters["Cu"]
    s0, eta2, kappa = s0 * Bohr, eta2 / Bohr, kappa / Bohr
    largest = max(p[1] for p in emt.parameters.values()) * Bohr
    cutoff = emt.beta * largest * (np.sqrt(3) + 2) / 2
    steepness = np.log(1e4 - 1) / (2 * emt.beta * largest - cutoff)

    def switch(r):
        return 1 / (1 + jnp.exp(steepness * (r - cutoff)))

    shells = emt.beta * s0 * np.sqrt([1.0, 2.0, 3.0])
    weights = np.asarray([1.0, 0.5, 2.0]) * switch(shells)
    gamma1 = weights @ np.exp(-eta2 * (shells - emt.beta * s0))
    gamma2 = weights @ np.exp(-kappa / emt.beta * (shells - emt.beta * s0))
    apart = positions[:, None] - positions[None] + 10 * jnp.eye(len(positions))[..., None]
    r = jnp.sqrt(jnp.sum(apart**2, axis=-1))
    pairs = (1 - np.eye(len(positions))) * switch(r)
    sigma1 = jnp.sum(pairs * jnp.exp(-eta2 * (r - emt.beta * s0)), axis=1)
    sigma2 = jnp.sum(pairs * jnp.exp(-kappa * (r / emt.beta - s0)), axis=1)
    s = -jnp.log(sigma1 / (12 * gamma1)) / (emt.beta * eta2)
    cohesive = E0 * ((1 + decay * s) * jnp.exp(-decay * s) - 1)
    sphere = 6 * V0 * jnp.exp(-kappa * s) - V0 / (2 * gamma2) * sigma2
    return jnp.sum(cohesive + sphere)


def relax_with_ase(start, theta, fmax=1e-9):
    V0, decay = np.asarray(theta)
    original = emt.parameters["Cu"]
    emt.parameters["Cu"] = (*original[:2], V0, *original[3:5], decay * Bohr, original[6])
    try:
        atoms = ase.Atoms(f"Cu{len(start)}", np.asarray(start), calculator=emt.EMT())
        ase.optimize.BFGS(atoms, logfile=None).run(fmax=fmax, steps=500)
    finally:
        emt.parameters["Cu"] = original
    return atoms.positions.copy()


relaxed = custom_root(jax.grad(effective_medium_energy), solve="svd", symmetric=True)(
    relax_with_ase
)
START = np.asarray(
    [
        [1.8, 0, 0],
        [-1.7, 0, 0.1],
        [0, 1.8, 0],
        [0, -1.8, 0],
        [0, 0.1, 1.7],
        [0, 0, -1.8],
        [1.7, 1.8, 0.2],
    ]
)
COPPER = np.asarray([emt.parameters["Cu"][2], emt.parameters["Cu"][5] / Bohr])


def distances(positions):
    rows, columns = np.triu_indices(len(START), 1)
    return jnp.sqrt(jnp.sum((positions[rows] - positions[columns]) ** 2, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [jax.jacrev, lambda f: jax.jit(jax.jacfwd(f))],
    ids=["reverse", "forward under jit"],
)
def test_an_ase_relaxation_with_emt_changes_as_if_relaxed_again(transform):
    found = transform(lambda theta: distances(relaxed(jnp.asarray(START), theta)))(
        jnp.asarray(COPPER)
    )

    def again(theta):
        return np.asarray(distances(relax_with_ase(START, theta, fmax=1e-12)))

    # Forces of 1e-12 on each of seven atoms, and vibrations no softer than 1.2 eV/Ang^2.
    noise = np.sqrt(2) * np.sqrt(7) * 1e-12 / 1.2
    for column, e in enumerate(np.eye(2)):
        of_theta = derivative(lambda t, e=e: again(COPPER + t * e), 0.0, 8e-3, noise=noise)
        agrees(found[:, column], of_theta, 1e-6, scale=1.0)


# What goes wrong.


def test_the_result_of_host_code_must_be_known_under_jit():
    solver = custom_root(lambda x, t: x - t)(lambda init, t: np.asarray(t) + 0)
    with pytest.raises(InputError, match="pass result_shape"):
        jax.jit(lambda t: solver(None, t))(jnp.ones(3))


@pytest.mark.parametrize(
    "shape",
    [jax.ShapeDtypeStruct((3,), float), lambda init, t: jax.ShapeDtypeStruct(t.shape, t.dtype)],
    ids=["given", "function"],
)
def test_the_result_of_host_code_may_be_announced(shape):
    solver = custom_root(lambda x, t: x - t**2, result_shape=shape)(
        lambda init, t: np.asarray(t) ** 2
    )
    derivative = jax.jit(jax.jacfwd(lambda t: solver(None, t)))(jnp.arange(3.0))
    np.testing.assert_allclose(derivative, np.diag([0.0, 2.0, 4.0]), atol=1e-14)


def test_host_code_may_return_aux_under_jit():
    announced = (jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct((), int))
    solver = custom_root(lambda x, t: x - t**2, has_aux=True, result_shape=announced)(
        lambda init, t: (float(t) ** 2, 7)
    )
    (value, steps), slope = jax.jit(
        lambda t: (solver(None, t), jax.grad(lambda t: solver(None, t)[0])(t))
    )(3.0)
    assert (value, steps, slope) == (9.0, 7, 6.0)


def test_a_result_of_another_shape_than_announced_is_named():
    solver = custom_root(lambda x, t: x - t)(lambda init, t: np.zeros(5))
    with pytest.raises(FROM_THE_RUNTIME, match="pass its result_shape"):
        jax.block_until_ready(
            jax.jit(
                lambda t: custom_root(lambda x, t: x - t, host=True)(lambda init, t: np.zeros(5))(
                    jnp.zeros(3), t
                )
            )(jnp.ones(3))
        )
    assert solver(None, jnp.ones(5)).shape == (5,)


def test_an_error_of_the_solver_arrives_under_jit():
    @custom_root(lambda x, t: x - t, host=True)
    def failing(init, t):
        raise RuntimeError("the licence of the solver has run out")

    with pytest.raises(FROM_THE_RUNTIME, match="licence of the solver"):
        jax.block_until_ready(jax.jit(lambda t: failing(jnp.zeros(()), t))(1.0))


# Aux, singular conditions, preconditioners.


def test_aux_has_the_derivative_that_is_asked_for():
    @custom_root(
        lambda x, t: x**2 - t, has_aux=True, aux_fun=lambda x, t: {"energy": t * x**3, "steps": 0}
    )
    def root(init, t):
        return jnp.sqrt(t), {"energy": t * jnp.sqrt(t) ** 3, "steps": 12}

    value, slope = jax.value_and_grad(lambda t: root(None, t)[1]["energy"])(4.0)
    np.testing.assert_allclose([value, slope], [32.0, 2.5 * 8.0], rtol=1e-14)
    assert root(None, 4.0)[1]["steps"] == 12


def test_a_condition_that_is_not_a_number_is_an_error_in_both_modes():
    @custom_root(lambda x, t: x - t + jnp.nan)
    def root(init, t):
        return t

    for mode in (jax.jacfwd, jax.jacrev):
        with pytest.raises(FROM_THE_RUNTIME, match="the condition or its derivative holds NaN"):
            jax.block_until_ready(mode(lambda t: root(None, t))(2.0))


def loose_spring(x, pull, stiffness):
    """Two beads on a line joined by a spring of length 1, one of them pulled."""
    return stiffness * (x[1] - x[0] - 1) ** 2 / 2 - pull * x[0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
@pytest.mark.parametrize("options", [{"solve": "svd"}, {"null_space": np.ones((1, 2))}])
def test_an_argument_that_sets_a_free_system_in_motion_is_an_error(mode, options):
    root = custom_root(jax.grad(loose_spring), symmetric=True, **options)(
        lambda init, pull, stiffness: jnp.asarray([0.0, 1.0])
    )
    by_stiffness = mode(lambda k: root(None, 0.0, k))(2.0)
    np.testing.assert_allclose(by_stiffness, [0.0, 0.0], atol=1e-14)
    with pytest.raises((LinearSolveError, *FROM_THE_RUNTIME), match="out of the range"):
        jax.block_until_ready(mode(lambda pull: root(None, pull, 2.0))(0.0))


def test_a_null_space_that_is_none_is_an_error():
    root = custom_root(jax.grad(loose_spring), symmetric=True, null_space=np.asarray([[1.0, 0.9]]))(
        lambda init, pull, stiffness: jnp.asarray([0.0, 1.0])
    )
    with pytest.raises(LinearSolveError, match="given as null_space are not in the null space"):
        jax.jacrev(lambda k: root(None, 0.0, k))(2.0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("solve", "coupling"),
    [
        (lineax.CG(1e-12, 1e-12, max_steps=30), 0.0),
        (lineax.GMRES(1e-12, 1e-12, restart=30, max_steps=30), 0.5),
    ],
    ids=["cg", "gmres"],
)
def test_a_preconditioner_saves_a_solve_that_is_hopeless_without(mode, solve, coupling):
    diagonal = jnp.logspace(0.5, 5, 200)
    matrix = np.diag(diagonal) + coupling * np.roll(np.eye(200), 1, axis=0)

    def solution(t, preconditioner):
        root = custom_root(
            lambda x, t: diagonal * x + coupling * jnp.roll(x, 1) - t,
            solve=solve,
            symmetric=coupling == 0,
            preconditioner=preconditioner,
        )
        return root(lambda init, t: jnp.linalg.solve(matrix, t * jnp.ones(200)))(None, t)

    def total(t, preconditioner):
        return jnp.sum(solution(t, preconditioner))

    helped = mode(lambda t: total(t, lambda x, t: lambda v: v / diagonal))(1.0)
    np.testing.assert_allclose(helped, np.linalg.solve(matrix, np.ones(200)).sum(), rtol=1e-6)
    with pytest.raises(FROM_THE_RUNTIME, match="did not converge"):
        jax.block_until_ready(mode(lambda t: total(t, None))(1.0))
