"""What relax and relax_batch are given: each argument checked, and what goes together."""

import contextlib
from typing import Any, NamedTuple, cast

import numpy as np

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.mechanics.relaxing_cell import (
    CELL_MODES,
    CellMode,
    count_of,
    span_of,
    strain_projection,
)
from mdsens.mechanics.stress import tensor_of
from mdsens.minimisers.conjugate_gradient import ConjugateGradient
from mdsens.minimisers.fire import FIRE
from mdsens.minimisers.gradient_descent import GradientDescent
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.minimiser import Minimiser
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.values import (
    boolean,
    choice,
    instance,
    integer,
    is_traced,
    items,
    nearest,
    real,
    real_array,
    shown,
)
from mdsens.voigt import COMPONENTS, VOIGT_INDICES

#: What each minimiser is called.
METHODS: dict[str, type[Minimiser]] = {
    "fire": FIRE,
    "gradient-descent": GradientDescent,
    "lbfgs": LBFGS,
    "preconditioned-lbfgs": PreconditionedLBFGS,
    "cg": ConjugateGradient,
    "newton": Newton,
}

#: Part of a stress that may act across a vacuum: rounding of a stress along a turned slab.
ACROSS = 1e-9


class Options(NamedTuple):
    """How to relax, whatever the structure.

    Attributes:
        method: ``"auto"``, the name of a minimiser, or a Minimiser.
        max_steps: steps to take at most.
        cell: what of the cell relaxes: a name, which components, or None.
        pressure: external pressure, energy/length^D; a number, or an array that JAX traces.
        progress: whether to show how it goes.
        max_step: largest move in one step, length.
        skin: length by which edges reach beyond the range, or None.
        stress: external stress, Voigt components, energy/length^D; an array, perhaps one that JAX
            traces, or None.
        smax: largest stress at which to stop, energy/length^D, or None.
    """

    method: Any
    max_steps: int
    cell: CellMode
    pressure: Any
    progress: bool
    max_step: float
    skin: float | None
    stress: Any
    smax: float | None


def compiled_methods() -> dict[str, type[Minimiser]]:
    """The minimisers whose steps are compiled, and can be differentiated one by one, by name."""
    somewhere = on_device(np.zeros((1, 3)))
    return {name: kind for name, kind in METHODS.items() if not kind().runs_on_host(somewhere)}


def checked_options(
    method: Any,
    max_steps: Any,
    cell: Any,
    pressure: Any,
    progress: Any,
    max_step: Any,
    skin: Any,
    stress: Any = None,
    smax: Any = None,
) -> Options:
    """Check what relaxations of one structure and of many are both told.

    Arguments:
        method: as in `Options`, as are all that follow.
        max_steps: a whole number.
        cell: one of CELL_MODES, or a mask of strain components.
        pressure: a number; only where a cell relaxes may it be another than zero.
        progress: True or False.
        max_step: a number above zero.
        skin: a number above zero, or None.
        stress: six numbers, or three in two dimensions, or None; only where a cell relaxes, and
            in place of a pressure.
        smax: a number above zero, or None; only where a cell relaxes.

    Returns:
        The Options.

    Raises:
        InputError: one of them is not allowed.
    """
    if not isinstance(method, Minimiser):
        choice(method, "method", ("auto", *METHODS))
    cell = checked_cell(cell)
    load = real_array(pressure, "pressure", ())
    pressed = is_traced(load) or load != 0.0
    given = "being traced" if is_traced(load) else f"{load:g}"
    if cell is None and pressed:
        raise InputError(
            f"pressure is {given}, and cell = None: a pressure acts on a cell that relaxes; give "
            "cell, as in cell='isotropic', or no pressure"
        )
    for name, value in (("stress", stress), ("smax", smax)):
        if cell is None and value is not None:
            raise InputError(
                f"{name} = {shown(value)}, and cell = None: a stress is one of a cell that "
                f"relaxes; give cell, as in cell='full', or no {name}"
            )
    if stress is not None:
        stress = real_array(stress, "stress", ("V",))
        if pressed:
            raise InputError(
                f"pressure is {given}, and there is a stress too: give one of them; a pressure p "
                "is the stress -p, -p, -p, 0, 0, 0"
            )
    return Options(
        method,
        integer(max_steps, "max_steps", at_least=0),
        cell,
        load,
        boolean(progress, "progress"),
        real(max_step, "max_step", above=0.0),
        None if skin is None else real(skin, "skin", above=0.0),
        stress,
        None if smax is None else real(smax, "smax", above=0.0),
    )


def checked_cell(cell: Any) -> CellMode:
    """What of the cell relaxes, as a value that can be told from others.

    Arguments:
        cell: one of CELL_MODES, or a mask of strain components: booleans, or 0 and 1; those of a
            symmetric matrix too, as ASE's filters take them.

    Returns:
        The name, or booleans in a tuple.

    Raises:
        InputError: another name, a mask of another length or of other numbers, or one that lets
            nothing relax.
    """
    mask = None if isinstance(cell, str) else items(cell)
    if mask is None:
        with contextlib.suppress(InputError):
            return cast(CellMode, choice(cell, "cell", CELL_MODES))
    mask = _components_of_matrix(mask)
    flags = [bool(one) for one in mask or [] if np.ndim(one) == 0 and one in (False, True)]
    if mask is None or len(flags) != len(mask) or len(mask) not in map(len, COMPONENTS.values()):
        near = nearest(cell, filter(None, CELL_MODES)) if isinstance(cell, str) else ""
        masks = [f"{len(names)} booleans for {' '.join(names)}" for names in COMPONENTS.values()]
        raise InputError(
            f"cell = {shown(cell)}: allowed are {', '.join(map(str, CELL_MODES))}, or a mask of "
            f"{' or '.join(masks)}, or a symmetric matrix of them{near}"
        )
    if not any(flags):
        raise InputError(
            f"cell = {shown(cell)}: nothing of the cell would relax; set a component, or give "
            "cell=None"
        )
    return tuple(flags)


def _components_of_matrix(mask: Any) -> Any:
    """The Voigt components of a mask that is a symmetric matrix; anything else as it is."""
    size = len(mask or [])
    rows = [items(row) or [] for row in mask or []]
    if size not in COMPONENTS or any(len(row) != size for row in rows):
        return mask
    if any(rows[i][j] != rows[j][i] for i in range(size) for j in range(i)):
        return mask
    return [rows[i][j] for i, j in zip(*VOIGT_INDICES[size], strict=True)]


def check_structure(system: Any, potential: Any, given: Options) -> None:
    """Raise InputError unless a system can relax in a potential, with its cell if that is asked.

    Arguments:
        system: a System.
        potential: a Potential with parameters for every species of the system.
        given: how to relax.
    """
    instance(system, "system", System, "a mdsens.System, as from System.from_ase")
    instance(potential, "potential", Potential, "a mdsens.potentials one")
    potential.species_index(system)
    if not is_traced(system.positions):
        # Checked when a System is made, and not where JAX or equinox put other numbers into it.
        real_array(system.positions, "positions")
    if given.cell is not None:
        _check_cell(system, given)
    potential.check_use(system, given.cell)
    if potential.acts_along_edges and not is_traced(potential):
        reach = np.asarray(potential.edge_search(system).cutoff)
        real(reach, "the potential's range", above=0.0)


def _check_cell(system: System, given: Options) -> None:
    """Raise InputError unless a system's cell can relax as it is told to, under its load."""
    cell, boundaries = given.cell, f"cell = {shown(given.cell)} with pbc = {system.pbc}"
    names = COMPONENTS[system.dimension]
    voigt = f"{len(names)} components ({' '.join(names)}) in {system.dimension} dimensions"
    if not any(system.pbc):
        raise InputError(
            f"{boundaries}: a cell can relax only where a direction is periodic; use cell=None"
        )
    if system.constraints is not None and system.constraints.bonds is not None:
        raise InputError(
            f"cell = {shown(given.cell)} with {system.constraints}: a strain would change the "
            "bonds that are held; use cell=None, or remove that constraint"
        )
    if isinstance(cell, tuple) and len(cell) != len(names):
        raise InputError(f"cell = {shown(cell)}: give {voigt}")
    if given.stress is not None and len(given.stress) != len(names):
        raise InputError(f"stress has {len(given.stress)} components: give {voigt}")
    if is_traced(system.cell):
        return
    span = span_of(system)
    if count_of(strain_projection(cell, span)) == 0:
        raise InputError(
            f"{boundaries}: no such strain lies within the periodic directions, and nothing would "
            "relax; use cell='full', or cell=None"
        )
    if all(system.pbc):
        return
    if is_traced(given.pressure) or given.pressure != 0.0:
        pressure = "being traced" if is_traced(given.pressure) else f"{given.pressure:g}"
        raise InputError(
            f"pressure is {pressure} with pbc = {system.pbc}: across a vacuum there is none; "
            "give no pressure, or a stress along the periodic directions"
        )
    if (given.stress is not None or given.smax is not None) and np.linalg.det(
        np.asarray(system.cell)
    ) == 0.0:
        name = "smax" if given.stress is None else "stress"
        raise InputError(
            f"{name} is given, and the cell has no volume that a stress could be per: give the "
            "system a full cell"
        )
    if given.stress is not None and not is_traced(given.stress):
        tensor = tensor_of(given.stress)
        across = np.abs(tensor - span @ tensor @ span).max()
        if across > ACROSS * np.abs(tensor).max():
            raise InputError(
                f"stress = {shown(given.stress.tolist())} with pbc = {system.pbc}: it acts across "
                "the vacuum; give one whose components there are zero"
            )


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
    stress: Any = None,
    smax: Any = None,
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
        stress: external stress, Voigt components, energy/length^D, or None.
        smax: largest stress at which to stop, energy/length^D, or None.
    """
    given = checked_options(method, max_steps, cell, pressure, False, max_step, skin, stress, smax)
    check_structure(system, potential, given)
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
