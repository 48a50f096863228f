"""What tables name is there, so that a test that is renamed is not left out, or slow, unseen."""

import re
from pathlib import Path

from thorough_runs import COLLECTED, SLOW, THOROUGH

TESTS = Path(__file__).parent


def test_what_tables_name_is_there():
    for name in sorted({key.partition("[")[0] for key in THOROUGH | SLOW}):
        file, _, function = name.partition("::")
        (path,) = TESTS.rglob(file)
        assert re.search(rf"^def {function}\(", path.read_text("utf-8"), re.MULTILINE), name


def test_cases_that_tables_name_are_there():
    """Of those tests that are collected beside this one: all, where all are."""
    beside = {name.partition("[")[0] for name in COLLECTED}
    named = {name for name in THOROUGH | SLOW if "[" in name}
    assert {name for name in named if name.partition("[")[0] in beside} <= COLLECTED
