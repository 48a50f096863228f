"""Names of species, through ASE and its files and back."""

import io

import ase.io
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdsens

#: Any text that a file in UTF-8 can have.
NAMES = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.lists(NAMES, min_size=2, max_size=3, unique=True))
def test_names_of_species_survive_a_file(names):
    system = mdsens.System(np.eye(3)[: len(names)], None, tuple(names), list(range(len(names))))
    file = io.StringIO()
    ase.io.write(file, system.to_ase(), format="extxyz")
    file.seek(0)
    again = mdsens.System.from_ase(ase.io.read(file, format="extxyz"))
    assert again.symbols == tuple(names)


@pytest.mark.parametrize("names", [("large", "small"), ("α", "β"), ("50%", "a-b")])
def test_ordinary_names_are_written_as_they_are(names):
    atoms = mdsens.System(np.eye(3)[:2], None, names, [0, 1]).to_ase()
    assert list(atoms.arrays["species_name"]) == list(names)


@pytest.mark.parametrize("names", [("a b", "c"), ("a\n", "a"), ("a\0", "a")])
def test_other_names_are_encoded(names):
    system = mdsens.System(np.eye(3)[:2], None, names, [0, 1])
    assert "species_name" not in system.to_ase().arrays
    assert mdsens.System.from_ase(system.to_ase()).symbols == names
