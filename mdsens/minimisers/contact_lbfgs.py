"""L-BFGS for large packings of discs, whose forces and steps are one loop compiled for the host."""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.errors import RelaxationError
from mdsens.mechanics.enthalpy import Landscape, largest_force
from mdsens.minimisers.line_search import LineSearchMinimiser
from mdsens.minimisers.minimiser import State
from mdsens.minimisers.segment import Segment
from mdsens.minimisers.steps import Bounds, Outcome, Outlook
from mdsens.potentials.overlap_law import OverlapLaw
from mdsens.potentials.potential import Potential

#: Discs from which on the loop is worth the time to load it.
FEWEST_DISCS = 2000
#: Steps times discs that nobody looks at the course for: a tenth of a second.
DISC_STEPS = 32_768
#: How far the first list of pairs reaches beyond contact, in largest moves of a disc in a trial.
SKIN_MOVES = 15.0
#: The same of any list.
MOST_SKIN = 20.0
#: Cells that a list's reach must fit into along each lattice vector.
FEWEST_CELLS = 4
#: Farthest coordinate, in ranges of the potential: beyond, forces show that positions are rounded.
FARTHEST = 1e4
#: Difference between the loop's forces and those of the potential at most, over that of a pair
#: whose overlap is all of its distance.
AGREEMENT = 1e-10


def suits_contact_list(landscape: Landscape) -> bool:
    """Whether a landscape is one that `ContactLBFGS` knows how to go down.

    Many discs that are free to move in a periodic cell that is fixed, and not far outside of it,
    and push one another by a power of their overlap, as their potential says.
    """
    system, potential = landscape.system, landscape.potential
    return (
        system.dimension == 2
        and system.atom_count >= FEWEST_DISCS
        and all(system.pbc)
        and landscape.cell_mode is None
        and landscape.motion is None
        and not np.asarray(landscape.system.fixed).any()
        and not np.asarray(landscape.rattlers).any()
        and potential.overlap_law is not None
        and bool(
            np.abs(np.asarray(system.positions)).max() <= FARTHEST * potential.interaction_range
        )
        and bool((_heights(landscape) > 2 * FEWEST_CELLS * potential.interaction_range).all())
    )


class ContactLBFGS(LineSearchMinimiser):
    """L-BFGS with a line search of discs that push one another, all of it in one compiled loop.

    Where contacts have all but settled Newton's method takes its place in the same loop.

    It has a list of pairs of its own, each once, and looks at the potential's own forces at its
    first step, from which its own must not differ: what it ends with is evaluated by these again.

    Arguments:
        history: number of past steps that model the curvature.
        max_step: largest move of a disc in one trial, length.
    """

    history: int = eqx.field(static=True, default=8)

    own_edges: ClassVar[bool] = True

    def runs_on_host(self, q: Float[Array, "R D"]) -> bool:
        """Always."""
        return True

    def start(self, q: Float[Array, "R D"]) -> Any:
        """No past steps yet, and discs in the order in which they are near one another."""
        places, count, history = np.asarray(q), q.shape[0], self.history
        # In bands as high as some discs, of about so many to a disc's square.
        side = 2.0 * np.sqrt(np.ptp(places, axis=0).prod() / count)
        order = np.lexsort((places[:, 0], np.floor(places[:, 1] / max(side, 1e-300))))
        return _Memory(
            order, places[order], np.zeros((2 * history, 2 * count), np.float32),
            np.zeros((2, history, history)), np.zeros(2 * history), np.zeros(2, np.int64),
            np.array([1.0, SKIN_MOVES * float(self.max_step), 0.0, np.inf, 0.0]),
        )  # fmt: skip

    def storable(self, memory: Any) -> Any:
        """All but the pairs, which are found anew where they were found."""
        return dataclasses.replace(memory, pairs=None, discs=None)

    def step(self, landscape: Landscape, state: State) -> State:
        """One step."""
        return self.steps(landscape, state, Bounds(0.0, 1, np.inf), 1).state  # type: ignore[arg-type]

    def steps(self, landscape: Landscape, state: State, bounds: Bounds, limit: int) -> Segment:
        """Steps until forces are small enough, none leads down, or there are enough of them.

        Arguments:
            landscape: the function, of a kind that `suits_contact_list`.
            state: where to begin.
            bounds: where to stop.
            limit: steps to take at most.

        Returns:
            The Segment.

        Raises:
            RelaxationError: the potential's `overlap_law` is not that of its energies.
        """
        from mdsens.mechanics.contact_pairs import energy_and_gradient, find_pairs
        from mdsens.minimisers.contact_steps import descend

        memory: _Memory = dataclasses.replace(state.memory)
        if memory.discs is None:
            memory.discs = self._discs(landscape, memory.order)
        order, (box, law) = memory.order, memory.discs
        q, gradient = np.asarray(state.q)[order], np.asarray(state.gradient)[order]
        energy = float(state.enthalpy)
        if memory.pairs is None:
            cell, inverse, shape, species = box
            memory.pairs = find_pairs(
                memory.reference, cell, inverse, shape, species, law.distances, law.epsilon,
                float(memory.numbers[1]),
            )  # fmt: skip
        if not memory.checked:
            found = np.empty_like(q)
            ends, laws, shifts = memory.pairs
            energy = energy_and_gradient(q, ends, laws, shifts, law.alpha, found)
            _check_agreement(found, gradient, law, landscape.potential)
            gradient, memory.checked = found, True
        limit *= max(1, DISC_STEPS // len(order))
        most = max(0, min(limit, int(bounds.step_limit)))
        course = np.zeros((limit, 2))
        past = memory.vectors, memory.products, memory.along, memory.places, memory.numbers
        max_step = float(self.max_step)
        settings = float(bounds.fmax), max_step, MOST_SKIN * max_step, most, *_typical_push(law, q)
        points = q, gradient, np.empty_like(q), np.empty_like(q), np.empty_like(q)
        flat = tuple(rows.reshape(-1) for rows in points)
        q, gradient, energy, memory.pairs, taken, evaluations, stalled = descend(
            points, flat, energy, memory.pairs, memory.reference, box, tuple(law), past, settings,
            course,
        )  # fmt: skip
        there, slope = np.empty_like(q), np.empty_like(q)
        there[order], slope[order] = q, gradient
        force = float(largest_force(slope))
        if not (np.isfinite(energy) and np.isfinite(force)):
            outcome = Outcome.NOT_FINITE
        elif force <= float(bounds.fmax):
            outcome = Outcome.CONVERGED
        elif stalled:
            outcome = Outcome.STALLED
        elif taken >= int(bounds.step_limit):
            outcome = Outcome.OUT_OF_STEPS
        else:
            outcome = Outcome.GOING
        outlook = Outlook(
            np.asarray(outcome), np.asarray(False), np.asarray(force), None, np.asarray(force)
        )
        state = State(
            on_device(there), on_device(energy), on_device(slope),
            on_device(int(state.evaluations) + evaluations), on_device(bool(stalled)), memory,
        )  # fmt: skip
        return Segment(state, np.asarray(taken), course[:, 0], course[:, 1], None, outlook)

    def _discs(self, landscape: Landscape, order: np.ndarray) -> tuple[Any, OverlapLaw]:
        """The box, with the species of the discs in an order of theirs; and how they push."""
        law = landscape.potential.overlap_law
        assert law is not None
        cell = np.asarray(landscape.system.cell)
        reach = law.distances.max() + MOST_SKIN * float(self.max_step)
        columns, rows = np.trunc(_heights(landscape) / reach).astype(int).tolist()
        species = np.asarray(landscape.potential.species_index(landscape.system))
        box = cell, np.linalg.inv(cell), (columns, rows), species[order].astype(np.int64)
        return box, law


@dataclasses.dataclass(eq=False)
class _Memory:
    """What is kept from step to step, of discs in an order of their own.

    Attributes:
        order: shape (N,), the disc at each place.
        reference: positions where the pairs were found, shape (N, 2).
        vectors: steps and changes of the gradient in turns, shape (2M, 2N).
        products: of steps with changes, and of changes, shape (2, M, M).
        along: of all vectors with the gradient, shape (2M,).
        places: how many of M are in use, and which is the oldest, shape (2,).
        numbers: the inverse curvature along the newest; the skin of the pairs, length, and how many
            steps they have served; the largest force to try Newton's method at, and how many steps
            of it in a row were worth little; shape (5,).
        checked: whether forces have been held against those of the potential.
        pairs: ends, numbers of the law, and shifts.
        discs: box and law.
    """

    order: Int[np.ndarray, " N"]
    reference: Float[np.ndarray, "N 2"]
    vectors: Float[np.ndarray, "M2 N2"]
    products: Float[np.ndarray, "2 M M"]
    along: Float[np.ndarray, " M2"]
    places: Int[np.ndarray, " 2"]
    numbers: Float[np.ndarray, " 5"]
    checked: bool = False
    pairs: Any = None
    discs: tuple[Any, OverlapLaw] | None = None


def _heights(landscape: Landscape) -> Float[np.ndarray, " 2"]:
    """The heights of the cell along its lattice vectors, length."""
    inverse = np.linalg.inv(np.asarray(landscape.system.cell))
    return 1.0 / np.linalg.norm(inverse, axis=0)


def _typical_push(law: OverlapLaw, q: Float[np.ndarray, "N 2"]) -> tuple[float, float]:
    """Factor and exponent of the energy of a packing that make a typical force of two discs.

    It is that of as many pairs as there are discs, which overlap alike and have all the energy.
    """
    epsilon, exponent = float(law.epsilon.max()), 1.0 - 1.0 / law.alpha
    one = law.alpha / (len(q) * epsilon)
    return epsilon / float(law.distances.min()) * one**exponent, exponent


def _check_agreement(
    found: np.ndarray, true: np.ndarray, law: OverlapLaw, potential: Potential
) -> None:
    """Raise RelaxationError where forces are not those of the potential."""
    error, size = np.abs(found - true).max(), (law.epsilon / law.distances).max()
    if not error <= AGREEMENT * max(size, np.abs(true).max()):
        raise RelaxationError(
            f"{type(potential).__name__}.overlap_law gives forces that differ by {error:.1e} "
            f"energy/length from those of its energies, of {np.abs(true).max():.1e} at most: mend "
            "the law, or let it be None"
        )
