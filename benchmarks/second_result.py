"""What a process takes once its code is compiled: `python -m benchmarks.second_result` prints JSON.

Sixty-four atoms of argon, rattled, relax to 1e-10 eV/Angstrom and are differentiated in both of
their parameters, each time from other places; and a step of a fit of one of these to an energy is
the gradient of a relaxation under `jax.jit`.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

#: Calls of which the median counts, after those that compile.
CALLS = 15
#: Structures that come first, whose edges may take another size class each.
FIRST = 3


def main() -> None:
    """Print medians in seconds, and how many programs were compiled after the first structures."""
    import jax
    import numpy as np
    from ase.build import bulk

    import mdsens

    compiled: list[Any] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **about: (
            compiled.append(about.get("fun_name"))
            if name.endswith("backend_compile_duration")
            else None
        )
    )

    def rattled(seed: int) -> mdsens.System:
        atoms = bulk("Ar", "fcc", 5.26, cubic=True) * (2, 2, 4)
        atoms.positions += np.random.default_rng(seed).normal(0.0, 0.05, atoms.positions.shape)
        return mdsens.System.from_ase(atoms)

    # The cutoff lies between two shells.
    def potential(epsilon: Any) -> mdsens.potentials.LennardJones:
        return mdsens.potentials.LennardJones(epsilon=epsilon, sigma=3.405, cutoff=8.0, onset=7.6)

    systems = [rattled(seed) for seed in range(FIRST + CALLS)]

    def result(system: mdsens.System) -> Any:
        relaxed = mdsens.relax(system, potential(0.0104), fmax=1e-10)
        found = mdsens.sensitivity(relaxed, ["energy"], wrt=["epsilon", "sigma"])
        return relaxed, np.asarray(found["energy"]["sigma"])

    for system in systems[:FIRST]:
        relaxed, _ = result(system)
    before = len(compiled)
    relaxing = [_seconds(result, system) for system in systems[FIRST:]]
    wanted = relaxed, ["energy"], ["epsilon", "sigma"]
    again = [_seconds(mdsens.sensitivity, *wanted) for _ in range(CALLS)]
    more = len(compiled) - before

    @jax.jit
    def step(epsilon: Any) -> Any:
        def off(epsilon: Any) -> Any:
            return (mdsens.relax(systems[0], potential(epsilon), fmax=1e-10).energy + 5.6) ** 2

        return epsilon - 1e-5 * jax.grad(off)(epsilon)

    compiling, *steps = (
        _seconds(lambda: step(0.0104).block_until_ready()) for _ in range(CALLS + 1)
    )
    medians = {
        "relax_and_differentiate_s": statistics.median(relaxing),
        "sensitivity_again_s": statistics.median(again),
        "fit_step_s": statistics.median(steps),
        "fit_compiled_s": compiling,
    }
    largest = float(relaxed.largest_force)
    print(json.dumps({**medians, "programs_again": more, "largest_force": largest}))


def _seconds(function: Callable[..., Any], *given: Any) -> float:
    begin = time.perf_counter()
    function(*given)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
