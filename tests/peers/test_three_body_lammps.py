"""Three-body potentials from files, against LAMMPS on the same structures."""

import copy
import ctypes
import re
import sys
from pathlib import Path

import ase.build
import lammps_runs
import numerical
import numpy as np
import pytest

from mdsens import System
from mdsens.mechanics import voigt
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.particles import find_edges
from mdsens.potentials import from_file

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
TOLERANCE = 1e-10
#: LAMMPS's own factor from eV/Angstrom^3 to bar in units metal.
BAR = 1.6021765e6
#: Slots of an atom and images that there is room for, in the lists of edges of most files.
ROOM = 16, 64
#: LAMMPS's pair_style for each ending.
STYLES = {
    ".sw": "sw", ".tersoff": "tersoff", ".tersoff.mod": "tersoff/mod",
    ".tersoff.modc": "tersoff/mod/c", ".tersoff.zbl": "tersoff/zbl", ".edip": "edip/multi",
    ".vashishta": "vashishta",
}  # fmt: skip


@pytest.fixture(scope="module")
def lammps():
    """The module lammps; its wheel needs the MPI library that the wheel mpich brings."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install lammps mpich")
    for library in sorted(Path(sys.prefix, "lib").glob("libmpi.so.12")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


def folder(lammps):
    return Path(lammps.__file__).parent / "share" / "lammps" / "potentials"


def ending(path):
    """Of a file's name, without the year that some have before it."""
    return "." + re.sub(r"\.\d{4}\.", ".", path.name).partition(".")[2]


def distorted(elements, lattice, seed=1):
    """Zinc blende in a triclinic cell, its atoms displaced, and elements dealt out at random."""
    atoms = ase.build.bulk("Si", "diamond", lattice, cubic=True)
    shear = np.array([[1.0, 0.0, 0.0], [0.11, 0.97, 0.0], [-0.07, 0.14, 1.05]])
    atoms.set_cell(lattice * shear, scale_atoms=True)
    atoms.rattle(0.12, seed=seed)
    dealt = np.resize(range(len(elements)), len(atoms))
    return atoms, np.random.default_rng(seed).permutation(dealt)


def by_lammps(lammps, atoms, kinds, path, names, style=None):
    """Energy (eV), forces (eV/Ang) and stress (Voigt, eV/Ang^3), with atoms in either order.

    Where the two ends of a bond differ, LAMMPS takes that of one atom by the parity of their
    numbers; the mean over both orders of numbers takes half of each.
    """
    results = []
    for order in (slice(None), slice(None, None, -1)):
        run = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
        (lx, _, _), (xy, ly, _), (xz, yz, lz) = atoms.cell[:].tolist()
        run.commands_list([
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0",
            "boundary p p p", "box tilt large",
            f"region box prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(names)} box",
        ])  # fmt: skip
        positions = atoms.get_positions(wrap=True)[order].ravel().tolist()
        count = len(atoms)
        types = [int(kind) + 1 for kind in kinds[order]]
        run.create_atoms(count, list(range(1, count + 1)), types, positions)
        run.commands_list([
            "mass * 1.0", f"pair_style {style or STYLES[ending(path)]}",
            f"pair_coeff * * {path} {' '.join(names)}", "thermo_modify norm no", "run 0 post no",
        ])  # fmt: skip
        forces = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3)[order]
        parts = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
        stress = -np.array([run.get_thermo(name) for name in parts]) / BAR
        results.append((run.get_thermo("pe"), forces, stress))
        run.close()
    return [(first + second) / 2 for first, second in zip(*results, strict=True)]


def assert_agrees(lammps, path, elements, lattice, tolerance=TOLERANCE, style=None):
    species = ["Si", "C", "O", "N", "B", "Ge"][: len(elements)]
    ours = from_file(path, dict(zip(species, elements, strict=True)))
    atoms, kinds = distorted(elements, lattice)
    atoms.symbols = [species[kind] for kind in kinds]
    energy, forces, stress = by_lammps(lammps, atoms, kinds, path, elements, style)
    system = System.from_ase(atoms)
    edges = find_edges(
        atoms.positions, atoms.cell[:], system.pbc, float(ours.interaction_range),
        minimum_capacity=ROOM,
    )  # fmt: skip
    # Files of one kind share a program, which what they say of themselves would tell apart.
    ours = copy.copy(ours)
    object.__setattr__(ours, "header", None)
    found = compiled_energy_forces_virial(system, ours, edges)
    errors = (
        abs(float(found[0]) - energy) / abs(energy),
        numerical.relative_error(found[1], forces),
        numerical.relative_error(voigt(found[2]) / system.volume, stress),
    )
    assert max(errors) < tolerance, (path.name, errors)
    return errors


def test_edip_of_one_element_is_that_of_tables(lammps):
    """LAMMPS interpolates its functions between 8,000 knots for each Angstrom."""
    assert_agrees(lammps, folder(lammps) / "Si.edip", ["Si"], 5.2, 1e-6, "edip")


@pytest.mark.slow
def test_every_file_that_lammps_brings(lammps):
    paths = [path for path in sorted(folder(lammps).iterdir()) if ending(path) in STYLES]
    assert len(paths) >= 23
    assert set(map(ending, paths)) == set(STYLES)
    for path in paths:
        # Tersoff gave no parameters for germanium with carbon.
        elements = ["Si(D)", "C"] if path.name.startswith("SiCGe") else None
        if elements is None:
            elements = list(dict.fromkeys(word for word in from_file(path).species))
        if path.name == "SiO.1997.vashishta":
            # Silicon has no triplets with itself.
            assert_agrees(lammps, path, ["Si"], 4.5)
        # The entries [A-B-C] and [A-C-B] of this file differ in their sixth digit.
        tolerance = 1e-6 if path.name.startswith("CdTeZn") else TOLERANCE
        lattice = 6.5 if path.name.startswith("CdTe") else 4.5
        errors = assert_agrees(lammps, path, elements, lattice, tolerance)
        lammps_runs.tell(path, elements, errors)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Si.sw", {"lambda_": 22.5}),
        ("GaN.sw", {"lambda_[Ga-N-N]": 30.0, "sigma[Ga-N]": 1.7, "sigma[N-Ga]": 1.7}),
        ("SiC.tersoff", {"c[Si-C-Si]": 90000.0, "A[C-C]": 1400.25}),
        ("SiC.tersoff.zbl", {"ZBLcut[C-C]": 1.0}),
        ("Si.tersoff.modc", {"c0": -0.01}),
        ("SiC.edip", {"A[Si-C]": 7.6, "lambda_[C-Si-Si]": 3.0, "u4[C-C-C]": 0.7}),
        ("InP.vashishta", {"H[In-P]": 4900.0, "B[P-In-In]": 4.4, "r0[In-P]": 3.6}),
    ],
)
def test_lammps_reads_what_is_written(lammps, tmp_path, name, changes):
    potential = from_file(folder(lammps) / name).with_parameters(changes)
    potential.to_file(tmp_path / name)
    assert from_file(tmp_path / name).parameters == potential.parameters
    assert from_file(tmp_path / name).header == potential.header
    if name in ("Si.sw", "GaN.sw", "SiC.tersoff", "SiC.edip", "InP.vashishta"):
        assert_agrees(lammps, tmp_path / name, list(potential.species), 4.6)
