"""Energies as functions of edges; one file per family."""

from mdsens.potentials.calculator import Calculator
from mdsens.potentials.combined import PotentialSum, ScaledPotential
from mdsens.potentials.eam import EAM
from mdsens.potentials.embedded_atom import (
    EmbeddedAtomPotential,
    EmbeddingPotential,
    SuttonChen,
)
from mdsens.potentials.from_file import from_file
from mdsens.potentials.known_calculators import emt
from mdsens.potentials.pair import LennardJones, Morse, PairPotential, TruncatedPairPotential
from mdsens.potentials.pair_laws import (
    ZBL,
    Buckingham,
    DampedShiftedCoulomb,
    InversePower,
    Mie,
    Yukawa,
)
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import Potential
from mdsens.potentials.repulsive import WCA, SoftSphere
from mdsens.potentials.stillinger_weber import StillingerWeber
from mdsens.potentials.stillinger_weber_triplets import StillingerWeberTriplets
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.potentials.tersoff import BondOrderPotential, Tersoff, TersoffMod, TersoffZBL
from mdsens.potentials.three_body import ThreeBodyPotential

#: What a study file calls each potential.
BY_NAME: dict[str, type[Potential]] = {
    "buckingham": Buckingham,
    "damped-shifted-coulomb": DampedShiftedCoulomb,
    "inverse-power": InversePower,
    "eam": EAM,
    "lennard-jones": LennardJones,
    "mie": Mie,
    "morse": Morse,
    "soft-sphere": SoftSphere,
    "stillinger-weber": StillingerWeber,
    "stillinger-weber-triplets": StillingerWeberTriplets,
    "sutton-chen": SuttonChen,
    "tersoff": Tersoff,
    "tersoff-mod": TersoffMod,
    "tersoff-zbl": TersoffZBL,
    "wca": WCA,
    "yukawa": Yukawa,
    "zbl": ZBL,
}

__all__ = [
    "BY_NAME",
    "EAM",
    "WCA",
    "ZBL",
    "BondOrderPotential",
    "Buckingham",
    "Calculator",
    "DampedShiftedCoulomb",
    "EmbeddedAtomPotential",
    "EmbeddingPotential",
    "InversePower",
    "LennardJones",
    "Mie",
    "Morse",
    "PairPotential",
    "Parameter",
    "Potential",
    "PotentialSum",
    "ScaledPotential",
    "SoftSphere",
    "StillingerWeber",
    "StillingerWeberTriplets",
    "StructurePotential",
    "SuttonChen",
    "Tersoff",
    "TersoffMod",
    "TersoffZBL",
    "ThreeBodyPotential",
    "TruncatedPairPotential",
    "Yukawa",
    "emt",
    "from_file",
    "parameter",
]
