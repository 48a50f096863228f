"""Elastic moduli along directions are what turning the crystal gives."""

import itertools

import numpy as np
import pytest

from mdsens.elastic_directions import (
    compliance_change,
    compliance_tensor,
    direction_name,
    elastic_ranges,
    property_at,
    youngs_modulus_along,
    youngs_modulus_change,
)
from mdsens.errors import InputError
from mdsens.voigt import VOIGT_INDICES

C11, C12, C44 = 151.4, 76.4, 56.4
SIZES = {3: 6, 2: 3}


def cubic(c11, c12, c44):
    constants = np.zeros((6, 6))
    constants[:3, :3] = c12
    constants[range(3), range(3)] = c11
    constants[range(3, 6), range(3, 6)] = c44
    return constants


def any_constants(dimension, seed=3):
    factor = np.random.default_rng(seed).normal(size=(SIZES[dimension],) * 2)
    return 20.0 * (factor @ factor.T + 2.0 * np.eye(len(factor)))


def rotation(dimension, seed):
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dimension, dimension)))
    return turned


def turned_compliance(constants, axes):
    """The compliance in Voigt's notation of a crystal seen along other axes, by stiffness."""
    dimension = len(axes)
    pairs = list(zip(*VOIGT_INDICES[dimension], strict=True))
    place = {pair: v for v, (i, j) in enumerate(pairs) for pair in ((i, j), (j, i))}
    full = np.zeros((dimension,) * 4)
    for i, j, k, l in itertools.product(range(dimension), repeat=4):
        full[i, j, k, l] = constants[place[i, j], place[k, l]]
    full = np.einsum("ai,bj,ck,dl,ijkl->abcd", axes, axes, axes, axes, full)
    return np.linalg.inv([[full[(*one, *other)] for other in pairs] for one in pairs])


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_moduli_are_those_of_a_crystal_that_is_turned(dimension, seed):
    constants, axes = any_constants(dimension), rotation(dimension, seed)
    turned, compliance = turned_compliance(constants, axes), compliance_tensor(constants)
    shear = dimension if dimension == 2 else 5
    expected = {
        "youngs_modulus": 1.0 / turned[0, 0],
        "linear_compressibility": turned[0, :dimension].sum(),
        "shear_modulus": 1.0 / turned[shear, shear],
        "poisson_ratio": -turned[0, 1] / turned[0, 0],
    }
    for name, value in expected.items():
        directions = axes[:1] if name in ("youngs_modulus", "linear_compressibility") else axes[:2]
        found, _ = property_at(name, compliance, directions)
        np.testing.assert_allclose(found, value, rtol=1e-10)
    np.testing.assert_allclose(
        youngs_modulus_along(compliance, axes[0]), expected["youngs_modulus"], rtol=1e-12
    )


def test_cubic_crystals_have_their_closed_form():
    s11, s12 = (C11 + C12) / ((C11 - C12) * (C11 + 2 * C12)), -C12 / ((C11 - C12) * (C11 + 2 * C12))
    n = np.random.default_rng(0).normal(size=(50, 3))
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    squares = n**2
    # J. F. Nye (1957), p. 145.
    mixed = (squares * np.roll(squares, 1, axis=-1)).sum(axis=-1)
    expected = 1.0 / (s11 - 2.0 * (s11 - s12 - 0.5 / C44) * mixed)
    found = youngs_modulus_along(compliance_tensor(cubic(C11, C12, C44)), n)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_ranges_of_a_cubic_crystal():
    ranges = elastic_ranges(cubic(C11, C12, C44))
    young, shear = ranges["youngs_modulus"], ranges["shear_modulus"]
    s11 = (C11 + C12) / ((C11 - C12) * (C11 + 2 * C12))
    bulk = (C11 + 2 * C12) / 3
    np.testing.assert_allclose(young.minimum, 1.0 / s11, rtol=1e-9)
    np.testing.assert_allclose(young.maximum, 9 * bulk * C44 / (3 * bulk + C44), rtol=1e-9)
    assert direction_name(young.minimum_directions[0]) == "[1 0 0]"
    assert direction_name(young.maximum_directions[0]) == "[1 1 1]"
    np.testing.assert_allclose(shear.minimum, (C11 - C12) / 2, rtol=1e-9)
    np.testing.assert_allclose(shear.maximum, C44, rtol=1e-9)
    np.testing.assert_allclose(shear.anisotropy, 2 * C44 / (C11 - C12), rtol=1e-9)
    compressibility = ranges["linear_compressibility"]
    assert compressibility.isotropic
    np.testing.assert_allclose(compressibility.minimum, 1.0 / (3 * bulk), rtol=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_nothing_along_any_direction_is_beyond_the_ranges(dimension):
    constants = any_constants(dimension, seed=8)
    compliance, ranges = compliance_tensor(constants), elastic_ranges(constants)
    every = [rotation(dimension, seed) for seed in range(200)]
    for name, found in ranges.items():
        values = [property_at(name, compliance, axes[:2])[0] for axes in every]
        if name in ("youngs_modulus", "linear_compressibility"):
            values = [property_at(name, compliance, axes[:1])[0] for axes in every]
        slack = 1e-7 * (found.maximum - found.minimum)
        assert found.minimum - slack <= min(values)
        assert max(values) <= found.maximum + slack
        # And what is found is taken somewhere.
        for value, at in (
            (found.minimum, found.minimum_directions), (found.maximum, found.maximum_directions),
        ):  # fmt: skip
            np.testing.assert_allclose(property_at(name, compliance, at)[0], value, rtol=1e-9)
            np.testing.assert_allclose(at @ at.T, np.eye(len(at)), atol=1e-9)


def test_an_auxetic_ratio_has_no_anisotropy():
    # Iron-like in shape, with a negative smallest ratio.
    found = elastic_ranges(cubic(50.0, 40.0, 60.0))["poisson_ratio"]
    assert found.minimum < 0.0 < found.maximum
    assert np.isnan(found.anisotropy)


def test_changes_are_those_of_changed_constants():
    constants = any_constants(3)
    change = any_constants(3, seed=5) - 30.0 * np.eye(6)
    compliance, slope = compliance_tensor(constants), compliance_change(constants, change)
    axes, h = rotation(3, 1), 1e-4
    for name in ("youngs_modulus", "linear_compressibility", "shear_modulus", "poisson_ratio"):
        directions = axes[:1] if name in ("youngs_modulus", "linear_compressibility") else axes[:2]

        def value(step, name=name, directions=directions):
            return property_at(name, compliance_tensor(constants + step * change), directions)[0]

        # Richardson.
        first, second = ((value(s) - value(-s)) / (2 * s) for s in (h, 2 * h))
        _, found = property_at(name, compliance, directions, slope)
        np.testing.assert_allclose(found, (4 * first - second) / 3, rtol=1e-7)
    _, young = property_at("youngs_modulus", compliance, axes[:1], slope)
    along = youngs_modulus_change(compliance, slope[None], axes[:1])
    np.testing.assert_allclose(along, [[young]], rtol=1e-12)


def test_the_largest_modulus_changes_as_it_does_where_it_is():
    """At an extreme over directions these do not count: the theorem of the envelope."""
    constants, h = any_constants(3), 1e-4
    change = any_constants(3, seed=6)
    largest = elastic_ranges(constants)["youngs_modulus"]
    ahead, behind = (
        elastic_ranges(constants + s * change)["youngs_modulus"].maximum for s in (h, -h)
    )
    _, found = property_at(
        "youngs_modulus", compliance_tensor(constants), largest.maximum_directions,
        compliance_change(constants, change),
    )  # fmt: skip
    np.testing.assert_allclose(found, (ahead - behind) / (2 * h), rtol=1e-4)


def test_directions_are_written_in_whole_numbers_where_they_have_them():
    for vector, name in (
        ([0, 0, 1], "[0 0 1]"), ([1, -1, 0], "[1 -1 0]"), ([1, 1, 2], "[1 1 2]"),
        ([2.13, -5.37, 8.16], "(0.21, -0.54, 0.82)"), ([0, 1], "[0 1]"),
    ):  # fmt: skip
        assert direction_name(np.array(vector, float) / np.linalg.norm(vector)) == name


def test_a_crystal_that_a_strain_softens_has_no_moduli():
    with pytest.raises(InputError, match="a strain lowers the energy"):
        elastic_ranges(cubic(100.0, 120.0, 50.0))
