"""Many systems relaxed side by side: each as if it were alone."""

import os
import subprocess
import sys

import ase.build
import cases
import equinox as eqx
import jax
import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError, RelaxationError

pytestmark = pytest.mark.xdist_group("relax-batch")
LJ = cases.POTENTIALS["lj-smooth"]
BINARY = cases.POTENTIALS["lj-binary"]
A, B = BINARY.species


def clusters():
    """Free clusters of four and five atoms, of one and two species, one with atoms held."""
    five = cases.bipyramid()
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.41
    tetrahedron[0] += 0.03
    return [
        five,
        mdsens.System(tetrahedron, None, (B,), units="reduced"),
        cases.bipyramid((B, A), (0, 1, 1, 0, 1)).with_fixed([0, 1, 2]),
        mdsens.System(tetrahedron + 5.0, None, (A, B), [0, 1, 1, 0], units="reduced"),
        five.with_positions(five.positions * 1.02),
    ]


@pytest.fixture(scope="module")
def relaxed():
    return mdsens.relax_batch(clusters(), BINARY, fmax=1e-12, batch_size=2)


def largest_force(equilibrium):
    free = ~np.asarray(equilibrium.system.fixed)
    return np.linalg.norm(np.asarray(equilibrium.forces)[free], axis=1).max()


@pytest.mark.slow
@pytest.mark.parametrize("index", [1])
def test_each_system_relaxes_as_if_it_were_alone(relaxed, index):
    alone = mdsens.relax(clusters()[index], BINARY, fmax=1e-12)
    positions = relaxed.positions[index][relaxed.mask[index]]
    np.testing.assert_allclose(positions, alone.positions, atol=1e-10, rtol=0)
    assert relaxed.energies[index] == pytest.approx(float(alone.energy), abs=1e-10)


@pytest.mark.slow
def test_every_system_of_a_batch_is_an_equilibrium(relaxed):
    assert relaxed.converged.all()
    for energy, equilibrium in zip(relaxed.energies, relaxed, strict=True):
        assert equilibrium.converged
        assert largest_force(equilibrium) < 2e-12
        assert float(equilibrium.energy) == pytest.approx(energy, rel=1e-13)


@pytest.mark.slow
def test_it_does_not_matter_how_many_relax_side_by_side(relaxed):
    together = mdsens.relax_batch(clusters(), BINARY, fmax=1e-12)
    np.testing.assert_allclose(together.positions, relaxed.positions, atol=1e-10, rtol=0)


def test_a_part_of_a_batch_is_a_batch(relaxed):
    part = relaxed[[3, 0]]
    assert len(part) == 2
    assert np.array_equal(part.energies, relaxed.energies[[3, 0]])
    assert np.array_equal(part[0].positions, relaxed[3].positions)
    assert len(relaxed[relaxed.energies > 0.0]) == 0


@pytest.mark.slow
def test_one_that_cannot_converge_holds_up_no_other():
    packing, soft = cases.jammed_packing()
    batch = mdsens.relax_batch([packing] * 3, soft, "lbfgs", fmax=[1e-12, 1e-40, 1e-6])
    assert batch.converged.tolist() == [True, False, True]
    assert batch.steps[2] < batch.steps[0] < batch.steps[1]
    assert batch.largest_force[1] < 1e-12
    assert np.asarray(batch[0].landscape.rattlers).sum() == 1
    assert "NOT converged  1\n" in repr(batch)


@pytest.mark.slow
def test_one_that_fails_says_so_when_it_is_asked_for():
    apart = cases.dimer(1.2)
    colliding = apart.with_positions(apart.positions * 1e-30)
    batch = mdsens.relax_batch([apart, colliding], LJ, "fire", fmax=1e-6)
    assert batch.converged.tolist() == [True, False]
    assert np.isnan(batch.energies[1])
    with pytest.raises(RelaxationError, match=r"systems\[1\]: energy or forces are not finite"):
        batch[1]


@pytest.mark.slow
def test_cells_of_many_body_crystals_of_different_size_relax():
    crystals = []
    for vacancies in (0, 1):
        atoms = ase.build.bulk("Si", "diamond", 2.65, cubic=True)
        del atoms[:vacancies]
        atoms.rattle(0.02, seed=vacancies)
        crystals.append(mdsens.System.from_ase(atoms, units="reduced"))
    batch = mdsens.relax_batch(
        crystals, cases.POTENTIALS["sw"], "lbfgs", fmax=1e-9, cell="isotropic", pressure=0.1
    )
    assert batch.converged.all()
    for index, equilibrium in enumerate(batch):
        assert largest_force(equilibrium) < 2e-9
        assert float(equilibrium.pressure) == pytest.approx(0.1, abs=1e-9)
        assert float(equilibrium.volume) == pytest.approx(batch.volumes[index], rel=1e-13)
        assert float(equilibrium.energy) == pytest.approx(batch.energies[index], rel=1e-13)


ON_FOUR_DEVICES = """
import sys
import cases, jax, mdsens, numpy as np
assert len(jax.devices()) == 4
starts = [cases.dimer(distance) for distance in np.linspace(1.05, 1.2, 6)]
potential = cases.POTENTIALS["lj-plain"]
batch = mdsens.relax_batch(starts, potential, "lbfgs", fmax=1e-12)
by_newton = mdsens.relax_batch(starts, potential, "newton", fmax=1e-12)
derivatives = mdsens.sensitivity_batch(by_newton, wrt="sigma", error_estimate=False)
np.savez(sys.argv[1], batch.positions, by_newton.positions, derivatives.positions["sigma"])
"""


@pytest.mark.slow
def test_a_batch_is_spread_over_all_devices(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    paths = os.pathsep.join([os.path.dirname(cases.__file__), *sys.path])
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    subprocess.run(
        [sys.executable, "-c", ON_FOUR_DEVICES, str(tmp_path / "found.npz")],
        env=environment, check=True, timeout=300,
    )  # fmt: skip
    by_lbfgs, by_newton, derivative = np.load(tmp_path / "found.npz").values()
    starts = [cases.dimer(distance) for distance in np.linspace(1.05, 1.2, 6)]
    here = mdsens.relax_batch(starts, cases.POTENTIALS["lj-plain"], "lbfgs", fmax=1e-12)
    np.testing.assert_allclose(by_lbfgs, here.positions, atol=1e-10, rtol=0)
    np.testing.assert_allclose(by_newton, here.positions, atol=1e-10, rtol=0)
    # A dimer is 2^(1/6) sigma long.
    bond = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    difference = (derivative[:, 0] - derivative[:, 1]) @ bond
    np.testing.assert_allclose(difference, 2 ** (1 / 6), rtol=1e-10)


def broken_system():
    return eqx.tree_at(lambda s: s.positions, cases.dimer(), np.full((2, 3), np.nan))


FOREIGN = mdsens.System([[0.0, 0, 0], [1.0, 0, 0]], None, ("Xe",), units="reduced")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], LJ), {}, "systems is empty"),
        ((None, LJ), {}, "systems is a NoneType: give a list of mdsens.System"),
        (("systems", LJ), {}, "systems is a str: give a list of mdsens.System"),
        (([cases.dimer()], None), {}, "potential is a NoneType: give one of mdsens.potentials"),
        (([cases.dimer()], "LJ"), {}, "potential is a str: give one of mdsens.potentials"),
        (([cases.dimer()], [LJ, LJ]), {}, "2 potentials for 1 systems"),
        (([cases.dimer()], LJ), {"fmax": [1e-8, 1e-8]}, r"fmax has shape \(2,\)"),
        (([cases.dimer()] * 2, LJ), {"fmax": [1.0, -1.0]}, r"fmax = \[1.0, -1.0\] in rows 1: give"),
        (([cases.dimer()], LJ), {"fmax": "1"}, "fmax = '1': give numbers"),
        (([cases.dimer()], LJ), {"fmax": np.nan}, "fmax = nan is not finite"),
        (([cases.dimer()], LJ), {"batch_size": 0}, "batch_size = 0"),
        (([cases.dimer()], LJ), {"batch_size": 2.0}, "batch_size = 2.0: give a whole number"),
        (([cases.dimer()], LJ), {"skin": -1.0}, "skin = -1.0"),
        (([cases.dimer()], LJ), {"max_steps": 1.5}, "max_steps = 1.5: give a whole number"),
        (([cases.dimer()], LJ), {"pressure": 0.1}, "pressure is 0.1, and cell = None"),
        (([cases.dimer()], LJ), {"progress": 1}, "progress = 1: give True or False"),
        (([cases.dimer()], LJ), {"cell": ["full"]}, r"cell = \['full'\]: allowed are None"),
        (([cases.dimer()], LJ, "firr"), {}, "did you mean 'fire'"),
        (([cases.dimer()], LJ, "preconditioned-lbfgs"), {}, "is for one large system"),
        (([cases.dimer(), cases.dimer(dimension=2)], LJ), {}, r"systems\[1\] has 2 dimensions"),
        (([cases.dimer(), clusters()[0]], [LJ, "LJ"]), {}, r"systems\[1\]: potential is a str"),
        (([cases.dimer(), ase.Atoms("Ar")], LJ), {}, r"systems\[1\]: system is a Atoms"),
        (([clusters()[0], FOREIGN], BINARY), {}, r"systems\[1\]: .* no parameters for species Xe"),
        (([cases.dimer(), broken_system()], LJ), {}, r"systems\[1\]: positions .*is not finite"),
        (([cases.dimer()], LJ), {"cell": "full"}, r"systems\[0\]: cell = 'full' with pbc"),
    ],
    ids=range(25),
)  # fmt: skip
def test_what_is_not_allowed_is_said(arguments, options, message):
    with pytest.raises(InputError, match=message) as caught:
        mdsens.relax_batch(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_batch_is_no_function_to_trace():
    with pytest.raises(InputError, match=r"use mdsens.relax under jit"):
        jax.grad(lambda potential: mdsens.relax_batch([cases.dimer()], potential).energies[0])(LJ)
