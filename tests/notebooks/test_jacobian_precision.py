"""The figure of the precision of Jacobians: slopes, bounds, estimates, and unrolling."""

import re

import jupytext
import numpy as np
import pytest
from notebook_scripts import NOTEBOOKS, figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("jacobian_precision")]

PROBLEMS = ["ridge", "crystal"]


@pytest.fixture(scope="module")
def precision(tmp_path_factory):
    return run_notebook(
        "jacobian_precision",
        tmp_path_factory.mktemp("figures"),
        MDSENS_REPEAT="2",
        MDSENS_STOPS="7",
        MDSENS_BOUND="0",
    )


@pytest.fixture(scope="module")
def reported():
    """The numbers printed in the notebook, in the full setting, by problem."""
    executed = jupytext.read(NOTEBOOKS / "jacobian_precision.ipynb")
    text = "".join(
        output.get("text", "")
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    ridge, crystal = text.split("ridge: the implicit")[1].split("crystal: the implicit")
    return {"ridge": ridge, "crystal": crystal}


def numbers_after(words, text):
    line = next(line for line in text.splitlines() if words in line)
    return [float(number) for number in re.findall(r"\d+\.\d+", line.split(words)[1])]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_implicit_error_falls_as_fast_as_that_of_the_solution(precision, problem):
    names, _ = precision
    assert abs(names["slope"](names[problem]) - 1) < 0.1


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_estimate_is_within_a_factor_of_three_over_six_decades(precision, problem):
    errors = precision[0][problem]
    assert errors["implicit"].max() / errors["implicit"].min() > 1e6
    ratio = errors["estimate"] / errors["implicit"]
    assert ratio.min() > 1 / 3
    assert ratio.max() < 3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_unrolling_is_worse_at_every_iterate(precision, problem):
    errors = precision[0][problem]
    assert np.all(errors["unrolled"] > 1.5 * errors["implicit"])


def test_unrolling_gradient_descent_is_worse_by_a_factor_that_grows(precision):
    errors = precision[0]["ridge"]
    assert np.all(np.diff(errors["unrolled"] / errors["implicit"]) > 0)


def test_the_bound_is_above_the_error_and_of_its_size(precision):
    errors = precision[0]["ridge"]
    assert np.all(errors["bound"] >= errors["implicit"])
    assert np.all(errors["bound"] < 10 * errors["implicit"])


def test_the_unrolled_minimiser_takes_the_steps_of_the_relaxations(precision):
    assert precision[0]["same"] < 1e-12


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_full_setting_reports_what_the_text_says(reported, problem):
    text = reported[problem]
    assert numbers_after("falls over", text)[0] > 8
    assert abs(numbers_after("solution error:", text)[0] - 1) < 0.1
    assert numbers_after("bound / implicit error:", text)[0] >= 1
    assert numbers_after("bound / implicit error:", text)[1] < 10
    lowest, highest = numbers_after("estimate / implicit error:", text)
    assert 0.9 < lowest <= highest < 1.1
    assert numbers_after("unrolled error / implicit error:", text)[0] > 1.5


def test_the_figure_is_drawn(precision):
    assert figure_is_drawn(precision[1] / "jacobian_precision.png")
