"""Ratios between programs, and when there is none: what was not the same work is not compared."""

import dataclasses
import math

from benchmarks.systems import FMAX

#: How far energies per atom of two minima may be apart, eV.
SAME_MINIMUM = 1e-8
#: How far energies of the same structure in two programs may be apart, relative.
SAME_ENERGY = 1e-8
#: A force counts as down to the tolerance up to this factor: programs differ in its last digits.
TOLERANCE_SLACK = 1.05
#: The goals: mdsens's force in units of LAMMPS's, at most, and jax-md's times in units of
#: mdsens's, at least.
GOAL_LAMMPS_FORCE = 1.5
GOAL_JAXMD = {"lj": 3.0, "sw": 10.0}


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Two times of the same work, or another number that has a goal.

    Attributes:
        case: what was computed on.
        quantity: what was computed.
        programs: the ratio in words, e.g. ``"mdsens / LAMMPS"``; whose number it is.
        value: the number; None where there is none.
        reason: why there is none.
        goal: in words; empty where there is none.
        met: whether the goal is met; None where that cannot be said.
    """

    case: str
    quantity: str
    programs: str
    value: float | None
    reason: str = ""
    goal: str = ""
    met: bool | None = None


def judged(
    case: str, quantity: str, programs: str, value: float | None, goal: str, reason: str = ""
) -> Ratio:
    """A number beside its goal, "≤ 2" or "≥ 2"; empty for none."""
    if value is None or not math.isfinite(value):
        return Ratio(case, quantity, programs, None, reason or "not measured", goal)
    met = None
    if goal and not reason:
        relation, limit = goal.split()
        met = value <= float(limit) if relation == "≤" else value >= float(limit)
    return Ratio(case, quantity, programs, value, reason, goal, met)


def refusal(first: dict, second: dict, fmax: float = FMAX) -> str:
    """Why two relaxations may not be compared; empty if they may."""
    for row in (first, second):
        if row.get("status") != "ok":
            return row.get("status", "not run")
    if not abs(first["energy_per_atom"] - second["energy_per_atom"]) <= SAME_MINIMUM:
        return "other minimum"
    for row in (first, second):
        if not row["largest_force"] <= TOLERANCE_SLACK * fmax:
            return f"{row['label']} did not converge"
    return ""


def evaluation_refusal(first: dict, second: dict, key: str) -> str:
    """Why two evaluations on the same structure may not be compared; empty if they may."""
    for row in (first, second):
        if row.get("status") != "ok":
            return row.get("status", "not run")
        if key not in row:
            return f"{row['label']} has none"
    energies = first["energy_per_atom"], second["energy_per_atom"]
    if not abs(energies[0] - energies[1]) <= SAME_ENERGY * abs(energies[1]):
        return "other energy"
    return ""


def best(rows: list[dict], fmax: float = FMAX) -> dict:
    """The fastest of one program's relaxations that came down to the tolerance, else the first."""
    done = [
        row
        for row in rows
        if row["status"] == "ok" and row["largest_force"] <= TOLERANCE_SLACK * fmax
    ]
    return min(done, key=lambda row: row["wall_s"]) if done else rows[0]


def ratios_of(potential: str, case: str, rows: list[dict]) -> list[Ratio]:
    """All ratios of one case.

    Arguments:
        potential: ``"lj"`` or ``"sw"``.
        case: name of the case.
        rows: results of the measurements, each with ``program``, ``task`` and ``label``.

    Returns:
        The ratios, those with LAMMPS first.
    """

    def of(program: str, task: str) -> list[dict]:
        return [row for row in rows if (row["program"], row["task"]) == (program, task)]

    def pair(quantity: str, top: dict, below: dict, key: str, reason: str, goal: str) -> Ratio:
        words = f"{top['label']} / {below['label']}"
        if reason:
            return Ratio(case, quantity, words, None, reason, goal)
        return judged(case, quantity, words, top[key] / below[key], goal)

    own, found = of("mdsens", "evaluate"), []
    for mine in own:
        for other in of("lammps", "evaluate"):
            reason = evaluation_refusal(mine, other, "force_us")
            goal = f"≤ {GOAL_LAMMPS_FORCE:g}"
            found.append(pair("energy and forces", mine, other, "force_us", reason, goal))
    for mine in of("mdsens", "relax"):
        if others := of("lammps", "relax"):
            other = best(others)
            found.append(pair("relaxation", mine, other, "wall_s", refusal(mine, other), ""))
    goal = f"≥ {GOAL_JAXMD[potential]:g}"
    for mine in own:
        for other in of("jax-md", "evaluate"):
            for quantity, key in (
                ("energy and forces", "force_us"),
                ("Hessian-vector product", "hvp_us"),
            ):
                reason = evaluation_refusal(other, mine, key)
                found.append(pair(quantity, other, mine, key, reason, goal))
    for mine in of("mdsens", "relax"):
        for other in of("jax-md", "relax"):
            found.append(pair("relaxation", other, mine, "wall_s", refusal(other, mine), goal))
    return found
