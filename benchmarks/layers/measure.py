"""Time and error of every program on one problem, in turns within one process.

What disturbs the machine for a while disturbs all programs alike, so that the ratios of their times
can be trusted on a machine that does other work too. What takes too long is ended from outside, by
`benchmarks.layers.limits`.
"""

import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.layers.limits import Key, Stage
from benchmarks.layers.objectives import loss_of
from benchmarks.layers.problem import Problem
from benchmarks.layers.problems import PROBLEMS

#: Each program: the module that states the problems with it.
PROGRAMS = {
    "mdsens": "with_mdsens",
    "JAXopt": "with_jaxopt",
    "optimistix": "with_optimistix",
    "cvxpylayers": "with_cvxpylayers",
    "qpax": "with_qpax",
    "SciPy, scikit-learn": "with_scipy",
}
#: Programs that cannot run here, with the problems that they could state, and why.
ABSENT = {
    "diffqcp": (
        ("qp", "portfolio", "conic"),
        "releases 0.4.3 and 0.4.4 cannot be imported on Python 3.11, though it installs them: type "
        "statements are of 3.12; they differentiate what another program has solved",
    )
}
#: A solution, or a gradient, with a larger relative error is not compared: it is not the same work.
LARGEST_ERROR = 1e-6
#: What is timed.
KINDS = ("solution", "gradient")
#: Seconds after which a call is not repeated.
LONG = 2.0
#: Seconds of a sample: clocks of processor time tick in milliseconds.
SHORT = 0.02

Call = Callable[[], Any]


def module_of(program: str) -> Any:
    """The module of a program, or a word why there is none."""
    try:
        return importlib.import_module(f"benchmarks.layers.{PROGRAMS[program]}")
    except ModuleNotFoundError as error:
        return f"not installed: {error.name}"


def variants(program: str, problem: str) -> list[str]:
    """The variants of a program that can state a problem; none where it cannot."""
    module = module_of(program)
    if isinstance(module, str):
        return [""]
    build = getattr(module, problem.replace("-", "_"), None)
    return [] if build is None else [v for v in module.VARIANTS if build(v) is not None]


def calls(program: str, variant: str, name: str, problem: Problem) -> tuple[Call, Call | None, Any]:
    """The solution, the loss's gradient (None: it has no derivatives), and what was compiled."""
    module = module_of(program)
    solution = getattr(module, name.replace("-", "_"))(variant)
    loss = loss_of(name)
    if not getattr(module, "DIFFERENTIATED", True):
        return lambda: solution(problem.theta, problem.data), None, None
    data = jax.tree.map(jax.numpy.asarray, problem.data)
    theta = jax.numpy.asarray(problem.theta)
    gradient = jax.grad(lambda theta, data: loss(solution(theta, data), theta, data))
    compiled = None
    if getattr(module, "COMPILED", True):
        solve = jax.jit(solution).lower(theta, data).compile()
        gradient = compiled = jax.jit(gradient).lower(theta, data).compile()
    else:
        solve = solution
    return (
        lambda: jax.block_until_ready(solve(theta, data)),
        lambda: jax.block_until_ready(gradient(theta, data)),
        compiled,
    )


def relative_error(found: Any, reference: np.ndarray) -> float:
    """The Euclidean norm of what differs, by that of the reference."""
    difference = np.asarray(found).reshape(reference.shape) - reference
    return float(np.linalg.norm(difference) / np.linalg.norm(reference))


def _line_of(error: Exception) -> str:
    """What an error says, in a line."""
    lines = [line for line in str(error).splitlines() if any(map(str.isalpha, line))]
    kept = [line for line in lines if "steps" in line or "converge" in line] or lines or [""]
    return f"{type(error).__name__}: {kept[0].strip()[:120]}".replace("|", "/")


def once(function: Call) -> tuple[Any, tuple[float, float]]:
    """What a function returns, and its wall and processor time in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    found = function()
    return found, (time.perf_counter() - wall, time.process_time() - processor)


def times(kind: str, wall: float, processor: float) -> dict[str, float]:
    """The entries of a row."""
    return {f"{kind}_wall_s": wall, f"{kind}_processor_s": processor}


def time_in_turns(functions: list[Call], budget: float) -> list[tuple[float, float]]:
    """Medians of wall time and processor time in seconds of each function.

    Arguments:
        functions: what to call, all of which have been called before.
        budget: seconds that each may take in all; at least three samples, or one of what takes
            long. What takes less than `SHORT` is called several times for a sample.
    """
    times: list[list[tuple[float, float]]] = [[] for _ in functions]
    repeats = [1] * len(functions)
    unfinished = set(range(len(functions)))
    while unfinished:
        for index in sorted(unfinished):
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(repeats[index]):
                functions[index]()
            seconds = time.perf_counter() - wall, time.process_time() - processor
            own = times[index]
            if not own and repeats[index] == 1 and seconds[0] < SHORT and budget > 0:
                repeats[index] = int(SHORT / max(seconds[0], 1e-6)) + 1
                continue
            own.append((seconds[0] / repeats[index], seconds[1] / repeats[index]))
            spent = repeats[index] * sum(wall for wall, _ in own)
            if spent > budget and (len(own) >= 3 or spent > LONG or budget == 0):
                unfinished.remove(index)
    return [
        (statistics.median(wall for wall, _ in own), statistics.median(cpu for _, cpu in own))
        for own in times
    ]


def measure(
    name: str,
    problem: Problem,
    programs: list[str],
    budget: float,
    too_slow: dict[Stage, float] | None = None,
    kept: dict[Key, dict] | None = None,
    begin: Callable[[Stage | None], None] = lambda stage: None,
    keep: Callable[[Key, dict], None] = lambda key, row: None,
) -> list[dict]:
    """A row of every variant of every program that can state the problem.

    Arguments:
        name: the problem's.
        problem: what it is.
        programs: those that take part.
        budget: seconds for each measurement, as in `time_in_turns`.
        too_slow: what is known not to end within so many seconds, and is not done.
        kept: what `keep` was told in processes that have ended, and is not found out again.
        begin: told what is done next for the first time, None after the last such.
        keep: told each row as far as it is known.

    Returns:
        Rows with ``program``, ``variant`` and ``status``, "ok" or a word why not; then with wall
        and processor time of the solution and of the gradient in seconds, their relative errors,
        and the buffers of the gradient in MiB (NaN where no compiler tells). In place of what took
        too long, ``<kind>_over_s``.
    """
    too_slow, kept = too_slow or {}, kept or {}
    known = dict(zip(KINDS, problem.reference(), strict=True))
    timed: list[tuple[dict, str, Call]] = []

    def call_once(row: dict, kinds: list[str]) -> None:
        """Notes errors, and what is to be timed; or its time, where the first call took long."""
        key = program, variant = row["program"], row["variant"]
        try:
            begin((program, variant, "compile"))
            solve, gradient, compiled = calls(program, variant, name, problem)
            row["gradient_mib"] = float("nan")
            if compiled is not None:
                size = compiled.memory_analysis().temp_size_in_bytes
                row["gradient_mib"] = size / 2**20
            for kind in kinds:
                begin((program, variant, kind))
                call: Any = solve if kind == "solution" else gradient
                found, seconds = once(call)
                row[f"{kind}_error"] = relative_error(found, known[kind])
                # What takes long is not called again, if there was nothing to compile.
                if compiled is not None and seconds[0] > LONG:
                    row |= times(kind, *seconds)
                else:
                    timed.append((row, kind, call))
                keep(key, row)
        except Exception as error:
            row["status"] = f"failed: {_line_of(error)}"
            timed[:] = [entry for entry in timed if entry[0] is not row]
            keep(key, row)

    rows = [
        kept.get((program, variant), {"program": program, "variant": variant, "status": "ok"})
        for program in programs
        for variant in variants(program, name)
    ]
    # What may never end comes first, and what a process that has ended knew already once, last.
    for again in (False, True):
        for row in rows:
            if row["status"] != "ok" or (again and (row["program"], row["variant"]) not in kept):
                continue
            if kinds := _left(row, too_slow, again):
                call_once(row, kinds)
    begin(None)
    medians = time_in_turns([call for *_, call in timed], budget)
    for (row, kind, _), (wall, processor) in zip(timed, medians, strict=True):
        row |= times(kind, wall, processor)
    absent = [
        {"program": program, "variant": "", "status": reason}
        for program, (problems, reason) in ABSENT.items()
        if name in problems
    ]
    return rows + absent


def _left(row: dict, too_slow: dict[Stage, float], again: bool) -> list[str]:
    """What of a row has not been called yet, or not in this process though it is to be timed."""
    program, variant = row["program"], row["variant"]
    module = module_of(program)
    if isinstance(module, str):
        row["status"] = module
        return []
    if (limit := too_slow.get((program, variant, "compile"))) is not None:
        row["status"] = f"not compiled within {limit:g} s"
        return []
    kinds = KINDS if getattr(module, "DIFFERENTIATED", True) else KINDS[:1]
    left = []
    for index, kind in enumerate(kinds):
        # A gradient's time is that of the solution and more.
        limits = [too_slow.get((program, variant, each)) for each in kinds[: index + 1]]
        if (limit := next((limit for limit in limits if limit is not None), None)) is not None:
            row.pop(f"{kind}_error", None)
            row[f"{kind}_over_s"] = limit
        elif again == (f"{kind}_error" in row) and f"{kind}_wall_s" not in row:
            left.append(kind)
    return left


def rows_of(
    name: str,
    quick: bool,
    programs: list[str],
    seconds: float,
    *between: Any,
) -> tuple[str, list[dict]]:
    """The name of a problem with its size, and its rows; in a process that does nothing else."""
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    problem = PROBLEMS[name](quick)
    return problem.name, measure(name, problem, programs, seconds, *between)


def ratio(row: dict, own: dict, kind: str, clock: str = "processor") -> float | None:
    """A program's time in units of ours, where both are as exact as is asked for."""
    same = all(
        each["status"] == "ok" and each.get(f"{kind}_error", np.inf) <= LARGEST_ERROR
        for each in (row, own)
    )
    if not same or row is own:
        return None
    return row[f"{kind}_{clock}_s"] / own[f"{kind}_{clock}_s"]
