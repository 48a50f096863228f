"""The calculator for ASE: in its optimisers, filters, NEB, phonons and dynamics."""

import copy
import json
import pickle
import warnings

import ase
import ase.build
import ase.io
import cases
import jax
import numerical
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.constraints import FixAtoms, FixCartesian
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter, StrainFilter, UnitCellFilter
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.phonons import Phonons
from ase.units import _amu, _e, _hbar
from ase.vibrations import Vibrations

import mdsens
from mdsens import Calculator
from mdsens.errors import InputError, MdsensWarning
from mdsens.particles import EdgeSearch
from mdsens.potentials import LennardJones

pytestmark = pytest.mark.xdist_group("calculator")
POTENTIAL = LennardJones(1.0, 1.0, 2.5)
BINARY = cases.POTENTIALS["lj-binary"]
#: Everything that a calculator gives where there is a volume.
PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress")


def crystal(lattice=1.56, repeats=(2, 2, 1), rattle=0.03, vacancies=(0,), symbol="Ar"):
    atoms = ase.build.bulk(symbol, "fcc", lattice, cubic=True) * repeats
    del atoms[list(vacancies)]
    atoms.rattle(rattle, seed=5)
    return atoms


def hexagonal(rows=4, spacing=1.11):
    """A triangular lattice in the xy plane, as ASE has it: in a cell that is high besides."""
    cell = rows * spacing * np.array([[1.0, 0, 0], [0.5, np.sqrt(0.75), 0], [0, 0, 3.0]])
    scaled = np.array([[i / rows, j / rows, 0.5] for i in range(rows) for j in range(rows)])
    return ase.Atoms(["Ar"] * rows**2, cell=cell, scaled_positions=scaled, pbc=[True, True, False])


def agrees_with_a_fresh_one(atoms, rtol=1e-12, properties=PROPERTIES):
    """Whether all properties are those of a calculator that has seen nothing else."""
    again = atoms.copy()
    again.calc = Calculator(atoms.calc.potential, atoms.calc.dimension)
    for name in properties:
        ours, fresh = (np.asarray(one.calc.get_property(name, one)) for one in (atoms, again))
        assert np.abs(ours - fresh).max() <= rtol * np.abs(fresh).max(), name


@pytest.fixture
def searches(monkeypatch):
    """One entry for each time that edges are found."""
    seen, find = [], EdgeSearch.find

    def counted(self, *args):
        seen.append(args)
        return find(self, *args)

    monkeypatch.setattr(EdgeSearch, "find", counted)
    return seen


@pytest.fixture
def programs(monkeypatch):
    """One entry for each program that is compiled."""
    seen, compile_ = [], jax.stages.Lowered.compile

    def counted(self, compiler_options=None):
        seen.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    return seen


# What it calculates -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("lj-binary", "triclinic"),
        *(
            pytest.param(name, cell, marks=pytest.mark.slow)
            for name, cell in [
                ("sw-binary", "triclinic"),
                ("lj-binary", "cluster"),
                ("lj-binary", "small"),
                ("lj-binary", "slab"),
                ("lj-binary", "wire"),
                ("lj-smooth", "flat"),
                ("lj-smooth", "flat-cluster"),
            ]
        ),
    ],
)
def test_forces_and_stress_are_the_slopes_of_the_energy(name, cell):
    system = cases.structure(cell, cases.POTENTIALS[name])
    atoms = system.to_ase()
    atoms.calc = Calculator(cases.POTENTIALS[name], system.dimension)

    def richardson(function, step, *given):
        coarse, fine = (function(atoms, size, *given) for size in (step, step / 2))
        return (4.0 * fine - coarse) / 3.0

    forces, axes = atoms.get_forces(), list(range(system.dimension))
    slopes = richardson(calculate_numerical_forces, 1e-3, range(len(atoms)), axes)
    assert numerical.relative_error(forces[:, axes], slopes) < 7e-9
    assert not forces[:, system.dimension :].any()
    assert atoms.get_potential_energies().sum() == pytest.approx(
        atoms.get_potential_energy(), rel=1e-13
    )
    if any(system.pbc) and system.dimension == 3:
        slopes = richardson(calculate_numerical_stress, 1e-3)
        assert numerical.relative_error(atoms.get_stress(), slopes) < 1e-7


def test_the_stress_of_a_plane_is_the_slope_of_the_energy_per_volume_of_the_cell():
    atoms = hexagonal()
    atoms.positions[:, :2] += np.random.default_rng(1).normal(scale=0.03, size=(16, 2))
    atoms.calc = Calculator(POTENTIAL, dimension=2)
    stress, volume = atoms.get_stress(), atoms.get_volume()
    assert not stress[2:5].any()

    def energy(strain, voigt):
        matrix = np.eye(3)
        row, column = {0: (0, 0), 1: (1, 1), 5: (0, 1)}[voigt]
        matrix[row, column] += strain / 2
        matrix[column, row] += strain / 2
        strained = atoms.copy()
        strained.calc = atoms.calc
        strained.set_cell(atoms.cell[:] @ matrix, scale_atoms=True)
        return strained.get_potential_energy()

    for voigt in (0, 1, 5):
        slope = numerical.derivative(lambda e, v=voigt: energy(e, v), 0.0, 1e-3, noise=1e-13)
        scale = np.abs(stress).max() * volume
        numerical.agrees(stress[voigt] * volume, slope, rtol=1e-7, scale=scale)


@pytest.mark.parametrize(
    ("atoms", "dimension"),
    [
        (ase.Atoms("Ar2", [[0, 0, 0], [1.2, 0, 0]]), 3),
        (ase.Atoms("Ar2", [[4, 4, 4], [5.2, 4, 4]], cell=[9, 9, 9], pbc=False), 3),
        (ase.Atoms("Ar2", [[0, 0, 0], [1.2, 0, 0]], cell=[3, 3, 0], pbc=[1, 1, 0]), 3),
        (ase.Atoms("Ar2", [[0, 0, 0], [1.2, 0, 0]], cell=[3, 3, 0], pbc=[1, 1, 0]), 2),
    ],
    ids=["cluster", "cluster in a box", "slab without height", "plane without height"],
)
def test_what_has_no_volume_has_no_stress(atoms, dimension):
    atoms = atoms.copy()
    atoms.calc = Calculator(POTENTIAL, dimension)
    for _ in range(2):
        with pytest.raises(PropertyNotImplementedError, match="stress needs a volume") as line:
            atoms.get_stress()
        assert "\n" not in str(line.value)
        assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stresses()


# What it notices --------------------------------------------------------------------------------


def moved(atoms):
    atoms.positions[3] += 0.05


def strained(atoms):
    atoms.set_cell(atoms.cell[:] @ [[1.02, 0.03, 0], [0.03, 0.99, 0], [0, 0.01, 1]], True)


def stretched_alone(atoms):
    atoms.set_cell(atoms.cell[:] * 1.05)


def opened(atoms):
    atoms.pbc = [True, False, True]


def renamed(atoms):
    atoms.set_array("species_name", np.roll(["A", "B"] * (len(atoms) // 2), 1))


@pytest.mark.parametrize("cell", [None, 0.2], ids=["usual skin", "short skin"])
@pytest.mark.parametrize("change", [moved, strained, stretched_alone, opened, renamed])
def test_a_change_is_noticed(change, cell):
    atoms = crystal(vacancies=())
    atoms.set_array("species_name", np.array(["A", "B"] * (len(atoms) // 2)))
    atoms.calc = Calculator(BINARY, skin=cell)
    before = atoms.get_potential_energy()
    change(atoms)
    assert abs(atoms.get_potential_energy() - before) > 1e-6 * abs(before)
    agrees_with_a_fresh_one(atoms)


def test_atoms_that_change_their_element_are_noticed(programs):
    atoms = crystal(vacancies=())
    atoms.numbers[::2] = ase.data.atomic_numbers["Kr"]
    table = [[1.0, 1.1], [1.1, 1.3]]
    atoms.calc = Calculator(LennardJones(table, table, 2.2, species=("Ar", "Kr")))
    before = atoms.get_potential_energy()
    count = len(programs)
    atoms.numbers[:3] = atoms.numbers[1:4]
    assert abs(atoms.get_potential_energy() - before) > 1e-6 * abs(before)
    # The first atom, and with it the order of the species, is another.
    assert len(programs) == count
    agrees_with_a_fresh_one(atoms)


def test_charges_and_momenta_change_nothing(searches):
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL)
    before = atoms.get_forces()
    atoms.set_initial_charges(np.ones(len(atoms)))
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    atoms.set_momenta(np.ones((len(atoms), 3)))
    assert not atoms.calc.calculation_required(atoms, ["energy", "forces"])
    assert np.array_equal(atoms.get_forces(), before)


def test_another_potential_forgets_what_was_calculated():
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL)
    energy = atoms.get_potential_energy()
    assert atoms.calc.set(epsilon=2.0) == {"epsilon": 2.0}
    assert atoms.get_potential_energy() == pytest.approx(2.0 * energy, rel=1e-13)
    atoms.calc.potential = LennardJones(1.0, 1.02, 3.0)
    agrees_with_a_fresh_one(atoms)


def test_a_species_that_is_unknown_is_refused_until_it_is_gone():
    atoms = crystal(vacancies=())
    atoms.set_array("species_name", np.array(["A", "B"] * (len(atoms) // 2)))
    atoms.calc = Calculator(BINARY)
    atoms.get_forces()
    atoms.arrays["species_name"][1] = "C"
    for _ in range(2):
        with pytest.raises(InputError, match="no parameters for species C: it knows A, B"):
            atoms.get_potential_energy()
    atoms.arrays["species_name"][1] = "A"
    agrees_with_a_fresh_one(atoms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.positions.__setitem__((1, 0), np.nan), "not finite"),
        (lambda atoms: atoms.positions.__setitem__((1, 2), 1.0), "leave the xy plane"),
        (lambda atoms: atoms.set_cell(0.0 * atoms.cell[:]), "has no volume"),
    ],
    ids=["no number", "out of the plane", "no cell"],
)
def test_what_a_structure_may_become_by_mistake_is_refused(change, message):
    atoms = hexagonal()
    atoms.calc = Calculator(POTENTIAL, 2)
    good = atoms.copy()
    energy = atoms.get_potential_energy()
    change(atoms)
    for _ in range(2):
        with pytest.raises(InputError, match=message) as line:
            atoms.get_potential_energy()
        assert "\n" not in str(line.value)
    good.calc = atoms.calc
    assert good.get_potential_energy() == pytest.approx(energy, rel=1e-14)


def test_a_traced_potential_is_refused():
    def energy(potential):
        return Calculator(potential)

    with pytest.raises(InputError, match="JAX is tracing the potential"):
        jax.grad(energy)(POTENTIAL)


# What it keeps ----------------------------------------------------------------------------------


def test_edges_are_kept_while_atoms_and_cell_move_little(searches):
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL, skin=0.3)
    generator = np.random.default_rng(2)
    for _ in range(10):
        # Two atoms come nearer by 0.02 at most, and images at the range of 2.8 by 0.005 times it.
        atoms.positions += generator.uniform(-1, 1, size=(len(atoms), 3)) * 0.005
        atoms.set_cell(atoms.cell[:] * (1.0 + 1e-4), scale_atoms=True)
        # As some versions of ASE do whenever something has changed.
        atoms.calc.reset()
        atoms.get_forces()
    assert len(searches) == 1
    agrees_with_a_fresh_one(atoms)
    count = len(searches)
    atoms.positions[0] += 0.2
    agrees_with_a_fresh_one(atoms)
    assert len(searches) == count + 2


def test_a_cell_that_moves_without_its_atoms_brings_images_nearer(searches):
    """Each atom stays, and yet the images come together: nothing but the cell tells."""
    atoms = ase.Atoms("Ar", cell=np.eye(3) * 3.0, pbc=True)
    atoms.calc = Calculator(POTENTIAL, skin=0.4)
    assert atoms.get_potential_energy() == 0.0
    for lattice in np.linspace(3.0, 1.2, 19):
        atoms.set_cell(np.eye(3) * lattice)
        agrees_with_a_fresh_one(atoms)
    assert atoms.get_potential_energy() < -1.0


def test_images_that_a_shear_brings_near_are_found():
    atoms = crystal(vacancies=())
    atoms.calc = Calculator(POTENTIAL, skin=0.1)
    for _ in range(30):
        atoms.set_cell(atoms.cell[:] @ [[1, 0.02, 0], [0, 1, -0.01], [0.01, 0, 1]], True)
        agrees_with_a_fresh_one(atoms)


def test_atoms_may_leave_the_cell_and_be_put_back():
    atoms = crystal(rattle=0.05)
    atoms.calc = Calculator(POTENTIAL)
    before = {name: atoms.calc.get_property(name, atoms) for name in PROPERTIES}
    atoms.positions += np.random.default_rng(3).integers(-2, 3, size=(len(atoms), 3)) @ atoms.cell
    for wrapped in (False, True):
        if wrapped:
            atoms.wrap()
        for name, value in before.items():
            found = atoms.calc.get_property(name, atoms)
            assert np.abs(found - value).max() <= 1e-12 * np.abs(value).max(), name


def test_two_structures_in_turn_are_told_apart(programs):
    first, second = crystal(), crystal(rattle=0.06)
    larger = crystal(repeats=(2, 2, 2))
    calculator = Calculator(POTENTIAL)
    first.calc = second.calc = larger.calc = calculator
    energies = [one.get_potential_energy() for one in (first, second, larger)]
    count = len(programs)
    for _ in range(3):
        assert [one.get_potential_energy() for one in (first, second, larger)] == pytest.approx(
            energies, rel=1e-13
        )
    assert len(programs) == count
    assert len(set(energies)) == 3


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda calculator: pickle.loads(pickle.dumps(calculator))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_calculates_by_itself(copied):
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL, skin=0.3)
    forces = atoms.get_forces()
    assert atoms.copy().calc is None
    other = atoms.copy()
    other.calc = copied(atoms.calc)
    assert other.calc.skin == 0.3
    assert np.array_equal(other.get_forces(), forces)
    other.rattle(0.05, seed=1)
    agrees_with_a_fresh_one(other)
    assert np.array_equal(atoms.get_forces(), forces)
    other.calc.set(epsilon=3.0)
    assert float(atoms.calc.potential.epsilon) == 1.0


def test_results_belong_to_who_asked_for_them():
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL)
    forces = atoms.get_forces()
    forces *= 0.0
    assert atoms.get_forces().any()


@pytest.mark.parametrize("ending", ["traj", "extxyz", "json"])
def test_files_of_ase_hold_what_was_calculated(ending, tmp_path):
    atoms = crystal()
    atoms.calc = Calculator(POTENTIAL, units="reduced")
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    ase.io.write(tmp_path / f"argon.{ending}", atoms)
    kept = ase.io.read(tmp_path / f"argon.{ending}")
    assert kept.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(kept.get_forces(), atoms.get_forces(), atol=1e-8)
    np.testing.assert_allclose(kept.get_stress(), stress, atol=1e-8)
    described = json.loads(json.dumps(atoms.calc.todict()))
    assert described["potential"] == "LennardJones"
    assert described["sigma"] == "1 reduced"


def optimiser_of(name, atoms):
    """An optimiser of ASE with steps that suit the curvature and the length of reduced units."""
    if name == "BFGS":
        return BFGS(atoms, logfile=None, alpha=600.0, maxstep=0.05)
    return FIRE(atoms, logfile=None, dt=0.02, dtmax=0.06, maxstep=0.05)


# In ASE's algorithms ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimiser", "filtered"),
    [
        ("BFGS", FrechetCellFilter),
        pytest.param("FIRE", FrechetCellFilter, marks=pytest.mark.slow),
        pytest.param("BFGS", UnitCellFilter, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:logm result may be inaccurate:RuntimeWarning")
def test_ase_and_relax_come_to_the_same_minimum(optimiser, filtered, programs, searches):
    atoms = crystal()
    relaxed = mdsens.relax(
        mdsens.System.from_ase(atoms, units="reduced"), POTENTIAL, cell="full", fmax=1e-9
    )
    atoms.calc = Calculator(POTENTIAL)
    atoms.get_stress()
    compiled_before, found_before = len(programs), len(searches)
    optimisation = optimiser_of(optimiser, filtered(atoms))
    assert optimisation.run(fmax=1e-7, steps=1000)
    assert optimisation.nsteps > 20
    assert len(programs) == compiled_before
    assert len(searches) - found_before <= 3
    assert atoms.get_volume() == pytest.approx(float(relaxed.volume), rel=1e-6)
    # The filters of ASE let the cell turn a little, which the lengths and the angles do not see.
    ours, theirs = np.asarray(relaxed.cell), atoms.cell[:]
    np.testing.assert_allclose(theirs @ theirs.T, ours @ ours.T, atol=1e-6)
    places = np.asarray(relaxed.positions) @ np.linalg.inv(ours)
    difference = atoms.positions @ np.linalg.inv(theirs) - places
    np.testing.assert_allclose(difference - difference.mean(axis=0), 0.0, atol=1e-6 / 3.2)
    agrees_with_a_fresh_one(atoms, properties=("energy", "energies"))


def test_a_strain_filter_gives_the_lattice_constant_and_so_does_an_equation_of_state():
    atoms = crystal(vacancies=(), rattle=0.0, repeats=1)
    relaxed = mdsens.relax(
        mdsens.System.from_ase(atoms, units="reduced"), POTENTIAL, cell="isotropic", fmax=1e-10
    )
    atoms.calc = Calculator(POTENTIAL)
    volumes, energies, cell = [], [], atoms.cell[:]
    for scale in np.linspace(0.985, 1.015, 9):
        atoms.set_cell(cell * scale, scale_atoms=True)
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    fitted = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()[0]
    # The equation is fitted to 1.5% of each lattice constant to either side.
    assert fitted == pytest.approx(float(relaxed.volume), rel=1e-3)
    assert optimiser_of("BFGS", StrainFilter(atoms)).run(fmax=1e-8, steps=200)
    assert atoms.get_volume() == pytest.approx(float(relaxed.volume), rel=1e-8)


def test_constraints_are_kept_by_ase():
    """Those too that a System has no word for."""
    atoms = crystal()
    atoms.set_constraint([FixAtoms([3]), FixCartesian(1, (True, False, False))])
    before, place = atoms.positions[1].copy(), atoms.positions[3].copy()
    atoms.calc = Calculator(POTENTIAL)
    assert optimiser_of("BFGS", atoms).run(fmax=1e-3, steps=200)
    assert atoms.positions[1, 0] == before[0]
    assert atoms.positions[1, 1] != before[1]
    assert np.array_equal(atoms.positions[3], place)
    assert atoms.get_forces(apply_constraint=False)[3].any()


def test_frequencies_of_phonons_are_the_eigenvalues_of_the_hessian(tmp_path):
    """At the wave vectors that the supercell holds, by finite displacements of ASE."""
    atoms = ase.build.bulk("Ar", "fcc", 1.5507)
    phonons = Phonons(
        atoms, Calculator(POTENTIAL), supercell=(3, 3, 3), delta=3e-5, name=str(tmp_path / "phonon")
    )
    phonons.run()
    phonons.read(acoustic=True)
    vectors = np.array(list(np.ndindex(3, 3, 3))) / 3.0
    modes = [np.linalg.eigvalsh(phonons.compute_dynamical_matrix(q, phonons.D_N)) for q in vectors]
    supercell = mdsens.System.from_ase(atoms * (3, 3, 3), units="reduced")
    equilibrium = mdsens.relax(supercell, POTENTIAL, fmax=1e-6, max_steps=0)
    hessian = equilibrium.dense_jacobian / atoms.get_masses()[0]
    expected = np.linalg.eigvalsh(hessian)
    assert np.sum(np.abs(expected) < 1e-9) == 3
    assert numerical.relative_error(np.sort(np.ravel(modes)), expected) < 1e-6
    # In ASE's energies, eV: hbar omega.
    unit = _hbar * 1e10 / np.sqrt(_e * _amu)
    energies = np.sort(np.ravel([phonons.band_structure([q])[0] for q in vectors]))
    np.testing.assert_allclose(energies[3:], unit * np.sqrt(expected[3:]), rtol=1e-6)


def test_vibrations_of_a_cluster_are_those_of_its_hessian(tmp_path):
    cluster = mdsens.relax(cases.bipyramid(("A",), np.zeros(5, int)), POTENTIAL, fmax=1e-11)
    atoms = cluster.system.to_ase()
    atoms.calc = Calculator(POTENTIAL)
    vibrations = Vibrations(atoms, delta=1e-4, name=str(tmp_path / "vibrations"))
    vibrations.run()
    hessian = vibrations.get_vibrations().get_hessian_2d()
    assert numerical.relative_error(hessian, cluster.dense_jacobian) < 1e-6


def test_a_vacancy_hops_over_a_saddle_that_is_symmetric():
    perfect = hexagonal(rows=5)
    ends = []
    for gone in (12, 13):
        atoms = perfect.copy()
        # The atom that hops is the last in both.
        hopping = 25 - gone
        place = perfect.positions[hopping].copy()
        del atoms[[12, 13]]
        atoms += ase.Atom("Ar", place)
        atoms.calc = Calculator(POTENTIAL, 2)
        assert optimiser_of("BFGS", atoms).run(fmax=1e-6, steps=200)
        ends.append(atoms)
    images = [ends[0], *(ends[0].copy() for _ in range(3)), ends[1]]
    for image in images[1:-1]:
        image.calc = Calculator(POTENTIAL, 2)
    band = NEB(images, climb=True, k=20.0, method="improvedtangent")
    band.interpolate()
    assert FIRE(band, logfile=None).run(fmax=1e-4, steps=500)
    energies = np.array([image.get_potential_energy() for image in images])
    np.testing.assert_allclose(energies, energies[::-1], atol=1e-5)
    assert energies[2] > energies[1] > energies[0]
    # The highest image is where no force is left, and the energy falls along one direction alone.
    summit = mdsens.System.from_ase(images[2], 2, "reduced")
    saddle = mdsens.relax(summit, POTENTIAL, max_steps=0)
    assert float(saddle.largest_force) < 2e-4
    assert np.sum(np.linalg.eigvalsh(saddle.dense_jacobian) < -1e-3) == 1


@pytest.mark.parametrize("where", ["crystal", pytest.param("cluster", marks=pytest.mark.slow)])
def test_dynamics_conserve_the_energy_and_find_edges_in_time(where, searches):
    if where == "crystal":
        atoms = crystal(lattice=1.75, repeats=(2, 2, 2), rattle=0.0)
    else:
        atoms = ase.Atoms("Ar13", 1.12 * np.array(list(np.ndindex(3, 3, 2)))[:13])
    atoms.set_masses(np.ones(len(atoms)))
    momenta = np.random.default_rng(4).normal(scale=0.8**0.5, size=(len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    atoms.calc = Calculator(POTENTIAL, skin=0.2)
    with warnings.catch_warnings():
        # Of masses, which ASE keeps, no word is said.
        warnings.simplefilter("error", MdsensWarning)
        start, kinetic = atoms.get_total_energy(), atoms.get_kinetic_energy()
    drift = []
    for _ in range(10):
        VelocityVerlet(atoms, timestep=0.002).run(40)
        drift.append(atoms.get_total_energy() - start)
        agrees_with_a_fresh_one(atoms, properties=("energy", "forces"))
    assert np.abs(drift).max() < 1e-3 * kinetic
    # The calculators that compare find theirs, too.
    assert 2 < len(searches) - 10 < 100
