"""What is compiled in a hurry, and what is not."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import compilation
from mdsens.compilation import SMALL, compiled, is_small, nobody_decided


def test_few_numbers_are_small_and_many_are_not():
    few = {"x": np.zeros(SMALL - 3), "y": [1.0, "text", None]}
    assert is_small((few,))
    assert not is_small((few, jnp.zeros(3)))


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.make_jaxpr])
def test_inside_a_transformation_nothing_is_a_program_of_its_own(transform):
    seen = []

    def function(x):
        seen.append(is_small((x,)))
        return 2.0 * x

    transform(function)(jnp.ones(()) if transform is jax.grad else jnp.ones(2))
    assert seen == [False]


def test_arguments_that_nobody_traces_are_in_no_hurry_while_something_else_is_traced():
    seen = []

    @jax.jit
    def function(x):
        seen.append(is_small((np.ones(2),)))
        return x

    function(1.0)
    assert seen == [False]


def test_what_is_imported_while_jax_traces_knows_inside_from_outside():
    code = """
import jax, numpy
def ask():
    from mdsens.compilation import is_small
    return is_small((numpy.ones(2),))
def function(x):
    assert not ask()
    return x
jax.jit(function)(1.0)
assert ask()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", True),
        ("--xla_force_host_platform_device_count=4", True),
        ("--xla_backend_optimization_level=3", False),
        ("--xla_cpu_use_fusion_emitters=true", False),
    ],
)
def test_who_sets_options_for_all_programs_has_them(monkeypatch, flags, expected):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert nobody_decided() == expected


def test_the_compiler_gets_the_options_for_what_is_small_alone(monkeypatch):
    monkeypatch.setattr(compilation, "HURRIED", {"no_such_option": 1})
    monkeypatch.setattr(compilation, "accepted", lambda: True)
    monkeypatch.delenv("XLA_FLAGS")

    @compiled
    def total(x):
        return jnp.sum(x)

    assert total(jnp.ones(SMALL)) == SMALL
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        total(jnp.ones(SMALL - 1))


def test_what_is_called_often_is_compiled_without_hurry(monkeypatch):
    monkeypatch.setattr(compilation, "HURRIED", {"no_such_option": 1})
    monkeypatch.setattr(compilation, "accepted", lambda: True)
    monkeypatch.setattr(compilation, "OFTEN", 3)
    monkeypatch.delenv("XLA_FLAGS")

    @compiled
    def twice(x):
        return 2.0 * x

    for _ in range(3):
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
            twice(np.ones(2))
    assert twice(np.ones(2)).tolist() == [2.0, 2.0]


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
