"""The notebook on data reweighting runs, and what its text claims is true."""

import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.slow,
    pytest.mark.xdist_group("data-reweighting"),
    pytest.mark.promotes("layers of models add vectors to matrices"),
]


@pytest.fixture(scope="module")
def reweighting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    return run_notebook("data_reweighting", folder, MDSENS_STEPS="1200", MDSENS_WIDTH="16")


def test_learned_weights_tell_wrong_labels_from_right_ones(reweighting):
    names = reweighting[0]
    learned, wrong = names["learned"], names["wrong"]
    # The chance that a right label weighs more than a wrong one.
    above = (learned[~wrong][:, None] > learned[wrong][None]).mean()
    assert above > 0.9


def test_the_network_comes_nearer_to_that_of_right_labels(reweighting):
    runs = {name: values[-1] for name, values in reweighting[0]["runs"].items()}
    assert runs["weights learned"] > runs["all labels alike"] + 0.02
    assert runs["right labels alone"] > runs["all labels alike"] + 0.02


def test_the_direction_descends(reweighting):
    assert min(reweighting[0]["cosines"]) > 0.1
    assert figure_is_drawn(reweighting[1] / "data_reweighting.png")
