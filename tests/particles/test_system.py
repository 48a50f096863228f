"""Systems: what is refused, and the way from ASE and back."""

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms, FixedPlane

import mdsens
from mdsens import System
from mdsens.errors import InputError

pytestmark = pytest.mark.xdist_group("particles")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": np.zeros((0, 3))}, "empty"),
        ({"positions": np.zeros(3)}, r"give \(N, 2\) or \(N, 3\)"),
        ({"positions": np.zeros((2, 4))}, r"give \(N, 2\) or \(N, 3\)"),
        ({"positions": [[0.0, 0, 0], [0, np.inf, 0]]}, "atoms 1 are not finite"),
        ({"cell": np.eye(2)}, r"give \(3, 3\)"),
        ({"cell": np.eye(3) * np.nan}, "cell is not finite"),
        ({"cell": np.zeros((3, 3))}, "no volume"),
        ({"cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "no volume"),
        ({"cell": np.eye(3), "pbc": (True, False)}, "one per direction"),
        ({"species": [0]}, "one per atom"),
        ({"species": [0, 1]}, "allowed are 0 to 0"),
        ({"species": [0, -1]}, "allowed are 0 to 0"),
        ({"fixed": [True]}, "one per atom"),
        ({"units": "SI"}, "allowed are ase, reduced"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_a_system_refuses(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        System(**{"positions": [[0.0, 0, 0], [1.0, 0, 0]], **arguments})
    assert "\n" not in str(caught.value)


def test_a_cell_may_lack_a_vector_where_it_is_not_periodic():
    system = System([[0.0, 0, 0]], [[2, 0, 0], [0, 2, 0], [0, 0, 0]], pbc=(True, True, False))
    assert float(system.volume) == 0.0


def test_a_system_does_not_share_memory_with_what_it_was_made_from():
    atoms = ase.build.bulk("Cu", cubic=True) * (3, 3, 3)
    system = System.from_ase(atoms)
    before = atoms.get_positions()
    atoms.positions += 1.0
    assert np.array_equal(system.positions, before)


def test_there_and_back_through_ase():
    atoms = ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.positions[3] += 2 * atoms.cell[0]
    atoms.pbc = (True, False, True)
    atoms.set_constraint(FixAtoms(indices=[1, 6]))
    back = System.from_ase(atoms).to_ase()
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.cell, atoms.cell)
    assert np.array_equal(back.pbc, atoms.pbc)
    assert back.get_chemical_symbols() == atoms.get_chemical_symbols()
    assert back.constraints[0].index.tolist() == [1, 6]


def test_species_that_are_no_elements_survive_the_way_through_ase_and_a_file(tmp_path):
    system = System(np.eye(3), np.eye(3) * 4, ("large", "small"), [0, 1, 0], units="reduced")
    ase.io.write(tmp_path / "spheres.extxyz", system.to_ase())
    back = mdsens.read(tmp_path / "spheres.extxyz", units="reduced")
    assert (back.symbols, back.units) == (("large", "small"), "reduced")
    assert back.species.tolist() == [0, 1, 0]


def test_two_dimensions_through_ase():
    system = System([[0.1, 0.2], [1.0, 0.7]], [[2.0, 0.0], [0.5, 1.5]], fixed=[0, 1])
    atoms = system.to_ase()
    assert atoms.pbc.tolist() == [True, True, False]
    back = System.from_ase(atoms, dimension=2)
    assert np.array_equal(back.positions, system.positions)
    assert np.array_equal(back.cell, system.cell)
    assert back.fixed.tolist() == [False, True]


@pytest.mark.parametrize(
    ("atoms", "dimension", "message"),
    [
        (ase.Atoms(), 3, "empty"),
        (ase.Atoms("Ar"), 4, "allowed are 2 and 3"),
        (ase.Atoms("Ar2", [[0, 0, 0], [0, 1, 1]]), 2, "leave the xy plane"),
        (ase.Atoms("Ar", constraint=FixedPlane(0, (0, 0, 1))), 3, "FixedPlane is not supported"),
    ],
    ids=["empty", "4D", "not flat", "constraint"],
)
def test_what_is_refused_from_ase(atoms, dimension, message):
    with pytest.raises(InputError, match=message):
        System.from_ase(atoms, dimension)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        mdsens.read(tmp_path / "nothing.xyz")
    (tmp_path / "broken.xyz").write_text("three\natoms\n")
    with pytest.raises(InputError, match="cannot be read"):
        mdsens.read(tmp_path / "broken.xyz")


def test_scaled_positions_follow_the_cell():
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=2)
    cell = atoms.cell[:] @ (np.eye(3) + 0.1 * np.random.default_rng(3).normal(size=(3, 3)))
    ours = System.from_ase(atoms).with_cell(cell, scale_positions=True)
    atoms.set_cell(cell, scale_atoms=True)
    np.testing.assert_allclose(ours.positions, atoms.positions, atol=1e-12)


def test_a_mask_for_fixed_atoms_has_one_value_per_atom():
    with pytest.raises(InputError, match="give a mask"):
        System(np.eye(3)).with_fixed([True, False])
