"""The notebook on deep equilibrium layers runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.xdist_group("deep-equilibrium"),
]


@pytest.fixture(scope="module")
def deep_equilibrium(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return run_notebook("deep_equilibrium", folder, MDSENS_STEPS="40", MDSENS_WIDTH="16")


def test_exact_gradient_is_that_of_finite_differences(deep_equilibrium):
    assert deep_equilibrium[0]["finite_difference_error"] < 1e-3


def test_errors_of_phantom_gradients_fall_with_their_terms(deep_equilibrium):
    names = deep_equilibrium[0]
    for penalty, errors in names["errors"].items():
        assert np.all(np.diff(errors) < 0)
        # Eight more terms: at most a few times the eighth power of the spectral radius.
        assert errors[-1] < 10 * names["radii"][penalty] ** 8 * errors[-2]
    assert names["one_step_error"] == pytest.approx(names["errors"][names["PENALTIES"][0]][0])


def test_the_figure_is_drawn(deep_equilibrium):
    assert figure_is_drawn(deep_equilibrium[1] / "deep_equilibrium.png")
