"""The section on potentials from files and on calculators: forces, relaxations, derivatives."""

import os
from collections.abc import Iterator

from benchmarks import goals
from benchmarks.setting import Part, Setting, evaluations
from benchmarks.systems import CRYSTALS, Case

#: Potentials whose forces are timed, and cubic cells along an edge: 2 to 4 thousand atoms.
FORCES = {"sw": 8, "eam": 10, "tersoff": 8, "snap": 10, "adp": 10, "vashishta": 8, "edip": 8}
#: Those that relax, and cubic cells along an edge: of 13 thousand atoms, and of SNAP of two
#: thousand too, of which LAMMPS's minimisers take a minute.
RELAXATIONS = {"sw": (12,), "eam": (15,), "tersoff": (12,), "snap": (10, 19)}
#: Cubic cells along an edge of a quick run: of forces and relaxations, and of tungsten's Jacobian.
QUICK, QUICK_TUNGSTEN = 3, 2
#: Largest force at which relaxations stop, eV/Angstrom.
FMAX = 1e-8
#: Seconds after which a relaxation by LAMMPS is ended, and after which a measurement is given up.
MINIMISATION_LIMIT, LIMIT = 1500, 2400.0
#: Cubic cells along an edge of tungsten's 127 atoms, and of 1,371 of copper.
TUNGSTEN, COPPER, QUICK_COPPER = 4, 7, 2


def jacobian(setting: Setting) -> Iterator[Part]:
    """All derivatives of a vacancy in tungsten in the coefficients of SNAP."""
    if "snap" in setting.materials:
        case = Case("snap", QUICK_TUNGSTEN if setting.quick else TUNGSTEN, vacancy=True)
        yield from _of_mdsens(setting, "spectral", case, "jacobian", goals.jacobian_goals)


def calls(setting: Setting) -> Iterator[Part]:
    """Calls of a calculator for a relaxation and one sensitivity of a vacancy in copper."""
    if "emt" in setting.materials:
        case = Case("emt", QUICK_COPPER if setting.quick else COPPER, vacancy=True)
        yield from _of_mdsens(setting, "calculators", case, "calls", goals.calls_goals)


def forces(setting: Setting) -> Iterator[Part]:
    """Energy and forces of perfect crystals (silicon: with a vacancy), rattled, on one core."""
    for potential, size in FORCES.items():
        if potential in setting.materials:
            case = Case(potential, QUICK if setting.quick else size)
            rows, reason = evaluations(setting, case)
            found = goals.compilation_goals(rows)
            if len(rows) == 2:
                most = goals.FORCES_FROM_FILES.get(potential)
                found.insert(0, goals.force_goal(*rows, reason, most))
            yield rows, found


def relaxations(setting: Setting) -> Iterator[Part]:
    """Crystals with a vacancy, beside the best of LAMMPS's minimisers; all on one core."""
    for potential, sizes in RELAXATIONS.items():
        if potential not in setting.materials:
            continue
        for size in (QUICK,) if setting.quick else filter(setting.wants, sizes):
            yield _relaxation(setting, Case(potential, size, vacancy=True))


def _relaxation(setting: Setting, case: Case) -> Part:
    """One of these crystals."""
    contestants: list[tuple] = []
    if "mdsens" in setting.programs:
        contestants.append(("mdsens", "mdsens auto", {"method": "auto", "group": "mdsens"}))
    if "lammps" in setting.programs:
        # Accelerated variants of the pair style are never slower where there are any.
        suffix = {"snap": "", "eam": "opt"}.get(case.potential, "omp")
        for method in ("fire", "cg"):
            options = {"method": method, "variants": [(1.0, suffix)], "cores": 1}
            options |= {"group": "LAMMPS, one core", "minimisation_limit": MINIMISATION_LIMIT}
            contestants.append(("lammps", f"LAMMPS {method}, one core", options))
    rows = setting.runner.relaxations(case, FMAX, contestants, limit=LIMIT)
    for row in rows:
        row["quantity"] = f"relaxation to {FMAX:g}"
    return rows, goals.relaxation_goals(rows, {FMAX: 1.0}) + goals.compilation_goals(rows)


def _of_mdsens(
    setting: Setting, program: str, case: Case, task: str, goals_of: goals.GoalsOf
) -> Iterator[Part]:
    """What one process of mdsens measures in several parts."""
    # As many cores as what they are held to had.
    cores = min(2, os.cpu_count() or 1)
    whole = setting.runner.run(program, case, task, "mdsens", limit=LIMIT, cores=cores)
    rows = [{**whole, **part} for part in whole.pop("parts", [{}])]
    yield rows, goals_of(rows) + goals.compilation_goals(rows)


#: The materials of this section.
POTENTIALS = tuple(name for name in CRYSTALS if name != "lj")
