"""Frequencies and energies of vibrations against ASE and phonopy, which displace atoms.

Their force constants are central differences of two steps, extrapolated to none, in supercells in
which nothing meets its own image.
"""

import ase.build
import ase.phonons
import cases
import numpy as np
import phonopy
import phonopy.structure.atoms
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from phonopy.physical_units import get_physical_units

import mdsens
from mdsens import System
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.observables import (
    heat_capacity,
    mode_gruneisen_parameters,
    phonon_frequencies,
    quasi_harmonic_volume,
    thermal_expansion,
    vibrational_entropy,
    vibrational_free_energy,
    zero_point_energy,
)
from mdsens.potentials import LennardJones, StillingerWeber

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("phonons")]
SW = StillingerWeber(2.1683, 2.0951, **cases.SILICON)
#: Two atoms feel one another through a third up to 7.6 Ang: an image is 15.3 Ang away at least.
REPEATS = 4
WAVES = ([0, 0, 0], [0.5, 0, 0.5], [0.131, -0.274, 0.419])


def extrapolated(coarse, fine):
    return (4.0 * np.asarray(fine) - np.asarray(coarse)) / 3.0


def test_argon_vibrates_as_in_ase(tmp_path):
    """ASE's own energies too, cut off between two shells."""
    epsilon, sigma, cutoff = 0.0104, 3.4, 6.0
    atoms = ase.build.bulk("Ar", "fcc", 5.3)
    matrices = []
    for number, delta in enumerate((0.02, 0.01)):
        peer = ase.phonons.Phonons(
            atoms, AseLennardJones(epsilon=epsilon, sigma=sigma, rc=cutoff), (5, 5, 5),
            delta=delta, name=str(tmp_path / str(number)),
        )  # fmt: skip
        peer.run()
        peer.read(acoustic=True)
        matrices.append(peer.get_force_constant())
    peer.C_N = extrapolated(*matrices)
    peer.D_N = peer.C_N / atoms.get_masses()[0]
    energies = peer.band_structure(np.array(WAVES), verbose=False)
    terahertz = energies / (ase.units._hplanck * ase.units.J * 1e12)
    crystal = mdsens.relax(
        System.from_ase(atoms), LennardJones(epsilon, sigma, cutoff, "shifted"), max_steps=0
    )
    for q, expected in zip(WAVES[1:], terahertz[1:], strict=True):
        found = phonon_frequencies(q)(crystal)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def silicon():
    """Diamond at rest here and in phonopy, whose forces are those of mdsens."""
    start = System.from_ase(ase.build.bulk("Si", "diamond", 5.43))
    equilibrium = mdsens.relax(start, SW, fmax=1e-11, cell="full")
    return equilibrium, in_phonopy(equilibrium.to_ase())


def in_phonopy(atoms, repeats=REPEATS, distances=(0.02, 0.01)):
    """What phonopy makes of forces on displaced atoms, in a supercell."""
    cell = phonopy.structure.atoms.PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell[:], positions=atoms.positions
    )
    matrices = []
    for distance in distances:
        peer = phonopy.Phonopy(cell, np.eye(3, dtype=int) * repeats, primitive_matrix=np.eye(3))
        peer.generate_displacements(distance=distance, is_plusminus=True)
        peer.forces = [forces_on(moved) for moved in peer.supercells_with_displacements]
        peer.produce_force_constants()
        matrices.append(peer.force_constants)
    peer.force_constants = extrapolated(*matrices)
    return peer


def strained(equilibrium, factor):
    """The crystal with all lengths so many times as long; the ions of diamond follow."""
    atoms = equilibrium.to_ase()
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    return atoms


def forces_on(cell):
    atoms = ase.Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True)
    system = System.from_ase(atoms)
    # Room for as many edges in all of them, so that one program serves all.
    edge_list = SW.edge_search(system, 0.2).find(atoms.positions, atoms.cell[:], capacity=(16, 0))
    return np.asarray(compiled_energy_forces_virial(system, SW, edge_list)[1])


def test_silicon_vibrates_as_in_phonopy(silicon):
    equilibrium, peer = silicon
    masses = {"Si": float(peer.primitive.masses[0])}
    for q in WAVES:
        found = np.asarray(phonon_frequencies(q, masses)(equilibrium))
        expected = peer.run_qpoints([q]).frequencies[0]
        moving = found != 0.0
        np.testing.assert_allclose(found[moving], expected[moving], rtol=1e-6)
        assert np.abs(expected[~moving]).max(initial=0.0) < 1e-3


def test_silicon_has_the_thermal_properties_of_phonopy(silicon):
    equilibrium, peer = silicon
    masses = {"Si": float(peer.primitive.masses[0])}
    # Its constants are those of 2006, and ASE's those of 2014: the same k T, and entropies in k.
    units = get_physical_units()
    older = units.KB / ase.units.kB
    # Without translations, whose frequencies are not quite zero there.
    peer.run_mesh([4, 4, 4], is_gamma_center=True)
    peer.run_thermal_properties(temperatures=[0, 300.0 / older], cutoff_frequency=1e-2)
    thermal, mesh = peer.thermal_properties, (4, 4, 4)
    for observable, expected in {
        zero_point_energy(mesh, masses): thermal.free_energy[0],
        vibrational_free_energy(300, mesh, masses): thermal.free_energy[1],
        vibrational_entropy(300, mesh, masses): thermal.entropy[1] * 1e-3 / older,
        heat_capacity(300, mesh, masses): thermal.heat_capacity[1] * 1e-3 / older,
    }.items():
        expected = expected / units.EvTokJmol
        assert float(observable(equilibrium)) == pytest.approx(expected, rel=1e-6)


def test_silicon_has_the_gruneisen_parameters_of_phonopy(silicon):
    """Those of phonopy are differences between two volumes, extrapolated to none."""
    equilibrium, peer = silicon
    path = [np.array([WAVES[2], [0.31, 0.12, -0.23]])]
    differences = []
    for step in (4e-3, 2e-3):
        sides = [in_phonopy(strained(equilibrium, 1.0 + sign * step)) for sign in (1.0, -1.0)]
        gruneisen = phonopy.PhonopyGruneisen(peer, *sides)
        gruneisen.set_band_structure(path)
        differences.append(np.asarray(gruneisen.get_band_structure()[4][0]))
    masses = {"Si": float(peer.primitive.masses[0])}
    for wave, expected in zip(path[0], extrapolated(*differences), strict=True):
        found = np.asarray(mode_gruneisen_parameters(wave, masses)(equilibrium))
        # Phonopy follows bands along its path.
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-6)


def test_silicon_expands_as_in_phonopy(silicon):
    """Phonopy fits an equation of state to free energies of several volumes, and differences."""
    equilibrium, peer = silicon
    older = get_physical_units().KB / ase.units.kB
    masses, mesh = {"Si": float(peer.primitive.masses[0])}, (3, 3, 3)
    structures = [strained(equilibrium, factor) for factor in np.linspace(0.996, 1.008, 7)]
    at_rest = [mdsens.relax(System.from_ase(atoms), SW, max_steps=0) for atoms in structures]
    found = phonopy.run_qha(
        [in_phonopy(atoms) for atoms in structures],
        np.arange(290.0, 316.0, 5.0) / older,
        [float(one.energy) for one in at_rest],
        mesh=mesh,
        eos="birch_murnaghan",
        exclude_gamma_acoustic=True,
    )
    rest = float(equilibrium.volume)
    volume = float(quasi_harmonic_volume(300, mesh, masses)(equilibrium))
    assert volume - rest == pytest.approx(float(found.equilibrium_volumes[2]) - rest, rel=1e-3)
    expansion = float(thermal_expansion(300, mesh, masses)(equilibrium))
    assert expansion == pytest.approx(float(found.thermal_expansion[2]) / older, rel=2e-3)
