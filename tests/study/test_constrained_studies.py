"""Studies of structures with constraints: from a file, and by the symmetry that they have."""

import ase.build
import ase.io
import numpy as np
import pytest
from ase.constraints import FixCartesian, FixedPlane

from mdsens.errors import InputError
from mdsens.study import load_study, verify_study

STUDY = """
[structure]
file = "argon.traj"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.4
cutoff = 5.9
onset = 5.4

[relaxation]
fmax = 1e-10
symmetry = {symmetry}
cell = "{cell}"

[sensitivity]
observables = ["energy", "lattice_constants"]
wrt = ["sigma"]
"""


def study_of(folder, atoms, **settings):
    folder.mkdir()
    ase.io.write(folder / "argon.traj", atoms)
    text = STUDY.format(**{"symmetry": "false", "cell": "none", **settings})
    (folder / "study.toml").write_text(text)
    return load_study(folder)


@pytest.fixture
def cubic(tmp_path):
    """Body-centred argon, nearly, whose cell would rather not be cubic."""
    atoms = ase.build.bulk("Ar", "bcc", 4.2, cubic=True)
    atoms.rattle(1e-4, seed=1)
    return study_of(tmp_path / "cubic", atoms, symmetry="true", cell="full")


def test_a_cell_keeps_the_symmetry_that_its_study_asks_for(cubic):
    assert cubic.system.constraints.names == ("FixSymmetry",)
    equilibrium = cubic.only.relax()
    cell = np.asarray(equilibrium.cell)
    np.testing.assert_allclose(cell, cell[0, 0] * np.eye(3), atol=1e-12)
    assert equilibrium.certificate.kind == "minimum"


@pytest.mark.slow
def test_a_symmetric_cell_is_verified_by_cells_that_are(cubic):
    assert verify_study(cubic).passed


def test_constraints_of_a_structure_file_are_honoured(tmp_path):
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_constraint([FixCartesian([0], (True, False, True)), FixedPlane([1], (1, 1, 0))])
    study = study_of(tmp_path / "argon", atoms)
    assert study.system.constraints.names == ("FixCartesian", "FixedPlane")
    moved = np.asarray(study.only.relax().positions) - atoms.positions
    np.testing.assert_allclose(moved[0, [0, 2]], 0.0, atol=1e-12)
    np.testing.assert_allclose(moved[1, :2].sum(), 0.0, atol=1e-12)
    assert np.abs(moved[2:]).max() > 1e-3


def test_what_has_no_cell_has_no_symmetry_to_keep(tmp_path):
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
    with pytest.raises(InputError, match=r"relaxation\.symmetry: a symmetry is that of three dim"):
        study_of(tmp_path / "argon", atoms, symmetry="true").check()
