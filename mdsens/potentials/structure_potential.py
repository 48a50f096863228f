"""Energies of a structure as a whole, which are no sums over edges."""

import abc
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.particles.edges import Edges
from mdsens.potentials.potential import Potential


class StructurePotential(Potential):
    """An energy as any function of positions, cell and species.

    A subclass gives `structure_energy`; forces, stress, and all derivatives follow. No edges are
    found for it, and which atoms act on which is not known: its Hessian is dense, or only
    multiplied with vectors where that is large.
    """

    acts_along_edges: ClassVar[bool] = False
    of_structure: ClassVar[bool] = True

    @abc.abstractmethod
    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """The energy of the structure.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            The energy.
        """

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Nothing: no energy is along edges; shape (C,), energy."""
        return jnp.zeros(edges.mask.shape[1])

    @property
    def interaction_range(self) -> float | Float[Array, ""]:
        """A length that is natural for distances between atoms, one unit of length."""
        return 1.0
