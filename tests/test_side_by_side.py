"""Work that forked processes share."""

import os
import time
import warnings

import pytest

from mdsens.side_by_side import side_by_side


def test_each_task_is_done_once_and_results_are_in_order(tmp_path):
    def one(index):
        with open(tmp_path / str(index), "x") as file:
            file.write(str(os.getpid()))
        return index**2

    found = side_by_side([lambda index=index: one(index) for index in range(40)], 3)
    assert found == [index**2 for index in range(40)]
    assert len(list(tmp_path.iterdir())) == 40


def test_an_error_and_a_warning_of_any_process_are_heard():
    def warns():
        warnings.warn("hard to draw", UserWarning, stacklevel=1)
        return 1

    with pytest.warns(UserWarning, match="hard to draw"):
        assert side_by_side([warns, warns], 2) == [1, 1]

    def fails():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        side_by_side([fails, lambda: 1, lambda: 2], 2)


def test_a_process_that_is_killed_leaves_no_result(tmp_path):
    mine, sign = os.getpid(), tmp_path / "claimed"

    def ends():
        if os.getpid() != mine:
            sign.touch()
            os._exit(9)
        end = time.monotonic() + 600
        while not sign.exists() and time.monotonic() < end:
            time.sleep(0.01)

    with pytest.raises(OSError, match="has ended"):
        side_by_side([ends, ends], 2)
