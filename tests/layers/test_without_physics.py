"""Layers and implicit derivatives without particles: light to import, in any precision."""

import subprocess
import sys

CODE = """
import sys
import jax, jax.numpy as jnp
import mdsens.implicit, mdsens.layers as layers
heavy = {"ase", "vesin", "pyamg", "matscipy", "jax_md", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
assert not jax.config.jax_enable_x64
Q, c = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0])
program = layers.QuadraticProgram()
solve = lambda c: program.run(None, (Q, c), None, (-jnp.eye(2), jnp.zeros(2))).params.primal
x, slope = solve(c), jax.jacrev(solve)(c)
assert x.dtype == slope.dtype == "float32"
# The first unknown is at its bound, the second is free.
assert jnp.allclose(x, jnp.array([0.0, 1.0]), atol=2e-6), x
assert jnp.allclose(slope, jnp.array([[0.0, 0.0], [0.0, -1.0]]), atol=2e-6), slope

# What stays within the precision of single numbers: a phantom gradient, a bilevel problem in
# batches, a program without matrices.
import optax
from mdsens.implicit import TruncatedNeumann
series = TruncatedNeumann(40)
fixed = layers.FixedPointIteration(lambda z, a: a * z + 1.0, implicit_diff_solve=series)
slope = jax.grad(lambda a: fixed.run(jnp.zeros(()), a).params)(jnp.asarray(0.5))
assert slope.dtype == "float32" and abs(slope - 4.0) < 5e-3, slope
bilevel = layers.StochasticBilevel(
    lambda z, x, d: jnp.sum((z - d * x) ** 2), lambda z, x, d: jnp.sum((z - d) ** 2) / 2,
    optax.sgd(0.3), optax.sgd(0.1),
)
start = bilevel.init_point(jnp.zeros(()), jnp.zeros(2))
found = bilevel.run(start, (jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0])))
assert found.params.hyperparams.dtype == "float32"
assert abs(found.params.hyperparams - 3.0) < 2e-3, found
equal = layers.EqualityConstrainedQP(solver="minres").run(None, (Q, c), (jnp.ones((1, 2)), c[:1]))
assert jnp.allclose(jnp.sum(equal.params.primal), 1.0, atol=1e-5), equal
assert equal.params.primal.dtype == "float32"
assert not jax.config.jax_enable_x64
assert not {"ase", "vesin", "pyamg", "matscipy", "jax_md"} & set(sys.modules)
"""


def test_layers_import_nothing_of_particles_and_leave_the_precision_as_it_is():
    subprocess.run([sys.executable, "-c", CODE], check=True)
