"""Layers and implicit derivatives without particles: light to import, in any precision."""

import subprocess
import sys

CODE = """
import sys
import jax, jax.numpy as jnp
import mdsens.implicit, mdsens.layers as layers
heavy = {"ase", "vesin", "pyamg", "matscipy", "jax_md"} & set(sys.modules)
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
assert not jax.config.jax_enable_x64
assert not {"ase", "vesin", "pyamg", "matscipy", "jax_md"} & set(sys.modules)
"""


def test_layers_import_nothing_of_particles_and_leave_the_precision_as_it_is():
    subprocess.run([sys.executable, "-c", CODE], check=True)
