"""Readers and writers of the files that potentials come in."""

from mdsens.potentials.files.ace_contents import ACEContents
from mdsens.potentials.files.ace_files import read_ace_file, write_ace_file
from mdsens.potentials.files.elements import chosen_elements
from mdsens.potentials.files.embedded_atom_files import (
    ANGULAR_STYLE,
    STYLES,
    EmbeddedAtomTables,
    read_embedded_atom_file,
    write_embedded_atom_file,
)
from mdsens.potentials.files.find import find_file
from mdsens.potentials.files.triplets import FromTripletFile, TripletFile, read_triplets

__all__ = [
    "ANGULAR_STYLE",
    "STYLES",
    "ACEContents",
    "EmbeddedAtomTables",
    "FromTripletFile",
    "TripletFile",
    "chosen_elements",
    "find_file",
    "read_ace_file",
    "read_embedded_atom_file",
    "read_triplets",
    "write_ace_file",
    "write_embedded_atom_file",
]
