"""Structures of a finished run as its report shows them, from their files."""

import dataclasses
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mdsens import plots
from mdsens.files import read_csv
from mdsens.plots import Motion
from mdsens.study.results_file import structures_of
from mdsens.study.run_files import HISTORY_NAME, STRUCTURE_NAME, of_structure, read_atoms

#: Numbers of relaxed.extxyz are rounded to this.
ROUNDING = 1e-8


@dataclasses.dataclass(frozen=True)
class Shown:
    """A relaxed structure of a run.

    Attributes:
        atoms: as relaxed.extxyz has them.
        motions: how they move with each parameter.
        position_error: absolute error of the positions, length; None where it is not known.
    """

    atoms: ase.Atoms
    motions: list[Motion]
    position_error: float | None

    def scene(self, results: dict[str, Any], title: str) -> dict[str, Any]:
        """What the viewer of a page shows.

        Arguments:
            results: what results.json says of the structure.
            title: what it is.

        Returns:
            Plain numbers and texts.
        """
        return plots.scene(
            self.atoms, self.motions, results["units"]["length"], results["dimension"],
            results["diameters"], title, self.position_error,
        )  # fmt: skip


def shown_structures(folder: Path, results: dict[str, Any]) -> dict[str, Shown]:
    """The structures of a run, each read once.

    Arguments:
        folder: that of the run.
        results: what results.json holds.

    Returns:
        By name; that of a study of one structure has an empty one.
    """
    return {
        name: _shown(read_atoms(folder / of_structure(STRUCTURE_NAME, name)), results | of)
        for name, of in structures_of(results).items()
    }


def read_history(folder: Path, structure: str) -> list[dict[str, str]]:
    """The course of a relaxation.

    Arguments:
        folder: that of the run.
        structure: name of the structure.

    Returns:
        Rows of history.csv; none where there is no such file.
    """
    path = folder / of_structure(HISTORY_NAME, structure)
    return read_csv(path) if path.is_file() else []


def _shown(atoms: ase.Atoms, results: dict[str, Any]) -> Shown:
    certificate = results["certificate"]
    relative = certificate["derivative_error"] or 0.0
    vectors = {name: np.asarray(atoms.arrays[of]) for name, of in results["vectors"].items()}
    largest = {name: float(np.abs(one).max(initial=0.0)) for name, one in vectors.items()}
    strains, motions = results.get("cell_derivatives"), []
    for parameter, whole in vectors.items():
        error = plots.motion_error(parameter, results["parameters"], largest, relative)
        beside, cell = whole, None
        if strains is not None:
            cell, dimension = np.zeros((3, 3)), results["dimension"]
            cell[:dimension, :dimension] = strains[parameter]
            beside = plots.non_affine(atoms.positions, atoms.cell[:], whole, cell)
            strained = np.abs(np.linalg.pinv(atoms.cell[:]) @ cell).sum()
            error = max(error, 2.0 * ROUNDING * (1.0 + strained))
        units = results["units"]
        motions.append(
            Motion(
                parameter, results["parameters"][parameter], units["parameters"][parameter],
                units["vectors"][parameter], beside, whole, cell, max(error, ROUNDING),
            )
        )  # fmt: skip
    off = plots.position_error(
        results["largest_force"] or 0.0, certificate["lowest_eigenvalue"] or 0.0, len(atoms)
    )
    return Shown(atoms, motions, None if off is None else max(off, ROUNDING))
