"""Zhou's, Gupta's and Finnis and Sinclair's metals against plain sums of their formulas."""

import ase
import ase.build
import metals
import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.potentials import ZBL, FinnisSinclair, Gupta, ZhouEAM
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("closed-form-metals")
NAMES = ("Cu", "Au")
#: Switches that begin beyond every distance in the cluster.
POTENTIALS = {
    "zhou": ZhouEAM(**metals.ALLOY, cutoff=40.0, onset=30.0, species=NAMES),
    "gupta": Gupta(**metals.GUPTA, cutoff="16 r0", onset="12 r0", species=NAMES),
    "finnis-sinclair": FinnisSinclair(**metals.FINNIS_SINCLAIR, species=NAMES),
}


def cluster():
    atoms = ase.build.bulk("Cu", "fcc", 3.9, cubic=True) * (2, 1, 1)
    atoms.symbols = ["Cu", "Au", "Au", "Cu"] * 2
    atoms.pbc = False
    atoms.rattle(0.1, seed=3)
    return atoms


def crystal():
    atoms = ase.build.bulk("Cu", "fcc", 3.8, cubic=True)
    atoms.symbols = ["Cu", "Au", "Au", "Cu"]
    atoms.rattle(0.1, seed=3)
    return atoms


def mechanics_of(potential, atoms):
    system = mdsens.System.from_ase(atoms)
    edges = potential.edge_search(system).find(atoms.positions, np.asarray(system.cell))
    return [np.asarray(one) for one in compiled_energy_forces_virial(system, potential, edges)]


def plain_sum(name, atoms):
    kinds = [NAMES.index(symbol) for symbol in atoms.symbols]
    elements, energy = (metals.COPPER, metals.OTHER), 0.0
    for i, here in enumerate(kinds):
        density = 0.0
        for j, there in enumerate(kinds):
            if i == j:
                continue
            r = atoms.get_distance(i, j)
            if name == "zhou":
                energy += 0.5 * metals.zhou(elements[here], elements[there])(r)
                density += metals.zhou_density(elements[there], r)
            elif name == "gupta":
                energy += 0.5 * metals.gupta_pair(here, there, r)
                density += metals.gupta_density(here, there, r)
            else:
                energy += 0.5 * metals.finnis_sinclair_pair(here, there, r)
                density += metals.finnis_sinclair_density(here, there, r)
        if name == "zhou":
            energy += metals.zhou_embedding(elements[here], density)
        else:
            scale = metals.FINNIS_SINCLAIR["A"][here] if name == "finnis-sinclair" else 1.0
            energy -= scale * np.sqrt(density)
    return energy


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.15])
def test_the_energy_of_an_alloy_is_the_sum_of_its_formulas(name, scale):
    """Squeezed and stretched, so that every branch of the embedding is met."""
    atoms = cluster()
    atoms.positions *= scale
    energy = mechanics_of(POTENTIALS[name], atoms)[0]
    assert float(energy) == pytest.approx(plain_sum(name, atoms), rel=1e-12)


@pytest.mark.parametrize("name", ["zhou", "gupta"])
def test_an_element_is_an_alloy_of_itself(name):
    kind = type(POTENTIALS[name])
    if name == "zhou":
        pure, ends = metals.COPPER, {"cutoff": 6.0}
        twice = {key: [value, value] for key, value in pure.items()}
    else:
        pure, ends = {key: table[0][0] for key, table in metals.GUPTA.items()}, {"cutoff": 6.0}
        twice = {key: np.full((2, 2), value) for key, value in pure.items()}
    atoms = crystal()
    alone = mechanics_of(kind(**pure, **ends), atoms)
    mixed = mechanics_of(kind(**twice, **ends, species=NAMES), atoms)
    for one, other in zip(alone, mixed, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * abs(one).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zhou", "finnis-sinclair"])
def test_forces_hessians_and_derivatives_of_an_alloy(name):
    potential = POTENTIALS[name]
    if name == "zhou":
        potential = ZhouEAM(**metals.ALLOY, cutoff=5.5, species=NAMES)
    # The second derivative of Finnis and Sinclair's jumps where its functions end.
    check_potential(potential, crystal(), 1 if name == "finnis-sinclair" else 2).require()


@pytest.mark.slow
def test_copper_has_the_lattice_constant_that_it_was_made_for():
    system = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", 3.5))
    potential = ZhouEAM(**metals.COPPER, cutoff=6.0, onset=5.8)
    relaxed = mdsens.relax(system, potential, cell="isotropic", fmax=1e-10)
    # 3.615 Angstrom and a cohesive energy of 3.54 eV.
    assert float(4 * relaxed.volume) ** (1 / 3) == pytest.approx(3.615, abs=2e-3)
    assert float(relaxed.energy) == pytest.approx(-3.54, abs=5e-3)
    slopes = mdsens.sensitivity(relaxed, "volume", wrt=["r_e", "rho_e", "rho_s"])["volume"]
    # All lengths are in r_e but for the switch, where nothing is.
    assert float(slopes["r_e"]) == pytest.approx(3 * float(relaxed.volume) / 2.556162, rel=1e-3)
    # The last branch of the embedding is not reached.
    assert float(slopes["rho_s"]) == 0.0


def test_an_atom_alone_has_no_energy_and_no_force():
    atoms = ase.Atoms("Cu2", [[0, 0, 0], [0, 0, 50.0]])
    for potential in (POTENTIALS["gupta"], POTENTIALS["finnis-sinclair"]):
        energy, forces, _ = mechanics_of(potential, atoms)
        assert (float(energy), np.abs(forces).max()) == (0.0, 0.0)
    energy, forces, _ = mechanics_of(ZhouEAM(**metals.COPPER, cutoff=6.0), atoms)
    assert abs(float(energy)) < 2e-6
    assert np.abs(forces).max() == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ZhouEAM(**metals.COPPER | {"r_e": -1.0}, cutoff=6.0), ("r_e", "above 0")),
        (lambda: ZhouEAM(**metals.COPPER, cutoff=6.0, inner=1.2), ("inner", "not below outer")),
        (lambda: ZhouEAM(**metals.ALLOY, cutoff=6.0), ("r_e", "name its rows")),
        (lambda: ZhouEAM(**metals.ALLOY | {"r_e": {"Cu": 2.5}}, cutoff=6.0, species=NAMES),
         ("r_e", "no value for Au")),
        (lambda: ZhouEAM(**metals.ALLOY | {"r_e": {"Cu": 2.5, "Cu-Au": 2.6}}, cutoff=6.0,
                         species=NAMES), ("r_e", "'Cu-Au' is no one of the species")),
        (lambda: ZhouEAM(**metals.ALLOY | {"r_e": np.ones((2, 2))}, cutoff=6.0, species=NAMES),
         ("r_e", "one for each species")),
        (lambda: ZBL(np.ones((2, 2)), 3.0, NAMES), ("Z", "(2, 2)", "one for each species")),
        (lambda: Gupta(**metals.GUPTA, cutoff="2 q", species=NAMES), ("q is no length", "r0")),
    ],
)  # fmt: skip
def test_what_is_no_metal_is_refused(make, words):
    with pytest.raises(InputError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
