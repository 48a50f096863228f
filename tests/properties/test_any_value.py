"""Whatever is given to a name of the library is taken and meant, or refused in one line."""

import warnings

import numpy as np
import pytest
import strategies
import type_checks
from hypothesis import given
from one_line import BrokenRuleError, refusal

from mdsens import System, observables, read, relax, relax_batch, sensitivity
from mdsens.potentials import (
    WCA,
    LennardJones,
    Morse,
    SoftSphere,
    StillingerWeber,
    SuttonChen,
)
from mdsens.relaxation import unrelaxed
from mdsens.units import to_ase_units

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def _annotations_do_not_hold():
    type_checks.active = False
    yield
    type_checks.active = True


PLACES = np.array([[0.0, 0.0, 0.0], [3.7, 0.0, 0.0], [0.0, 3.7, 0.0], [0.0, 0.0, 3.7]])
CUBE = 8.0 * np.eye(3)
ARGON = System(PLACES, CUBE, ("Ar",))
LENNARD_JONES = LennardJones(0.01, 3.4, 8.5)
START = unrelaxed(ARGON, LENNARD_JONES)
SILICON = {
    "epsilon": 2.1683, "sigma": 2.0951, "a": 1.8, "lambda_": 21.0, "gamma": 1.2,
    "costheta0": -1 / 3, "A": 7.049556277, "B": 0.6022245584, "p": 4.0, "q": 0.0,
}  # fmt: skip


def silicon(name):
    return lambda value: StillingerWeber(**(SILICON | {name: value}))


def with_option(name):
    # No step is taken: what is refused is refused before.
    return lambda value: relax(ARGON, LENNARD_JONES, **({"max_steps": 0} | {name: value}))


#: What makes something of one value: structures, potentials, and texts.
MAKERS = {
    "positions": System,
    "cell": lambda value: System(PLACES, value),
    "symbols": lambda value: System(PLACES, CUBE, value),
    "species": lambda value: System(PLACES, CUBE, ("Ar", "Kr"), value),
    "pbc": lambda value: System(PLACES, CUBE, pbc=value),
    "fixed": lambda value: System(PLACES, CUBE, fixed=value),
    "units": lambda value: System(PLACES, CUBE, units=value),
    "with_positions": ARGON.with_positions,
    "with_cell": ARGON.with_cell,
    "with_fixed": ARGON.with_fixed,
    "from_ase": System.from_ase,
    "read": read,
    "epsilon": lambda value: LennardJones(value, 3.4, 8.5),
    "sigma": lambda value: LennardJones(0.01, value, 8.5),
    "sigma of two species": lambda value: LennardJones(0.01, value, 8.5, species=("Ar", "Kr")),
    "cutoff": lambda value: LennardJones(0.01, 3.4, value),
    "truncation": lambda value: LennardJones(0.01, 3.4, 8.5, value),
    "onset": lambda value: LennardJones(0.01, 3.4, 8.5, onset=value),
    "names of species": lambda value: LennardJones(0.01, 3.4, 8.5, species=value),
    "with_parameters": LENNARD_JONES.with_parameters,
    "with_parameters of sigma": lambda value: LENNARD_JONES.with_parameters({"sigma": value}),
    "expand_parameter_names": LENNARD_JONES.expand_parameter_names,
    "r0 of Morse": lambda value: Morse(0.1, 1.5, value, 8.5),
    "diameter": SoftSphere,
    "diameters": lambda value: SoftSphere(value, species=("a", "b")),
    "alpha": lambda value: SoftSphere(1.0, alpha=value),
    "epsilon of WCA": lambda value: WCA(value, 1.0),
    **{f"{name} of Stillinger-Weber": silicon(name) for name in ("a", "costheta0", "p", "q")},
    "n of Sutton-Chen": lambda value: SuttonChen(0.01, 5.0, 30.0, value, 6.0, 8.5),
    "parse": observables.parse,
    "distance": lambda value: observables.distance(0, value),
    "angle": lambda value: observables.angle(value, 1, 2),
    "coordination": observables.coordination,
    "width of coordination": lambda value: observables.coordination(4.5, value),
    "bins": lambda value: observables.radial_distribution(5.0, value),
    "r_max": observables.radial_distribution,
    "a number with a unit": lambda value: to_ase_units(value, "length", "sigma"),
}
#: What computes with one value.
USERS = {
    **{name: with_option(name) for name in ("method", "fmax", "cell", "pressure", "fixed", "skin")},
    **{name: with_option(name) for name in ("max_step", "max_steps", "progress")},
    "potential": lambda value: relax(ARGON, value, max_steps=0),
    "system": lambda value: relax(value, LENNARD_JONES, max_steps=0),
    "systems": lambda value: relax_batch(value, LENNARD_JONES, max_steps=0),
    "forces of a batch": lambda value: relax_batch([ARGON], LENNARD_JONES, fmax=value, max_steps=0),
    "observables": lambda value: sensitivity(START, value, allow_unconverged=True),
    "parameters": lambda value: sensitivity(START, ["energy"], value, allow_unconverged=True),
    "reference": lambda value: observables.mean_squared_displacement(value)(START),
}
# Few or many steps are right, and take their time.
WHOLE_NUMBERS = {"max_steps"}


def numbers_of(made):
    """The numbers of a structure or a potential."""
    if isinstance(made, System):
        return [np.asarray(made.positions), np.asarray(made.cell)]
    return list(getattr(made, "parameters", {}).values())


@pytest.mark.parametrize("name", MAKERS)
@given(value=strategies.junk())
def test_a_value_makes_something_finite_or_is_refused(name, value):
    def use():
        for number in numbers_of(MAKERS[name](value)):
            if not np.isfinite(number).all():
                raise BrokenRuleError(f"{number} is not finite")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refusal(use)


@pytest.mark.parametrize("name", USERS)
@given(value=strategies.junk())
def test_a_value_is_computed_with_or_refused(name, value):
    if name in WHOLE_NUMBERS and isinstance(value, int):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refusal(lambda: USERS[name](value))
