"""A potential from a file, by the ending of its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.potentials.ace import ACE
from mdsens.potentials.adp import ADP
from mdsens.potentials.eam import EAM
from mdsens.potentials.edip import EDIP
from mdsens.potentials.potential import Potential
from mdsens.potentials.snap import SNAP
from mdsens.potentials.snap_in_files import ENDINGS
from mdsens.potentials.stillinger_weber import StillingerWeber
from mdsens.potentials.tersoff import Tersoff, TersoffMod, TersoffZBL
from mdsens.potentials.vashishta import Vashishta
from mdsens.values import nearest, shown

#: Which class reads files of each ending.
BY_ENDING: dict[str, Any] = {
    ".adp": ADP,
    ".ace": ACE,
    ".eam": EAM,
    ".eam.alloy": EAM,
    ".eam.fs": EAM,
    ".edip": EDIP,
    **dict.fromkeys(ENDINGS, SNAP),
    ".sw": StillingerWeber,
    ".tersoff": Tersoff,
    ".tersoff.mod": TersoffMod,
    ".tersoff.modc": TersoffMod,
    ".tersoff.zbl": TersoffZBL,
    ".vashishta": Vashishta,
    ".yace": ACE,
}


def from_file(
    path: str | Path, elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None
) -> Potential:
    """Read a potential from a file, as the ending of its name says.

    Arguments:
        path: of the file, e.g. ``"SiC.tersoff"``; one that is not there is looked for among those
            of an installed LAMMPS.
        elements: which of the file's elements to take, or a dict that says for each species which;
            all by default.

    Returns:
        The Potential.

    Raises:
        InputError: an unknown ending, no such file, or a broken one.
    """
    name = path_of(path, "path").name
    for ending in sorted(BY_ENDING, key=len, reverse=True):
        if name.endswith(ending):
            found: Potential = BY_ENDING[ending].from_file(path, elements)
            return found
    ending = "." + name.partition(".")[2]
    raise InputError(
        f"path = {shown(str(path))}: allowed endings are {', '.join(BY_ENDING)}"
        f"{nearest(ending, BY_ENDING)}"
    )
