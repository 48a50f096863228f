"""The measurements with mdsens."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mdsens
from benchmarks.systems import ARGON, FMAX, MAX_STEPS, SILICON, Case
from benchmarks.timing import compile_and_repeat, peak_memory, seconds_of
from mdsens import mechanics
from mdsens.particles.edges import EdgeList, find_edges


def potential_of(case: Case, truncation: str) -> Any:
    """The potential of a case; the truncation is that of Lennard-Jones."""
    if case.potential == "lj":
        return mdsens.potentials.LennardJones(**ARGON, truncation=truncation)
    return mdsens.potentials.StillingerWeber(**SILICON)


def system_of(case: Case, positions: np.ndarray) -> mdsens.System:
    """The system of a case with the given positions."""
    return mdsens.System(positions, np.eye(3) * case.box)


def edges_of(case: Case, system: mdsens.System) -> EdgeList:
    """The edges that a relaxation would use, skin included."""
    return find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc,
        case.interaction_range, case.skin,
    )  # fmt: skip


energy_and_forces = jax.jit(mechanics.energy_and_forces)


def evaluate(case: Case, options: dict) -> dict:
    """Time an evaluation of energy and forces, and one of a Hessian-vector product."""
    potential, system = potential_of(case, "shifted"), system_of(case, case.positions())
    edge_list = edges_of(case, system)
    count = case.atom_count

    def force() -> None:
        jax.block_until_ready(energy_and_forces(system, potential, edge_list))

    compile_s, force_s, repeats = compile_and_repeat(force, options["seconds"])
    energy, forces = energy_and_forces(system, potential, edge_list)
    result = {
        "setup": f"skin {case.skin:.2f} Å",
        "energy_per_atom": float(energy) / count,
        "largest_force": float(jnp.linalg.norm(forces, axis=1).max()),
        "force_us": 1e6 * force_s / count,
        "force_compile_s": compile_s,
        "force_repeats": repeats,
        "force_memory_mib": peak_memory(),
    }
    vector = jnp.asarray(np.random.default_rng(1).normal(size=(count, 3)))
    product = jax.jit(mechanics.hessian_vector_product)

    def hessian_product() -> None:
        jax.block_until_ready(product(system, potential, edge_list, vector))

    compile_s, product_s, repeats = compile_and_repeat(hessian_product, options["seconds"])
    return result | {
        "hvp_us": 1e6 * product_s / count,
        "hvp_compile_s": compile_s,
        "hvp_repeats": repeats,
        "hvp_memory_mib": peak_memory(),
    }


def relax(case: Case, options: dict) -> dict:
    """Relax twice: the first time compiles, the second is the measurement."""
    potential, system = potential_of(case, "force-shifted"), system_of(case, case.positions())

    def once() -> mdsens.Equilibrium:
        method = options["method"]
        relaxed = mdsens.relax(system, potential, method=method, fmax=FMAX, max_steps=MAX_STEPS)
        jax.block_until_ready(relaxed.positions)
        return relaxed

    first, _ = seconds_of(once)
    wall, relaxed = seconds_of(once)
    np.save(options["positions_file"], np.asarray(relaxed.positions))
    return {
        "setup": f"skin {case.skin:.2f} Å",
        "note": "steps: " + _merged(relaxed.history.methods),
        "evaluations": relaxed.history.evaluations,
        "wall_s": wall,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }


def _merged(methods: list[tuple[str, int]]) -> str:
    """Steps of each minimiser, all its runs together."""
    totals: dict[str, int] = {}
    for name, count in methods:
        totals[name] = totals.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in totals.items() if count)


def check(case: Case, options: dict) -> dict:
    """Energy per atom and largest force of structures that any program has relaxed.

    This is the common measure: one program, one potential, whoever found the structure.
    """
    potential, measured = potential_of(case, "force-shifted"), {}
    for label, path in options["files"].items():
        system = system_of(case, np.load(path))
        energy, forces = energy_and_forces(system, potential, edges_of(case, system))
        measured[label] = {
            "energy_per_atom": float(energy) / case.atom_count,
            "largest_force": float(jnp.linalg.norm(forces, axis=1).max()),
        }
    return {"measured": measured}
