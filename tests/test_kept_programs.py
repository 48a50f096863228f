"""Programs on disk: what another process may use, and what it must not."""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jaxlib
import pytest

from mdsens import kept_programs
from mdsens.compilation import compiled
from mdsens.compilation_cache import CACHE_JAXLIB
from mdsens.potentials import DampedShiftedCoulomb, PotentialSum

#: Solves with LAPACK, loops, and returns more than arrays: counted is what is compiled and read.
PROGRAM = """
import mdsens
import jax
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **about: compiled.append(about.get("fun_name"))
    if name.endswith("backend_compile_duration") else None
)
from ase.build import bulk
atoms = bulk("Ar", "fcc", 5.3, cubic=True) * 2
atoms.rattle(0.05, seed=SEED)
system = mdsens.System.from_ase(atoms)
potential = mdsens.potentials.LennardJones(0.0104, 3.4, cutoff=7.0)
equilibrium = mdsens.relax(system, potential, cell="isotropic")
found = mdsens.sensitivity(equilibrium, ["pressure", "distance(0,1)", "volume"])
print(len(compiled), repr(found.derivatives))
"""


def run(program, **environment):
    """What a new process prints, which finds none of the settings of this one."""
    left_out = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    given = inherited | {name: str(value) for name, value in environment.items()}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    # XLA would complain of every program that it loads.
    assert "XLA" not in done.stderr
    count, _, derivatives = done.stdout.partition(" ")
    return int(count), derivatives


keeps = pytest.mark.skipif(
    tuple(map(int, jaxlib.__version__.split(".")[:2])) < CACHE_JAXLIB,
    reason="this release of jaxlib cannot load on macOS what it has compiled: nothing is kept",
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which a process has kept its programs, and what it printed."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, *run(PROGRAM.replace("SEED", "1"), MDSENS_CACHE=folder)


@keeps
@pytest.mark.slow
def test_another_process_compiles_nothing_and_finds_the_same(kept):
    folder, count, derivatives = kept
    assert count > 8
    again, same = run(PROGRAM.replace("SEED", "1"), MDSENS_CACHE=folder)
    assert again == 0
    assert same == derivatives


@keeps
@pytest.mark.slow
def test_another_structure_uses_the_same_programs(kept):
    folder, count, derivatives = kept
    again, others = run(PROGRAM.replace("SEED", "2"), MDSENS_CACHE=folder)
    assert again == 0
    without, same = run(PROGRAM.replace("SEED", "2"), MDSENS_CACHE="off")
    assert without == count
    assert others == same != derivatives


@keeps
@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_programs_that_a_task_needed_are_read_ahead(kept, tmp_path):
    filled, _, derivatives = kept
    # What is noted down there is none of the programs that other tests count.
    folder = shutil.copytree(filled, tmp_path / "kept")
    ahead = "import jax\nfrom mdsens import kept_programs as kept\nkept.read_ahead('argon')\n"
    program = PROGRAM.replace("SEED", "1").replace(
        "import jax\n", ahead + "begun = len(kept._ahead)\n"
    )
    program = program.replace("len(compiled)", "len(compiled), begun, len(kept._ahead)")
    assert run(program, MDSENS_CACHE=folder) == (0, f"0 0 {derivatives}")
    compiled, told = run(program, MDSENS_CACHE=folder)
    begun, left, same = told.split(" ", 2)
    assert (compiled, same) == (0, derivatives)
    # All that was read was needed.
    assert int(begun) > 2
    assert int(left) == 0


def test_a_run_that_fails_waits_for_nothing_to_be_read(folder, monkeypatch):
    names = [digit * 64 for digit in "abc"]
    for name in names:
        (folder / f"{name}-cache").write_bytes(bytes(1))
    begun, goes_on, notes = [], threading.Event(), []
    monkeypatch.setattr(kept_programs, "_read", lambda path: (begun.append(path), goes_on.wait()))
    monkeypatch.setattr(kept_programs, "_ahead", {})
    monkeypatch.setattr(kept_programs, "available_cores", lambda: 2)
    monkeypatch.setattr(kept_programs.atexit, "register", lambda _, path: notes.append(path))
    kept_programs.read_ahead("argon")
    notes[0].write_text("\n".join(names))
    kept_programs.read_ahead("argon")
    reading = list(kept_programs._ahead.values())
    kept_programs.stop_reading_ahead()
    goes_on.set()
    concurrent.futures.wait(reading, 10)
    assert len(reading) == len(names)
    assert len(begun) <= 1


@keeps
@pytest.mark.slow
def test_processes_may_share_a_folder_at_the_same_time(kept, tmp_path):
    _, count, derivatives = kept
    programs = [PROGRAM.replace("SEED", "1")] * 2
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda program: run(program, MDSENS_CACHE=tmp_path), programs))
    assert {same for _, same in found} == {derivatives}
    # What one has finished serves another, and no file is left half-written.
    assert all(compiled <= count for compiled, _ in found)
    assert all(path.name.endswith("-cache") for path in tmp_path.glob("*/*"))
    assert run(programs[0], MDSENS_CACHE=tmp_path) == (0, derivatives)


@keeps
@pytest.mark.slow
def test_damaged_programs_are_compiled_anew(kept):
    folder, count, derivatives = kept
    files = list(folder.glob("*/*-cache"))
    # All but the one that asks which options the compiler knows.
    assert len(files) == count - 1
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert run(PROGRAM.replace("SEED", "1"), MDSENS_CACHE=folder) == (count, derivatives)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for programs, as if nothing else were kept."""
    monkeypatch.setattr(kept_programs, "folder_of_programs", lambda: tmp_path)
    monkeypatch.setattr(kept_programs, "jax_keeps", lambda: False)
    return tmp_path


@compiled
def of_this_file(x):
    return x


def name_of(described, options=None, function=kept_programs.circumstances):
    return kept_programs.name(function, described, options or {})


@pytest.mark.usefixtures("folder")
def test_what_decides_about_a_program_is_in_its_name(monkeypatch):
    names = [
        name_of((1.0, "a")),
        name_of((1.0, "b")),
        name_of((1, "a")),
        name_of((1.0, "a"), {"xla_backend_optimization_level": 0}),
        name_of((1.0, "a"), function=kept_programs.read),
    ]
    monkeypatch.setattr(kept_programs, "circumstances", lambda: ("another release",))
    names.append(name_of((1.0, "a")))
    assert None not in names
    assert len(set(names)) == len(names)


@pytest.mark.usefixtures("folder")
def test_equal_parts_have_one_name_whether_they_are_one_object_or_two():
    text = "".join(["long ", "text"])
    assert name_of((text, text)) == name_of((text, "".join(["long ", "text"])))


@pytest.mark.usefixtures("folder")
def test_potentials_that_have_been_taken_apart_are_kept():
    charges = DampedShiftedCoulomb([2.4, -1.2], 0.2, 10.0, ("Si", "O"))
    assert name_of(jax.tree.map(str, PotentialSum([charges]))) is not None


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "given", [lambda x: x, Path("."), test_damaged_programs_are_compiled_anew, of_this_file]
)
def test_code_that_may_change_under_its_name_is_not_kept(given):
    assert name_of((given,)) is None


@pytest.mark.usefixtures("folder")
def test_functions_of_others_are_not_kept():
    def local(x):
        return x

    assert name_of((), function=of_this_file) is None
    assert name_of((), function=local) is None


def test_nothing_is_kept_where_jax_keeps_its_own(folder, monkeypatch):
    assert name_of(()) is not None
    monkeypatch.setattr(kept_programs, "jax_keeps", lambda: True)
    assert name_of(()) is None


def test_names_change_with_every_file_of_the_package():
    files, *_ = kept_programs.circumstances()
    package = Path(kept_programs.__file__).parent
    assert len(files) == len(list(package.rglob("*.py")))
