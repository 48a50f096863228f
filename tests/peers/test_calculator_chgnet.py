"""A graph network in single precision as a potential, held against its own relaxations."""

import copy

import ase.build
import pytest

import mdsens
from mdsens.potentials import Calculator

pytestmark = [pytest.mark.peer, pytest.mark.slow]

WHY = "the learned model CHGNet is not installed (pip install chgnet, with torch): nothing to run"


@pytest.fixture(scope="module")
def make_calculator():
    """A calculator from a factor of the first weights of its last network."""
    model_of = pytest.importorskip("chgnet.model.model", reason=WHY)
    dynamics = pytest.importorskip("chgnet.model.dynamics", reason=WHY)
    import torch

    loaded = model_of.CHGNet.load(use_device="cpu", verbose=False)

    def make(factor):
        model = copy.deepcopy(loaded)
        weights = next(one for one in model.mlp.parameters() if one.ndim == 2)
        with torch.no_grad():
            weights.mul_(factor)
        return dynamics.CHGNetCalculator(model=model, use_device="cpu")

    return make


@pytest.mark.filterwarnings("ignore")
def test_a_learned_model_has_the_derivative_of_its_own_relaxations(make_calculator):
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.02, seed=1)
    start = mdsens.System.from_ase(atoms)
    potential, step = Calculator(make_calculator, {"factor": 1.0}), 0.02
    relaxed = mdsens.relax(start, potential, fmax=5e-3, max_steps=100)
    assert 1e-7 < potential.force_noise < 1e-3
    found = mdsens.sensitivity(relaxed, "energy", allow_unconverged=True)
    energies = [
        float(mdsens.relax(relaxed.system, changed, fmax=5e-3, max_steps=100).energy)
        for way in (1.0, -1.0)
        for changed in [potential.with_parameters({"factor": 1.0 + way * step})]
    ]
    numeric = (energies[0] - energies[1]) / (2.0 * step)
    apart = abs(float(found["energy"]["factor"]) - numeric)
    assert apart <= found.errors["energy"]["factor"] + 1e-2 * abs(numeric)
