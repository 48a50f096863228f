"""Edges that are found anew: forces at the end of the old ones' time miss no contact."""

import numpy as np
import pytest

from benchmarks.discs import Contacts
from benchmarks.systems import Case
from benchmarks.with_mdsens import potential_of, system_of
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.relaxation import driver


def test_forces_where_edges_end_are_those_in_closed_form_and_are_not_computed_anew(monkeypatch):
    case, found, again = Case("discs", 64, seed=3), [], []
    every = np.ones(64, bool)

    def compare(steps, energy, force, positions):
        expected = np.linalg.norm(Contacts(case, positions, every).forces(), axis=1).max()
        found.append((force, expected))

    monkeypatch.setattr(driver, "refresh", lambda *given: again.append(given))
    system = system_of(case, case.positions())
    descent = driver.Descent(system, potential_of(case, ""), None, 1e-6, 400, callback=compare)
    refreshed = []
    find = descent._find_edges
    monkeypatch.setattr(
        descent, "_find_edges", lambda *a, **k: refreshed.append(1) or find(*a, **k)
    )
    descent.run(LBFGS(), 1e-6, 400)
    assert len(refreshed) >= 5
    assert not again
    forces, expected = np.transpose(found)
    np.testing.assert_allclose(forces, expected, rtol=1e-9)
    assert forces[-1] == pytest.approx(descent.forces[-1][-1])
