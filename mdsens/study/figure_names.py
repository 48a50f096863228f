"""Names of the files of a report."""

import hashlib
from collections.abc import Iterable

from mdsens.study.column_names import name_in_files
from mdsens.study.pictures import FIGURES
from mdsens.study.results import of_structure

REPORT_NAME = "report.html"
#: Longer names of columns are cut in the names of figures.
LONGEST_NAME = 100
#: Name of the figure of energies against volumes.
ENERGY_VOLUME = "energy-volume"
#: Names of figures of phonon bands begin with this.
PHONON_BANDS = "phonon-bands"
#: Of densities of states of phonons, of which a study may have several.
PHONON_DENSITIES = ("phonon-density", *(f"phonon-density-{one}" for one in range(2, 10)))


def figure_of(kind: str, structure: str, parameter: str) -> str:
    """Name of the figure of what a parameter changes; file systems know no long names.

    Arguments:
        kind: e.g. ``"structure"``.
        structure: name of the structure.
        parameter: name of the parameter.

    Returns:
        E.g. ``"structure-bulk-dsigma"``.
    """
    column = name_in_files(parameter)
    if len(column) > LONGEST_NAME:
        column = column[:LONGEST_NAME] + hashlib.sha256(column.encode()).hexdigest()[:16]
    return f"{of_structure(kind, structure)}-{column}"


def possible_figures(structures: Iterable[str], parameters: Iterable[str]) -> list[str]:
    """Every file of a report.

    Arguments:
        structures: names of the structures; a single empty one in a study of one structure.
        parameters: names of the parameters that the run differentiates in.

    Returns:
        Names of files.
    """
    figures, moving = ["formulas", "sensitivities", "ensemble"], list(parameters)
    for structure in structures:
        whole = ("convergence", ENERGY_VOLUME, PHONON_BANDS, *FIGURES.values())
        figures += [of_structure(name, structure) for name in whole]
        for kind in ("structure", PHONON_BANDS, *PHONON_DENSITIES):
            figures += [figure_of(kind, structure, parameter) for parameter in moving]
    return [REPORT_NAME, *(f"{name}.png" for name in figures)]
