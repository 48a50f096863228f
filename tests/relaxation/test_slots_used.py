"""Relaxations of packings, whose sums over edges stop where the edges of a block do."""

import cases
import numpy as np
import pytest

import mdsens
from mdsens.relaxation import driver

pytestmark = pytest.mark.xdist_group("relaxation")


def test_a_packing_relaxed_over_the_slots_in_use_is_at_rest_and_has_derivatives(monkeypatch):
    monkeypatch.setattr(driver, "FEW", 0)
    system, potential = cases.jammed_packing()
    descent = driver.Descent(system, potential, None, 1e-12, 100)
    assert descent.landscape.edge_list.slots_used is not None
    equilibrium = mdsens.relax(system, potential, fmax=1e-12)
    assert equilibrium.landscape.edge_list.slots_used is None
    assert np.linalg.norm(np.asarray(equilibrium.forces), axis=1).max() <= 1e-12
    energy = mdsens.observables.energy()
    found = mdsens.sensitivity(equilibrium, [energy], mode="reverse")["energy"]
    # Euler's theorem: the energy is of first degree in epsilon.
    np.testing.assert_allclose(found["epsilon"] * potential.epsilon, equilibrium.energy, rtol=1e-9)
