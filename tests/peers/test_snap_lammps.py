"""SNAP from files, against LAMMPS on the same structures, relaxed ones among them."""

import itertools
from pathlib import Path

import ase.build
import cases
import lammps_runs
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.mechanics import voigt
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import find_edges
from mdsens.potentials import SNAP, PotentialSum, from_file
from mdsens.potentials.bispectrum import triples_of_degrees
from mdsens.potentials.pair_laws import COULOMB

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("snap-lammps")]
TOLERANCE = 1e-11
#: With several densities per atom LAMMPS's forces are derivatives of its energy where coefficients
#: of equal components are equal, which in this file they are to fewer digits.
TOLERANCES = {"InP_JCPA2020": 1e-8}
#: The square of the elementary charge in LAMMPS, over that of today, in units metal.
CHARGE_OF_LAMMPS = 14.399645 / COULOMB
#: A lattice constant for each element, of a cell that holds few atoms and has every kind of pair.
LATTICES = {
    "C": ("diamond", 3.6), "Si": ("diamond", 5.4), "Ge": ("diamond", 5.7), "In": ("diamond", 5.9),
    "Cu": ("fcc", 3.6), "Ni": ("fcc", 3.5), "Li": ("bcc", 3.4),
}  # fmt: skip


def folder(lammps):
    return Path(lammps.__file__).parent / "share" / "lammps" / "potentials"


def distorted(species):
    """A crystal in a triclinic cell, its atoms displaced, and elements dealt out at random."""
    structure, lattice = LATTICES.get(species[0], ("bcc", 3.2))
    atoms = ase.build.bulk("W", structure, lattice, cubic=True)
    if len(atoms) < 4:
        atoms = atoms * (1, 2, 1)
    # An odd number, which blocks of atoms have no room for.
    del atoms[-1]
    shear = np.array([[1.0, 0.05, 0.0], [0.0, 0.98, 0.04], [0.03, 0.0, 1.04]])
    atoms.set_cell(atoms.cell[:] @ shear, scale_atoms=True)
    atoms.rattle(0.12, seed=1)
    dealt = np.resize(range(len(species)), len(atoms))
    atoms.symbols = [species[kind] for kind in np.random.default_rng(1).permutation(dealt)]
    return atoms


def run_of(lammps, atoms, species, coefficients, parameters, zbl=None):
    """LAMMPS with the atoms in their cell, which is turned to what it wants."""
    atoms.set_cell(lammps_runs.lower_triangular(atoms.cell[:]), scale_atoms=True)
    files = f"{coefficients} {parameters} {' '.join(species)}"
    commands = ["pair_style snap", f"pair_coeff * * {files}"]
    if zbl is not None:
        charges = zbl.Z.tolist()
        pairs = [(i, j) for j in range(len(species)) for i in range(j + 1)]
        commands = [
            f"pair_style hybrid/overlay zbl {zbl.onset} {zbl.cutoff} snap",
            *(f"pair_coeff {i + 1} {j + 1} zbl {charges[i]} {charges[j]}" for i, j in pairs),
            f"pair_coeff * * snap {files}",
        ]
    return lammps_runs.of(lammps, atoms, list(species), [*commands, "run 0 post no"])


def assert_agrees(lammps, potential, coefficients, parameters, tolerance=TOLERANCE):
    snap, zbl = potential, None
    if isinstance(potential, PotentialSum):
        snap, zbl = potential.parts
        potential = snap + CHARGE_OF_LAMMPS * zbl
    atoms = distorted(snap.species)
    run = run_of(lammps, atoms, snap.species, coefficients, parameters, zbl)
    system = System.from_ase(atoms)
    edges = find_edges(
        atoms.positions, atoms.cell[:], system.pbc, float(potential.interaction_range)
    )
    energy, forces, virial = compiled_energy_forces_virial(system, potential, edges)
    expected = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3)
    errors = (
        abs(float(energy) - run.get_thermo("pe")) / abs(run.get_thermo("pe")),
        numerical.relative_error(forces, expected),
        numerical.relative_error(voigt(virial) / system.volume, lammps_runs.stress(run)),
    )
    run.close()
    assert errors[0] < TOLERANCE
    assert max(errors) < tolerance, (coefficients, errors)
    return errors


def test_energy_forces_and_stress_are_those_of_lammps(lammps):
    path = folder(lammps) / "W_2940_2017_2.snap"
    files = (path.with_suffix(ending) for ending in (".snapcoeff", ".snapparam"))
    assert_agrees(lammps, from_file(path), *files)


@pytest.mark.slow
def test_every_file_that_lammps_brings(lammps):
    paths = sorted(folder(lammps).glob("*.snapcoeff"))
    assert len(paths) >= 18
    for path in paths:
        commands = path.with_suffix(".snap")
        potential = from_file(commands if commands.is_file() else path)
        names = (potential.parts[0] if isinstance(potential, PotentialSum) else potential).species
        tolerance = TOLERANCES.get(path.stem, TOLERANCE)
        parameters = path.with_suffix(".snapparam")
        errors = assert_agrees(lammps, potential, path, parameters, tolerance)
        lammps_runs.tell(path, names, errors)


#: Of two elements up to degree 2, five components: options, and the count of coefficients.
OPTIONS = [
    (6, {}),
    (6, {"rmin0": 0.6, "rfac0": 0.9, "bzeroflag": False, "bnormflag": True}),
    (6, {"switchinnerflag": True, "sinner": (2.4, 2.2), "dinner": (0.5, 0.3)}),
    (6, {"switchflag": False, "wselfallflag": True}),
    (1 + 5 + 15, {"quadraticflag": True}),
    (41, {"chemflag": True, "bnormflag": True}),
    (41, {"chemflag": True, "wselfallflag": True, "bzeroflag": False}),
    (1 + 40 + 820, {"chemflag": True, "quadraticflag": True}),
]


def equal_where_components_are(beta, quadratic):
    """Coefficients of two elements up to degree 2, the same for what the order of equals leaves."""
    triples = triples_of_degrees(2)
    labels = {}
    for place, elements in enumerate(itertools.product(range(2), repeat=3)):
        for index, degrees in enumerate(triples):
            # Degrees in the order of LAMMPS belong to the elements in theirs.
            label = tuple(sorted(zip(degrees, elements, strict=True)))
            labels.setdefault((degrees, label), []).append(place * len(triples) + index)
    mean = np.zeros((40, 40))
    for places in labels.values():
        mean[np.ix_(places, places)] = 1.0 / len(places)
    changed = beta.copy()
    changed[:, 1:41] = beta[:, 1:41] @ mean
    if quadratic:
        rows, columns = np.triu_indices(40)
        for row in changed:
            matrix = np.zeros((40, 40))
            matrix[rows, columns] = matrix[columns, rows] = row[41:]
            row[41:] = (mean @ matrix @ mean)[rows, columns]
    return changed


@pytest.mark.slow
@pytest.mark.parametrize(("count", "options"), OPTIONS)
def test_every_option_is_that_of_lammps_which_reads_what_is_written(
    lammps, tmp_path, count, options
):
    beta = np.random.default_rng(1).normal(0.0, 0.02, (2, count))
    if "chemflag" in options:
        beta = equal_where_components_are(beta, options.get("quadraticflag", False))
    potential = SNAP(beta, ("W", "Be"), (0.5, 0.43), (1.0, 0.9), 4.3, 2, **options)
    paths = tmp_path / "a.snapcoeff", tmp_path / "a.snapparam"
    potential.to_files(*paths)
    assert_agrees(lammps, SNAP.from_files(*paths), *paths)


@pytest.mark.slow
@cases.thorough(
    "energies and forces as in LAMMPS, and the study of a vacancy in tungsten, which is verified"
)
def test_derivatives_of_a_vacancy_are_those_of_relaxing_in_lammps(lammps, tmp_path):
    """In some of the coefficients of tungsten; Newton's steps on LAMMPS's forces relax there."""
    snap, zbl = from_file("W_2940_2017_2.snap").parts
    potential = snap + CHARGE_OF_LAMMPS * zbl
    atoms = ase.build.bulk("W", "bcc", 3.1803, cubic=True) * (2, 2, 2)
    del atoms[0]
    base = mdsens.relax(System.from_ase(atoms), potential, fmax=1e-11)
    names = [f"beta[W,{k}]" for k in (1, 55)]
    found = mdsens.sensitivity(base, wrt=names, error_estimate=False).positions
    edges = find_edges(base.positions, atoms.cell[:], base.system.pbc, 4.8, 0.4)
    inverse = np.linalg.pinv(
        sparse_hessian(base.system, potential, edges).toarray(), rcond=1e-9, hermitian=True
    )

    def relaxed(changed):
        paths = tmp_path / "a.snapcoeff", tmp_path / "a.snapparam"
        changed.to_files(*paths)
        place = atoms.copy()
        place.positions[:] = base.positions
        run = run_of(lammps, place, snap.species, *paths, zbl)
        positions = np.array(run.gather_atoms("x", 1, 3))
        start = positions.copy()
        for _ in range(12):
            run.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(positions.copy()))
            run.command("run 0 post no")
            positions += inverse @ np.array(run.gather_atoms("f", 1, 3))
        run.close()
        return positions - start

    for name in names:
        value = snap.parameters[name]
        # Short steps: soft as this cell is, the fifth derivative is large.
        h = 3e-6 / np.abs(found[name]).max()
        ends = [relaxed(snap.with_parameters({name: value + k * h})) for k in (-2, -1, 1, 2)]
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
        error = np.abs(np.asarray(found[name]).ravel() - expected).max()
        assert error < 1e-7 * np.abs(expected).max()
