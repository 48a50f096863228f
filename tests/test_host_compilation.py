"""Loops that numba compiles."""

import errno

import pytest
from numba.core.caching import IndexDataCacheFile

from mdsens.host_compilation import host_compiled, host_compiled_for


def _sum(one, other):
    return one + other


@pytest.mark.parametrize("when", ["it is called", "it is defined"])
def test_a_full_disk_keeps_no_loop_from_running(when, monkeypatch):
    tried = []

    def full(*_):
        tried.append(True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    decorate = host_compiled if when == "it is called" else host_compiled_for("f8(f8, f8)")
    assert decorate(_sum)(1.5, 2.0) == 3.5
    assert tried
