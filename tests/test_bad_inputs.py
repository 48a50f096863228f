"""Every kind of bad input gives one line, which holds the words that matter."""

import re

import bad_inputs
import pytest
from one_line import LONGEST_LINE

ROWS = [
    pytest.param(bad, id=f"{title}-{index}")
    for title, rows in bad_inputs.TABLE.items()
    for index, bad in enumerate(rows)
]
# In one process, which finds every line once.
pytestmark = pytest.mark.xdist_group("bad inputs")


@pytest.mark.parametrize("bad", ROWS)
def test_a_bad_input_gives_one_line_with_the_words_that_matter(bad):
    line = bad_inputs.answer(bad)
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE
    for word in bad.words:
        assert word in line
    assert not re.search(r"(?<!\S)(\S+): \1: ", line)


def test_there_are_many_kinds_and_none_is_there_twice():
    given = [(bad.kind, bad.name, bad.given) for rows in bad_inputs.TABLE.values() for bad in rows]
    assert len(given) >= 200
    assert len(set(given)) == len(given)


def test_the_page_of_the_documentation_is_that_of_the_table():
    kept, made = bad_inputs.PAGE.read_text("utf-8").splitlines(), bad_inputs.page().splitlines()
    assert len(kept) == len(made), "make it anew: python tests/bad_inputs.py > docs/bad_inputs.md"
    varying = {
        bad_inputs.shown_in_a_table(bad)
        for rows in bad_inputs.TABLE.values()
        for bad in rows
        if bad.varies
    }
    for old, new in zip(kept, made, strict=True):
        # What other libraries say changes with their versions, and memory with the machine.
        shown = new.split(" | ")[0].removeprefix("| ")
        assert old == new or (shown in varying and old.startswith(f"| {shown} | "))
