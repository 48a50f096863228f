"""What JAXopt's users give: integers, data of another precision, bounds or data left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mdsens import layers

POINT = np.array([3, -1, 2])
SQUARE = np.array([[1, 2], [3, 4]])
HALVES = (np.array([1, 1]), np.array([1, 1]))
LABEL = np.array(1)
#: Functions with all that they are given but the first argument.
OF_INTEGERS = {
    "projection_simplex": (POINT, 2),
    "projection_l1_ball": (POINT, 2),
    "projection_l1_sphere": (POINT, 2),
    "projection_l2_ball": (POINT, 2),
    "projection_box": (POINT, (0, 2)),
    "projection_box_section": (POINT, (0, 2, np.array([1, 1, 1]), 3)),
    "projection_hyperplane": (POINT, (np.array([1, 1, 1]), 3)),
    "projection_affine_set": (POINT, (np.array([[1, 1, 1]]), np.array([3]))),
    "projection_polyhedron": (POINT, (None, None, np.array([[1, 1, 1]]), np.array([3]))),
    "projection_second_order_cone": (POINT,),
    "projection_exponential_cone": (POINT,),
    "projection_transport": (SQUARE, HALVES),
    "kl_projection_transport": (SQUARE, HALVES),
    "projection_birkhoff": (SQUARE,),
    "prox_lasso": (POINT, 1),
    "prox_group_lasso": (POINT, 1),
    "prox_nuclear_norm": (SQUARE, 1),
    "prox_total_variation_1d": (POINT, 1),
    "isotonic.isotonic_l2_pav": (POINT,),
    "loss.huber_loss": (POINT, 0),
    "loss.sparse_plus": (POINT,),
    "loss.sparse_sigmoid": (POINT,),
    "loss.binary_hinge_loss": (LABEL, 1),
    "loss.binary_sparsemax_loss": (LABEL, 1),
    "loss.multiclass_hinge_loss": (LABEL, POINT),
    "loss.multiclass_logistic_loss": (LABEL, POINT),
    "loss.multiclass_sparsemax_loss": (LABEL, POINT),
    "loss.multiclass_perceptron_loss": (LABEL, POINT),
    "objective.least_squares": (POINT, (np.array([[1, 2, 0], [0, 1, 1]]), np.array([1, 0]))),
}


@pytest.mark.promotes("that is what is asked")
@pytest.mark.parametrize("name", OF_INTEGERS)
def test_integers_are_numbers(name):
    function = layers
    for part in name.split("."):
        function = getattr(function, part)
    arguments = OF_INTEGERS[name]
    labels = arguments[:1] if arguments[0] is LABEL else ()
    found = function(*arguments)
    of_floats = jax.tree.map(lambda leaf: np.asarray(leaf, float), arguments[len(labels) :])
    assert_allclose(found, function(*labels, *of_floats), rtol=0, atol=1e-12)


WEIGHTS = jnp.asarray([1.0, 2.0, 0.5])


def bowl(x, shift):
    return jnp.sum((WEIGHTS * x - 1) ** 2) + shift * jnp.sum(x**4)


def slope(x, shift):
    return 2 * WEIGHTS * (WEIGHTS * x - 1) + 4 * shift * x**3


MIXED = {
    "LBFGS": (layers.LBFGS, bowl),
    "NonlinearCG": (layers.NonlinearCG, bowl),
    "Newton": (layers.Newton, slope),
    "Broyden": (layers.Broyden, slope),
    "LevenbergMarquardt": (layers.LevenbergMarquardt, lambda x, shift: (WEIGHTS * x - 1, shift)),
    "AndersonAcceleration": (
        layers.AndersonAcceleration, lambda x, shift: x - 0.1 * slope(x, shift)
    ),
}  # fmt: skip


@pytest.mark.promotes("that is what is asked")
@pytest.mark.parametrize("name", MIXED)
def test_parameters_keep_their_precision_whatever_that_of_the_data(name):
    kind, fun = MIXED[name]
    start = jnp.asarray([0.3, 0.2, 0.1], jnp.float32)
    step = kind(fun, tol=1e-4).run(start, jnp.asarray(0.3))
    assert step.params.dtype == jnp.float32
    curved = 0.3 if name != "LevenbergMarquardt" else 0.0
    assert_allclose(slope(step.params.astype(float), curved), 0, atol=1e-3)


def test_bounds_and_data_may_be_left_out():
    def distance(w, x):
        return jnp.sum((w - x) ** 2)

    # An argument of this name is the user's own.
    free = layers.LBFGSB(distance).run(jnp.zeros(2), x=jnp.asarray([1.0, 3.0]))
    assert_allclose(free.params, [1, 3], atol=1e-7)
    held = layers.LBFGSB(distance)
    moved = jax.jacobian(lambda x: held.run(jnp.zeros(2), (0.0, 2.0), x=x).params)
    assert_allclose(moved(jnp.asarray([1.0, 3.0])), [[1, 0], [0, 0]], atol=1e-7)

    solver = layers.ProjectedGradient(distance, layers.projection_l2_ball)
    params, state = jnp.zeros(2), solver.init_state(jnp.zeros(2))
    for _ in range(3):
        params, state = solver.update(params, state, hyperparams_proj=1.0, x=jnp.ones(2))
    assert_allclose(params, 2**-0.5, atol=1e-7)


def test_a_number_bounds_every_row_of_a_function():
    point, normal = jnp.asarray([1.0, 2.0]), jnp.asarray([-0.5, 1.5])
    solver = layers.BoxOSQP(matvec_Q=lambda _, x: x, matvec_A=lambda _, x: (normal @ x)[None])
    found = solver.run(None, (None, -point), None, (0.3, 0.3)).params.primal[0]
    expected = point - (normal @ point - 0.3) / (normal @ normal) * normal
    assert_allclose(found, expected, atol=1e-12)


def test_the_mean_of_many_equal_values_is_theirs_in_single_precision():
    pert = layers.perturbations.make_perturbed_fun(lambda x: x.sum(), 5000, sigma=1e-12)
    found = pert(jnp.asarray([0.7, 4.5], jnp.float32), jax.random.key(0))
    assert found.dtype == jnp.float32
    assert_allclose(found, 5.2, rtol=2e-6)
