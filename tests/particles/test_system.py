"""Systems: what is refused, and the way from ASE and back."""

import warnings

import ase
import ase.build
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.constraints import FixAtoms, FixedLine, Hookean

import mdsens
from mdsens import System
from mdsens.errors import InputError, MdsensWarning

pytestmark = pytest.mark.xdist_group("particles")


TWO = [[0.0, 0, 0], [1.0, 0, 0]]
NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": np.zeros((0, 3))}, "empty"),
        ({"positions": []}, "empty"),
        ({"positions": np.zeros(3)}, r"shape \(3,\): give \(N, 2\) or \(N, 3\)"),
        ({"positions": np.zeros((2, 4))}, r"give \(N, 2\) or \(N, 3\)"),
        ({"positions": 3.0}, r"give \(N, 2\) or \(N, 3\)"),
        ({"positions": [[0.0, 0, 0], [0, np.inf, 0]]}, "positions .*is not finite in rows 1"),
        ({"positions": [[0.0, 0], [1.0]]}, "positions = .*: give numbers"),
        ({"positions": [["0", "0"]]}, "positions = .*: give numbers"),
        ({"positions": [[True, False]]}, "positions = .*: give numbers"),
        ({"positions": [[1j, 0.0]]}, "positions = .*: give numbers"),
        ({"positions": None}, "positions = None: give numbers"),
        ({"positions": ase.Atoms("Ar2")}, "use mdsens.System.from_ase"),
        ({"cell": np.eye(2)}, r"cell has shape \(2, 2\): give \(3, 3\)"),
        ({"cell": [5.0, 5.0, 5.0]}, r"cell has shape \(3,\): give \(3, 3\)"),
        ({"cell": [["5"] * 3] * 3}, "cell = .*: give numbers"),
        ({"cell": np.eye(3) * np.nan}, "cell .*is not finite"),
        ({"cell": np.zeros((3, 3))}, "no volume"),
        ({"cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "no volume"),
        ({"pbc": True}, "no volume"),
        ({"cell": np.eye(3), "pbc": (True, False)}, r"one of them per direction \(3\)"),
        ({"cell": np.eye(3), "pbc": "FFF"}, "pbc = 'FFF': give True or False"),
        ({"cell": np.eye(3), "pbc": ["F", "F", "F"]}, "pbc = .*: give True or False"),
        ({"cell": np.eye(3), "pbc": NAN}, "pbc = nan: give True or False"),
        ({"cell": np.eye(3), "pbc": 1}, "pbc = 1: give True or False"),
        ({"cell": np.eye(3), "pbc": [1, 1, 0]}, "pbc = .*: give True or False"),
        ({"cell": np.eye(3), "pbc": {"x": True}}, "pbc = .*: give True or False"),
        ({"species": [0]}, r"species has shape \(1,\): give \(2,\)"),
        ({"species": [0, 1]}, "there is no 1; allowed are 0 to 0"),
        ({"species": [0, -1]}, "there is no -1; allowed are 0 to 0"),
        ({"species": [0, 2**32]}, "there is no 4294967296"),
        ({"species": [0, 0.9]}, "species = .*: give whole numbers"),
        ({"species": [False, True]}, "species = .*: give whole numbers"),
        ({"species": ["Ar", "Ar"]}, "species = .*: give whole numbers"),
        ({"symbols": ("Ar", "Ar")}, r"symbols=\('Ar',\), species=\[0, 0\]"),
        ({"symbols": ["Ar", "Kr"]}, r"symbols=\('Ar', 'Kr'\), species=\[0, 1\]"),
        ({"symbols": ("Ar", "Kr", "Xe")}, "no species: give the index of each"),
        ({"symbols": ("Ar", "Kr", "Ar")}, "'Ar' is given twice; give each once"),
        ({"symbols": ("Ar", "Ar"), "species": [0, 1]}, "'Ar' is given twice"),
        ({"symbols": ("Ar", 18), "species": [0, 1]}, "18 is no name"),
        ({"symbols": ("Ar", " "), "species": [0, 1]}, "' ' is no name"),
        ({"symbols": ()}, "give a name"),
        ({"symbols": 18}, "symbols = 18: give a name"),
        ({"fixed": [True]}, r"fixed has shape \(1,\): give a mask of shape \(2,\)"),
        ({"fixed": [1, 1]}, "1 is given twice"),
        ({"fixed": [1, -1]}, "1 is given twice"),
        ({"fixed": [2]}, "there is no 2; allowed are 0 to 1"),
        ({"fixed": [0.0, 1.0]}, "give a mask of booleans, or indices"),
        ({"fixed": [True, 0]}, "give a mask of booleans, or indices"),
        ({"fixed": [[0], [0, 1]]}, "give a mask of booleans, or indices"),
        ({"fixed": "none"}, "give a mask of booleans, or indices"),
        ({"units": "SI"}, "allowed are ase, reduced"),
        ({"units": []}, r"units = \[\]: allowed are ase, reduced"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_a_system_refuses(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        System(**{"positions": TWO, **arguments})
    assert "\n" not in str(caught.value)


def traced(method, argument):
    return jax.make_jaxpr(lambda given: method(given))(argument)


FLAT_CELL = [[2.0, 0, 0], [0, 3.0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda system: system.with_positions([[0.0, 0, 0]]), r"shape \(1, 3\): give \(2, 3\)"),
        (lambda system: system.with_positions([[NAN, 0, 0]] * 2), "not finite in rows 0, 1"),
        (lambda system: system.with_positions([["0", "0", "0"]] * 2), "give numbers"),
        (lambda system: system.with_positions(ase.Atoms("Ar2")), "positions = Atoms.*give numbers"),
        (lambda system: system.with_cell(np.eye(2)), r"cell has shape \(2, 2\): give \(3, 3\)"),
        (lambda system: system.with_cell(np.eye(3) * NAN), "cell .*is not finite"),
        (lambda system: system.with_cell(np.zeros((3, 3))), "no volume"),
        (lambda system: system.with_cell(np.eye(3), 1), "scale_positions = 1: give True or False"),
        (lambda system: system.with_cell(np.eye(3), True), "different vectors of zeros"),
        (lambda system: system.with_fixed([True, False, True]), r"mask of shape \(2,\)"),
        (lambda system: system.with_fixed(np.array([0, 0, 1, 1])), "0, 1 is given twice"),
        (lambda system: system.with_fixed([0.0]), "give a mask of booleans, or indices"),
        (lambda system: traced(system.with_positions, np.zeros((1, 3))), r"give \(2, 3\)"),
        (lambda system: traced(system.with_positions, np.zeros((2, 3), bool)), "give numbers"),
        (lambda system: traced(system.with_cell, np.eye(2)), r"give \(3, 3\)"),
        (lambda system: traced(system.with_fixed, np.arange(2)), "give a mask of shape"),
    ],
    ids=range(16),
)
def test_a_change_is_checked_as_when_first_given(change, message):
    with pytest.raises(InputError, match=message) as caught:
        change(System(TWO, FLAT_CELL, pbc=(True, True, False)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.float32, np.int64, jnp.float32, list])
def test_a_change_is_kept_in_double_precision(kind):
    system = System(TWO, np.eye(3))
    positions, cell = np.array(TWO) + 1, 2 * np.eye(3)
    if kind is list:
        positions, cell = positions.tolist(), cell.tolist()
    else:
        array = jnp.asarray if kind is jnp.float32 else np.asarray
        positions, cell = array(positions, kind), array(cell, kind)
    changed = system.with_positions(positions).with_cell(cell)
    assert changed.positions.dtype == changed.cell.dtype == np.float64
    assert np.array_equal(changed.positions, positions)
    assert np.array_equal(changed.cell, cell)


def test_a_change_costs_nothing_where_it_is_traced():
    system = System(TWO, np.eye(3))

    def moved(positions, cell):
        return system.with_positions(positions).with_cell(cell)

    assert jax.make_jaxpr(moved)(system.positions, system.cell).eqns == []
    volumes = jax.vmap(lambda cell: moved(system.positions, cell).volume)(
        np.stack([np.eye(3), 2 * np.eye(3)])
    )
    assert volumes.tolist() == [1.0, 8.0]


def test_integers_are_atoms_to_hold_and_booleans_are_a_mask():
    for fixed in ([1, 0], np.array([True, True]), [-1, 0]):
        assert System(TWO, fixed=fixed).fixed.tolist() == [True, True]
    assert System(TWO, fixed=[1]).with_fixed([]).fixed.tolist() == [False, False]
    assert System(TWO, fixed=[1]).with_fixed(None).fixed.tolist() == [False, False]


def test_a_system_is_periodic_where_it_has_a_cell_unless_told_otherwise():
    assert System(TWO).pbc == (False,) * 3
    assert System(TWO, np.eye(3)).pbc == (True,) * 3
    assert System(TWO, np.eye(3), pbc=np.array([True, False, True])).pbc == (True, False, True)


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
    system = System([[0.1, 0.2], [1.0, 0.7]], [[2.0, 0.0], [0.5, 1.5]], fixed=[False, True])
    atoms = system.to_ase()
    assert atoms.pbc.tolist() == [True, True, False]
    back = System.from_ase(atoms, dimension=2)
    assert np.array_equal(back.positions, system.positions)
    assert np.array_equal(back.cell, system.cell)
    assert back.fixed.tolist() == [False, True]


def decorated():
    """A structure with all that ASE keeps beside positions and cell."""
    atoms = ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.info["origin"] = "a drawer"
    atoms.set_tags(range(8))
    atoms.set_initial_charges([1.0, -1.0] * 4)
    atoms.set_momenta(np.arange(24.0).reshape(8, 3))
    atoms.set_array("layer", np.arange(8) // 2)
    atoms.set_constraint([FixAtoms(indices=[1, 6]), FixedLine([0], [1, 0, 0])])
    return atoms


def test_all_else_of_a_structure_comes_back_with_new_positions_and_cell():
    like = decorated()
    bare = like.copy()
    bare.set_constraint(like.constraints[0])
    system = System.from_ase(bare)
    moved = system.with_positions(system.positions + 0.1).with_cell(1.1 * system.cell)
    atoms = moved.to_ase(like)
    assert np.array_equal(atoms.positions, moved.positions)
    assert np.array_equal(atoms.cell, moved.cell)
    assert atoms.info == {"origin": "a drawer"}
    for name in set(like.arrays) - {"positions"}:
        assert np.array_equal(atoms.arrays[name], like.arrays[name])
    held, line = atoms.constraints
    assert held.index.tolist() == [1, 6]
    assert isinstance(line, FixedLine)
    # What is given is not changed.
    atoms.info["origin"] = "elsewhere"
    assert like.info["origin"] == "a drawer"
    assert like.positions[0].tolist() == [0.0, 0.0, 0.0]


def test_atoms_that_the_system_fixes_take_the_place_of_those_that_were():
    system = System.from_ase(ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True)).with_fixed([2])
    line, held = system.to_ase(decorated()).constraints
    assert isinstance(line, FixedLine)
    assert held.index.tolist() == [2]
    free = system.with_fixed(None).to_ase(decorated()).constraints
    assert [type(one) for one in free] == [FixedLine]


def test_a_flat_structure_stays_at_its_height():
    like = ase.Atoms("Ar2", [[0.1, 0.2, 7.0], [1.0, 0.7, 7.0]], cell=[2, 2, 15], pbc=[1, 1, 0])
    system = System.from_ase(like, dimension=2)
    atoms = system.with_positions(system.positions + 0.5).to_ase(like)
    np.testing.assert_array_equal(atoms.positions, like.positions + np.array([0.5, 0.5, 0]))
    assert np.array_equal(atoms.cell, like.cell)


@pytest.mark.parametrize(
    ("like", "line"),
    [
        (ase.Atoms("Ar"), "like has 1 atoms, and the system 2"),
        (ase.Atoms("ArKr"), "'Kr' where the system has 'Ar'"),
        ("Ar2", "like is a str: give an ase.Atoms"),
    ],
)
def test_another_structure_gives_nothing(like, line):
    with pytest.raises(InputError, match=line):
        System(np.eye(3)[:2], None, "Ar").to_ase(like)


def with_two_species_at_one_site():
    atoms = ase.Atoms("NaCl", [[0, 0, 0], [2, 0, 0]])
    atoms.info["occupancy"] = {"0": {"Na": 0.5, "K": 0.5}, "1": {"Cl": 1.0}}
    return atoms


def with_constraint(indices):
    constraint = FixAtoms(indices=[0])
    constraint.index = np.asarray(indices)
    return ase.Atoms("Ar3", np.eye(3), constraint=constraint)


@pytest.mark.parametrize(
    ("atoms", "dimension", "message"),
    [
        (ase.Atoms(), 3, "empty"),
        ("Ar", 3, "atoms is a str: give an ase.Atoms"),
        (ase.Atoms("Ar"), 4, "dimension = 4: give a whole number of at least 2 and of at most 3"),
        (ase.Atoms("Ar"), 3.0, "dimension = 3.0: give a whole number"),
        (ase.Atoms("Ar2", [[0, 0, 0], [0, 1, 1]]), 2, "leave the xy plane"),
        (ase.Atoms("Ar2", [[0, 0, 0], [0, 1, NAN]]), 2, "not finite in rows 1"),
        (ase.Atoms("Ar", constraint=Hookean(0, 0, 1, 1)), 3, "Hookean is not supported"),
        (with_two_species_at_one_site(), 3, "a site is shared by .*'K': 0.5"),
        (with_constraint([3]), 3, "indices of FixAtoms = .3.: there is no 3"),
    ],
)
def test_what_is_refused_from_ase(atoms, dimension, message):
    with pytest.raises(InputError, match=message) as caught:
        System.from_ase(atoms, dimension)
    assert "\n" not in str(caught.value)


def test_an_atom_that_is_held_twice_is_held():
    assert System.from_ase(with_constraint([2, 2, 0])).fixed.tolist() == [True, False, True]


#: Two sodium and potassium atoms for one site; and a site that is only half full.
CIF = """data_a
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cl1 0.5 0.5 0.5 1.0
"""
ORDERED = (
    "lattice.extxyz",
    """1
Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3
Ar 0 0 0
""",
)
UNSOUND = ORDERED[1].replace("Ar 0", "Ar nan")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nothing.xyz", None, "'.*nothing.xyz' does not exist"),
        ("x" * 5000, None, "does not exist: give a file's path"),
        ("nul\0.xyz", None, "does not exist: give a file's path"),
        ("broken.xyz", "three\natoms\n", "broken.xyz' cannot be read: "),
        ("empty.extxyz", "", "empty.extxyz' cannot be read: "),
        ("no-atoms.xyz", "0\n\n", "no-atoms.xyz' cannot be read: |the structure is empty"),
        ("short.xyz", "3\n\nAr 0 0 0\n", "short.xyz' cannot be read: "),
        ("unknown.xyz", "1\n\nQq 0 0 0\n", "unknown.xyz' cannot be read: "),
        ("unsound.extxyz", UNSOUND, "positions .*is not finite in rows 0"),
        ("noise.cif", "\x00\x01\x02", "noise.cif' cannot be read: "),
        ("notes.txt", "Dear diary\n", "notes.txt' cannot be read: "),
        ("database.json", "{}", "database.json' cannot be read: "),
        ("POSCAR", "Ar\n1.0\n", "POSCAR' cannot be read: "),
        ("mixed.cif", CIF + "Na1 0 0 0 0.5\nK1 0 0 0 0.5\n", "a site is shared by .*'K': 0.5"),
        ("vacant.cif", CIF + "Na1 0 0 0 0.25\n", "a site is shared by .*'Na': 0.25"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_file_that_is_no_structure_is_one_line(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        mdsens.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": None}, "path = None: give the path"),
        ({"index": ":"}, "index = ':': give a whole number"),
        ({"index": 1.0}, "index = 1.0: give a whole number"),
        ({"index": 3}, "cannot be read: there is no structure index = 3"),
        ({"dimension": "3"}, "dimension = '3'"),
        ({"units": "SI"}, "allowed are ase, reduced"),
    ],
    ids=str,
)
def test_what_reading_refuses(tmp_path, arguments, message):
    path = tmp_path / ORDERED[0]
    path.write_text(ORDERED[1])
    assert mdsens.read(path, index=0).symbols == ("Ar",)
    with pytest.raises(InputError, match=message) as caught:
        mdsens.read(**{"path": path, **arguments})
    assert "\n" not in str(caught.value)


def test_full_occupancies_are_no_disorder(tmp_path):
    (tmp_path / "whole.cif").write_text(CIF + "Na1 0 0 0 1.0\n")
    assert mdsens.read(tmp_path / "whole.cif").symbols == ("Cl", "Na")


def test_an_at_sign_belongs_to_the_name_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_text(ORDERED[1].replace("Ar", "Kr"))
    for name in ("a@0.extxyz", "a@1", "-"):
        (tmp_path / name).write_text(ORDERED[1])
    monkeypatch.chdir(tmp_path)
    assert mdsens.read("a@0.extxyz").symbols == ("Ar",)
    for name in ("a@1", "-"):
        assert mdsens.read(name).symbols == ("Ar",)


def test_scaled_positions_follow_the_cell():
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=2)
    cell = atoms.cell[:] @ (np.eye(3) + 0.1 * np.random.default_rng(3).normal(size=(3, 3)))
    ours = System.from_ase(atoms).with_cell(cell, scale_positions=True)
    atoms.set_cell(cell, scale_atoms=True)
    np.testing.assert_allclose(ours.positions, atoms.positions, atol=1e-12)


@pytest.mark.parametrize(
    "cell", [FLAT_CELL, [[0, 0, 0], [0, 2.0, 0.5], [0, 0, 0]], np.zeros((3, 3))],
    ids=["slab", "wire", "cluster"],
)  # fmt: skip
def test_positions_scale_with_a_cell_that_lacks_vectors(cell):
    positions = np.random.default_rng(5).normal(size=(3, 3))
    atoms = ase.Atoms("Ar3", positions, cell=cell, pbc=np.any(cell, axis=1))
    stretched = 1.1 * np.asarray(cell)
    ours = System.from_ase(atoms).with_cell(stretched, scale_positions=True)
    atoms.set_cell(stretched, scale_atoms=True)
    np.testing.assert_allclose(ours.positions, atoms.positions, atol=1e-12)


def test_positions_scale_with_a_flat_cell_that_lacks_a_vector():
    strip = System([[0.3, 0.7], [1.1, -0.2]], [[2.0, 0.0], [0.0, 0.0]], pbc=(True, False))
    wider = strip.with_cell([[2.2, 0.0], [0.0, 0.0]], scale_positions=True)
    np.testing.assert_allclose(wider.positions, [[0.33, 0.7], [1.21, -0.2]], atol=1e-12)


def test_masses_of_isotopes_are_not_lost_without_a_word():
    atoms = ase.Atoms("H2O", [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.8, 0.6, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        System.from_ase(atoms)
        atoms.set_masses([1.0078, 1.0078, 15.999])  # of another table
        System.from_ase(atoms)
    atoms.set_masses([2.014, 2.014, 15.999])
    with pytest.warns(MdsensWarning, match=r"atom 0, H, .* masses=\{'H': 2.014, 'O': 15.999\}"):
        System.from_ase(atoms)
    atoms.set_masses([2.014, 1.008, 15.999])
    with pytest.warns(MdsensWarning, match="one for each atom"):
        System.from_ase(atoms)
