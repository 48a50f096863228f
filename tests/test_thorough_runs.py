"""What is left to thorough runs is there, so that a test that is renamed is not left out unseen."""

import re
from pathlib import Path

import pytest
from thorough_runs import THOROUGH

TESTS = Path(__file__).parent


@pytest.mark.parametrize("name", sorted({key.partition("[")[0] for key in THOROUGH}))
def test_what_is_left_to_thorough_runs_is_there(name):
    file, _, function = name.partition("::")
    (path,) = TESTS.rglob(file)
    assert re.search(rf"^def {function}\(", path.read_text("utf-8"), re.MULTILINE)
