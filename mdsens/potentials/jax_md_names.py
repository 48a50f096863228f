"""What jax-md's energies are called, which parameters they take, and what these measure."""

from typing import NamedTuple

from mdsens.errors import InputError
from mdsens.values import nearest, shown


class Known(NamedTuple):
    """An energy of jax-md's.

    Attributes:
        kind: ``"pairs"`` of a function of distances; ``"sites"`` of a sum over atoms of what each
            sees of its neighbours; ``"structure"`` of what has to know of all atoms.
        parameters: their physical dimensions by name; None: those of a network, of no known one.
        defaults: values of those that jax-md has some for.
        settings: what is no parameter, with defaults; None: it has to be given.
    """

    kind: str
    parameters: dict[str, str] | None
    defaults: dict[str, float]
    settings: dict[str, object]


_NETWORK = {"seed": 0, "mlp_sizes": (30, 30)}
#: All that are offered.
KNOWN = {
    "lennard_jones": Known(
        "pairs",
        {"sigma": "length", "epsilon": "energy"},
        {"sigma": 1.0, "epsilon": 1.0},
        {"r_onset": 2.0, "r_cutoff": 2.5},
    ),
    "morse": Known(
        "pairs",
        {"sigma": "length", "epsilon": "energy", "alpha": "1/length"},
        {"sigma": 1.0, "epsilon": 5.0, "alpha": 5.0},
        {"r_onset": 2.0, "r_cutoff": 2.5},
    ),
    "soft_sphere": Known(
        "pairs",
        {"sigma": "length", "epsilon": "energy", "alpha": "1"},
        {"sigma": 1.0, "epsilon": 1.0, "alpha": 2.0},
        {},
    ),
    "bks": Known(
        "pairs",
        {
            "Q_sq": "unknown",
            "exp_coeff": "energy",
            "exp_decay": "length",
            "attractive_coeff": "energy*length^6",
            "repulsive_coeff": "unknown",
            "coulomb_alpha": "1/length",
        },
        {},
        {"cutoff": None},
    ),
    "stillinger_weber": Known(
        "sites",
        {
            "sigma": "length",
            "A": "1",
            "B": "1",
            "lam": "1",
            "gamma": "1",
            "epsilon": "energy",
            "three_body_strength": "1",
            "cutoff": "length",
        },
        {
            "sigma": 2.0951,
            "A": 7.049556277,
            "B": 0.6022245584,
            "lam": 21.0,
            "gamma": 1.2,
            "epsilon": 2.16826,
            "three_body_strength": 1.0,
            "cutoff": 3.77118,
        },
        {},
    ),
    "eam": Known("sites", None, {}, {"cutoff": None}),
    "behler_parrinello": Known("sites", None, {}, {**_NETWORK, "sym_kwargs": ()}),
    "gupta": Known(
        "structure",
        {"p": "1", "q": "1", "r_0n": "length", "U_n": "energy", "A": "1"},
        {"p": 10.15, "q": 4.13, "r_0n": 2.96, "U_n": 3.454, "A": 0.118428},
        {"cutoff": 8.0},
    ),
    "graph_network": Known(
        "structure",
        None,
        {},
        {"r_cutoff": None, "seed": 0, "mlp_sizes": (64, 64), "n_recurrences": 2},
    ),
}
#: The functions of distances that an embedded atom is made of.
EMBEDDED = ("charge_fn", "embedding_fn", "pairwise_fn")
#: Other names of the same, and what to do without those that are not offered.
ALSO = {
    "sw": "stillinger_weber",
    "gupta_potential": "gupta",
    "gupta_gold55": "gupta",
    "bks_silica": "bks",
}
INSTEAD = {
    "simple_spring": "use mdsens.potentials.Bonds",
    "simple_spring_bond": "use mdsens.potentials.Bonds",
    "dsf_coulomb": "use mdsens.potentials.DampedShiftedCoulomb",
    "eam_from_lammps_parameters": "use mdsens.potentials.EAM.from_file",
    "tersoff_from_lammps_parameters": "use mdsens.potentials.Tersoff.from_file",
    "tersoff": "jax-md's has no derivatives in its parameters where an atom has one bond; use "
    "mdsens.potentials.Tersoff, the same energy",
    "edip": "jax-md's takes the coordination in its angles from one neighbour times their number, "
    "and jumps as one crosses the cutoff; use another potential",
}
_CHARGES = "it is made for one box and charges of atoms; use "
_CHARGES += "mdsens.potentials.DampedShiftedCoulomb, with charges of species"
_MODEL = "its weights are read from files of its own; use mdsens.potentials.Calculator with the "
_MODEL += "model's own calculator of ASE"
_SURFACE = "it is of triangles, and no sum over neighbours; give JaxMD a function of your own that "
_SURFACE += "takes a displacement function and parameters, and calls it"
INSTEAD |= dict.fromkeys(
    ("coulomb", "coulomb_direct", "coulomb_ewald", "coulomb_recip_ewald", "coulomb_recip_pme"),
    _CHARGES,
)
INSTEAD |= dict.fromkeys(("load_gnome_model", "mace", "nequip", "uma"), _MODEL)
INSTEAD |= dict.fromkeys(
    ("bending_potential", "triangle_area_potential", "volume_potential"), _SURFACE
)


def known_as(name: str) -> str:
    """The name under which an energy of jax-md's is known here.

    Arguments:
        name: e.g. ``"lennard_jones"`` or ``"lennard_jones_neighbor_list"``.

    Returns:
        A key of KNOWN.

    Raises:
        InputError: it is not offered; the nearest is named.
    """
    plain = str(name).removesuffix("_neighbor_list").removesuffix("_pair")
    if plain in INSTEAD:
        raise InputError(f"JaxMD: {shown(name)} is not offered: {INSTEAD[plain]}")
    plain = ALSO.get(plain, plain)
    if plain not in KNOWN:
        raise InputError(
            f"JaxMD: there is no energy {shown(name)}: allowed are {', '.join(KNOWN)}, or a "
            f"function that takes a displacement function and parameters{nearest(plain, KNOWN)}"
        )
    return plain
