"""Energies as functions of edges; one file per family."""

from mdsens.potentials.ace import ACE
from mdsens.potentials.adp import ADP
from mdsens.potentials.bonded import BondedPotential
from mdsens.potentials.bonded_terms import Angles, Bonds, Dihedrals, Trap, UniformForce, Wall
from mdsens.potentials.calculator import Calculator
from mdsens.potentials.combined import PotentialSum, ScaledPotential
from mdsens.potentials.eam import EAM
from mdsens.potentials.edip import EDIP
from mdsens.potentials.embedded_atom import (
    EmbeddedAtomPotential,
    EmbeddingPotential,
    SuttonChen,
)
from mdsens.potentials.energy_function import Energy
from mdsens.potentials.from_file import from_file
from mdsens.potentials.jax_md import JaxMD
from mdsens.potentials.known_calculators import emt
from mdsens.potentials.pair import (
    LennardJones,
    Morse,
    PairPotential,
    TruncatedPairPotential,
    smooth_switch,
)
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
from mdsens.potentials.second_moment import FinnisSinclair, Gupta
from mdsens.potentials.snap import SNAP
from mdsens.potentials.soft_pairs import GaussianCore, Spring
from mdsens.potentials.stillinger_weber import StillingerWeber
from mdsens.potentials.stillinger_weber_triplets import StillingerWeberTriplets
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.potentials.tersoff import BondOrderPotential, Tersoff, TersoffMod, TersoffZBL
from mdsens.potentials.three_body import ThreeBodyPotential
from mdsens.potentials.vashishta import Vashishta
from mdsens.potentials.zhou import ZhouEAM

#: What a study file calls each potential.
BY_NAME: dict[str, type[Potential]] = {
    "adp": ADP,
    "angles": Angles,
    "bonds": Bonds,
    "ace": ACE,
    "buckingham": Buckingham,
    "damped-shifted-coulomb": DampedShiftedCoulomb,
    "dihedrals": Dihedrals,
    "inverse-power": InversePower,
    "eam": EAM,
    "edip": EDIP,
    "finnis-sinclair": FinnisSinclair,
    "gaussian-core": GaussianCore,
    "gupta": Gupta,
    "lennard-jones": LennardJones,
    "mie": Mie,
    "morse": Morse,
    "snap": SNAP,
    "soft-sphere": SoftSphere,
    "spring": Spring,
    "stillinger-weber": StillingerWeber,
    "stillinger-weber-triplets": StillingerWeberTriplets,
    "sutton-chen": SuttonChen,
    "tersoff": Tersoff,
    "tersoff-mod": TersoffMod,
    "tersoff-zbl": TersoffZBL,
    "vashishta": Vashishta,
    "trap": Trap,
    "uniform-force": UniformForce,
    "wall": Wall,
    "wca": WCA,
    "yukawa": Yukawa,
    "zbl": ZBL,
    "zhou-eam": ZhouEAM,
}

__all__ = [
    "ACE",
    "ADP",
    "BY_NAME",
    "EAM",
    "EDIP",
    "SNAP",
    "WCA",
    "ZBL",
    "Angles",
    "BondOrderPotential",
    "BondedPotential",
    "Bonds",
    "Buckingham",
    "Calculator",
    "DampedShiftedCoulomb",
    "Dihedrals",
    "EmbeddedAtomPotential",
    "EmbeddingPotential",
    "Energy",
    "FinnisSinclair",
    "GaussianCore",
    "Gupta",
    "InversePower",
    "JaxMD",
    "LennardJones",
    "Mie",
    "Morse",
    "PairPotential",
    "Parameter",
    "Potential",
    "PotentialSum",
    "ScaledPotential",
    "SoftSphere",
    "Spring",
    "StillingerWeber",
    "StillingerWeberTriplets",
    "StructurePotential",
    "SuttonChen",
    "Tersoff",
    "TersoffMod",
    "TersoffZBL",
    "ThreeBodyPotential",
    "Trap",
    "TruncatedPairPotential",
    "UniformForce",
    "Vashishta",
    "Wall",
    "Yukawa",
    "ZhouEAM",
    "emt",
    "from_file",
    "parameter",
    "smooth_switch",
]
