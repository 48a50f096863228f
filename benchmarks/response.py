"""Relaxation and then derivatives with mdsens: one parameter, a hundred, a million atoms."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import mdsens
from benchmarks.systems import ARGON, MAX_STEPS, PARAMETERS, SILICON, Case
from benchmarks.timing import peak_memory, seconds_of
from benchmarks.with_mdsens import counted_iterations, course, potential_of, system_of
from mdsens.compilation import hurried_while
from mdsens.study.compilation import CompilationClock

#: Names of species that are all alike, so that their tables have more than a hundred entries.
SPECIES = tuple("ABCDEFGHIJ")
PARAMETER_COUNT = 100
#: Timings of what takes less than a second, of which the median counts.
REPEATS = 5


def differentiate(case: Case, options: dict) -> dict:
    """A relaxation, one derivative after it, and one with the estimate of its error."""
    name = PARAMETERS[case.potential]
    problem = system_of(case, case.positions()), potential_of(case, "smooth")
    # By code that is compiled without hurry, which a process has once it has computed much.
    with hurried_while(lambda: False):
        relaxed, compiled, parts = _relaxations(problem, options["fmax"])
        for quantity, estimate in (("one sensitivity", False), ("with error estimate", True)):
            parts.append(_sensitivity(compiled, relaxed, [name], quantity, error_estimate=estimate))
    return {"parts": parts}


def hundred(case: Case, options: dict) -> dict:
    """A relaxation, one derivative and a hundred, of a crystal of ten species that are alike."""
    species = np.random.default_rng(2).integers(len(SPECIES), size=case.atom_count)
    system = mdsens.System(case.positions(), np.diag(case.lengths), SPECIES, species)
    table = np.ones((len(SPECIES), len(SPECIES)))
    numbers = dict(ARGON if case.potential == "lj" else SILICON)
    numbers |= {name: numbers[name] * table for name in ("epsilon", "sigma")}
    kind = {"lj": mdsens.potentials.LennardJones, "sw": mdsens.potentials.StillingerWeber}
    potential = kind[case.potential](**numbers, species=SPECIES)
    names = potential.expand_parameter_names(["epsilon", "sigma"])[:PARAMETER_COUNT]
    wanted = ("one sensitivity", names[:1]), (f"{len(names)} parameters", names)
    with hurried_while(lambda: False):
        relaxed, compiled, parts = _relaxations((system, potential), options["fmax"])
        for quantity, chosen in wanted:
            parts.append(_sensitivity(compiled, relaxed, chosen, quantity, error_estimate=False))
    return {"parts": parts}


def million(case: Case, options: dict) -> dict:
    """A relaxation and a derivative, each once, with everything that has to be compiled."""
    system, potential = system_of(case, case.positions()), potential_of(case, "smooth")
    parts = []
    with CompilationClock() as clock:
        with counted_iterations() as iterations:
            wall, relaxed = seconds_of(lambda: _relax(system, potential, options["fmax"]))
        compile_s = clock.seconds
        parts.append(
            {
                "quantity": "relaxation",
                **course(relaxed, iterations),
                **_reached(relaxed),
                "wall_s": wall,
                "compile_s": compile_s,
                "memory_mib": peak_memory(),
            }
        )
        names, compile_s = [PARAMETERS[case.potential]], clock.seconds
        parts.append(_sensitivity(None, relaxed, names, "one sensitivity", error_estimate=False))
        parts[-1]["compile_s"] = clock.seconds - compile_s
    return {"parts": parts}


def _relax(system: Any, potential: Any, fmax: float) -> mdsens.Equilibrium:
    relaxed = mdsens.relax(system, potential, fmax=fmax, max_steps=MAX_STEPS)
    jax.block_until_ready(relaxed.positions)
    return relaxed


def _relaxations(
    problem: tuple, fmax: float
) -> tuple[mdsens.Equilibrium, mdsens.Equilibrium, list[dict]]:
    """The same relaxation from compiled code and the first one; a row on the former."""
    first, compiled = seconds_of(lambda: _relax(*problem, fmax))
    wall, processor, iterations, relaxed = _repeated(lambda: _relax(*problem, fmax))
    part = {
        "quantity": "relaxation",
        **course(relaxed, iterations),
        **_reached(relaxed),
        "wall_s": wall,
        "processor_s": processor,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }
    return relaxed, compiled, [part]


def _repeated(
    call: Callable[[], Any], repeats: int = REPEATS
) -> tuple[float, float, list[int], Any]:
    """Medians of its wall and processor time in seconds, iterations of one call, its result."""
    walls, processors = [], []
    for _ in range(repeats):
        with counted_iterations() as iterations:
            start = time.process_time()
            wall, result = seconds_of(call)
            processors.append(time.process_time() - start)
        walls.append(wall)
    return statistics.median(walls), statistics.median(processors), iterations, result


def _reached(relaxed: mdsens.Equilibrium) -> dict:
    count = relaxed.system.atom_count
    return {
        "largest_force": float(np.linalg.norm(np.asarray(relaxed.forces), axis=1).max()),
        "energy_per_atom": float(relaxed.energy) / count,
    }


def _sensitivity(
    compiled: mdsens.Equilibrium | None,
    relaxed: mdsens.Equilibrium,
    names: list[str],
    quantity: str,
    **options: Any,
) -> dict:
    """Time derivatives of the positions, of an equilibrium that nothing is known about yet."""

    def once(equilibrium: mdsens.Equilibrium) -> Any:
        # A copy has assembled nothing, factorised nothing and certified nothing.
        fresh = dataclasses.replace(equilibrium)
        found = mdsens.sensitivity(fresh, wrt=names, mode="forward", **options)
        jax.block_until_ready(found.tangents.q)
        return found

    first = 0.0
    if compiled is not None:
        first, _ = seconds_of(lambda: once(compiled))
    repeats = 1 if compiled is None or len(names) > 1 else REPEATS
    wall, processor, iterations, found = _repeated(lambda: once(relaxed), repeats)
    solver = found.equilibrium.hessian_solver
    return {
        "quantity": quantity,
        "note": "dense" if solver is None else solver.sparse.method,
        "linear_iterations": sum(iterations),
        "most_iterations": max(iterations, default=0),
        "residual": found.certificate.linear_residual,
        "derivative_error": found.certificate.derivative_error,
        "wall_s": wall,
        "processor_s": processor,
        "compile_s": max(0.0, first - wall) if compiled is not None else 0.0,
        "memory_mib": peak_memory(),
    }
