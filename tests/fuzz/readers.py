"""What is fuzzed: the reader of study files and the reader of structures, and their one rule.

Either an input is read, and then every number of it is finite, or it is refused by an MdsensError
in one short line.
"""

import contextlib
import io
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
from one_line import BrokenRuleError, refusal

from mdsens.particles import read
from mdsens.study import load_study

SYSTEMS = Path(__file__).parents[2] / "systems"
#: Lines of a study that stand for an option of the command.
SETTING = "#--set "
#: Kinds of structure files, by their names.
STRUCTURE_NAMES = (
    "a.extxyz", "a.xyz", "POSCAR", "a.cif", "a.json", "a.traj", "a.lammps-data", "a.pdb", "a.xsf",
    "a.gen", "geometry.in", "a.res", "a.pwi", "a.cube", "a.cell", "a.gro", "a.mol", "a.sdf",
    "a.cfg", "CONTCAR",
)  # fmt: skip


def study_folder() -> Path:
    """A temporary folder with the structures of all ready studies, for studies to name."""
    folder = Path(tempfile.mkdtemp(prefix="mdsens-fuzz-"))
    for path in SYSTEMS.glob("*/*"):
        if path.suffix in (".extxyz", ".xyz", "") and path.is_file():
            shutil.copy(path, folder)
    return folder


def read_study(data: bytes, folder: Path) -> str:
    """Read a study as `mdsens run` does before it computes; returns what became of it."""
    path = folder / "study.toml"
    path.write_bytes(data)
    lines = data.decode("utf-8", "replace").splitlines()
    settings = [line.removeprefix(SETTING) for line in lines if line.startswith(SETTING)]

    def use() -> None:
        study = load_study(path, settings)
        for structure in study.structures.values():
            _check_system(structure.system)
        for name, value in study.potential.parameters.items():
            if not np.isfinite(value):
                raise BrokenRuleError(f"{name} = {value}")
        study.check()

    return _outcome(use)


def read_structure(data: bytes, folder: Path, name: str | None = None) -> str:
    """Read a structure file; its first byte chooses its name, unless a name is given."""
    if name is None:
        name = STRUCTURE_NAMES[data[0] % len(STRUCTURE_NAMES)] if data else STRUCTURE_NAMES[0]
        data = data[1:]
    path = folder / name
    path.write_bytes(data)
    try:
        return _outcome(lambda: _check_system(read(path)))
    finally:
        path.unlink(missing_ok=True)


def _outcome(use) -> str:
    """The line that refuses, or an empty text. Readers of ASE warn and print: no answer."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return refusal(use)


def _check_system(system) -> None:
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise BrokenRuleError("positions or cell are not finite")
    if len(np.asarray(system.species)) != len(positions) or len(positions) == 0:
        raise BrokenRuleError("species and positions differ in number")
