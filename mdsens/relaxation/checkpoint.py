"""Where a long relaxation is, in a file, from which another process goes on."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mdsens.archive import SUFFIX, Archived, digest
from mdsens.errors import InputError, warn
from mdsens.files import path_of
from mdsens.minimisers.minimiser import State
from mdsens.values import shown

#: Share of the time that may go into writing.
SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class Leg:
    """How one run of a minimiser within a relaxation has ended: what decides about the next.

    Attributes:
        steps: steps that the relaxation has taken so far.
        left: what convergence goes by, held against the largest force allowed, energy/length.
        typical_force: root mean square of the forces, energy/length.
        stalled: whether no step lowers the enthalpy any more.
    """

    steps: int
    left: float
    typical_force: float
    stalled: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot(Archived):
    """A relaxation between two segments of steps.

    Attributes:
        fingerprint: what of, as `Checkpoint.fingerprint`.
        legs: the runs of minimisers that have ended.
        methods: the minimisers that ran and the steps each took.
        minimiser: name of the one that is at work.
        state: where it is.
        taken: steps that it has taken.
        reference: degrees of freedom from which displacements are told, shape (R, D).
        edges_at: positions (N, D) and cell (D, D) at which the edges were found.
        capacity: the room that they have.
        segments: number of segments so far.
        evaluations: evaluations of the gradient by the minimisers that have ended.
        enthalpies: as in `History`, as are the two that follow.
        forces: largest forces.
        stresses: largest stresses, or None.
    """

    compressed: ClassVar[bool] = False
    remedy: ClassVar[str] = "remove it, and the relaxation begins anew"

    fingerprint: str
    legs: list[Leg]
    methods: list[tuple[str, int]]
    minimiser: str
    state: State
    taken: int
    reference: Any
    edges_at: tuple[np.ndarray, np.ndarray]
    capacity: tuple[int, int]
    segments: int
    evaluations: int
    enthalpies: np.ndarray
    forces: np.ndarray
    stresses: np.ndarray | None

    def own_state(self) -> State:
        """The state in memory of its own, which compiled code may write over."""
        found: State = jax.tree.map(
            lambda leaf: jnp.array(leaf) if isinstance(leaf, jax.Array) else leaf, self.state
        )
        return found


class Checkpoint:
    """A file that is written now and then, and read at the start.

    Arguments:
        path: the file, with the ending ``.npz``.
        every: seconds between two writings at least.
        decisive: what the relaxation depends on: anything that a file can hold.

    Raises:
        InputError: another ending, no folder for it, or something that no file can hold.
    """

    def __init__(self, path: str | Path, every: float, decisive: Any) -> None:
        self.path, self.every = path_of(path, "checkpoint"), every
        if self.path.suffix != SUFFIX:
            raise InputError(
                f"checkpoint = {shown(str(self.path))}: the allowed ending is {SUFFIX}"
            )
        if not self.path.parent.is_dir():
            raise InputError(
                f"checkpoint = {shown(str(self.path))}: there is no folder "
                f"{shown(str(self.path.parent))}; make it, or give another path"
            )
        self.fingerprint = digest(decisive, "what relaxes")
        self._last, self._took = time.monotonic(), 0.0

    def read(self) -> Snapshot | None:
        """Where the relaxation was, if the file is there.

        Raises:
            InputError: the file is damaged, or of another relaxation.
        """
        if not self.path.exists():
            return None
        try:
            found = Snapshot.load(self.path)
        except InputError as error:
            more = "" if Snapshot.remedy in str(error) else f", or {Snapshot.remedy}"
            raise InputError(f"checkpoint {error}{more}") from None
        if found.fingerprint != self.fingerprint:
            raise InputError(
                f"checkpoint {shown(str(self.path))} is of another relaxation, with another "
                "structure, potential or option: remove it to begin anew, or give another path"
            )
        return found

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= max(self.every, self._took / SHARE)

    def write(self, snapshot: Snapshot) -> None:
        """Write the file as a whole; what is wrong with the disk is told, and ends nothing."""
        begun = time.monotonic()
        try:
            snapshot.save(self.path)
        except InputError as error:
            warn(f"no checkpoint was written, and the relaxation goes on: {error}")
        self._last = time.monotonic()
        self._took = self._last - begun

    def remove(self) -> None:
        """Remove the file, for the relaxation has ended."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
