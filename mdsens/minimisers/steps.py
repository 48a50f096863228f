"""The contract of every loop of steps: is another one due, do the edges hold, and how did it end.

A relaxation runs as host code, compiled, side by side with others, or inside a function that JAX
traces. Each of these loops looks at where it is after every step, with `outlook`, and goes on with
`steps_while`; how it ended is an `Outcome`, and what went wrong a line by `failure`.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import array_module, on_device, squared_lengths
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.minimisers.minimiser import Minimiser, State
from mdsens.potentials.potential import Potential

#: Steps per compiled segment, after which progress is shown and Ctrl-C is heard.
SEGMENT_STEPS = 100
#: Longest trial move of an atom as a fraction of the skin: what remains serves many steps. Where
#: particles only push the skin is long, and longer moves would lose contacts.
TRIAL_FRACTION, CONTACT_TRIAL_FRACTION = 0.15, 0.05
#: An atom that has gone further than this many ranges has left for good.
ESCAPE_RANGES = 1000.0
#: A cell that has grown or shrunk by more than this factor along any line does not come to rest.
LARGEST_STRETCH = 5.0

Course = TypeVar("Course")
AnyMinimiser = TypeVar("AnyMinimiser", bound=Minimiser)


class Outcome(enum.IntEnum):
    """How a relaxation stands."""

    GOING = 0
    CONVERGED = 1
    NOT_FINITE = 2
    STALLED = 3
    OUT_OF_STEPS = 4


class Bounds(NamedTuple):
    """Where to stop.

    Attributes:
        fmax: largest force at which to stop, energy/length.
        step_limit: steps to take at most.
        allowed_distance: how far two atoms may come nearer before the edges may miss one, length.
    """

    fmax: Float[Array, ""]
    step_limit: Int[Array, ""]
    allowed_distance: Float[Array, ""]


class Outlook(NamedTuple):
    """What is seen from where a relaxation is.

    Attributes:
        outcome: how it stands, one of `Outcome`.
        outdated: whether the edges must be found anew before the next step.
        force: the largest force, energy/length.
        stress: the largest stress that the load does not balance, energy/length^D; None where the
            cell is fixed.
        left: what convergence goes by, energy/length: the force, or the stress in its unit.
    """

    outcome: Int[Any, "..."]
    outdated: Bool[Any, "..."]
    force: Float[Any, "..."]
    stress: Float[Any, "..."] | None
    left: Float[Any, "..."]

    @property
    def unfinished(self) -> Bool[Any, "..."]:
        """Whether more is to be done: steps, or finding edges."""
        return self.outcome == Outcome.GOING

    @property
    def due(self) -> Bool[Any, "..."]:
        """Whether another step is to be taken with the edges that there are."""
        return self.unfinished & ~self.outdated


def outlook(
    landscape: Landscape,
    state: State,
    reference: Float[Any, "R D"],
    steps: Int[Any, ""],
    bounds: Bounds,
) -> Outlook:
    """How a relaxation stands.

    Arguments:
        landscape: the function to minimise.
        state: where it is.
        reference: degrees of freedom at which the edges were found, shape (R, D).
        steps: steps taken.
        bounds: where to stop.

    Returns:
        The Outlook; in NumPy where all of it is.
    """
    force, stress = landscape.forces_left(state.q, state.gradient)
    left = landscape.held_against_fmax(force, stress)
    outdated = landscape.displacement_bound(state.q, reference) >= bounds.allowed_distance
    xp = array_module((state.q, state.gradient, steps))
    finite = xp.isfinite(largest_force(state.gradient)) & xp.isfinite(state.enthalpy)
    reasons = {
        Outcome.NOT_FINITE: ~finite,
        Outcome.CONVERGED: left <= bounds.fmax,
        Outcome.STALLED: state.stalled,
        Outcome.OUT_OF_STEPS: steps >= bounds.step_limit,
    }
    codes = [xp.asarray(outcome, np.int32) for outcome in reasons]
    outcome = xp.select(list(reasons.values()), codes, xp.asarray(Outcome.GOING, np.int32))
    return Outlook(outcome, outdated, force, stress, left)


def steps_while(
    worth: Callable[[Course, Outlook], Bool[Array, ""]],
    step: Callable[[Course, Outlook], Course],
    look: Callable[[Course], Outlook],
    course: Course,
    most: int | Int[Array, ""],
    seen: Outlook | None = None,
) -> tuple[Course, Outlook, Int[Array, ""]]:
    """Take steps as long as it is worth it; the loop of all compiled relaxations.

    Arguments:
        worth: whether to take another step.
        step: takes one.
        look: what is seen after it.
        course: where to begin; any pytree.
        most: number of steps at most.
        seen: what is seen from there; None: it is looked for.

    Returns:
        Where it ended, what is seen from there, and the number of steps taken.
    """

    def going(carry: tuple[Course, Outlook, Array]) -> Array:
        course, seen, taken = carry
        return worth(course, seen) & (taken < most)

    def one(carry: tuple[Course, Outlook, Array]) -> tuple[Course, Outlook, Array]:
        course, seen, taken = carry
        course = step(course, seen)
        return course, look(course), taken + 1

    begin = (course, look(course) if seen is None else seen, jnp.asarray(0))
    end: tuple[Course, Outlook, Array] = jax.lax.while_loop(going, one, begin)
    return end


def trial_fraction(potential: Potential) -> float:
    """Longest trial move of an atom in a potential, as a fraction of the skin of its edges."""
    return CONTACT_TRIAL_FRACTION if potential.contact else TRIAL_FRACTION


def within_skin(
    minimiser: AnyMinimiser, skin: Any, fraction: float = TRIAL_FRACTION
) -> tuple[AnyMinimiser, Float[Array, ""]]:
    """A minimiser whose trial moves the edges outlast, and how near atoms may come meanwhile.

    Arguments:
        minimiser: the algorithm.
        skin: length by which the edges reach further than the potential.
        fraction: longest trial move of an atom as a fraction of it.

    Returns:
        The minimiser with trial moves of at most that length; and the distance by which two atoms
        may come nearer between steps, length.
    """
    minimiser = minimiser.limited(fraction * skin)
    return minimiser, on_device(skin - 2.0 * minimiser.trial_distance)


def failure(
    q: Float[np.ndarray, "R D"],
    start: Float[np.ndarray, "S D"],
    enthalpy: float,
    gradient: Float[np.ndarray, "R D"],
    steps: int,
    reach: float,
    count: int,
    deformation: Float[np.ndarray, "D D"] | None = None,
) -> str | None:
    """What has gone wrong in a line; None where there are numbers, and not far away.

    Arguments:
        q: degrees of freedom, shape (R, D).
        start: those at the beginning, shape (S, D), at least the positions.
        enthalpy: at q, energy.
        gradient: at q, energy/length.
        steps: steps taken.
        reach: the potential's range, length; infinite where it does not act along edges.
        count: number of atoms, N.
        deformation: of the cell since the beginning, shape (D, D); None: it is fixed.

    Returns:
        The line, or None.
    """
    stretches = np.ones(1)
    if deformation is not None and np.isfinite(deformation).all():
        # Of one that has turned inside out the smallest is negative.
        stretches = np.linalg.eigvalsh((deformation + deformation.T) / 2)
    for ways, stretch, gone in (
        ("collapses", stretches[0], stretches[0] < 1.0 / LARGEST_STRETCH),
        ("explodes", stretches[-1], stretches[-1] > LARGEST_STRETCH),
    ):
        if gone:
            return (
                f"the cell {ways}: along one line it is {max(stretch, 0.0):.3g} times as long as "
                f"at the start after {steps} steps; give a load that the potential withstands, or "
                "a start nearer to the minimum"
            )
    whole = np.isfinite(gradient[:count])
    bad = [] if whole.all() else np.flatnonzero(~whole.all(axis=1)).tolist()
    if len(bad) or not np.isfinite(enthalpy):
        return (
            f"energy or forces are not finite after {steps} steps, on atoms "
            f"{bad[:8]}: move overlapping atoms apart or check the potential there"
        )
    moved = np.sqrt(squared_lengths(q[:count] - start[:count]))
    if moved.max() > ESCAPE_RANGES * reach:
        atom = int(moved.argmax())
        return (
            f"the structure flies apart: atom {atom} has moved by {moved[atom]:.3g} after "
            f"{steps} steps; check the potential, the starting structure and max_step"
        )
    return None
