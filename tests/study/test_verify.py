"""verify finds right derivatives right and wrong ones wrong."""

import numpy as np
import pytest

from mdsens.errors import RelaxationError
from mdsens.study import load_study, verify_study
from mdsens.study import verify as module


@pytest.fixture
def packing():
    return load_study(
        "soft-spheres-2d",
        ["structure.count=16", "relaxation.method=auto", "structure.seed=1",
         'sensitivity.observables=["pressure", "mean_squared_displacement"]'],
    )  # fmt: skip


def test_all_derivatives_of_a_packing_are_right(packing):
    lines = []
    found = verify_study(packing, lines.append)
    assert found.passed
    assert found.largest_error < 1e-6
    assert {(c.observable, c.parameter) for c in found.comparisons} == {
        (observable, parameter)
        for observable in ("positions", "pressure", "mean_squared_displacement")
        for parameter in ("diameter[large]", "diameter[small]", "epsilon")
    }
    assert len(lines) >= 3


def test_a_wrong_derivative_is_found(trimer, monkeypatch):
    right = module._implicit

    def wrong(implicit, observable, name, base):
        return right(implicit, observable, name, base) * (1.0 + 1e-5 * (name == "sigma"))

    monkeypatch.setattr(module, "_implicit", wrong)
    found = verify_study(load_study(trimer))
    assert not found.passed
    bad = {(c.observable, c.parameter) for c in found.comparisons if c.error > found.tolerance}
    # The energy does not depend on sigma, and a factor does not change zero.
    assert bad == {("positions", "sigma"), ("distance(0,1)", "sigma")}


def test_a_step_that_changes_the_contacts_is_halved(packing):
    lines = []
    found = verify_study(
        load_study("soft-spheres-2d", [
            "structure.count=16", "relaxation.method=auto", "structure.seed=1", "verify.step=0.2",
            'sensitivity.observables=["pressure"]', 'sensitivity.parameters=["diameter[small]"]',
        ]),
        lines.append,
    )  # fmt: skip
    assert any("halving" in line for line in lines)
    assert all(comparison.halvings > 0 for comparison in found.comparisons)


def test_a_minimum_that_cannot_be_followed_is_an_error(trimer, monkeypatch):
    monkeypatch.setattr(module._Differences, "_trouble", lambda *_: "another minimum is reached")
    with pytest.raises(RelaxationError, match="same minimum"):
        verify_study(load_study(trimer))


def test_a_parameter_that_is_zero_takes_an_absolute_step(trimer):
    text = (trimer / "study.toml").read_text()
    head, tail = text.split("[potential]")[0], text.split("cutoff = 12.0\n")[1]
    (trimer / "study.toml").write_text(
        head
        + '[potential]\ntype = "stillinger-weber"\nepsilon = 2.0\nsigma = 3.3\na = 1.8\n'
        + "lambda_ = 21.0\ngamma = 1.2\ncosta0 = 0.5\nA = 7.0\nB = 0.6\np = 4.0\nq = 0.0\n".replace(
            "costa0", "costheta0"
        )
        + tail
    )
    found = verify_study(load_study(trimer, ['sensitivity.parameters=["q"]']))
    assert found.passed
    assert {comparison.step for comparison in found.comparisons} == {1e-3}
    assert all(np.linalg.norm(c.implicit) > 0.01 for c in found.comparisons)


def test_the_relative_error_of_a_vanishing_derivative_is_no_quotient_of_zeros():
    derivatives = {"a": np.array(0.0), "b": np.array(2.0)}
    parameters = {"a": 1.0, "b": 0.0}
    assert module.relative_error(np.array(0.0), derivatives, "a", parameters, 0.0) == 0.0
    error = module.relative_error(np.array(2e-6), derivatives, "a", parameters, 0.0)
    assert error == pytest.approx(1e-3)
    assert module.relative_error(np.array(2.2), derivatives, "b", parameters, 0.0) == (
        pytest.approx(0.1)
    )
