"""Readers and writers of the files that potentials come in."""

from mdsens.potentials.files.find import find_file
from mdsens.potentials.files.triplets import FromTripletFile, TripletFile, read_triplets

__all__ = ["FromTripletFile", "TripletFile", "find_file", "read_triplets"]
