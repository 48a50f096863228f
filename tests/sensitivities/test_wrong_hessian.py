"""A Hessian that is not the derivative of the forces, which every sensitivity must find out."""

import ase.build
import numpy as np
import pytest

import mdsens
from mdsens.errors import LinearSolveError


@pytest.mark.parametrize("error_estimate", [False, True])
@pytest.mark.parametrize("fmax", [1e-10, 1e-3])
def test_a_wrong_hessian_is_found_out_with_and_without_estimates(error_estimate, fmax):
    atoms = ase.build.bulk("Ar", "fcc", a=5.26, cubic=True).repeat(2)
    del atoms[0]
    potential = mdsens.potentials.LennardJones(epsilon=0.0104, sigma=3.405, cutoff=5.0)
    relaxed = mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=fmax)
    right = mdsens.sensitivity(relaxed, wrt="sigma", error_estimate=error_estimate)
    assert np.isfinite(np.asarray(right.positions["sigma"])).all()
    for scale in (1e-6, 1.0):
        wrong = mdsens.relax(mdsens.System.from_ase(atoms), potential, fmax=fmax)
        assert wrong.certificate.stable
        blocks = wrong.hessian_solver.matrix.data
        blocks[:20] *= 1.0 + scale * np.random.default_rng(0).uniform(size=(20, 1, 1))
        with pytest.raises(LinearSolveError, match="does not satisfy it"):
            mdsens.sensitivity(wrong, wrt="sigma", error_estimate=error_estimate)
