"""The certificate of an equilibrium: converged or not, stable or not, and what it leaves open."""

import dataclasses

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Float

from mdsens.linalg.null_space import is_null, orthonormal_rows
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.constrained_motion import IN_SPAN, ConstrainedMotion
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.mechanics.hessian_surroundings import null_vectors_of
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.summary import Summarised, Summary
from mdsens.units import in_dimensions, unit_name

#: How many of the lowest eigenvalues are kept.
EIGENVALUE_COUNT = 6


@dataclasses.dataclass(frozen=True, repr=False)
class Certificate(Summarised):
    """What is known about a relaxed structure.

    Attributes:
        largest_force: largest norm of a force, energy/length.
        fmax: the one at which to stop, as it was asked for.
        lowest_eigenvalues: lowest eigenvalues of the Hessian outside the null space,
            energy/length^2, in ascending order.
        null_modes: number of null modes by kind: ``"translations"``, ``"rotations"``,
            ``"rattlers"`` (D for each atom without load), ``"floppy"`` (all others).
        units: ``"ase"`` or ``"reduced"``.
        linear_residual: largest relative residual of the linear solves of a sensitivity.
        derivative_error: estimate of the largest relative error of the derivatives, from the
            change along one Newton step.
        largest_stress: largest component of the stress that the load does not balance,
            energy/length^D, among those that relax; None where the cell is fixed.
        smax: the one at which to stop, as it was asked for; None: ``fmax`` is for the cell too.
        dimension: number of spatial dimensions.
        rough: whether that step is so long that the estimate is only one of the order.
        linear_solver: how the linear systems of a sensitivity were solved.
        floppy_vectors: shape (M, R, D), null vectors that no symmetry explains.
        calls: how often a calculator was called for forces, for a sensitivity.
        estimated: whether the lowest eigenvalue is one that iterations found to some percent, and
            not one of all that there are.
    """

    largest_force: float
    fmax: float
    lowest_eigenvalues: tuple[float, ...]
    null_modes: dict[str, int]
    units: str
    linear_residual: float | None = None
    derivative_error: float | None = None
    linear_solver: str | None = None
    floppy_vectors: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((0, 0, 0)), repr=False, compare=False
    )
    estimated: bool = False
    rough: bool = False
    largest_stress: float | None = None
    smax: float | None = None
    dimension: int = 3
    calls: int = 0

    @property
    def converged(self) -> bool:
        """Whether the largest force, and the largest stress, came down to what was asked for."""
        if self.smax is not None and not (self.largest_stress or 0.0) <= self.smax:
            return False
        return self.largest_force <= self.fmax

    @property
    def lowest_eigenvalue(self) -> float:
        """Lowest eigenvalue of the Hessian outside the null space; infinite if there is none."""
        return self.lowest_eigenvalues[0] if self.lowest_eigenvalues else float("inf")

    @property
    def lowest_eigenvalue_text(self) -> str:
        """The lowest eigenvalue with the digits that are known."""
        value = self.lowest_eigenvalue
        return f"about {value:.2g}" if self.estimated else f"{value:.6g}"

    @property
    def stable(self) -> bool:
        """Whether no direction curves down."""
        return self.lowest_eigenvalue > 0.0

    @property
    def kind(self) -> str:
        """``"minimum"``, ``"saddle"``, or ``"unconverged"``."""
        if not self.converged:
            return "unconverged"
        return "minimum" if self.stable else "saddle"

    @property
    def null_mode_count(self) -> int:
        """Number of null modes of all kinds."""
        return sum(self.null_modes.values())

    def facts(self) -> list[tuple[str, str]]:
        """What is known, by name, as text with units."""
        force, curvature = (
            unit_name("energy/length", self.units),
            unit_name("energy/length^2", self.units),
        )
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.null_modes.items() if count)
        facts = [
            ("largest force", f"{self.largest_force:.2e} {force} (asked: {self.fmax:.0e})"),
            *([("largest stress", self._stress_text)] if self._stress_text else []),
            ("lowest eigenvalue", f"{self.lowest_eigenvalue_text} {curvature}"),
            ("null modes", kinds or "none"),
        ]
        if self.linear_residual is not None:
            by = f", {self.linear_solver}" if self.linear_solver else ""
            facts.append(("linear residual", f"{self.linear_residual:.1e} (relative){by}"))
        if self.calls:
            facts.append(("calls of the calculator", f"{self.calls:,}"))
        if self.derivative_error is not None:
            rough = ", a rough estimate: relax to a smaller force" if self.rough else ""
            facts.append(
                (
                    "estimated error of derivatives",
                    f"{self.derivative_error:.1e} (relative){rough}",
                )
            )
        return facts

    @property
    def _stress_text(self) -> str:
        """The largest stress left, with its unit; nothing where there is none."""
        unit = unit_name(in_dimensions("energy/volume", self.dimension), self.units)
        return (
            "" if self.largest_stress is None else stress_text(self.largest_stress, self.smax, unit)
        )

    def _summary(self) -> Summary:
        return Summary(f"Certificate of {self.title}", self.facts())

    @property
    def title(self) -> str:
        """The kind with its article: ``"a minimum"``, ``"an unconverged structure"``."""
        return "an unconverged structure" if self.kind == "unconverged" else f"a {self.kind}"

    def __str__(self) -> str:
        lines = [f"{name}{':' * (name == 'null modes')} {value}" for name, value in self.facts()]
        return "\n".join([f"{self.kind}: {lines[0]}", *lines[1:]])


def stress_text(stress: float, smax: float | None, unit: str) -> str:
    """The largest stress that the load does not balance, as text; empty for one that is none.

    Arguments:
        stress: in ``unit``; NaN where the cell has no volume.
        smax: the one that was asked for, or None.
        unit: of both.

    Returns:
        The text.
    """
    asked = "" if smax is None else f" (asked: {smax:.0e})"
    return "" if np.isnan(stress) else f"{stress:.2e} {unit}{asked}"


def certify(
    landscape: Landscape,
    q: Float[Array, "R D"],
    largest_force: float,
    fmax: float,
    jacobian: Float[np.ndarray, "RD RD"] | None,
    solver: HessianSolver | None = None,
    largest_stress: float | None = None,
    smax: float | None = None,
) -> Certificate:
    """Examine a relaxed structure.

    Small systems are diagonalised; for large ones the lowest eigenvalue comes from iterations with
    the preconditioner of the sparse Hessian (without one: by the Lanczos method of ARPACK), and
    null modes are those of symmetry and of rattlers alone.

    Arguments:
        landscape: the function that was minimised, without the edges of rattlers.
        q: degrees of freedom, shape (R, D).
        largest_force: largest norm of a force at q, energy/length.
        fmax: the one that was asked for.
        jacobian: the dense matrix of the condition's derivative; None where it is too large.
        solver: linear solves with the sparse Hessian; None where there is none.
        largest_stress: largest stress left, energy/length^D; None where the cell is fixed.
        smax: the one that was asked for, or None.

    Returns:
        The Certificate.
    """
    constrained = np.asarray(landscape.constrained_rows(q)).ravel()
    free = np.repeat(~constrained, q.shape[1])
    vectors = np.asarray(null_vectors_of(landscape, q)).reshape(-1, q.size)[:, free]
    basis = orthonormal_rows(vectors)
    held = _held(landscape, free)
    size = int(free.sum()) - len(held)
    if size == 0:
        values, floppy = np.zeros(0), np.zeros((0, q.size))
    elif jacobian is not None:
        values, floppy = _dense_modes(jacobian, free, np.concatenate([basis, held]))
    elif solver is not None:
        values, floppy = np.array([solver.lowest_eigenvalue]), np.zeros((0, q.size))
    else:
        values, floppy = _lowest_by_lanczos(landscape, q, free, basis), np.zeros((0, q.size))

    system, dimension = landscape.system, landscape.system.dimension
    moving = ~np.asarray(system.fixed) & ~np.asarray(landscape.rattlers)
    pinned = bool(np.asarray(system.fixed).any()) or not landscape.potential.invariant
    translations = dimension if moving.any() and not pinned else 0
    if translations and landscape.motion is not None:
        translations = _translations(landscape.motion, moving)
    cell = landscape.relaxing_cell
    cell_modes = 0 if cell is None else dimension**2 - cell.strain_count
    return Certificate(
        largest_force=largest_force,
        fmax=fmax,
        lowest_eigenvalues=tuple(float(value) for value in values[:EIGENVALUE_COUNT]),
        null_modes={
            "translations": translations,
            "rotations": len(basis) - translations - cell_modes,
            "rattlers": dimension * int(np.asarray(landscape.rattlers).sum()),
            "floppy": len(floppy),
        },
        units=system.units,
        floppy_vectors=floppy.reshape(-1, *q.shape),
        estimated=size > 0 and jacobian is None and solver is not None,
        largest_stress=largest_stress,
        smax=smax,
        dimension=dimension,
    )


def _held(landscape: Landscape, free: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what constraints let no atom do that is neither fixed nor a rattler.

    Of sums of forces alone, where there is no dense matrix, it would be too large.
    """
    count, dimension = landscape.system.positions.shape
    if landscape.motion is None or count * dimension > EIGENVECTOR_LIMIT:
        return np.zeros((0, int(free.sum())))
    of_atoms = free[: count * dimension]
    held = landscape.motion.held_directions().reshape(-1, count * dimension)
    held = held[:, of_atoms]
    # Directions of atoms that are fixed are held too, and have no part in what is left.
    values, vectors = np.linalg.eigh(held.T @ held)
    basis = vectors[:, values > 0.5].T
    return np.pad(basis, ((0, 0), (0, int(free.sum()) - basis.shape[1])))


def _translations(motion: ConstrainedMotion, moving: np.ndarray) -> int:
    """In how many directions constraints let all atoms move together."""
    count, dimension = motion.tangent.shape
    together = np.broadcast_to(np.eye(dimension)[:, None], (dimension, count, dimension))
    together = together * moving[:, None] / np.sqrt(moving.sum())
    apart = (together - np.asarray(motion.allowed(together))).reshape(dimension, -1)
    return int((np.linalg.eigvalsh(apart @ apart.T) < IN_SPAN).sum())


def _dense_modes(
    jacobian: Float[np.ndarray, "RD RD"], free: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues outside the null space, and the further null vectors that were found."""
    hessian = jacobian[np.ix_(free, free)]
    largest = max(np.abs(hessian).sum(axis=1).max(initial=0.0), 1e-300)
    # Known null modes are moved above all others, where they are not looked at: they are few, and
    # products of whole matrices with the projection across them take longer than eigenvalues.
    rows = basis @ hessian
    within = rows @ basis.T + 2.0 * largest * np.eye(len(basis))
    mixed = basis.T @ (rows - 0.5 * within @ basis)
    matrix = hessian - mixed - mixed.T
    values = np.linalg.eigvalsh(matrix)[: len(matrix) - len(basis)]
    null = is_null(values, largest)
    floppy = np.zeros((null.sum(), len(free)))
    if null.any():
        # Eigenvectors take several times as long.
        floppy[:, free] = np.linalg.eigh(matrix)[1][:, : len(values)][:, null].T
    return values[~null], floppy


def _lowest_by_lanczos(
    landscape: Landscape, q: Float[Array, "R D"], free: np.ndarray, basis: np.ndarray
) -> np.ndarray:
    """The lowest eigenvalue outside the known null space, to a few digits."""
    size = int(free.sum())
    largest = _largest_eigenvalue(landscape, q, free)

    def product(vector: np.ndarray) -> np.ndarray:
        vector = vector.ravel()
        along = basis.T @ (basis @ vector)
        if landscape.motion is not None:
            along = along + _apart(landscape, free, vector - along)
        return _restricted_product(landscape, q, free, vector - along) + 2.0 * largest * along

    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=float)
    start = np.random.default_rng(0).normal(size=size)
    values = scipy.sparse.linalg.eigsh(
        operator, k=1, which="SA", tol=1e-2, v0=start, ncv=60, maxiter=100,
        return_eigenvectors=False,
    )  # fmt: skip
    return np.sort(values)


def _apart(landscape: Landscape, free: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The part of a vector that constraints hold."""
    count, dimension = landscape.system.positions.shape
    whole = np.zeros(len(free))
    whole[free] = vector
    of_atoms = whole[: count * dimension]
    assert landscape.motion is not None
    moves = np.asarray(landscape.motion.allowed(of_atoms.reshape(count, dimension)))
    of_atoms -= moves.reshape(-1)
    whole[count * dimension :] = 0.0
    return whole[free]


def _largest_eigenvalue(landscape: Landscape, q: Array, free: np.ndarray) -> float:
    size = int(free.sum())
    operator = scipy.sparse.linalg.LinearOperator(
        (size, size),
        matvec=lambda v: _restricted_product(landscape, q, free, v.ravel()),
        dtype=float,
    )
    start = np.random.default_rng(1).normal(size=size)
    return float(
        scipy.sparse.linalg.eigsh(
            operator, k=1, which="LA", tol=1e-1, v0=start, return_eigenvectors=False
        )[0]
    )


def _restricted_product(
    landscape: Landscape, q: Array, free: np.ndarray, vector: np.ndarray
) -> np.ndarray:
    whole = np.zeros(len(free))
    whole[free] = vector
    product = hessian_products(landscape, q, whole.reshape(q.shape))
    return np.asarray(product).ravel()[free]
