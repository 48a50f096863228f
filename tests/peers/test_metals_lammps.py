"""Metals in closed form against LAMMPS, which reads tables of the same formulas from NumPy."""

import ase.build
import metals
import numerical
import numpy as np
import pytest
from test_lammps import by_lammps

import mdsens
from mdsens import mechanics
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.potentials import EAM, FinnisSinclair, Gupta, ZhouEAM
from mdsens.potentials.files import EmbeddedAtomTables, write_embedded_atom_file

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("lammps")]
NAMES, CUTOFF = ("Cu", "Au"), 5.0
KNOTS, DENSITY_KNOTS, DENSEST = 20000, 20000, 100.0
#: Cubic splines of these tables, in energies and forces.
TOLERANCE = 1e-8


def switched(function):
    def product(r):
        t = np.clip((r / CUTOFF - 0.9) / 0.1, 0.0, 1.0)
        return function(r) * (1 - t**3 * (10 - t * (15 - 6 * t)))

    return product


def zhou():
    elements = (metals.COPPER, metals.OTHER)
    return (
        ZhouEAM(**metals.ALLOY, cutoff=CUTOFF, species=NAMES),
        lambda i, j: switched(metals.zhou(elements[i], elements[j])),
        lambda source, _: switched(lambda r: metals.zhou_density(elements[source], r)),
        lambda i, rho: np.array([metals.zhou_embedding(elements[i], x) for x in rho]),
    )


def gupta():
    return (
        Gupta(**metals.GUPTA, cutoff=CUTOFF, species=NAMES),
        lambda i, j: switched(lambda r: metals.gupta_pair(i, j, r)),
        lambda i, j: switched(lambda r: metals.gupta_density(i, j, r)),
        lambda i, rho: -np.sqrt(rho),
    )


def finnis_sinclair():
    scale = metals.FINNIS_SINCLAIR["A"]
    return (
        FinnisSinclair(**metals.FINNIS_SINCLAIR, species=NAMES),
        lambda i, j: lambda r: metals.finnis_sinclair_pair(i, j, r),
        lambda i, j: lambda r: metals.finnis_sinclair_density(i, j, r),
        lambda i, rho: -scale[i] * np.sqrt(rho),
    )


@pytest.mark.parametrize("metal", [zhou, gupta, finnis_sinclair])
def test_an_alloy(lammps, tmp_path, metal):
    potential, pair, density, embedding = metal()
    spacing, both = CUTOFF / (KNOTS - 1), range(2)
    r = np.maximum(spacing * np.arange(KNOTS), 0.5)
    rho = DENSEST / (DENSITY_KNOTS - 1) * np.arange(DENSITY_KNOTS)
    tables = EmbeddedAtomTables(
        NAMES, ("", "", ""), ("29 63.55 3.6 fcc", "79 197.0 4.1 fcc"), spacing,
        DENSEST / (DENSITY_KNOTS - 1), CUTOFF,
        np.array([[spacing * np.arange(KNOTS) * pair(i, j)(r) for j in both] for i in both]),
        np.array([[density(i, j)(r) for j in both] for i in both]),
        np.array([embedding(i, rho) for i in both]),
    )  # fmt: skip
    write_embedded_atom_file(tmp_path / "alloy.eam.fs", tables)
    atoms = ase.build.bulk("Cu", "fcc", 3.75, cubic=True) * (2, 2, 2)
    atoms.symbols[np.random.default_rng(1).permutation(len(atoms))[::3]] = "Au"
    # No density near where a branch of Zhou's begins, nor a distance where functions end: there a
    # spline is none of the formula. One atom is in the last branch, and three in the first.
    atoms.rattle(0.08, seed=2)
    commands = ["pair_style eam/fs", f"pair_coeff * * {tmp_path}/alloy.eam.fs Cu Au"]
    energy, forces, stress = by_lammps(lammps, atoms, list(NAMES), commands)
    system = mdsens.System.from_ase(atoms)
    edges = potential.edge_search(system).find(atoms.positions, atoms.cell[:])
    ours = compiled_energy_forces_virial(system, potential, edges)
    assert float(ours[0]) == pytest.approx(energy, rel=TOLERANCE)
    assert numerical.relative_error(ours[1], forces) < TOLERANCE
    assert numerical.relative_error(mechanics.voigt(ours[2]) / system.volume, stress) < TOLERANCE


@pytest.mark.parametrize(
    ("potential", "name"),
    [
        (ZhouEAM(**metals.ALLOY, cutoff=CUTOFF, species=NAMES), "alloy.eam.alloy"),
        (Gupta(**metals.GUPTA, cutoff=CUTOFF, species=NAMES), "alloy.eam.fs"),
        (FinnisSinclair(**metals.FINNIS_SINCLAIR, species=NAMES), "alloy.eam.fs"),
    ],
    ids=["zhou", "gupta", "finnis-sinclair"],
)
def test_lammps_reads_what_is_written(lammps, tmp_path, potential, name):
    potential.to_file(tmp_path / name)
    atoms = ase.build.bulk("Cu", "fcc", 3.75, cubic=True) * (2, 2, 2)
    atoms.symbols[np.random.default_rng(1).permutation(len(atoms))[::3]] = "Au"
    atoms.rattle(0.08, seed=2)
    style = "eam/alloy" if name.endswith(".alloy") else "eam/fs"
    commands = [f"pair_style {style}", f"pair_coeff * * {tmp_path}/{name} Cu Au"]
    energy, forces, _ = by_lammps(lammps, atoms, list(NAMES), commands)
    system = mdsens.System.from_ase(atoms)
    edges = potential.edge_search(system).find(atoms.positions, atoms.cell[:])
    ours = compiled_energy_forces_virial(system, potential, edges)
    assert float(ours[0]) == pytest.approx(energy, rel=TOLERANCE)
    assert numerical.relative_error(ours[1], forces) < TOLERANCE
    # And our own reader takes it back.
    again = EAM.from_file(tmp_path / name)
    assert again.species == NAMES


def test_densities_of_pairs_need_another_ending(tmp_path):
    gupta_alloy = Gupta(**metals.GUPTA, cutoff=CUTOFF, species=NAMES)
    with pytest.raises(InputError, match="densities are those of pairs"):
        gupta_alloy.to_file(tmp_path / "alloy.eam.alloy")
    alone = Gupta(0.1, 1.2, 10.0, 3.0, 2.5, CUTOFF)
    with pytest.raises(InputError, match="elements"):
        alone.to_file(tmp_path / "alone.eam.alloy")
    assert list(tmp_path.iterdir()) == []
