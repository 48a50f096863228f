"""Files that hold nothing: each kind says so in one line, which names the line."""

import pytest

from mdsens.errors import InputError
from mdsens.potentials.any_file import from_file

#: What files of potentials end in.
ENDINGS = (
    "sw", "tersoff", "tersoff.mod", "tersoff.modc", "tersoff.zbl", "edip", "vashishta", "eam",
    "eam.alloy", "eam.fs", "adp", "snap", "snapcoeff", "ace", "yace",
)  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("text", ["", "# a comment, DATE: 2020-01-01 UNITS: metal\n"])
def test_a_file_without_contents_is_an_error_with_its_line(tmp_path, ending, text):
    path = tmp_path / f"nothing.{ending}"
    path.write_text(text)
    with pytest.raises(InputError, match=r"nothing.*line [1-9]") as raised:
        from_file(path)
    assert "\n" not in str(raised.value)
