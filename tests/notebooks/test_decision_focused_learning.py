"""The notebook on decision-focused learning runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.xdist_group("decision-focused-learning"),
]


@pytest.fixture(scope="module")
def decisions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    name = "decision_focused_learning"
    return run_notebook(name, folder, MDSENS_STEPS="40", MDSENS_DEGREES="8")


def test_the_gradient_is_that_of_finite_differences(decisions):
    assert decisions[0]["gradient_error"] < 1e-6


def test_the_choices_are_the_best_ones_of_their_values(decisions):
    """Of a program with two scarce resources at most two jobs are done in part."""
    names = decisions[0]
    chosen = np.asarray(names["choice"](names["values"]))
    partly = (chosen > 1e-9) & (chosen < 1 - 1e-9)
    assert partly.sum(axis=1).max() <= 2
    assert np.all(chosen @ names["resources"].T <= 0.3 * names["resources"].sum(1) + 1e-9)


def test_decision_focused_learning_beats_two_stages_by_far_more_than_the_errors(decisions):
    run = decisions[0]["runs"][8]
    gain = run["two stages"] - run["decision-focused"]
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert run["decision-focused"].mean() < 0.5 * run["two stages"].mean()
    # It predicts the values themselves worse.
    assert run["errors"][1] > run["errors"][0]


def test_most_programs_are_solved_by_their_last_active_rows(decisions):
    assert decisions[0]["runs"][8]["kept"].mean() > 0.7
    assert figure_is_drawn(decisions[1] / "decision_focused_learning.png")
