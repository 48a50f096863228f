"""A relaxation that is interrupted goes on from its checkpoint, and ends at the same bits."""

import os
import signal
import subprocess
import sys
import time

import ase.build
import cases
import jax
import numpy as np
import pytest

import mdsens
from mdsens.compilation import compiled, hurried_while
from mdsens.errors import InputError, MdsensWarning, RelaxationError
from mdsens.potentials import LennardJones, Morse
from mdsens.relaxation import checkpoint as checkpoints

pytestmark = pytest.mark.xdist_group("checkpoints")

POTENTIAL = LennardJones(1.0, 1.0, cutoff=2.5, onset=2.0)
#: Methods whose memory is arrays, with the largest force that they reach in a few hundred steps.
EXACT = {"fire": 1e-8, "lbfgs": 1e-10, "cg": 1e-8, "gradient-descent": 1e-4, "auto": 1e-10}
#: Steps between two looks at the clock here.
STEPS = 5


class InterruptedHereError(Exception):
    """Raised from a callback."""


def cluster(repeat=(2, 2, 2)):
    """A cluster of 32 atoms far from rest, whose edges are found anew on its way."""
    atoms = ase.build.bulk("Ar", "fcc", a=1.6, cubic=True).repeat(repeat)
    atoms.pbc = False
    atoms.rattle(0.08, seed=3)
    return mdsens.System.from_ase(atoms, units="reduced")


def stop_after(steps):
    """A callback that interrupts a relaxation once it has taken so many steps."""

    def callback(step, *_):
        if step >= steps:
            raise InterruptedHereError

    return callback


@pytest.fixture
def often(monkeypatch):
    """Checkpoints after each segment, and segments of a few steps."""
    monkeypatch.setattr(checkpoints, "SHARE", np.inf)
    monkeypatch.setattr("mdsens.relaxation.driver.SEGMENT_STEPS", STEPS)
    return {"checkpoint_every": 1e-9}


def interrupted(path, steps, **options):
    with pytest.raises(InterruptedHereError):
        mdsens.relax(cluster(), POTENTIAL, checkpoint=path, callback=stop_after(steps), **options)
    assert path.is_file()


def same_bits(one, other):
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.history.forces, other.history.forces)
    assert np.array_equal(one.history.enthalpies, other.history.enthalpies)
    assert one.history.methods == other.history.methods
    assert one.history.evaluations == other.history.evaluations


@pytest.mark.parametrize(
    "method",
    [
        "lbfgs",
        *(
            pytest.param(method, marks=pytest.mark.slow)
            # All states of minimisers are kept alike.
            for method in cases.with_others(["fire"], ["cg", "gradient-descent", "auto"])
        ),
    ],
)
def test_it_goes_on_with_the_same_bits(method, tmp_path, often, monkeypatch):
    """Also where code was compiled again without hurry meanwhile: the course tells when."""
    monkeypatch.setattr("mdsens.relaxation.driver.OFTEN_IF_HEAVY", 3)
    path, options = tmp_path / "relaxation.npz", {"method": method, "fmax": EXACT[method], **often}
    whole = mdsens.relax(cluster(), POTENTIAL, checkpoint=path, **options)
    assert whole.history.steps > 6 * STEPS
    assert not path.exists()
    seen = []
    interrupted(path, 2 * STEPS, **options)
    interrupted(path, 5 * STEPS, **options)
    found = mdsens.relax(
        cluster(),
        POTENTIAL,
        checkpoint=path,
        callback=lambda step, *_: seen.append(step),
        **options,
    )
    assert seen[0] > 4 * STEPS
    same_bits(found, whole)
    assert not path.exists()


@pytest.mark.slow
def test_a_cell_under_pressure_goes_on_with_the_same_bits(tmp_path, often):
    atoms = ase.build.bulk("Ar", "fcc", a=1.6, cubic=True)
    atoms.rattle(0.05, seed=1)
    system, path = mdsens.System.from_ase(atoms, units="reduced"), tmp_path / "a.npz"
    options = {"cell": "full", "pressure": 0.1, "method": "fire", "fmax": 1e-6, **often}
    whole = mdsens.relax(system, POTENTIAL, checkpoint=path, **options)
    with pytest.raises(InterruptedHereError):
        mdsens.relax(system, POTENTIAL, checkpoint=path, callback=stop_after(50), **options)
    found = mdsens.relax(system, POTENTIAL, checkpoint=path, **options)
    same_bits(found, whole)
    assert np.array_equal(found.system.cell, whole.system.cell)
    assert np.array_equal(found.history.stresses, whole.history.stresses)


@pytest.mark.slow
@pytest.mark.parametrize("method", cases.with_others(["newton"], ["preconditioned-lbfgs"]))
def test_a_hessian_is_made_anew(method, tmp_path, often):
    """The bits may differ then, and the minimum is the same as far as its forces tell."""
    system, path = cluster((1, 1, 2)), tmp_path / "a.npz"
    options = {"method": method, "fmax": 1e-10, **often}
    whole = mdsens.relax(system, POTENTIAL, **options)
    steps = whole.history.steps // 2
    with pytest.raises(InterruptedHereError):
        mdsens.relax(system, POTENTIAL, checkpoint=path, callback=stop_after(steps), **options)
    found = mdsens.relax(system, POTENTIAL, checkpoint=path, **options)
    assert found.history.forces[-1] <= 1e-10
    assert not path.exists()
    np.testing.assert_array_equal(found.history.forces[:steps], whole.history.forces[:steps])
    np.testing.assert_allclose(float(found.energy), float(whole.energy), rtol=1e-12)


def test_what_does_not_fit_is_refused_in_a_line(tmp_path, often):
    path, options = tmp_path / "a.npz", {"method": "lbfgs", "fmax": 1e-10, **often}
    interrupted(path, 2 * STEPS, **options)
    kept = path.read_bytes()
    others = {
        "potential": (cluster(), LennardJones(1.001, 1.0, cutoff=2.5, onset=2.0), {}),
        "kind": (cluster(), Morse(1.0, 5.0, 1.0, 2.5), {}),
        "structure": (mdsens.System(cluster().positions + 1e-12, units="reduced"), POTENTIAL, {}),
        "fixed": (cluster(), POTENTIAL, {"fixed": [0]}),
        "fmax": (cluster(), POTENTIAL, {"fmax": 1e-9}),
        "method": (cluster(), POTENTIAL, {"method": "fire"}),
    }
    for system, potential, changed in others.values():
        with pytest.raises(InputError, match=r"of another relaxation.*remove it") as error:
            mdsens.relax(system, potential, checkpoint=path, **(options | changed))
        assert "\n" not in str(error.value)
    for damaged in (kept[: len(kept) // 2], kept[:1000] + b"x" * 50 + kept[1050:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged|no result") as error:
            mdsens.relax(cluster(), POTENTIAL, checkpoint=path, **options)
        assert "remove it" in str(error.value)
        assert "\n" not in str(error.value)
    bad_paths = (tmp_path / "a.txt", "ending is .npz"), (tmp_path / "b" / "a.npz", "no folder")
    for bad, line in bad_paths:
        with pytest.raises(InputError, match=line):
            mdsens.relax(cluster(), POTENTIAL, checkpoint=bad)
    with pytest.raises(InputError, match="checkpoint_every = 0"):
        mdsens.relax(cluster(), POTENTIAL, checkpoint_every=0)
    with pytest.raises(InputError, match="traced"):
        jax.jit(lambda p: mdsens.relax(cluster(), p, checkpoint=path).energy)(POTENTIAL)


def test_more_steps_may_be_allowed_and_a_failed_relaxation_leaves_no_file(tmp_path, often):
    path, options = tmp_path / "a.npz", {"method": "lbfgs", "fmax": 1e-10, **often}
    interrupted(path, 2 * STEPS, max_steps=3 * STEPS, **options)
    found = mdsens.relax(cluster(), POTENTIAL, checkpoint=path, **options)
    assert found.history.forces[-1] <= 1e-10
    interrupted(path, 2 * STEPS, **options)

    def fail(*_):
        raise RelaxationError("the structure flies apart")

    with pytest.raises(RelaxationError):
        mdsens.relax(cluster(), POTENTIAL, checkpoint=path, callback=fail, **options)
    assert not path.exists()


def test_a_full_disk_is_told_and_ends_nothing(tmp_path, often, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(MdsensWarning, match="No space left on device"):
        found = mdsens.relax(
            cluster(), POTENTIAL, "lbfgs", 1e-10, checkpoint=tmp_path / "a.npz", **often
        )
    assert found.history.forces[-1] <= 1e-10


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on_with_the_same_bits(tmp_path):
    """In a new process, where nothing was compiled or called before."""
    program = tmp_path / "relaxes.py"
    program.write_text(
        "import sys, time, numpy as np, mdsens, ase.build\n"
        "import mdsens.relaxation.driver as driver\n"
        "from mdsens.relaxation import checkpoint\n"
        "checkpoint.SHARE, driver.SEGMENT_STEPS = np.inf, 2\n"
        "atoms = ase.build.bulk('Ar', 'fcc', a=1.6, cubic=True).repeat(2)\n"
        "atoms.pbc = False\n"
        "atoms.rattle(0.08, seed=3)\n"
        "system = mdsens.System.from_ase(atoms, units='reduced')\n"
        "potential = mdsens.potentials.LennardJones(1.0, 1.0, cutoff=2.5, onset=2.0)\n"
        "slow = float(sys.argv[3])\n"
        "found = mdsens.relax(system, potential, 'fire', 1e-6, checkpoint=sys.argv[1],\n"
        "    checkpoint_every=1e-9,\n"
        "    callback=lambda step, *_: time.sleep(slow if step < 100 else 3600 * slow))\n"
        "np.save(sys.argv[2], np.append(found.positions, found.history.forces))\n"
    )
    path = tmp_path / "a.npz"

    def start(name, slow):
        line = [sys.executable, str(program), str(path), str(tmp_path / name), str(slow)]
        # Nobody decides for the compiler: code is compiled in a hurry first, and again later.
        env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        return subprocess.Popen(line, env=env)

    first = start("whole.npy", 0)
    assert first.wait(300) == 0
    # It does not come to its end before it is killed, however late that is.
    child = start("found.npy", 0.02)
    try:
        until = time.monotonic() + 300
        while not path.exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(1.0)
    finally:
        child.kill()
        status = child.wait()
    assert status == -signal.SIGKILL
    assert path.exists()
    assert start("found.npy", 0).wait(300) == 0
    assert np.array_equal(np.load(tmp_path / "found.npy"), np.load(tmp_path / "whole.npy"))


def test_what_decides_about_code_is_the_course_and_not_the_process(monkeypatch):
    """Which of the two programs is called, however often either was before."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    function = compiled(lambda x: x + 1.0, heavy=True)
    x, called = np.zeros(3), []

    def with_program(early):
        with hurried_while(lambda: early):
            function(x)
            (program,) = function._programs.values()
            return program

    for early in (True, False, True, False):
        program = with_program(early)
        first = program.hurried or program
        before = (first.calls_left, first.better and first.better.calls_left)
        with_program(early)
        called.append((before[0] != first.calls_left, early))
        assert (first.better is None) == (len(called) == 1)
    assert called == [(early, early) for early in (True, False, True, False)]
