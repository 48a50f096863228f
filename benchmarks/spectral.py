"""All derivatives of a vacancy in tungsten in the coefficients of SNAP, beside their differences.

    python -m benchmarks.spectral [CELLS]      cells along an edge, 4 by default: 127 atoms

The Jacobian is timed after what it needs has been compiled, without the estimate of its error; what
it says is held against central differences of structures that are relaxed again.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mdsens
from benchmarks.goals import JACOBIAN_ATOMS, JACOBIAN_SECONDS
from benchmarks.systems import Case
from benchmarks.timing import compilations, compiled_row, peak_memory, seconds_of
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import find_edges

#: Displacements of the differences, of which the best is taken, Ang; columns that are checked.
STEPS, CHECKED = (1e-4, 1e-5, 1e-6), 8


def worst_error(
    equilibrium: Any, potential: Any, jacobian: dict[str, np.ndarray], names: list[str]
) -> float:
    """The largest error of a column beside differences of four relaxations, relative to it."""
    system, start = equilibrium.system, np.asarray(equilibrium.positions)
    reach = float(potential.interaction_range)
    edges = find_edges(start, np.asarray(system.cell), system.pbc, reach, 0.4)
    matrix = sparse_hessian(system, potential, edges).toarray()
    inverse = np.linalg.pinv(matrix, rcond=1e-9, hermitian=True)

    def moved(changed: Any) -> np.ndarray:
        positions = start.copy()
        for _ in range(8):
            there = system.with_positions(positions)
            forces = np.asarray(compiled_energy_forces_virial(there, changed, edges)[1])
            positions += (inverse @ forces.ravel()).reshape(start.shape)
        return positions - start

    def error(name: str, step: float) -> float:
        found, value = jacobian[name], potential.parameters[name]
        h = step / np.abs(found).max()
        ends = [moved(potential.with_parameters({name: value + k * h})) for k in (-2, -1, 1, 2)]
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    return max(min(error(name, step) for step in STEPS) for name in names)


def jacobian(case: Case, options: dict) -> dict:
    """A relaxation, all derivatives in all coefficients but the first, and one gradient."""
    potential = mdsens.potentials.from_file(case.crystal.file)
    system = mdsens.System(case.positions(), np.eye(3) * case.box, case.crystal.elements)
    names = [name for name in potential.parameter_names if name.startswith("beta")][1:]

    def relaxation() -> mdsens.Equilibrium:
        return mdsens.relax(system, potential, fmax=1e-11)

    def all_columns() -> dict[str, np.ndarray]:
        found = mdsens.sensitivity(equilibrium, wrt=names, mode="forward", error_estimate=False)
        return {name: np.asarray(found.positions[name]) for name in names}

    def one_gradient() -> Any:
        bond = mdsens.observables.distance(0, 1)
        found = mdsens.sensitivity(
            equilibrium, [bond], wrt=names, mode="reverse", error_estimate=False
        )
        return found.to_dataframe()

    equilibrium, row = _timed("relaxation", relaxation)
    row |= {"largest_force": float(equilibrium.largest_force), "fmax": 1e-11}
    found, columns = _timed("Jacobian", all_columns)
    checked = names[:: max(1, len(names) // CHECKED)]
    columns["error"] = worst_error(equilibrium, potential, found, checked)
    columns["note"] += f", {len(names)} coefficients, {len(checked)} columns held to differences"
    return {"parts": [row, columns, _timed("gradient of one distance", one_gradient)[1]]}


def _timed(quantity: str, function: Callable[[], Any]) -> tuple[Any, dict]:
    """What a function returns the second time, and a row."""
    with compilations() as compiled:
        first, _ = seconds_of(function)
    cores = time.process_time()
    wall, found = seconds_of(function)
    cores = time.process_time() - cores
    row = {
        "quantity": quantity,
        "wall_s": wall,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
        "note": f"{cores:.2f} s of processors",
        **compiled_row(compiled),
    }
    return found, row


def main(cells: int) -> None:
    """Print times and errors of one size."""
    case = Case("snap", cells, vacancy=True)
    print(f"{case.name} (goal of the Jacobian of {JACOBIAN_ATOMS} atoms: {JACOBIAN_SECONDS} s)")
    for row in jacobian(case, {})["parts"]:
        error = f", largest relative error {row['error']:.1e}" if "error" in row else ""
        print(
            f"{row['quantity']}: {row['wall_s']:.2f} s, {row['note']}{error}; {row['programs']} "
            f"programs in {row['compile_s']:.1f} s, the longest {row['longest_compile_s']:.1f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
