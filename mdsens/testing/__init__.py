"""The checks that every potential has to pass, for potentials of one's own."""

from mdsens.testing.bench import supercell
from mdsens.testing.potential_checks import check_potential
from mdsens.testing.report import Check, PotentialReport

__all__ = ["Check", "PotentialReport", "check_potential", "supercell"]
