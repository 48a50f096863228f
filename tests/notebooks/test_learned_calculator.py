"""The notebook on a learned model runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

WHY = "the learned model CHGNet is not installed (pip install chgnet, with torch): nothing to run"


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    pytest.importorskip("chgnet", reason=WHY)
    return run_notebook("learned_calculator", tmp_path_factory.mktemp("figures"))


def test_derivatives_are_those_of_relaxing_again_within_their_errors(learned):
    names = learned[0]
    apart = np.abs(names["jacobian"][:, 1] - names["numeric"])
    # Differences of relaxations that end at a force of 5e-4 eV/Ang, over 0.02.
    assert np.all(apart < 3.0 * names["errors"][:, 1] + 0.05 * np.abs(names["numeric"]))


def test_a_sensitivity_takes_few_calls(learned):
    assert learned[0]["sensitivity_calls"] < 150


def test_steps_lead_towards_what_was_measured(learned):
    names = learned[0]
    assert np.linalg.norm(names["after"]) < 0.4 * np.linalg.norm(names["before"])
    assert figure_is_drawn(learned[1] / "learned_calculator.png")
