"""The benchmark of layers: its closed forms, and what it compares."""

import pytest

from benchmarks.layers.measure import ABSENT, measure, ratio
from benchmarks.layers.problems import PROBLEMS
from benchmarks.layers.tables import markdown


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.promotes("the problems are plain JAX")
def test_solutions_and_gradients_agree_with_the_closed_forms_of_the_benchmark(problem):
    row, *_ = measure(problem, PROBLEMS[problem](True), ["mdsens"], 0.0)
    assert row["status"] == "ok"
    assert row["solution_error"] < 1e-6
    assert row["gradient_error"] < 1e-6


@pytest.mark.promotes("SciPy's row is NumPy")
def test_what_a_program_cannot_state_has_no_row_and_what_cannot_run_says_why():
    rows = measure("conic", PROBLEMS["conic"](True), ["SciPy, scikit-learn"], 0.0)
    assert [row["status"] for row in rows] == [ABSENT["diffqcp"][1]]


def row(program, seconds, error):
    times = {f"{kind}_{clock}_s": seconds for kind in KINDS for clock in ("wall", "processor")}
    errors = {f"{kind}_error": error for kind in KINDS}
    return {"program": program, "variant": "", "status": "ok", "gradient_mib": 1.0} | times | errors


KINDS = ("solution", "gradient")


def test_what_is_not_as_exact_is_not_compared():
    own = row("mdsens", 2.0, 1e-10)
    assert ratio(row("other", 1.0, 0.1), own, "gradient") is None
    assert ratio(row("other", 5.0, 1e-9), own, "gradient") == 2.5


def test_the_table_says_why_others_are_ahead():
    rows = [row("mdsens", 2.0, 1e-10), row("optimistix", 1.0, 1e-9)]
    table = markdown("logistic", {"name": "logistic regression", "rows": rows})
    assert "| optimistix | 1e+03 (1e+03) | 1e-09 | 1e+03 (1e+03) | 1e-09 | 1 | 0.5 | 0.5 |" in table
    assert "optimistix is ahead: conjugate gradients, where mdsens" in table


def test_the_table_says_what_was_given_up():
    slow = row("other", 1.0, 1e-9) | {"gradient_over_s": 10.0}
    del slow["gradient_error"]
    table = markdown("qp", {"name": "quadratic programs", "rows": [row("mdsens", 2, 1e-9), slow]})
    assert "| other | 1e+03 (1e+03) | 1e-09 | > 10 s | – | 1 | 0.5 |  |" in table
