"""Paths of phonon bands in studies."""

import ase.build
import ase.io
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.sensitivities.phonon_bands import checked_path
from mdsens.study import load_study

STUDY = """
[structure]
file = "argon.extxyz"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.4
cutoff = 4.6

[phonon_bands]
points = 5
path = {path}
"""


def study_of(folder, path):
    ase.io.write(folder / "argon.extxyz", ase.build.bulk("Ar", "fcc", 5.4))
    (folder / "study.toml").write_text(STUDY.format(path=path))
    return load_study(folder)


def test_a_path_is_names_of_points_or_pairs_with_their_wave_vectors(tmp_path):
    named = study_of(tmp_path, '"GX"')
    given = study_of(tmp_path, '[["G", [0, 0, 0]], ["X", [0.5, 0, 0.5]]]')
    found = [checked_path(one.system, one.file.phonon_bands.path, 5)[0] for one in (named, given)]
    np.testing.assert_allclose(found[0].vectors, found[1].vectors, atol=1e-14)
    assert [name for _, name in found[1].labels] == ["G", "X"]


@pytest.mark.parametrize(("path", "wrong"), [
    ('"GQ"', "the lattice has no point 'Q'"),
    ('[["G", [0, 0, 0]], ["X", [0.5, 0]]]', "path: X has shape"),
    ("3", "phonon_bands.path"),
])  # fmt: skip
def test_what_is_no_path_is_refused(tmp_path, path, wrong):
    with pytest.raises(InputError, match=wrong):
        study_of(tmp_path, path).only.check()
