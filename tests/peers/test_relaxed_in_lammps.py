"""Structures at rest and their derivatives, by LAMMPS's own forces with potentials from files.

LAMMPS gives forces, with the file of each changed potential; Newton's steps on them lead to its
minimum, whatever matrix they are made with. Its positions are held against those of mdsens, and
differences of its minima against derivatives.
"""

from pathlib import Path
from typing import NamedTuple

import ase.build
import cases
import lammps_runs
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import find_edges
from mdsens.potentials import PotentialSum, from_file
from mdsens.potentials.pair_laws import COULOMB

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.xdist_group("snap-lammps")]
#: The square of the elementary charge in LAMMPS, over that of today, in units metal.
CHARGE_OF_LAMMPS = 14.399645 / COULOMB
#: Newton's steps, each of which takes what is left of a displacement to about its square.
STEPS = 8


class Case(NamedTuple):
    """A crystal with a vacancy, and what of its potential is changed.

    Attributes:
        file: as LAMMPS brings it.
        style: LAMMPS's pair_style.
        structure: as ASE names it, with its lattice constant and repetitions.
        elements: dealt out along the crystal; the first atom is missing.
        names: of the parameters in which derivatives are taken.
        step: the largest displacement of a difference, Ang.
        error: of derivatives, relative to the largest of a column.
    """

    file: str
    style: str
    structure: tuple
    elements: tuple[str, ...]
    names: tuple[str, ...]
    step: float = 1e-4
    error: float = 1e-6


CASES = [
    # Second derivatives of tables jump at their knots: short steps.
    Case("Cu_mishin1.eam.alloy", "eam/alloy", ("fcc", 3.615, (3, 3, 3)), ("Cu",),
         ("pair_scale[Cu-Cu]", "embedding_scale[Cu]"), 1e-6),
    Case("Fe_mm.eam.fs", "eam/fs", ("bcc", 2.855, (3, 3, 3)), ("Fe",),
         ("pair_scale[Fe-Fe]", "embedding_scale[Fe]"), 1e-6),
    Case("Ni.adp", "adp", ("fcc", 3.5, (2, 2, 2)), ("Ni",),
         ("pair_scale[Ni-Ni]", "quadrupole_scale[Ni-Ni]"), 1e-6),
    # Off their own lattice constants: there a vacancy moves nothing where bonds are all.
    Case("SiC.tersoff", "tersoff", ("zincblende", 4.2, (2, 2, 2)), ("Si", "C"),
         ("lambda2[Si-C]", "c[Si-C-C]"), 1e-5),
    Case("Si.sw", "sw", ("diamond", 5.35, (2, 2, 2)), ("Si",), ("sigma", "lambda_"), 1e-5),
    Case("CdTe.sw", "sw", ("zincblende", 6.7, (2, 2, 2)), ("Cd", "Te"),
         ("lambda_[Cd-Te-Te]", "lambda_[Te-Cd-Cd]"), 1e-5),
    Case("InP_JCPA2020.snap", "snap", ("zincblende", 5.83, (2, 1, 1)), ("In", "P"),
         ("beta[In,3]", "beta[P,7]"), 1e-5),
]  # fmt: skip
#: Those that always run: of tables one, of three bodies one; the others are the same code.
ALWAYS = ("Cu_mishin1.eam.alloy", "CdTe.sw")


def folder(lammps):
    return Path(lammps.__file__).parent / "share" / "lammps" / "potentials"


class Lammps:
    """LAMMPS with one structure and the files of one potential."""

    def __init__(self, lammps, atoms, elements, commands):
        self.run = lammps_runs.of(lammps, atoms, list(elements), [*commands, "run 0 post no"])
        self.start = np.array(self.run.gather_atoms("x", 1, 3))

    def at_rest(self, inverse, steps=STEPS):
        """How far from the start each coordinate is where LAMMPS's forces are zero, Ang."""
        positions = self.start.copy()
        for _ in range(steps):
            self.run.scatter_atoms("x", 1, 3, np.ctypeslib.as_ctypes(positions.copy()))
            self.run.command("run 0 post no")
            positions += inverse @ np.array(self.run.gather_atoms("f", 1, 3))
        self.run.close()
        return positions - self.start


def commands_of(potential, elements, style, folder):
    """LAMMPS's commands for a potential, which is written to files."""
    words = " ".join(elements)
    if style != "snap":
        path = folder / f"changed.{style.replace('/', '.')}"
        potential.to_file(path)
        return [f"pair_style {style}", f"pair_coeff * * {path} {words}"]
    # The scale is that of LAMMPS's charge, which it has of its own.
    snap, scaled = potential.parts
    (snap + scaled.parts[0]).to_file(folder / "changed.snap")
    commands = (folder / "changed.snap").read_text()
    return commands.replace("changed.snap", str(folder / "changed.snap")).splitlines()


def potential_of(path, elements):
    """As LAMMPS has it: with fewer digits of the elementary charge."""
    found = from_file(path, list(elements))
    if isinstance(found, PotentialSum):
        snap, zbl = found.parts
        return snap + CHARGE_OF_LAMMPS * zbl
    return found


def vacancy(structure, elements):
    name, lattice, repeats = structure
    atoms = ase.build.bulk("".join(elements), name, lattice, cubic=True) * repeats
    del atoms[0]
    return atoms


def assert_derivatives_are_those_of_lammps(lammps, tmp_path, base, case, names):
    """Each d x / d parameter beside a difference of the fourth order of LAMMPS's minima."""
    potential, system = base.potential, base.system
    reach = float(potential.interaction_range)
    edges = find_edges(base.positions, np.asarray(system.cell), system.pbc, reach, 0.4)
    matrix = sparse_hessian(system, potential, edges).toarray()
    inverse = np.linalg.pinv(matrix, rcond=1e-9, hermitian=True)
    atoms = base.to_ase()
    atoms.pbc = True

    def moved(changed, steps=STEPS):
        commands = commands_of(changed, case.elements, case.style, tmp_path)
        return Lammps(lammps, atoms, case.elements, commands).at_rest(inverse, steps)

    # At rest here is at rest there.
    assert np.abs(moved(potential)).max() < 1e-8
    found = mdsens.sensitivity(base, wrt=names, mode="forward", error_estimate=False).positions
    worst = 0.0
    for name in names:
        value, column = potential.parameters[name], np.asarray(found[name]).ravel()
        h = case.step / np.abs(column).max()
        ends = [moved(potential.with_parameters({name: value + k * h})) for k in (-2, -1, 1, 2)]
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
        error = np.abs(column - expected).max() / np.abs(expected).max()
        assert error < case.error, (name, error)
        worst = max(worst, error)
    return worst


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            marks=() if case.file in ALWAYS else cases.thorough("the others of these cases"),
            id=case.file,
        )
        for case in CASES
    ],
)
def test_a_vacancy_at_rest_and_its_derivatives_are_those_of_lammps(lammps, tmp_path, case):
    potential = potential_of(folder(lammps) / case.file, case.elements)
    start = System.from_ase(vacancy(case.structure, case.elements))
    base = mdsens.relax(start, potential, fmax=1e-11)
    assert_derivatives_are_those_of_lammps(lammps, tmp_path, base, case, list(case.names))


#: Tungsten in all coefficients but the constant, which moves nothing: cubic cells, columns.
TUNGSTEN = Case(
    "W_2940_2017_2.snap", "snap", ("bcc", 3.1803, ()), ("W",), (), 3e-6, 7e-6
)  # fmt: skip


@pytest.mark.parametrize(
    ("repeats", "every"),
    [
        pytest.param(2, 27, id="15 atoms, three columns"),
        pytest.param(2, 1, id="15 atoms", marks=cases.thorough("three of these columns")),
        pytest.param(4, 1, id="127 atoms", marks=cases.thorough("15 atoms")),
    ],
)
def test_all_derivatives_of_a_vacancy_in_tungsten_are_those_of_lammps(
    lammps, tmp_path, repeats, every
):
    case = TUNGSTEN._replace(structure=("bcc", 3.1803, (repeats,) * 3))
    potential = potential_of(folder(lammps) / case.file, case.elements)
    start = System.from_ase(vacancy(case.structure, case.elements))
    base = mdsens.relax(start, potential, fmax=1e-11)
    names = [f"beta[W,{k}]" for k in range(1, 56)][::every]
    worst = assert_derivatives_are_those_of_lammps(lammps, tmp_path, base, case, names)
    print(f"{len(start.positions)} atoms, {len(names)} columns: {worst:.1e}")
