"""Energies and forces against jax-md.

Its parameters are given as arrays of double precision, as Python's numbers would become single,
and its functions are used without neighbour lists, in free space or in a box of orthogonal sides
longer than two cutoffs, where it is right.
"""

import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

from mdsens import System
from mdsens.mechanics import energy_forces_virial
from mdsens.particles import find_edges
from mdsens.potentials import LennardJones, Morse, SoftSphere, StillingerWeber

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("jax-md")]


@pytest.fixture(scope="module")
def jax_md():
    pytest.importorskip("jax_md", reason="jax-md is not installed: pip install jax-md")
    from jax_md import energy, smap, space

    return energy, smap, space


def double(value):
    return jnp.asarray(value, jnp.float64)


def cluster(spacing, count=8):
    """Atoms near the corners of a cube."""
    corners = np.stack(np.meshgrid(*[range(2)] * 3), -1).reshape(-1, 3)[:count] * spacing
    return corners + np.random.default_rng(6).normal(scale=0.05 * spacing, size=corners.shape)


def assert_agrees(energy_of, positions, potential, box=None, species=None):
    """Their energy and its derivative, against ours."""
    theirs, gradient = jax.value_and_grad(energy_of)(jnp.asarray(positions))
    cell = None if box is None else np.eye(positions.shape[1]) * box
    symbols = potential.species or ("A",)
    system = System(positions, cell, symbols, species, box is not None)
    edge_list = find_edges(
        positions, np.asarray(system.cell), system.pbc, float(potential.interaction_range)
    )
    energy, forces, _ = jax.jit(energy_forces_virial)(system, potential, edge_list)
    assert float(energy) == pytest.approx(float(theirs), rel=1e-10)
    assert numerical.relative_error(forces, -gradient) < 1e-10


def test_lennard_jones(jax_md):
    energy, smap, space = jax_md
    displacement, _ = space.free()
    total = smap.pair(
        energy.lennard_jones, space.metric(displacement),
        sigma=double(1.1), epsilon=double(0.7),
    )  # fmt: skip
    assert_agrees(total, cluster(1.2), LennardJones(0.7, 1.1, 50.0, "none"))


def test_morse(jax_md):
    energy, smap, space = jax_md
    displacement, _ = space.free()
    total = smap.pair(
        energy.morse, space.metric(displacement),
        sigma=double(1.1), epsilon=double(0.7), alpha=double(4.2),
    )  # fmt: skip
    # Theirs is epsilon (1 - y)^2 - epsilon, ours epsilon (y^2 - 2 y): the same.
    assert_agrees(total, cluster(1.2), Morse(0.7, 4.2, 1.1, 50.0, "none"))


@pytest.mark.parametrize("alpha", [2.0, 2.5], ids=["harmonic", "hertzian"])
def test_soft_spheres(jax_md, alpha):
    energy, _, space = jax_md
    box, count = 6.0, 40
    generator = np.random.default_rng(7)
    positions = generator.uniform(0, box, (count, 2))
    species = np.arange(count) % 2
    contact, strength = np.array([[1.0, 1.2], [1.2, 1.4]]), np.array([[1.0, 1.5], [1.5, 0.7]])
    displacement, _ = space.periodic(double(box))
    total = energy.soft_sphere_pair(
        displacement, jnp.asarray(species), double(contact), double(strength), double(alpha)
    )
    potential = SoftSphere(contact, strength, alpha, ("small", "large"))
    assert_agrees(total, positions, potential, box, species)


def test_stillinger_weber(jax_md, monkeypatch):
    energy, _, space = jax_md

    def cosine(first, second):
        lengths = [space.distance(vector) for vector in (first, second)]
        return jnp.dot(first, second) / jnp.prod(
            jnp.array([jnp.where(r > 0, r, 1) for r in lengths])
        )

    # Theirs adds 1e-7 to each length, which would be an error of 1e-8 in the energy.
    monkeypatch.setattr(energy.quantity, "cosine_angle_between_two_vectors", cosine)
    numbers = {"sigma": 2.0951, "A": 7.049556277, "B": 0.6022245584, "gamma": 1.2, "epsilon": 2.168}
    displacement, _ = space.free()
    total = energy.stillinger_weber(
        displacement, **{name: double(number) for name, number in numbers.items()},
        lam=double(21.0), cutoff=double(1.8 * 2.0951), three_body_strength=double(1.0),
    )  # fmt: skip
    potential = StillingerWeber(a=1.8, lambda_=21.0, costheta0=-1 / 3, p=4.0, q=0.0, **numbers)
    assert_agrees(total, cluster(2.3), potential)
