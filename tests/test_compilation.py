"""What is compiled in a hurry, and what is not."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import compilation
from mdsens.compilation import SMALL, compiled, nobody_decided


def recorded(monkeypatch):
    """The options that each program is compiled with from now on."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    seen = []
    compile_ = jax.stages.Lowered.compile

    def watched(self, compiler_options=None):
        seen.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", watched)
    return seen


def test_few_numbers_are_compiled_in_a_hurry_and_many_are_not(monkeypatch):
    options = recorded(monkeypatch)
    monkeypatch.setattr(compilation, "available_cores", lambda: 2)
    double = compiled(lambda tree: 2.0 * tree["x"])
    double({"x": np.zeros(SMALL - 1), "y": [1.0, "text", None]})
    double({"x": jnp.zeros(SMALL), "y": None})
    assert options == [compilation.HURRIED, compilation.UNHURRIED]


def test_what_is_called_seldom_is_in_a_hurry_until_it_has_computed_enough(monkeypatch):
    """However large its arguments; then it is compiled anew, at once, whatever the other limits."""
    options = recorded(monkeypatch)
    monkeypatch.setattr(compilation, "available_cores", lambda: 2)
    monkeypatch.setattr(compilation, "ENOUGH", 3 * SMALL)
    double = compiled(seldom=True)(lambda x: 2.0 * x)
    for calls in (1, 2, 3):
        assert double(np.full(SMALL, float(calls))).max() == 2.0 * calls
    assert options == [compilation.HURRIED]
    for calls in (4, 5, 6, 7):
        assert double(np.full(SMALL, float(calls))).max() == 2.0 * calls
    assert options == [compilation.HURRIED, compilation.UNHURRIED]
    much = compiled(seldom=True, much=SMALL)(lambda x: 2.0 * x)
    much(np.zeros(SMALL))
    assert options[2:] == [compilation.UNHURRIED]


def test_a_kind_of_argument_asks_for_options_wherever_it_is(monkeypatch):
    options = recorded(monkeypatch)

    class Long(eqx.Module):
        x: jax.Array
        compiler_options: ClassVar = {"xla_cpu_use_fusion_emitters": False}

    double = compiled(lambda tree: 2.0 * jax.tree.leaves(tree)[0])
    long = Long(jnp.zeros(SMALL))
    double({"sum": (long, None)})
    double({"sum": (long.x, None)})
    asked = {"xla_cpu_use_fusion_emitters": False}
    assert options[0] == {**(options[1] or {}), **asked} != options[1]


@pytest.mark.parametrize("size", [1, SMALL])
def test_passes_that_are_left_out_add_up(monkeypatch, size):
    """Those of a hurry, what an argument asks for, and what would share steps on one core."""
    options = recorded(monkeypatch)

    class Other(eqx.Module):
        x: jax.Array
        compiler_options: ClassVar = {compilation.DISABLED: "reshape-decomposer"}

    for cores in (1, 2):
        monkeypatch.setattr(compilation, "available_cores", lambda cores=cores: cores)
        compiled(lambda other: 2.0 * other.x)(Other(jnp.zeros(size)))
    left_out = [set(each[compilation.DISABLED].split(",")) for each in options]
    usual = {"reshape-mover", "while-loop-invariant-code-motion"} if size < SMALL else set()
    assert left_out[1] == usual | {"reshape-decomposer"}
    assert left_out[0] == left_out[1] | {"cpu-parallel-task-assigner"}


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.make_jaxpr])
def test_inside_a_transformation_nothing_is_a_program_of_its_own(monkeypatch, transform):
    options = recorded(monkeypatch)
    double = compiled(lambda x: 2.0 * x)
    transform(double)(jnp.ones(()) if transform is jax.grad else jnp.ones(2))
    # Arguments that nobody traces are in no hurry while something else is traced.
    jax.jit(lambda x: x * double(np.ones(2)))(1.0)
    assert options == []


@pytest.mark.parametrize(
    "transform",
    [jax.grad, jax.vmap, lambda f: lambda x: jax.jvp(f, (x,), (x,))],
    ids=["grad", "vmap", "jvp"],
)
def test_what_a_transformation_does_not_trace_has_its_numbers_from_programs(monkeypatch, transform):
    options = recorded(monkeypatch)
    double = compiled(lambda x: 2.0 * x)

    def function(x):
        found = double(np.ones(2))
        assert not isinstance(found, jax.core.Tracer)
        return x * found[0]

    for _ in range(2):
        transform(function)(jnp.ones(2 if transform is jax.vmap else ()))
    assert options == [compilation.HURRIED]


def test_what_is_imported_while_jax_traces_knows_inside_from_outside():
    code = """
import jax, numpy
def double(x):
    from mdsens.compilation import compiled
    return compiled(lambda x: [2.0 * x, isinstance(x, jax.core.Tracer), "text"])(x)
def function(x):
    assert isinstance(double(x)[0], jax.core.Tracer)
    return x
jax.jit(function)(1.0)
found = double(numpy.ones(2))
assert found[0].tolist() == [2.0, 2.0] and found[1:] == [True, "text"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", True),
        ("--xla_force_host_platform_device_count=4", True),
        ("--xla_backend_optimization_level=3", False),
        ("--xla_cpu_use_fusion_emitters=true", False),
        ("--xla_cpu_prefer_vector_width=256", False),
    ],
)
def test_who_sets_options_for_all_programs_has_them(monkeypatch, flags, expected):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert nobody_decided() == expected


@pytest.mark.parametrize(("heavy", "name"), [(False, "OFTEN"), (True, "OFTEN_IF_HEAVY")])
def test_what_is_called_often_is_compiled_without_hurry(monkeypatch, heavy, name):
    options = recorded(monkeypatch)
    monkeypatch.setattr(compilation, name, 3)
    monkeypatch.setattr(compilation, "ENOUGH", 0)
    twice = compiled(heavy=heavy)(lambda x: 2.0 * x)
    for calls in (1, 2, 3):
        assert twice(np.full(2, float(calls))).tolist() == [2.0 * calls] * 2
    assert options == [compilation.HURRIED]
    for calls in (4, 5, 6, 7, 8):
        assert twice(np.full(2, float(calls))).tolist() == [2.0 * calls] * 2
    assert options == [compilation.HURRIED, compilation.UNHURRIED]


def test_the_fewer_numbers_a_program_computes_the_more_often_it_is_called_in_a_hurry(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(compilation, "ENOUGH", 100_000)
    twice = compiled(heavy=True)(lambda x: 2.0 * x)
    for size in (1, 100, 5000):
        twice(np.ones(size))
    allowed = [program.calls for program in twice._programs.values()]
    assert allowed == [100_000, 1000, compilation.OFTEN_IF_HEAVY]


def test_what_computes_more_than_its_limit_is_compiled_without_hurry_at_once(monkeypatch):
    options = recorded(monkeypatch)
    twice = compiled(much=100)(lambda x: 2.0 * x)
    for size in (99, 100):
        twice(np.ones(size))
    assert options == [compilation.HURRIED, compilation.UNHURRIED]


@pytest.mark.promotes("a truth value is multiplied by whole numbers")
def test_a_program_serves_arrays_of_its_kind_alone(monkeypatch):
    options = recorded(monkeypatch)
    shown = compiled(lambda x, factor, name: {name: factor * x})
    calls = [
        (np.ones(2), 2.0, "a"),
        (jnp.zeros(2), 2.0, "a"),
        (np.ones(3), 2.0, "a"),
        (np.ones(2), -2.0, "a"),
        (np.ones(2, int), 1, "a"),
        (np.ones(2, int), True, "a"),
        (np.ones(2), 2.0, "b"),
    ]
    counts = []
    for x, factor, name in calls:
        found = shown(x, factor, name=name)
        assert list(found) == [name]
        assert found[name].tolist() == (factor * np.asarray(x)).tolist()
        counts.append(len(options))
    assert counts == [1, 1, 2, 3, 4, 5, 6]
    shown.forget()
    shown(*calls[0][:2], name="a")
    assert len(options) == 7


def test_threads_that_ask_for_one_program_make_it_once(monkeypatch):
    options = recorded(monkeypatch)

    def slow(x):
        time.sleep(0.2)
        return x + 1.0

    add = compiled(slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(add, np.arange(4.0)))
    assert [float(one) for one in found] == [1.0, 2.0, 3.0, 4.0]
    assert len(options) == 1


def test_a_program_that_fails_is_tried_again():
    failures = [ValueError("first"), None]

    def function(x):
        if (error := failures.pop(0)) is not None:
            raise error
        return x

    once = compiled(function)
    with pytest.raises(ValueError, match="first"):
        once(np.ones(1))
    assert once(np.ones(1)).tolist() == [1.0]


def test_memory_that_is_given_away_is_written_over():
    @compiled(heavy=True, donate="all-except-first")
    def added(kept, given):
        return given + kept

    kept, given = jnp.ones(5), jnp.zeros(5)
    assert added(kept, given).tolist() == [1.0] * 5
    assert given.is_deleted()
    assert not kept.is_deleted()


def test_calls_of_the_host_reach_this_process():
    seen = []

    @compiled
    def told(x):
        def tell(x):
            seen.append(x.tolist())
            return x

        return jax.lax.cond(x[0] > 0, lambda: jax.pure_callback(tell, x, x), lambda: x)

    for value in (1.0, 2.0):
        assert told(np.full(1, value)).tolist() == [value]
    assert seen == [[1.0], [2.0]]


@pytest.mark.parametrize(("option", "expected"), [("no_such_option", False), (None, True)])
def test_options_that_xla_has_forgotten_are_left_out(monkeypatch, option, expected):
    if option is not None:
        monkeypatch.setattr(compilation, "HURRIED", {option: 1})
    monkeypatch.delenv("XLA_FLAGS")
    compilation.accepted.cache_clear()
    try:
        assert compilation.accepted() == expected
        assert compiled(lambda x: x + 1.0)(np.zeros(2)).tolist() == [1.0, 1.0]
    finally:
        compilation.accepted.cache_clear()


class Spring(eqx.Module):
    stiffness: jax.Array

    @compiled
    def energy(self, x):
        return 0.5 * jnp.sum(self.stiffness * x**2)


def test_a_method_is_compiled_by_itself_and_within_everything_else(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    spring, x = Spring(jnp.asarray(3.0)), jnp.asarray([1.0, 2.0])
    assert spring.energy(x) == 7.5
    np.testing.assert_allclose(jax.grad(spring.energy)(x), 3.0 * x)
    np.testing.assert_allclose(jax.jit(jax.vmap(spring.energy))(x[:, None]), 1.5 * x**2)
    assert jax.jit(lambda s: s.energy(x))(spring) == 7.5


def test_garbage_is_collected_again_once_all_threads_have_traced():
    assert gc.isenabled()
    tracing, go_on, states = threading.Event(), threading.Event(), []

    def slow(x):
        tracing.set()
        states.append(gc.isenabled())
        assert go_on.wait(60.0)
        return x

    def fails(x):
        states.append(gc.isenabled())
        raise ValueError("as it should")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(compiled(slow), np.ones(1))
        assert tracing.wait(60.0)
        with pytest.raises(ValueError, match="as it should"):
            compiled(fails)(np.ones(1))
        assert not gc.isenabled()
        go_on.set()
        other.result()
    assert gc.isenabled()
    assert states == [False, False]


def test_threads_that_call_often_compile_without_hurry_once(monkeypatch):
    options = recorded(monkeypatch)
    monkeypatch.setattr(compilation, "OFTEN", 20)
    monkeypatch.setattr(compilation, "ENOUGH", 0)
    twice = compiled(lambda x: 2.0 * x)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(twice, np.arange(400.0)))
    assert [float(one) for one in found] == [2.0 * number for number in range(400)]
    assert options == [compilation.HURRIED, compilation.UNHURRIED]
