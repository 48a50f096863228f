"""Elastic constants as ELATE takes them, and its tables: R. Gaillac et al. (2016).

J. Phys.: Condens. Matter 28, 275201. Its order of components, 11 22 33 23 13 12, is ASE's.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from jaxtyping import Float

from mdsens.elastic_directions import checked_constants, direction_name, elastic_ranges
from mdsens.errors import InputError
from mdsens.files import path_of, read_bytes, replacing
from mdsens.observables.elasticity import AVERAGES, averaged_moduli
from mdsens.values import real_array, shown

#: The most bytes that a file of elastic constants may have.
LARGEST_FILE = 100_000
#: Relative difference of the two halves of a matrix that is not rounding.
ASYMMETRIC = 1e-3


class Tables(NamedTuple):
    """ELATE's three tables of a crystal; moduli in the unit of its elastic constants.

    Attributes:
        averages: a row for each average, of Voigt, Reuss and Hill; columns for the bulk modulus,
            Young's modulus, the shear modulus and Poisson's ratio.
        eigenvalues: of the matrix of elastic constants, ascending.
        variations: over all directions, a column for each of Young's modulus, the linear
            compressibility, the shear modulus and Poisson's ratio; rows for the smallest and the
            largest value, their ratio, and the directions along which they are met.
    """

    averages: pandas.DataFrame
    eigenvalues: pandas.Series
    variations: pandas.DataFrame


def tables(constants: Float[Any, "6 6"]) -> Tables:
    """The averages, eigenvalues and variations of elastic properties that ELATE shows.

    Arguments:
        constants: elastic constants in ASE's Voigt order, shape (6, 6), GPa, such as
            `mdsens.observables.elastic_constants()(equilibrium)`.

    Returns:
        The Tables.

    Raises:
        InputError: another shape, numbers that are not finite, or a strain that lowers the energy.
    """
    matrix = checked_constants(_symmetric(constants))
    rows = {one: averaged_moduli(matrix, one) for one in AVERAGES}
    columns = ["bulk modulus", "Young's modulus", "shear modulus", "Poisson's ratio"]
    averages = pandas.DataFrame(
        [[float(number) for number in row] for row in rows.values()],
        index=[one.capitalize() for one in rows],
        columns=columns,
    )
    values = np.linalg.eigvalsh(matrix)
    eigenvalues = pandas.Series(values, index=[f"lambda {n}" for n in range(1, 7)])
    variations = {
        name.replace("_", " "): [
            found.minimum,
            found.maximum,
            found.anisotropy,
            *(
                ", ".join(map(direction_name, along))
                for along in (found.minimum_directions, found.maximum_directions)
            ),
        ]
        for name, found in elastic_ranges(matrix).items()
    }
    index = ["minimum", "maximum", "anisotropy", "minimum along", "maximum along"]
    return Tables(averages, eigenvalues, pandas.DataFrame(variations, index=index))


def write_constants(path: str | Path, constants: Float[Any, "6 6"]) -> None:
    """Write elastic constants as the text that ELATE takes: six lines of six numbers, in GPa.

    Arguments:
        path: the file; one that is there is replaced.
        constants: in ASE's Voigt order, shape (6, 6), GPa.

    Raises:
        InputError: another shape, or a path that cannot be written.
    """
    matrix = _symmetric(constants)
    with replacing(path_of(path, "path")) as file:
        for row in matrix:
            file.write((" ".join(f"{one:.10g}" for one in row + 0.0) + "\n").encode())


def read_constants(path: str | Path) -> Float[np.ndarray, "6 6"]:
    """Read elastic constants from such a file; of an upper triangle the lower one follows.

    Arguments:
        path: the file, of six lines.

    Returns:
        Shape (6, 6), in the file's unit.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    file = path_of(path, "path")
    content = read_bytes(file, LARGEST_FILE)
    matrix = np.full((6, 6), np.nan)
    try:
        rows = [[float(word) for word in row.split()] for row in content.decode().splitlines()]
        for place, row in enumerate(filter(None, rows)):
            matrix[place, 6 - len(row) :] = row
    except (ValueError, IndexError):
        matrix[:] = np.nan
    lower = np.tril_indices(6, -1)
    matrix[lower] = np.where(np.isnan(matrix[lower]), matrix.T[lower], matrix[lower])
    if not np.isfinite(matrix).all():
        raise InputError(
            f"{shown(str(file))} is no table of elastic constants: give six lines of six numbers, "
            "or of those from the diagonal on"
        )
    return matrix


def _symmetric(constants: Any) -> Float[np.ndarray, "6 6"]:
    matrix = real_array(constants, "constants", (6, 6))
    apart = np.abs(matrix - matrix.T)
    if apart.max() > ASYMMETRIC * np.abs(matrix).max():
        i, j = np.unravel_index(apart.argmax(), apart.shape)
        raise InputError(
            f"constants are not symmetric: {matrix[i, j]:.6g} and {matrix[j, i]:.6g} in rows {i} "
            f"and {j}; give both halves"
        )
    return np.asarray((matrix + matrix.T) / 2)
