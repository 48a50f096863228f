"""Embedded-atom potentials of the files of LAMMPS: energies, forces and stress as there."""

import ctypes
import sys
from pathlib import Path

import ase
import ase.build
import equinox as eqx
import lammps_runs
import numerical
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from thorough_runs import EVERY

from mdsens import System, mechanics
from mdsens.potentials import ADP, EAM, from_file
from mdsens.potentials.files.embedded_atom_files import STYLES as EAM_STYLES

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
#: LAMMPS's pair_style for each ending.
STYLES = EAM_STYLES | {".adp": "adp"}
#: For tables; what is found is near 1e-13.
TOLERANCE = 1e-10
#: LAMMPS's own factor from eV/Angstrom^3 to bar in units metal.
BAR = 1.6021765e6


@pytest.fixture(scope="module")
def lammps():
    """The module lammps; its wheel needs the MPI library that the wheel mpich brings."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install lammps mpich")
    for library in sorted(Path(sys.prefix, "lib").glob("libmpi.so.12")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


@pytest.fixture(scope="module")
def folder(lammps):
    return Path(lammps.__file__).parent / "share" / "lammps" / "potentials"


def distorted(elements, lattice, structure="fcc"):
    """A small sheared cell with every element, all atoms displaced at random."""
    atoms = ase.build.bulk("Cu", structure, lattice, cubic=True)
    shear = np.array([[1.0, 0.0, 0.0], [0.21, 0.97, 0.0], [-0.13, 0.34, 1.05]])
    atoms.set_cell(lattice * shear, scale_atoms=True)
    atoms = atoms * (2, 1, 2 if structure == "bcc" else 1)
    atoms.rattle(0.1, seed=1)
    atoms.symbols = [elements[index % len(elements)] for index in range(len(atoms))]
    return atoms


def by_lammps(lammps, atoms, path, elements, style):
    """Energy (eV), forces (eV/Ang) and stress (Voigt, eV/Ang^3, tension positive)."""
    run = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell[:].tolist()
    names = "" if style == "eam" else f" {' '.join(elements)}"
    run.commands_list([
        "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "boundary p p p",
        "box tilt large",
        f"region box prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
        f"create_box {len(elements)} box",
    ])  # fmt: skip
    types = [elements.index(symbol) + 1 for symbol in atoms.symbols]
    positions = atoms.get_positions(wrap=True).ravel().tolist()
    run.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions)
    run.commands_list([
        "mass * 1.0", f"pair_style {style}", f"pair_coeff * * {path}{names}",
        "thermo_modify norm no", "run 0 post no",
    ])  # fmt: skip
    energy = run.get_thermo("pe")
    forces = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3)
    order = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
    stress = -np.array([run.get_thermo(name) for name in order]) / BAR
    run.close()
    return energy, forces, stress


def by_mdsens(potential, atoms):
    system = System.from_ase(atoms)
    edge_list = potential.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    energy, forces, virial = eqx.filter_jit(mechanics.energy_forces_virial)(
        system, potential, edge_list
    )
    return float(energy), forces, mechanics.voigt(virial) / system.volume


def spline(values, spacing, straight=False):
    """A table's cubics; beyond its last knot a straight line or the last value."""
    ends = [values[1] - values[0], 0.5 * (values[2] - values[0])]
    inner = (values[:-4] - 8 * values[1:-3] + 8 * values[3:-1] - values[4:]) / 12
    last = [0.5 * (values[-1] - values[-3]), values[-1] - values[-2]]
    slopes = np.concatenate([ends, inner, last]) / spacing
    cubics = CubicHermiteSpline(spacing * np.arange(len(values)), values, slopes)
    end = cubics.x[-1]

    def value_and_slope(x):
        inside = np.minimum(x, end)
        return cubics(inside) + straight * slopes[-1] * (x - inside), cubics(inside, 1)

    return value_and_slope


def by_sums(potential, atoms):
    """Of the tables as they were read, by sums over pairs with NumPy."""
    r_phi, rho, F = (np.asarray(table) for table in (potential.r_phi, potential.rho, potential.F))
    kinds = np.array([potential.species.index(symbol) for symbol in atoms.symbols])
    first, second, _, vectors = numerical.images(
        atoms.positions, atoms.cell[:], atoms.pbc, potential.cutoff
    )
    r = np.linalg.norm(vectors, axis=1)
    pair, density = np.zeros((2, len(r))), np.zeros((2, len(r)))
    for i, j in np.ndindex(r_phi.shape[:2]):
        these = (kinds[first] == i) & (kinds[second] == j)
        pair[:, these] = spline(r_phi[i, j], potential.spacing)(r[these])
        source = rho[j] if rho.ndim == 2 else rho[j, i]
        density[:, these] = spline(source, potential.spacing)(r[these])
    summed = np.bincount(first, density[0], len(atoms))
    embedding = np.zeros((2, len(atoms)))
    for i in range(len(F)):
        line = spline(F[i], potential.density_spacing, straight=True)
        embedding[:, kinds == i] = line(summed[kinds == i])
    slopes = (pair[1] - pair[0] / r) / (2 * r) + embedding[1][first] * density[1]
    pulls = (slopes / r)[:, None] * vectors
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, first, pulls)
    np.add.at(forces, second, -pulls)
    stress = np.einsum("ea,eb->ab", pulls, vectors) / atoms.get_volume()
    energy = 0.5 * np.sum(pair[0] / r) + embedding[0].sum()
    return energy, forces, mechanics.voigt(stress)


def assert_agrees(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=TOLERANCE)
    assert numerical.relative_error(found[1], expected[1]) < TOLERANCE
    assert numerical.relative_error(found[2], expected[2]) < TOLERANCE


@pytest.mark.parametrize(
    ("file", "elements", "lattice", "structure"),
    [
        ("NiAlH_jea.eam.alloy", ["H", "Ni", "Al"], 3.8, "fcc"),
        ("FeP_mm.eam.fs", ["P", "Fe"], 2.9, "bcc"),
        ("AlCu.adp", ["Cu", "Al"], 3.8, "fcc"),
    ],
    ids=["three elements", "Finnis-Sinclair", "angular"],
)
def test_elements_in_another_order_give_what_lammps_gives(
    lammps, folder, file, elements, lattice, structure
):
    atoms = distorted(elements, lattice, structure)
    potential = from_file(folder / file, elements)
    style = STYLES[Path(file).suffix]
    expected = by_lammps(lammps, atoms, folder / file, elements, style)
    assert_agrees(by_mdsens(potential, atoms), expected)


@pytest.mark.parametrize("density", [0.3, 4.0], ids=["thin", "beyond the last knot"])
def test_densities_far_from_those_of_the_crystal(lammps, folder, density):
    """Beyond the last knot F goes on as a straight line."""
    elements = ["Ni", "Al"]
    atoms = distorted(elements, 3.8 * density ** (-1 / 3))
    path = folder / "NiAlH_jea.eam.alloy"
    expected = by_lammps(lammps, atoms, path, elements, "eam/alloy")
    assert_agrees(by_mdsens(EAM.from_file(path, elements), atoms), expected)


@pytest.mark.parametrize("file", ["Cu_u3.eam", "FeP_mm.eam.fs", "AlCu.adp"])
def test_lammps_reads_what_is_written_with_changed_parameters(lammps, folder, tmp_path, file):
    potential = from_file(folder / file)
    elements = list(potential.species)
    changes = {name: 0.9 + 0.02 * k for k, name in enumerate(potential.parameter_names)}
    potential = potential.with_parameters(changes)
    ending = {".eam": ".eam.alloy"}.get(Path(file).suffix, Path(file).suffix)
    written = tmp_path / f"changed{ending}"
    potential.to_file(written)
    atoms = distorted(elements, 3.2)
    expected = by_lammps(lammps, atoms, written, elements, STYLES[written.suffix])
    assert_agrees(by_mdsens(potential, atoms), expected)
    again = type(potential).from_file(written)
    assert again.comments[: len(potential.comments)] == potential.comments
    assert_agrees(by_mdsens(again, atoms), by_mdsens(potential, atoms))


@pytest.mark.slow
def test_every_file_of_lammps_is_read_and_gives_the_same(lammps, folder):
    """What is read of each, by plain sums; of each kind of file one, by compiled code, too."""
    paths = [path for path in sorted(folder.iterdir()) if {".eam", ".adp"} & set(path.suffixes)]
    paths = [path for path in paths if path.suffix in STYLES]
    assert len(paths) > 27
    assert {path.suffix for path in paths} == set(STYLES)
    kinds = set()
    for path in paths:
        potential = from_file(path)
        elements = list(potential.species)
        atoms = distorted(elements, 3.9)
        expected = by_lammps(lammps, atoms, path, elements, STYLES[path.suffix])
        short = path.name in ("Cu_smf7.eam", "Ni_smf7.eam")
        kind = (path.suffix, len(elements) > 1, short)
        ways = [] if isinstance(potential, ADP) else [by_sums]
        if kind not in kinds or not ways or EVERY:
            ways.append(by_mdsens)
        kinds.add(kind)
        for way in ways:
            found = way(potential, atoms)
            errors = (
                abs(found[0] - expected[0]) / abs(expected[0]),
                *(numerical.relative_error(found[k], expected[k]) for k in (1, 2)),
            )
            lammps_runs.tell(path, elements, errors)
            if short and way is by_mdsens:
                # Tables end before the cutoff, from where on LAMMPS's forces are no derivatives.
                errors = errors[:1]
            assert max(errors) < TOLERANCE, path.name
