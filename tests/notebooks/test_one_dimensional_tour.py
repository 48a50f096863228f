"""The tour of one dimension runs, and what it says is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("one_dimensional_tour")]


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    return run_notebook(
        "one_dimensional_tour",
        tmp_path_factory.mktemp("figures"),
        MDSENS_STEPS="40",
    )


def test_the_solver_finds_the_root_of_the_closed_form(tour):
    names, _ = tour
    assert abs(float(names["x"]) - float(names["closed_form"](1.0, 2.5))) < 1e-14


def test_the_implicit_derivative_is_exact_and_the_others_are_not(tour):
    errors = tour[0]["errors"]
    assert errors["implicit"] < 1e-14
    # Over a step of 1e-6, rounding alone is some 1e-10: by luck it may be less.
    assert 1e-14 < errors["finite differences"] < 1e-7
    assert errors["unrolled, 5 steps"] > 0.1
    assert 1e-12 < errors["unrolled, 40 steps"] < 1e-7


def test_forward_and_reverse_mode_agree_with_the_derivative_by_hand(tour):
    names, _ = tour
    by_hand = -names["x"] * names["by_hand"]
    np.testing.assert_allclose(names["forward"], by_hand, rtol=1e-14)
    np.testing.assert_allclose(names["reverse"], [by_hand, names["by_hand"]], rtol=1e-14)


def test_the_second_derivative_is_that_by_hand(tour):
    names, _ = tour
    np.testing.assert_allclose(names["second"], -6 * names["x"] * names["by_hand"] ** 3, rtol=1e-13)


def test_slopes_at_many_loads_are_exact(tour):
    assert tour[0]["largest"] < 1e-14


def test_the_error_of_the_unrolled_derivative_first_grows(tour):
    by_step = tour[0]["by_step"]
    assert by_step[4] > 3 * by_step[1]
    assert np.all(np.diff(by_step[5:]) < 0)


def test_the_figure_is_drawn(tour):
    assert figure_is_drawn(tour[1] / "one_dimensional_tour.png")
