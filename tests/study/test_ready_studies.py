"""Every ready study as its reader runs it: by the command.

Some in processes of their own, of which the first keeps what it compiles, as it does for a reader,
and the one that verifies finds it. Each process takes seconds to import all, so the others run in
this one, without a rehearsal; where MDSENS_EVERY_GEOMETRY is set, none does.
"""

import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import ase.io
import cases
import jax
import numerical
import numpy as np
import pytest
import scipy.special

from mdsens import cli
from mdsens.compilation import forget_programs
from mdsens.study.find import ready_folder

pytestmark = pytest.mark.slow

#: All folders of systems/, whatever they are called: also those that come later.
STUDIES = sorted(path.parent for path in ready_folder().glob("*/study.toml"))
#: What of the environment a command gets to see.
PASSED_ON = (
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "XLA_FLAGS", "OPENBLAS_NUM_THREADS",
    "TF_CPP_MIN_LOG_LEVEL",
)  # fmt: skip
#: Of how many programs a run consists, at most, where nothing is kept: each takes a tenth of a
#: second to seconds. Whoever needs fewer lowers the number.
MOST_PROGRAMS = {
    "argon-cluster": 13, "argon-phonons": 21, "argon-vacancy": 13, "copper-vacancy-eam": 16,
    "emt-surface": 15, "morse-copper-surface": 13, "silica-bks": 19, "silicon-elastic": 16,
    "silicon-tersoff": 20, "silicon-thermal-expansion": 15, "silicon-vacancy": 14,
    "soft-spheres-2d": 15, "surface-energy": 24, "tungsten-vacancy-snap": 17,
    "vacancy-formation": 22,
}  # fmt: skip
#: Of every study, also those that come later.
FEWEST_PROGRAMS, MOST_OF_OTHERS = 5, 25
#: Which run in processes of their own.
APART = [study.name for study in STUDIES] if cases.EVERY else ["silicon-vacancy", "soft-spheres-2d"]
#: Parameters that stand for all where a study is verified, each of which takes re-relaxations: of
#: each kind one, and of Stillinger-Weber's each in one study or another. All where
#: MDSENS_EVERY_GEOMETRY is set, but for a mesh of vibrations, which is computed anew each time.
VERIFIED_IN = {
    "silicon-thermal-expansion": ["lambda_"],
    "silicon-elastic": ["epsilon", "gamma", "A", "p"],
    "silicon-vacancy": ["sigma", "a", "lambda_", "costheta0", "B", "q"],
    "silicon-tersoff": ["lambda2", "beta", "costheta0"],
    "argon-phonons": ["sigma"],
    "silica-bks": ["rho[O-O]", "alpha"],
}
#: Coarser meshes of waves: not what is computed at each but how many there are takes the time.
COARSER = {
    "silicon-thermal-expansion": [
        'sensitivity.observables=["volume", "quasi_harmonic_volume(300, 2)",'
        ' "thermal_expansion(300, 2)"]'
    ],
    "argon-phonons": [
        'sensitivity.observables=["energy", "volume", "phonon_frequencies([0.5, 0, 0.5])",'
        ' "mode_gruneisen_parameters([0.5, 0.5, 0.5])", "phonon_density_of_states(2.5, 3, 25)",'
        ' "zero_point_energy(3)", "vibrational_free_energy(40, 3)", "vibrational_entropy(40, 3)",'
        ' "heat_capacity(40, 3)", "gruneisen_parameter(40, 3)"]',
        "phonon_bands.points=20",
    ],
}
if cases.EVERY:
    VERIFIED_IN = {"silicon-thermal-expansion": ["epsilon", "sigma", "lambda_"]}
    COARSER = {}


def coarser(study):
    """What a study is told beside its file."""
    return [word for setting in COARSER.get(study.name, ()) for word in ("--set", setting)]


@contextlib.contextmanager
def counted():
    """A list of the programs that are compiled within: all, since none is there before."""
    programs = []

    def listen(event, *_, **about):
        if event.endswith("backend_compile_duration"):
            programs.append(about.get("fun_name"))

    jax.clear_caches()
    forget_programs()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def mdsens_here(*arguments):
    """What the command prints in this process; its exit status has to be 0."""
    shown, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(complained):
        status = cli.exit_status([*map(str, arguments)])
    assert status == 0, f"{arguments}: {shown.getvalue()[-3000:]}\n{complained.getvalue()[-3000:]}"
    return shown.getvalue()


def mdsens(folder, *arguments, before=(), kept="off"):
    """What the command prints, and what of errors and compiling; its exit status has to be 0."""
    beside = Path(sys.executable).parent / "mdsens"
    command = str(beside) if beside.is_file() else shutil.which("mdsens")
    assert command, "the command mdsens is not installed"
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    ended = subprocess.run(
        [*before, command, *map(str, arguments)], cwd=folder, text=True, capture_output=True,
        env=environment | {"HOME": str(home), "COLUMNS": "120", "MDSENS_CACHE": str(kept),
                           "JAX_LOG_COMPILES": "1"}, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, (
        f"{arguments}: status {ended.returncode}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    )
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with the results of a study, which is run once, and of how many programs it is."""
    found = {}

    def of(study):
        if study not in found:
            folder = tmp_path_factory.mktemp(study.name)
            arguments = ("run", study, "--out", folder / "results", *coarser(study))
            if study.name in APART:
                told = mdsens(folder, *arguments, kept=folder / "kept")[1]
                found[study] = folder, told.count("Finished XLA compilation")
            else:
                with counted() as programs:
                    mdsens_here(*arguments)
                found[study] = folder, len(programs)
        return found[study]

    return of


@pytest.fixture(scope="module")
def results(ran):
    """The folder of results of a study."""
    return lambda study: ran(study)[0] / "results"


def table_of(study):
    """What a study says, and what else it has been told."""
    table = tomllib.loads((study / "study.toml").read_text("utf-8"))
    for setting in COARSER.get(study.name, ()):
        names, _, value = setting.partition("=")
        room, _, key = names.partition(".")
        table[room][key] = tomllib.loads(f"value = {value}")["value"]
    return table


def each(studies=STUDIES):
    """Parametrise over studies; what is asked of one is asked where it was run."""
    grouped = [
        pytest.param(study, id=study.name, marks=pytest.mark.xdist_group(f"study {study.name}"))
        for study in studies
    ]
    return pytest.mark.parametrize("study", grouped)


def test_there_are_ready_studies():
    assert len(STUDIES) >= 5


def structures_of(study):
    """Tables of a study's structures by name, each with the keys of its relaxation."""
    table = table_of(study)
    given = table.get("structures") or {"": table["structure"]}
    common = table.get("relaxation", {})
    return {
        name: one | {"relaxation": common | one.get("relaxation", {})}
        for name, one in given.items()
    }


def found_of(found, study):
    """What results.json holds of each structure."""
    return {name: found["structures"][name] if name else found for name in structures_of(study)}


def relaxed_name(name):
    return f"relaxed-{name}.extxyz" if name else "relaxed.extxyz"


@each()
def test_a_ready_study_runs_and_writes_all_that_it_should(study, results):
    folder = results(study)
    structures = structures_of(study)
    for name in (
        "results.json",
        *map(relaxed_name, structures),
        "sensitivities.csv",
        "report.html",
        "study.toml",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert list(folder.glob("*.png"))
    found = json.loads((folder / "results.json").read_text())
    assert found["converged"]
    assert found["kind"] == "minimum"
    for name, of in found_of(found, study).items():
        assert len(ase.io.read(folder / relaxed_name(name))) == of["atoms"]
    table = table_of(study)
    formulas = list(table.get("formulas", {}))
    asked = [name.replace(" ", "") for name in table["sensitivity"]["observables"]]
    if "" in structures:
        assert [*formulas, *asked] == list(found["sensitivities"])
    else:
        assert list(found["sensitivities"])[: len(formulas)] == formulas
        for name in asked:
            assert all(f"{structure}.{name}" in found["sensitivities"] for structure in structures)


#: By its unit, of which degree a quantity is in all energies, and in all lengths.
DEGREES = {
    "1": (0.0, 0.0), "degree": (0.0, 0.0), "Ang": (0.0, 1.0), "Ang^3": (0.0, 3.0), "eV": (1.0, 0.0),
    "Ang^2": (0.0, 2.0), "eV/Ang^2": (1.0, -2.0), "eV/Ang^3": (1.0, -3.0), "GPa": (1.0, -3.0),
    "THz": (0.5, -1.0),
}  # fmt: skip
#: What has another degree than its unit says: a frequency times Planck's constant.
OWN_DEGREES = {"zero_point_energy": (0.5, -1.0)}
#: What a temperature or a frequency that is given makes not homogeneous.
WITHOUT_DEGREE = (
    "vibrational_", "heat_capacity", "gruneisen_parameter", "quasi_harmonic_", "thermal_expansion",
    "phonon_density_of_states",
)  # fmt: skip


def asks_for_few(study):
    """Whether it differentiates in a few of its coefficients, which alone obey no theorem."""
    return table_of(study)["potential"]["type"] == "snap"


def degrees_of(name, unit):
    """Degrees of an observable in energies and in lengths; None where it has none."""
    kind = name.split("(")[0].split(".")[-1]
    if kind.startswith(WITHOUT_DEGREE):
        return None
    return OWN_DEGREES.get(kind) or DEGREES[unit]


@each([study for study in STUDIES if not asks_for_few(study)])
def test_the_energy_is_proportional_to_energies(study, results):
    """By Euler's theorem, sum theta dE/dtheta = E over all parameters that are energies.

    Lengths and angles do not depend on them at all.
    """
    found = json.loads((results(study) / "results.json").read_text())
    energies = [p for p, unit in found["units"]["parameters"].items() if is_energy(p, unit)]
    assert energies
    per_atom = max(abs(of["energy"]) / of["atoms"] for of in found_of(found, study).values())
    for name, observable in found["observables"].items():
        unit = observable["units"]
        named = name in ("energy", "pressure", "stress")
        degrees = (float(named), 0.0) if unit == "reduced" else degrees_of(name, unit)
        if degrees is None:
            continue
        degree = degrees[0]
        value = np.asarray(observable["value"])
        changes = sum(
            found["parameters"][p] * np.asarray(found["sensitivities"][name][p]) for p in energies
        )
        size = max(np.abs(value).max(), per_atom if degree else 1.0)
        np.testing.assert_allclose(changes, degree * value, atol=1e-7 * size, err_msg=name)


def is_energy(parameter, unit):
    """Whether a parameter is one, or one times a length.

    In reduced units every unit has one name; energies are called epsilon there.

    Factors of energies count as well, of which tables have nothing else.
    """
    return (
        unit.split("*")[0] == "eV"
        or (unit == "reduced" and parameter.startswith("epsilon"))
        or parameter.startswith(("pair_scale", "embedding_scale"))
    )


def is_free(study):
    """Whether no length is given but by parameters: no cell, or one that relaxes.

    Charges reach as far as a cutoff that is none, and feel it.
    """
    parts = table_of(study)["potential"].get("parts", {})
    if any(part["type"] == "damped-shifted-coulomb" for part in parts.values()):
        return False

    def is_own(table):
        if table["relaxation"].get("cell", "none") != "none":
            return True
        file = table.get("file")
        return file is not None and not ase.io.read(study / file).pbc.any()

    return all(map(is_own, structures_of(study).values()))


@each([study for study in STUDIES if is_free(study) and not asks_for_few(study)])
def test_a_structure_without_a_length_of_its_own_follows_the_lengths(study, results):
    """Distances are of first degree in all lengths."""
    found = json.loads((results(study) / "results.json").read_text())
    lengths = {
        p: 1 if p == "length_scale" else {"Ang": 1, "1/Ang": -1}.get(u, 0)
        for p, u in found["units"]["parameters"].items()
    }
    assert any(lengths.values())
    for name, observable in found["observables"].items():
        degrees = degrees_of(name, observable["units"])
        if degrees is None:
            continue
        degree = degrees[1]
        value = np.asarray(observable["value"])
        changes = sum(
            power * found["parameters"][p] * np.asarray(found["sensitivities"][name][p])
            for p, power in lengths.items()
        )
        size = max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(changes, degree * value, atol=1e-6 * size, err_msg=name)


def switch(t):
    t = np.clip(t, 0.0, 1.0)
    return 1.0 - 10.0 * t**3 + 15.0 * t**4 - 6.0 * t**5


#: Pair energies, written once more in NumPy, by the potential's type.
PAIRS = {
    "lennard-jones": lambda r, p: (
        4 * p["epsilon"] * ((p["sigma"] / r) ** 12 - (p["sigma"] / r) ** 6)
    ),
    "morse": lambda r, p: p["epsilon"] * (
        np.exp(-2 * p["alpha"] * (r - p["r0"])) - 2 * np.exp(-p["alpha"] * (r - p["r0"]))
    ),
}  # fmt: skip


@each([study for study in STUDIES if table_of(study)["potential"]["type"] in PAIRS])
def test_the_energy_follows_the_parameters_as_at_rest(study, results):
    """Hellmann and Feynman: dE/dtheta is that of the atoms where they are, with the cell fixed."""
    folder = results(study)
    table = table_of(study)["potential"]
    pair = PAIRS[table["type"]]
    found = json.loads((folder / "results.json").read_text())
    cutoff = float(table["cutoff"])
    onset = float(table.get("onset", 0.9 * cutoff))
    values = found["parameters"]
    for structure, of in found_of(found, study).items():
        atoms = ase.io.read(folder / relaxed_name(structure))
        vectors = numerical.images(atoms.positions, atoms.cell[:], atoms.pbc, cutoff)[3]
        r = np.linalg.norm(vectors, axis=1)
        tapered = switch((r - onset) / (cutoff - onset))

        def energy(parameters, r=r, tapered=tapered):
            return 0.5 * np.sum(tapered * pair(r, parameters))

        # The file has positions to 1e-8, at which the energy is stationary.
        assert energy(values) == pytest.approx(of["energy"], rel=1e-9)
        name = f"{structure}.energy" if structure else "energy"
        for parameter, value in values.items():
            slope = numerical.derivative(
                lambda t, parameter=parameter, energy=energy: energy(values | {parameter: t}),
                value, 1e-3 * value, noise=1e-14 * abs(of["energy"]),
            )  # fmt: skip
            size = abs(of["energy"] / value)
            numerical.agrees(found["sensitivities"][name][parameter], slope, 1e-7, scale=size)


def energy_of_silica(atoms, values):
    """The sum of the three laws over all images, in NumPy; energies in eV.

    Buckingham's law and the core with their switches, charges as of Fennell and Gezelter.
    """
    elements = np.array(atoms.get_chemical_symbols())
    first, second, _, vectors = numerical.images(atoms.positions, atoms.cell[:], atoms.pbc, 10.0)
    r, (i, j) = np.linalg.norm(vectors, axis=1), (elements[first], elements[second])

    def each_pair(name):
        places = {"Si-Si": 0, "Si-O": 1, "O-Si": 1, "O-O": 2}
        table = [values[f"{name}[{pair}]"] for pair in ("Si-Si", "Si-O", "O-O")]
        return np.array(table)[[places[f"{a}-{b}"] for a, b in zip(i, j, strict=True)]]

    law = each_pair("A") * np.exp(-r / each_pair("rho")) - each_pair("C") / r**6
    core = each_pair("epsilon") * (each_pair("sigma") / r) ** 30
    alpha, k, c = values["alpha"], values["constant"], 10.0
    edge, bell = math.erfc(alpha * c) / c, 2.0 * alpha / math.sqrt(math.pi)
    slope = edge / c + bell * math.exp(-((alpha * c) ** 2)) / c
    damped = scipy.special.erfc(alpha * r) / r - edge + (r - c) * slope
    charges = {"Si": values["q[Si]"], "O": values["q[O]"]}
    squares = sum(charges[element] ** 2 for element in elements)
    products = np.array([charges[a] * charges[b] for a, b in zip(i, j, strict=True)])
    pairs = law * switch((r - 8.0) / 2.0) + core * switch((r - 2.7) / 0.3) + k * products * damped
    own = edge + 0.5 * bell * (1.0 + math.exp(-((alpha * c) ** 2)))
    return 0.5 * np.sum(pairs) - k * squares * own


@each([study for study in STUDIES if study.name == "silica-bks"])
def test_quartz_is_at_rest_in_a_sum_of_its_own(study, results):
    folder = results(study)
    found = json.loads((folder / "results.json").read_text())
    atoms = ase.io.read(folder / "relaxed.extxyz")
    tables = table_of(study)["potential"]["parts"].values()
    values = {
        f"{name}[{key}]": number
        for table in tables
        for name, entries in table.items()
        if isinstance(entries, dict)
        for key, number in entries.items()
    } | found["parameters"]
    assert energy_of_silica(atoms, values) == pytest.approx(found["energy"], rel=1e-10)
    # Lattice sums of the potential's authors over all charges: a = 4.941 and c = 5.449 Angstrom.
    assert atoms.cell.lengths()[[0, 2]] == pytest.approx([4.941, 5.449], rel=2e-3)
    random = np.random.default_rng(1)
    for _ in range(3):
        strain, moves = random.normal(size=(3, 3)), random.normal(size=(9, 3))

        def along(t, strain=strain, moves=moves):
            place = atoms.copy()
            place.set_cell(atoms.cell[:] @ (np.eye(3) + t * strain), scale_atoms=True)
            place.positions += t * moves
            return energy_of_silica(place, values)

        # It bends by hundreds of eV.
        assert abs(along(1e-5) - along(-1e-5)) / 2e-5 < 1e-5
        assert along(1e-3) + along(-1e-3) - 2.0 * along(0.0) > 1e-5
    for name in ("A[Si-O]", "rho[O-O]", "C[O-O]", "constant", "alpha", "epsilon[Si-O]"):
        slope = numerical.derivative(
            lambda t, name=name: energy_of_silica(atoms, values | {name: t}),
            values[name], 1e-3 * values[name], noise=1e-14 * abs(found["energy"]),
        )  # fmt: skip
        size = abs(found["energy"] / values[name])
        numerical.agrees(found["sensitivities"]["energy"][name], slope, 1e-7, scale=size)


@each()
def test_a_study_compiles_few_programs(study, ran):
    most = MOST_PROGRAMS.get(study.name, MOST_OF_OTHERS)
    assert FEWEST_PROGRAMS < ran(study)[1] <= most


@each()
def test_the_derivatives_of_a_ready_study_pass_verification(study, ran):
    folder = ran(study)[0]
    some = VERIFIED_IN.get(study.name)
    settings = ("--set", f"sensitivity.wrt={json.dumps(some)}") if some else ()
    arguments = ("verify", study, *settings, *coarser(study))
    if study.name in APART:
        shown, _ = mdsens(folder, *arguments, kept=folder / "kept")
    else:
        shown = mdsens_here(*arguments)
    assert "passed" in shown
    assert "FAILED" not in shown


def test_a_ready_study_runs_on_one_core(tmp_path):
    """A process that waits for a second thread would wait for ever."""
    taskset = shutil.which("taskset")
    if taskset is None:
        pytest.skip("there is no taskset, which binds a process to a core: Linux has it")
    core = str(min(os.sched_getaffinity(0)))
    study = next(study for study in STUDIES if study.name == "argon-cluster")
    mdsens(tmp_path, "run", study, "--out", tmp_path / "results", before=(taskset, "-c", core))
    assert json.loads((tmp_path / "results" / "results.json").read_text())["converged"]
