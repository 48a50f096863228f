"""What takes too long in a benchmark is ended, and the rest is done without it."""

import os
import time

import pytest

from benchmarks.layers.limits import Apart

SLOW, QUICK = ("other", "tight", "gradient"), ("other", "", "gradient")


def rows(name, too_slow, kept, begin, keep):
    done = []
    for stage in (QUICK, SLOW):
        if stage not in too_slow and stage[:2] not in kept:
            begin(stage)
            time.sleep(60 if stage == SLOW else 0)
            done.append(stage)
            keep(stage[:2], os.getpid())
    begin(None)
    return name, done, too_slow, [kept[QUICK[:2]] != os.getpid()]


def broken(too_slow, kept, begin, keep):
    begin(QUICK)
    os._exit(1)


def test_what_takes_too_long_is_left_out_and_what_was_done_before_it_is_not_done_again():
    with Apart(rows, 1.0) as measured:
        assert measured("qp") == ("qp", [], {SLOW: 1.0}, [True])


def test_a_process_that_ends_is_an_error_that_says_where():
    with Apart(broken, 60.0) as measured, pytest.raises(RuntimeError, match=r"at .*gradient"):
        measured()
