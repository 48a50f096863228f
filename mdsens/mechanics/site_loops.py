"""Hessians of site energies added up by loops that numba compiles: imported by what runs one."""

from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled


@host_compiled
def note_columns(members: Any, moves: Any, lengths: Any, columns: Any) -> bool:
    """Note which rows of blocks the sites of some atoms couple; False where there is no room.

    Members of shape (C, W) are the atoms of each site, N or more for none; `moves` of shape
    (N + 1,) says which of them move, and `columns` of shape (N, room) holds `lengths` of each row.
    """
    last = len(moves) - 1
    for c in range(len(members)):
        for first in range(members.shape[1]):
            i = min(members[c, first], last)
            if not moves[i]:
                continue
            for second in range(members.shape[1]):
                j = min(members[c, second], last)
                if not moves[j]:
                    continue
                place = 0
                while place < lengths[i] and columns[i, place] != j:
                    place += 1
                if place == lengths[i]:
                    if place == columns.shape[1]:
                        return False
                    columns[i, place] = j
                    lengths[i] += 1
    return True


@host_compiled
def in_rows(columns: Any, starts: Any) -> Any:
    """The columns that were noted, one row after another."""
    found = np.empty(starts[-1], np.int32)
    for i in range(len(columns)):
        found[starts[i] : starts[i + 1]] = columns[i, : starts[i + 1] - starts[i]]
    return found


@host_compiled
def add_sites(
    values: Any, slopes: Any, members: Any, moves: Any, starts: Any, columns: Any, data: Any,
    gradient: Any, begin: int, end: int,
) -> None:  # fmt: skip
    """Add the Hessians of some sites, shape (C, W, W, D, D), to the rows from begin to end.

    And their gradients, shape (C, W, D), to those of the whole, shape (N, D).
    """
    last, size = len(moves) - 1, data.shape[1]
    for c in range(len(members)):
        for first in range(members.shape[1]):
            i = min(members[c, first], last)
            if not moves[i] or i < begin or i >= end:
                continue
            for a in range(size):
                gradient[i, a] += slopes[c, first, a]
            for second in range(members.shape[1]):
                j = min(members[c, second], last)
                if not moves[j]:
                    continue
                place = starts[i]
                while columns[place] != j:
                    place += 1
                for a in range(size):
                    for b in range(size):
                        data[place, a, b] += values[c, first, second, a, b]
