"""What relax and relax_batch are given: each argument checked, and what goes together."""

from typing import Any, NamedTuple

import numpy as np

from mdsens.errors import InputError
from mdsens.mechanics.enthalpy import CELL_MODES
from mdsens.minimisers.conjugate_gradient import ConjugateGradient
from mdsens.minimisers.fire import FIRE
from mdsens.minimisers.gradient_descent import GradientDescent
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import Minimiser
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import boolean, choice, instance, integer, is_traced, real, real_array, shown

#: What each minimiser is called.
METHODS = {
    "fire": FIRE,
    "gradient-descent": GradientDescent,
    "lbfgs": LBFGS,
    "preconditioned-lbfgs": PreconditionedLBFGS,
    "cg": ConjugateGradient,
    "newton": Newton,
}


class Options(NamedTuple):
    """How to relax, whatever the structure.

    Attributes:
        method: ``"auto"``, the name of a minimiser, or a Minimiser.
        max_steps: steps to take at most.
        cell: what of the cell relaxes, or None.
        pressure: external pressure, energy/length^D; a number, or an array that JAX traces.
        progress: whether to show how it goes.
        max_step: largest move in one step, length.
        skin: length by which edges reach beyond the range, or None.
    """

    method: Any
    max_steps: int
    cell: str | None
    pressure: Any
    progress: bool
    max_step: float
    skin: float | None


def checked_options(
    method: Any,
    max_steps: Any,
    cell: Any,
    pressure: Any,
    progress: Any,
    max_step: Any,
    skin: Any,
) -> Options:
    """Check what relaxations of one structure and of many are both told.

    Arguments:
        method: as in `Options`, as are all that follow.
        max_steps: a whole number.
        cell: one of CELL_MODES.
        pressure: a number; only where a cell relaxes may it be another than zero.
        progress: True or False.
        max_step: a number above zero.
        skin: a number above zero, or None.

    Returns:
        The Options.

    Raises:
        InputError: one of them is not allowed.
    """
    if not isinstance(method, Minimiser):
        choice(method, "method", ("auto", *METHODS))
    choice(cell, "cell", CELL_MODES)
    load = real_array(pressure, "pressure", ())
    if cell is None and (is_traced(load) or load != 0.0):
        given = "being traced" if is_traced(load) else f"{load:g}"
        raise InputError(
            f"pressure is {given}, and cell = None: a pressure acts on a cell that relaxes; give "
            "cell, as in cell='isotropic', or no pressure"
        )
    return Options(
        method,
        integer(max_steps, "max_steps", at_least=0),
        cell,
        load,
        boolean(progress, "progress"),
        real(max_step, "max_step", above=0.0),
        None if skin is None else real(skin, "skin", above=0.0),
    )


def check_structure(system: Any, potential: Any, cell: str | None) -> None:
    """Raise InputError unless a system can relax in a potential, with its cell if that is asked.

    Arguments:
        system: a System.
        potential: a Potential with parameters for every species of the system.
        cell: what of the cell relaxes, or None.
    """
    instance(system, "system", System, "a mdsens.System, as from System.from_ase")
    instance(potential, "potential", Potential, "a mdsens.potentials one")
    potential.species_index(system)
    if not is_traced(system.positions):
        # Checked when a System is made, and not where JAX or equinox put other numbers into it.
        real_array(system.positions, "positions")
    if cell is not None and not all(system.pbc):
        raise InputError(
            f"cell = {cell!r} with pbc = {system.pbc}: a cell can relax only where every direction "
            "is periodic; use cell=None"
        )
    if not is_traced(potential):
        reach = np.asarray(potential.edge_search(system).cutoff)
        real(reach, "the potential's range", above=0.0)


def check_relaxation(
    system: Any,
    potential: Any,
    *,
    method: Any,
    fmax: Any,
    max_steps: Any,
    cell: Any,
    pressure: Any,
    max_step: Any,
    skin: Any = None,
) -> None:
    """Raise InputError for what relax would refuse, without relaxing anything.

    Arguments:
        system: as relax takes it, as are all that follow.
        potential: the potential.
        method: name of a minimiser, or a Minimiser.
        fmax: largest norm of a force on an atom at which to stop, energy/length.
        max_steps: steps to take at most.
        cell: what of the cell relaxes, or None.
        pressure: external pressure, energy/length^D.
        max_step: largest move in one step, length.
        skin: length by which edges reach beyond the range, or None.
    """
    checked_options(method, max_steps, cell, pressure, False, max_step, skin)
    check_structure(system, potential, cell)
    real(fmax, "fmax", above=0.0)


def checked_capacity(capacity: Any) -> tuple[int, int] | None:
    """Edges per atom and periodic images that a traced relaxation has room for, or None.

    Arguments:
        capacity: two whole numbers, or None.

    Returns:
        The same.

    Raises:
        InputError: anything else.
    """
    if capacity is None:
        return None
    if not isinstance(capacity, (tuple, list)) or len(capacity) != 2:
        raise InputError(
            f"capacity = {shown(capacity)}: give two whole numbers, edges per atom and periodic "
            "images"
        )
    slots, ghosts = capacity
    return (
        integer(slots, "capacity[0]", at_least=1),
        integer(ghosts, "capacity[1]", at_least=0),
    )
