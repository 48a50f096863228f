"""Energies as functions of edges; one file per family."""

from mdsens.potentials.eam import EAM
from mdsens.potentials.embedded_atom import (
    EmbeddedAtomPotential,
    EmbeddingPotential,
    SuttonChen,
)
from mdsens.potentials.pair import LennardJones, Morse, PairPotential, TruncatedPairPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import Potential
from mdsens.potentials.repulsive import WCA, SoftSphere
from mdsens.potentials.stillinger_weber import StillingerWeber

#: What a study file calls each potential.
BY_NAME: dict[str, type[Potential]] = {
    "eam": EAM,
    "lennard-jones": LennardJones,
    "morse": Morse,
    "soft-sphere": SoftSphere,
    "stillinger-weber": StillingerWeber,
    "sutton-chen": SuttonChen,
    "wca": WCA,
}

__all__ = [
    "BY_NAME",
    "EAM",
    "WCA",
    "EmbeddedAtomPotential",
    "EmbeddingPotential",
    "LennardJones",
    "Morse",
    "PairPotential",
    "Parameter",
    "Potential",
    "SoftSphere",
    "StillingerWeber",
    "SuttonChen",
    "TruncatedPairPotential",
    "parameter",
]
