"""What a run computes at its end is compiled while it relaxes, and changes nothing."""

import threading

import jax
import numpy as np
import pytest

import mdsens
from mdsens import compilation
from mdsens.compilation import RehearsalEndedError, compiled, forget_programs, rehearsing
from mdsens.study import load_study, rehearsal, run_study


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Two cores, and no earlier run of the study."""
    monkeypatch.setattr(rehearsal, "available_cores", lambda: 2)
    monkeypatch.setattr(rehearsal, "knows_task", lambda: False)


@pytest.fixture
def made():
    """Names of the threads in which each program is made, by its name."""
    found = {}

    def heard(event, _, **about):
        if event.endswith("backend_compile_duration"):
            found.setdefault(about.get("fun_name"), []).append(threading.current_thread())

    jax.monitoring.register_event_duration_secs_listener(heard)
    forget_programs()
    yield found
    jax.monitoring.unregister_event_duration_listener(heard)


def test_a_rehearsal_makes_what_comes_after_the_relaxation(trimer, made):
    study = load_study(trimer)
    with rehearsal.rehearsal(study):
        (thread,) = (one for one in rehearsal._threads if one.is_alive())
        thread.join()
    assert not rehearsal.under_way()
    before = {name: len(threads) for name, threads in made.items()}
    assert before["jit(_changes)"] == before["jit(_compiled_values)"] == 1
    equilibrium = study.relax()
    found = mdsens.sensitivity(equilibrium, study.observables, study.parameters)
    # Beside what relaxes and what is computed at the very end there is nothing left to make.
    more = {name for name, threads in made.items() if len(threads) > before.get(name, 0)}
    assert not {"jit(_changes)", "jit(_compiled_values)", "jit(directional_change)"} & more
    assert np.isfinite(found["energy"]["sigma"])


@pytest.mark.parametrize("cores", [1, 2])
def test_results_are_the_same_with_and_without(cores, trimer, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "available_cores", lambda: cores)
    forget_programs()
    study, began = load_study(trimer), len(rehearsal._threads)
    with_it = run_study(study, tmp_path / "with", report=False, rehearsed=True)
    assert len(rehearsal._threads) - began == cores - 1
    without = run_study(study, tmp_path / "without", report=False)
    for name in ("observables", "sensitivities", "sensitivity_errors", "certificate"):
        assert with_it.results[name] == without.results[name], name
    timing = with_it.results["timing"]
    assert timing["compile_s"] <= timing["relax_s"] + timing["sensitivity_s"]


def test_a_mistake_is_said_by_the_run_alone(trimer, monkeypatch, recwarn):
    def fails(*_):
        mdsens.errors.warn("never heard")
        raise mdsens.errors.InputError("never seen")

    monkeypatch.setattr(rehearsal, "rehearse", fails)
    with rehearsal.rehearsal(load_study(trimer)):
        rehearsal._threads[-1].join()
    assert not recwarn.list


def test_calls_of_a_rehearsal_are_not_counted(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(compilation, "OFTEN", 2)
    monkeypatch.setattr(compilation, "ENOUGH", 0)
    double = compiled(lambda x: 2.0 * x)
    with rehearsing(lambda: False):
        for _ in range(5):
            assert double(np.ones(1)) == 2.0
    (program,) = double._programs.values()
    assert program.calls_left == 2
    with rehearsing(lambda: True), pytest.raises(RehearsalEndedError):
        double(np.ones(1))
