"""Names of the files of a report."""

import hashlib
from collections.abc import Iterable, Mapping

from mdsens.study.column_names import name_in_files
from mdsens.study.pictures import FIGURES, densities_among
from mdsens.study.run_files import of_structure

REPORT_NAME = "report.html"
#: Longer names of columns are cut in the names of figures.
LONGEST_NAME = 100
#: Name of the figure of energies against volumes.
ENERGY_VOLUME = "energy-volume"
#: Names of figures of phonon bands begin with this.
PHONON_BANDS = "phonon-bands"
#: Of densities of states of phonons; those of the second and further ones are numbered.
PHONON_DENSITY = "phonon-density"


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


def density_figures(count: int) -> list[str]:
    """What names of figures of so many densities of states of phonons begin with."""
    return [f"{PHONON_DENSITY}-{one}" if one > 1 else PHONON_DENSITY for one in range(1, count + 1)]


def possible_figures(
    structures: Mapping[str, Iterable[str]], parameters: Iterable[str]
) -> list[str]:
    """Every file of a report.

    Arguments:
        structures: the names of each structure's observables, by its name; a single empty one in a
            study of one structure.
        parameters: names of the parameters that the run differentiates in.

    Returns:
        Names of files.
    """
    figures, moving = ["formulas", "sensitivities", "ensemble"], list(parameters)
    for structure, observables in structures.items():
        densities = density_figures(len(list(densities_among(observables))))
        whole = ("convergence", ENERGY_VOLUME, PHONON_BANDS, *FIGURES.values())
        figures += [of_structure(name, structure) for name in whole]
        for kind in ("structure", PHONON_BANDS, *densities):
            figures += [figure_of(kind, structure, parameter) for parameter in moving]
    return [REPORT_NAME, *(f"{name}.png" for name in figures)]
