"""The curse of unrolling: what the notebook says about burn-ins and remedies."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("curse_of_unrolling")]


@pytest.fixture(scope="module")
def curse(tmp_path_factory):
    return run_notebook(
        "curse_of_unrolling",
        tmp_path_factory.mktemp("figures"),
        MDSENS_REPEAT="2",
        MDSENS_STEPS="150",
    )


def test_unrolling_in_one_dimension_has_the_closed_form(curse):
    names, _ = curse
    np.testing.assert_allclose(names["error_by_step"][1.98], names["formula"], rtol=1e-12)
    assert np.all(np.diff(names["error_by_step"][1.98]) > 0)
    assert np.all(np.diff(names["error_by_step"][0.5]) <= 0)


def test_unrolling_in_fifty_dimensions_has_the_closed_form_of_every_mode(curse):
    names, _ = curse
    overshoots = names["fast"] * names["spectrum"]
    for step in (1, 47, 500):
        modes = names["closed_form"](overshoots, step) * names["jacobian"]
        expected = np.linalg.norm(modes) / np.linalg.norm(names["jacobian"])
        np.testing.assert_allclose(names["long"][1][step], expected, rtol=1e-8)


def test_the_long_step_burns_in_and_the_short_one_does_not(curse):
    names, _ = curse
    assert 7 < names["long"][1].max() < 8
    assert names["long"][0][names["long"][1].argmax()] < 0.15
    assert 200 < names["burn_in"](names["long"][1]) < 250
    assert names["short"][1].max() <= 1 + 1e-12
    assert names["burn_in"](names["short"][1]) <= 1


def test_in_the_end_the_long_step_is_better(curse):
    names, _ = curse
    assert 500 < names["crossing"] < 1000
    assert names["long"][1][-1] < names["short"][1][-1]


def test_the_bound_of_the_paper_holds(curse):
    names, _ = curse
    assert np.all(names["long"][1][1:] <= names["bound"] * (1 + 1e-12))


def test_implicit_derivatives_never_get_worse(curse):
    assert np.all(np.diff(curse[0]["implicit"]) < 0)


def test_peak_and_length_of_the_burn_in_grow_with_the_step_size(curse):
    names, _ = curse
    peaks, lengths = np.array(names["peaks"]), np.array(names["lengths"])
    assert np.all(np.diff(peaks) >= -1e-12)
    assert np.all(np.diff(lengths) >= 0)
    assert peaks[-1] > 50
    assert lengths[-1] > 2000


def test_a_slightly_shorter_step_avoids_most_of_the_burn_in(curse):
    names, _ = curse
    for steps in (20, 200, 1000):
        iterate, derivative = names["budgets"][steps]
        best = np.argmin(derivative)
        assert 1.6 < names["sizes"][best] < names["fast"]
        assert abs(names["sizes"][np.argmin(iterate)] - names["sizes"][best]) < 0.03
        assert derivative[best] < 0.01 * names["left_at_fast"][steps]


def test_chebyshev_burns_in_and_sobolev_does_not(curse):
    names, _ = curse
    until = names["steps_until"]
    assert names["fastest"][1].max() > names["long"][1].max()
    assert names["balanced"][1].max() <= 1 + 1e-12
    assert until(names["balanced"][1], 0.01) < until(names["fastest"][1], 0.01)
    assert until(names["balanced"][0], 0.01) > until(names["fastest"][0], 0.01)


def test_chebyshev_iterates_are_those_of_its_polynomials(curse):
    names, _ = curse
    mapped = (1.01 - 2 * names["spectrum"]) / 0.99
    outside = 1.01 / 0.99
    for t in (1, 2, 30):
        factor = np.polynomial.chebyshev.chebval(mapped, np.eye(t + 1)[t])
        factor /= np.cosh(t * np.arccosh(outside))
        expected = np.linalg.norm(factor * names["solution"]) / np.linalg.norm(names["solution"])
        np.testing.assert_allclose(names["fastest"][0][t], expected, rtol=1e-9)


@pytest.mark.parametrize("degree", [1, 2, 3, 6])
def test_sobolev_iterates_are_those_of_the_least_polynomials(curse, degree):
    """The minimum of the Sobolev norm with P(0) = 1, by least squares over monomials."""
    names, _ = curse
    nodes, weights = np.polynomial.legendre.leggauss(30)
    nodes = 0.01 + 0.99 * (nodes + 1) / 2
    powers = np.arange(1, degree + 1)
    rows = np.concatenate(
        [nodes[:, None] ** powers, np.sqrt(names["eta"]) * powers * nodes[:, None] ** (powers - 1)]
    )
    scales = np.sqrt(np.concatenate([weights, weights]))
    right = np.concatenate([-np.ones(30), np.zeros(30)])
    coefficients = np.linalg.lstsq(rows * scales[:, None], right * scales)[0]
    factor = 1 + names["spectrum"][:, None] ** powers @ coefficients
    expected = np.linalg.norm(factor * names["solution"]) / np.linalg.norm(names["solution"])
    np.testing.assert_allclose(names["balanced"][0][degree], expected, rtol=1e-6)


def test_dropping_early_steps_lowers_the_peak(curse):
    names, _ = curse
    peaks = [names["long"][1].max()]
    for skipped, (at, error) in names["dropped"].items():
        peaks.append(error[at > skipped + 25].max())
        assert 0.3 * names["long"][1][1000] < error[at == 1000][0] < names["long"][1][1000]
    assert peaks[0] > 2 * peaks[1]
    assert peaks[1] > 2 * peaks[2]


def test_the_truncated_derivative_is_that_of_unrolled(curse):
    names, _ = curse
    at, error = names["dropped"][50]
    np.testing.assert_allclose(names["truncated"], error[at == 150][0], rtol=1e-10)


def test_a_warm_start_has_no_burn_in(curse):
    names, _ = curse
    assert names["warm"].max() <= 1
    assert names["warm"][150] < 0.01 * names["long"][1][150]


def test_unrolled_relaxations_burn_in(curse):
    for distance, error in curse[0]["crystal"].values():
        assert 1.3 < error.max() < 10
        assert error[-1] < 0.01
        last = curse[0]["burn_in"](error)
        assert distance[last] < 0.5
        assert np.all(error[last + 1 :] > 2 * distance[last + 1 :])


def test_the_figure_is_drawn(curse):
    assert figure_is_drawn(curse[1] / "curse_of_unrolling.png")
