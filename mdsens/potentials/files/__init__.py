"""Files of potentials that others have written: readers, writers, and where files are."""

from mdsens.potentials.files.embedded_atom_files import (
    STYLES,
    EmbeddedAtomTables,
    read_embedded_atom_file,
    write_embedded_atom_file,
)
from mdsens.potentials.files.find import find_potential_file

__all__ = [
    "STYLES",
    "EmbeddedAtomTables",
    "find_potential_file",
    "read_embedded_atom_file",
    "write_embedded_atom_file",
]
