"""What relax promises: fixed atoms, cells under pressure, courses, and honest errors."""

import ase
import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.constraints import FixAtoms

import mdsens
from mdsens.errors import InputError, RelaxationError
from mdsens.potentials import LennardJones, Morse
from mdsens.relaxation import FIRE, unrelaxed

pytestmark = pytest.mark.xdist_group("relax")
LJ = cases.POTENTIALS["lj-smooth"]
#: Nearest neighbours of an fcc crystal only: a lattice constant of sqrt(2) r0.
NEAREST = Morse(1.0, 5.0, 1.0, 1.3)


def sheared_crystal():
    """One of the cells of an fcc crystal, squeezed, sheared and rattled."""
    atoms = ase.build.bulk("Cu", "fcc", 1.36, cubic=True)
    atoms.set_cell(atoms.cell[:] @ np.array([[1, 0.03, 0], [0.01, 1.02, 0], [0, 0.02, 0.98]]),
                   scale_atoms=True)  # fmt: skip
    atoms.rattle(0.01, seed=4)
    return mdsens.System.from_ase(atoms, units="reduced")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["argument", "mask", "system", "FixAtoms"])
def test_fixed_atoms_stay_where_they_are(how):
    system = cases.vacancy_crystal(rattle=0.05)
    held = [0, 4]
    mask = np.isin(np.arange(system.atom_count), held)
    fixed = {"argument": held, "mask": mask}.get(how)
    if how == "system":
        system = system.with_fixed(held)
    if how == "FixAtoms":
        atoms = system.to_ase()
        atoms.set_constraint(FixAtoms(indices=held))
        system = mdsens.System.from_ase(atoms, units="reduced")
    equilibrium = mdsens.relax(system, LJ, fixed=fixed)
    assert np.array_equal(equilibrium.positions[mask], system.positions[mask])
    assert np.linalg.norm(equilibrium.forces[~mask], axis=1).max() <= 1e-8
    assert np.linalg.norm(equilibrium.forces[mask], axis=1).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("pressure", [0.0, 0.7])
def test_a_full_cell_relaxes_to_the_stress_asked_for(pressure):
    equilibrium = mdsens.relax(
        sheared_crystal(), NEAREST, cell="full", pressure=pressure, fmax=1e-10
    )
    assert equilibrium.converged
    np.testing.assert_allclose(equilibrium.stress, [-pressure] * 3 + [0] * 3, atol=1e-9)
    assert float(equilibrium.pressure) == pytest.approx(pressure, abs=1e-9)


@pytest.mark.slow
def test_a_diagonal_cell_relaxes_its_normal_stresses():
    equilibrium = mdsens.relax(sheared_crystal(), NEAREST, cell="diagonal", pressure=0.4)
    np.testing.assert_allclose(equilibrium.stress[:3], -0.4, atol=1e-7)
    assert np.abs(equilibrium.stress[3:]).max() > 1e-3


@pytest.mark.slow
def test_an_isotropic_cell_relaxes_its_pressure_and_keeps_its_shape():
    start = sheared_crystal()
    equilibrium = mdsens.relax(start, NEAREST, cell="isotropic", pressure=0.4)
    assert float(equilibrium.pressure) == pytest.approx(0.4, abs=1e-7)
    ratio = np.linalg.solve(start.cell, equilibrium.cell)
    np.testing.assert_allclose(ratio, np.eye(3) * ratio[0, 0], atol=1e-12)


def test_a_stretched_crystal_finds_its_lattice_constant():
    crystal = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", 1.5), units="reduced")
    equilibrium = mdsens.relax(crystal, NEAREST, cell="full", fmax=1e-11)
    # The primitive cell of an fcc crystal has a quarter of the volume of its cube.
    assert float(equilibrium.volume) == pytest.approx(np.sqrt(2) ** 3 / 4, rel=1e-10)


@pytest.mark.slow
def test_a_flat_cell_relaxes_too():
    lattice = np.array([[1.1, 0.0], [0.5, 0.9]])
    crystal = mdsens.System([[0.0, 0.0]], lattice, pbc=True, units="reduced")
    equilibrium = mdsens.relax(crystal, NEAREST, cell="full", fmax=1e-10)
    assert float(equilibrium.volume) == pytest.approx(np.sqrt(0.75), rel=1e-9)
    np.testing.assert_allclose(equilibrium.stress, np.zeros(3), atol=1e-9)


@pytest.mark.slow
def test_a_dimer_at_rest_is_at_its_minimum_distance():
    equilibrium = mdsens.relax(cases.dimer(), LennardJones(1.7, 1.3, 3.5), fmax=1e-11)
    assert float(cases.bond_lengths(equilibrium)[0]) == pytest.approx(2 ** (1 / 6) * 1.3, rel=1e-11)
    assert float(equilibrium.energy) == pytest.approx(-1.7, rel=1e-12)


@pytest.mark.parametrize("method", ["fire", "lbfgs", "newton", "cg", "gradient-descent"])
def test_every_step_evaluates_the_gradient_at_least_once(method):
    history = mdsens.relax(cases.dimer(), LennardJones(1.7, 1.3, 3.5), method, fmax=1e-6).history
    assert history.steps > 0
    assert history.steps + 1 <= history.evaluations <= 26 * (history.steps + 1)


@pytest.mark.slow
def test_a_lone_atom_has_no_energy():
    equilibrium = mdsens.relax(mdsens.System([[0.3, 0.1, 0.2]]), LJ)
    assert float(equilibrium.energy) == 0.0
    assert equilibrium.certificate.null_modes["rattlers"] == 3


@pytest.mark.slow
def test_a_single_atom_in_a_cell_has_the_energy_of_its_lattice():
    crystal = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", np.sqrt(2)))
    assert float(mdsens.relax(crystal, NEAREST).energy) == pytest.approx(-6.0, rel=1e-12)


def test_the_callback_hears_of_the_course():
    heard = []
    equilibrium = mdsens.relax(
        cases.vacancy_crystal(), LJ, method="fire", fmax=1e-7,
        callback=lambda *news: heard.append(news),
    )  # fmt: skip
    steps, energies, forces, positions = zip(*heard, strict=True)
    assert list(steps) == sorted(set(steps))
    assert steps[-1] == equilibrium.history.steps
    assert energies[-1] == pytest.approx(float(equilibrium.energy), rel=1e-14)
    assert forces[-1] <= 1e-7
    assert np.array_equal(positions[-1], equilibrium.positions)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_callback_that_raises_ends_the_relaxation(wrap):
    def refuse(*news):
        raise ZeroDivisionError("enough")

    def energy(potential):
        system = cases.vacancy_crystal()
        return mdsens.relax(system, potential, callback=refuse, capacity=(200, 2000)).energy

    with pytest.raises(Exception, match="enough"):
        wrap(energy)(LJ)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "fire", "newton"])
@pytest.mark.parametrize("steps", [0, 3])
def test_no_more_steps_than_allowed(method, steps):
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ, method=method, max_steps=steps)
    assert equilibrium.history.steps == steps
    assert not equilibrium.converged


def test_newton_steps_that_halve_the_force_are_followed_by_others():
    """Near a minimum, where each leaves the square of what there was."""
    relaxed = mdsens.relax(cases.bipyramid(), cases.POTENTIALS["lj-binary"], fmax=1e-10)
    names = [name for name, steps in relaxed.history.methods if steps]
    first = names.index("Newton")
    assert set(names[:first]) == {"LBFGS"}
    assert names[first:] == ["Newton"] * (len(names) - first)
    assert len(names) - first > 1


@pytest.mark.slow
def test_the_history_has_the_energy_and_force_of_every_step():
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ, method="lbfgs")
    history = equilibrium.history
    assert len(history.enthalpies) == len(history.forces) == history.steps + 1
    assert np.isfinite(history.enthalpies).all()
    assert (np.diff(history.enthalpies) <= 1e-12).all()
    assert history.forces[-1] == pytest.approx(float(equilibrium.largest_force), abs=1e-15)


def test_numbers_that_are_not_finite_are_an_error_that_names_the_atoms():
    positions = [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [1.1, 1e-60, 0.0]]
    with pytest.raises(RelaxationError, match=r"not finite .* atoms \[1, 2\]"):
        mdsens.relax(mdsens.System(positions, units="reduced"), LJ)


def test_a_structure_that_flies_apart_is_an_error_that_names_the_atom():
    wild = FIRE(dt=100.0, dt_max=100.0, max_step=1e9)
    with pytest.raises(RelaxationError, match=r"flies apart: atom [01]"):
        mdsens.relax(cases.dimer(0.5), LJ, method=wild)


NAN = float("nan")


def broken_system():
    return eqx.tree_at(lambda s: s.positions, cases.dimer(), jnp.full((2, 3), NAN))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fired"}, "did you mean 'fire'"),
        ({"method": FIRE}, "method = .*FIRE.*: allowed are auto, fire"),
        ({"method": ["fire"]}, r"method = \['fire'\]: allowed are auto, fire"),
        ({"method": None}, "method = None: allowed are auto, fire"),
        ({"cell": "cubic"}, "cell = 'cubic': allowed are None, isotropic, diagonal, full"),
        ({"cell": ["full"]}, r"cell = \['full'\]: allowed are None, isotropic"),
        ({"cell": True}, "cell = True: allowed are None, isotropic"),
        ({"cell": "full"}, "where a direction is periodic"),
        ({"fmax": 0.0}, "fmax = 0.0: give a finite number above 0"),
        ({"fmax": NAN}, "fmax = nan: give a finite number above 0"),
        ({"fmax": "1e-8"}, "fmax = '1e-8': give a finite number above 0"),
        ({"fmax": True}, "fmax = True: give a finite number above 0"),
        ({"fmax": [1e-8]}, "fmax = .*: give a finite number above 0"),
        ({"max_steps": -1}, "max_steps = -1: give a whole number of at least 0"),
        ({"max_steps": 10.0}, "max_steps = 10.0: give a whole number of at least 0"),
        ({"max_steps": True}, "max_steps = True: give a whole number"),
        ({"max_step": 0}, "max_step = 0: give a finite number above 0"),
        ({"max_step": "0.2"}, "max_step = '0.2': give a finite number above 0"),
        ({"skin": "a"}, "skin = 'a': give a finite number above 0"),
        ({"skin": 0}, "skin = 0: give a finite number above 0"),
        ({"skin": -0.3}, "skin = -0.3: give a finite number above 0"),
        ({"skin": NAN}, "skin = nan: give a finite number above 0"),
        ({"pressure": NAN}, "pressure = nan is not finite: give a finite number"),
        ({"pressure": "1 GPa"}, "pressure = '1 GPa': give numbers"),
        ({"pressure": None}, "pressure = None: give numbers"),
        ({"pressure": [1.0, 1.0, 1.0]}, r"pressure has shape \(3,\): give one number"),
        ({"pressure": 0.1}, "pressure is 0.1, and cell = None: .* give cell"),
        ({"progress": "yes"}, "progress = 'yes': give True or False"),
        ({"progress": 1}, "progress = 1: give True or False"),
        ({"callback": "print"}, "callback is a str: give a function, or None"),
        ({"capacity": 100}, "capacity = 100: give two whole numbers"),
        ({"capacity": (100.0, 10)}, r"capacity\[0\] = 100.0: give a whole number"),
        ({"capacity": (0, 10)}, r"capacity\[0\] = 0: give a whole number of at least 1"),
        ({"capacity": (100, -1)}, r"capacity\[1\] = -1: give a whole number of at least 0"),
        ({"fixed": [7]}, "there is no 7; allowed are 0 to 1"),
        ({"fixed": [0.0]}, "fixed = .0.0.: give a mask of booleans, or indices"),
        ({"fixed": np.array([0, 0, 1])}, "0 is given twice"),
        ({"fixed": [True]}, r"fixed has shape \(1,\): give a mask of shape \(2,\)"),
        ({"potential": "lennard-jones"}, "potential is a str: give a mdsens.potentials one"),
        ({"potential": LennardJones}, "is the class .*: give what it makes, LennardJ"),
        ({"potential": ase.Atoms}, "is the class Atoms: give a mdsens.potentials one"),
        ({"system": ase.Atoms("Ar")}, "system is a Atoms: give a mdsens.System, as from System.f"),
        ({"system": broken_system()}, "positions .*is not finite in rows 0, 1"),
        ({"potential": cases.POTENTIALS["lj-binary"]}, "no parameters for species X"),
    ],
    ids=range(44),
)  # fmt: skip
def test_what_relax_refuses(arguments, message):
    given = {"system": cases.dimer(), "potential": LJ, **arguments}
    with pytest.raises(InputError, match=message) as caught:
        mdsens.relax(**given)
    assert "\n" not in str(caught.value)


def test_a_pressure_that_is_traced_needs_a_cell_that_relaxes():
    def energy(pressure):
        return mdsens.relax(cases.dimer(), LJ, pressure=pressure).energy

    with pytest.raises(InputError, match="pressure is being traced, and cell = None"):
        jax.make_jaxpr(energy)(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("lattice", [None, 5.0], ids=["no cell", "a lattice that nothing repeats"])
def test_volume_and_stress_need_a_periodic_direction(lattice):
    # A file may keep a lattice for a structure that is not periodic.
    cell = None if lattice is None else lattice * np.eye(3)
    start = mdsens.System(cases.dimer().positions, cell, pbc=False)
    equilibrium = unrelaxed(start, LJ)
    for name in ("volume", "stress", "pressure"):
        with pytest.raises(InputError, match=f"{name} needs a volume, and no direction is period"):
            getattr(equilibrium, name)
        with pytest.raises(InputError, match="no direction is periodic"):
            jax.eval_shape(lambda q, name=name: getattr(moved_to(equilibrium, q), name), start)
    assert "stress" not in equilibrium.to_ase().calc.results
    assert mdsens.relax_batch([start], LJ, max_steps=0).volumes.tolist() == [0.0]


def moved_to(equilibrium, system):
    return eqx.tree_at(lambda e: e.q, equilibrium, system.positions)


def test_a_slab_in_a_full_cell_has_a_volume_and_a_stress():
    slab = cases.case("lj-smooth", "slab").system
    equilibrium = unrelaxed(slab, LJ)
    atoms = equilibrium.to_ase()
    assert float(equilibrium.volume) == pytest.approx(atoms.get_volume(), rel=1e-14)
    assert np.array_equal(atoms.get_stress(), equilibrium.stress)


@pytest.mark.slow
def test_atoms_beyond_every_cutoff_stay_and_have_no_energy():
    apart = mdsens.System([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    equilibrium = mdsens.relax(apart, LJ)
    assert float(equilibrium.energy) == 0.0
    assert np.array_equal(equilibrium.positions, apart.positions)
    certificate = equilibrium.certificate
    assert certificate.converged
    assert certificate.null_modes == {
        "translations": 0, "rotations": 0, "rattlers": 6, "floppy": 0
    }  # fmt: skip
    sens = mdsens.sensitivity(equilibrium, ["energy", "distance(0,1)"])
    for name in ("energy", "distance(0,1)"):
        assert float(sens[name]["sigma"]) == 0.0


def test_an_equilibrium_goes_to_ase_with_its_results():
    equilibrium = mdsens.relax(cases.vacancy_crystal(), LJ)
    atoms = equilibrium.to_ase()
    assert atoms.get_potential_energy() == float(equilibrium.energy)
    np.testing.assert_array_equal(atoms.get_forces(), equilibrium.forces)
    np.testing.assert_array_equal(atoms.get_stress(), equilibrium.stress)


@pytest.mark.slow
def test_the_starting_positions_have_no_derivative():
    def lengths(positions):
        return cases.bond_lengths(mdsens.relax(cases.dimer().with_positions(positions), LJ))

    assert not np.any(jax.jacfwd(lengths)(cases.dimer().positions))


@pytest.mark.slow
def test_too_little_room_under_jit_says_how_much_is_needed():
    system = cases.vacancy_crystal()

    @jax.jit
    def energy(potential):
        return mdsens.relax(system, potential, capacity=(4, 4)).energy

    with pytest.raises(Exception, match=r"pass capacity=\("):
        jnp.asarray(energy(LJ)).block_until_ready()
