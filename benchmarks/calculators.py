"""Sensitivities by a calculator of ASE: how often it is called."""

from typing import Any

import numpy as np

import mdsens
from benchmarks.systems import Case
from benchmarks.timing import compilations, compiled_row, peak_memory, seconds_of
from benchmarks.with_mdsens import potential_of

#: Largest force at the minimum, eV/Angstrom, and how far atoms start from their sites, Angstrom.
FMAX, RATTLE = 1e-9, 0.02
#: Parameters of effective medium theory in which derivatives are taken.
PARAMETERS = ("s0[Cu]", "V0[Cu]")


def calls(case: Case, options: dict) -> dict:
    """A relaxation, and one sensitivity in two parameters with its certificate and its errors."""
    potential, sites = potential_of(case, ""), case.sites()
    moves = np.random.default_rng(1).normal(scale=RATTLE, size=sites.shape)
    system = mdsens.System(sites + moves, np.eye(3) * case.box, case.crystal.elements)

    def relaxation() -> mdsens.Equilibrium:
        return mdsens.relax(system, potential, fmax=FMAX)

    def sensitivity() -> Any:
        return mdsens.sensitivity(relaxed, ["energy", "distance(0,1)"], wrt=list(PARAMETERS))

    parts = []
    with compilations() as compiled:
        before = potential.calls
        wall, relaxed = seconds_of(relaxation)
        row = {"quantity": "relaxation", "wall_s": wall, "evaluations": potential.calls - before}
        parts.append(row | {"largest_force": float(relaxed.largest_force), "fmax": FMAX})
        before = potential.calls
        wall, found = seconds_of(sensitivity)
    errors = found.errors["distance(0,1)"]
    value = found["distance(0,1)"]
    relative = max(float(abs(errors[name] / value[name])) for name in PARAMETERS)
    row = {"quantity": "sensitivity", "wall_s": wall, "evaluations": potential.calls - before}
    row |= {
        "error": relative,
        "note": f"its own estimate of its error; {len(PARAMETERS)} parameters",
    }
    return {"parts": [*parts, row | {"memory_mib": peak_memory(), **compiled_row(compiled)}]}
