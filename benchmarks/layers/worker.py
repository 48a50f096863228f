"""One measurement in a process of its own: `python -m benchmarks.layers.worker JSON` prints JSON.

The argument has the keys ``problem``, ``program``, ``variant``, ``quick`` and ``seconds``. The
last line of the output is the result.
"""

import importlib
import importlib.util
import json
import os
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.timing import peak_memory, seconds_of

PROGRAMS = {"mdsens": "mdsens", "JAXopt": "jaxopt", "optimistix": "optimistix"}


def compile_and_time(call: Callable[[], Any], budget: float) -> tuple[float, float]:
    """Seconds by which the first call is slower, and the median of as many as the budget allows."""
    first, _ = seconds_of(call)
    durations = [seconds_of(call)[0]]
    while sum(durations) < budget and len(durations) < 1000:
        durations.append(seconds_of(call)[0])
    median = statistics.median(durations)
    return max(0.0, first - median), median


def measure(request: dict) -> dict:
    """Time and memory of the solution and of the loss's gradient, and the gradient's error."""
    if importlib.util.find_spec(PROGRAMS[request["program"]]) is None:
        return {"status": "not installed"}
    import jax
    import numpy as np

    from benchmarks.layers.problems import PROBLEMS

    jax.config.update("jax_enable_x64", True)

    module = importlib.import_module(f"benchmarks.layers.with_{request['program'].lower()}")
    build = getattr(module, request["problem"], None)
    if build is None:
        return {"status": "has none"}
    problem = PROBLEMS[request["problem"]](request["quick"])
    data = jax.tree.map(jax.numpy.asarray, problem.data)
    theta = jax.numpy.asarray(problem.theta)
    before = peak_memory()
    solution, loss = build(request["variant"])
    result: dict = {"status": "ok"}
    forward = jax.jit(solution)
    gradient = jax.jit(jax.grad(lambda theta, data: loss(solution(theta, data), theta, data)))
    for key, function in (("forward", forward), ("gradient", gradient)):
        compile_s, seconds = compile_and_time(
            lambda function=function: jax.block_until_ready(function(theta, data)),
            request["seconds"],
        )
        analysis = function.lower(theta, data).compile().memory_analysis()
        result |= {
            f"{key}_s": seconds,
            f"{key}_compile_s": compile_s,
            f"{key}_buffers_mib": analysis.temp_size_in_bytes / 2**20,
            f"{key}_memory_mib": peak_memory() - before,
        }
    found, reference = np.asarray(gradient(theta, data)), problem.reference()
    result["gradient_error"] = float(np.linalg.norm(found - reference) / np.linalg.norm(reference))
    return result


def main() -> None:
    """Read the request from the command line, measure, print."""
    # JAX calls LAPACK from as many threads as there are cores; more threads in each only wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    print(json.dumps(measure(json.loads(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
