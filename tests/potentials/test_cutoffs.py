"""Cutoffs in units of a parameter: they move with it, and each pair of species has its own."""

import warnings

import ase
import ase.build
import ase.neighborlist
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError, MdsensWarning
from mdsens.potentials import (
    Buckingham,
    DampedShiftedCoulomb,
    InversePower,
    LennardJones,
    Mie,
    Morse,
    SuttonChen,
    Yukawa,
)
from mdsens.potentials.cutoffs import multiple_of
from mdsens.testing import check_potential

pytestmark = pytest.mark.filterwarnings("ignore:a shell of neighbours")
ALLOY = ("Ar", "Kr")
SIGMA = np.array([[3.405, 3.52], [3.52, 3.65]])
EPSILON = np.array([[0.0104, 0.012], [0.012, 0.014]])


def mixture(cutoff="2.4 sigma", onset=None, truncation="smooth", scale=1.0):
    return LennardJones(EPSILON, scale * SIGMA, cutoff, truncation, ALLOY, onset)


def alloy(scale=1.0):
    atoms = ase.build.bulk("Ar", "fcc", 5.4, cubic=True) * (2, 2, 2)
    atoms.symbols[np.random.default_rng(1).permutation(len(atoms))[::3]] = "Kr"
    atoms.rattle(0.05, seed=2)
    atoms.set_cell(scale * atoms.cell[:], scale_atoms=True)
    return mdsens.System.from_ase(atoms)


def mechanics_of(system, potential):
    edges = potential.edge_search(system).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    energy, forces, virial = mdsens.mechanics.energy_forces_virial(system, potential, edges)
    return float(energy), np.asarray(forces), np.asarray(virial)


@pytest.mark.parametrize("truncation", ["none", "shifted", "force-shifted", "smooth"])
def test_scaling_all_lengths_scales_the_mixture(truncation):
    """With every length of the potential in sigma, E(k r; k sigma) = E(r; sigma)."""
    energy, forces, virial = mechanics_of(alloy(), mixture(truncation=truncation))
    scaled = mechanics_of(alloy(1.1), mixture(truncation=truncation, scale=1.1))
    assert scaled[0] == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(1.1 * scaled[1], forces, rtol=0, atol=1e-12 * abs(forces).max())
    np.testing.assert_allclose(scaled[2], virial, rtol=0, atol=1e-12 * abs(virial).max())


@pytest.mark.parametrize("truncation", ["shifted", "force-shifted", "smooth"])
def test_each_pair_of_species_ends_at_its_own_cutoff(truncation):
    """The energy of a mixture is that of its pairs, each of a potential of one species."""
    system, potential = alloy(), mixture(onset="2.1 sigma", truncation=truncation)
    atoms = system.to_ase()
    expected = 0.0
    reach = float(2.4 * SIGMA.max())
    first, second, distances = ase.neighborlist.neighbor_list("ijd", atoms, reach)
    kinds = np.asarray(system.species)
    for i in range(2):
        for j in range(2):
            r = distances[(kinds[first] == i) & (kinds[second] == j)]
            sigma = float(SIGMA[i, j])
            alone = LennardJones(EPSILON[i, j], sigma, 2.4 * sigma, truncation, None, 2.1 * sigma)
            expected += 0.5 * float(jnp.sum(alone.truncated_pair_energies(jnp.asarray(r))))
    assert mechanics_of(system, potential)[0] == pytest.approx(expected, rel=1e-12)
    ranges = np.asarray(potential.pair_ranges)
    np.testing.assert_allclose(ranges, 2.4 * SIGMA, rtol=1e-15)
    assert float(potential.interaction_range) == ranges.max()
    kinks = [2.1 * SIGMA, 2.4 * SIGMA] if truncation == "smooth" else [2.4 * SIGMA]
    np.testing.assert_allclose(potential.kink_distances, kinks, rtol=1e-15)


@pytest.mark.slow
def test_a_crystal_scales_with_sigma_only_where_its_cutoff_does():
    """Lengths scale with sigma if the cutoff does; at a fixed one differences say by how much."""
    system = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.26))

    def crystal(cutoff, sigma=3.405):
        potential = LennardJones(0.0104, sigma, cutoff)
        return mdsens.relax(system, potential, cell="isotropic", fmax=1e-12)

    slopes = {}
    for cutoff in ("2.5 sigma", 8.5):
        here = crystal(cutoff)
        found = mdsens.sensitivity(here, ["volume", "energy"], wrt="sigma")
        slopes[cutoff] = float(found["volume"]["sigma"])
        up, down = (crystal(cutoff, 3.405 + h).volume for h in (1e-4, -1e-4))
        assert slopes[cutoff] == pytest.approx(float(up - down) / 2e-4, rel=1e-6)
        if cutoff == "2.5 sigma":
            assert slopes[cutoff] == pytest.approx(3.0 * float(here.volume) / 3.405, rel=1e-12)
            assert abs(found["energy"]["sigma"]) < 1e-12
    assert abs(slopes[8.5] / slopes["2.5 sigma"] - 1.0) > 0.2


@pytest.mark.slow
def test_the_sum_of_a_mixture_s_derivatives_is_its_scaling():
    """sum over pairs of sigma dV/dsigma = 3 V, with a table of cutoffs and relaxed ions."""
    atoms = ase.build.bulk("Ar", "fcc", 5.4, cubic=True)
    atoms.symbols[[0, 2]] = "Kr"
    atoms.rattle(0.05, seed=2)
    crystal = mdsens.relax(
        mdsens.System.from_ase(atoms), mixture(onset="2 sigma"), cell="full", fmax=1e-11
    )
    found = mdsens.sensitivity(crystal, "volume", wrt="sigma")
    total = sum(SIGMA[i, j] * found["volume"][f"sigma[{ALLOY[i]}-{ALLOY[j]}]"]
                for i, j in ((0, 0), (0, 1), (1, 1)))  # fmt: skip
    assert float(total) == pytest.approx(3.0 * float(crystal.volume), rel=1e-10)


@pytest.mark.slow
def test_a_relaxation_is_differentiable_in_sigma_by_jax_alone():
    system = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.26))

    def volume(sigma):
        potential = LennardJones(0.0104, sigma, "2.5 sigma")
        return mdsens.relax(system, potential, cell="isotropic", fmax=1e-11).volume

    value, slope = jax.value_and_grad(volume)(3.405)
    assert float(slope) == pytest.approx(3.0 * float(value) / 3.405, rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "potential",
    [
        mixture(onset="2.1 sigma"),
        SuttonChen(1.2382e-2, 3.61, 39.432, 9.0, 6.0, "2.1 a", onset="1.9 a"),
    ],
    ids=["pairs", "metal"],
)
def test_derivatives_of_what_has_moving_cutoffs(potential):
    atoms = ase.build.bulk("Cu", "fcc", 3.61) if potential.species is None else alloy().to_ase()
    check_potential(potential, atoms).require()


def test_every_law_with_a_length_takes_it_as_a_unit():
    laws = [
        Mie(1.4, 1.1, 14.0, 7.0, "2.5 sigma"),
        Morse(1.0, 1.5, 1.1, "2.5 r0"),
        Buckingham(900.0, 1.1, 2.0, "2.5*rho", onset="2 rho"),
        InversePower(0.4, 1.1, 9.0, "2.5sigma"),
        SuttonChen(0.01, 1.1, 30.0, 9.0, 6.0, "2.5 a"),
    ]
    for law in laws:
        assert float(law.interaction_range) == pytest.approx(2.75, rel=1e-15)
        assert dict(law.described_parameters())["cutoff"].startswith("2.5 ")
    assert laws[2].onset == "2 rho"
    moved = laws[0].with_parameters({"sigma": 2.2})
    assert float(moved.interaction_range) == pytest.approx(5.5, rel=1e-15)
    assert (moved.cutoff, repr(moved)) == ("2.5 sigma", repr(moved))
    assert "2.5 sigma" in repr(moved)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2.5 sigma", (2.5, "sigma")), ("2.5*sigma", (2.5, "sigma")), ("sigma", (1.0, "sigma")),
     ("1e1 r0", (10.0, "r0")), (".5 a", (0.5, "a")), ("8.5", None), ("1e5", None), (2.5, None),
     ("-2 sigma", None), ("2 sigma Ang", None)],
)  # fmt: skip
def test_what_a_multiple_of_a_parameter_is(text, expected):
    assert multiple_of(text) == expected


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LennardJones(1.0, 1.0, "2.5 sgima"), ("2.5 sgima", "did you mean 'sigma'")),
        (lambda: LennardJones(1.0, 1.0, "2.5 epsilon"), ("epsilon is no length", "sigma")),
        (lambda: LennardJones(1.0, 1.0, "0 sigma"), ("0 sigma", "above 0")),
        (lambda: LennardJones(1.0, 1.0, "0.9 sigma"), ("0.9 sigma", "not above sigma")),
        (lambda: LennardJones(1.0, 1.0, "2.5 sigma", onset="2.5 sigma"), ("not below cutoff",)),
        (lambda: LennardJones(1.0, 1.0, "2.5 sigma", onset=2.6), ("2.6", "not below cutoff")),
        (lambda: LennardJones(1.0, 1.0, 2.5, onset="3 sigma"), ("3 sigma", "not below cutoff")),
        (lambda: Yukawa(1.0, 1.0, "2.5 kappa"), ("no parameter that is a length", "a number")),
        (lambda: DampedShiftedCoulomb(1.0, 0.2, "2 alpha"), ("no parameter that is a length",)),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.filterwarnings("default:a shell of neighbours")
def test_a_shell_in_the_switch_of_one_pair_of_species_is_told():
    """Neighbours of the other species at the 1.9 sigma of their pair, and none of their own."""
    atoms = ase.build.bulk("ArKr", "rocksalt", 5.0, cubic=True) * (2, 2, 2)
    system, r = mdsens.System.from_ase(atoms), 5.0 * np.sqrt(3) / 2
    sigma = np.array([[2.9, r / 1.9], [r / 1.9, 2.9]])
    potential = LennardJones(0.01, sigma, "2 sigma", species=ALLOY, onset="1.8 sigma")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mdsens.relax(system, potential, fmax=1e3)
    [message] = [str(one.message) for one in caught if one.category is MdsensWarning]
    assert f"at {r:.4g}" in message
    assert "of Ar-Kr pairs" in message


def test_what_is_saved_has_its_cutoff_again(tmp_path):
    system = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.26))
    crystal = mdsens.relax(system, LennardJones(0.0104, 3.405, "2.5 sigma"), fmax=1e-6)
    crystal.save(tmp_path / "argon.npz")
    loaded = mdsens.relaxation.Equilibrium.load(tmp_path / "argon.npz").potential
    assert loaded.cutoff == "2.5 sigma"
    assert float(loaded.interaction_range) == pytest.approx(2.5 * 3.405, rel=1e-15)
