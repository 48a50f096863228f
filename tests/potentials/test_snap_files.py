"""Rows of files of SNAP that are none: one line, with the number of the row."""

import pytest

from mdsens.errors import InputError
from mdsens.potentials import SNAP, ZBL, LennardJones, from_file
from mdsens.potentials.files.snap_files import read_snap_coefficients, read_snap_parameters

PARAMETERS = "# a remark\nrcutfac 4.67\n\ntwojmax 8\nrfac0 0.99\n"
COEFFICIENTS = "# a remark\n\n2 2\nW 0.5 1.0\n-2.5\n0.1\nBe 0.4 0.9\n0.2\n0.3\n"


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("twojmax 8", "twojmax 8.0", 4, "'8.0': give a whole number"),
        ("twojmax 8", "twojmax 0", 4, "'0': give a whole number, at least 1"),
        ("twojmax 8", "twojmax", 4, "twojmax has 0 values"),
        ("twojmax 8", "twojmax 8 9", 4, "twojmax has 2 values"),
        ("twojmax 8", "twojmx 8", 4, "'twojmx' is unknown"),
        ("rcutfac 4.67", "rcutfac nan", 2, "'nan' is no number"),
        ("rcutfac 4.67", "rcutfac 1e999", 2, "'1e999' is no number"),
        ("rcutfac 4.67", "rcutfac 4,67", 2, "'4,67' is no number"),
        ("rfac0 0.99", "rcutfac 0.99", 5, "rcutfac is there already"),
        ("rfac0 0.99", "bzeroflag yes", 5, "'yes': allowed are 0 and 1"),
        ("rfac0 0.99", "sinner 1.0 x", 5, "'x' is no number"),
        ("twojmax 8", "", 5, "has no twojmax up to line 5"),
        ("# a remark", "# UNITS: real", 1, "allowed is metal"),
    ],
)
def test_rows_of_parameters(tmp_path, before, after, line, words):
    path = tmp_path / "W.snapparam"
    path.write_text(PARAMETERS)
    assert read_snap_parameters(path)["twojmax"] == 8
    path.write_text(PARAMETERS.replace(before, after))
    with pytest.raises(InputError) as raised:
        read_snap_parameters(path)
    said = str(raised.value)
    assert f"line {line}" in said
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("0.1\n", "inf\n", 6, "'inf' is no number"),
        ("0.1\n", "1_0\n", 6, "'1_0' is no number"),
        ("0.1\n", "0.1 0.2\n", 6, "'0.1 0.2' where a coefficient should be"),
        ("-2.5\n", "", 6, "1 of 2 of W are there"),
        ("Be 0.4 0.9", "Be 0.4", 7, "1 of 2 elements are complete"),
        ("Be 0.4 0.9", "Be 0.4 x", 7, "'x' is no number"),
        ("Be 0.4", "W 0.4", 7, "already"),
        ("2 2", "2 0", 3, "'0': give a whole number"),
        ("2 2", "2", 3, "counts of elements"),
        ("2 2", "1 2", 7, "after the last of 2 coefficients of 1 elements"),
        ("0.3\n", "", 8, "the file ends"),
    ],
)
def test_rows_of_coefficients(tmp_path, before, after, line, words):
    path = tmp_path / "W.snapcoeff"
    path.write_text(COEFFICIENTS)
    assert read_snap_coefficients(path).elements == ("W", "Be")
    path.write_text(COEFFICIENTS.replace(before, after, 1))
    with pytest.raises(InputError) as raised:
        read_snap_coefficients(path)
    said = str(raised.value)
    assert f"line {line}" in said
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize("core", [None, ZBL({"W": 74.0, "Be": 4.0}, 4.8, ("W", "Be"), 4.0)])
def test_a_file_of_commands_is_written_with_those_that_it_names(tmp_path, core):
    beta = [[-2.5, 0.1, 0.2, 0.3, 0.4, 0.5], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]]
    snap = SNAP(beta, ("W", "Be"), (0.5, 0.4), (1.0, 0.9), 4.7, 2)
    potential = snap if core is None else snap + core
    potential.to_file(tmp_path / "both.snap")
    again = from_file(tmp_path / "both.snap")
    assert again.parameters == potential.parameters
    assert type(again) is type(potential)
    # Each element has the charge of its own, in whatever order they are asked for.
    turned = from_file(tmp_path / "both.snap", ["Be", "W"])
    assert {name: turned.parameters[name] for name in again.parameters} == again.parameters


def test_what_no_file_of_lammps_holds_is_refused(tmp_path):
    snap = SNAP([[-2.5, 0.1, 0.2, 0.3, 0.4, 0.5]], ("W",), (0.5,), (1.0,), 4.7, 2)
    pairs = LennardJones(0.1, 2.5, 6.0)
    for potential, path, words in [
        (snap + pairs, "a.snap", "allowed in a file is the sum of SNAP and one ZBL"),
        (pairs + snap, "a.snap", "allowed in a file is SNAP, and ZBL after it"),
        (snap, "a.txt", "the allowed ending is .snap"),
    ]:
        with pytest.raises(InputError, match=words) as raised:
            potential.to_file(tmp_path / path)
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
