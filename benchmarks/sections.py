"""The sections of the benchmark: what each measures, in the order in which they run."""

import dataclasses
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import goals, packings, potentials, sweeps
from benchmarks.cold import COMMAND, import_of_jax, with_empty_cache, with_filled_cache
from benchmarks.compare import best
from benchmarks.jobs import NoStartError
from benchmarks.setting import BETWEEN, QUICK_SIZES, Part, Setting, evaluations
from benchmarks.systems import Case
from mdsens.study.find import ready_folder

#: Largest forces at which relaxations stop, energy/length.
TIGHT, LOOSE = 1e-10, 1e-6
#: Cubic cells along an edge, or number of discs, of a million.
MILLION = {"lj": 63, "sw": 50, "discs": 1_000_000}
#: Seconds after which a measurement of a million atoms is given up.
MILLION_LIMIT = 2400.0
#: Atoms above which LAMMPS is run with one skin and its two best variants only.
FEW_VARIANTS = 20_000
#: A method of LAMMPS that took so many times as long as another at one size is left out at larger.
LEFT_OUT = 3.0
#: Ready studies, of which the first result is timed.
STUDIES = tuple(sorted(path.parent.name for path in ready_folder().glob("*/study.toml")))
#: Runs of a sweep; those of one that is killed, and how often.
SWEEP, QUICK_SWEEP = (200, 40, 20), (16, 8, 2)
#: Cells in a batch, and those of them that ASE relaxes.
CELLS, QUICK_CELLS = (1000, 20), (8, 2)


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of the benchmark.

    Attributes:
        word: what chooses it.
        title: what its table is called.
        measure: gives rows and ratios, case by case.
    """

    word: str
    title: str
    measure: Callable[[Setting], Iterator[Part]]


def _case(potential: str, size: int) -> Case:
    """A crystal with a vacancy, or a packing."""
    return Case(potential, size, vacancy=potential == "lj")


def _contestants(setting: Setting, case: Case) -> list[tuple]:
    """The relaxations of one case: program, label, options."""
    found: list[tuple] = []
    if "mdsens" in setting.programs:
        found += [
            ("mdsens", f"mdsens {method}", {"method": method, "group": "mdsens"})
            for method in ("auto", "lbfgs")
        ]
    if "mdsens" in setting.programs and setting.two_cores:
        options = {"method": "auto", "group": "mdsens, two cores", "cores": 2}
        found.append(("mdsens", "mdsens auto, two cores", options))
    if "lammps" not in setting.programs:
        return found
    large = case.atom_count > FEW_VARIANTS
    skin = 0.1 if case.potential == "discs" else 1.0
    for count in (1, 2) if setting.two_cores else (1,):
        words = "one core" if count == 1 else "two threads"
        suffixes = ("", "omp") if count == 1 else ("omp",)
        few = [(skin, suffix) for suffix in suffixes]
        for method in ("fire", "cg"):
            # Of crystals all skins are tried with fire, which takes a seventh of the time of cg.
            variants = few if large or (method == "cg" and case.potential != "discs") else None
            options = {"method": method, "threads": count, "cores": count, "variants": variants}
            options["group"] = f"LAMMPS, {words}"
            found.append(("lammps", f"LAMMPS {method}, {words}", options))
    return found


def relaxations(setting: Setting) -> Iterator[Part]:
    """Crystals with a vacancy to two forces."""
    for potential in setting.crystals():
        slow: dict[tuple[float, str], float] = {}
        for size in setting.sizes(potential, smallest=1):
            case = _case(potential, size)
            for fmax in (LOOSE, TIGHT):
                contestants, left_out = [], []
                for program, label, options in _contestants(setting, case):
                    if (times := slow.get((fmax, label), 0.0)) > LEFT_OUT:
                        about = {"program": program, "task": "relax", "case": case.name}
                        about |= {"potential": potential, "atoms": case.atom_count, "fmax": fmax}
                        status = f"left out: {times:.1f} times the best at the smaller size"
                        group = options["group"]
                        left_out.append({**about, "label": label, "status": status, "group": group})
                    else:
                        contestants.append((program, label, options))
                rows = setting.runner.relaxations(case, fmax, contestants)
                for row in rows:
                    fastest = best(
                        [other for other in rows if other["group"] == row["group"]], fmax
                    )
                    if row["status"] == fastest["status"] == "ok" and row["program"] == "lammps":
                        slow[fmax, row["label"]] = row["wall_s"] / fastest["wall_s"]
                rows += left_out
                yield _quantity(rows, f"relaxation to {fmax:g}"), goals.relaxation_goals(rows)


def forces(setting: Setting) -> Iterator[Part]:
    """Energy and forces of perfect crystals (silicon: with a vacancy), rattled."""
    for potential in setting.crystals():
        sizes = setting.from_a_thousand(potential)
        if not setting.quick:
            more = filter(setting.wants, (*BETWEEN[potential], MILLION[potential]))
            sizes = tuple(sorted((*sizes, *more)))
        for size in sizes:
            case = Case(potential, size)
            rows, reason = evaluations(setting, case, MILLION_LIMIT)
            found = [goals.force_goal(*rows, reason)] if len(rows) == 2 else []
            yield rows, found


def _response(setting: Setting, case: Case, task: str, limit: float | None = None) -> list[dict]:
    """Rows of a relaxation and the derivatives after it."""
    label, fmax = "mdsens auto", TIGHT
    whole = setting.runner.run("response", case, task, label, limit=limit, fmax=fmax)
    return _parts_of(whole, fmax)


def _parts_of(whole: dict, fmax: float) -> list[dict]:
    parts = whole.pop("parts", [{}])
    rows = [{**whole, **part, "program": "mdsens", "fmax": fmax} for part in parts]
    for row in rows:
        if "wall_s" in row:
            seconds = row.get("processor_s", row["wall_s"])
            row["us_per_atom"] = 1e6 * seconds / row["atoms"]
    return rows


def _responses(setting: Setting) -> Iterator[list[dict]]:
    """A relaxation and a sensitivity of every material in every size."""
    for potential in (name for name in setting.materials if name in MILLION):
        sizes = setting.from_a_thousand(potential)
        if setting.million and potential != "discs" and not setting.quick:
            sizes = (*sizes, MILLION[potential])
        for size in sizes:
            try:
                case = setting.runner.started(_case(potential, size))
            except NoStartError as error:
                yield [error.row | {"quantity": "relaxation"}]
                continue
            limit = MILLION_LIMIT if size == MILLION[potential] else None
            yield _response(setting, case, "differentiate", limit)


def sensitivities(setting: Setting) -> Iterator[Part]:
    """Sensitivities after a relaxation: one, one with the estimate of its error, a hundred."""
    for rows in _responses(setting):
        yield rows, goals.sensitivity_goals(rows)
    for shape in ("slab", "void"):
        for size in setting.sizes("lj", smallest=1)[:1] if "lj" in setting.materials else ():
            rows = _response(setting, Case("lj", size, shape=shape), "differentiate")
            for row in rows:
                row["label"] = f"mdsens auto, {shape}"
            yield rows, goals.sensitivity_goals(rows)
    for potential in setting.crystals():
        sizes = setting.sizes(potential)
        for size in sizes if setting.million or setting.quick else sizes[:2]:
            rows = _response(setting, _case(potential, size), "hundred", MILLION_LIMIT)
            for row in rows:
                # The potential with tables costs more: not one line with the others in the figure.
                row["label"] = "mdsens auto, ten species"
            yield rows, goals.hundred_goals(rows)


def growth(setting: Setting) -> Iterator[Part]:
    """Time per atom and iterations over the number of atoms."""
    chosen = [
        row
        for rows in _responses(setting)
        for row in rows
        if row["status"] != "ok" or row["quantity"] in ("relaxation", "one sensitivity")
    ]
    yield chosen, goals.growth_goals(chosen)


def million(setting: Setting) -> Iterator[Part]:
    """A million atoms, each tolerance in a process of its own, compilation included."""
    if not setting.million:
        return
    case = _case("lj", QUICK_SIZES["lj"][0] if setting.quick else MILLION["lj"])
    for fmax in (LOOSE, TIGHT):
        whole = setting.runner.run(
            "response", case, "million", "mdsens auto", limit=MILLION_LIMIT, fmax=fmax
        )
        rows = _parts_of(whole, fmax)
        for row in rows:
            row["label"] = "mdsens auto, cold"
        yield rows, goals.million_goals(rows)


#: Ways to differentiate: program, task, variant, label.
WAYS = (
    ("derivatives", "implicit", "", "mdsens sensitivity"),
    ("derivatives", "implicit_jvp", "", "mdsens root_jvp"),
    ("derivatives", "relaxed_and_differentiated", "", "mdsens relax, sensitivity"),
    ("derivatives", "unrolled", "", "unrolled FIRE"),
    ("derivatives", "finite_differences", "", "mdsens finite differences"),
    ("derivatives", "lammps_differences", "", "LAMMPS finite differences"),
    ("derivatives", "dense", "", "dense pseudo-inverse"),
    ("jaxopt", "jaxopt_forward", "", "JAXopt root_jvp"),
    ("jaxopt", "jaxopt_forward", "tight", "JAXopt root_jvp, tight CG"),
    ("jaxopt", "jaxopt_reverse", "", "JAXopt custom_root"),
    ("jaxopt", "jaxopt_reverse", "tight", "JAXopt custom_root, tight CG"),
    ("optimistix", "optimistix_implicit", "", "optimistix ImplicitAdjoint"),
    ("optimistix", "optimistix_implicit", "tight", "optimistix ImplicitAdjoint, tight CG"),
)


def derivatives(setting: Setting) -> Iterator[Part]:
    """dx/dd of packings in many ways, each held to the closed form."""
    if "discs" not in setting.materials:
        return
    runner = setting.runner
    for size in (64,) if setting.quick else (128, 1024, 10_000):
        case = Case("discs", size)
        minimum = runner.new_file().replace(".npy", ".npz")
        first = runner.run("derivatives", case, "prepare", "closed form", minimum=minimum)
        rows = [first]
        if first["status"] == "ok":
            rows += [
                runner.run(program, case, task, label, variant=variant, minimum=minimum)
                for program, task, variant, label in WAYS
            ]
        yield _quantity(rows, "dx/dd"), goals.derivative_goals(rows)


def cold(setting: Setting) -> Iterator[Part]:
    """Fresh processes, with nothing compiled on disk and then with all of it."""
    tell, limit = setting.runner.tell, setting.runner.limit
    about = {"program": "mdsens", "task": "cold", "quantity": "first result"}
    tell("import jax")
    rows = [{**about, "program": "jax", "case": "jax", "label": "import", **import_of_jax(limit)}]
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            study: ("mdsens run", (*COMMAND, "run", study, "--out", "{out}"))
            for study in (STUDIES[:1] if setting.quick else STUDIES)
        }
        if "sw" in setting.materials:
            case = Case("sw", 3 if setting.quick else 5)
            structure = _write_structure(case, Path(folder))
            script = ("-m", "benchmarks.first_result", str(structure))
            jobs[case.name] = "import, relax, sensitivity", script
        for case_name, (label, command) in jobs.items():
            for cache, measure in (("empty", with_empty_cache), ("filled", with_filled_cache)):
                tell(f"{case_name}: {label}, cache {cache}")
                row = {**about, "case": case_name, "label": label, "cache": cache}
                row |= measure(command, limit)
                row["note"] = f"cache {cache}; {row.get('note', '')}"
                rows.append(row)
    if "lj" in setting.materials:
        tell("64 atoms of argon once all is compiled")
        row = {**about, "case": "64 LJ atoms", "label": "once all is compiled"}
        rows.append(row | with_empty_cache(("-m", "benchmarks.second_result"), limit, repeats=1))
    yield rows, goals.cold_goals(rows) + goals.second_goals(rows)


def _write_structure(case: Case, folder: Path) -> Path:
    """A file of the case's structure."""
    import ase
    import ase.io
    import numpy as np

    path = folder / "silicon.extxyz"
    cell = np.eye(3) * case.box
    ase.io.write(path, ase.Atoms(f"Si{case.atom_count}", case.positions(), cell=cell, pbc=True))
    return path


def batches(setting: Setting) -> Iterator[Part]:
    """A thousand cells of 64 atoms in a batch, and one by one with ASE."""
    if "lj" not in setting.materials:
        return
    count, some = QUICK_CELLS if setting.quick else CELLS
    case, rows = Case("lj", 2), []
    for task, label in (("together", "mdsens relax_batch"), ("one_by_one", "ASE BFGS")):
        row = setting.runner.run("batches", case, task, label, count=count, some=some)
        row |= {"case": f"{count:,} cells of 64 LJ atoms", "atoms": 64 * count}
        row |= {"quantity": f"relaxation to {LOOSE:g}", "fmax": LOOSE}
        rows.append(row)
    yield rows, goals.batch_goals(*rows)


def sweep(setting: Setting) -> Iterator[Part]:
    """Packings of 128 discs in sweeps: on one and two workers, killed, and beside single runs."""
    if "discs" not in setting.materials:
        return
    tell, limit = setting.runner.tell, setting.runner.limit
    (count, killed, kills), manifest_runs = QUICK_SWEEP if setting.quick else SWEEP, 10_000
    about = {"program": "mdsens", "task": "sweep", "quantity": "sweep"}
    with tempfile.TemporaryDirectory() as folder:
        bench = sweeps.Bench(Path(folder), limit)
        measures: dict[str, Callable[[], dict]] = {
            "a loop of mdsens run": lambda: sweeps.loop(bench, count),
            "one process": lambda: sweeps.together(bench, count),
            "machinery": lambda: sweeps.machinery(bench, count),
            "one worker": lambda: sweeps.in_workers(bench, count, 1),
        }
        if setting.two_cores:
            measures["two workers"] = lambda: sweeps.in_workers(bench, count, 2)
            measures["two workers, one killed"] = lambda: sweeps.in_workers(bench, count, 2, True)
        measures["killed and resumed"] = lambda: sweeps.killed_again_and_again(bench, killed, kills)
        opened = Path(folder) / "made-up"
        measures["manifest"] = lambda: sweeps.manifest(opened, manifest_runs)
        rows = []
        for label, measure in measures.items():
            tell(f"sweep: {label}")
            runs = {"killed and resumed": killed, "manifest": manifest_runs}.get(label, count)
            row = {**about, "label": label, "runs": runs, "case": f"{runs:,} packings of 128 discs"}
            try:
                rows.append(row | {"status": "ok"} | measure())
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                rows.append(row | {"status": f"failed: {error}"})
    yield rows, goals.sweep_goals(rows)


#: What the section on elasticity measures: task, cubic cells along an edge, and for a quick run;
#: of argon with a vacancy, but for elastic constants in many parameters, which are of silicon.
ELASTICITY = (
    ("coupled", "lj", 8, 3),
    ("constants", "lj", 16, 4),
    ("constants_derivatives", "sw", 6, 2),
    ("constants_with_ase", "lj", 4, 2),
    ("phonons_by_displacements", "lj", 2, 1),
)


def elasticity(setting: Setting) -> Iterator[Part]:
    """Cells that relax, elastic constants and vibrations, each beside what it is measured by."""
    for task, potential, size, small in ELASTICITY:
        if potential in setting.materials:
            case = _case(potential, small if setting.quick else size)
            whole = setting.runner.run("elasticity", case, task, "mdsens")
            rows = [{**whole, **part} for part in whole.pop("parts", [{}])]
            yield rows, goals.elasticity_goals(rows)


def _quantity(rows: list[dict], quantity: str) -> list[dict]:
    for row in rows:
        row["quantity"] = quantity
    return rows


SECTIONS = (
    Section("forces", "Energy and forces from a thousand to a million atoms", forces),
    Section("relaxation", "Relaxation of crystals with a vacancy", relaxations),
    Section("packing", "Relaxation of soft discs in two dimensions", packings.packings),
    Section("sensitivity", "Sensitivities after a relaxation to 1e-10", sensitivities),
    Section("growth", "Time per atom over the number of atoms, to 1e-10", growth),
    Section("derivatives", "Ways to differentiate a packing", derivatives),
    Section("cold", "First result of a fresh process", cold),
    Section("batch", "Many small cells", batches),
    Section("sweeps", "Sweeps of packings", sweep),
    Section("elasticity", "Elastic constants, vibrations and cells that relax", elasticity),
    Section("file-forces", "Energy and forces of potentials from files", potentials.forces),
    Section("file-relaxation", "Potentials from files relax a vacancy", potentials.relaxations),
    Section("jacobian", "All derivatives of a vacancy in tungsten", potentials.jacobian),
    Section("calls", "Calls of a calculator", potentials.calls),
    Section("million", "A million atoms", million),
)
WORDS = ("peers", *(section.word for section in SECTIONS))
#: Words for several sections.
GROUPS = {"potentials": ("file-forces", "file-relaxation", "jacobian", "calls")}
