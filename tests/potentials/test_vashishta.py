"""Vashishta's potential against plain sums over atoms, and derivatives against re-relaxation."""

import itertools

import ase
import ase.build
import cases
import numpy as np
import pytest
from ase.calculators.lammps import convert

import mdsens
from mdsens import System
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial, compiled_site_energies
from mdsens.particles import find_edges
from mdsens.potentials import Vashishta
from mdsens.potentials.three_body import MANY_SLOTS, USUAL_BONDS
from mdsens.potentials.vashishta import COULOMB
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("vashishta")

NAMES = ("Si", "O")
#: Numbers near those of silica, one after another: those of bonds Si-Si, Si-O, O-Si and O-O.
BONDS = {
    "H": [0.8, 164.0, 165.0, 745.0], "eta": [11.0, 9.0, 9.1, 7.0], "Zi": [1.2, 1.2, -0.6, -0.6],
    "Zj": [1.2, -0.6, 1.25, -0.6], "lambda1": [4.4, 4.4, 4.5, 0.0], "D": [0.0, 44.0, 43.0, 22.0],
    "lambda4": [0.0, 4.4, 4.3, 4.4], "W": [0.0, 2.0, 1.9, 3.0], "rc": [3.9, 4.0, 4.1, 4.2],
    "gamma": [0.0, 1.0, 1.1, 0.9], "r0": [0.0, 2.8, 2.7, 2.9],
}  # fmt: skip


def mixture():
    """Two species whose every entry differs."""
    generator = np.random.default_rng(7)
    bonds = {name: np.reshape(values, (2, 2)) for name, values in BONDS.items()}
    return Vashishta(
        **bonds, B=generator.uniform(1.0, 5.0, (2, 2, 2)), C=generator.uniform(0, 2, (2, 2, 2)),
        costheta0=generator.uniform(-0.6, 0.0, (2, 2, 2)), species=NAMES,
    )  # fmt: skip


def pair_energy(r, H, eta, Zi, Zj, lambda1, D, lambda4, W):
    """U of the docstring, and its slope by hand."""
    near, far = (np.exp(-r / length) if length else 1.0 for length in (lambda1, lambda4))
    charges, dipoles = COULOMB * Zi * Zj / r * near, D / r**4 * far
    energy = H / r**eta + charges - dipoles - W / r**6
    slope = -eta * H / r ** (eta + 1) - charges / r + 4 * dipoles / r + 6 * W / r**7
    slope += dipoles / lambda4 if lambda4 else 0.0
    return energy, slope - (charges / lambda1 if lambda1 else 0.0)


def site_energies(potential, positions, kinds, atoms):
    """The formula of the docstring of some atoms, in loops over all."""

    def number(name, *index):
        value = np.asarray(getattr(potential, name))
        return float(value[index[: value.ndim]])

    found = np.zeros(len(positions))
    for i in atoms:
        bonds = []
        for j in range(len(positions)):
            vector = positions[j] - positions[i]
            r, pair = np.linalg.norm(vector), (kinds[i], kinds[j])
            if j == i:
                continue
            bonds.append((vector / r, r, pair))
            rc = number("rc", *pair)
            names = ("H", "eta", "Zi", "Zj", "lambda1", "D", "lambda4", "W")
            numbers = [number(name, *pair) for name in names]
            end, slope = pair_energy(rc, *numbers)
            if r < rc:
                found[i] += 0.5 * (pair_energy(r, *numbers)[0] - end - (r - rc) * slope)
        for (u, r, first), (v, s, second) in itertools.permutations(bonds, 2):
            if r >= number("r0", *first) or s >= number("r0", *second):
                continue
            place = (kinds[i], first[1], second[1])
            square = (u @ v - number("costheta0", *place)) ** 2
            weights = np.exp(
                number("gamma", *first) / (r - number("r0", *first))
                + number("gamma", *second) / (s - number("r0", *second))
            )
            angular = square / (1.0 + number("C", *place) * square)
            found[i] += 0.5 * number("B", *place) * angular * weights
    return found


#: Five atoms in whose bonds and triplets all parameters take part.
KINDS = [0, 1, 0, 1, 1]
CLUSTER = np.array(
    [[0, 0, 0], [1.7, 0.1, 0], [0.3, 3.1, 0.2], [-0.7, -0.5, 1.5], [0.9, 1.6, 0.6]]
)  # fmt: skip


def edges_of(system, potential):
    return find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc,
        float(potential.interaction_range),
    )  # fmt: skip


@pytest.mark.parametrize("crowded", [False, True])
def test_energies_of_atoms_are_the_sums_over_pairs_and_triplets(crowded):
    """Of a few atoms, and of so many within reach that room is made for their bonds."""
    potential, kinds, positions = mixture(), KINDS, CLUSTER
    if crowded:
        crystal = ase.build.bulk("Ar", "fcc", 2.6, cubic=True) * (3, 3, 3)
        positions, kinds = crystal.positions, np.resize(kinds, len(crystal))
        apart = np.linalg.norm(positions[:, None] - positions, axis=2)
        assert np.sum(apart < 4.2, axis=0).max() > MANY_SLOTS
        assert np.sum(apart < 2.7, axis=0).max() > USUAL_BONDS + 1
    system = System.from_ase(ase.Atoms([NAMES[kind] for kind in kinds], positions))
    found = compiled_site_energies(system, potential, edges_of(system, potential))
    atoms = [53, 60] if crowded else range(5)
    expected = site_energies(potential, positions, kinds, atoms)[atoms]
    np.testing.assert_allclose(np.asarray(found)[np.array(atoms)], expected, rtol=1e-12)


def test_the_force_of_a_pair_goes_to_zero_at_the_range():
    potential = Vashishta(
        **{name: values[1] for name, values in BONDS.items()}, B=5.0, C=0.0, costheta0=-0.3
    )
    for distance, force in ((4.0 - 1e-7, 1e-6), (4.0, 0.0), (30.0, 0.0)):
        system = System.from_ase(ase.Atoms("Si2", [[0, 0, 0], [distance, 0, 0]]))
        energy, forces, _ = compiled_energy_forces_virial(
            system, potential, edges_of(system, potential)
        )
        assert abs(float(energy)) <= force**2
        assert np.abs(np.asarray(forces)).max() <= force


@pytest.mark.slow
@cases.thorough("the checks below, and the same test of EDIP")
def test_sensitivities_are_those_of_relaxing_again():
    potential = mixture()
    system = System.from_ase(ase.build.bulk("SiO", "zincblende", 3.9))
    options = {"cell": "isotropic", "fmax": 1e-11, "method": "lbfgs"}
    equilibrium = mdsens.relax(system, potential, **options)
    names = ["H[Si-O]", "B[O-Si-Si]", "r0[Si-O]"]
    found = mdsens.sensitivity(equilibrium, "volume", wrt=names, error_estimate=False)
    for name in names:
        value = potential.parameters[name]

        def volume(step, name=name, value=value):
            changed = potential.with_parameters({name: value * (1.0 + step)})
            return float(mdsens.relax(equilibrium.system, changed, **options).volume)

        slopes = [(volume(h) - volume(-h)) / (2 * h * value) for h in (1e-3, 5e-4)]
        expected = (4 * slopes[1] - slopes[0]) / 3
        assert float(found["volume"][name]) == pytest.approx(expected, rel=1e-6)


def in_units(units):
    """A file of Si-O in other units, whose charges are those of the electron."""
    energy, length = (convert(1.0, name, "ASE", units) for name in ("energy", "distance"))
    numbers = {name: values[1] for name, values in BONDS.items()}
    numbers |= {"B": 5.0, "C": 0.5, "costheta0": -0.3}
    powers = {"H": (1, numbers["eta"]), "D": (1, 4), "W": (1, 6), "B": (1, 0)}
    powers |= dict.fromkeys(("lambda1", "lambda4", "rc", "gamma", "r0"), (0, 1))
    row = [
        numbers[name]
        * energy ** powers.get(name, (0, 0))[0]
        * length ** powers.get(name, (0, 0))[1]
        for name in Vashishta.layouts[".vashishta"]
    ]
    return numbers, f"# UNITS: {units}\nX X X {' '.join(map(repr, row))}\n"


def test_a_file_in_other_units_is_converted(tmp_path):
    path = tmp_path / "other.vashishta"
    for units in ("real", "electron"):
        numbers, text = in_units(units)
        path.write_text(text)
        assert Vashishta.from_file(path).parameters == pytest.approx(numbers, rel=1e-6)
    path.write_text(in_units("si")[1])
    with pytest.raises(InputError, match="line 1: UNITS: 'si'"):
        Vashishta.from_file(path)


@pytest.mark.slow
def test_the_checks_of_a_potential_pass():
    """The second derivative jumps where pairs begin to interact, as the shift has it."""
    # At zero it stands for no screening at all, and has no derivative.
    screened = mixture().with_parameters({"lambda1[O-O]": 4.2})
    atoms = ase.Atoms([NAMES[kind] for kind in KINDS], CLUSTER)
    check_potential(screened, atoms, smoothness=1).require()
