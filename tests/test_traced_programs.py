"""What is counted in a program that JAX has traced, and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import compilation
from mdsens.compilation import HURRIED, UNHURRIED, compiled
from mdsens.traced_programs import TERMS, calls_host, numbers_computed


def loop(x):
    return jax.lax.scan(lambda total, one: (total + one * x, None), x, jnp.arange(7.0))[0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + 1.0, 5),
        (lambda x: jnp.sum(x * x), 5 + 1),
        # 5 by 5 numbers, each of one product; and five numbers of five terms, which are a few.
        (lambda x: jnp.outer(x, x) @ x, 25 + 5),
        (lambda x: jnp.tile(x, 13) @ jnp.ones(65), 65 + 65 + -(-65 // TERMS)),
        (loop, 7 + 7 * 10),
        (jax.jit(lambda x: x * x), 5),
        (lambda x: jax.lax.cond(x[0] > 0, lambda x: x * x * x, lambda x: x + 1.0, x), 10),
    ],
)
def test_numbers_are_counted_as_often_as_they_are_computed(function, expected):
    found = numbers_computed(jax.make_jaxpr(function)(jnp.ones(5)).jaxpr)
    # Shapes are changed and numbers taken out beside that.
    assert expected <= found <= expected + 15


def test_what_computes_much_is_compiled_without_hurry_at_once(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(compilation, "MUCH", 1000)
    options = []
    compile_ = jax.stages.Lowered.compile

    def watched(self, compiler_options=None):
        options.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", watched)
    squares = compiled(lambda matrix: matrix @ matrix)
    # 9 numbers of 3 terms, and 900 of 30.
    for size in (3, 30):
        matrix = np.eye(size)
        assert (np.asarray(squares(matrix)) == matrix).all()
    assert options == [HURRIED, UNHURRIED]


def test_calls_of_the_host_are_seen_within_loops():
    def told(x):
        return jax.pure_callback(lambda x: x, x, x)

    def within(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: told(x), x)

    assert calls_host(jax.make_jaxpr(within)(1.0).jaxpr)
    assert not calls_host(jax.make_jaxpr(loop)(1.0).jaxpr)
