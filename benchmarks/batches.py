"""Many small cells: relaxed together by mdsens, and one by one with BFGS of ASE.

Both have the same potential: ASE's calculator is that of mdsens.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.optimize import BFGS

import mdsens
from benchmarks.systems import FMAX, RATTLE, Case
from benchmarks.timing import peak_memory, seconds_of
from benchmarks.with_mdsens import potential_of
from mdsens.particles import find_edges

#: Skin of the calculator's edges, Angstrom: they are renewed once or not at all.
SKIN = 1.0
#: Steps that BFGS may take for each cell.
MAX_STEPS = 2000


def cells(case: Case, count: int) -> list[Atoms]:
    """Rattled cells of 64 atoms, 2 x 2 x 4 cubic cells of fcc each."""
    perfect = bulk("Ar", "fcc", a=case.crystal.lattice_constant, cubic=True) * (2, 2, 4)
    found = []
    for seed in range(count):
        atoms = perfect.copy()
        atoms.positions += np.random.default_rng(seed).normal(scale=RATTLE, size=(len(atoms), 3))
        found.append(atoms)
    return found


def together(case: Case, options: dict) -> dict:
    """All cells in one batch."""
    if not hasattr(mdsens, "relax_batch"):
        return {"status": "not available"}
    potential = potential_of(case, "smooth")
    systems = [mdsens.System.from_ase(atoms) for atoms in cells(case, options["count"])]

    def once() -> Any:
        found = mdsens.relax_batch(systems, potential, fmax=FMAX)
        return [np.asarray(equilibrium.positions) for equilibrium in found]

    first, _ = seconds_of(once)
    wall, positions = seconds_of(once)
    return {
        **_measured(case, positions),
        "wall_s": wall,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }


def one_by_one(case: Case, options: dict) -> dict:
    """Some of the cells with BFGS of ASE; the time is scaled up to all."""
    # One for all cells, so that nothing is compiled anew.
    calculator = mdsens.Calculator(potential_of(case, "smooth"), skin=SKIN)

    def relaxed(atoms: Atoms) -> np.ndarray:
        atoms.calc = calculator
        BFGS(atoms, logfile=None).run(fmax=FMAX, steps=MAX_STEPS)
        return atoms.positions

    def all_of_them() -> list[np.ndarray]:
        return [relaxed(atoms) for atoms in cells(case, options["some"])]

    first, _ = seconds_of(all_of_them)
    wall, positions = seconds_of(all_of_them)
    scale = options["count"] / options["some"]
    return {
        **_measured(case, positions),
        "note": f"{options['some']} cells, time scaled to {options['count']}",
        "wall_s": scale * wall,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }


def _measured(case: Case, found: list[np.ndarray]) -> dict:
    """Largest force of all cells, and the energies of the first ones, by one measure."""
    potential = potential_of(case, "smooth")
    evaluate: Callable = jax.jit(mdsens.mechanics.energy_and_forces)
    energies, forces, capacity = [], [], (1, 0)
    for atoms, positions in zip(cells(case, len(found)), found, strict=True):
        cell = np.asarray(atoms.cell)
        reach = float(potential.interaction_range)
        edges = find_edges(positions, cell, (True,) * 3, reach, 0.0, capacity)
        capacity = edges.capacity
        energy, force = evaluate(mdsens.System(positions, cell), potential, edges)
        energies.append(float(energy) / len(positions))
        forces.append(float(np.linalg.norm(np.asarray(force), axis=1).max()))
    return {
        "largest_force": max(forces),
        "energy_per_atom": float(np.mean(energies)),
        "energies": energies,
    }
