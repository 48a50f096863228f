"""Energies, forces and stress against LAMMPS, on the same structures and parameters."""

from pathlib import Path

import ase.build
import equinox as eqx
import lammps_runs
import numerical
import numpy as np
import pytest

from mdsens import System, mechanics
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, Morse, StillingerWeber

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
TOLERANCE = 1e-10
AR_KR = ("Ar", "Kr")


def rattled_crystal(symbol, lattice, repeats, sheared=False, seed=1, second=None, structure="fcc"):
    """A crystal with every atom displaced at random; sheared: in a triclinic cell."""
    atoms = ase.build.bulk(symbol, structure, lattice, cubic=True) * ((repeats,) * 3)
    if sheared:
        length = atoms.cell[0, 0]
        shear = np.array([[1.0, 0.0, 0.0], [0.21, 0.97, 0.0], [-0.13, 0.34, 1.05]])
        atoms.set_cell(length * shear, scale_atoms=True)
    atoms.rattle(0.08, seed=seed)
    if second:
        atoms.symbols[np.random.default_rng(seed).permutation(len(atoms))[::3]] = second
    return atoms


def by_lammps(lammps, atoms, symbols, commands, style="atomic"):
    """Energy (eV), forces (eV/Ang) and stress (Voigt, eV/Ang^3, tension positive)."""
    run = lammps_runs.of(lammps, atoms, symbols, commands, style)
    run.command("run 0 post no")
    energy = run.get_thermo("pe")
    forces = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3)
    stress = lammps_runs.stress(run)
    run.close()
    return energy, forces, stress


def assert_agrees(lammps, atoms, potential, commands, style="atomic", tolerance=TOLERANCE):
    symbols = list(potential.species or dict.fromkeys(atoms.symbols))
    energy, forces, stress = by_lammps(lammps, atoms, symbols, commands, style)
    system = System.from_ase(atoms)
    edge_list = find_edges(
        atoms.positions, atoms.cell[:], system.pbc, float(potential.interaction_range)
    )
    ours = eqx.filter_jit(mechanics.energy_forces_virial)(system, potential, edge_list)
    assert float(ours[0]) == pytest.approx(energy, rel=tolerance)
    assert numerical.relative_error(ours[1], forces) < tolerance
    ours_stress = mechanics.voigt(ours[2]) / system.volume
    assert numerical.relative_error(ours_stress, stress) < tolerance


LJ = {"epsilon": 0.0104, "sigma": 3.405, "cutoff": 8.5}
MORSE = {"epsilon": 0.3429, "alpha": 1.3588, "r0": 2.866, "cutoff": 6.0}
SHAPES = pytest.mark.parametrize("sheared", [False, True], ids=["cubic", "triclinic"])


@SHAPES
@pytest.mark.parametrize(
    ("truncation", "commands"),
    [
        ("none", ["pair_style lj/cut 8.5"]),
        ("shifted", ["pair_style lj/cut 8.5", "pair_modify shift yes"]),
        ("force-shifted", ["pair_style lj/smooth/linear 8.5"]),
    ],
    ids=["plain", "shifted", "force-shifted"],
)
def test_lennard_jones(lammps, truncation, commands, sheared):
    atoms = rattled_crystal("Ar", 5.26, 2, sheared)
    potential = LennardJones(**LJ, truncation=truncation)
    assert_agrees(lammps, atoms, potential, [*commands, "pair_coeff 1 1 0.0104 3.405"])


@SHAPES
def test_lennard_jones_in_a_cell_smaller_than_the_cutoff(lammps, sheared):
    atoms = rattled_crystal("Ar", 5.26, 1, sheared)
    commands = ["pair_style lj/cut 8.5", "pair_coeff 1 1 0.0104 3.405"]
    assert_agrees(lammps, atoms, LennardJones(**LJ, truncation="none"), commands)


def test_lennard_jones_with_two_species(lammps):
    atoms = rattled_crystal("Ar", 5.4, 2, second="Kr")
    potential = LennardJones(
        {"Ar-Ar": 0.0104, "Ar-Kr": 0.012, "Kr-Kr": 0.014},
        {"Ar-Ar": 3.405, "Ar-Kr": 3.52, "Kr-Kr": 3.65},
        8.5, "shifted", AR_KR,
    )  # fmt: skip
    commands = [
        "pair_style lj/cut 8.5", "pair_modify shift yes", "pair_coeff 1 1 0.0104 3.405",
        "pair_coeff 1 2 0.012 3.52", "pair_coeff 2 2 0.014 3.65",
    ]  # fmt: skip
    assert_agrees(lammps, atoms, potential, commands)


@pytest.mark.parametrize(
    ("truncation", "style"),
    [("shifted", ["lj/cut 9.0", "pair_modify shift yes"]),
     ("force-shifted", ["lj/smooth/linear 9.0"])],
)  # fmt: skip
def test_lennard_jones_whose_pairs_end_at_multiples_of_their_own_sigma(lammps, truncation, style):
    atoms = rattled_crystal("Ar", 5.4, 2, second="Kr")
    sigma = {"Ar-Ar": 3.4, "Ar-Kr": 3.5, "Kr-Kr": 3.7}
    potential = LennardJones(0.0104, sigma, "2.4 sigma", truncation, AR_KR)
    coefficients = [
        f"pair_coeff {types} 0.0104 {length!r} {2.4 * length!r}"
        for types, length in zip(("1 1", "1 2", "2 2"), sigma.values(), strict=True)
    ]
    commands = [f"pair_style {style[0]}", *style[1:], *coefficients]
    assert_agrees(lammps, atoms, potential, commands)


@SHAPES
@pytest.mark.parametrize(
    ("truncation", "commands"),
    [
        ("none", ["pair_style morse 6.0"]),
        ("shifted", ["pair_style morse 6.0", "pair_modify shift yes"]),
        ("force-shifted", ["pair_style morse/smooth/linear 6.0"]),
    ],
    ids=["plain", "shifted", "force-shifted"],
)
def test_morse(lammps, truncation, commands, sheared):
    atoms = rattled_crystal("Cu", 3.6, 2, sheared)
    potential = Morse(**MORSE, truncation=truncation)
    assert_agrees(lammps, atoms, potential, [*commands, "pair_coeff 1 1 0.3429 1.3588 2.866"])


@SHAPES
def test_stillinger_weber_silicon_from_the_file_of_lammps(lammps, sheared):
    path = Path(lammps.__file__).parent / "share" / "lammps" / "potentials" / "Si.sw"
    lines = path.read_text().splitlines()
    tokens = [word for line in lines for word in line.partition("#")[0].split()]
    epsilon, sigma, a, lambda_, gamma, costheta0, A, B, p, q = map(float, tokens[3:13])
    potential = StillingerWeber(epsilon, sigma, a, lambda_, gamma, costheta0, A, B, p, q)
    atoms = rattled_crystal("Si", 5.43, 2, sheared, structure="diamond")
    assert_agrees(lammps, atoms, potential, ["pair_style sw", f"pair_coeff * * {path} Si"])


def sw_file(potential):
    """The numbers of a potential in LAMMPS's format: a triplet has both bonds' geometric mean."""
    names = potential.species

    def number(name, *index):
        value = np.asarray(getattr(potential, name))
        return float(value[index] if value.ndim else value)

    lines = []
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            for k, third in enumerate(names):
                strengths = [number("lambda_", i, n) * number("epsilon", i, n) for n in (j, k)]
                epsilon = number("epsilon", i, j)
                values = [
                    epsilon, number("sigma", i, j), number("a", i, j),
                    np.sqrt(strengths[0] * strengths[1]) / epsilon, number("gamma", i, j),
                    number("costheta0"), *(number(name, i, j) for name in "ABpq"), 0.0,
                ]  # fmt: skip
                lines.append(" ".join([first, second, third, *(f"{v:.17g}" for v in values)]))
    return "\n".join(lines) + "\n"


@SHAPES
def test_stillinger_weber_with_two_species(lammps, tmp_path, sheared):
    potential = StillingerWeber(
        [[2.1683, 2.05], [2.05, 1.93]], [[2.0951, 2.13], [2.13, 2.181]], 1.8,
        [[21.0, 24.0], [24.0, 31.0]], [[1.2, 1.18], [1.18, 1.15]], -0.33, 7.049556277,
        [[0.6022245584, 0.61], [0.61, 0.59]], 4.0, [[0.0, 0.2], [0.2, 0.1]], ("Si", "Ge"),
    )  # fmt: skip
    path = tmp_path / "mixture.sw"
    path.write_text(sw_file(potential))
    atoms = rattled_crystal("Si", 5.5, 2, sheared, second="Ge", structure="diamond")
    assert_agrees(lammps, atoms, potential, ["pair_style sw", f"pair_coeff * * {path} Si Ge"])
