"""relax: from a system and a potential to an Equilibrium, differentiable by its condition."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import of_one_type, on_device
from mdsens.compilation import garbage_kept, hurried_while
from mdsens.errors import InputError, RelaxationError
from mdsens.implicit import BlockSolver, SolverAt, custom_root
from mdsens.mechanics.assembled_solver import response_solver
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_by_calls import hessian_solver
from mdsens.mechanics.hessian_solver import hessian_fits
from mdsens.mechanics.rattlers import rattlers_on_host
from mdsens.mechanics.relaxing_cell import CellMode, RelaxingCell
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
from mdsens.relaxation.checkpoint import Checkpoint
from mdsens.relaxation.driver import Callback, Descent, History
from mdsens.relaxation.equilibrium import Equilibrium
from mdsens.relaxation.switched_shells import warn_of_switched_shells
from mdsens.relaxation.traced import Found, TracedOptions, relax_traced
from mdsens.resources import DENSE_LIMIT, products_on_one_core
from mdsens.values import boolean, is_traced, real

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
    cell: str | Sequence[bool | int] | np.ndarray | None = None,
    pressure: float | Float[Array, ""] = 0.0,
    fixed: Any = None,
    progress: bool = False,
    max_step: float = 0.2,
    skin: float | None = None,
    callback: Callback | None = None,
    capacity: tuple[int, int] | None = None,
    stress: Sequence[float] | Float[Any, " V"] | None = None,
    smax: float | None = None,
    symmetry: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
) -> Equilibrium:
    """Relax a system to a state without forces, as a differentiable function of its inputs.

    The derivative is that of the condition dH/dq = 0 (Blondel et al., arXiv 2105.15183, eq. 2),
    whatever the minimiser: with respect to the potential's parameters, the cell, the pressure or
    the stress, and the positions of fixed atoms; there is none with respect to the starting
    positions. It works under jax.grad, jacfwd, jacrev, hessian, jit and vmap.

    What of the cell relaxes is a symmetric strain of the cell that it starts with. ``"full"`` takes
    all components, ``"diagonal"`` xx, yy and zz alone, ``"isotropic"`` one scale for all lattice
    vectors, ``"shape"`` all components at a volume that stays what it is; a mask those components
    that it names, as that of ASE's cell filters. Of a slab or a wire only what lies in the span of
    its lattice vectors is strained, however that is turned, and nothing across the vacuum:
    ``"isotropic"`` scales the lattice vectors of the periodic directions, ``"shape"`` keeps the
    area that they span, and ``"diagonal"`` and masks strain them as far as the part in their span
    of a strain with these components does. For a wire all but ``"shape"`` are the same: its
    period.

    The load is a pressure p or a stress. Of a stress sigma the part without trace, s, is that on
    the cell as it starts, of volume V0, and does the work V0 s : E of a second Piola-Kirchhoff
    stress with Green's strain E; the rest is the pressure -tr(sigma)/D: H = E + p V - V0 s : E
    (M. Parrinello and A. Rahman, J. Appl. Phys. 52, 7182 (1981)). With the cell's deformation A
    from its start, of determinant J, the stress at rest is then -p + A^T s A / J: sigma to first
    order in the strain, and exactly for a pressure. Relaxing what was relaxed once more brings it
    nearer. There is no enthalpy of a stress that stays the same while the cell shears. A pressure
    that acts on a cell of constant volume moves nothing.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential; parameters for every species of the system.
        method: ``"auto"`` (L-BFGS, then Newton), ``"fire"``, ``"gradient-descent"``, ``"lbfgs"``,
            ``"preconditioned-lbfgs"``, ``"cg"``, ``"newton"``, or a Minimiser.
        fmax: largest norm of a force on an atom at which to stop, energy/length.
        max_steps: steps to take at most; a relaxation that ends here is not converged.
        cell: what of the cell relaxes: None, ``"isotropic"``, ``"diagonal"``, ``"full"``,
            ``"shape"``, or a mask of the strain components, six booleans (or 0 and 1) in Voigt
            order, xx yy zz yz xz xy, or three in two dimensions, xx yy xy; or the symmetric matrix
            of them.
        pressure: external pressure against which the cell relaxes, energy/length^D; only where
            a cell relaxes, and is periodic in every direction.
        fixed: mask (N,) or indices of atoms to hold, instead of the system's own.
        progress: whether to show step, energy and largest force as it goes.
        max_step: largest move in one step, length (for FIRE, of all atoms together, as in ASE).
        skin: length by which edges reach beyond the range; None: a tenth of it, or 0.15 of it for
            particles that only push.
        callback: called with (step, energy, largest force, positions) every 100 steps or so.
        capacity: under jit or vmap, edges per atom and periodic images to make room for.
        stress: external stress in place of a pressure, Voigt components in the order of the mask,
            energy/length^D, positive under tension; that of a slab or a wire has no components
            across the vacuum, and is per volume of a cell with lattice vectors there too.
        smax: largest component of the stress that the load does not balance at which to stop,
            energy/length^D, among those that relax; ``fmax`` is then for atoms alone. None: the
            force on the cell is held against ``fmax`` as those on atoms are, with the strain times
            sqrt(N) (V/N)^(1/D) as its displacement.
        symmetry: whether atoms and cell keep the space group of the system, as by
            `System.with_symmetry`.
        checkpoint: a file ``.npz`` to write now and then, and to go on from where it is there; it
            is removed when the relaxation has ended, converged or not. All but ``max_steps``,
            ``progress`` and ``callback`` must be as they were. Not under jit or vmap.
        checkpoint_every: seconds between two writings at least; they take 1 % of the time at most.

    Returns:
        The Equilibrium, with its certificate. One that did not converge says so there.

    Raises:
        InputError: something given is not allowed, or the checkpoint is damaged or of another
            relaxation.
        RelaxationError: energy or forces are not finite, the structure flies apart, or the cell
            collapses or explodes.

    Warns:
        MdsensWarning: a shell of neighbours of a crystal lies inside the potential's smooth switch.
    """
    require_double_precision()
    given = checked_options(
        method, max_steps, cell, pressure, progress, max_step, skin, stress, smax
    )
    method, max_steps, progress = given.method, given.max_steps, given.progress
    max_step, skin, smax = given.max_step, given.skin, given.smax
    check_structure(system, potential, given)
    system, potential = of_one_type((system, potential.in_system(system)))
    fmax, capacity = real(fmax, "fmax", above=0.0), checked_capacity(capacity)
    if callback is not None and not callable(callback):
        raise InputError(f"callback is a {type(callback).__name__}: give a function, or None")
    if fixed is not None:
        system = system.with_fixed(fixed)
    if boolean(symmetry, "symmetry"):
        system = system.with_symmetry()
    relaxing = RelaxingCell.of(
        system, given.cell, given.pressure, given.stress, None if smax is None else fmax / smax
    )
    relaxing = of_one_type(relaxing)
    inputs = of_one_type(jax.lax.stop_gradient((system, potential, relaxing)))

    every = real(checkpoint_every, "checkpoint_every", above=0.0)
    if checkpoint is not None and is_traced(inputs):
        raise InputError(
            "checkpoint is given, and the relaxation is traced: compiled into another function it "
            "writes no files; relax outside jit and vmap, or give no checkpoint"
        )

    if not is_traced(inputs):
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, every, (*inputs, method, fmax, max_step, skin))
        descent = Descent(*inputs, fmax, max_steps, skin, progress, callback, checkpoint=kept)
        with _kept(descent):
            _descend(descent, method, max_step)
        found = _found(descent)
        history: History | None = descent.history()
        preconditioner = descent.preconditioner
    else:
        minimiser = method
        if isinstance(method, str) and method != "auto":
            minimiser = METHODS[method](max_step=max_step)
        options = TracedOptions(
            minimiser, fmax, max_steps, max_step, skin, callback, progress,
            capacity or _traced_capacity(system, potential, skin),
        )  # fmt: skip
        with garbage_kept:
            found = relax_traced(*inputs, options)
        history = preconditioner = None

    with garbage_kept if is_traced(inputs) else contextlib.nullcontext():
        landscape = Landscape.in_cell(system, potential, found.edge_list, relaxing, found.rattlers)
        landscape = landscape.with_rattlers_at(found.q).touching(found.q)
        q = _root(found.q, landscape.backbone())
    return Equilibrium(
        landscape, q, inputs[0].positions, found.force, fmax,
        history, preconditioner, found.stress, smax,
    )  # fmt: skip


def relax_further(
    equilibrium: Equilibrium,
    potential: Potential,
    method: str | Minimiser,
    fmax: float,
    max_steps: int,
    max_step: float,
    skin: float | None,
) -> Equilibrium:
    """Relax on from an equilibrium, perhaps in another potential, under the same conditions.

    The strain is that of the cell that the first relaxation began with: to begin with the relaxed
    cell would be another condition where the work of a load, or which strains a mask allows, is
    told from there.

    Arguments:
        equilibrium: where to begin; what may relax, and against which load.
        potential: the potential.
        method: name of a minimiser, or a Minimiser.
        fmax: largest norm of a force at which to stop, on the cell too, energy/length.
        max_steps: steps to take at most.
        max_step: largest move in one step, length.
        skin: length by which edges reach beyond the range, or None.

    Returns:
        The Equilibrium.

    Raises:
        RelaxationError: energy or forces are not finite, or the structure flies apart.
    """
    system, cell = equilibrium.landscape.system, equilibrium.landscape.relaxing_cell
    if cell is not None:
        cell = dataclasses.replace(cell, stress_weight=None)
    descent = Descent(system, potential, cell, fmax, max_steps, skin, start=equilibrium.q)
    _descend(descent, method, max_step)
    found = _found(descent)
    landscape = Landscape.in_cell(system, potential, found.edge_list, cell, found.rattlers)
    landscape = landscape.with_rattlers_at(found.q).touching(found.q)
    return Equilibrium(
        landscape, found.q, equilibrium.start, found.force, fmax,
        descent.history(), descent.preconditioner, found.stress,
    )  # fmt: skip


def _descend(descent: Descent, method: str | Minimiser, max_step: float) -> None:
    """Let a minimiser, or the policy "auto", take a relaxation down on the host."""
    with contextlib.ExitStack() as stack:
        if descent.bar is not None:
            stack.enter_context(descent.bar)
        if descent.q.size > DENSE_LIMIT:
            stack.enter_context(products_on_one_core())
        if method == "auto":
            descend_automatically(descent, max_step)
            return
        minimiser = METHODS[method](max_step=max_step) if isinstance(method, str) else method
        if isinstance(minimiser, NEED_HESSIAN) and not hessian_fits(descent.landscape):
            raise InputError(
                f"method = {type(minimiser).__name__}: there is no memory for the Hessian; use "
                "'lbfgs', or 'auto', which does without where it must"
            )
        descent.run(minimiser, descent.fmax, descent.max_steps)


@contextlib.contextmanager
def _kept(descent: Descent) -> Iterator[None]:
    """The same bits from a relaxation with a checkpoint as often as it stops, and no file after."""
    if descent.checkpoint is None:
        yield
        return
    try:
        with hurried_while(lambda: descent.early):
            yield
    except RelaxationError:
        descent.checkpoint.remove()
        raise
    descent.checkpoint.remove()


def _found(descent: Descent) -> Found:
    """What a relaxation on the host has found."""
    history = descent.history()
    force, stress = on_device(history.forces[-1]), None
    if history.stresses is not None:
        stress = on_device(history.stresses[-1])
    edge_list, potential = descent.valid_edges(), descent.landscape.potential
    q, settled = descent.landscape.settled(descent.q), descent.landscape.system_at(descent.q)
    rattlers = rattlers_on_host(settled, potential, edge_list, force, descent.gradient)
    warn_of_switched_shells(settled, potential, edge_list)
    return Found(q, edge_list, rattlers, force, stress)


def unrelaxed(system: System, potential: Potential, cell: CellMode = None) -> Equilibrium:
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


def at_start(
    system: System,
    potential: Potential,
    fmax: float = 1e-8,
    cell: Any = None,
    pressure: Any = 0.0,
    skin: float | None = None,
    stress: Any = None,
    smax: float | None = None,
    **_: Any,
) -> Equilibrium:
    """A structure as it is, in the form that `relax` will return it in.

    Arguments:
        system: as in `relax`, as are all others.
        potential: likewise.
        fmax: likewise.
        cell: likewise.
        pressure: likewise.
        skin: likewise.
        stress: likewise.
        smax: likewise.
        _: what does not change the form.

    Returns:
        The Equilibrium, which is none.
    """
    system, potential = of_one_type((system, potential.in_system(system)))
    relaxing = of_one_type(
        RelaxingCell.of(system, cell, pressure, stress, None if smax is None else fmax / smax)
    )
    descent = Descent(system, potential, relaxing, fmax, 0, skin)
    edge_list, blank = descent.valid_edges(), on_device(np.zeros(system.atom_count, bool))
    landscape = Landscape.in_cell(system, potential, edge_list, relaxing, blank)
    landscape = landscape.with_rattlers_at(descent.q).touching(descent.q)
    left = None if relaxing is None else on_device(0.0)
    return Equilibrium(
        landscape, descent.q, system.positions, on_device(0.0), fmax, None, None, left, smax
    )


def _condition(q: Float[Array, "R D"], landscape: Landscape) -> Float[Array, "R D"]:
    return landscape.condition(q)


def _null_space(q: Float[Array, "R D"], landscape: Landscape) -> Any:
    return landscape.null_basis(q)


def _solver_of_numbers(
    condition: Callable[..., Any], q: Float[Array, "R D"], varied: Any, landscape: Landscape
) -> BlockSolver:
    """As `sensitivity` solves: with the assembled Hessian, of which the relaxation has the code."""
    hessian = hessian_solver(landscape, q) if hessian_fits(landscape) else None
    null_vectors = None if hessian is not None else landscape.null_vectors(q)
    return response_solver(condition, q, (varied,), hessian, null_vectors)


@custom_root(
    _condition,
    solve=SolverAt(hessian_solver_at, _solver_of_numbers),
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
