"""Relaxation of soft discs in two dimensions from several starts, the same for all programs."""

import statistics
from collections.abc import Iterator

from benchmarks.compare import Ratio, best, judged, refusal
from benchmarks.goals import RELAXATION
from benchmarks.jobs import NoStartError
from benchmarks.setting import Part, Setting
from benchmarks.systems import Case

#: The largest force at which relaxations stop, energy/length.
FMAX = 1e-10
#: Runs of each relaxation, whose median is taken; of more discs than this one run is enough.
REPEATS, MANY = 3, 20_000
#: Skins of LAMMPS that are tried, in diameters.
SKINS = (0.1, 0.3)
#: Where the starts are: all over the place, or a minimum whose discs were moved a little.
RANDOM, NEAR = "random places", "near a minimum"


def packings(setting: Setting) -> Iterator[Part]:
    """Soft discs from random places and from near a minimum, start by start, and then together."""
    if "discs" not in setting.materials:
        return
    for size in setting.sizes("discs", smallest=1):
        for kind in (RANDOM, NEAR):
            every: list[list[dict]] = []
            for seed in setting.starts:
                case = Case("discs", size, seed=seed)
                name = f"{case.name}, {kind}, start {seed}"
                try:
                    case = setting.runner.started(case) if kind == NEAR else case
                except NoStartError as error:
                    yield [error.row | {"quantity": f"relaxation to {FMAX:g}"}], []
                    continue
                rows = setting.runner.relaxations(case, FMAX, _contestants(setting, case))
                for row in rows:
                    row |= {"case": name, "quantity": f"relaxation to {FMAX:g}"}
                every.append(rows)
                yield rows, start_goals(rows, kind == NEAR)
            if len(every) > 1:
                yield [], median_goals(every, f"{Case('discs', size).name}, {kind}")


def _contestants(setting: Setting, case: Case) -> list[tuple]:
    """The relaxations of one start: program, label, options."""
    repeats = REPEATS if case.atom_count <= MANY else 1
    found: list[tuple] = []
    for cores in (1, 2) if setting.two_cores else (1,):
        words = "one core" if cores == 1 else "two cores"
        common = {"cores": cores, "repeats": repeats}
        if "mdsens" in setting.programs:
            own = {**common, "method": "auto", "group": f"mdsens, {words}"}
            label = "mdsens auto" if cores == 1 else "mdsens auto, two cores"
            found.append(("mdsens", label, own))
        if "lammps" in setting.programs:
            suffix = "" if cores == 1 else "omp"
            variants = [(skin, suffix) for skin in SKINS[: 1 if case.atom_count > MANY else None]]
            own = {**common, "method": "fire", "threads": cores, "variants": variants}
            words = words.replace("two cores", "two threads")
            own["group"] = f"LAMMPS, {words}"
            found.append(("lammps", f"LAMMPS fire, {words}", own))
    return found


def start_goals(rows: list[dict], same_minimum: bool) -> list[Ratio]:
    """LAMMPS's time over that of mdsens on as many cores; on one, of the processor.

    Whoever else runs on the machine makes both wait, and not alike.

    Arguments:
        rows: relaxations of one start, with ``group`` "mdsens, one core", "LAMMPS, one core" or
            the same of two.
        same_minimum: whether to refuse other minima; from random places each program has its own.
    """
    found = []
    for mine, other in _pairs(rows):
        both = (mine, other)
        if not same_minimum and all(row["status"] == "ok" for row in both):
            both = (mine, {**other, "energy_per_atom": mine["energy_per_atom"]})
        reason = refusal(*both, FMAX)
        value = None if reason else _ratio(mine, other)
        goal = f"≥ {RELAXATION[FMAX]:g}" if mine["group"].endswith("one core") else ""
        words = f"{other['label']} / {mine['label']}"
        found.append(judged(mine["case"], mine["quantity"], words, value, goal, reason))
    return found


def _ratio(mine: dict, other: dict) -> float:
    key = "processor_s" if mine["group"].endswith("one core") else "wall_s"
    return float(other[key] / mine[key])


def _pairs(rows: list[dict]) -> Iterator[tuple[dict, dict]]:
    for mine in rows:
        if mine["program"] == "mdsens":
            cores = "one core" if mine["group"].endswith("one core") else "two threads"
            others = [row for row in rows if row["group"] == f"LAMMPS, {cores}"]
            if others:
                yield mine, best(others, FMAX)


def median_goals(every: list[list[dict]], name: str) -> list[Ratio]:
    """The median of LAMMPS's time over that of mdsens, and of how much higher energies are.

    Arguments:
        every: rows of each start, as of `start_goals`.
        name: what the starts are called.
    """
    found, quantity = [], f"relaxation to {FMAX:g}"
    pairs = [
        pair
        for rows in every
        for pair in _pairs(rows)
        if not refusal(pair[0], {**pair[1], "energy_per_atom": pair[0].get("energy_per_atom", 0)})
    ]
    for label in dict.fromkeys(mine["label"] for mine, _ in pairs):
        both = [pair for pair in pairs if pair[0]["label"] == label]
        times = [_ratio(mine, other) for mine, other in both]
        excess = [mine["energy_per_atom"] / other["energy_per_atom"] - 1 for mine, other in both]
        goal = f"≥ {RELAXATION[FMAX]:g}" if label == "mdsens auto" else ""
        words = f"{both[0][1]['label']} / {label}, median of {len(both)} starts"
        found.append(judged(name, quantity, words, statistics.median(times), goal))
        words = f"{label} / {both[0][1]['label']} - 1, median"
        found.append(judged(name, "energy per disc", words, statistics.median(excess), ""))
    return found
