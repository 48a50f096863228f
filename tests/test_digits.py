"""Numbers are printed with the digits that their errors support."""

import math

import numpy as np
import pytest

from mdsens.digits import error_text, is_zero, with_digits


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.0123456, 3e-5, "0.01235"),
        (0.0123456, 3e-9, "0.0123456"),
        (-1234.567, 20.0, "-1.23e+03"),
        (1234.567, 0.04, "1234.57"),
        (2.0, 1.9, "2"),
        (9e-15, 1e-13, "0"),
        (-9e-15, 9e-15, "0"),
        (0.0, None, "0"),
        (0.0, 1e-9, "0"),
        (math.pi, None, "3.1415927"),
        (math.pi, math.nan, "3.1415927"),
        (math.pi, 0.0, "3.1415927"),
        (math.pi, 1e-30, "3.1415927"),
        (math.pi, math.inf, "0"),
        (None, 1.0, "–"),
        (math.nan, 1.0, "–"),
        (math.inf, 1.0, "inf"),
    ],
)
def test_a_number_has_the_digits_that_its_error_supports(value, error, text):
    assert with_digits(value, error) == text


def test_the_last_digit_is_never_below_the_error():
    generator = np.random.default_rng(0)
    for value, relative in zip(
        generator.normal(size=300), 10.0 ** generator.uniform(-9, 1, 300), strict=True
    ):
        error = abs(value) * relative
        text = with_digits(value, error, most=17)
        off = abs(float(text) - value)
        assert off <= error * 1.0000001
        digits = len(text.partition("e")[0].lstrip("-").replace(".", "").lstrip("0"))
        last_place = 10.0 ** (math.floor(math.log10(abs(value))) - digits + 1)
        assert text == "0" or last_place > error / 10.0


@pytest.mark.parametrize(
    ("error", "text"), [(2.13e-9, "2.1e-09"), (None, "–"), (math.nan, "–"), (0.0, "0.0e+00")]
)
def test_an_error_has_two_digits(error, text):
    assert error_text(error) == text


def test_zero_is_what_is_not_above_its_error():
    zero = is_zero(np.array([1.0, 1e-9, -1e-9, 0.0, 0.0]), np.array([0.1, 1e-8, 1e-9, 0.0, np.nan]))
    assert zero.tolist() == [False, True, True, True, True]
    assert not is_zero(1.0, np.nan)
