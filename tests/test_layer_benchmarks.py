"""The benchmark of layers: its closed forms, and what it compares."""

import pytest

from benchmarks.layers.__main__ import verdict
from benchmarks.layers.worker import measure


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["lasso", "root", "isotonic", "bfgs"])
def test_gradients_agree_with_the_closed_forms_of_the_benchmark(problem):
    row = measure(
        {"problem": problem, "program": "mdsens", "variant": "", "quick": True, "seconds": 0.0}
    )
    assert row["status"] == "ok"
    assert row["gradient_error"] < 1e-8


def test_a_problem_that_a_program_cannot_state_is_said_so():
    request = {"problem": "qp", "program": "optimistix", "variant": "", "quick": True, "seconds": 0}
    assert measure(request)["status"] == "has none"


def test_a_wrong_gradient_is_not_compared():
    own = {"status": "ok", "gradient_s": 2.0, "gradient_error": 1e-10}
    assert verdict({"status": "ok", "gradient_s": 1.0, "gradient_error": 0.1}, own) == (
        "wrong gradient"
    )
    assert verdict({"status": "ok", "gradient_s": 5.0, "gradient_error": 1e-9}, own) == "2.5 times"
