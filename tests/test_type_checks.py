"""That annotations are held to: the net is there, and refusals get past it."""

import importlib
import inspect
import pkgutil

import ase
import jax.numpy as jnp
import numpy as np
import pytest
import type_checks
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from type_checks import UNCHECKED

import mdsens
from mdsens.errors import InputError
from mdsens.observables.nearest_image import nearest_image

MODULES = [module.name for module in pkgutil.walk_packages(mdsens.__path__, "mdsens.")]


def test_what_a_function_takes_against_its_annotations_is_an_error():
    with pytest.raises(BeartypeCallHintViolation, match=r"nearest_image\(\) parameter"):
        nearest_image(jnp.ones(1), jnp.ones((0, 3)))


def test_what_a_function_returns_is_held_to_the_dimensions_of_its_arguments():
    def without_first(x: Float[np.ndarray, " N"], longer: bool) -> Float[np.ndarray, " N"]:
        return x[1:] if longer else x

    held = type_checks._checked(type_checks.holds, without_first)
    for count in (3, 4):
        assert held(np.ones(count), False).shape == (count,)
    with pytest.raises(BeartypeCallHintViolation, match=r"without_first\(\) return"):
        held(np.ones(3), True)


def test_annotations_of_type_checkers_alone_leave_the_others():
    def taken(count: int, held: "Absent") -> "Absent":
        return count

    held = type_checks._checked(type_checks.holds, taken)
    assert held(3, None) == 3
    with pytest.raises(BeartypeCallHintViolation, match="parameter count"):
        held(3.5, None)


def test_what_a_function_refuses_itself_gets_past_its_annotations():
    with pytest.raises(InputError, match="symbols = 18: give a name"):
        mdsens.System([[0.0, 0.0, 0.0]], symbols=18)


def test_what_a_potential_refuses_when_it_is_made_gets_past_its_annotations():
    with pytest.raises(InputError, match=r"cutoff = '2\.5'"):
        mdsens.potentials.LennardJones(1.0, 1.0, cutoff="2.5")


def test_a_refusal_further_in_gets_past_all_that_called():
    with pytest.raises(InputError, match="units = 'SI'"):
        mdsens.System.from_ase(ase.Atoms("Ar"), 3, "SI")


@pytest.mark.parametrize("name", MODULES)
def test_every_function_is_held_to_its_annotations(name):
    module = importlib.import_module(name)
    functions = [
        value
        for value in vars(module).values()
        if inspect.isfunction(value)
        and value.__module__ == name
        and f"{name}.{value.__qualname__}" not in UNCHECKED
    ]
    assert all(hasattr(function, "unchecked") for function in functions)
