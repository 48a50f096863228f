"""The measurements with mdsens."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mdsens
from benchmarks.systems import (
    ARGON,
    DISC_EPSILON,
    DISC_RATTLE,
    DISCS,
    FMAX,
    MAX_STEPS,
    SILICON,
    Case,
)
from benchmarks.timing import (
    compilations,
    compile_and_repeat,
    compiled_row,
    peak_memory,
    seconds_of,
)
from mdsens import mechanics
from mdsens.compilation import compiled, hurried_while
from mdsens.linalg import quadratic_model, sparse_solver
from mdsens.particles import EdgeList
from mdsens.potentials import PotentialSum
from mdsens.potentials.pair_laws import COULOMB


def potential_of(case: Case, truncation: str) -> Any:
    """The potential of a case; the truncation is that of Lennard-Jones."""
    if case.potential == "lj":
        return mdsens.potentials.LennardJones(**ARGON, truncation=truncation)
    if case.potential == "discs":
        return mdsens.potentials.SoftSphere(DISCS, DISC_EPSILON, species=tuple(DISCS))
    if case.potential == "sw":
        return mdsens.potentials.StillingerWeber(**SILICON)
    if case.potential == "emt":
        return mdsens.potentials.emt(list(case.crystal.elements))
    found = mdsens.potentials.from_file(case.crystal.file, elements=list(case.crystal.elements))
    if isinstance(found, PotentialSum):
        # LAMMPS has fewer digits of the elementary charge.
        snap, repulsion = found.parts
        return snap + CHARGE_OF_LAMMPS / COULOMB * repulsion
    return found


def system_of(case: Case, positions: np.ndarray) -> mdsens.System:
    """The system of a case with the given positions."""
    cell = np.diag(case.lengths)
    if case.potential == "discs":
        return mdsens.System(positions, cell, tuple(DISCS), case.species(), units="reduced")
    if case.crystal.file or case.potential == "emt":
        return mdsens.System(positions, cell, case.crystal.elements, case.species())
    return mdsens.System(positions, cell)


def edges_of(system: mdsens.System, potential: Any) -> EdgeList:
    """The edges that a relaxation would use, skin included."""
    search = potential.edge_search(system)
    return search.find(np.asarray(system.positions), np.asarray(system.cell))


#: The square of the elementary charge that LAMMPS has in units metal, eV Angstrom.
CHARGE_OF_LAMMPS = 14.399645
#: Seconds below which one measurement of a relaxation is not enough.
SHORT = 1.0

#: As relaxations compile it.
energy_and_forces = compiled(heavy=True)(mechanics.energy_and_forces)


@contextlib.contextmanager
def counted_iterations() -> Iterator[list[int]]:
    """The iterations of every solve by conjugate gradients, of one column or of a block of them."""
    counts: list[int] = []
    names = (
        "conjugate_gradients",
        "conjugate_gradients_side_by_side",
        "block_conjugate_gradients",
    )
    modules = (sparse_solver, quadratic_model)
    inner = {name: getattr(sparse_solver, name) for name in names}

    def counting(function: Callable) -> Callable:
        def counted(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            steps = result[2] if isinstance(result, tuple) else result.steps
            counts.extend(np.atleast_1d(steps).astype(int).tolist())
            return result

        return counted

    used = [(module, name) for module in modules for name in names if hasattr(module, name)]
    for module, name in used:
        setattr(module, name, counting(inner[name]))
    try:
        yield counts
    finally:
        for module, name in used:
            setattr(module, name, inner[name])


def evaluate(case: Case, options: dict) -> dict:
    """Time an evaluation of energy and forces, and one of a Hessian-vector product if asked to."""
    potential, system = potential_of(case, "shifted"), system_of(case, case.positions())
    edge_list = edges_of(system, potential)
    count = case.atom_count

    def force() -> None:
        jax.block_until_ready(energy_and_forces(system, potential, edge_list))

    # As in a relaxation of many atoms, whatever their number here.
    with compilations() as seconds, hurried_while(lambda: False):
        compile_s, force_s, repeats = compile_and_repeat(force, options["seconds"])
    energy, forces = energy_and_forces(system, potential, edge_list)
    result = {
        "setup": _setup(case, system, potential),
        "energy_per_atom": float(energy) / count,
        "largest_force": float(jnp.linalg.norm(forces, axis=1).max()),
        "force_us": 1e6 * force_s / count,
        "force_compile_s": compile_s,
        "force_repeats": repeats,
        "force_memory_mib": peak_memory(),
        **compiled_row(seconds),
    }
    if not options.get("products", True):
        return result
    vector = jnp.asarray(np.random.default_rng(1).normal(size=(count, case.dimension)))
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
    """Relax: the first time compiles, the second is the measurement; of short ones, three more.

    Options: ``method``, ``fmax`` (the default is that of the comparison with peers),
    ``positions_file``, and ``repeats``, of which the median is taken.
    """
    potential, system = potential_of(case, "force-shifted"), system_of(case, case.positions())
    method, fmax = options["method"], options.get("fmax", FMAX)

    processor: list[float] = []

    def once() -> mdsens.Equilibrium:
        start = time.process_time()
        relaxed = mdsens.relax(system, potential, method=method, fmax=fmax, max_steps=MAX_STEPS)
        jax.block_until_ready(relaxed.positions)
        processor.append(time.process_time() - start)
        return relaxed

    with compilations() as seconds:
        first, _ = seconds_of(once)
    with counted_iterations() as iterations:
        wall, relaxed = seconds_of(once)
    more = 3 if wall < SHORT else options.get("repeats", 1) - 1
    wall = statistics.median([wall, *(seconds_of(once)[0] for _ in range(more))])
    np.save(options["positions_file"], np.asarray(relaxed.positions))
    return {
        "setup": _setup(case, system, potential),
        **compiled_row(seconds),
        **course(relaxed, iterations),
        "wall_s": wall,
        "processor_s": statistics.median(processor[1:]),
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }


def _setup(case: Case, system: mdsens.System, potential: Any) -> str:
    """How far the edges reach beyond the interactions."""
    return f"skin {potential.edge_search(system).skin:.2f} {case.length_unit}"


def course(relaxed: mdsens.Equilibrium, iterations: list[int]) -> dict:
    """What a relaxation did: steps, evaluations, and iterations of its linear solves."""
    return {
        "note": "steps: " + _merged(relaxed.history.methods),
        "evaluations": relaxed.history.evaluations,
        "linear_iterations": sum(iterations),
        "most_iterations": max(iterations, default=0),
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
        energy, forces = energy_and_forces(system, potential, edges_of(system, potential))
        measured[label] = {
            "energy_per_atom": float(energy) / case.atom_count,
            "largest_force": float(jnp.linalg.norm(forces, axis=1).max()),
        }
    return {"measured": measured}


def prepare(case: Case, options: dict) -> dict:
    """Write a start from which all minimisers come down to the same minimum of a packing.

    It is a minimum, found from discs at random places, with every disc moved a little. From the
    random places themselves each minimiser would find a minimum of its own.
    """
    potential, system = potential_of(case, "force-shifted"), system_of(case, case.positions())
    relaxed = mdsens.relax(system, potential, fmax=FMAX, max_steps=10 * MAX_STEPS)
    amplitude = options.get("rattle", DISC_RATTLE)
    random = np.random.default_rng(case.seed + 1)
    moves = random.normal(scale=amplitude, size=system.positions.shape)
    np.save(options["start_file"], np.asarray(relaxed.positions) + moves)
    return {"largest_force": float(relaxed.largest_force), "minimum": float(relaxed.energy)}
