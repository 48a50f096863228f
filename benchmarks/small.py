"""Small relaxations once everything is compiled: `python -m benchmarks.small` prints JSON.

64 argon atoms near their lattice sites are relaxed to 1e-10 eV/Ang and differentiated in both
parameters of the Lennard-Jones potential, from other positions each time; and so is a loss through
`relax` inside `jax.jit`, as in a step of a fit.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
from ase.build import bulk

import mdsens

#: Times that each is repeated.
REPEATS = 20
POTENTIAL = {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 7.0}
FORCE = 1e-10


def argon(seed: int) -> mdsens.System:
    """64 atoms, displaced at random by 0.05 Angstrom."""
    atoms = bulk("Ar", "fcc", 5.3, cubic=True).repeat((2, 2, 4))
    atoms.rattle(0.05, seed=seed)
    return mdsens.System.from_ase(atoms)


def milliseconds(work: Callable[[int], Any]) -> float:
    """The median time of some runs after two, each given another number."""
    times = []
    for number in range(-2, REPEATS):
        begin = time.perf_counter()
        work(number + 2)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[2:])


def relaxed_and_differentiated(seed: int) -> mdsens.Sensitivity:
    """All of it, from the positions on."""
    potential = mdsens.potentials.LennardJones(**POTENTIAL)
    equilibrium = mdsens.relax(argon(seed), potential, fmax=FORCE)
    return mdsens.sensitivity(equilibrium, ["energy", "distance(0,1)"])


def main() -> None:
    """Print the milliseconds of each."""
    equilibrium = relaxed_and_differentiated(0).equilibrium

    def again(_: int) -> mdsens.Sensitivity:
        return mdsens.sensitivity(equilibrium, ["energy", "distance(0,1)"])

    @jax.jit
    def step(sigma: float) -> tuple[jax.Array, jax.Array]:
        def loss(sigma: float) -> jax.Array:
            potential = mdsens.potentials.LennardJones(**{**POTENTIAL, "sigma": sigma})
            return mdsens.relax(argon(0), potential, fmax=FORCE).energy ** 2

        return jax.value_and_grad(loss)(sigma)

    found = {
        "relaxed and differentiated": milliseconds(relaxed_and_differentiated),
        "differentiated again": milliseconds(again),
        "step of a fit": milliseconds(
            lambda number: jax.block_until_ready(step(3.4 + 1e-3 * number))
        ),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
