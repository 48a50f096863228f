"""Energies as functions of edges; one file per family."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

# Double precision is there before any of them.
import mdsens.particles.precision  # noqa: F401
from mdsens.lazy_names import names_on_first_use

if TYPE_CHECKING:
    from mdsens.potentials.ace import ACE
    from mdsens.potentials.adp import ADP
    from mdsens.potentials.any_file import from_file
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

# Public name -> module that defines it. Imported on first use: a study has one or two of them.
_HOMES = {
    "ACE": "ace",
    "ADP": "adp",
    "Angles": "bonded_terms",
    "BondOrderPotential": "tersoff",
    "BondedPotential": "bonded",
    "Bonds": "bonded_terms",
    "Buckingham": "pair_laws",
    "Calculator": "calculator",
    "DampedShiftedCoulomb": "pair_laws",
    "Dihedrals": "bonded_terms",
    "EAM": "eam",
    "EDIP": "edip",
    "EmbeddedAtomPotential": "embedded_atom",
    "EmbeddingPotential": "embedded_atom",
    "Energy": "energy_function",
    "FinnisSinclair": "second_moment",
    "GaussianCore": "soft_pairs",
    "Gupta": "second_moment",
    "InversePower": "pair_laws",
    "JaxMD": "jax_md",
    "LennardJones": "pair",
    "Mie": "pair_laws",
    "Morse": "pair",
    "PairPotential": "pair",
    "Parameter": "parameters",
    "Potential": "potential",
    "PotentialSum": "combined",
    "SNAP": "snap",
    "ScaledPotential": "combined",
    "SoftSphere": "repulsive",
    "Spring": "soft_pairs",
    "StillingerWeber": "stillinger_weber",
    "StillingerWeberTriplets": "stillinger_weber_triplets",
    "StructurePotential": "structure_potential",
    "SuttonChen": "embedded_atom",
    "Tersoff": "tersoff",
    "TersoffMod": "tersoff",
    "TersoffZBL": "tersoff",
    "ThreeBodyPotential": "three_body",
    "Trap": "bonded_terms",
    "TruncatedPairPotential": "pair",
    "UniformForce": "bonded_terms",
    "Vashishta": "vashishta",
    "WCA": "repulsive",
    "Wall": "bonded_terms",
    "Yukawa": "pair_laws",
    "ZBL": "pair_laws",
    "ZhouEAM": "zhou",
    "emt": "known_calculators",
    "from_file": "any_file",
    "parameter": "parameters",
    "smooth_switch": "pair",
}

#: What a study file calls the classes that it can name.
_CLASSES = {
    "adp": "ADP",
    "angles": "Angles",
    "bonds": "Bonds",
    "ace": "ACE",
    "buckingham": "Buckingham",
    "damped-shifted-coulomb": "DampedShiftedCoulomb",
    "dihedrals": "Dihedrals",
    "inverse-power": "InversePower",
    "eam": "EAM",
    "edip": "EDIP",
    "finnis-sinclair": "FinnisSinclair",
    "gaussian-core": "GaussianCore",
    "gupta": "Gupta",
    "lennard-jones": "LennardJones",
    "mie": "Mie",
    "morse": "Morse",
    "snap": "SNAP",
    "soft-sphere": "SoftSphere",
    "spring": "Spring",
    "stillinger-weber": "StillingerWeber",
    "stillinger-weber-triplets": "StillingerWeberTriplets",
    "sutton-chen": "SuttonChen",
    "tersoff": "Tersoff",
    "tersoff-mod": "TersoffMod",
    "tersoff-zbl": "TersoffZBL",
    "vashishta": "Vashishta",
    "trap": "Trap",
    "uniform-force": "UniformForce",
    "wall": "Wall",
    "wca": "WCA",
    "yukawa": "Yukawa",
    "zbl": "ZBL",
    "zhou-eam": "ZhouEAM",
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


__getattr__ = names_on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _ByName(Mapping[str, "type[Potential]"]):
    """Classes of potentials, each imported when it is looked up."""

    def __getitem__(self, name: str) -> "type[Potential]":
        found: type[Potential] = __getattr__(_CLASSES[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


#: What a study file calls each potential.
BY_NAME: Mapping[str, "type[Potential]"] = _ByName()
