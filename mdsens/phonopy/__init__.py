"""Force constants and crystals as phonopy takes and gives them."""

from mdsens.phonopy.crystal_file import CrystalFile, read_phonopy_yaml, write_phonopy_yaml
from mdsens.phonopy.force_constants import (
    force_constants,
    force_constants_of_supercell,
    read_force_constants,
    write_force_constants,
)

__all__ = [
    "CrystalFile",
    "force_constants",
    "force_constants_of_supercell",
    "read_force_constants",
    "read_phonopy_yaml",
    "write_force_constants",
    "write_phonopy_yaml",
]
