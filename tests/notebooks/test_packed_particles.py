"""The notebook on packed particles runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("packed_particles")]


@pytest.fixture(scope="module")
def packings(tmp_path_factory):
    """Two small packings of each density; the second of the looser ones has two rattlers."""
    return run_notebook(
        "packed_particles",
        tmp_path_factory.mktemp("figures"),
        MDSENS_SEEDS="2",
        MDSENS_STEPS="600",
        MDSENS_DISCS="20",
        MDSENS_LOOSE="0.88",
    )


def test_implicit_derivatives_agree_with_finite_differences_on_fixed_contacts(packings):
    names, _ = packings
    assert names["one_error"] < 1e-5
    for ensemble in (names["dense"], names["loose"]):
        assert np.isfinite(ensemble.finite_difference_errors).all()
        assert ensemble.finite_difference_errors.max() < 1e-5


def test_implicit_derivatives_do_not_depend_on_the_way_to_the_minimum(packings):
    names, _ = packings
    moved = names["determined"](names["implicit"], names["equilibrium"])
    np.testing.assert_allclose(np.abs(moved).sum(), names["dense"].implicit_norms[0], rtol=1e-5)


def test_no_unrolled_derivative_has_arrived_after_fifty_or_a_hundred_steps(packings):
    for name in ("dense", "loose"):
        for step in (50, 100):
            assert packings[0][name].distances_at(step).min() > 0.1


def test_the_unrolled_derivative_first_grows(packings):
    assert packings[0]["growth"].min() > 5


def test_derivatives_arrive_after_the_last_change_of_contacts(packings):
    names, _ = packings
    for ensemble in (names["dense"], names["longer"]):
        if ensemble is None:
            continue
        arrived = ensemble.distances[-1] < names["ARRIVED"]
        off = ensemble.distances[:, arrived] >= names["ARRIVED"]
        arrivals = [ensemble.steps[np.flatnonzero(o)[-1]] for o in off.T]
        assert np.all(arrivals >= names["last_changes"](ensemble)[arrived])


def test_late_derivatives_arrive_in_the_end(packings):
    names, _ = packings
    assert names["still_late"] == 0


def test_unrolled_rows_of_rattlers_are_no_derivative_of_the_minimum(packings):
    names, _ = packings
    loose = names["loose"]
    assert names["with_rattlers"].tolist() == [False, True]
    assert np.all(loose.implicit[loose.rattlers] == 0.0)
    assert names["rattler_rows"][-1].min() > 0.1
    # Counted in, the packing with rattlers stays away from its implicit derivative.
    assert names["whole"][-1, 1] > 0.01
    np.testing.assert_allclose(names["whole"][:, 0], loose.distances[:, 0])


def test_the_figure_is_drawn(packings):
    assert figure_is_drawn(packings[1] / "packed_particles.png")
