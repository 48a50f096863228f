"""Linear systems with a symmetric sparse matrix, on the host: many right-hand sides, null spaces.

Four ways, of which "auto" chooses: a sparse factorisation, and conjugate gradients preconditioned
by the average over a lattice, where the rows stand on one, made exact around defects; by multigrid;
or by the diagonal blocks. Where one fails the next is taken; what no way solves is an error.
"""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float, Int

from mdsens.errors import LinearSolveError
from mdsens.linalg.border import Border, BorderedPreconditioner
from mdsens.linalg.bordered_columns import BorderedColumns
from mdsens.linalg.columns_together import ColumnsTogether
from mdsens.linalg.conjugate_gradients import (
    Iterations,
    Operator,
    Trial,
    block_conjugate_gradients,
    conjugate_gradients,
    conjugate_gradients_side_by_side,
)
from mdsens.linalg.factorisation import Factorisation, has_cholmod
from mdsens.linalg.lattice_preconditioner import LatticePreconditioner, LatticeSites
from mdsens.linalg.local_solves import LocallyExact, made_exact, serves
from mdsens.linalg.lowest_eigenvalue import lowest_eigenvalue
from mdsens.linalg.matrix_forms import MatrixForms
from mdsens.linalg.multigrid import (
    BlockJacobi,
    HostPreconditioner,
    Multigrid,
    strong_couplings,
)
from mdsens.linalg.null_space import orthonormal_rows
from mdsens.linalg.quadratic_model import MULTIGRID_STEPS, QuadraticModel
from mdsens.linalg.sparse_plus_low_rank import SymmetricMatrix, is_finite, to_bsr
from mdsens.resources import available_memory, products_on_one_core

#: Where each way that failed is told of, at level DEBUG.
LOGGER = logging.getLogger("mdsens.linalg")
#: The ways to solve.
METHODS = ("direct", "lattice", "multigrid", "block-jacobi")
#: Unknowns up to which "auto" factorises: the fill of a factor grows with a power of the size
#: that depends on the dimension in which the matrix is connected.
DIRECT_LIMIT = {1: 1_000_000, 2: 200_000, 3: 1_000}
#: How many times more CHOLMOD factorises in two dimensions (measured on packings: 22 us a disc for
#: 600 thousand, where conjugate gradients with multigrid take 80).
CHOLMOD_REACH = 8
#: Bytes of a factor for each unknown of a large flat system (measured: 1.4 to 2 thousand).
FACTOR_BYTES = 2_500
#: Iterations that may make up for a factor that is not quite an inverse.
REFINEMENT_STEPS = 50
#: Right-hand sides that are worth solving for side by side (fewer than twice as many are), and how
#: many vectors each of them needs on the way; together these may take this part of the free memory.
TOGETHER, VECTORS, MEMORY_FRACTION = 32, 10, 0.25
#: What a border explains of a right-hand side is taken out first, and what is left is solved for as
#: exactly as if it were all there is, or this part of all.
LEFT_BY_BORDER = 1e-3
#: Iterations with the average over a lattice after which it is judged, and the relative residual
#: above which multigrid takes its place: nearly perfect crystals are at 1e-8 by then, and each of
#: multigrid's iterations takes about twice as long.
TRIAL_STEPS, PROMISING = 15, 1e-3
#: The same of an average that is given, of a matrix nearby whose diagonal is alike: another is made
#: where this one serves worse, in the time of some ten iterations.
GIVEN_STEPS, STILL_LIKE = 12, 1e-2
#: Right-hand sides from which on products of all at once, with a second copy of the matrix that is
#: made for many, take less time than one after the other (measured: 0.18 us an atom and column for
#: argon, 0.34 alone; for four columns 0.5).
WIDE_COLUMNS = 16
#: Where a border lowers the energy: what each round of MINRES leaves, and how many there are.
MINRES_RTOL, MINRES_ROUNDS = 1e-6, 20


@dataclasses.dataclass(frozen=True)
class SparseSolution:
    """Solutions of A x = b for several right-hand sides, and how good they are.

    Attributes:
        value: shape (n, P), the solutions of smallest norm.
        residuals: shape (P,), |A x - b| / |b| outside the null space; 0 where b is 0.
        steps: shape (P,), iterations taken; 0 for a factorisation.
        method: how it was solved.
    """

    value: Float[np.ndarray, "n P"]
    residuals: Float[np.ndarray, " P"]
    steps: np.ndarray
    method: str


class SparseSolver(QuadraticModel):
    """Solves A x = b for one symmetric sparse matrix and any number of right-hand sides.

    Arguments:
        matrix: shape (n, n), in d x d blocks, symmetric; or with a part of low rank beside it,
            which preconditioners leave out.
        null_space: shape (m, n), vectors that the matrix sends to zero; need not be orthonormal.
        near_null_space: shape (n, k), vectors for multigrid that the matrix alone nearly sends to
            zero.
        method: `"auto"`, `"direct"`, `"lattice"`, `"multigrid"` or `"block-jacobi"`.
        dimension: of the space in which the unknowns are connected to their neighbours.
        preconditioner: one that serves already, of a matrix nearby.
        find_sites: returns where the rows of blocks stand on a lattice, or None; asked where it
            matters; None: on none.
        border: dense rows and columns, U of them, beside the matrix, whose unknowns then are the
            last of n + U: right-hand sides, solutions and null vectors are of all of these.

    Attributes:
        method: the way taken.
        failures: the ways that failed and why.
        positive_definite: whether a factorisation has shown that it is.

    Raises:
        LinearSolveError: if the matrix is not finite.
        ValueError: for an unknown method.
    """

    def __init__(
        self,
        matrix: SymmetricMatrix,
        null_space: Float[np.ndarray, "m n"],
        near_null_space: Float[np.ndarray, "inside k"],
        method: str = "auto",
        dimension: int = 3,
        preconditioner: HostPreconditioner | None = None,
        find_sites: Callable[[], LatticeSites | None] | None = None,
        border: Border | None = None,
    ) -> None:
        if method not in ("auto", *METHODS):
            raise ValueError(
                f"method={method!r} is unknown; allowed are auto, {', '.join(METHODS)}."
            )
        if not (is_finite(matrix) and (border is None or border.is_finite)):
            raise LinearSolveError("the matrix of the linear system is not finite: look at the "
                                   "positions and the potential there.")  # fmt: skip
        self.matrix, self._forms = matrix, MatrixForms(matrix, border)
        self.null_space = orthonormal_rows(null_space)
        self._border, self._bordered = border, dict[tuple[int, bool], BorderedPreconditioner]()
        self.size = matrix.shape[0] + (0 if border is None else len(border.corner))
        self.failures: list[str] = []
        self.preconditioner: HostPreconditioner
        self._factor: Factorisation | None = None
        self.positive_definite = False
        self._near_null_space, self._find_sites = near_null_space, find_sites
        self._trial: Trial | None = None
        if method == "auto":
            limit = DIRECT_LIMIT[min(dimension, 3)]
            if dimension == 2 and has_cholmod():
                limit *= CHOLMOD_REACH
            fits = FACTOR_BYTES * matrix.shape[0] <= MEMORY_FRACTION * available_memory()
            method = "direct" if matrix.shape[0] <= limit and fits else "lattice"
        if preconditioner is not None and method != "direct":
            self._take_given(preconditioner)
        else:
            self._set_up(method)

    def _take_given(self, preconditioner: HostPreconditioner) -> None:
        """Take a preconditioner of a matrix nearby; a lattice on trial, exact around defects."""
        self.method, self.preconditioner = "multigrid", preconditioner
        if isinstance(preconditioner, LatticePreconditioner):
            blocks, sites = self._forms.stored_blocks, preconditioner.sites
            if not serves(preconditioner, blocks):
                self._failed("lattice of a matrix nearby: its average is another")
                self._find_sites = lambda: sites
                self._set_up("lattice")
                return
            self.preconditioner = made_exact(preconditioner, blocks)
        if isinstance(self.preconditioner, LatticePreconditioner | LocallyExact):
            self.method, self._trial = "lattice", Trial(GIVEN_STEPS, STILL_LIKE)

    def _set_up(self, method: str) -> None:
        self._bordered.clear()
        self.__dict__.pop("_together", None)
        if method == "direct":
            try:
                inside = self.null_space
                if self._border is not None:
                    inside = self._border.null_vectors_inside(inside)
                factor = Factorisation(to_bsr(self.matrix), inside)
                self._factor = self.preconditioner = factor
                self.positive_definite, self.method = factor.positive_definite, "direct"
                if self._border is not None and factor.positive_definite:
                    self.positive_definite = self._over_border(factor).definite
                return
            except (RuntimeError, MemoryError) as error:
                self._failed(f"direct: {error}")
                method = "lattice"
        if method == "lattice":
            if self._set_up_lattice():
                return
            method = "multigrid"
        if method == "multigrid":
            try:
                self.preconditioner = Multigrid(
                    strong_couplings(self._blocks), self._near_null_space
                )
                self.method = "multigrid"
                return
            except Exception as error:
                # PyAMG raises errors of many kinds on matrices that it cannot coarsen.
                self._failed(f"multigrid: {error}")
        self.preconditioner = BlockJacobi(self._blocks)
        self.method = "block-jacobi"

    def _set_up_lattice(self) -> bool:
        """Take the average over the lattice, on trial; whether there is one."""
        sites = None if self._find_sites is None else self._find_sites()
        if sites is None:
            return False
        try:
            blocks = self._forms.stored_blocks
            self.preconditioner = made_exact(LatticePreconditioner(blocks, sites), blocks)
        except ValueError as error:
            self._failed(f"lattice: {error}")
            return False
        self.method, self._trial = "lattice", Trial(TRIAL_STEPS, PROMISING)
        return True

    def _over_border(
        self, preconditioner: HostPreconditioner, signed: bool = False
    ) -> BorderedPreconditioner:
        """A preconditioner of the matrix, as one of the matrix with its border."""
        assert self._border is not None
        key = id(preconditioner), signed
        if key not in self._bordered:
            matrix = self._forms.without_border
            # What is kept with it keeps its address its own.
            self._bordered[key] = BorderedPreconditioner(
                preconditioner, matrix, self._border, signed
            )
        return self._bordered[key]

    def _whole(self, preconditioner: HostPreconditioner) -> HostPreconditioner:
        """A preconditioner of the matrix, as a positive one of all that is solved for."""
        return preconditioner if self._border is None else self._over_border(preconditioner)

    def _conjugate_gradients(
        self,
        b: Float[np.ndarray, " n"],
        preconditioner: HostPreconditioner,
        rtol: float,
        max_steps: int,
    ) -> Iterations:
        """Conjugate gradients; in another way where a lattice that is on trial does not serve."""
        with products_on_one_core():
            return self._iterated(b, preconditioner, rtol, max_steps)

    def _iterated(
        self,
        b: Float[np.ndarray, " n"],
        preconditioner: HostPreconditioner,
        rtol: float,
        max_steps: int,
    ) -> Iterations:
        trial = None
        if self._trial is not None and preconditioner is self.preconditioner:
            trial = self._trial.of_solve_to(rtol)
        whole = self._whole(preconditioner)
        found = conjugate_gradients(self._operator, b, whole, self.project, rtol, max_steps, trial)
        if trial is None or found.negative_curvature or found.steps < trial.steps:
            return found
        if not trial.ends(found.steps, found.residual):
            self._trial = None
            return found
        self._take_next(found.residual)
        rest = self._iterated(b, self.preconditioner, rtol, max_steps)
        return dataclasses.replace(rest, steps=found.steps + rest.steps)

    def _take_next(self, residual: float) -> None:
        """In place of a lattice whose trial has ended with a relative residual.

        Of one that was given that of this matrix, else multigrid.
        """
        assert self._trial is not None
        given = self._trial.steps == GIVEN_STEPS
        called = "lattice of a matrix nearby" if given else "lattice"
        self._failed(f"{called}: at {residual:.1e} after {self._trial.steps} iterations")
        self._trial = None
        self._set_up("lattice" if given else "multigrid")

    def _failed(self, how: str) -> None:
        """Remember a way that failed, and that another is taken."""
        self.failures.append(how)
        LOGGER.debug("%d unknowns, %s; another way is taken", self.matrix.shape[0], how)

    def project(self, vector: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The part of a vector, or of each of many, outside the null space."""
        return vector - self.null_space.T @ (self.null_space @ vector)

    def solve(
        self,
        b: Float[np.ndarray, "n P"],
        rtol: float = 1e-10,
        tolerance: float = 1e-6,
        callback: Callable[[int], None] | None = None,
    ) -> SparseSolution:
        """Solve for every column of b; the part of b in the null space is left out.

        Arguments:
            b: shape (n, P).
            rtol: relative residual to reach.
            tolerance: relative residual above which the solution is an error.
            callback: called with the number of columns done after each.

        Returns:
            A `SparseSolution`.

        Raises:
            LinearSolveError: if b is not finite or no method reaches the tolerance.
        """
        if not np.isfinite(b).all():
            raise LinearSolveError("the right-hand side of the linear system is not finite.")
        value = np.zeros_like(b)
        residuals, steps = np.zeros(b.shape[1]), np.zeros(b.shape[1], int)
        direct = self._factor is not None
        for group in column_groups(b.shape[1], len(b)):
            with contextlib.nullcontext() if direct else products_on_one_core():
                found = self._solve_columns(b[:, group], rtol)
                value[:, group], residuals[group], steps[group] = found
                unsolved = [
                    column
                    for column in range(group.start, group.stop)
                    if not self._is_solved(
                        value[:, column], b[:, column], residuals[column], tolerance
                    )
                ]
            for column in unsolved:
                value[:, column], residuals[column], steps[column] = self._try_harder(
                    b[:, column], rtol, tolerance
                )
            if callback is not None:
                callback(group.stop)
        return SparseSolution(value, residuals, steps, self.method)

    def _complete_factor(self) -> None:
        """Let what solves be there, if not by the factorisation then by the next way."""
        if self._factor is None:
            return
        try:
            self._factor.complete()
        except (RuntimeError, MemoryError) as error:
            self._failed(f"direct: {error}")
            self._factor = None
            self._set_up("lattice")

    def _solve_column(self, b: np.ndarray, rtol: float) -> tuple[np.ndarray, float, int]:
        x, residuals, steps = self._solve_columns(b[:, None], rtol)
        return x[:, 0], float(residuals[0]), int(steps[0])

    def _solve_columns(
        self, b: Float[np.ndarray, "n P"], rtol: float
    ) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Solutions, their relative residuals and the iterations of each, whatever they reached."""
        inside = self.project(b)
        norms = np.linalg.norm(inside, axis=0)
        # What is left of a vector in the null space is rounding.
        inside[:, norms <= 1e-14 * np.linalg.norm(b, axis=0)] = 0.0
        self._complete_factor()
        if self._factor is None and self._border is None:
            return self._iterate(inside, rtol)
        if self._factor is None:
            return self._iterate_beyond_border(inside, rtol)
        inverse: HostPreconditioner = self._factor
        if self._border is not None:
            inverse = self._over_border(self._factor, signed=True)
        x, left = np.zeros_like(inside), inside
        scale = np.where(norms > 0, norms, 1.0)
        for _ in range(3):
            x = x + self.project(inverse(left))
            left = self.project(inside - self._operator @ x)
            residuals = np.linalg.norm(left, axis=0) / scale
            if (residuals <= rtol).all():
                break
        steps = np.zeros(len(residuals), int)
        for column in np.flatnonzero(~(residuals <= 10.0 * rtol)):
            # Null vectors that are not quite null leave a factor that is not quite an inverse.
            result = conjugate_gradients(
                self._operator,
                inside[:, column],
                inverse,
                self.project,
                rtol,
                REFINEMENT_STEPS,
            )
            if result.residual < residuals[column] and not result.negative_curvature:
                x[:, column], residuals[column] = result.value, result.residual
                steps[column] = result.steps
        return x, residuals, steps

    def _iterate(
        self, b: Float[np.ndarray, "n P"], rtol: float | Float[np.ndarray, " P"]
    ) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Conjugate gradients for one right-hand side, or for a block of several."""
        rtols = np.broadcast_to(rtol, b.shape[1])
        x, residuals = np.zeros_like(b), np.any(b, axis=0).astype(float)
        steps = np.zeros(b.shape[1], int)
        # With a lattice they are so few for each that a block, which takes longer, saves nothing.
        wide = np.count_nonzero(residuals) >= WIDE_COLUMNS
        served_by: HostPreconditioner | None = None
        while wide and self.method == "lattice" and served_by is not self.preconditioner:
            served_by = self.preconditioner
            x, residuals, of_each = self._side_by_side(b, rtols)
            steps += of_each
        left = np.flatnonzero(~(residuals <= rtols))
        if len(left) > 1 and self.method != "lattice" and np.ptp(rtols[left]) == 0.0:
            whole, one = self._whole(self.preconditioner), float(rtols[left][0])
            x[:, left], residuals[left], more = block_conjugate_gradients(
                self._forms.wide_operator, b[:, left], whole, self.project, one, MULTIGRID_STEPS
            )
            steps[left] += more
        # What ends a block, such as negative curvature, need not concern each of its columns.
        for column in np.flatnonzero(~(residuals <= rtols)):
            given_column = b[:, int(column)]
            result = self._conjugate_gradients(
                given_column, self.preconditioner, float(rtols[column]), MULTIGRID_STEPS
            )
            if result.residual < residuals[column]:
                x[:, column], residuals[column] = result.value, result.residual
            steps[column] += result.steps
        return x, residuals, steps

    def _side_by_side(
        self, b: Float[np.ndarray, "n P"], rtols: Float[np.ndarray, " P"]
    ) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Conjugate gradients of all columns with a lattice, as far as it serves."""
        trial = self._trial
        with products_on_one_core():
            if self._together is not None:
                x, residuals, steps = self._together.solve(b, rtols, MULTIGRID_STEPS, trial)
                x = self.project(x)
            else:
                given = self._whole(self.preconditioner), self.project, rtols, MULTIGRID_STEPS
                x, residuals, steps = conjugate_gradients_side_by_side(
                    self._forms.wide_operator, b, *given, trial
                )
        if trial is not None and steps.max() >= trial.steps:
            ended = (steps == trial.steps) & (residuals > np.maximum(rtols, trial.residual))
            if ended.any():
                self._take_next(float(residuals.max()))
            else:
                self._trial = None
        return x, residuals, steps

    def _iterate_beyond_border(
        self, b: Float[np.ndarray, "n P"], rtol: float
    ) -> tuple[Float[np.ndarray, "n P"], Float[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """The same, after what the border alone explains; by MINRES where it lowers the energy."""
        border = self._over_border(self.preconditioner)
        x = self.project(border.of_border(b))
        left = self.project(b - self._operator @ x)
        norms, sizes = np.linalg.norm(b, axis=0), np.linalg.norm(left, axis=0)
        scale = np.maximum(sizes, LEFT_BY_BORDER * norms)
        scale[scale == 0.0] = 1.0
        left[:, sizes <= rtol * scale] = 0.0
        if border.definite:
            wanted = rtol * scale / np.where(sizes > 0.0, sizes, scale)
            more, residuals, steps = self._iterate(left, wanted)
            return x + more, residuals * sizes / scale, steps
        steps = np.zeros(b.shape[1], int)
        for column in range(b.shape[1]):
            for _ in range(MINRES_ROUNDS):
                now = left[:, column]
                if not np.linalg.norm(now) > rtol * scale[column]:
                    break
                x[:, column] += self.project(
                    self._minres(now, MINRES_RTOL, MULTIGRID_STEPS, border)
                )
                left[:, column] = self.project(b[:, column] - self._operator @ x[:, column])
                steps[column] += 1
        return x, np.linalg.norm(left, axis=0) / scale, steps

    @property
    def _blocks(self) -> scipy.sparse.bsr_array:
        return self._forms.blocks

    @property
    def _operator(self) -> Operator:
        return self._forms.operator

    @functools.cached_property
    def _together(self) -> ColumnsTogether | BorderedColumns | None:
        return self._forms.columns_together(self.preconditioner, self.null_space)

    def _try_harder(
        self, b: np.ndarray, rtol: float, tolerance: float
    ) -> tuple[np.ndarray, float, int]:
        """The ways that remain, after the one taken has failed on this right-hand side."""
        self._failed(f"{self.method}: stalled")
        inside = self.project(b)
        if self.method in ("direct", "lattice"):
            # A factor that is nearly singular may still be a good preconditioner.
            self._factor, self._trial = None, None
            self._set_up("multigrid")
            x, residual, steps = self._solve_column(b, rtol)
            if self._is_solved(x, b, residual, tolerance):
                return x, residual, steps
        most, jacobi = 20 * MULTIGRID_STEPS, self._whole(BlockJacobi(self._blocks))
        result = conjugate_gradients(self._operator, inside, jacobi, self.project, rtol, most)
        if self._is_solved(result.value, b, result.residual, tolerance):
            return result.value, result.residual, result.steps
        x = self.project(self._minres(inside, rtol, most, jacobi))
        norm = np.linalg.norm(inside)
        residual = float(np.linalg.norm(self.project(self._operator @ x) - inside) / norm)
        if not self._is_solved(x, b, residual, tolerance):
            raise LinearSolveError(
                f"the linear solve did not converge: its relative residual is {residual:.1e}, "
                f"asked {tolerance:.1e}; the matrix has unknown null modes, or is indefinite: "
                f"relax further, or remove what holds nothing (tried: {'; '.join(self.failures)})"
            )
        return x, residual, most

    def _is_solved(self, x: np.ndarray, b: np.ndarray, residual: float, tolerance: float) -> bool:
        """Whether the residual is small enough, and more than iterations tell of themselves.

        They add up what they take off it, and rounding of the product with a long x is in no sum:
        of a matrix that is all but singular where b is not zero, it may be all that is left.
        """
        if not residual <= tolerance:
            return False
        if self._factor is not None:
            # It is computed from the solution.
            return True
        rounding = np.finfo(float).eps * self._forms.largest_entry * np.linalg.norm(x)
        return bool(rounding <= tolerance * np.linalg.norm(b))

    def _minres(
        self, b: np.ndarray, rtol: float, steps: int, preconditioner: HostPreconditioner
    ) -> np.ndarray:
        """MINRES, which asks for no definite matrix, but for a positive preconditioner."""
        size = len(b)

        def operator(function: HostPreconditioner) -> scipy.sparse.linalg.LinearOperator:
            return scipy.sparse.linalg.LinearOperator(
                (size, size), matvec=lambda v: self.project(function(self.project(v))), dtype=float
            )

        inverse = operator(preconditioner)
        product = operator(lambda v: self._operator @ v)
        return scipy.sparse.linalg.minres(product, b, M=inverse, rtol=rtol, maxiter=steps)[0]

    def lowest_eigenvalue(self, steps: int = 60, tolerance: float = 0.1) -> float:
        """The lowest eigenvalue outside the null space, to a few percent; infinite if none.

        Arguments:
            steps: improvements to make at most.
            tolerance: residual, relative to the eigenvalue, at which to stop.
        """
        if len(self.null_space) >= self.size:
            return float("inf")
        self._complete_factor()
        with products_on_one_core():
            return lowest_eigenvalue(
                self._operator,
                self.size,
                lambda b, rtol, most: self._conjugate_gradients(b, self.preconditioner, rtol, most),
                lambda residual: self._whole(self.preconditioner)(residual),
                self.project,
                steps,
                tolerance,
            )

    def __str__(self) -> str:
        described = (
            f"{self.method}, {self.preconditioner}"
            if self.method == "direct"
            else f"conjugate gradients, {self.preconditioner}"
        )
        return f"{described} ({self.matrix.shape[0]:,} unknowns)"


def column_groups(count: int, unknowns: int) -> list[slice]:
    """Right-hand sides in groups of equal size that the free memory allows to be solved together.

    Arguments:
        count: how many there are.
        unknowns: numbers in each.

    Returns:
        Which of them each group holds, in order.
    """
    allowed = MEMORY_FRACTION * available_memory() / (8 * VECTORS * max(unknowns, 1))
    # A few more take less time with the others than a few by themselves.
    groups = count // TOGETHER if allowed >= 2 * TOGETHER else -(-count // int(max(allowed, 1)))
    size = -(-count // max(1, groups))
    return [slice(start, min(start + size, count)) for start in range(0, count, max(size, 1))]
