"""What takes too long in a benchmark is ended, and the rest is done without it."""

import os
import time

import pytest

from benchmarks.layers.limits import Apart

SLOW, QUICK = ("other", "tight", "gradient"), ("other", "", "gradient")


def rows(name, too_slow, begin):
    done = []
    for stage in (QUICK, SLOW):
        if stage not in too_slow:
            begin(stage)
            time.sleep(60 if stage == SLOW else 0)
            done.append(stage)
    begin(None)
    return name, done, too_slow


def broken(too_slow, begin):
    begin(QUICK)
    os._exit(1)


def test_what_takes_too_long_is_left_out():
    with Apart(rows, 1.0) as measured:
        assert measured("qp") == ("qp", [QUICK], {SLOW: 1.0})


def test_a_process_that_ends_is_an_error_that_says_where():
    with Apart(broken, 60.0) as measured, pytest.raises(RuntimeError, match=r"at .*gradient"):
        measured()
