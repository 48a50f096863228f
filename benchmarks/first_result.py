"""The first result of a fresh process: `python -m benchmarks.first_result STRUCTURE` prints JSON.

Nothing is imported before the clock starts. Where the environment names a folder for JAX's compiled
code, it is kept there.
"""

import json
import sys
import time


def main() -> None:
    """Import, relax, differentiate; print the seconds of each."""
    begin = time.perf_counter()
    import ase.io

    import mdsens
    from benchmarks.systems import SILICON

    system = mdsens.System.from_ase(ase.io.read(sys.argv[1]))
    potential = mdsens.potentials.StillingerWeber(**SILICON)
    imported = time.perf_counter()
    relaxed = mdsens.relax(system, potential, fmax=1e-10)
    down = time.perf_counter()
    found = mdsens.sensitivity(relaxed, ["energy"], wrt="sigma")
    slope = float(found["energy"]["sigma"])
    tangent = found.tangents.q["sigma"]
    end = time.perf_counter()
    seconds = {
        "import_s": imported - begin,
        "relax_s": down - imported,
        "sensitivity_s": end - down,
    }
    largest = float(relaxed.largest_force)
    reached = {"largest_force": largest, "slope": slope, "shape": list(tangent.shape)}
    print(json.dumps({**seconds, **reached}))


if __name__ == "__main__":
    main()
