"""The goals of each section, and whether its rows meet them."""

from collections.abc import Callable
from typing import TypeAlias

from benchmarks.compare import TOLERANCE_SLACK, Ratio, best, judged, refusal

#: LAMMPS's time in units of that of mdsens, at least, by the largest force at the end.
RELAXATION = {1e-10: 2.0, 1e-6: 1.0}
#: The force of mdsens in units of that of LAMMPS on one core, at most.
FORCE = 1.2
#: The same of potentials from files.
FORCES_FROM_FILES = {"sw": 2.0, "eam": 2.0, "tersoff": 3.0, "snap": 4.0}
#: Seconds over which no program is compiled.
COMPILATION = 10.0
#: A tenth of the seconds that the fastest published method takes for all derivatives of 127 atoms
#: of tungsten in 55 coefficients of SNAP, on two cores of a machine like this; their error there.
JACOBIAN_SECONDS, JACOBIAN_ATOMS, JACOBIAN_ERROR = 3.8, 127, 7e-6
#: Calls of a calculator that a sensitivity makes, at most.
CALLS = 150
#: A sensitivity with its certificate in units of the relaxation before it, at most.
SENSITIVITY = 0.2
#: Atoms from which on the goals of sensitivities hold.
LARGE = 13_000
#: A hundred sensitivities in units of the relaxation and of a single one, at most.
HUNDRED_OF_RELAXATION = 4.0
HUNDRED_OF_ONE = 20.0
#: How much the time per atom may grow with the number of atoms, at most.
GROWTH = 1.3
#: Iterations of a linear solve, at most.
ITERATIONS = 12
#: A million atoms: seconds for everything, and GiB, at most.
MILLION_SECONDS = 600.0
MILLION_GIB = 16.0
#: Relative error below which a derivative is right, whatever the others reach.
RIGHT = 1e-8
#: Seconds to the first result of a study and of a script, without and with compiled code on disk.
COLD_SECONDS = {
    ("mdsens run", "empty"): 8.0,
    ("mdsens run", "filled"): 2.5,
    ("import, relax, sensitivity", "empty"): 6.0,
}
#: Milliseconds that 64 atoms take once all is compiled.
SECOND_MILLISECONDS = {
    "relax_and_differentiate": 50.0, "sensitivity_again": 20.0, "fit_step": 20.0
}  # fmt: skip
#: Programs that a run of a study compiles, at most.
PROGRAMS = 24
#: ASE's time for all cells in units of that of a batch, at least.
BATCH = 20.0
#: A loop of single runs in units of a sweep in one process, at least; what of the time of a sweep
#: is not of its runs, at most; seconds to open the manifest of 10,000 runs.
SWEEP, MACHINERY, MANIFEST = 10.0, 0.05, 1.0
#: Derivatives of atoms and cell in units of those of atoms alone, at most.
COUPLED = 1.5
#: Elastic constants in units of a relaxation, and their derivatives in units of them, at most.
CONSTANTS, CONSTANTS_DERIVATIVES = 1.0, 10.0
#: ASE's time for elastic constants and frequencies in units of that of mdsens, at least.
BY_DIFFERENCES = 20.0
#: From the rows of one case to what is judged.
GoalsOf: TypeAlias = Callable[[list[dict]], list[Ratio]]


def relaxation_goals(rows: list[dict], own_goal: dict[float, float] = RELAXATION) -> list[Ratio]:
    """LAMMPS's best beside each relaxation of mdsens: on one core, and of all where both have two.

    Arguments:
        rows: relaxations of one case to one force, with ``group`` "mdsens", "mdsens, two cores",
            "LAMMPS, one core" or "LAMMPS, two threads".
        own_goal: the goal by the largest force.
    """
    found = []
    for mine in (row for row in rows if row["group"].startswith("mdsens")):
        fmax = mine["fmax"]
        quantity = f"relaxation to {fmax:g}"
        one_core = mine["group"] == "mdsens"
        others = [
            row
            for row in rows
            if row["group"] == "LAMMPS, one core"
            or (row["group"] == "LAMMPS, two threads" and not one_core)
        ]
        if not others:
            continue
        other = best(others, fmax)
        reason = refusal(mine, other, fmax)
        # On one core the processor's time counts, which others on the machine disturb less.
        clock = "processor_s" if one_core else "wall_s"
        value = None if reason else other[clock] / mine[clock]
        # The goal is that of the default method.
        goal = f"≥ {own_goal[fmax]:g}" if mine["label"].startswith("mdsens auto") else ""
        words = f"{other['label']} / {mine['label']}"
        found.append(judged(mine["case"], quantity, words, value, goal, reason))
    return found


def force_goal(mine: dict, other: dict, reason: str, most: float | None = FORCE) -> Ratio:
    """The time of an evaluation beside that of LAMMPS; ``most`` of None: there is no goal."""
    value = None if reason else mine["force_us"] / other["force_us"]
    words = f"{mine['label']} / {other['label']}"
    goal = "" if most is None else f"≤ {most:g}"
    return judged(mine["case"], "energy and forces", words, value, goal, reason)


def compilation_goals(rows: list[dict]) -> list[Ratio]:
    """The longest compilation of each row that tells of one."""
    return [
        judged(row["case"], row["quantity"], f"{row['label']}, longest compilation, s",
               row["longest_compile_s"], f"≤ {COMPILATION:g}")
        for row in rows
        if row.get("longest_compile_s") is not None
    ]  # fmt: skip


def jacobian_goals(rows: list[dict]) -> list[Ratio]:
    """Seconds of a Jacobian of tungsten, and its error; seconds of other sizes have no goal."""
    by_quantity = _by_quantity(rows)
    case, row = rows[0]["case"], by_quantity.get("Jacobian")
    if row is None:
        return [judged(case, "Jacobian", "mdsens", None, "", rows[0]["status"])]
    goal = f"≤ {JACOBIAN_SECONDS:g}" if row["atoms"] == JACOBIAN_ATOMS else ""
    return [
        judged(case, "Jacobian", "mdsens, seconds", row["wall_s"], goal),
        judged(case, "Jacobian", "mdsens, relative error", row["error"], f"≤ {JACOBIAN_ERROR:g}"),
    ]


def calls_goals(rows: list[dict]) -> list[Ratio]:
    """Calls of a calculator for its sensitivities."""
    by_quantity = _by_quantity(rows)
    case, row = rows[0]["case"], by_quantity.get("sensitivity")
    if row is None:
        return [judged(case, "sensitivity", "mdsens", None, "", rows[0]["status"])]
    words = "calls of the calculator"
    return [judged(case, "sensitivity", words, row["evaluations"], f"≤ {CALLS}")]


def _by_quantity(rows: list[dict]) -> dict[str, dict]:
    return {row.get("quantity", ""): row for row in rows}


def _not_converged(row: dict) -> str:
    if row["status"] != "ok":
        return row["status"]
    return "" if row["largest_force"] <= TOLERANCE_SLACK * row["fmax"] else "did not converge"


def sensitivity_goals(rows: list[dict]) -> list[Ratio]:
    """Sensitivities of one case beside the relaxation before them."""
    by_quantity = _by_quantity(rows)
    relaxation = by_quantity.get("relaxation")
    if relaxation is None:
        return [judged(rows[0]["case"], "sensitivity", "mdsens", None, "", rows[0]["status"])]
    reason, found = _not_converged(relaxation), []
    for quantity, row in by_quantity.items():
        if quantity in ("one sensitivity", "with error estimate"):
            words = f"{quantity} / relaxation"
            # The time that counts is that of the processor: both are parts of one process.
            value = row["processor_s"] / relaxation["processor_s"]
            large = row["atoms"] >= LARGE
            goal = f"≤ {SENSITIVITY:g}" if large else ""
            found.append(judged(row["case"], "sensitivity", words, value, goal, reason))
            if large and quantity == "one sensitivity":
                words, goal = "most iterations of a linear solve", f"≤ {ITERATIONS}"
                steps = row.get("most_iterations")
                found.append(judged(row["case"], "sensitivity", words, steps, goal, reason))
    return found


def hundred_goals(rows: list[dict]) -> list[Ratio]:
    """A hundred sensitivities beside a relaxation and a single sensitivity."""
    by_quantity = _by_quantity(rows)
    relaxation, one = by_quantity.get("relaxation"), by_quantity.get("one sensitivity")
    if relaxation is None or one is None:
        return [judged(rows[0]["case"], "parameters", "mdsens", None, "", rows[0]["status"])]
    reason = _not_converged(relaxation)
    return [
        judged(row["case"], quantity, f"all / {name}", row["processor_s"] / unit["processor_s"],
               goal if row["atoms"] >= LARGE or unit is one else "", reason)
        for quantity, row in by_quantity.items()
        if quantity.endswith("parameters")
        for name, unit, goal in (
            ("relaxation", relaxation, f"≤ {HUNDRED_OF_RELAXATION:g}"),
            ("one sensitivity", one, f"≤ {HUNDRED_OF_ONE:g}"),
        )
    ]  # fmt: skip


def growth_goals(rows: list[dict]) -> list[Ratio]:
    """How the time per atom grows from the smallest size on, and the iterations at all sizes."""
    found, smallest = [], {}
    for row in sorted(rows, key=lambda row: row["atoms"]):
        case, quantity = row["case"], row.get("quantity", "")
        if row["status"] != "ok":
            found.append(judged(case, quantity, "mdsens", None, f"≤ {GROWTH:g}", row["status"]))
            continue
        reason = _not_converged(row) if "largest_force" in row else ""
        first = smallest.setdefault((row["potential"], quantity), row)
        if row is not first:
            words = f"time per atom / that of {first['atoms']:,} atoms"
            value = row["us_per_atom"] / first["us_per_atom"]
            found.append(judged(case, quantity, words, value, f"≤ {GROWTH:g}", reason))
        words, value = "most iterations of a linear solve", row["most_iterations"]
        found.append(judged(case, quantity, words, value, f"≤ {ITERATIONS}", reason))
    order = {row["case"]: index for index, row in enumerate(rows)}
    return sorted(found, key=lambda ratio: order[ratio.case])


def million_goals(rows: list[dict]) -> list[Ratio]:
    """Everything together, compilation included, and the most memory."""
    by_quantity = _by_quantity(rows)
    relaxation = by_quantity.get("relaxation")
    if relaxation is None:
        return [judged(rows[0]["case"], "all", "mdsens", None, "", rows[0]["status"])]
    reason = _not_converged(relaxation)
    seconds = sum(row["wall_s"] for row in rows)
    memory = max(row["memory_mib"] for row in rows) / 1024
    case, quantity = rows[0]["case"], f"to {relaxation['fmax']:g}, one sensitivity"
    return [
        judged(case, quantity, "seconds, with compilation", seconds,
               f"≤ {MILLION_SECONDS:g}", reason),
        judged(case, quantity, "peak memory, GiB", memory, f"≤ {MILLION_GIB:g}", reason),
    ]  # fmt: skip


def derivative_goals(rows: list[dict]) -> list[Ratio]:
    """The time of each way to differentiate in units of that of mdsens, where it is as accurate.

    Ways that include the relaxation are compared with mdsens's relaxation and derivative, all
    others with the faster of mdsens's two derivatives that are right.
    """

    def right(*tasks: str) -> list[dict]:
        return [
            row
            for row in rows
            if row["task"] in tasks and row["status"] == "ok" and row["error"] <= RIGHT
        ]

    own, found = ("implicit", "implicit_jvp", "relaxed_and_differentiated", "prepare"), []
    for row in rows:
        if row["task"] in own:
            continue
        candidates = right(own[2]) if row["task"] == "unrolled" else right(*own[:2])
        quantity, words = "dx/dd", f"{row['label']} / mdsens"
        if not candidates:
            found.append(judged(row["case"], quantity, words, None, "≥ 1", "mdsens has none"))
            continue
        mine = min(candidates, key=lambda row: row["wall_s"])
        words = f"{row['label']} / {mine['label']}"
        if row["status"] != "ok":
            found.append(judged(row["case"], quantity, words, None, "≥ 1", row["status"]))
            continue
        value, reason = row["wall_s"] / mine["wall_s"], ""
        # What is slower and less accurate has lost; what is faster must be as accurate.
        if value < 1 and not row["error"] <= max(10 * mine["error"], RIGHT):
            reason = f"wrong by {row['error']:.0e}"
        found.append(judged(row["case"], quantity, words, value, "≥ 1", reason))
    return found


def cold_goals(rows: list[dict]) -> list[Ratio]:
    """Seconds to the first result, and programs compiled on the way, of rows that have a cache."""
    found = []
    for row in (row for row in rows if "cache" in row):
        reason = "" if row["status"] == "ok" else row["status"]
        quantity, words = f"first result, cache {row['cache']}", f"{row['label']}, seconds"
        most = COLD_SECONDS.get((row["label"], row["cache"]))
        goal = "" if most is None else f"≤ {most:g}"
        found.append(judged(row["case"], quantity, words, row.get("wall_s"), goal, reason))
        if row["cache"] == "empty":
            words = f"{row['label']}, programs"
            most_programs = f"≤ {PROGRAMS}"
            found.append(
                judged(row["case"], quantity, words, row.get("programs"), most_programs, reason)
            )
    return found


def second_goals(rows: list[dict]) -> list[Ratio]:
    """Milliseconds of what is compiled already, and programs that other structures compile."""
    found = []
    for row in (row for row in rows if row["label"] == "once all is compiled"):
        reason, stages = "" if row["status"] == "ok" else row["status"], row.get("stages", {})
        about = row["case"], row["label"]
        for stage, most in SECOND_MILLISECONDS.items():
            value = 1e3 * stages[stage] if stage in stages else None
            words = f"{stage.replace('_', ' ')}, ms"
            found.append(judged(*about, words, value, f"≤ {most:g}", reason))
        words = "programs of other structures"
        found.append(judged(*about, words, row.get("programs_again"), "≤ 0", reason))
    return found


def batch_goals(batch: dict, single: dict) -> list[Ratio]:
    """ASE's time for all cells in units of the batch's."""
    words = f"{single['label']} / {batch['label']}"
    reason = next((row["status"] for row in (batch, single) if row["status"] != "ok"), "")
    value = None
    if not reason:
        same = zip(batch["energies"], single["energies"], strict=False)
        if not all(abs(mine - other) <= 1e-8 for mine, other in same):
            reason = "other minimum"
        elif not max(batch["largest_force"], single["largest_force"]) <= 1.05e-6:
            reason = "did not converge"
        else:
            value = single["wall_s"] / batch["wall_s"]
    return [judged(batch["case"], "relaxation", words, value, f"≥ {BATCH:g}", reason)]


def elasticity_goals(rows: list[dict]) -> list[Ratio]:
    """Each time of one case in units of the one it is measured by.

    Arguments:
        rows: of one task of `benchmarks.elasticity`; of two programs with the same quantity the
            second is the peer.
    """
    case, by_quantity = rows[0]["case"], {row.get("quantity"): row for row in rows}

    def ratio(above: dict, below: dict, words: str, goal: str) -> Ratio:
        value = above["wall_s"] / below["wall_s"]
        return judged(case, above["quantity"], words, value, goal)

    if rows[0]["status"] != "ok":
        return [judged(case, "elasticity", rows[0]["label"], None, "", rows[0]["status"])]
    peers = [row for row in rows if row["label"] != "mdsens"]
    if peers:
        goal = f"≥ {BY_DIFFERENCES:g}"
        return [ratio(row, rows[0], f"{row['label']} / mdsens", goal) for row in peers]
    if "relaxation" in by_quantity:
        below, goal, words = by_quantity["relaxation"], f"≤ {CONSTANTS:g}", "constants / relaxation"
        return [ratio(by_quantity["elastic constants"], below, words, goal)]
    if "elastic constants" in by_quantity:
        below, goal = by_quantity["elastic constants"], f"≤ {CONSTANTS_DERIVATIVES:g}"
        return [ratio(rows[1], below, "derivatives / constants", goal)]
    fixed = {q: row for q, row in by_quantity.items() if q.endswith("fixed cell")}
    return [
        ratio(
            by_quantity[quantity.replace("fixed cell", "with its cell")], row,
            "with its cell / fixed cell", f"≤ {COUPLED:g}",
        )
        for quantity, row in fixed.items()
    ]  # fmt: skip


def sweep_goals(rows: list[dict]) -> list[Ratio]:
    """A loop of single runs beside a sweep, its machinery, and whether kills leave the same bits.

    Arguments:
        rows: by their labels.
    """
    by_label = {row["label"]: row for row in rows}
    alone, whole = by_label["a loop of mdsens run"], by_label["one process"]
    case, found = whole["case"], []
    for row in rows:
        if row["status"] != "ok":
            found.append(judged(row["case"], row["label"], "", None, "", row["status"]))
        elif "same" in row:
            found.append(
                judged(row["case"], row["label"], "share of runs with other bits",
                       float(not row["same"]), "≤ 0")
            )  # fmt: skip
    if alone["status"] == whole["status"] == "ok":
        value = alone["wall_s"] / whole["wall_s"]
        found.append(judged(case, "time", "loop of mdsens run / sweep", value, f"≥ {SWEEP:g}"))
    for label in ("two workers", "two workers, one killed"):
        row = by_label.get(label, {"status": ""})
        if row["status"] == alone["status"] == "ok":
            value = alone["wall_s"] / row["wall_s"]
            found.append(judged(case, "time", f"loop of mdsens run / {label}", value, ""))
    inside = by_label["machinery"]
    if inside["status"] == "ok":
        most = f"≤ {MACHINERY:g}"
        found.append(judged(case, "time outside of runs", "share", inside["outside"], most))
        found.append(judged(case, "growth of memory", "beyond the runs", inside["growth"], most))
    if by_label["manifest"]["status"] == "ok":
        seconds = by_label["manifest"]["wall_s"]
        about = "10,000 runs", "manifest", "seconds to open"
        found.append(judged(*about, seconds, f"≤ {MANIFEST:g}"))
    return found
