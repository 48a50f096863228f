"""The notebook on dictionaries for a task runs, and what its text claims is true."""

import jax
import numerical
import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook
from sklearn.linear_model import LogisticRegression

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("task-driven-dictionary-learning")]


@pytest.fixture(scope="module")
def dictionaries(tmp_path_factory):
    return run_notebook(
        "task_driven_dictionary_learning",
        tmp_path_factory.mktemp("figures"),
        MDSENS_SPLITS="3",
        MDSENS_STEPS="20",
        MDSENS_PROBLEMS="prognosis",
    )


def test_the_codes_are_sparse(dictionaries):
    share = np.mean(np.asarray(dictionaries[0]["codes"]) == 0)
    assert 0.1 < share < 0.9


def test_the_implicit_derivative_is_the_one_derived_by_hand(dictionaries):
    names, _ = dictionaries
    assert names["difference_by_hand"] < 1e-10
    assert np.max(np.abs(names["formula"])) > 0.1


def test_a_loss_without_a_formula_is_differentiated_too(dictionaries):
    names, _ = dictionaries
    assert names["difference_robust"] < 1e-7
    assert np.max(np.abs(names["judge"])) > 0.1


def test_the_parts_of_a_split_share_no_patient_and_leave_none_out(dictionaries):
    names, _ = dictionaries
    for name, (X, y, sizes) in names["PROBLEMS"].items():
        parts = names["split"](name, 0)
        rows = {tuple(np.round(row, 9)) for features, _ in parts for row in np.asarray(features)}
        assert len(rows) == len(X)
        assert tuple(len(labels) for _, labels in parts[:2]) == sizes
        assert sum(labels.sum() for _, labels in parts) == y.sum()


def test_the_gradient_of_the_task_is_that_of_finite_differences(dictionaries):
    names, _ = dictionaries
    X, y = names["split"]("prognosis", 0)[0]
    dictionary, classifier = names["found"]["prognosis"][0]["models"][1]
    change = np.random.default_rng(1).normal(size=dictionary.shape)
    exact = names["coder"](tol=1e-12)

    @jax.jit
    def loss(step):
        codes = names["encode"](dictionary + step * change, X, 0.1, exact)
        return names["classification"](classifier, codes, y, 0.01)

    noise = numerical.rounding(lambda batch: [loss(step) for step in batch], 0.0)
    # Wider steps meet codes that turn zero.
    judge = numerical.derivative(loss, 0.0, 1e-5, noise=noise)
    numerical.agrees(jax.jit(jax.grad(loss))(0.0), judge, rtol=1e-4)


def test_the_task_improves_a_dictionary_for_the_prognosis(dictionaries):
    gain = dictionaries[0]["gains"]["prognosis"][:, 2]
    assert gain.mean() > 1.0


def test_the_task_driven_dictionary_is_on_par_with_regression_on_all_measurements(dictionaries):
    assert np.all(np.abs(dictionaries[0]["gains"]["prognosis"][:, :2].mean(axis=0)) < 3.0)


def test_the_atoms_turn_from_reconstruction_to_the_weights_of_regression(dictionaries):
    names, _ = dictionaries
    assert np.all(np.diff(names["missed"]["prognosis"]) > 0)
    before, after = names["aligned"]["prognosis"].mean(axis=0)
    assert before < 0.5 < 0.7 < after


def test_l2_regression_scores_patients_as_scikit_learn_does(dictionaries):
    names, _ = dictionaries
    X, y = names["split"]("prognosis", 0)[0]
    penalties = names["PENALTIES"]
    weights, intercepts = names["regress"](X, y, 0 * penalties, penalties)
    for ours, penalty in zip(weights @ X.T + intercepts[:, None], penalties, strict=True):
        theirs = LogisticRegression(C=1 / (float(penalty) * len(y)), tol=1e-8).fit(X, y)
        # The gradient is below 1e-5, the smallest curvature about 1e-3.
        np.testing.assert_allclose(ours, theirs.decision_function(X), atol=1e-2)


def test_the_figure_is_drawn(dictionaries):
    assert figure_is_drawn(dictionaries[1] / "task_driven_dictionary_learning.png")
