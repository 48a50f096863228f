"""Sizes of LAMMPS's units, against LAMMPS run in each of them and its conversion of files."""

import ase.build
import numpy as np
import pytest
from test_lammps import by_lammps, rattled_crystal

from mdsens import System, mechanics
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.potentials import DampedShiftedCoulomb, LennardJones, from_file
from mdsens.units import LAMMPS_UNITS, size_of_lammps_unit, size_of_unit

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
#: LAMMPS's constants have seven digits or so.
TOLERANCE = 2e-7


def mechanics_of(atoms, potential):
    """Energy (eV), forces (eV/Ang) and pressure (GPa)."""
    system = System.from_ase(atoms)
    edges = potential.edge_search(system).find(atoms.positions, atoms.cell[:])
    energy, forces, virial = compiled_energy_forces_virial(system, potential, edges)
    stress = mechanics.voigt(virial)[:3].mean() / system.volume / size_of_unit("modulus")
    return float(energy), np.asarray(forces), -float(stress)


def assert_agrees(lammps, atoms, potential, style, commands, tolerance, reduced, charged=False):
    """A run in some units of LAMMPS: what goes in converted comes out converted."""
    energy, forces, pressure = mechanics_of(atoms, potential)
    size = {
        dimension: size_of_lammps_unit(dimension, style, **reduced)
        for dimension in ("energy", "length", "energy/length", "modulus")
    }
    lengths = atoms.cell.lengths() / size["length"]
    run = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    box = " ".join(f"0 {length!r}" for length in lengths.tolist())
    run.commands_list([
        f"units {style}", f"atom_style {'charge' if charged else 'atomic'}",
        "atom_modify map array sort 0 0", f"region box block {box}", "create_box 2 box",
        "mass * 1.0",
    ])  # fmt: skip
    places = (atoms.get_scaled_positions(wrap=True) * lengths).ravel().tolist()
    kinds = [1 + (symbol == "Kr") for symbol in atoms.symbols]
    run.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), kinds, places)
    skin = f"neighbor {0.3 / size['length']!r} bin"
    run.commands_list([skin, *commands, "thermo_modify norm no", "run 0 post no"])
    assert run.get_thermo("pe") * size["energy"] == pytest.approx(energy, rel=tolerance)
    theirs = np.array(run.gather_atoms("f", 1, 3)).reshape(-1, 3) * size["energy/length"]
    np.testing.assert_allclose(theirs, forces, rtol=0, atol=tolerance * abs(forces).max())
    assert run.get_thermo("press") * size["modulus"] == pytest.approx(pressure, rel=tolerance)
    run.close()


@pytest.mark.parametrize("style", [*LAMMPS_UNITS, "lj"])
def test_a_crystal_in_any_units(lammps, style):
    reduced = {"energy": 0.0104, "length": 3.405} if style == "lj" else {}
    energy, length = (size_of_lammps_unit(d, style, **reduced) for d in ("energy", "length"))
    commands = [
        f"pair_style lj/cut {6.0 / length!r}", "pair_modify shift yes",
        f"pair_coeff * * {0.0104 / energy!r} {3.405 / length!r}",
    ]  # fmt: skip
    potential = LennardJones(0.0104, 3.405, 6.0, "shifted")
    atoms = rattled_crystal("Ar", 5.26, 1)
    assert_agrees(lammps, atoms, potential, style, commands, TOLERANCE, reduced)


@pytest.mark.parametrize("style", ["metal", "real", "electron"])
def test_charges_in_units_that_have_the_elementary_charge(lammps, style):
    length = size_of_lammps_unit("length", style)
    commands = [
        f"pair_style coul/dsf {0.2 * length!r} {8.5 / length!r}", "pair_coeff * *",
        "set type 1 charge 0.8", "set type 2 charge -1.1",
    ]  # fmt: skip
    atoms = rattled_crystal("Ar", 5.26, 2, second="Kr")
    potential = DampedShiftedCoulomb([0.8, -1.1], 0.2, 8.5, ("Ar", "Kr"))
    # LAMMPS takes the error function from a fit of seven digits.
    assert_agrees(lammps, atoms, potential, style, commands, 1e-6, {}, True)


@pytest.mark.parametrize("ending", [".sw", ".tersoff"])
def test_a_file_in_real_units_that_lammps_converts_itself(lammps, tmp_path, ending):
    """In metal units LAMMPS converts a file that says UNITS: real; so do we."""
    words = {
        ".sw": "50.0 2.0951 1.8 21 1.2 -0.3333 7.0496 0.60222 4 0 0",
        ".tersoff": "3 1 1.3258 4.8381 2.0417 0.1 22.956 0.33675 1.3258 2199.4 3 0.2 3.2394 75286",
    }[ending]
    path = tmp_path / f"Si{ending}"
    path.write_text(f"# UNITS: real\nSi Si Si {words}\n")
    atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True)
    atoms.rattle(0.1, seed=2)
    energy, forces, _ = mechanics_of(atoms, from_file(path))
    commands = [f"pair_style {ending[1:]}", f"pair_coeff * * {path} Si"]
    theirs = by_lammps(lammps, atoms, ["Si"], commands)
    assert theirs[0] == pytest.approx(energy, rel=TOLERANCE)
    np.testing.assert_allclose(theirs[1], forces, rtol=0, atol=TOLERANCE * abs(forces).max())
