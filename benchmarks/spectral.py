"""All derivatives of a vacancy in tungsten in the coefficients of SNAP, beside their differences.

    python -m benchmarks.spectral [CELLS]      cells along an edge, 4 by default: 127 atoms

The Jacobian is timed after what it needs has been compiled, without the estimate of its error; what
it says is held against central differences of structures that are relaxed again.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import ase.build
import numpy as np

import mdsens
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import find_edges

#: The longest time of the Jacobian of 127 atoms on two cores that is allowed, s.
GOAL = 3.8
#: Displacements of the differences, of which the best is taken, Ang; columns that are checked.
STEPS, CHECKED = (1e-4, 1e-5, 1e-6), 8


def vacancy(cells: int) -> mdsens.System:
    """A body-centred crystal of tungsten with one atom missing."""
    atoms = ase.build.bulk("W", "bcc", 3.1803, cubic=True) * (cells, cells, cells)
    del atoms[0]
    return mdsens.System.from_ase(atoms)


def seconds_of(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function returns, and how long it took: on the wall and of all cores, s."""
    wall, cores = time.perf_counter(), time.process_time()
    found = function()
    return found, time.perf_counter() - wall, time.process_time() - cores


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


def main(cells: int) -> None:
    """Print times and errors of one size."""
    potential, system = mdsens.potentials.from_file("W_2940_2017_2.snap"), vacancy(cells)
    names = [name for name in potential.parameter_names if name.startswith("beta")][1:]
    equilibrium, wall, _ = seconds_of(lambda: mdsens.relax(system, potential, fmax=1e-11))
    print(f"{system.atom_count} atoms, {len(names)} coefficients")
    print(f"relaxation with compilation {wall:.1f} s")

    def jacobian() -> dict[str, np.ndarray]:
        found = mdsens.sensitivity(equilibrium, wrt=names, mode="forward", error_estimate=False)
        return {name: np.asarray(found.positions[name]) for name in names}

    _, wall, _ = seconds_of(jacobian)
    print(f"Jacobian with compilation {wall:.1f} s")
    found, wall, cores = seconds_of(jacobian)
    print(f"Jacobian {wall:.2f} s, {cores:.2f} s of all cores (goal for 127 atoms: {GOAL} s)")

    def one_gradient() -> Any:
        bond = mdsens.observables.distance(0, 1)
        return mdsens.sensitivity(
            equilibrium, [bond], wrt=names, mode="reverse", error_estimate=False
        ).to_dataframe()

    seconds_of(one_gradient)
    _, wall, cores = seconds_of(one_gradient)
    print(f"gradient of one distance {wall:.2f} s, {cores:.2f} s of all cores")
    checked = names[:: max(1, len(names) // CHECKED)]
    error = worst_error(equilibrium, potential, found, checked)
    print(f"largest relative error of {len(checked)} columns {error:.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
