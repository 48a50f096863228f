"""Pairs of atoms near enough to interact, and where each is beside the kinks of the energy."""

import numpy as np
from jaxtyping import Bool, Float

from mdsens.particles.system import System
from mdsens.potentials.potential import Potential


class Pairs:
    """Pairs of atoms near enough to interact, images included, each once; on the host.

    Two atoms that are both fixed make none.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        margin: how much farther away than the potential reaches pairs are looked for, as a part
            of its range.
        without: shape (N,), atoms whose pairs are left out, such as rattlers; None: none is.

    Attributes:
        first: shape (P,), index of each pair's first atom.
        second: shape (P,), index of its second atom.
        images: shape (P, D), lattice vectors between the second atom and its image in the pair.
        species: species index of the first and of the second atoms, shape (P,) each.
    """

    def __init__(
        self,
        system: System,
        potential: Potential,
        margin: float,
        without: Bool[np.ndarray, " N"] | None = None,
    ) -> None:
        reach = float(potential.interaction_range)
        positions, cell = np.asarray(system.positions), np.asarray(system.cell)
        edges = potential.edge_search(system, margin * reach).find(positions, cell)
        count = system.atom_count
        neighbors = np.asarray(edges.neighbors)
        blocks, _, sites = np.nonzero(np.asarray(edges.mask))
        first = blocks * neighbors.shape[2] + sites
        targets = neighbors[np.asarray(edges.mask)]
        home = np.zeros((count, system.dimension))
        owners = np.concatenate([np.arange(count), np.asarray(edges.ghost_owners)])
        images = np.concatenate([home, np.asarray(edges.ghost_images)])
        second = owners[targets]
        fixed = np.asarray(system.fixed)
        kept = (first <= second) & ~(fixed[first] & fixed[second])
        if without is not None:
            kept &= ~(without[first] | without[second])
        self.first, self.second = first[kept], second[kept]
        self.images = images[targets][kept]
        species = np.asarray(potential.species_index(system))
        self.species = species[self.first], species[self.second]

    def lengths(
        self, positions: Float[np.ndarray, "N D"], cell: Float[np.ndarray, "D D"]
    ) -> Float[np.ndarray, " P"]:
        """Distance of each pair, length.

        Arguments:
            positions: shape (N, D), in units of length.
            cell: shape (D, D), lattice vectors as rows.

        Returns:
            Shape (P,).
        """
        ends = positions[self.second] + self.images @ cell
        return np.linalg.norm(ends - positions[self.first], axis=1)

    def beyond(
        self,
        positions: Float[np.ndarray, "N D"],
        cell: Float[np.ndarray, "D D"],
        potential: Potential,
    ) -> Float[np.ndarray, "M P"]:
        """How far each pair is beyond each of M kinks of a potential, length.

        Arguments:
            positions: shape (N, D), in units of length.
            cell: shape (D, D), lattice vectors as rows.
            potential: the potential, perhaps with other parameters.

        Returns:
            Shape (M, P); negative where a pair is nearer than the kink.
        """
        kinks = np.asarray(potential.kink_distances)
        if kinks.ndim == 3:
            kinks = kinks[:, self.species[0], self.species[1]]
        else:
            kinks = np.broadcast_to(kinks[:, None], (len(kinks), len(self.first)))
        return self.lengths(positions, cell) - kinks
