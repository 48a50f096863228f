"""Second derivatives of Stillinger-Weber in closed form are those of its gradients."""

import cases
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.particles.edges import Edges
from mdsens.potentials import StillingerWeber
from mdsens.potentials.potential import Potential

TABLES = {
    "epsilon": np.array([[2.1, 1.9], [1.9, 1.5]]),
    "sigma": np.array([[2.09, 2.0], [2.0, 1.9]]),
    "lambda_": np.array([[21.0, 18.0], [18.0, 0.0]]),
}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("tables", [{}, TABLES])
def test_second_derivatives_of_sites_are_those_of_their_gradients(dimension, tables):
    """Of bonds of any length within the range and beyond it, and of slots that hold none."""
    numbers = {"epsilon": 2.1683, "sigma": 2.0951, **cases.SILICON} | tables
    species = ("A", "B") if tables else None
    potential = StillingerWeber(**numbers, species=species)
    random, kinds = np.random.default_rng(0), len(species or "A")
    vectors = random.normal(size=(dimension, 5, 40))
    vectors *= random.uniform(1.9, 4.2, size=(5, 40)) / np.linalg.norm(vectors, axis=0)
    mask = random.uniform(size=(5, 40)) < 0.8
    own, others = random.integers(kinds, size=40), random.integers(kinds, size=(5, 40))
    edges = Edges(tuple(jnp.asarray(vectors)), *map(jnp.asarray, (mask, own, others)))
    found, expected = potential.site_hessians(edges), Potential.site_hessians(potential, edges)
    np.testing.assert_allclose(found, expected, atol=1e-14 * np.abs(expected).max())
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1, 4, 3))


def test_bonds_count_to_the_end_of_the_range_in_slots_of_their_own():
    """Slots that hold nothing in range are left out: one of long bonds alone is none of them."""
    potential = StillingerWeber(2.1683, 2.0951, **cases.SILICON)
    reach = float(potential.interaction_range)
    lengths = reach * np.array([0.6, 0.62, 0.97, 1.01, 0.99])
    directions = np.random.default_rng(3).normal(size=(5, 3))
    bonds = directions / np.linalg.norm(directions, axis=1)[:, None] * lengths[:, None]

    def energy(bonds):
        """Half of the pairs' energy and the triplets', by the sums as they are written."""
        epsilon, sigma = 2.1683, 2.0951
        a, strength, gamma, cosine, A, B, p, q = (
            float(getattr(potential, name))
            for name in ("a", "lambda_", "gamma", "costheta0", "A", "B", "p", "q")
        )
        near = [bond for bond in bonds if np.linalg.norm(bond) < a * sigma]
        total = 0.0
        for i, one in enumerate(near):
            r = np.linalg.norm(one)
            pair = B * (sigma / r) ** p - (sigma / r) ** q
            total += 0.5 * A * epsilon * pair * np.exp(sigma / (r - a * sigma))
            for other in near[i + 1 :]:
                s = np.linalg.norm(other)
                decay = np.exp(gamma * sigma * (1 / (r - a * sigma) + 1 / (s - a * sigma)))
                total += strength * epsilon * (one @ other / r / s - cosine) ** 2 * decay
        return total

    kinds = jnp.zeros(1, int), jnp.zeros((5, 1), int)
    edges = Edges(tuple(jnp.asarray(bonds.T[..., None])), jnp.ones((5, 1), bool), *kinds)
    (found,), gradients = potential.site_energies_and_gradients(edges)
    np.testing.assert_allclose(found, energy(bonds), rtol=1e-13)
    for slot in range(5):
        for axis in range(3):
            step = np.zeros((5, 3))
            step[slot, axis] = 1e-5
            slope = (energy(bonds + step) - energy(bonds - step)) / 2e-5
            np.testing.assert_allclose(gradients[axis][slot, 0], slope, atol=1e-8)
