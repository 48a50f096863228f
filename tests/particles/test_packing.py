"""Random starts of packings have the particles, the box and the packing fraction asked for."""

import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError


@pytest.mark.parametrize("dimension", [2, 3])
def test_particles_fill_the_fraction_of_the_box_that_was_asked_for(dimension):
    diameters = {"large": 1.4, "small": 1.0}
    system = mdsens.random_packing({"large": 3, "small": 5}, diameters, 0.7, dimension, seed=4)
    each = np.array(
        [diameters[name] for name in np.array(system.symbols)[np.asarray(system.species)]]
    )
    assert sorted(each) == [1.0] * 5 + [1.4] * 3
    ball = {2: np.pi * each**2 / 4, 3: np.pi * each**3 / 6}[dimension]
    assert ball.sum() / float(system.volume) == pytest.approx(0.7, rel=1e-14)
    inside = np.asarray(system.positions) @ np.linalg.inv(np.asarray(system.cell))
    assert ((inside >= 0) & (inside < 1)).all()
    assert all(system.pbc)


def test_the_seed_decides_the_positions_alone():
    first, again, other = (mdsens.random_packing(8, {"a": 1.0}, 0.5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert (np.asarray(first.positions) != np.asarray(other.positions)).all()
    np.testing.assert_array_equal(first.cell, other.cell)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((7, {"a": 1, "b": 2}, 0.5), ["count = 7", "multiple of 2"]),
        (({}, {"a": 1}, 0.5), ["count = {}", "a"]),
        (({"a": 2, "c": 2}, {"a": 1, "b": 2}, 0.5), ["count = 'c'", "a, b"]),
        ((4, {"a": 0.0}, 0.5), ["diameters.a = 0.0", "1e-06"]),
        ((4, [1.0], 0.5), ["diameters", "mapping"]),
        ((4, {"a": 1}, -1), ["packing_fraction = -1"]),
        ((4, {"a": 1}, 0.5, 4), ["dimension = 4"]),
        ((4, {"a": 1}, 0.5, 2, -1), ["seed = -1"]),
    ],
)
def test_a_mistake_is_one_line(arguments, words):
    with pytest.raises(InputError) as caught:
        mdsens.random_packing(*arguments)
    for word in words:
        assert word in str(caught.value)
