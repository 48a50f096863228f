"""Whatever an error quotes, it is said in one line that a terminal can show."""

import pytest

from mdsens.errors import LONGEST_LINE, InputError, MdsensError, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 3: give b", "a = 3: give b"),
        ("two\nlines,\r\n and\ttabs", "two lines, and tabs"),
        ("red \x1b[31m and nothing \0", "red \\x1b[31m and nothing \\x00"),
        ("to the left \u202e, half a pair \ud800", "to the left \\u202e, half a pair \\ud800"),
        ("Ångström α", "Ångström α"),
    ],
)
def test_an_error_is_one_line_that_can_be_printed(text, line):
    assert str(InputError(text)) == line


def test_a_long_line_keeps_what_was_given_and_what_to_do():
    line = str(MdsensError("name = " + "x" * 10_000 + ": give another"))
    assert LONGEST_LINE - 5 <= len(line) <= LONGEST_LINE
    assert line.startswith("name = xxx")
    assert line.endswith(": give another")
    assert len(one_line("y" * 100, 50)) <= 50
