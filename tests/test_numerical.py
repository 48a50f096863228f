"""Oracles know how wrong they may be, and say so instead of judging."""

import numerical
import numpy as np
import pytest

EPS = np.finfo(float).eps


@pytest.mark.parametrize(
    ("function", "at", "exact"),
    [
        (np.sin, 0.7, np.cos(0.7)),
        (lambda x: np.array([[np.exp(x)], [x**7]]), 1.0, np.array([[np.e], [7.0]])),
    ],
    ids=["a number", "an array"],
)
@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_derivative_is_no_further_off_than_its_error(function, at, exact, step, levels):
    oracle = numerical.derivative(function, at, step, levels, noise=2 * EPS * 10)
    assert np.all(np.abs(oracle.value - exact) <= oracle.error)
    assert np.all(oracle.error < 1.0)


@pytest.mark.parametrize("step", [0.3, 1e-1, 1e-2, 1e-3, 1e-4])
def test_a_second_derivative_is_no_further_off_than_its_error(step):
    oracle = numerical.second_derivative(np.sin, 0.7, step, noise=EPS)
    assert abs(oracle.value + np.sin(0.7)) <= oracle.error


def test_steps_across_a_kink_show_in_the_error():
    # A parabola on the left of 1.0004, a steeper one on its right.
    oracle = numerical.derivative(
        lambda x: x**2 + 50 * max(x - 1.0004, 0.0) ** 2, 1.0, 1e-3, noise=EPS
    )
    assert abs(oracle.value - 2.0) > 1e-5
    assert abs(oracle.value - 2.0) <= oracle.error


def test_noise_is_what_rounding_does():
    # Between 3e8 and its neighbours lie 6e-8; four additions round, by half of that at most.
    noise = numerical.rounding(lambda batch: (batch + 1e8).sum(axis=-1) - 3e8, np.full(3, 0.3))
    assert 1e-8 < noise < 4 * 3 * 3e-8
    # What is smooth is no noise.
    assert numerical.rounding(lambda batch: np.sin(batch).sum(axis=-1), np.full(3, 0.3)) < 1e-14


ORACLE = numerical.Oracle(np.array([1.0, 100.0]), np.array([1e-9, 1e-7]))


def test_what_agrees_passes():
    numerical.agrees([1.0, 100.0 + 9e-5], ORACLE, rtol=1e-6)
    numerical.agrees([1.0 + 9e-7, 100.0 - 9e-5], ORACLE, rtol=1e-6, each=True)
    numerical.agrees([1.0, 100.0 + 9e-4], ORACLE, rtol=1e-6, scale=1e3)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ([1.0, 100.0 + 2e-4], {}),
        ([1.0 + 2e-6, 100.0], {"each": True}),
        ([1.0, 100.0 + 2e-3], {"scale": 1e3}),
        ([1.0, np.nan], {}),
        (1.0, {}),
    ],
)
def test_what_does_not_agree_fails(value, options):
    with pytest.raises(AssertionError) as caught:
        numerical.agrees(value, ORACLE, rtol=1e-6, **options)
    assert caught.type is AssertionError


@pytest.mark.parametrize("options", [{"rtol": 9e-9}, {"rtol": 9e-9, "each": True}])
@pytest.mark.parametrize("value", [[1.0, 100.0], [2.0, 200.0]], ids=["right", "wrong"])
def test_an_oracle_without_a_margin_judges_nothing(value, options):
    with pytest.raises(numerical.UnfitOracleError, match="choose another step"):
        numerical.agrees(value, ORACLE, **options)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_an_oracle_that_knows_nothing_judges_nothing(error):
    with pytest.raises(numerical.UnfitOracleError):
        numerical.agrees(1.0, numerical.Oracle(np.array(1.0), np.array(error)), rtol=1.0)
