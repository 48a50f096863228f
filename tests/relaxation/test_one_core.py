"""Compiled code that calls the host back, in a process that has one core.

A callback that started compiled code of its own would wait for the only thread there is, which
waits for the callback: such a process never ends, and is killed here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("taskset") is None, reason="there is no taskset to bind a process to one core"
    ),
]
#: Seconds after which a process has hung; it takes a tenth of that on a machine at rest.
TIME_LIMIT = 400

RELAXATIONS = """
import jax, jax.numpy as jnp, numpy as np, mdsens, cases
from mdsens.potentials import LennardJones

def square(sigma, system=cases.dimer(1.2)):
    # Of the length of a dimer, 2^(1/3) sigma^2.
    relaxed = mdsens.relax(system, LennardJones(1.0, sigma, 3.0), fmax=1e-11)
    return jnp.sum((relaxed.positions[1] - relaxed.positions[0])**2)

# Of several side by side; second derivatives are those of a layer below.
values = jnp.array([1.0, 1.02])
found = jax.jit(jax.vmap(jax.grad(square)))(values)
np.testing.assert_allclose(found, 2 ** (4 / 3) * values, rtol=1e-9)
"""

SPARSE = """
import jax, jax.numpy as jnp, numpy as np, mdsens, cases
from mdsens.implicit import linear
from mdsens.potentials import LennardJones
from mdsens.mechanics import traced_solver

# What larger systems do.
linear.DENSE_LIMIT = 10
system = cases.bipyramid()

@jax.jit
@jax.value_and_grad
def length(sigma):
    relaxed = mdsens.relax(system, LennardJones(1.0, sigma, 1e3, "none"), fmax=1e-11)
    return jnp.linalg.norm(relaxed.positions[1] - relaxed.positions[0])

value, slope = length(1.0)
assert traced_solver._recent, "SciPy has solved nothing"
# Nothing is cut off: all lengths are as sigma.
np.testing.assert_allclose(slope, value, rtol=1e-9)
"""

LAYERS = """
import jax, jax.numpy as jnp, numpy as np, scipy.optimize
from mdsens import layers
from mdsens.implicit import custom_root

jax.config.update("jax_enable_x64", True)

def energy(x, stiffness):
    return 0.1 * jnp.sum(x**2) + stiffness * (x[1] - x[0] - 1) ** 2

@custom_root(jax.grad(energy), symmetric=True)
def rest(start, stiffness):
    return scipy.optimize.minimize(energy, start, float(stiffness), tol=1e-12).x

def length(stiffness):
    x = rest(np.zeros(2), stiffness)
    return x[1] - x[0]

# The length is k / (k + 0.05).
values = jnp.array([1.0, 2.0])
np.testing.assert_allclose(
    jax.jit(jax.vmap(jax.hessian(length)))(values), -0.1 / (values + 0.05) ** 3, rtol=1e-6
)
"""

CALCULATOR = """
import ase.build, numpy as np, mdsens, os
from mdsens.potentials import Calculator, LennardJones

# Else one in two of these waits for ever, and seldom in a test.
assert int(os.environ["NPROC"]) >= 2

def by_jax(epsilon, sigma):
    return mdsens.Calculator(LennardJones(epsilon, sigma, 7.0, onset=6.5))

system = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.2))
potential = Calculator(
    by_jax, {"epsilon": 0.0104, "sigma": 3.4}, {"epsilon": "energy", "sigma": "length"}
)
relaxed = mdsens.relax(system, potential, cell="isotropic", fmax=1e-8)
own = mdsens.relax(system, LennardJones(0.0104, 3.4, 7.0, onset=6.5), cell="isotropic", fmax=1e-8)
np.testing.assert_allclose(relaxed.volume, own.volume, rtol=1e-7)
"""


def on_one_core(code):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    ))  # fmt: skip
    return subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=TIME_LIMIT, env=environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [RELAXATIONS, SPARSE, LAYERS, CALCULATOR],
    ids=["relaxations", "sparse", "layers", "calculator"],
)
def test_compiled_derivatives_come_on_one_core(code):
    done = on_one_core(code)
    assert done.returncode == 0, done.stderr[-2000:]
