"""The average of a crystal's Hessian over its lattice, from the surroundings of some atoms."""

import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.linalg.lattice_preconditioner import SAMPLED, LatticePreconditioner
from mdsens.mechanics.closed_form_hessian import rows_of_some
from mdsens.mechanics.edge_ends import EdgeEnds
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.reference_lattice import SAMPLED as LOOKED_AT
from mdsens.mechanics.reference_lattice import lattice_sites_of_sample
from mdsens.mechanics.sparse_hessian import site_hessians_of_some
from mdsens.particles.edges import Sites

#: Atoms whose site energies are averaged, of potentials that are no sums over pairs.
SITES = 500
#: Part of the sites that have an atom, below which surfaces take more steps than they are worth.
FILLED = 0.9
#: Atoms below which the whole Hessian takes no longer than another program takes to compile.
FEWEST_ATOMS = 4000


def suits_lattice_model(landscape: Landscape) -> bool:
    """Whether there may be an average over a lattice: of many atoms in a cell that is fixed.

    Where atoms are fixed, or a field acts, the whole moves against them, of which the average
    knows nothing. What embeds atoms in densities couples more than its sparse part tells, and
    particles that only push form no crystal whose average would be stable.
    """
    potential = landscape.potential
    return (
        landscape.system.atom_count >= FEWEST_ATOMS
        and landscape.cell_mode is None
        and landscape.motion is None
        and potential.acts_along_edges
        and potential.invariant
        and not np.asarray(landscape.system.fixed).any()
        and not (potential.of_structure or potential.made_by_calls)
        and not (potential.embedded or potential.contact)
    )


def lattice_model(landscape: Landscape, q: Float[Array, "R D"]) -> LatticePreconditioner | None:
    """The inverse of the average of the Hessian at q over a crystal's lattice.

    No Hessian is assembled: the surroundings of some hundred atoms tell the average, in a time that
    hardly grows with the system.

    Arguments:
        landscape: the function, of a kind that `suits_lattice_model`.
        q: degrees of freedom, shape (R, D).

    Returns:
        The preconditioner; None where atoms are on no lattice, or leave much of it empty, as a slab
        does, or the average is not positive.
    """
    system, potential = landscape.system_at(q), landscape.potential
    positions, cell = np.asarray(system.positions), np.asarray(system.cell)
    sample = _Sample(landscape, positions, cell)
    order = np.random.default_rng(0).permutation(len(positions))
    owners, others = sample.neighbors(order[:LOOKED_AT])
    species = np.asarray(system.species)
    sites = lattice_sites_of_sample(
        positions, cell, system.pbc, species, order[:LOOKED_AT], owners, others
    )
    if sites is None or len(positions) < FILLED * np.prod(sites.shape) * sites.basis:
        return None
    chosen = order[sites.kinds[order] >= 0][: SAMPLED if potential.pairwise else SITES]
    ends = sample.ends(chosen)
    geometry = sample.geometry(chosen, np.asarray(potential.species_index(system)))
    try:
        if potential.pairwise:
            blocks, columns, kept = rows_of_some(potential, geometry, ends)
            row = np.broadcast_to(chosen[:, None], columns.shape)
            column = _own_first(columns, chosen)
            return LatticePreconditioner.of_rows(sites, row[kept], column[kept], blocks[kept])
        reach = float(potential.interaction_range)
        width = max(1, int((sample.lengths(chosen) < reach).sum(axis=0).max()))
        parts, members = site_hessians_of_some(potential, geometry, ends, width)
        return LatticePreconditioner.of_parts(sites, parts, _own_first(members, chosen))
    except ValueError:
        return None


def _own_first(members: Int[np.ndarray, "C W"], chosen: Int[np.ndarray, " C"]) -> np.ndarray:
    """Members of which the first is the atom itself."""
    return np.concatenate([chosen[:, None].astype(members.dtype), members[:, 1:]], axis=1)


class _Sample:
    """Edges of some atoms of a landscape.

    Arguments:
        landscape: the landscape.
        positions: shape (N, D), length.
        cell: shape (D, D), lattice vectors as rows.
    """

    def __init__(self, landscape: Landscape, positions: np.ndarray, cell: np.ndarray) -> None:
        edge_list = landscape.edge_list
        self._edges, self._count = np.asarray(edge_list.neighbors), len(positions)
        self._owners = np.asarray(edge_list.ghost_owners)
        images = np.asarray(edge_list.ghost_images) @ cell
        far = 1e6 * float(edge_list.reach) + np.abs(positions).max()
        self._extended = np.concatenate(
            [positions, positions[self._owners] + images, np.full((1, positions.shape[1]), far)]
        )
        self._owner_of = np.concatenate(
            [np.arange(self._count, dtype=np.int32), self._owners, [np.int32(self._count)]]
        ).astype(np.int32)  # fmt: skip

    def ends(self, atoms: Int[np.ndarray, " C"]) -> Int[np.ndarray, "K C"]:
        """Where the edges of these atoms lead to."""
        block, place = np.divmod(atoms, self._edges.shape[2])
        return np.ascontiguousarray(self._edges[block, :, place].T)

    def neighbors(self, atoms: Int[np.ndarray, " C"]) -> tuple[np.ndarray, np.ndarray]:
        """Which of these atoms each edge begins at, and the atom that it leads to."""
        owners = self._owner_of[self.ends(atoms).T]
        there = owners < self._count
        return np.nonzero(there)[0], owners[there]

    def lengths(self, atoms: Int[np.ndarray, " C"]) -> Float[np.ndarray, "K C"]:
        """Lengths of the edges of these atoms."""
        vectors = self._extended[self.ends(atoms)] - self._extended[atoms]
        lengths: np.ndarray = np.linalg.norm(vectors, axis=2)
        return lengths

    def geometry(self, atoms: Int[np.ndarray, " C"], species: Int[np.ndarray, " N"]) -> EdgeEnds:
        """The ends of all edges, and these atoms as the only block of those that they begin at."""
        kinds = np.concatenate([species, species[self._owners], np.zeros(1, species.dtype)])
        return EdgeEnds(
            Sites(on_device(np.ascontiguousarray(self._extended.T)), on_device(kinds)),
            Sites(
                on_device(np.ascontiguousarray(self._extended[atoms].T)[None]),
                on_device(species[atoms][None]),
            ),
            on_device(self._owner_of),
            on_device(np.ones(len(self._extended), bool)),
        )
