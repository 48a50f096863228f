"""The notebook on dataset distillation runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("dataset-distillation")]


@pytest.fixture(scope="module")
def distillation(tmp_path_factory):
    return run_notebook(
        "dataset_distillation",
        tmp_path_factory.mktemp("figures"),
        MDSENS_OUTER_STEPS="25",
        MDSENS_INNER_STEPS="300",
        MDSENS_STEP_COUNTS="30,200",
    )


def test_distilling_lowers_the_loss_of_the_training_images(distillation):
    for result in distillation[0]["results"].values():
        assert result.value < 0.05 * result.values[0]


def test_implicit_and_unrolled_distillation_go_the_same_way(distillation):
    results = distillation[0]["results"]
    implicit, unrolled = results["implicit"].values, results["unrolled"].values
    np.testing.assert_allclose(implicit[:10], unrolled[:10], rtol=2e-3)
    np.testing.assert_allclose(implicit, unrolled, rtol=0.05)


def test_implicit_and_unrolled_gradients_agree_at_a_solution(distillation):
    errors = distillation[0]["gradient_errors"]
    assert errors["implicit"][-1] < 1e-10
    assert errors["unrolled"][-1] < 1e-10


def test_after_few_steps_the_implicit_gradient_is_the_better_one(distillation):
    errors = distillation[0]["gradient_errors"]
    assert 1e-8 < errors["implicit"][0] < errors["unrolled"][0]


def test_an_unrolled_gradient_takes_longer_than_an_implicit_one(distillation):
    times = distillation[0]["gradient_times"]
    assert times["unrolled"][-1] > 1.5 * times["implicit"][-1]


def test_ten_distilled_images_teach_more_than_ten_means_or_examples(distillation):
    accuracies = distillation[0]["accuracies"]
    distilled = accuracies["ten distilled images, implicit"]
    assert distilled > 0.95
    assert distilled > accuracies["the mean image of each class"] + 0.04
    assert distilled > accuracies["the first image of each class"] + 0.2
    assert distilled > accuracies["all 1,200 images"] - 0.01


def test_the_figure_of_the_distilled_images_is_drawn(distillation):
    assert figure_is_drawn(distillation[1] / "dataset_distillation.png")
