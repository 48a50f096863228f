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
