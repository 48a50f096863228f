"""Inputs that are refused, each with words that its one line must hold: the table.

Printed as a page of the documentation: python tests/bad_inputs.py > docs/bad_inputs.md. Layers and
conditions have a table of their own, tests/layers/refusals.py.
"""

import contextlib
import copy
import dataclasses
import functools
import io
import json
import os
import sys
import tempfile
import tomllib
import warnings
from pathlib import Path

import ase
import ase.constraints
import ase.io
import jax.numpy as jnp
import numpy as np

import mdsens
from mdsens.errors import MdsensError
from mdsens.potentials import from_file
from mdsens.study import read_sweep
from mdsens.study.study import study_of
from mdsens.study.study_file import read_study
from mdsens.study.toml import to_toml

#: Where the page is, and how it is made.
PAGE = Path(__file__).parents[1] / "docs" / "bad_inputs.md"

#: A study that is right; rows of the table change it.
STUDY = {
    "units": "ase",
    "structure": {"file": "argon.xyz"},
    "potential": {"type": "lennard-jones", "epsilon": 0.01, "sigma": 3.4, "cutoff": 8.5},
    "relaxation": {"method": "lbfgs", "fmax": 1e-8},
    "sensitivity": {"observables": ["energy", "distance(0,1)"]},
}
#: Of files of potentials.
FILE_ENDINGS = (
    ".sw", ".tersoff", ".edip", ".vashishta", ".adp", ".snap", ".snapcoeff",
)  # fmt: skip
#: An entry of a file of Tersoff's potential, for one triplet.
TRIPLET = "Si Si Si 3 1 1.3258 4.8381 2.0417 0 22.956\n 0.33675 1.3258 95.373 3 0.2 3.2394 3264.7\n"
#: Files of SNAP: coefficients of one element, and commands.
COEFFICIENTS = "1 3\nW 0.5 1\n-2.5\n0.1\n0.2\n"
ARGON = "4\nargon\nAr 0 0 0\nAr 3.7 0 0\nAr 0 3.7 0\nAr 0 0 3.7\n"


@dataclasses.dataclass(frozen=True)
class BadInput:
    """One kind of bad input.

    Attributes:
        given: a Python expression, lines of a study, text of a file, or arguments of the command.
        words: what the line must hold.
        kind: "python", "study", "file" or "command".
        name: of the file, where the input is one.
        varies: whether the line varies another library, whose words change between its versions, or
            the machine's memory.
    """

    given: str | bytes
    words: tuple[str, ...]
    kind: str = "python"
    name: str = ""
    varies: bool = False


def _python(*rows, varies=False):
    return [BadInput(given, tuple(words), varies=varies) for given, *words in rows]


def _study(*rows):
    return [BadInput(given, tuple(words), "study", "study.toml") for given, *words in rows]


def _file(*rows, varies=False):
    return [BadInput(given, tuple(words), "file", name, varies) for name, given, *words in rows]


def _command(*rows, varies=False):
    return [BadInput(given, tuple(words), "command", varies=varies) for given, *words in rows]


TABLE = {
    "Structures": _python(
        ("System(np.zeros((0, 3)))", "empty"),
        ("System(None)", "positions"),
        ("System('Ar')", "positions", "Ar"),
        ("System([['a', 'b', 'c']])", "positions"),
        ("System([[True, False, True]])", "positions"),
        ("System([[0.0, 1j, 0.0]])", "positions"),
        ("System([[0.0, 0.0, 0.0], [1.0, 0.0]])", "positions"),
        ("System([[0.0, np.nan, 0.0]])", "positions", "not finite"),
        ("System([[0.0, np.inf, 0.0]])", "positions", "not finite"),
        ("System([[0.0, 0.0, 0.0, 0.0]])", "positions", "(1, 4)"),
        ("System([0.0, 0.0, 0.0])", "positions", "(3,)"),
        ("System(atoms)", "positions", "from_ase"),
        ("System(places, cell=[5, 5, 5])", "cell", "(3,)"),
        ("System(places, cell='cubic')", "cell"),
        ("System(places, cell=np.eye(2))", "cell", "(2, 2)"),
        ("System(places, cell=np.full((3, 3), np.nan))", "cell", "finite"),
        ("System(places, cell=np.zeros((3, 3)), pbc=True)", "cell", "no volume"),
        ("System(places, cell=np.ones((3, 3)), pbc=True)", "cell", "no volume"),
        ("System(places, cell=np.diag([5.0, 5, 0]), pbc=(False, False, True))", "cell"),
        ("System(places, cube, pbc='FFF')", "pbc", "FFF"),
        ("System(places, cube, pbc=['F', 'F', 'F'])", "pbc", "'F'"),
        ("System(places, cube, pbc=np.nan)", "pbc", "nan"),
        ("System(places, cube, pbc=1)", "pbc", "1"),
        ("System(places, cube, pbc=[1, 1, 0])", "pbc"),
        ("System(places, cube, pbc=[True, True])", "pbc"),
        ("System(places, cube, symbols='ArKr', species=[0, 0, 1, 1])", "species"),
        ("System(places, cube, ('Ar', 'Ar'), [0, 0, 1, 1])", "Ar", "twice"),
        ("System(places, cube, symbols=[1, 2])", "symbols"),
        ("System(places, cube, symbols=())", "symbols"),
        ("System(places, cube, symbols=('Ar', ''))", "symbols"),
        ("System(places, cube, ('Ar', 'Kr'), [0, 0.9, 1, 1])", "species", "whole"),
        ("System(places, cube, ('Ar', 'Kr'), [0, 2**32, 1, 1])", "species", "4294967296"),
        ("System(places, cube, ('Ar', 'Kr'), [0, 1, 2, 1])", "species", "2"),
        ("System(places, cube, ('Ar', 'Kr'), [0, 1])", "species", "(2,)"),
        ("System(places, cube, ('Ar', 'Kr'), [True, False, True, True])", "species"),
        ("System(places, cube, ('Ar', 'Kr'), ['Ar', 'Kr', 'Xe', 'Ar'])", "species"),
        ("System(places, cube, fixed=[0.0, 1.0, 0.0, 0.0])", "fixed"),
        ("System(places, cube, fixed=[True])", "fixed"),
        ("System(places, cube, fixed=[0, 9])", "fixed", "9"),
        ("System(places, cube, fixed='all')", "fixed"),
        ("System(places, cube, units=[])", "units", "[]"),
        ("System(places, cube, units='SI')", "units", "SI", "reduced"),
        ("system.with_fixed(np.array([0, 0, 1, 1]))", "fixed", "twice"),
        ("system.with_fixed([0, 4])", "fixed", "4"),
        ("system.with_fixed([0.5])", "fixed"),
        ("system.with_positions(np.zeros((2, 3)))", "positions", "(2, 3)"),
        ("system.with_positions(places * np.nan)", "positions", "not finite"),
        ("system.with_positions('origin')", "positions"),
        ("system.with_cell(np.eye(2))", "cell", "(2, 2)"),
        ("system.with_cell(np.zeros((3, 3)))", "cell", "no volume"),
        ("system.with_cell(np.eye(3) * np.nan)", "cell"),
        ("System.from_ase(places)", "atoms", "ase.Atoms"),
        ("System.from_ase(ase.Atoms())", "empty"),
        ("System.from_ase(atoms, dimension=1)", "dimension", "1"),
        ("System.from_ase(atoms, dimension='2')", "dimension", "'2'"),
        ("System.from_ase(atoms, dimension=2)", "dimension", "plane"),
        ("System.from_ase(constrained)", "Hookean", "FixAtoms"),
        ("System(places, constraints=[constraints.FixedPlane([9], (0, 0, 1))])", "FixedPlane", "9"),
        ("System(places, constraints=[constraints.FixBondLengths([[1, 1]])])", "itself", "two"),
        ("relax(bonded, potential, cell='full')", "cell", "FixBondLengths", "cell=None"),
        ("relax_batch([bonded], potential)", "systems[0]", "FixBondLengths", "FixAtoms"),
    ),
    "Files of structures": [
        *_python(
            ("read('nowhere.xyz')", "nowhere.xyz", "does not exist"),
            ("read('.')", "'.'"),
            ("read(3)", "path", "3"),
            ("read('argon.xyz', index='last')", "index", "last"),
            ("read('argon.xyz', index=7)", "argon.xyz", "index"),
            ("read('argon.xyz', dimension=4)", "dimension", "4"),
            ("read('argon.xyz', units='nm')", "units", "nm"),
        ),
        *_file(
            ("empty.xyz", "", "cannot be read"),
            ("words.txt", "no structure at all\n", "cannot be read"),
            ("letters.xyz", "1\n\nAr zero 0 0\n", "cannot be read"),
            ("nothing.xyz", "0\n\n", "empty"),
            ("infinite.xyz", "1\n\nAr inf 0 0\n", "positions", "finite"),
            ("nan.extxyz", "1\nLattice='5 0 0 0 nan 0 0 0 5'\nAr 0 0 0\n", "cell"),
            ("endless.xyz", "1000000000\n\nAr 0 0 0\n", "1000000000"),
            ("bytes.cif", b"\xff\xfe\x00data_\n", "cannot be read"),
            ("short.lammps-data", "a\n\n9 atoms\n", "cannot be read"),
            ("POSCAR", "Ar\n1.0\n1 0 0\n0 1 0\n", "cannot be read"),
            ("json.json", '{"a": 1}', "cannot be read"),
            varies=True,
        ),
        *_file(
            (
                "shared.cif",
                "data_a\n_cell_length_a 5\n_cell_length_b 5\n_cell_length_c 5\n"
                "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
                "_space_group_name_H-M_alt 'P 1'\nloop_\n_atom_site_type_symbol\n"
                "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
                "_atom_site_occupancy\nCu 0 0 0 0.5\nAu 0 0 0 0.5\n",
                "occupan",
            ),
            (
                "flat.extxyz",
                '1\nLattice="5 0 0 0 0 0 0 0 5" pbc="T T T"\nAr 0 0 0\n',
                "no volume",
            ),
        ),
    ],
    "Files of potentials": [
        *_python(
            ("from_file('argon.xyz')", "argon.xyz", "allowed endings", ".tersoff"),
            ("from_file(3)", "path", "3"),
            ("Tersoff.from_file('/nowhere/Si.tersoff')", "Si.tersoff", "no such file"),
        ),
        *_file(
            ("empty.tersoff", "", "before its first entry", "14 numbers"),
            ("short.tersoff", TRIPLET[:-8], "line 1", "16 words", "14 numbers"),
            ("long.tersoff", TRIPLET[:-1] + " 7\n", "line 2", "18 words"),
            ("letter.tersoff", TRIPLET.replace("95.373", "95.e73x"), "line 2", "no number"),
            ("twice.tersoff", TRIPLET + TRIPLET, "line 3", "line 1"),
            ("shifted.tersoff", TRIPLET.replace("Si 3", "3 3"), "line 1", "no element"),
            ("power.tersoff", TRIPLET.replace("Si 3", "Si 2"), "m = 2", "1 and 3"),
            ("wide.tersoff", TRIPLET.replace("3 0.2", "3 4"), "D", "R"),
            ("units.tersoff", "# UNITS: lj\n" + TRIPLET, "line 1", "metal", "epsilon and sigma"),
            ("pair.tersoff", TRIPLET + TRIPLET.replace("Si Si Si", "C C C"), "Si Si C", "line 3"),
            ("tolerant.sw", "Si Si Si 2 2 2 20 1 0 7 1 4 0 0.1\n", "tol", "0"),
            ("empty.snapcoeff", "", "counts of elements", "the file ends"),
            ("short.snapcoeff", COEFFICIENTS[:-4], "line 4", "2 of 3", "W"),
            ("long.snapcoeff", COEFFICIENTS + "0.3\n", "line 6", "3 coefficients"),
            ("letter.snapcoeff", COEFFICIENTS.replace("0.1", "0.x1"), "line 4", "no number"),
            ("counts.snapcoeff", COEFFICIENTS.replace("1 3", "1 x"), "line 1", "'x'"),
            ("element.snapcoeff", COEFFICIENTS.replace("W ", ""), "line 2", "radius"),
            ("twice.snapcoeff", "2 1\nW 0.5 1\n1\nW 0.5 1\n1\n", "line 4", "already"),
            ("units.snapcoeff", "# UNITS: real\n" + COEFFICIENTS, "line 1", "metal"),
            ("alone.snapcoeff", COEFFICIENTS, "alone.snapparam", "no such file"),
            ("table.snap", "pair_style hybrid/overlay snap table linear 100\n", "line 1", "table"),
            ("run.snap", "pair_style snap\nrun 0\n", "line 2", "'run 0'", "pair_coeff"),
            ("half.snap", "pair_style snap\n", "no pair_coeff", "line 1"),
            ("null.snap", "pair_style snap\npair_coeff * * a b W NULL\n", "line 2", "NULL"),
            ("unset.snap", "pair_style ${style}\n", "line 1", "'style'"),
            ("powers.sw", "Si Si Si 2 2 2 20 1 0 7 1 4 5 0\n", "p", "q"),
            ("short.edip", "Si Si Si 7.9 1.5 3.1 2.5\n", "line 1", "7 words", "17 numbers"),
            (
                "ends.edip",
                "Si Si Si 7.9 1.5 2.5 3.1 3 0 0.2\n 1 1 0.7 1.2 0.6 312 0 32 0.3 0.7\n",
                "c = 3.1",
                "a = 2.5",
            ),
            ("letter.vashishta", "Si Si Si 1 7 1 1 4 0 4 0 six\n 0 0 0 0 0\n", "line 1", "'six'"),
            ("range.vashishta", "Si Si Si 1 7 1 1 4 0 4 0 0 0 0 0 0 0\n", "rc", "0"),
            ("empty.adp", "", "line 1", "header"),
            ("grid.adp", "a\nb\nc\n1 Ni\n5 0.1 5 0.1\n", "line 5", "cutoff"),
        ),
    ],
    "Potentials": _python(
        ("LennardJones(epsilon=None, sigma=3.4, cutoff=8.5)", "epsilon", "None"),
        ("LennardJones(epsilon='0.01', sigma=3.4, cutoff=8.5)", "epsilon", "'0.01'"),
        ("LennardJones(epsilon=0.01, sigma=True, cutoff=8.5)", "sigma", "True"),
        ("LennardJones(epsilon=0.01, sigma=-3.4, cutoff=8.5)", "sigma", "-3.4"),
        ("LennardJones(epsilon=0.01, sigma=np.nan, cutoff=8.5)", "sigma"),
        ("LennardJones(epsilon=0.01, sigma=3.4, cutoff=0)", "cutoff", "0"),
        ("LennardJones(epsilon=0.01, sigma=3.4, cutoff=np.inf)", "cutoff", "inf"),
        ("LennardJones(epsilon=0.01, sigma=3.4, cutoff='8.5')", "cutoff", "'8.5'"),
        ("LennardJones(epsilon=0.01, sigma=3.4, cutoff=True)", "cutoff", "True"),
        ("LennardJones(0.01, 3.4, '2.5 sgima')", "2.5 sgima", "'sigma'?"),
        ("LennardJones(0.01, 3.4, '2.5 epsilon')", "2.5 epsilon", "no length", "sigma"),
        ("LennardJones(0.01, 3.4, '0 sigma')", "0 sigma", "above 0"),
        ("LennardJones(0.01, 3.4, '0.9 sigma')", "0.9 sigma", "not above sigma"),
        ("LennardJones(0.01, 3.4, '2.5 sigma', onset=9.0)", "onset", "9.0", "2.5 sigma"),
        ("potentials.Yukawa(1.0, 1.0, '2.5 kappa')", "2.5 kappa", "no parameter that is a length"),
        ("LennardJones(0.01, 3.4, 8.5, 'smoth')", "truncation", "'smooth'"),
        ("LennardJones(0.01, 3.4, 8.5, [])", "truncation", "[]"),
        ("LennardJones(0.01, 3.4, 8.5, onset=9.0)", "onset", "9"),
        ("LennardJones(0.01, 3.4, 8.5, onset='a')", "onset", "'a'"),
        ("LennardJones([[0.01, 0.02], [0.03, 0.01]], 3.4, 8.5, species=kinds)", "symmetric"),
        ("LennardJones([[0.01, 0.02], [0.02, 0.01]], 3.4, 8.5)", "species"),
        ("LennardJones([0.01, 0.02], 3.4, 8.5, species=kinds)", "epsilon", "(2,)"),
        ("LennardJones({'Ar-Ar': 0.01}, 3.4, 8.5, species=kinds)", "Ar-Kr"),
        ("LennardJones({'Ar-Xe': 0.01}, 3.4, 8.5, species=kinds)", "Ar-Xe"),
        ("LennardJones({0: 0.01}, 3.4, 8.5, species=kinds)", "0"),
        (
            "LennardJones(0.01, {'Ar-Ar': 3.4, 'Kr-Kr': 3.6, 'Ar-Kr': 3.2, 'Kr-Ar': 3.5}, 8.5, "
            "species=kinds)",
            "Kr-Ar",
        ),
        ("LennardJones(0.01, 3.4, 8.5, species=('Ar', 'Ar'))", "Ar", "twice"),
        ("LennardJones(0.01, 3.4, 8.5, species=3)", "species", "3"),
        ("LennardJones(0.01, 3.4, 8.5, species=())", "species"),
        ("potential.with_parameters({'sigma': np.nan})", "sigma"),
        ("potential.with_parameters({'sigma': -1.0})", "sigma", "-1"),
        ("potential.with_parameters({'sigma': True})", "sigma", "True"),
        ("potential.with_parameters({'sigma': '3.4'})", "sigma", "'3.4'"),
        ("potential.with_parameters({'sgima': 3.4})", "sgima", "'sigma'"),
        ("potential.with_parameters([3.4])", "values", "dict"),
        ("potential.with_parameters({1: 3.4})", "1"),
        ("Morse(0.1, 1.5, 3.4, -8.5)", "cutoff", "-8.5"),
        ("Morse(0.0, 1.5, 3.4, 8.5)", "epsilon", "0"),
        ("SoftSphere(0.0)", "diameter", "0"),
        ("SoftSphere(1.0, alpha=1.5)", "alpha", "1.5"),
        ("SoftSphere(1.0, alpha={})", "alpha", "{}"),
        ("SoftSphere(1.0, alpha='hertz')", "alpha", "'hertz'"),
        ("SoftSphere(1.0, alpha=np.nan)", "alpha", "nan"),
        ("SoftSphere([1.0, 2.0])", "species"),
        ("WCA(0.01, np.inf)", "sigma"),
        ("SuttonChen(0.01, 5.0, -30.0, 9.0, 6.0, 8.5)", "c", "-30"),
        ("silicon(p=0.0)", "p"),
        ("silicon(costheta0=5.0)", "costheta0", "5"),
        ("silicon(a=-1.8)", "a", "-1.8"),
        ("silicon(p=0.0, q=4.0)", "p", "q"),
        ("relax(krypton, binary_without_krypton)", "Kr"),
        ("EAM.from_file(3)", "path = 3"),
        ("EAM.from_file('argon.xyz')", "style", "eam/fs"),
        ("EAM.from_file('argon.xyz', style='meam')", "style", "'meam'"),
        ("EAM.from_file('argon.xyz', style='eam')", "argon.xyz", "line 2"),
        ("EAM.from_file('argon.xyz', style='eam/alloy')", "argon.xyz", "line 4"),
    )
    + _python(("EAM.from_file('nowhere.eam')", "nowhere.eam", "LAMMPS"), varies=True),
    "Relaxations": _python(
        ("relax(atoms, potential)", "system", "from_ase"),
        ("relax(system, 'lennard-jones')", "potential"),
        ("relax(system, LennardJones)", "potential", "class"),
        ("relax(system, potential, method='bfgs')", "method", "'lbfgs'"),
        ("relax(system, potential, method=None)", "method"),
        ("relax(system, potential, method=[])", "method"),
        ("relax(system, potential, fmax=0)", "fmax", "0"),
        ("relax(system, potential, fmax=np.nan)", "fmax", "nan"),
        ("relax(system, potential, fmax='1e-8')", "fmax", "'1e-8'"),
        ("relax(system, potential, fmax=True)", "fmax", "True"),
        ("relax(system, potential, max_steps=-1)", "max_steps", "-1"),
        ("relax(system, potential, max_steps=1.5)", "max_steps", "1.5"),
        ("relax(system, potential, max_steps='many')", "max_steps", "'many'"),
        ("relax(system, potential, max_step=0)", "max_step", "0"),
        ("relax(system, potential, max_step=np.nan)", "max_step", "nan"),
        ("relax(system, potential, cell='cubic')", "cell", "'cubic'"),
        ("relax(system, potential, cell=True)", "cell", "True"),
        ("relax(system, potential, cell=[])", "cell"),
        ("relax(cluster, potential, cell='full')", "cell", "periodic"),
        ("relax(system, potential, cell=[1, 0])", "cell", "xx yy zz yz xz xy"),
        ("relax(system, potential, cell=[1, 1, 0, 0, 0, 2])", "cell", "6 booleans"),
        ("relax(system, potential, cell=[0] * 6)", "cell", "nothing of the cell would relax"),
        ("relax(system, potential, cell='full', stress=0.1)", "stress"),
        ("relax(system, potential, cell='full', stress=[0.1, 0.1])", "stress", "6 components"),
        ("relax(system, potential, cell='full', pressure=0.1, stress=[0.1] * 6)", "one of them"),
        ("relax(system, potential, stress=[0.1] * 6)", "stress", "cell"),
        ("relax(system, potential, smax=1e-6)", "smax", "cell"),
        ("relax(system, potential, cell='full', smax=0)", "smax", "0"),
        ("relax(system, potential, cell='full', pressure=np.nan)", "pressure", "nan"),
        ("relax(system, potential, cell='full', pressure='1 GPa')", "pressure", "'1 GPa'"),
        ("relax(system, potential, pressure=0.1)", "pressure", "cell"),
        ("relax(system, potential, fixed=[7])", "fixed", "7"),
        ("relax(system, potential, fixed='none')", "fixed", "none"),
        ("relax(system, potential, skin=0)", "skin", "0"),
        ("relax(system, potential, skin='a')", "skin", "'a'"),
        ("relax(system, potential, skin=-1.0)", "skin", "-1"),
        ("relax(system, potential, callback=3)", "callback"),
        ("relax(system, potential, progress='yes')", "progress"),
        ("relax(system.with_positions(places * 0), potential)", "same point"),
        ("relax_batch([], potential)", "systems", "empty"),
        ("relax_batch([system, atoms], potential)", "systems[1]"),
        ("relax_batch([system, flat], potential)", "systems[1]", "dimension"),
        ("relax_batch([system], [potential, potential])", "potentials"),
        ("relax_batch([system, system], potential, fmax=[1e-8])", "fmax"),
        ("relax_batch([system, system], potential, fmax=[1e-8, np.nan])", "fmax", "not finite"),
        ("relax_batch([system], potential, batch_size=0)", "batch_size", "0"),
        ("relax_batch([system], potential, batch_size=1.5)", "batch_size", "1.5"),
        ("relax_batch([system], potential, skin=0)", "skin", "0"),
        ("relax_batch(3, potential)", "systems", "int"),
    ),
    "Calculator and force constants": _python(
        ("Calculator('lj')", "potential", "str"),
        ("Calculator(potential, dimension=4)", "dimension", "4"),
        ("Calculator(potential, units='SI')", "units", "SI"),
        ("Calculator(potential, skin=0)", "skin", "0"),
        ("Calculator(potential).set(sgima=3.4)", "sgima", "'sigma'"),
        ("Calculator(potential, 2).get_forces(atoms)", "dimension = 2", "flat"),
        ("potentials.Calculator('emt', {'E0': -3.5})", "make_calculator", "str"),
        ("potentials.Calculator(lambda a: a, {'a': 1.0})", "make_calculator", "float"),
        ("potentials.Calculator(lambda a: a, {'b': 1.0})", "make_calculator", "by name"),
        ("potentials.Calculator(lambda a: a, {})", "parameters", "dict"),
        ("potentials.Calculator(lambda a: a, {'a': None})", "Calculator: a", "None"),
        ("potentials.emt(['Fe'])", "elements", "'Fe'"),
        ("potentials.emt(['Cu'], {'s0[Pt]': 1.4})", "values", "'s0[Pt]'", "'s0[Cu]'"),
        ("phonopy.force_constants(system)", "equilibrium", "relax"),
        ("phonopy.read_force_constants('argon.xyz')", "argon.xyz", "force constants"),
        ("phonopy.read_force_constants('nowhere')", "nowhere", "cannot be read"),
        ("phonopy.write_force_constants('', start)", "path", "''"),
    ),
    "Observables and sensitivities": _python(
        ("parse('energi')", "energi", "'energy'"),
        ("parse('')", "observable"),
        ("parse(3)", "3"),
        ("parse('distance(0,1')", "distance"),
        ("parse('distance(0)')", "distance", "j"),
        ("parse('distance(0,1.5)')", "distance", "1.5"),
        ("parse('distance(0,0)')", "distance", "0"),
        ("parse('distance(0,True)')", "distance", "True"),
        ("parse('angle(0,1,0)')", "angle"),
        ("parse('angle(0,1)')", "angle", "k"),
        ("parse('coordination(\"a\")')", "coordination", "'a'"),
        ("parse('coordination(-1)')", "coordination", "-1"),
        ("parse('coordination(1e999)')", "coordination", "inf"),
        ("parse('coordination(4, 9)')", "coordination", "9"),
        ("parse('radial_distribution(5, bins=\"a\")')", "bins", "'a'"),
        ("parse('radial_distribution(5, bins=1.5)')", "bins", "1.5"),
        ("parse('radial_distribution(5, bins=0)')", "bins", "0"),
        ("parse('radial_distribution(0)')", "r_max", "0"),
        ("parse('radial_distribution(5, width=-1)')", "width", "-1"),
        ("parse('mean_squared_displacement(\"a\")')", "mean_squared_displacement"),
        ("parse('__import__(\"os\")')", "__import__"),
        ("parse('energy()()')", "energy()()"),
        ("observables.distance(0, 9)(start)", "9"),
        ("observables.distance(0, -5)(start)", "-5"),
        ("observables.distance(0, -4)(start)", "-4"),
        ("observables.angle(0, 1, 9)(start)", "9"),
        ("observables.distance('a', 1)", "'a'"),
        ("observables.distance(None, 1)", "None"),
        ("observables.volume()(unrelaxed(cluster, potential))", "volume"),
        ("observables.pressure()(unrelaxed(cluster, potential))", "pressure"),
        ("observables.stress()(unrelaxed(cluster, potential))", "stress"),
        ("observables.mean_squared_displacement(places[:2])(start)", "(2, 3)"),
        ("observables.mean_squared_displacement([[np.nan] * 3] * 4)", "reference"),
        ("parse('phonon_frequencies(0.5)')", "q", "(D,)"),
        ("parse('phonon_frequencies([0, 0, 1e999])')", "q", "finite"),
        ("parse('phonon_frequencies([0, 0, \"L\"])')", "q", "'L'"),
        ("parse('phonon_frequencies(masses={\"Ar\": 0})')", "masses", "above 0"),
        ("parse('phonon_frequencies(masses={1: 40})')", "masses", "1"),
        ("parse('phonon_frequencies(masses=40)')", "masses", "(N,)"),
        ("observables.phonon_frequencies([0.5, 0])(start)", "2 numbers", "give 3"),
        ("observables.phonon_frequencies([0.3, 0, 0], supercell=2)(start)", "too small", "give"),
        ("observables.phonon_frequencies(supercell=0)", "supercell", "at least 1"),
        (
            "observables.phonon_frequencies([0.5, 0, 0]).check(unrelaxed(cluster, potential))",
            "not periodic",
            "0",
        ),
        ("observables.phonon_frequencies(masses={'Kr': 84})(start)", "'Kr'", "Ar"),
        ("observables.phonon_frequencies(masses=[40.0])(start)", "1 masses", "4 atoms"),
        ("observables.phonon_frequencies()(unnamed)", "'A'", "no mass"),
        ("observables.zero_point_energy()(start)", "mesh=8"),
        ("observables.zero_point_energy(2.0)", "mesh", "2.0"),
        ("observables.zero_point_energy([4, 0, 4])", "mesh", "0"),
        ("observables.zero_point_energy([4, 4])(start)", "mesh", "give 3"),
        ("observables.zero_point_energy(10**6)(start)", "coarser"),
        (
            "observables.zero_point_energy([1, 1, 2]).check(unrelaxed(cluster, potential))",
            "direction 2",
        ),
        ("parse('heat_capacity()')", "temperature"),
        ("parse('heat_capacity(0)')", "temperature", "above 0"),
        ("parse('vibrational_entropy(-300)')", "temperature", "-300"),
        ("parse('vibrational_free_energy(\"300 K\")')", "temperature", "'300 K'"),
        ("observables.heat_capacity(300).check(unrelaxed(reduced, potential))", "Planck"),
        ("parse('phonon_density_of_states(0)')", "f_max", "0"),
        ("parse('phonon_density_of_states(5, 4, 0.5)')", "bins", "0.5"),
        ("parse('phonon_density_of_states(5, 4, width=0)')", "width", "0"),
        ("observables.phonon_frequencies().check(unrelaxed(many, potential))", "3003", "3000"),
        ("parse('mode_gruneisen_parameters(0.5)')", "q", "(D,)"),
        ("parse('gruneisen_parameter(0, 4)')", "temperature", "above 0"),
        ("parse('quasi_harmonic_volume(-300, 4)')", "temperature", "-300"),
        ("parse('thermal_expansion()')", "temperature"),
        ("parse('thermal_expansion(300, 0)')", "mesh", "0"),
        ("observables.thermal_expansion(300).check(unrelaxed(reduced, potential))", "Planck"),
        (
            "observables.mode_gruneisen_parameters().check(unrelaxed(cluster, potential))",
            "volume",
            "pbc",
        ),
        (
            "observables.quasi_harmonic_volume(300).check(unrelaxed(cluster, potential))",
            "volume",
            "pbc",
        ),
        ("sensitivity(system, ['energy'])", "equilibrium", "relax"),
        ("sensitivity(start, ['energy'], mode='backward')", "mode", "backward"),
        ("sensitivity(start, [3])", "3"),
        ("sensitivity(start, ['energy', 'energy'])", "energy", "twice"),
        ("potential.expand_parameter_names(3)", "names", "3"),
        ("sensitivity(start, ['energy'], wrt=['sgima'])", "sgima", "'sigma'"),
        ("sensitivity(start, ['energy'], wrt=[3])", "3"),
        ("sensitivity(start, ['energy'], wrt=[])", "wrt"),
        ("sensitivity(start, ['energy'], wrt='pressure')", "pressure", "cell='full'"),
        ("sensitivity(start, ['energy'], wrt='stress[xx]')", "stress", "cell is fixed"),
        ("sensitivity(start, ['energy'], wrt='fixed_positions')", "no atom is fixed"),
        ("observables.elastic_constant(0, 1)", "elastic_constant: i = 0"),
        ("observables.bulk_modulus('mean')", "average", "hill"),
        ("observables.elastic_constants('yes')", "relaxed_ions"),
        ("observables.born_stability(1)", "born_stability: relaxed_ions", "1"),
        ("observables.elastic_constants()(relax(row, potential))", "saddle", "displace"),
        ("observables.elastic_constants()(unrelaxed(slab, potential))", "pbc", "strain"),
        ("observables.slab_elastic_constants()(start)", "pbc", "elastic_constants()"),
        ("sensitivity(start, ['energy'], allow_unconverged='yes')", "allow_unconverged"),
        ("sensitivity_batch([start], ['energy'])", "equilibria", "relax_batch"),
    )
    + _python(("observables.coordination(1e6)(start)", "edges", "memory"), varies=True),
    "Exchange with phonopy, ASE's Phonons and ELATE": [
        *_python(
            ("phonopy.write_phonopy_yaml('a.yaml', slab_at_start, 2)", "periodic in three"),
            ("phonopy.write_phonopy_yaml('a.yaml', start, supercell=0)", "supercell", "at least 1"),
            ("phonopy.write_phonopy_yaml('a.yaml', start, [1.5, 2, 2])", "supercell", "whole"),
            ("phonopy.write_phonopy_yaml('a.yaml', start, 99)", "smaller supercell"),
            ("phonopy.write_phonopy_yaml('a.yaml', unnamed, 2)", "'A'", "elements"),
            ("phonopy.write_phonopy_yaml('a.yaml', start, 2, {'Kr': 84})", "'Kr'", "Ar"),
            ("phonopy.write_phonopy_yaml('/nowhere/a.yaml', start, 2)", "/nowhere/a.yaml"),
            ("phonopy.read_phonopy_yaml('gone.yaml')", "gone.yaml", "cannot be read"),
            ("phonopy.read_phonopy_yaml('argon.xyz')", "no phonopy.yaml", "unit_cell"),
            ("ase_phonons(start, (2, 2))", "supercell", "three"),
            ("ase_phonons(start, 'all')", "supercell", "'all'"),
            ("ase_phonons(system, 2)", "a System", "mdsens.relax"),
            ("elate.read_constants('argon.xyz')", "argon.xyz", "six lines of six numbers"),
            ("elate.read_constants('gone.dat')", "gone.dat", "cannot be read"),
            ("elate.tables(np.eye(3))", "(3, 3)", "(6, 6)"),
            ("elate.tables(np.full((6, 6), np.nan))", "finite"),
            ("elate.tables(np.triu(np.ones((6, 6))))", "symmetric"),
            ("elate.tables(-np.eye(6))", "lowers the energy"),
        ),
    ],
    "Study files": _study(
        ("potential.type = []", "potential.type", "[]"),
        ("potential.type = 'eam'", "potential.epsilon", "embedding_scale"),
        ("potential.type = 'calculator'", "potential.epsilon", "calculator"),
        ("potential.type = 'lenard-jones'", "potential.type", "'lennard-jones'"),
        ("potential.sgima = 3.4", "sgima", "'sigma'"),
        ("potential.file = 'Ar.lj'", "potential.file", "lennard-jones", "tersoff"),
        (
            "potential.type = 'tersoff'\npotential.file = 'a.tersoff'",
            "potential.epsilon",
            "elements",
        ),
        ("potential.sigma = 'three'", "potential.sigma", "three"),
        ("potential.sigma = '3.4 eV'", "potential.sigma", "eV", "length"),
        ("potential.sigma = 'nan'", "potential.sigma", "nan"),
        ("potential.sigma = nan", "potential.sigma", "nan"),
        ("potential.sigma = true", "potential.sigma", "True"),
        ("potential.sigma = []", "potential.sigma", "[]"),
        ("potential.sigma = { Ar = 3.4 }", "potential.sigma", "species"),
        ("potential.species = 'Ar'", "potential.species", "Ar"),
        ("potential.species = ['Ar', 'Ar']", "species", "twice"),
        ("potential.species = ['Kr']", "Ar"),
        ("potential.species = ['Ar']\npotential.sigma = { Ar-Kr = 3.4 }", "Ar-Kr"),
        ("potential.truncation = 1", "truncation", "1"),
        ("structure.file = 'nowhere.xyz'", "structure.file", "nowhere.xyz"),
        ("structure.file = 'agron.xyz'", "structure.file", "'argon.xyz'"),
        ("structure.file = ''", "structure.file"),
        ("structure.file = 7", "structure.file", "7"),
        ("structure.dimension = 1", "structure.dimension", "1"),
        ("structure.dimension = true", "structure.dimension", "True"),
        ("structure.builder = 'soft-sphere-packing'", "file and builder"),
        ("structure.colour = 'red'", "colour"),
        ("structure.rattle.amplitude = -1", "amplitude", "-1"),
        ("structure.rattle.amplitude = nan", "amplitude", "nan"),
        ("structure.rattle.amplitude = 1e300", "amplitude", "1e+300"),
        ("structure.rattle.amplitude = '1 eV'", "amplitude", "eV"),
        ("structure.rattle = { amplitude = 0.1, seed = -1 }", "seed", "-1"),
        ("structure.rattle = { seed = 1 }", "amplitude", "missing"),
        ("units = 'SI'", "units", "SI"),
        ("units = 'reduced'\nrelaxation.fmax = '1 eV/Ang'", "relaxation.fmax", "reduced"),
        ("name = '../elsewhere'", "name", "elsewhere"),
        ("name = 3", "name", "3"),
        ("description = 3", "description", "3"),
        ("relaxation.method = 'bfgs'", "relaxation.method", "'lbfgs'"),
        ("relaxation.methd = 'fire'", "methd", "'method'"),
        ("relaxation.fmax = 0", "relaxation.fmax", "0"),
        ("relaxation.fmax = nan", "relaxation.fmax", "nan"),
        ("relaxation.fmax = 'inf'", "relaxation.fmax", "inf"),
        ("relaxation.max_steps = 1.5", "relaxation.max_steps", "1.5"),
        ("relaxation.max_steps = -1", "relaxation.max_steps", "-1"),
        ("relaxation.cell = 'cubic'", "relaxation.cell", "cubic"),
        ("relaxation.cell = 'full'", "cell", "periodic"),
        ("relaxation.pressure = nan", "relaxation.pressure", "nan"),
        ("relaxation.pressure = '1 GPa'", "pressure", "cell"),
        ("relaxation.max_step = 0", "relaxation.max_step", "0"),
        ("relaxation = 3", "relaxation", "3"),
        ("sensitivity.observables = 'energy'", "sensitivity.observables", "energy"),
        ("sensitivity.observables = ['energi']", "energi", "'energy'"),
        ("sensitivity.observables = ['energy', 'energy']", "energy", "twice"),
        ("sensitivity.observables = ['distance(0,9)']", "distance(0,9)", "9"),
        ("sensitivity.observables = ['volume']", "volume"),
        ("sensitivity.wrt = ['sgima']", "sgima", "'sigma'"),
        ("sensitivity.wrt = []", "sensitivity.wrt"),
        ("sensitivity.mode = 'sideways'", "sensitivity.mode", "sideways"),
        ("sensitivity.logarithmic = 1", "sensitivity.logarithmic", "1"),
        ("verify.step = 0", "verify.step", "0"),
        ("verify.tolerance = -1", "verify.tolerance", "-1"),
        ("energy_volume.points = 2", "energy_volume.points", "3 or more"),
        ("energy_volume.points = 5", "energy_volume", "periodic"),
        ("energy_volume.strain = 0.6", "energy_volume.strain", "0.6"),
        ("energy_volume.uncertainty = -1.0", "energy_volume.uncertainty", "-1"),
        ("energy_volume.uncertainty = 'much'", "energy_volume.uncertainty", "much"),
        ("energy_volume.uncertainty = { sgima = 0.1 }", "energy_volume.uncertainty", "sigma"),
        ("ensemble.seeds = 3", "ensemble.seeds", "rattle"),
        ("ensemble.parameter = 'sgima'", "ensemble.parameter", "'sigma'"),
        ("extra = 1", "extra"),
        ("structures.a.file = 'argon.xyz'", "structure", "structures", "either"),
        ("formulas = 'energy'", "formulas", "table"),
        ("formulas.a = 3", "formulas.a", "3"),
        ("formulas.a = ''", "formulas.a"),
        ("formulas.a-b = 'energy'", "a-b", "letters"),
        ("formulas.lambda = 'energy'", "lambda", "Python"),
        ("formulas.energy = 'energy'", "formulas.energy", "another"),
        ("formulas.atoms = 'energy'", "formulas.atoms", "another"),
        ("formulas.a = 'energy +'", "formulas.a", "cannot be read"),
        ("formulas.a = 'energi / atoms'", "formulas.a", "'energy'?"),
        ("formulas.a = 'energy / atms'", "formulas.a", "'atoms'?"),
        ("formulas.a = 'energy / atoms(1)'", "formulas.a", "atoms alone"),
        ("formulas.a = 'distance(0)'", "formulas.a", "distance(i, j)"),
        ("formulas.a = 'energy * distance(0,9)'", "formulas", "9", "0 to 3"),
        ("formulas.a = 'stress'", "formulas.a", "stress", "one number"),
        ("formulas.a = 'radial_distribution(5)'", "radial_distribution(5)"),
        ("formulas.a = 'energy + distance(0,1)'", "formulas.a", "energy", "length"),
        ("formulas.a = 'energy - 1'", "formulas.a", "energy", "a pure number"),
        ("formulas.a = 'energy / 0'", "formulas.a", "division by zero"),
        ("formulas.a = 'energy ** 0.5'", "formulas.a", "energy^(1/2)"),
        ("formulas.a = 'energy ** 99'", "formulas.a", "exponent 99"),
        ("formulas.a = '2 ** atoms'", "formulas.a", "exponent atoms"),
        ("formulas.a = '9**9**9**9 * energy'", "formulas.a", "exponent"),
        ("formulas.a = 'angle(0,1,2) * energy'", "formulas.a", "angle"),
        ("formulas.a = 'bulk.energy'", "formulas.a", "only one"),
        ('formulas.a = \'__import__("os").remove("study.toml")\'', "formulas.a", "not allowed"),
        ("formulas.a = 'energy if atoms else 0'", "formulas.a", "not allowed"),
        ("formulas.a = '[energy][0]'", "formulas.a", "not allowed"),
        ("formulas.a = 'energy % 2'", "formulas.a", "not allowed"),
        ("formulas.a = '1e999 * energy'", "formulas.a", "too large"),
        ("formulas.a = 'True * energy'", "formulas.a", "True"),
        ("sensitivity.observables = ['bulk.energy']", "sensitivity.observables", "only one"),
        ("sensitivity.observables = ['area']", "area", "does not repeat"),
        ("sweep = 3", "sweep", "3", "table"),
        ("sweep.mode = 'zip'", "sweep", "give some"),
        ("sweep.sampels = 20", "sampels", "'samples'?"),
        ("sweep.potential.sigma = [3.3]", "sweep.potential", "quotes"),
        ("sweep.'potential.sgima' = [3.3]", "'sgima'", "'sigma'?"),
        ("sweep.'potentail.sigma' = [3.3]", "potentail.sigma", "'potential'?"),
        ("sweep.'relaxation.presure' = [0.0]", "presure", "'pressure'?"),
        ("sweep.'relaxation.method' = ['lbfgs', 'fier']", "'fier'", "'fire'?"),
        ("sweep.'potential.sigma' = [3.3, '3.4 eV']", "potential.sigma", "eV", "length"),
        ("sweep.'potential.sigma' = []", "potential.sigma", "list"),
        ("sweep.'potential.sigma' = 3.3", "potential.sigma", "3.3", "list"),
        ("sweep.'potential.sigma' = '*.xyz'", "potential.sigma", "list"),
        ("sweep.'potential.sigma' = [3.3, 3.3]", "potential.sigma", "3.3 twice"),
        ("sweep.'potential.sigma.deep' = [3.3]", "potential.sigma", "'deep'"),
        ("sweep.'structure.file' = 'cells/*.cif'", "cells/*.cif", "no file"),
        ("sweep.'structure.file' = '../*.xyz'", "../*.xyz", "inside"),
        ("sweep.'structure.file' = ['argon.xyz', 'agron.xyz']", "'agron.xyz'", "'argon.xyz'?"),
        ("sweep.'potential.sigma' = { form = 3, to = 4 }", "form", "'from'?"),
        ("sweep.'potential.sigma' = { from = 3 }", "potential.sigma", "to", "missing"),
        ("sweep.'potential.sigma' = { from = 3, to = 4 }", "count", "missing"),
        ("sweep.'potential.sigma' = { from = 3, to = 4, count = 1 }", "count = 1", "from 2"),
        ("sweep.'potential.sigma' = { from = 4, to = 3, count = 2 }", "to = 3", "larger"),
        ("sweep.'potential.sigma' = { from = 'x', to = 3, count = 2 }", "from = 'x'", "number"),
        (
            "sweep.'potential.sigma' = { from = '3 Ang', to = '1 nm', count = 2 }",
            "Ang",
            "nm",
            "same",
        ),
        ("sweep = { samples = 3, 'potential.sigma' = [3.3] }", "samples = 3", "random"),
        ("sweep = { mode = 'randm', 'potential.sigma' = [3.3] }", "'randm'", "'random'?"),
        (
            "sweep = { mode = 'random', 'potential.sigma' = { from = 3, to = 4 } }",
            "sweep.samples",
            "missing",
        ),
        (
            "sweep = { mode = 'random', samples = 3, 'potential.sigma' = [3.3] }",
            "[3.3]",
            "range",
        ),
        (
            "sweep = { mode = 'zip', 'potential.sigma' = [3.3, 3.4], 'relaxation.fmax' = [1e-9] }",
            "has 2",
            "has 1",
        ),
        (
            "sweep.'structure.rattle.seed' = { from = 0, to = 100001, count = 100001 }",
            "100,000",
        ),
    )
    + [
        BadInput(given, tuple(words), "file", "study.toml", varies)
        for given, varies, *words in (
            ("", False, "potential", "missing"),
            ("structure = [", True, "study.toml", "TOML"),
            (b"name = '\xff'\n", False, "study.toml", "UTF-8"),
            ("a = " + "[" * 3000 + "]" * 3000, False, "study.toml", "flatter"),
            ("[structure]\nfile = 'argon.xyz'\n", False, "potential", "missing"),
            ("structure = 3\npotential = 3\n", False, "structure", "3"),
            (
                "[potential]\ntype = 'lennard-jones'\nepsilon = 0.01\nsigma = 3.4\ncutoff = 8.5\n",
                False,
                "structure",
                "structures",
            ),
            *(
                (
                    "[potential]\ntype = 'lennard-jones'\nepsilon = 0.01\nsigma = 3.4\n"
                    "cutoff = 8.5\n[structures.a]\nfile = 'argon.xyz'\n[structures.b]\n"
                    f"file = 'argon.xyz'\n{lines}\n",
                    False,
                    *words,
                )
                for lines, *words in (
                    ("[structures.B]\nfile = 'argon.xyz'", "structures.B", "capitals"),
                    ("[structures.a-b]\nfile = 'argon.xyz'", "a-b", "letters"),
                    ("fiel = 'argon.xyz'", "structures.b.fiel", "'file'?"),
                    ("relaxation = 3", "structures.b.relaxation", "table"),
                    ("relaxation = { cel = 'none' }", "structures.b.relaxation.cel", "'cell'?"),
                    ("relaxation = { fmax = 0 }", "structures.b.relaxation.fmax", "above 0"),
                    ("relaxation = { cell = 'full' }", "structures.b.relaxation", "periodic"),
                    ("relaxation = { fixed = [7] }", "structures.b.relaxation", "7"),
                    ("rattle = { amplitude = -1 }", "structures.b.rattle.amplitude", "-1"),
                    ("[ensemble]\nseeds = 2", "ensemble.seeds", "one structure"),
                    ("[sensitivity]\nobservables = ['c.energy']", "'c'", "a, b"),
                    ("[sensitivity]\nobservables = ['energy', 'a.energy']", "a.energy", "twice"),
                    ("[formulas]\nx = 'energy'", "formulas.x", "a.energy or b.energy"),
                    ("[formulas]\nx = 'c.energy'", "formulas.x", "'c'", "a, b"),
                    ("[formulas]\nx = 'a.energy + b.distance(0,1)'", "formulas.x", "length"),
                    ("[formulas]\nx = 'a.b.energy'", "formulas.x", "a.b.energy"),
                )
            ),
            (
                "[structure]\nfile = 'argon.xyz'\n[potential]\nepsilon = 0.01\n",
                False,
                "potential.type",
                "missing",
            ),
            *(
                (
                    "units = 'reduced'\n[potential]\ntype = 'soft-sphere'\ndiameter = 1.0\n"
                    f"[structure]\nbuilder = 'soft-sphere-packing'\n{lines}\n",
                    False,
                    *words,
                )
                for lines, *words in (
                    ("count = 8", "structure.diameters", "missing"),
                    ("count = 0\ndiameters = { a = 1.0 }\npacking_fraction = 0.9", "count", "0"),
                    ("count = 7\ndiameters = { a = 1, b = 2 }\npacking_fraction = 0.9", "count"),
                    (
                        "count = 1000000000000\ndiameters = { a = 1 }\npacking_fraction = 0.9",
                        "count",
                        "1000000000000",
                    ),
                    (
                        "count = { a = 4 }\ndiameters = { a = 1, b = 2 }\npacking_fraction = 0.9",
                        "'b'",
                    ),
                    ("count = 8\ndiameters = { a = -1 }\npacking_fraction = 0.9", "diameters"),
                    ("count = 8\ndiameters = { a = nan }\npacking_fraction = 0.9", "diameters"),
                    ("count = 8\ndiameters = {}\npacking_fraction = 0.9", "diameters"),
                    (
                        "count = 8\ndiameters = { a = 1 }\npacking_fraction = inf",
                        "packing_fraction",
                    ),
                )
            ),
        )
    ],
    "The command": _command(
        ("run nowhere", "nowhere", "no such folder or file"),
        ("run argon-vacansy", "argon-vacansy", "'argon-vacancy'"),
        ("run study.toml --set relaxation.fmax", "key=value"),
        ("run study.toml --set =3", "key=value"),
        ("run study.toml --set units.deep=3", "units"),
        ("run study.toml --set relaxation.fmax=small", "relaxation.fmax", "small"),
        ("run study.toml --set relaxation.fmax=1e-6\\npotential.sigma=3", "--set"),
        ("run study.toml --out argon.xyz", "argon.xyz", "--out"),
        ("run study.toml --out .", "FOLDER", "--out"),
        ("run study.toml --out foreign", "foreign", "--out"),
        ("verify nowhere", "nowhere"),
        ("run study.toml --retry-failed", "--resume"),
        ("plan nowhere", "nowhere"),
        ("report nowhere", "nowhere"),
        ("report schema", "schema"),
    )
    + _command(
        ("run", "STUDY"),
        ("runn argon-vacancy", "runn"),
        ("run study.toml --sett a=1", "--sett"),
        ("report damaged", "damaged"),
        varies=True,
    ),
}


@functools.cache
def _names() -> dict:
    """What the expressions of the table may name."""
    from mdsens import observables, potentials
    from mdsens.relaxation import unrelaxed

    places = np.array([[0.0, 0.0, 0.0], [3.7, 0.0, 0.0], [0.0, 3.7, 0.0], [0.0, 0.0, 3.7]])
    cube = 8.0 * np.eye(3)
    atoms = ase.Atoms("Ar4", places, cell=cube, pbc=True)
    constrained = atoms.copy()
    constrained.set_constraint(ase.constraints.Hookean(0, 1, 5.0, 4.0))
    bonded = atoms.copy()
    bonded.set_constraint(ase.constraints.FixBondLength(0, 1))
    system = mdsens.System.from_ase(atoms)
    potential = potentials.LennardJones(0.01, 3.4, 8.5)
    stillinger_weber = {
        "epsilon": 2.1683, "sigma": 2.0951, "a": 1.8, "lambda_": 21.0, "gamma": 1.2,
        "costheta0": -1 / 3, "A": 7.049556277, "B": 0.6022245584, "p": 4.0, "q": 0.0,
    }  # fmt: skip
    return {
        **{name: getattr(potentials, name) for name in potentials.__all__},
        **{name: getattr(mdsens, name) for name in mdsens.__all__},
        "potentials": potentials,
        "np": np, "jnp": jnp, "ase": ase, "places": places, "cube": cube, "atoms": atoms,
        "bonded": mdsens.System.from_ase(bonded), "constraints": ase.constraints,
        "constrained": constrained, "system": system,
        "cluster": mdsens.System(places, None, ("Ar",)),
        "reduced": mdsens.System(places, None, ("Ar",), units="reduced"),
        "row": mdsens.System(np.diag([0.0, 4.75, 0.0])[:2], np.diag([4.0, 9.5, 4.0]), ("Ar",)),
        "slab": mdsens.System(places, cube, ("Ar",), pbc=(True, True, False)),
        "many": mdsens.System(np.arange(3003.0).reshape(-1, 3), None, ("Ar",)),
        "unnamed": unrelaxed(mdsens.System(places, cube, ("A",)), potential),
        "flat": mdsens.System(places[:3, :2], 8.0 * np.eye(2), ("Ar",)),
        "krypton": mdsens.System(places, cube, ("Kr",)),
        "potential": potential, "kinds": ("Ar", "Kr"),
        "binary_without_krypton": potentials.LennardJones(0.01, 3.4, 8.5, species=("Ar", "Xe")),
        "silicon": lambda **changes: potentials.StillingerWeber(**(stillinger_weber | changes)),
        "observables": observables, "parse": observables.parse, "unrelaxed": unrelaxed,
        "start": unrelaxed(system, potential),
        "slab_at_start": unrelaxed(mdsens.System(places, cube, ("Ar",), pbc=(True, True, False)),
                                   potential),
        "phonopy": mdsens.phonopy, "elate": mdsens.elate,
    }  # fmt: skip


@functools.cache
def answer(bad: BadInput) -> str:
    """What is said to an input: the line of its error.

    Raises:
        AssertionError: it is taken.
        Exception: what is raised instead of an error of mdsens.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name).resolve()
        _furnish(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                line = _said(bad)
        except MdsensError as error:
            line = str(error)
        return line.replace(str(folder), "FOLDER")


def _furnish(folder: Path) -> None:
    """A folder with a study, a structure, and folders that others have written."""
    (folder / "argon.xyz").write_text(ARGON)
    (folder / "study.toml").write_text(to_toml(STUDY))
    for name, results in (
        ("foreign", {"schema": 7, "rows": []}), ("schema", {"schema": 1}), ("damaged", None),
    ):  # fmt: skip
        (folder / name).mkdir()
        text = "{" if results is None else json.dumps(results)
        (folder / name / "results.json").write_text(text)


def _said(bad: BadInput) -> str:
    if bad.kind == "command":
        return _command_line(bad.given)
    if bad.kind == "python":
        eval(bad.given, dict(_names()))
    elif bad.name == "study.toml":
        text = bad.given if bad.kind == "file" else to_toml(_changed(STUDY, bad.given))
        Path(bad.name).write_bytes(text if isinstance(text, bytes) else text.encode())
        sweep = read_sweep(bad.name)
        texts = [read_study(bad.name)] if sweep is None else sweep.each_value()
        for study in map(study_of, texts):
            study.check()
    else:
        Path(bad.name).write_bytes(
            bad.given if isinstance(bad.given, bytes) else bad.given.encode()
        )
        # A potential's file, or a structure's.
        reads = from_file if bad.name.endswith(FILE_ENDINGS) else mdsens.read
        reads(bad.name)
    raise AssertionError(f"{bad.given!r} is taken")


def _command_line(arguments: str) -> str:
    """The line that the command prints, whose status says that something is wrong."""
    from mdsens import cli

    written = io.StringIO()
    os.environ["MDSENS_CACHE"] = "off"
    with contextlib.redirect_stderr(written), contextlib.redirect_stdout(io.StringIO()):
        status = cli.exit_status([word.replace("\\n", "\n") for word in arguments.split()])
    # Before it, the command says what it is about to do.
    line = written.getvalue().splitlines()[-1]
    if status not in (1, 2) or not line.startswith("mdsens: "):
        raise AssertionError(f"status {status}, and the last line is {line!r}")
    return line.removeprefix("mdsens: ")


def _changed(table: dict, lines: str) -> dict:
    """A study with the values of some lines in the place of its own."""

    def merge(old: dict, new: dict) -> dict:
        for key, value in new.items():
            both = isinstance(value, dict) and isinstance(old.get(key), dict)
            old[key] = merge(old[key], value) if both else value
        return old

    return merge(copy.deepcopy(table), tomllib.loads(lines))


def page() -> str:
    """The page of the documentation."""
    count = sum(map(len, TABLE.values()))
    lines = [
        "# What is refused, and in what words",
        "",
        f"{count} kinds of bad input and the one line that each gives. This page is made from the "
        "table in `tests/bad_inputs.py`, which the tests go through, by "
        "`python tests/bad_inputs.py > docs/bad_inputs.md`.",
        "",
        "Lines of a study stand in the place of those of this one:",
        "",
        f"```toml\n{to_toml(STUDY)}```",
    ]
    for title, rows in TABLE.items():
        lines += ["", f"## {title}", "", "| input | line |", "|---|---|"]
        for bad in rows:
            lines.append(f"| {shown_in_a_table(bad)} | {_cell(answer(bad))} |")
    return "\n".join(lines) + "\n"


def shown_in_a_table(bad: BadInput) -> str:
    """An input as it can stand in a table of Markdown."""
    text = bad.given.decode("latin-1") if isinstance(bad.given, bytes) else bad.given
    text = text if len(text) <= 300 else text[:120] + " ... " + text[-40:]
    if bad.kind == "command":
        text = f"mdsens {text}"
    return _cell(f"{bad.name}: {text or '(nothing)'}" if bad.kind == "file" else text)


def _cell(text: str) -> str:
    """Text as code in a cell of a table of Markdown."""
    text = text.replace("\n", " ⏎ ").replace("|", "\\|")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


if __name__ == "__main__":
    sys.stdout.write(page())
