"""An order of atoms in which those that are near one another in space are near in memory."""

import numpy as np
from jaxtyping import Float, Int

from mdsens.errors import InputError

#: Bits of each coordinate: as many as 63 have room for in three dimensions.
BITS = 21


def curve_order(positions: Float[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    """The order of atoms along a curve that fills the space they are in.

    Forces read the positions of neighbours, which are then in the processor's cache. A file in any
    order costs nothing up to some ten thousand atoms, and half as much again or more of a hundred
    thousand: ``atoms[curve_order(atoms.positions)]`` is the same structure in this order. The curve
    is that of G. M. Morton, A Computer Oriented Geodetic Data Base (IBM, 1966): cells as wide as
    atoms are apart on average, whose three numbers are mixed bit by bit.

    Arguments:
        positions: shape (N, D), in units of length, with D from 1 to 3.

    Returns:
        Shape (N,), the indices of the atoms in their new order.

    Raises:
        InputError: positions that are not of shape (N, D), or not finite.
    """
    places = np.asarray(positions, float)
    if places.ndim != 2 or not 1 <= places.shape[1] <= 3:
        raise InputError(f"positions have shape {places.shape}: give (N, D) with D from 1 to 3")
    if not np.isfinite(places).all():
        rows = np.flatnonzero(~np.isfinite(places).all(axis=1))
        raise InputError(f"positions of atoms {rows[:8].tolist()} are not finite: mend them")
    if len(places) == 0:
        return np.zeros(0, np.int64)
    places = places - places.min(axis=0)
    extents = places.max(axis=0)
    wide = extents[extents > 0]
    if len(wide) == 0:
        return np.arange(len(places))
    spacing = (np.prod(wide / wide.max()) / len(places)) ** (1.0 / len(wide)) * wide.max()
    # Where one is far from all others, cells are wider: what counts is that they can be numbered.
    cells = np.minimum(places / max(spacing, wide.max() / 2.0**BITS), 2.0**BITS - 1.0)
    numbers = np.zeros(len(places), np.uint64)
    dimension = places.shape[1]
    for axis, column in enumerate(cells.T.astype(np.uint64)):
        for bit in range(BITS):
            value = (column >> np.uint64(bit)) & np.uint64(1)
            numbers |= value << np.uint64(dimension * bit + axis)
    return np.argsort(numbers, kind="stable")
