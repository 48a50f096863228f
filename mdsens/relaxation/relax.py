"""relax: from a system and a potential to an Equilibrium, differentiable by its condition."""

import contextlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.implicit import SolverAt, custom_root
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import hessian_fits
from mdsens.mechanics.rattlers import find_rattlers
from mdsens.mechanics.traced_solver import hessian_solver_at
from mdsens.minimisers.minimiser import Minimiser
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.particles.edges import no_edges
from mdsens.particles.precision import require_double_precision
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation.arguments import (
    METHODS,
    check_structure,
    checked_capacity,
    checked_options,
)
from mdsens.relaxation.automatic import descend_automatically
from mdsens.relaxation.driver import Callback, Descent
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.relaxation.switched_shells import warn_of_switched_shells
from mdsens.relaxation.traced import TracedOptions, relax_traced
from mdsens.values import is_traced, real

#: Slots per atom that a traced relaxation has room for where the range is traced too.
TRACED_SLOTS = {2: 40, 3: 108}


#: Minimisers that assemble the Hessian.
NEED_HESSIAN = (Newton, PreconditionedLBFGS)


def relax(
    system: System,
    potential: Potential,
    method: str | Minimiser = "auto",
    fmax: float = 1e-8,
    max_steps: int = 20_000,
    cell: str | None = None,
    pressure: float | Float[Array, ""] = 0.0,
    fixed: Any = None,
    progress: bool = False,
    max_step: float = 0.2,
    skin: float | None = None,
    callback: Callback | None = None,
    capacity: tuple[int, int] | None = None,
) -> Equilibrium:
    """Relax a system to a state without forces, as a differentiable function of its inputs.

    The derivative is that of the condition dH/dq = 0 (Blondel et al., arXiv 2105.15183, eq. 2),
    whatever the minimiser: with respect to the potential's parameters, the cell, the pressure and
    the positions of fixed atoms; there is none with respect to the starting positions. It works
    under jax.grad, jacfwd, jacrev, hessian, jit and vmap.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential; parameters for every species of the system.
        method: ``"auto"`` (L-BFGS, then Newton), ``"fire"``, ``"gradient-descent"``, ``"lbfgs"``,
            ``"preconditioned-lbfgs"``, ``"cg"``, ``"newton"``, or a Minimiser.
        fmax: largest norm of a force on an atom at which to stop, energy/length.
        max_steps: steps to take at most; a relaxation that ends here is not converged.
        cell: what of the cell relaxes: None, ``"isotropic"``, ``"diagonal"`` or ``"full"``.
        pressure: external pressure against which the cell relaxes, energy/length^D; only where
            a cell relaxes.
        fixed: mask (N,) or indices of atoms to hold, instead of the system's own.
        progress: whether to show step, energy and largest force as it goes.
        max_step: largest move in one step, length (for FIRE, of all atoms together, as in ASE).
        skin: length by which edges reach beyond the range; None: a tenth of it, or 0.15 of it for
            particles that only push.
        callback: called with (step, energy, largest force, positions) every 100 steps or so.
        capacity: under jit or vmap, edges per atom and periodic images to make room for.

    Returns:
        The Equilibrium, with its certificate. One that did not converge says so there.

    Raises:
        InputError: something given is not allowed.
        RelaxationError: energy or forces are not finite, or the structure flies apart.

    Warns:
        MdsensWarning: a shell of neighbours of a crystal lies inside the potential's smooth switch.
    """
    require_double_precision()
    given = checked_options(method, max_steps, cell, pressure, progress, max_step, skin)
    method, max_steps, cell, pressure, progress, max_step, skin = given
    check_structure(system, potential, cell)
    fmax, capacity = real(fmax, "fmax", above=0.0), checked_capacity(capacity)
    if callback is not None and not callable(callback):
        raise InputError(f"callback is a {type(callback).__name__}: give a function, or None")
    if fixed is not None:
        system = system.with_fixed(fixed)
    pressure = on_device(pressure)
    inputs = jax.lax.stop_gradient((system, potential, pressure))

    def solve(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        start, frozen, load = inputs
        descent = Descent(
            start, frozen, cell, float(load), fmax, max_steps, skin, progress, callback
        )
        with descent.bar if descent.bar is not None else contextlib.nullcontext():
            if method == "auto":
                descend_automatically(descent, max_step)
            else:
                minimiser = (
                    METHODS[method](max_step=max_step) if isinstance(method, str) else method
                )
                if isinstance(minimiser, NEED_HESSIAN) and not hessian_fits(descent.landscape):
                    raise InputError(
                        f"method = {type(minimiser).__name__}: there is no memory for the Hessian; "
                        "use 'lbfgs', or 'auto', which does without where it must"
                    )
                descent.run(minimiser, descent.fmax, max_steps)
        return descent.q, descent

    if not is_traced(inputs):
        q, descent = solve(inputs)
        history = descent.history()
        force = on_device(history.forces[-1])
        preconditioner = descent.preconditioner
        edge_list = descent.valid_edges()
        settled = descent.landscape.system_at(q)
        rattlers = find_rattlers(settled, inputs[1], edge_list, force)
        warn_of_switched_shells(settled, inputs[1], edge_list)
    else:
        minimiser = method
        if isinstance(method, str) and method != "auto":
            minimiser = METHODS[method](max_step=max_step)
        options = TracedOptions(
            minimiser, fmax, max_steps, cell, max_step, skin, callback, progress,
            capacity or _traced_capacity(system, potential, skin),
        )  # fmt: skip
        q, edge_list, rattlers, force = relax_traced(*inputs, options)
        history = preconditioner = None

    landscape = Landscape.of(system, potential, edge_list, cell, pressure, rattlers)
    q = _root(q, landscape.with_rattlers_at(q).backbone())
    return Equilibrium(
        landscape.with_rattlers_at(q), q, inputs[0].positions, force, fmax,
        history, preconditioner,
    )  # fmt: skip


def unrelaxed(system: System, potential: Potential, cell: str | None = None) -> Equilibrium:
    """A structure as it is, without any edges, in the form of one that is relaxed.

    It shows what an observable needs of atoms, cell and boundaries; energies there mean nothing.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        cell: what of the cell would relax.

    Returns:
        The Equilibrium.
    """
    blank = no_edges(system.atom_count, system.dimension)
    landscape = Landscape.of(system, potential, blank, cell)
    return Equilibrium(
        landscape, landscape.coordinates, system.positions, on_device(0.0), 1.0, None, None
    )


def _condition(q: Float[Array, "R D"], landscape: Landscape) -> Float[Array, "R D"]:
    return landscape.condition(q)


def _null_space(q: Float[Array, "R D"], landscape: Landscape) -> Float[Array, "M R D"]:
    return landscape.null_vectors(q)


@custom_root(
    _condition,
    solve=SolverAt(hessian_solver_at),
    symmetric=True,
    null_space=_null_space,
    least_squares=True,
)
def _root(q: Float[Array, "R D"], landscape: Landscape) -> Float[Array, "R D"]:
    """The minimiser has found q; this gives it the derivative of its condition."""
    return q


def _traced_capacity(system: System, potential: Potential, skin: float | None) -> tuple[int, int]:
    """Room for edges where shapes must be known beforehand: half as much again as at the start."""
    search = potential.edge_search(system, skin)
    if not is_traced((system.positions, system.cell, search)):
        slots, ghosts = search.find(np.asarray(system.positions), np.asarray(system.cell)).capacity
        return int(1.5 * slots) + 8, int(1.5 * ghosts) + 64
    dimension = system.dimension
    slots = TRACED_SLOTS[dimension]
    return slots, (3**dimension - 1) * system.atom_count if any(system.pbc) else 0
