"""The cases that all mechanics are tested on: potentials of every kind on awkward structures."""

import dataclasses
import functools

import ase.build
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from thorough_runs import EVERY
from thorough_runs import thorough as thorough
from thorough_runs import with_others as with_others

from mdsens import System
from mdsens.mechanics import energy_forces_virial
from mdsens.particles import find_edges
from mdsens.potentials import WCA, LennardJones, Morse, SoftSphere, StillingerWeber, SuttonChen

AB = ("A", "B")
SILICON = {
    "a": 1.80, "lambda_": 21.0, "gamma": 1.20, "costheta0": -1 / 3,
    "A": 7.049556277, "B": 0.6022245584, "p": 4.0, "q": 0.0,
}  # fmt: skip

POTENTIALS = {
    "lj-plain": LennardJones(1.0, 1.0, 2.5, "none"),
    "lj-shifted": LennardJones(1.0, 1.0, 2.5, "shifted"),
    "lj-force-shifted": LennardJones(1.0, 1.0, 2.5, "force-shifted"),
    "lj-smooth": LennardJones(1.0, 1.0, 2.5),
    "lj-binary": LennardJones(
        {"A-A": 1.0, "A-B": 1.5, "B-B": 0.5}, {"A-A": 1.0, "A-B": 0.9, "B-B": 0.88}, 2.2, species=AB
    ),
    "morse": Morse(1.0, 4.0, 1.1, 2.0),
    "morse-binary": Morse([[1.0, 0.7], [0.7, 1.2]], [[4.0, 5.0], [5.0, 3.0]],
                          [[1.1, 1.0], [1.0, 1.2]], 2.0, "force-shifted", AB),
    "wca": WCA(1.0, 1.0),
    "wca-binary": WCA([[1.0, 0.7], [0.7, 1.2]], [[1.0, 1.1], [1.1, 1.2]], AB),
    "harmonic": SoftSphere(1.3),
    "hertzian-by-species": SoftSphere([1.2, 1.5], [[1.0, 2.0], [2.0, 0.5]], "hertzian", AB),
    "harmonic-table": SoftSphere([[1.2, 1.45], [1.45, 1.5]], 3.0, 2.0, AB),
    "sw": StillingerWeber(1.0, 1.0, **SILICON),
    "sw-binary": StillingerWeber(
        [[1.0, 1.2], [1.2, 0.8]], [[1.0, 1.05], [1.05, 1.1]], 1.7, [[21.0, 18.0], [18.0, 25.0]],
        1.2, -0.3, 7.05, [[0.6, 0.62], [0.62, 0.58]], 4.0, [[0.0, 0.5], [0.5, 0.3]], AB,
    ),
    "sutton-chen": SuttonChen(1.0, 1.5, 10.0, 9.0, 6.0, 2.2),
    "sutton-chen-binary": SuttonChen(
        [[1.0, 1.2], [1.2, 0.8]], [[1.5, 1.55], [1.55, 1.6]], [10.0, 12.0],
        [[9.0, 10.0], [10.0, 11.0]], [[6.0, 6.5], [6.5, 7.0]], 2.2, AB,
    ),
}  # fmt: skip

#: Cells and boundaries; the smallest is much smaller than the cutoffs.
CELLS = {
    "cluster": (np.eye(3) * 2.4, False, 7),
    "small": (np.diag([1.5, 1.6, 1.4]), True, 3),
    "triclinic": (np.array([[1.9, 0.0, 0.0], [0.6, 1.8, 0.1], [-0.5, 0.4, 1.7]]), True, 4),
    "slab": (np.array([[1.8, 0.1, 0.0], [0.3, 1.7, 0.2], [0.0, 0.5, 2.2]]), (True, True, False), 5),
    "wire": (
        np.array([[1.5, 0.2, 0.1], [0.0, 2.2, 0.0], [0.0, 0.0, 2.2]]),
        (True, False, False),
        5,
    ),
    "flat": (np.array([[2.2, 0.0], [0.7, 2.3]]), True, 5),
    "flat-cluster": (np.eye(2) * 3.0, False, 6),
}
OUTSIDE = ("triclinic", "slab", "flat")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A system and a potential, and all mechanics of many configurations at once."""

    name: str
    system: System
    potential: object

    def edges(self, system=None, skin=0.05):
        system = self.system if system is None else system
        return find_edges(
            np.asarray(system.positions), np.asarray(system.cell), system.pbc,
            float(self.potential.interaction_range), skin,
        )  # fmt: skip

    @functools.cached_property
    def _compiled(self):
        def one(system, edge_list, positions, cell):
            moved = system.with_positions(positions).with_cell(cell)
            return energy_forces_virial(moved, self.potential, edge_list)

        return jax.jit(jax.vmap(one, in_axes=(None, None, 0, 0)))

    def mechanics(self, positions=None, cells=None, system=None):
        """Energies, forces and virials of a batch, with the edges of the system as it is."""
        system = self.system if system is None else system
        whole = 2 * system.positions.size
        if positions is None:
            positions = np.asarray(system.positions)[None]
        if cells is None:
            cells = np.broadcast_to(system.cell, (len(positions), *system.cell.shape))
        # Always the same number of configurations: compiled once.
        count = len(positions)
        fill = np.resize(np.arange(count), whole if count <= whole else count)
        results = self._compiled(
            system, self.edges(system), jnp.asarray(positions)[fill], jnp.asarray(cells)[fill]
        )
        return tuple(np.asarray(result)[:count] for result in results)

    @property
    def energy(self):
        return self.mechanics()[0][0]

    @property
    def forces(self):
        return self.mechanics()[1][0]

    @property
    def virial(self):
        return self.mechanics()[2][0]


def kinks(potential):
    """Distances at which some derivative of the energy jumps."""
    reach = [float(potential.interaction_range)]
    if hasattr(potential, "cutoff"):
        onset = 0.9 * potential.cutoff if potential.onset is None else potential.onset
        smooth = getattr(potential, "truncation", "smooth") == "smooth"
        return [*reach, onset] if smooth else reach
    if isinstance(potential, SoftSphere):
        d = np.asarray(potential.diameter)
        return np.unique((d[:, None] + d) / 2 if d.ndim == 1 else d)
    if isinstance(potential, WCA):
        return np.unique(2 ** (1 / 6) * np.asarray(potential.sigma))
    return reach


def random_positions(generator, cell, pbc, count, nearest):
    """Random points no two of which (images included) are nearer than asked."""
    for _ in range(10000):
        points = np.zeros((0, len(cell)))
        for _ in range(200):
            trial = np.concatenate([points, generator.random((1, len(cell))) @ cell])
            if not len(numerical.images(trial, cell, pbc, nearest)[0]):
                points = trial
            if len(points) == count:
                return points
    raise AssertionError("the cell is too small")


def structure(cell_name, potential, nearest=0.85):
    """A distorted structure none of whose pairs is at a kink of the potential."""
    cell, pbc, count = CELLS[cell_name]
    boundaries = (pbc,) * len(cell) if isinstance(pbc, bool) else pbc
    names = potential.species or ("A",)
    generator = np.random.default_rng(sum(map(ord, cell_name)))
    while True:
        positions = random_positions(generator, cell, boundaries, count, nearest)
        if cell_name in OUTSIDE:
            away = generator.integers(-2, 3, size=positions.shape) * np.array(boundaries)
            positions = positions + away @ cell
        reach = max(kinks(potential)) + 0.01
        vectors = numerical.images(positions, cell, boundaries, reach)[3]
        lengths = np.linalg.norm(vectors, axis=1)
        nearest_kink = min(np.abs(lengths - kink).min() for kink in kinks(potential))
        if nearest_kink > 2e-3:
            return System(
                positions, cell, names, np.arange(count) % len(names), boundaries, units="reduced"
            )


@functools.cache
def case(potential_name, cell_name):
    potential = POTENTIALS[potential_name]
    return Case(f"{potential_name}-{cell_name}", structure(cell_name, potential), potential)


#: What is the same code for all pairs, or for all triplets, is tried on one of each: on pairs in
#: every geometry, on triplets in a cluster, a triclinic and a flat cell. Of other potentials some
#: are; all are by the checks of `mdsens.testing`, in a triclinic cell. Where MDSENS_EVERY_GEOMETRY
#: is set, triplets are tried everywhere, and all in clusters and triclinic cells.
PAIRS = [
    *(("lj-smooth", cell) for cell in CELLS),
    *(("sw", cell) for cell in ("cluster", "triclinic", "flat")),
    *((name, "cluster") for name in ("lj-force-shifted", "sutton-chen")),
    *((name, "triclinic") for name in ("lj-binary", "sw-binary", "sutton-chen-binary")),
    ("harmonic", "flat"),
]  # fmt: skip
if EVERY:
    both = [(name, cell) for name in POTENTIALS for cell in ("cluster", "triclinic")]
    triplets = [("sw", cell) for cell in ("small", "slab", "wire")]
    PAIRS = list(dict.fromkeys([*PAIRS, *triplets, *both]))


def every(pairs=PAIRS):
    """Parametrise over cases; those of one case share what was compiled."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(pair, id="-".join(pair), marks=pytest.mark.xdist_group("-".join(pair)))
            for pair in pairs
        ],
        indirect=True,
    )


# Structures with a minimum that is easy to name.


def dimer(distance=1.2, dimension=3):
    return System(np.eye(2, dimension) * distance / np.sqrt(2), units="reduced")


def bipyramid(symbols=AB, species=(0, 0, 1, 1, 1)):
    """A trigonal bipyramid, a little distorted: the best cluster of five Lennard-Jones atoms."""
    angles = 2 * np.pi / 3 * np.arange(3)
    ring = 0.64 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    positions = np.concatenate([[[0, 0, 0.9], [0, 0, -0.9]], ring])
    positions += np.random.default_rng(8).normal(scale=0.03, size=positions.shape)
    return System(positions, None, symbols, species, units="reduced")


def vacancy_crystal(lattice=1.55, repeats=(2, 2, 1), rattle=0.03):
    """A small rattled fcc crystal without one of its atoms."""
    atoms = ase.build.bulk("Ar", "fcc", lattice, cubic=True) * repeats
    del atoms[0]
    atoms.rattle(rattle, seed=9)
    return System.from_ase(atoms, units="reduced")


def jammed_packing(spacing=0.95, rows=4):
    """Compressed discs on a triangular lattice, one of them replaced by a small, loose one."""
    lattice = spacing * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    positions = np.array([[i, j] for i in range(rows) for j in range(rows)]) @ lattice
    positions += np.random.default_rng(10).normal(scale=0.01, size=positions.shape)
    species = np.zeros(rows**2, int)
    species[5] = 1
    return System(
        positions, rows * lattice, ("large", "small"), species, units="reduced"
    ), SoftSphere([1.0, 0.4], 1.0, species=("large", "small"))


def bond_lengths(equilibrium):
    """All distances between the atoms of a cluster: free of translations and rotations."""
    positions = equilibrium.positions
    first, second = np.triu_indices(len(positions), 1)
    return jnp.linalg.norm(positions[first] - positions[second], axis=1)
