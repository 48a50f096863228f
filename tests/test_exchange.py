"""Crystals in the files of phonopy, in ASE's Phonons and in ELATE's tables."""

import ase.build
import ase.phonons
import cases
import numpy as np
import phonopy
import pytest

import mdsens
from mdsens import elate
from mdsens.errors import InputError, MdsensWarning
from mdsens.observables import elastic_constants, phonon_frequencies
from mdsens.phonopy import read_phonopy_yaml, write_phonopy_yaml
from mdsens.potentials import LennardJones

ARGON = LennardJones(0.0104, 3.405, cutoff=6.0, onset=5.6)
#: One that fits into the supercell below, and one that does not.
WAVES = [[0.5, 0.0, 0.25], [0.13, 0.27, -0.31]]
#: phonopy and this package have Planck's constant and the like of different years.
CONSTANTS = 1e-6


@pytest.fixture(scope="module")
def crystal():
    """Two atoms in a cell without right angles, of two masses."""
    atoms = ase.build.bulk("Ar", "hcp", a=3.75, c=6.1)
    atoms.symbols[1] = "Kr"
    atoms.set_cell(atoms.cell[:] @ [[1, 0, 0], [0.02, 1, 0], [0, 0.03, 1]], True)
    table = cases.LennardJones(0.0104, [[3.405, 3.5], [3.5, 3.6]], 6.0, onset=5.6,
                               species=("Ar", "Kr"))  # fmt: skip
    return mdsens.relax(mdsens.System.from_ase(atoms), table, cell="full", fmax=1e-10)


def test_phonopy_goes_on_from_the_file(crystal, tmp_path):
    path = tmp_path / "phonopy.yaml"
    write_phonopy_yaml(path, crystal, (4, 4, 4))
    loaded = phonopy.load(path, log_level=0)
    loaded.run_qpoints(WAVES)
    for wave, found in zip(WAVES, loaded.qpoints.frequencies, strict=True):
        expected = phonon_frequencies(wave)(crystal)
        np.testing.assert_allclose(found, expected, rtol=CONSTANTS)
    back = read_phonopy_yaml(path)
    np.testing.assert_allclose(back.unit_cell.positions, crystal.positions, atol=1e-13)
    assert back.unit_cell.symbols == ("Ar", "Kr")
    assert np.array_equal(back.supercell_matrix, 4 * np.eye(3))
    np.testing.assert_allclose(back.force_constants, loaded.force_constants, atol=1e-14)


def test_files_that_phonopy_writes_are_read(crystal, tmp_path):
    with pytest.warns(MdsensWarning, match=r"give supercell=\(4, 4, 2\) for all others"):
        write_phonopy_yaml(tmp_path / "phonopy.yaml", crystal, 2)
    loaded = phonopy.load(tmp_path / "phonopy.yaml", log_level=0)
    loaded.save(tmp_path / "theirs.yaml", settings={"force_constants": True})
    theirs, mine = (read_phonopy_yaml(tmp_path / name) for name in ("theirs.yaml", "phonopy.yaml"))
    np.testing.assert_allclose(theirs.unit_cell.positions, mine.unit_cell.positions, atol=1e-10)
    np.testing.assert_allclose(theirs.masses, mine.masses, rtol=1e-6)
    np.testing.assert_allclose(theirs.force_constants, mine.force_constants, atol=1e-10)


def test_phonons_of_ase_have_the_frequencies(crystal):
    with pytest.warns(MdsensWarning, match=r"ase_phonons: .*give supercell=\(4, 4, 4\)"):
        phonons = mdsens.ase_phonons(crystal, (4, 3, 4))
    energies = phonons.band_structure(np.array([[0.5, 1 / 3, 0.25]]), verbose=False)[0]
    terahertz = ase.units._hplanck * ase.units.J * 1e12
    expected = phonon_frequencies([0.5, 1 / 3, 0.25])(crystal)
    np.testing.assert_allclose(energies / terahertz, expected, rtol=CONSTANTS)


@pytest.mark.peer
def test_force_constants_are_those_that_ase_gets_by_displacements(crystal, tmp_path):
    """In a supercell of two cells, in which atoms feel many images of another."""
    with pytest.warns(MdsensWarning, match="two images of another"):
        mine = mdsens.ase_phonons(crystal, (2, 2, 3))
    calculator = mdsens.Calculator(crystal.potential)
    theirs = ase.phonons.Phonons(
        crystal.to_ase(), calculator, (2, 2, 3), name=str(tmp_path / "phonon"), delta=1e-3
    )
    theirs.run()
    theirs.read(symmetrize=0, acoustic=False)
    scale = np.abs(mine.C_N).max()
    np.testing.assert_allclose(mine.get_force_constant(), theirs.C_N, atol=1e-5 * scale)
    np.testing.assert_allclose(mine.D_N, theirs.D_N, atol=1e-5 * np.abs(mine.D_N).max())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no phonopy.yaml"),
        ("unit_cell: 3", "no phonopy.yaml"),
        ("[" * 5000, "no phonopy.yaml"),
        ("!!python/object/apply:os.system [x]", "no phonopy.yaml"),
        ("{physical_unit: {length: au}, unit_cell: {lattice: [[9, 0, 0], [0, 9, 0], [0, 0, 9]],"
         " points: [{symbol: Ar, coordinates: [0, 0, 0]}]}}", "lengths in 'au'"),
    ],
)  # fmt: skip
def test_other_files_are_refused(text, words, tmp_path):
    path = tmp_path / "phonopy.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as line:
        read_phonopy_yaml(path)
    assert "\n" not in str(line.value)


#: Of zinc, GPa, and what ELATE says of it: its closed forms for a hexagonal crystal.
ZINC = np.array(
    [
        [165.0, 31.0, 50.0, 0, 0, 0], [31.0, 165.0, 50.0, 0, 0, 0], [50.0, 50.0, 62.0, 0, 0, 0],
        [0, 0, 0, 39.6, 0, 0], [0, 0, 0, 0, 39.6, 0], [0, 0, 0, 0, 0, 67.0],
    ]
)  # fmt: skip


def test_tables_of_elate():
    tables = elate.tables(ZINC)
    c11, c12, c13, c33, c44, c66 = 165.0, 31.0, 50.0, 62.0, 39.6, 67.0
    voigt = (2 * (c11 + c12) + c33 + 4 * c13) / 9
    reuss = ((c11 + c12) * c33 - 2 * c13**2) / (c11 + c12 + 2 * c33 - 4 * c13)
    assert tables.averages.loc["Voigt", "bulk modulus"] == pytest.approx(voigt, rel=1e-12)
    assert tables.averages.loc["Reuss", "bulk modulus"] == pytest.approx(reuss, rel=1e-12)
    shear = (7 * c11 - 5 * c12 + 12 * c44 + 2 * c33 - 4 * c13) / 30
    assert tables.averages.loc["Voigt", "shear modulus"] == pytest.approx(shear, rel=1e-12)
    along = c33 - 2 * c13**2 / (c11 + c12)
    assert tables.variations.loc["minimum", "youngs modulus"] == pytest.approx(along, rel=1e-8)
    assert tables.variations.loc["minimum along", "youngs modulus"] == "[0 0 1]"
    root = np.hypot(c11 + c12 - c33, np.sqrt(8.0) * c13)
    lowest, highest = ((c11 + c12 + c33 + sign * root) / 2 for sign in (-1, 1))
    expected = sorted([lowest, highest, c11 - c12, c44, c44, c66])
    np.testing.assert_allclose(tables.eigenvalues, expected, rtol=1e-12)


def test_constants_come_back_from_the_text_that_elate_takes(tmp_path):
    path = tmp_path / "constants.txt"
    at_rest = mdsens.relax(
        mdsens.System.from_ase(ase.build.bulk("Ar", a=5.3)), ARGON, cell="isotropic", fmax=1e-10
    )
    constants = np.asarray(elastic_constants()(at_rest))
    elate.write_constants(path, constants)
    np.testing.assert_allclose(elate.read_constants(path), constants, rtol=1e-9, atol=1e-12)
    rows = path.read_text().splitlines()
    path.write_text("\n".join(" ".join(row.split()[place:]) for place, row in enumerate(rows)))
    np.testing.assert_allclose(elate.read_constants(path), constants, rtol=1e-9, atol=1e-12)
    path.write_text("1 2\n3")
    with pytest.raises(InputError, match="no table of elastic constants"):
        elate.read_constants(path)
