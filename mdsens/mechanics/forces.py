"""Forces on the atoms."""

from jaxtyping import Array, Float

from mdsens.mechanics.energy import energy_and_forces
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential


def forces(system: System, potential: Potential, edge_list: EdgeList) -> Float[Array, "N D"]:
    """Force on each atom, -dE/dx; that on a fixed atom too.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.

    Returns:
        Shape (N, D), in units of energy/length.
    """
    return energy_and_forces(system, potential, edge_list)[1]
