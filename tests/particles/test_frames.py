"""A file of frames that says more atoms than it has is refused, and not waited for."""

import pytest

from mdsens import read
from mdsens.errors import InputError


@pytest.mark.parametrize(
    "text",
    ["1000000000\n\nAr 0 0 0\n", "1\n\nAr 0 0 0\n1000000000\n\nAr 0 0 0\n", "2\n\nAr 0 0 0\n"],
)
@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz"])
def test_a_frame_without_all_of_its_lines_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="one line for each atom"):
        read(tmp_path / name)


def test_a_number_alone_in_a_comment_is_no_number_of_atoms(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n1000000\nAr 0 0 0\n2\n7\nAr 0 0 0\nAr 1 0 0\n")
    assert read(tmp_path / "a.xyz").atom_count == 2
    assert read(tmp_path / "a.xyz", index=0).atom_count == 1
