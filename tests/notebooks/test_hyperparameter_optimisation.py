"""The notebook on hyperparameter optimisation runs, and what its text claims is true."""

import numerical
import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("hyperparameter-optimisation")]


@pytest.fixture(scope="module")
def optimisation(tmp_path_factory):
    return run_notebook(
        "hyperparameter_optimisation",
        tmp_path_factory.mktemp("figures"),
        MDSENS_FEATURES="80",
        MDSENS_SAMPLES="60",
        MDSENS_INNER_STEPS="300",
        MDSENS_SOLVERS="projected gradient",
        MDSENS_OUTER_STEPS="5",
    )


def test_both_derivatives_agree_with_finite_differences(optimisation):
    names, errors = optimisation[0], optimisation[0]["errors"]

    def loss(penalty):
        return names["judge"](penalty, names["middle_data"])[0]

    noise = numerical.rounding(lambda batch: [loss(penalty) for penalty in batch], 2.0)
    judge = numerical.derivative(loss, 2.0, names["STEP"], noise=noise)
    numerical.agrees(names["reference"], judge, rtol=1e-6)
    assert len(errors) == 2
    assert max(errors.values()) < 1e-5


def test_the_validation_loss_falls_in_every_outer_step(optimisation):
    for values in optimisation[0]["histories"].values():
        assert np.all(np.diff(values) < 0)


def test_implicit_and_unrolled_losses_fall_the_same_way(optimisation):
    assert max(optimisation[0]["differences"].values()) < 1e-6


def test_unrolling_with_few_iterates_in_memory_takes_longer_than_implicit(optimisation):
    seconds = optimisation[0]["seconds"]
    implicit, _, few = (seconds["projected gradient", way, 80] for way in optimisation[0]["WAYS"])
    assert few > implicit


def test_the_penalty_of_the_digits_is_better_than_any_on_the_grid(optimisation):
    names = optimisation[0]
    assert names["found"].converged
    assert names["found"].value < names["found"].values[0]
    assert names["found"].value <= min(names["grid_losses"]) + 1e-8


def test_the_figure_of_the_outer_loop_is_drawn(optimisation):
    assert figure_is_drawn(optimisation[1] / "hyperparameter_optimisation.png")
