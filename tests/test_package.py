"""The package as a whole: fast to import, in the right precision, with arrows that go one way."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import mdsens
import mdsens.errors

SOURCE = Path(mdsens.__file__).parent
#: The floors of the house, from the ground up: a room knows those below it.
FLOORS = (
    ("linalg", "implicit", "pages"),
    ("layers", "particles"),
    ("potentials",),
    ("mechanics",),
    ("minimisers", "testing"),
    ("relaxation",),
    ("observables",),
    ("sensitivities",),
    ("batches",),
    ("plots",),
    ("study",),
    ("cli",),
)
ROOMS = [room for floor in FLOORS for room in floor if room != "cli"]


def forbidden(room):
    """Rooms that a room may not know: those beside it and above."""
    (number,) = (number for number, floor in enumerate(FLOORS) if room in floor)
    return {other for floor in FLOORS[number:] for other in floor} - {room}


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_importing_mdsens_imports_no_jax():
    python("import mdsens, sys; assert 'jax' not in sys.modules")


def test_importing_mdsens_is_fast():
    def taken():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    # Processor time, which other work on the machine does not lengthen.
    start = taken()
    python("import mdsens")
    assert taken() - start < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import mdsens, jax", "import jax, mdsens"])
def test_precision_is_left_alone_until_particles_are_imported(order):
    """In the order of the user's imports; what knows no particles computes as JAX is set."""
    python(
        f"{order}, mdsens.implicit, mdsens.layers\n"
        "import jax.numpy as jnp\n"
        "solver = mdsens.layers.FixedPointIteration(lambda x, a: 0.5 * (x + a / x))\n"
        "root = lambda a: solver.run(1.0, a).params\n"
        "slope = jax.grad(root)(2.0)\n"
        "assert slope.dtype == 'float32' and abs(slope - 0.125**0.5) < 1e-6, slope\n"
        "mdsens.System\n"
        "assert jnp.zeros(1).dtype == 'float64'"
    )


@pytest.mark.slow
@pytest.mark.parametrize("room", ["potentials", "study.study"])
def test_double_precision_is_on_where_particles_are(room):
    python(f"import mdsens.{room}, jax.numpy; assert jax.numpy.zeros(1).dtype == 'float64'")


@pytest.mark.slow
def test_without_double_precision_particles_are_refused_in_a_line():
    system = mdsens.System([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]], pbc=False, units="reduced")
    potential = mdsens.potentials.LennardJones(epsilon=1.0, sigma=1.0, cutoff=3.0)
    relaxed = mdsens.relax(system, potential)
    jax.config.update("jax_enable_x64", False)
    try:
        for call in (
            lambda: mdsens.System([[0.0, 0.0, 0.0]]),
            lambda: mdsens.relax(system, potential),
            lambda: mdsens.sensitivity(relaxed, "energy"),
            lambda: mdsens.relax_batch([system], potential),
        ):
            with pytest.raises(mdsens.errors.InputError, match="double precision is off") as line:
                call()
            assert "\n" not in str(line.value)
    finally:
        jax.config.update("jax_enable_x64", True)


def imported(path):
    """Rooms of mdsens that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "mdsens":
                names = [f"mdsens.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("mdsens."))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_those_below_it(room):
    files = list((SOURCE / room).glob("**/*.py"))
    assert files
    for path in files:
        assert not set(imported(path)) & forbidden(room), path


def test_nothing_imports_the_command_line():
    for path in SOURCE.glob("**/*.py"):
        if path.name not in ("cli.py", "__main__.py"):
            assert "cli" not in set(imported(path)), path


@pytest.mark.slow
def test_every_public_name_is_there():
    python("import mdsens; [getattr(mdsens, name) for name in mdsens.__all__]")


@pytest.mark.slow
def test_the_public_face_is_all_that_dir_shows():
    """Also after everything has been imported, which leaves modules and helpers in the package."""
    shown = "import mdsens; [getattr(mdsens, n) for n in mdsens.__all__]; print(*dir(mdsens))"
    assert python(shown).stdout.split() == sorted([*mdsens.__all__, "__version__"])


def test_every_error_is_in_the_public_face_and_is_imported_without_jax():
    family = [
        name
        for name, kind in vars(mdsens.errors).items()
        if isinstance(kind, type) and kind.__module__ == "mdsens.errors"
    ]
    assert "MdsensError" in family
    python(
        f"import mdsens, sys; [getattr(mdsens, name) for name in {family}]\n"
        "assert 'jax' not in sys.modules"
    )


def test_type_checkers_of_users_read_the_annotations():
    assert (SOURCE / "py.typed").is_file()


def test_no_file_imports_a_private_name_of_another():
    private = [
        f"{path.relative_to(SOURCE)}: {node.module}.{alias.name}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mdsens")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not private
