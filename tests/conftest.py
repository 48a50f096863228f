"""What all tests share. The folder of this file is where `cases` and `numerical` are found."""

import gc
import os
import sys
import threading
from pathlib import Path

# The tests compile much and compute little: less optimised code, by the older emitters, is there in
# a quarter of the time, and a quarter sooner without the two passes that go round and round over
# long programs; what holds each pass against XLA's own rules takes a twentieth. Before anything
# imports JAX.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_disable_hlo_passes=reshape-mover,while-loop-invariant-code-motion,hlo-verifier",
)


# A hundred commands are started, each of which would translate all of mdsens anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Two test processes with as many threads for linear algebra each would wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Commands that tests start keep nothing in the user's folders.
os.environ.setdefault("MDSENS_CACHE", "off")

# Whoever loads compiled code is told at length about preferences of the compiler.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# What one test process has compiled the other need not compile again, nor the next run: a fifth of
# the time of a first run, two thirds of that of a second. Two of three programs are of an operation
# or a few, and compiled again in the time that it takes to write or to read them.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache/d/compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.03")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Nobody reads from which line of Python an operation of a program came.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import jax
import pytest
import type_checks
from jax._src.interpreters import mlir
from thorough_runs import COLLECTED, SLOW, THOROUGH, thorough

# Fixtures of folders. pytest 9.1 loses those of a conftest in a folder whose files are given on one
# command line with others of this folder between them.
pytest_plugins = ["lammps_library", "study_fixtures"]

# What is imported lives on, and would be looked through for garbage again and again.
gc.disable()

# Likewise the processes that test.
sys.dont_write_bytecode = False

# Before anything imports them. The filter of warnings has imported mdsens itself.
type_checks.install()

# JAX makes a context of MLIR for each program, which takes half of the time that a small one does.
# Here programs of a thread share one, but for those that are compiled while another is made. As it
# lets go of nothing, each file of tests has its own.
CONTEXTS = threading.local()
if make_context := getattr(mlir, "make_ir_context", None):

    def shared_context():
        """The context of this thread, or a new one while that is in use."""
        try:
            in_use = mlir.ir.Context.current is not None
        except ValueError:
            in_use = False
        if in_use:
            return make_context()
        if not hasattr(CONTEXTS, "shared"):
            CONTEXTS.shared = make_context()
        return CONTEXTS.shared

    mlir.make_ir_context = shared_context

# What is tested without particles is compared to more digits than single precision has.
jax.config.update("jax_enable_x64", True)

# What joins arrays of different types or ranks says what it means.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# XLA reads its flags once: a first test that takes them away would have its process without.
jax.devices()


#: Groups of tests that take longest: they begin, so that no process is left alone with one of them.
LONGEST = (
    "documentation", "test_every_solver", "test_constraints", "lammps", "cell-modes",
    "test_elasticity", "vibrations", "test_kept_programs", "snap-lammps", "calculator", "ace",
    "site", "jax-md", "sweeps", "test_quadratic_program", "test_calculator_potentials",
    "hessian-solver", "test_jaxopt_options", "geometries", "study tungsten-vacancy-snap",
    "test_reference_lattice", "test_workers", "study silica-bks", "relax", "test_nonlinear_program",
    "meta-learning", "test_variables", "quasi_harmonic", "sensitivity-batch", "closed-form-metals",
    "phonons", "test_combined", "test_bonded", "test_root", "test_sparse_solver",
    "test_energies_of_structures", "certificate", "checkpoints", "test_energy_function", "testing",
    "relax-batch", "test_born_stability", "study silicon-tersoff", "test_jaxopt_examples",
    "test_linear", "study argon-phonons", "study silicon-vacancy", "test_verify", "snap", "archive",
    "test_run", "test_cutoffs", "test_one_core", "tersoff", "own-potentials", "unrolled",
    "test_composite", "test_host_solvers", "sw-binary-triclinic", "test_program_operators",
    "study silicon-thermal-expansion", "observables", "test_loads", "quasi-harmonic ions", "edip",
    "eam", "test_pictures", "test_stochastic_bilevel", "test_package", "test_conditions",
    "test_cli", "decision-focused-learning", "vashishta", "test_conic_program", "particles",
)  # fmt: skip


def pytest_configure(config):
    # Those of few tests would come last.
    config.option.loadscopereorder = False


def pytest_collection_finish():
    """Garbage is looked for among what tests make; tracing makes much that lives on, too."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
    gc.enable()


def group_of(item):
    """The name of the group whose tests one process runs."""
    marker = item.get_closest_marker("xdist_group")
    return marker.args[0] if marker.args else marker.kwargs["name"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The tests of a file share what they compute and trace: one process runs them all."""
    for item in items:
        name = item.name.split("@")[0]
        COLLECTED.add(f"{item.path.name}::{name}")
        for key in (name, name.split("[")[0]):
            if elsewhere := THOROUGH.get(f"{item.path.name}::{key}"):
                item.add_marker(thorough(elsewhere))
            if f"{item.path.name}::{key}" in SLOW:
                item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(group_of(item), len(rank)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Other programs and notebooks promote as they like.

    Fast tests, of which each mechanism has one, hold annotations to the first calls of each
    function and to some of those that follow. Where MDSENS_EVERY_CALL is set, all calls of all
    tests are: it takes a seventh of all time.
    """
    spared = any(item.get_closest_marker(name) for name in ("slow", "peer", "notebook"))
    type_checks.called.clear()
    type_checks.active = not spared or type_checks.EVERY
    if not any(item.get_closest_marker(name) for name in ("notebook", "peer", "promotes")):
        return (yield)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return (yield)


@pytest.fixture
def case(request):
    """A case by the names of its potential and its cell."""
    import cases

    return cases.case(*request.param)


#: Of memory maps, of which a Linux process has 65,530 and a compiled function takes about ten; and
#: of gigabytes, by how many a process has grown.
MOST_MAPS, MOST_GROWTH = 20_000, 1.5
#: In gigabytes, once compiled code was let go.
resident_after = [1.0]


def resident():
    """Gigabytes of memory of this process; zero where Linux does not tell."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * 4096e-9 if told.exists() else 0.0


@pytest.fixture(autouse=True, scope="module")
def _compiled_code_is_let_go():
    """A process without maps left dies in the compiler, and one that grows leaves no room."""
    yield
    from mdsens.compilation import forget_programs

    vars(CONTEXTS).clear()
    maps = Path("/proc/self/maps")
    many = maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS
    if many or resident() > resident_after[0] + MOST_GROWTH:
        jax.clear_caches()
        forget_programs()
        gc.collect()
        resident_after[0] = resident()
