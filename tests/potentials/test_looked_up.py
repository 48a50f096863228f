"""Entries of tables over species: chosen by comparing where species are few, looked up else."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.arrays import scalar_product
from mdsens.potentials.potential import FEW_SPECIES, looked_up


@pytest.mark.parametrize("species", [1, 2, FEW_SPECIES, FEW_SPECIES + 1])
def test_every_pair_of_species_has_its_own_entry(species):
    table = np.random.default_rng(species).random((species, species))
    pairs = np.array(list(itertools.product(range(species), repeat=2))).T
    first, second = pairs[0], np.stack([pairs[1], pairs[1][::-1]])
    found = looked_up(jnp.asarray(table), jnp.asarray(first)[None], jnp.asarray(second))
    expected = [[table[i, j] for i, j in zip(first, row, strict=True)] for row in second]
    assert np.asarray(found).tolist() == expected


def test_a_row_of_numbers_is_one_for_each_species():
    found = looked_up(jnp.asarray([4.0, 5.0, 6.0]), jnp.asarray([2, 0, 1, 2]))
    assert found.tolist() == [6.0, 4.0, 5.0, 6.0]


def test_scalar_products_are_those_of_fractions():
    x, y = jnp.arange(1.0, 7.0).reshape(3, 2), 1.0 / jnp.arange(1.0, 7.0).reshape(3, 2)
    assert float(scalar_product(x, 2.0 * y)) == pytest.approx(12.0, rel=1e-15)
