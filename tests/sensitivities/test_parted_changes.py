"""Changes of forces with parameters of pairs of species, several from one pass over the edges."""

import functools

import ase.build
import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.potentials import LennardJones, StillingerWeber
from mdsens.sensitivities import parted_changes
from mdsens.sensitivities.linear_response import LinearResponse
from mdsens.sensitivities.parted_changes import apart, species_acted_on
from mdsens.sensitivities.variables import Variables, condition_at

SPECIES = ("Ne", "Ar", "Kr", "Xe", "Rn")
#: Change of a parameter in differences of forces.
STEP = 1e-5


def alloy(parameters=("epsilon", "sigma")):
    """A small crystal of five species that differ a little, in no order, with a vacancy."""
    generator = np.random.default_rng(11)
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True).repeat(2)
    atoms.symbols = generator.choice(SPECIES, len(atoms))
    del atoms[5]
    tables = {}
    for name, size in (("epsilon", 0.0104), ("sigma", 3.4)):
        spread = generator.uniform(0.98, 1.02, (5, 5))
        tables[name] = size * (spread + spread.T) / 2 if name in parameters else size
    potential = LennardJones(**tables, cutoff=5.2, onset=4.6, species=SPECIES)
    return mdsens.System.from_ase(atoms), potential


@pytest.fixture(scope="module")
def relaxed():
    return mdsens.relax(*alloy(), fmax=1e-10)


def test_groups_hold_all_and_no_two_of_one_act_on_the_same():
    pairs = [frozenset({i, j}) for i in range(10) for j in range(i, 10)]
    groups = apart(pairs)
    assert sorted(k for members in groups for k in members) == list(range(55))
    for members in groups:
        assert sum(len(pairs[k]) for k in members) == len(set().union(*(pairs[k] for k in members)))
    # Each species takes part in ten pairs, so that there are no fewer than ten groups.
    assert 10 <= len(groups) <= 20


def test_each_change_is_the_difference_of_forces(relaxed, monkeypatch):
    monkeypatch.setattr(parted_changes, "WORTH_PARTING", 0)
    landscape, names = relaxed.landscape, list(relaxed.potential.parameter_names)
    asked = []

    def counted(*given):
        asked.append(given)
        return compute(*given)

    compute = parted_changes.compiled_change
    monkeypatch.setattr(parted_changes, "compiled_change", counted)
    response = LinearResponse(landscape, relaxed.q, relaxed.hessian_solver)
    found = response._changes(
        names, response._directions(names), species_acted_on(landscape, names)
    )
    assert len(asked) < len(names) / 2
    variables = Variables.of(landscape, names)
    forces = jax.jit(functools.partial(condition_at, landscape, relaxed.q))
    for name, change in zip(names, found, strict=True):
        above, below = (
            np.asarray(forces(jax.tree.map(jnp.asarray, variables.changed(name, step))))
            for step in (STEP, -STEP)
        )
        difference = (above - below) / (2 * STEP)
        scale = np.abs(difference).max()
        np.testing.assert_allclose(change, difference, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("estimate", [False, True])
def test_sensitivities_are_the_same_and_in_the_order_asked_for(relaxed, monkeypatch, estimate):
    names = ["sigma[Ar-Kr]", "epsilon[Xe-Xe]", "sigma[Ne-Ar]", "epsilon[Kr-Rn]", "sigma[Kr-Xe]"]
    given = {"wrt": names, "mode": "forward", "error_estimate": estimate}
    usual = mdsens.sensitivity(relaxed, "energy", **given)
    monkeypatch.setattr(parted_changes, "WORTH_PARTING", 0)
    parted = mdsens.sensitivity(relaxed, "energy", **given)
    assert list(parted.tangents.q) == names
    assert len(parted.tangents.residuals) == len(names)
    for name in names:
        expected = np.asarray(usual.positions[name])
        difference = np.asarray(parted.positions[name]) - expected
        assert np.abs(difference).max() <= 1e-11 * np.abs(expected).max()
        if estimate:
            ahead = np.asarray(usual.tangents.ahead[name])
            moved = np.asarray(parted.tangents.ahead[name]) - ahead
            assert np.abs(moved).max() <= 1e-9 * np.abs(ahead).max()


def test_what_acts_on_more_than_two_species_is_left_alone(relaxed, monkeypatch):
    monkeypatch.setattr(parted_changes, "WORTH_PARTING", 0)
    names = list(relaxed.potential.parameter_names)
    assert species_acted_on(relaxed.landscape, names) is not None
    system, one_sigma = alloy(("epsilon",))
    shared = mdsens.relax(system, one_sigma, max_steps=0).landscape
    assert species_acted_on(shared, ["epsilon[Ne-Ar]"]) is not None
    assert species_acted_on(shared, ["epsilon[Ne-Ar]", "sigma"]) is None
    stretched = mdsens.relax(*alloy(), cell="isotropic", max_steps=0).landscape
    assert species_acted_on(stretched, names) is None
    atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True)
    tables = {"epsilon": np.full((1, 1), 2.1683), "sigma": np.full((1, 1), 2.0951)}
    triplets = StillingerWeber(**tables, **cases.SILICON, species=("Si",))
    bonded = mdsens.relax(mdsens.System.from_ase(atoms), triplets, max_steps=0).landscape
    assert species_acted_on(bonded, ["sigma[Si-Si]"]) is None
    monkeypatch.setattr(parted_changes, "WORTH_PARTING", 10**9)
    assert species_acted_on(relaxed.landscape, names) is None
