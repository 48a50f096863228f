"""Directions down the quadratic model of an energy, where its matrix may curve down."""

import abc
import dataclasses
import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float

from mdsens.linalg.border import Border, Bordered, BorderedPreconditioner
from mdsens.linalg.conjugate_gradients import Iterations, Operator, conjugate_gradients
from mdsens.linalg.factorisation import Factorisation
from mdsens.linalg.multigrid import (
    BlockJacobi,
    HostPreconditioner,
    Multigrid,
    positive_semidefinite_projection,
    strong_couplings,
)
from mdsens.linalg.sparse_plus_low_rank import SymmetricMatrix

#: Iterations after which conjugate gradients with multigrid count as stalled.
MULTIGRID_STEPS = 300
#: Where a matrix has negative curvature: the relative residual and the iterations that are worth it
#: for the direction that its positive semidefinite projection takes, and the fraction of the reach
#: below which that leads almost nowhere.
CONVEX_RTOL, CONVEX_STEPS, SADDLE_FRACTION = 0.1, 30, 0.01


@dataclasses.dataclass(frozen=True)
class DescentDirection:
    """A direction down a quadratic model.

    Attributes:
        value: shape (n, ...), as the right-hand side.
        steps: iterations taken.
        negative_curvature: whether the matrix was seen to curve down.
    """

    value: Float[np.ndarray, "n ..."]
    steps: int
    negative_curvature: bool


class QuadraticModel(abc.ABC):
    """What a solver with a symmetric matrix adds to be a minimiser's model, g x + x A x / 2.

    Attributes:
        matrix: A, or the part of it beside a border.
        preconditioner: of the matrix.
        positive_definite: whether a factorisation has shown that it is.
    """

    matrix: SymmetricMatrix
    preconditioner: HostPreconditioner
    positive_definite: bool
    _blocks: scipy.sparse.bsr_array
    _factor: Factorisation | None
    _border: Border | None
    _near_null_space: Float[np.ndarray, "inside k"]

    @property
    @abc.abstractmethod
    def _operator(self) -> Operator:
        """The matrix for products."""

    @abc.abstractmethod
    def project(self, vector: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The part of a vector, or of each of many, outside the null space."""

    @abc.abstractmethod
    def _solve_column(self, b: np.ndarray, rtol: float) -> tuple[np.ndarray, float, int]:
        """A solution, its relative residual and the iterations taken."""

    @abc.abstractmethod
    def _conjugate_gradients(
        self,
        b: Float[np.ndarray, " n"],
        preconditioner: HostPreconditioner,
        rtol: float,
        max_steps: int,
    ) -> Iterations:
        """Conjugate gradients with a preconditioner of the matrix."""

    @abc.abstractmethod
    def _whole(self, preconditioner: HostPreconditioner) -> HostPreconditioner:
        """A preconditioner of the matrix, as a positive one of all that is solved for."""

    @abc.abstractmethod
    def _failed(self, how: str) -> None:
        """Remember a way that failed."""

    def descend(
        self,
        gradient: Float[np.ndarray, " n"],
        rtol: float,
        max_steps: int = MULTIGRID_STEPS,
        reach: float = 0.0,
    ) -> DescentDirection:
        """A direction down the quadratic model with this matrix: -A^-1 g, inexactly.

        Where the matrix curves down, that would lead anywhere: the direction is that of its convex
        part, or, if that leads almost nowhere, as near a saddle, one of negative curvature.

        Arguments:
            gradient: shape (n,).
            rtol: relative residual at which to stop.
            max_steps: iterations to take at most; one is the preconditioner alone, scaled.
            reach: how far one row of blocks may move along a direction of negative curvature; 0 if
                none is wanted.

        Returns:
            A `DescentDirection`.
        """
        right = self.project(-gradient)
        if not np.linalg.norm(right) > 0:
            return DescentDirection(np.zeros_like(right), 0, False)
        if self._factor is not None and self.positive_definite:
            value, _, steps = self._solve_column(right, rtol)
            return DescentDirection(value, steps, False)
        if self._factor is not None and self._factor.positive_definite:
            # Only where the rest follows the border does the matrix curve down.
            return DescentDirection(self.project(self._whole(self._factor)(right)), 0, True)
        steps, ended = 0, None
        # Once seen to curve down it is not asked again.
        if "_positive_semidefinite" not in self.__dict__:
            # The factor of an indefinite matrix is no preconditioner.
            usable = self.preconditioner if self._factor is None else BlockJacobi(self._blocks)
            ended = self._conjugate_gradients(right, usable, rtol, max_steps)
            if not ended.negative_curvature:
                return DescentDirection(ended.value, ended.steps, False)
            steps = ended.steps
        convex, preconditioner = self._positive_semidefinite
        operator, whole = self._with_positive_border(convex, preconditioner)
        found = conjugate_gradients(
            operator, right, whole, self.project, max(rtol, CONVEX_RTOL),
            min(max_steps, CONVEX_STEPS),
        )  # fmt: skip
        value, steps = found.value, steps + found.steps
        # For matrices nearby, which may curve down without being seen to with one that does too.
        self.preconditioner = preconditioner
        if ended is not None and self._longest(value) < SADDLE_FRACTION * reach:
            curving = ended.direction * np.copysign(1.0, right @ ended.direction)
            curving = curving * (reach / max(self._longest(curving), 1e-300))
            if self._rise(curving, right) < self._rise(value, right):
                value = curving
        return DescentDirection(value, steps, True)

    def _rise(self, move: np.ndarray, right: np.ndarray) -> float:
        """What the quadratic model rises by along a move."""
        return float(0.5 * move @ (self._operator @ move) - right @ move)

    def _longest(self, move: np.ndarray) -> float:
        """The longest move of one row of blocks, or of the border."""
        inside = self.matrix.shape[0]
        rows = move[:inside].reshape(-1, self._blocks.blocksize[0])
        of_border = float(np.linalg.norm(move[inside:]))
        return max(float(np.linalg.norm(rows, axis=1).max(initial=0.0)), of_border)

    def _with_positive_border(
        self, matrix: scipy.sparse.bsr_array, preconditioner: HostPreconditioner
    ) -> tuple[Operator, HostPreconditioner]:
        """A positive matrix in place of this one, with a border that lowers no energy either."""
        if self._border is None:
            return matrix, preconditioner
        whole = BorderedPreconditioner(preconditioner, matrix, self._border, signed=False)
        lifted = dataclasses.replace(self._border, corner=self._border.corner + whole.lift)
        return Bordered(matrix, lifted), whole

    @functools.cached_property
    def _positive_semidefinite(self) -> tuple[scipy.sparse.bsr_array, HostPreconditioner]:
        """The positive semidefinite projection of strong couplings, and a preconditioner."""
        matrix = positive_semidefinite_projection(strong_couplings(self._blocks))
        try:
            return matrix, Multigrid(matrix, self._near_null_space)
        except Exception as error:
            # PyAMG raises errors of many kinds on matrices that it cannot coarsen.
            self._failed(f"multigrid of the positive semidefinite projection: {error}")
            return matrix, BlockJacobi(matrix)
