"""Energies as functions of edges; one file per family."""

from mdsens.potentials.embedded_atom import EmbeddedAtomPotential, SuttonChen
from mdsens.potentials.from_file import from_file
from mdsens.potentials.pair import LennardJones, Morse, PairPotential, TruncatedPairPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import Potential
from mdsens.potentials.repulsive import WCA, SoftSphere
from mdsens.potentials.stillinger_weber import StillingerWeber
from mdsens.potentials.stillinger_weber_triplets import StillingerWeberTriplets
from mdsens.potentials.tersoff import BondOrderPotential, Tersoff, TersoffMod, TersoffZBL
from mdsens.potentials.three_body import ThreeBodyPotential

#: What a study file calls each potential.
BY_NAME: dict[str, type[Potential]] = {
    "lennard-jones": LennardJones,
    "morse": Morse,
    "soft-sphere": SoftSphere,
    "stillinger-weber": StillingerWeber,
    "stillinger-weber-triplets": StillingerWeberTriplets,
    "sutton-chen": SuttonChen,
    "tersoff": Tersoff,
    "tersoff-mod": TersoffMod,
    "tersoff-zbl": TersoffZBL,
    "wca": WCA,
}

__all__ = [
    "BY_NAME",
    "WCA",
    "BondOrderPotential",
    "EmbeddedAtomPotential",
    "LennardJones",
    "Morse",
    "PairPotential",
    "Parameter",
    "Potential",
    "SoftSphere",
    "StillingerWeber",
    "StillingerWeberTriplets",
    "SuttonChen",
    "Tersoff",
    "TersoffMod",
    "TersoffZBL",
    "ThreeBodyPotential",
    "TruncatedPairPotential",
    "from_file",
    "parameter",
]
