"""Derivatives against finite differences of structures that are relaxed anew."""

import dataclasses
import re
from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import RelaxationError
from mdsens.observables import Observable
from mdsens.particles import EdgeList, Edges, System, edge_blocks
from mdsens.potentials import Potential
from mdsens.relaxation import Equilibrium, relax
from mdsens.sensitivities import Sensitivity, sensitivity
from mdsens.sensitivities.sensitivity import require_reliable
from mdsens.study.study import Study

#: What the relaxed positions are called beside the observables.
POSITIONS = "positions"
#: Largest force that structures are relaxed to for finite differences, energy/length.
TIGHT_FMAX = 1e-12
#: How often the step is halved before a minimum is given up as not followed.
MOST_HALVINGS = 10
#: A derivative below this part of the largest one has its error taken relative to that part.
SCALE_FLOOR = 1e-3
#: A derivative below this part of an observable's natural size is rounding, and counts as zero.
ROUNDING_FLOOR = 1e-5
#: How far two displacements that should be opposite, or double, may be off.
LINEARITY = 0.2


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One derivative, both ways.

    Attributes:
        observable: name of the observable, or ``"positions"``.
        parameter: name of the parameter.
        implicit: the derivative by implicit differentiation.
        finite_difference: the derivative by finite differences.
        error: relative error, see `relative_error`.
        step: change of the parameter, in its own unit.
        halvings: how often the step was halved to follow the same minimum.
    """

    observable: str
    parameter: str
    implicit: np.ndarray
    finite_difference: np.ndarray
    error: float
    step: float
    halvings: int


@dataclasses.dataclass(frozen=True)
class Verification:
    """All comparisons of a study.

    Attributes:
        comparisons: one for each observable and parameter.
        tolerance: largest relative error allowed.
        fmax: largest force left over in any structure, energy/length.
    """

    comparisons: tuple[Comparison, ...]
    tolerance: float
    fmax: float

    @property
    def largest_error(self) -> float:
        """The largest relative error; infinite if one is not a number."""
        errors = np.array([comparison.error for comparison in self.comparisons])
        return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))

    @property
    def passed(self) -> bool:
        """Whether every error is within the tolerance."""
        return self.largest_error <= self.tolerance


def verify_study(study: Study, report: Callable[[str], None] | None = None) -> Verification:
    """Compare every derivative of a study with finite differences of re-relaxations.

    The structure is relaxed as the study says, and then on to a force of 1e-12. Each parameter is
    changed by +h, -h, +h/2, -h/2, the structure relaxed anew from there, and the central
    differences D(h) are extrapolated, (4 D(h/2) - D(h)) / 3, to an error of order h^4 (L. F.
    Richardson, Phil. Trans. R. Soc. A 210, 307 (1911)). All relaxations after the first use
    Newton's method, which stays in its valley.

    A finite difference means something only if all points lie in the same minimum. So the atoms'
    displacements at +h and -h must be opposite, those at h double those at h/2, and where
    particles only push, the same pairs must touch; else the step is halved.

    Arguments:
        study: from `load_study`.
        report: called with a line of text as the work goes on.

    Returns:
        The Verification.

    Raises:
        UnreliableDerivativeError: the structure is unconverged or unstable.
        RelaxationError: no step is small enough to follow the minimum.
    """
    say = report or (lambda line: None)
    study.check()
    first = study.relax()
    require_reliable(first.certificate)
    base = relax_on(study, first, first)
    # As far as rounding let it: what was reached is reported.
    names = study.parameters
    mode = study.file.sensitivity.mode
    implicit = sensitivity(
        base,
        study.observables,
        names,
        "forward" if mode == "auto" else mode,
        allow_unconverged=True,
        error_estimate=False,
    )
    columns = []
    largest = float(base.fmax)
    for name in names:
        differences = _Differences(study, base, name)
        columns.append(differences.derivatives(say))
        largest = max(largest, differences.fmax)
        say(f"{name}: step {columns[-1][1]:.3g}, largest force left over {differences.fmax:.1e}")
    comparisons = []
    for observable in (POSITIONS, *implicit):
        ours = {n: _implicit(implicit, observable, n, base) for n in names}
        natural = _natural_size(observable, implicit, base)
        for name, (found, step, halvings) in zip(names, columns, strict=True):
            value = found[observable]
            error = relative_error(value, ours, name, implicit.parameters, natural)
            comparisons.append(
                Comparison(observable, name, ours[name], value, error, step, halvings)
            )
    return Verification(tuple(comparisons), study.file.verify.tolerance, largest)


def relative_error(
    found: np.ndarray,
    derivatives: dict[str, np.ndarray],
    name: str,
    parameters: dict[str, float],
    natural_size: float,
) -> float:
    """How far a finite difference is from a derivative, relative to a size that is never zero.

    |found - derivative| / max(|derivative|, floor). The floor serves derivatives that vanish by
    symmetry, where a relative error would be 0/0: it is one thousandth of the largest
    |theta dO/dtheta| among all parameters, divided by |theta|. An error of 1e-6 is then at most a
    billionth of what the observable does when its leading parameter changes by as much. Where
    all derivatives vanish, a hundred-thousandth of the observable's natural size takes its place.

    Arguments:
        found: the finite difference.
        derivatives: the observable's derivative in each parameter.
        name: the parameter.
        parameters: values of all parameters; one that is zero counts as one.
        natural_size: size of the observable from the energy and the range of the potential.

    Returns:
        The relative error, in the Euclidean norm over all entries.
    """
    sizes = {key: abs(value) or 1.0 for key, value in parameters.items()}
    leading = max(sizes[key] * float(np.linalg.norm(value)) for key, value in derivatives.items())
    floor = max(SCALE_FLOOR * leading, ROUNDING_FLOOR * natural_size) / sizes[name]
    size = max(float(np.linalg.norm(derivatives[name])), floor)
    return float(np.linalg.norm(found - derivatives[name]) / size)


def position_differences(study: Study, base: Equilibrium, name: str) -> Float[np.ndarray, "N D"]:
    """The derivative of the positions by finite differences, with the same contacts at every point.

    Arguments:
        study: how to relax, and the first step to try.
        base: the structure at the parameter's own value.
        name: the parameter.

    Returns:
        The derivative, without what the energy does not determine.

    Raises:
        RelaxationError: no step is small enough to follow the minimum.
    """
    return _Differences(study, base, name, ()).derivatives(lambda line: None)[0][POSITIONS]


class _Differences:
    """Finite differences along one parameter.

    Arguments:
        study: the study.
        base: the structure at the parameter's own value.
        name: the parameter.
        observables: what to differentiate beside the positions; None: those of the study.
    """

    def __init__(
        self,
        study: Study,
        base: Equilibrium,
        name: str,
        observables: Iterable[Observable] | None = None,
    ):
        self.study, self.base, self.name = study, base, name
        self.observables = study.observables if observables is None else tuple(observables)
        self.value = base.potential.parameters[name]
        self.points: dict[float, Equilibrium] = {}
        self.fmax = 0.0

    def derivatives(self, say: Callable[[str], None]) -> tuple[dict[str, np.ndarray], float, int]:
        """Derivatives of positions and observables, the step, and how often it was halved."""
        step = self.study.file.verify.step * (abs(self.value) or 1.0)
        for halvings in range(MOST_HALVINGS + 1):
            trouble = self._trouble(step)
            if not trouble:
                return self._extrapolated(step), step, halvings
            say(f"{self.name}: {trouble} at a step of {step:.3g}; halving it")
            step /= 2.0
        raise RelaxationError(
            f"{self.name}: no step down to {2 * step:.1e} stays in the same minimum ({trouble}): "
            "the structure is about to change there, and has no derivative to compare with"
        )

    def _at(self, change: float) -> Equilibrium:
        if change not in self.points:
            # Not by with_parameters: one step out of a parameter's domain, as below q = 0 of
            # Stillinger-Weber, the energy goes on smoothly.
            potential = self.base.potential
            changed = jax.tree.map(
                lambda leaf, unit: leaf + change * unit, potential, potential.direction(self.name)
            )
            moved = eqx.tree_at(lambda e: e.landscape.potential, self.base, changed)
            self.points[change] = relax_on(self.study, moved, self.base)
            self.fmax = max(self.fmax, float(self.points[change].fmax))
        return self.points[change]

    def _trouble(self, step: float) -> str:
        """Why the points at this step are not all in the same minimum; empty if they are."""
        points = {change: self._at(change) for change in (step, -step, step / 2, -step / 2)}
        if self.base.potential.contact:
            contacts = contact_network(self.base)
            if any(contact_network(point) != contacts for point in points.values()):
                return "other spheres touch"
        moves = {change: _moves(point, self.base) for change, point in points.items()}
        up, down, half = moves[step], moves[-step], moves[step / 2]
        size = max(np.linalg.norm(up), np.linalg.norm(down))
        # Displacements that are rounding have no direction.
        nothing = 1e-9 * float(self.base.potential.interaction_range) * np.sqrt(up.size)
        for off in (up + down, up - 2.0 * half):
            if np.linalg.norm(off) > LINEARITY * size + nothing:
                return "another minimum is reached"
        return ""

    def _extrapolated(self, step: float) -> dict[str, np.ndarray]:
        observables: dict[str, Callable] = {o.name: o for o in self.observables}
        observables[POSITIONS] = lambda point: _moves(point, self.base)

        def central(observable: Callable, h: float) -> np.ndarray:
            above, below = (np.asarray(observable(self._at(change))) for change in (h, -h))
            return (above - below) / (2.0 * h)

        return {
            name: (4.0 * central(observable, step / 2) - central(observable, step)) / 3.0
            for name, observable in observables.items()
        }


def contact_network(equilibrium: Equilibrium) -> frozenset[tuple[int, ...]]:
    """Which particles push one another.

    Arguments:
        equilibrium: a packing.

    Returns:
        The pairs with a force between them: both indices, and the image of the second.
    """
    landscape = equilibrium.landscape
    system, edge_list = equilibrium.system, equilibrium.edge_list
    placed = landscape.system_at(equilibrium.q)
    pushing = np.asarray(_pushing(placed, equilibrium.potential, edge_list))
    count = system.atom_count
    neighbors = np.asarray(edge_list.neighbors)
    owners = np.concatenate([np.arange(count), np.asarray(edge_list.ghost_owners), [0]])
    home = np.zeros((count, system.dimension))
    images = np.concatenate([home, np.asarray(edge_list.ghost_images), home[:1]]).astype(int)
    blocks, slots, size = np.nonzero(pushing)
    targets = neighbors[blocks, slots, size]
    origins = blocks * neighbors.shape[2] + size
    loose = np.asarray(landscape.loose)
    return frozenset(
        (int(i), int(owners[j]), *images[j].tolist())
        for i, j in zip(origins, targets, strict=True)
        if not (loose[i] or loose[owners[j]])
    )


@eqx.filter_jit
def _pushing(system: System, potential: Potential, edge_list: EdgeList) -> Array:
    # Of arrays alone, not of an Equilibrium: that would be compiled anew for each.
    def pushes(edges: Edges) -> Array:
        gradients = potential.site_energies_and_gradients(edges)[1]
        return edges.mask & sum((g != 0.0 for g in gradients), start=jnp.zeros_like(edges.mask))

    return edge_blocks(
        pushes, system.positions, system.cell, potential.species_index(system), edge_list
    )


def relax_on(study: Study, moved: Equilibrium, base: Equilibrium) -> Equilibrium:
    """Relax from a structure in another potential, as far down as rounding allows.

    Arguments:
        study: what may move, and how far down at least.
        moved: holds the potential.
        base: the structure to begin at.

    Returns:
        The Equilibrium, by Newton's method, which stays in its valley.

    Raises:
        RelaxationError: the forces do not come down to what the study asks for.
    """
    options = {k: study.relaxation[k] for k in ("cell", "pressure", "max_step", "max_steps")}
    found = relax(base.system, moved.potential, "newton", TIGHT_FMAX, **options)
    if not float(found.fmax) <= max(study.relaxation["fmax"], TIGHT_FMAX):
        raise RelaxationError(
            "a structure with a parameter changed a little does not relax below a largest force "
            f"of {float(found.fmax):.1e}: give a smaller verify.step or a larger relaxation.fmax"
        )
    # Displacements are measured from where the study itself began.
    return eqx.tree_at(lambda e: e.start, found, base.start)


def _moves(point: Equilibrium, base: Equilibrium) -> Float[np.ndarray, "N D"]:
    """Displacements of the atoms between two structures, without what moves nothing."""
    return determined(np.asarray(point.positions - base.positions), base)


def determined(moves: np.ndarray, base: Equilibrium) -> np.ndarray:
    """The part of displacements that the energy determines: no rattlers, no drift, no turning.

    Arguments:
        moves: shape (..., N, D).
        base: where they begin.

    Returns:
        The same shape, with zeros for loose atoms and without null modes.
    """
    count = base.system.atom_count
    loose = np.asarray(base.landscape.loose)
    moves = np.where(loose[:, None], 0.0, moves)
    floppy = base.certificate.floppy_vectors
    vectors = np.asarray(base.landscape.null_vectors(base.q))
    size = count * moves.shape[-1]
    rows = np.concatenate([vectors, floppy])[:, :count].reshape(-1, size)
    rows = rows[np.linalg.norm(rows, axis=1) > 1e-12]
    if not len(rows):
        return moves
    _, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    basis = basis[sizes > 1e-8 * sizes.max()]
    flat = moves.reshape(-1, size)
    return (flat - (flat @ basis.T) @ basis).reshape(moves.shape)


def _implicit(implicit: Sensitivity, observable: str, name: str, base: Equilibrium) -> np.ndarray:
    if observable == POSITIONS:
        return determined(np.asarray(implicit.positions[name]), base)
    return np.asarray(implicit[observable][name])


def _natural_size(observable: str, implicit: Sensitivity, base: Equilibrium) -> float:
    """Size of an observable by its dimension, from the energy and the potential's range."""
    if observable == POSITIONS:
        return float(base.potential.interaction_range)
    asked: Observable = implicit.observables[observable]
    if asked.dimension == "angle":
        return 180.0 / np.pi
    energy = abs(float(base.energy)) / base.system.atom_count
    length = float(base.potential.interaction_range)
    size, below = 1.0, False
    for sign, unit, power in re.findall(r"(/?)(energy|length)(?:\^(\d+))?", asked.dimension):
        below = below or bool(sign)
        base_size = energy if unit == "energy" else length
        size *= base_size ** ((-1 if below else 1) * int(power or 1))
    return size * float(np.sqrt(np.size(implicit.observed[observable])))
