"""Linear solves with a Hessian that is known by products alone, each of which takes long."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.errors import LinearSolveError
from mdsens.linalg.conjugate_gradients import (
    Iterations,
    ProductsAlone,
    block_conjugate_gradients,
    conjugate_gradients,
)
from mdsens.linalg.lowest_eigenvalue import lowest_eigenvalue
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.linalg.quadratic_model import MULTIGRID_STEPS, DescentDirection
from mdsens.linalg.sparse_solver import SparseSolution
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.mechanics.hessian_surroundings import hessian_surroundings
from mdsens.mechanics.sparse_hessian import host_products
from mdsens.mechanics.springs import FACTORISED, matrix_of_products, noise_of_products

#: Relative residual that no solve goes below, and how many times the noise of products it may be.
SMALLEST_RTOL, NOISES = 1e-10, 3.0
#: Iterations of one solve at most, and how often it is begun anew from what is left.
MOST_STEPS, ROUNDS = 100, 3
#: Relative residual of solves with what stands in for the Hessian, where products have no noise.
STAND_IN_RTOL = 1e-8
#: Relative residual above which a solution is an error, at least, and over the noise of products.
TOLERANCE, NOISES_ALLOWED = 1e-6, 1e3
#: Noise of products where it was not measured.
UNKNOWN_NOISE = 1e-8


class HessianByCalls(HessianSolver):
    """The same as a HessianSolver from products with the Hessian: the fewest that serve.

    A network of springs, fitted to a few products, stands in for the matrix: it is factorised, and
    preconditions conjugate gradients on products with the Hessian itself. They end where the noise
    of the products, told from the asymmetry of those that were fitted to, would be all they see.

    Arguments:
        landscape: the function.
        q: degrees of freedom, shape (R, D).
        method: as of a HessianSolver, for the matrix that stands in.
        preconditioner: not needed.
    """

    def __init__(
        self,
        landscape: Landscape,
        q: Float[Array, "R D"],
        method: str = "auto",
        preconditioner: HostPreconditioner | None = None,
    ) -> None:
        self._given, self._noise = (landscape, q), UNKNOWN_NOISE
        if landscape.motion is not None and landscape.motion.coupled:
            super().__init__(landscape, q, method)
            return
        surroundings = jax.tree.map(np.asarray, hessian_surroundings(landscape, q))
        system, free = landscape.system_at(q), ~surroundings.constrained
        found = host_products(system, landscape.potential, landscape.edge_list, free)
        self._noise = noise_of_products(found)
        matrix = matrix_of_products(found, free)
        if method == "auto" and matrix.shape[0] <= FACTORISED:
            method = "direct"
        self._set_up(matrix, surroundings, method, None)

    @property
    def noise(self) -> float:
        """Relative error of a component of a product."""
        return self._noise

    @property
    def checks_itself(self) -> bool:
        """Whether residuals are those of products: they are, after each solve."""
        return True

    @property
    def preconditioner(self) -> HostPreconditioner | None:
        """None: what stands in is fitted anew elsewhere."""
        return None

    def solve(
        self,
        rights: Float[np.ndarray, "P R D"],
        rtol: float = 1e-10,
        callback: Callable[[int], None] | None = None,
    ) -> tuple[Float[np.ndarray, "P R D"], SparseSolution]:
        """As of a HessianSolver, to the noise of the products at best.

        Arguments:
            rights: shape (P, R, D), energy/length.
            rtol: relative residual to reach.
            callback: called with the number of right-hand sides when they are done.

        Returns:
            Shape (P, R, D), length; and how they were solved, with residuals from products.

        Raises:
            LinearSolveError: a right-hand side is not finite, or iterations do not converge.
        """
        rights = np.asarray(rights, float)
        if not np.isfinite(rights).all():
            raise LinearSolveError("the right-hand side of the linear system is not finite.")
        b = self._projected(rights.reshape(len(rights), -1).T)
        norms = np.linalg.norm(b, axis=0)
        scale = np.where(norms > 0.0, norms, 1.0)
        aim = max(rtol, SMALLEST_RTOL, NOISES * self.noise)
        x, left, steps = np.zeros_like(b), b, 0
        residuals = (norms > 0.0).astype(float)
        for _ in range(ROUNDS):
            if not (residuals > 2.0 * aim).any():
                break
            wanted = min(aim / residuals[residuals > 0.0].min(), 0.5)
            more, _, taken = block_conjugate_gradients(
                self._operator, left, self._stand_in, self._projected, wanted, MOST_STEPS
            )
            steps += taken
            further = x + more
            left = self._projected(b - self._operator @ further)
            reached, before = np.linalg.norm(left, axis=0) / scale, residuals.max()
            if reached.max() < before:
                x, residuals = further, reached
            if not reached.max() < 0.3 * before:
                break
        allowed = max(TOLERANCE, NOISES_ALLOWED * self.noise, 2.0 * rtol)
        if not residuals.max(initial=0.0) <= min(allowed, 0.5):
            raise LinearSolveError(
                f"the linear solve did not converge: its relative residual is "
                f"{residuals.max():.1e} after {steps} iterations, allowed {allowed:.1e}, and the "
                f"products with the Hessian have a relative error of {self.noise:.0e}: relax "
                "further, or use a calculator whose forces are more exact"
            )
        if callback is not None:
            callback(len(rights))
        how = SparseSolution(x, residuals, np.full(len(rights), steps), str(self))
        return x.T.reshape(rights.shape), how

    def descend(
        self,
        gradient: Float[np.ndarray, "R D"],
        rtol: float,
        max_steps: int = MULTIGRID_STEPS,
        reach: float = 0.0,
    ) -> DescentDirection:
        """As of a HessianSolver; one iteration is the matrix that stands in, alone.

        Arguments:
            gradient: shape (R, D), energy/length.
            rtol: relative residual at which to stop.
            max_steps: iterations to take at most.
            reach: not needed.

        Returns:
            The step, shape (R, D), length.
        """
        if max_steps == 1:
            return super().descend(gradient, rtol, max_steps, reach)
        right = self._projected(-np.asarray(gradient, float).reshape(-1))
        if not np.linalg.norm(right) > 0.0:
            return DescentDirection(np.zeros(self.shape), 0, False)
        found = conjugate_gradients(
            self._operator, right, self._stand_in, self._projected, rtol,
            min(max_steps, MOST_STEPS),
        )  # fmt: skip
        direction = found.value.reshape(self.shape)
        return DescentDirection(direction, found.steps, found.negative_curvature)

    @functools.cached_property
    def _lowest(self) -> float:
        free = np.repeat(~self.motionless, self.shape[1])
        if len(self.null_space) >= free.sum():
            return float("inf")
        size = int(np.prod(self.shape))

        def solve(b: np.ndarray, rtol: float, most: int) -> Iterations:
            given = self._operator, b, self._stand_in, self._projected
            return conjugate_gradients(*given, rtol, most)

        return lowest_eigenvalue(
            self._operator, size, solve, self._stand_in, self._projected, steps=20, tolerance=0.1
        )

    @property
    def lowest_eigenvalue(self) -> float:
        """The lowest eigenvalue outside the null space, energy/length^2."""
        return self._lowest

    @property
    def _operator(self) -> ProductsAlone:
        return ProductsAlone(self._products)

    def _products(self, columns: Float[np.ndarray, "n P"]) -> Float[np.ndarray, "n P"]:
        """The Hessian times columns."""
        vectors = np.ascontiguousarray(columns.T).reshape(-1, *self.shape)
        found = np.asarray(hessian_products(*self._given, vectors))
        return found.reshape(len(vectors), -1).T

    def _projected(self, vectors: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The part of columns outside the null space, with nothing on what does not move."""
        columns = vectors.reshape(len(vectors), -1)
        moving = self._allowed(
            np.where(self.motionless[:, None], 0.0, columns.T.reshape(-1, *self.shape))
        )
        flat = moving.reshape(columns.shape[1], -1)
        flat = flat - (flat @ self.null_space.T) @ self.null_space
        return flat.T.reshape(vectors.shape)

    def _stand_in(self, vectors: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The inverse of the matrix that stands in, times columns."""
        return self.solve_stand_in(vectors.reshape(len(vectors), -1)).reshape(vectors.shape)

    def solve_stand_in(self, columns: Float[np.ndarray, "n P"]) -> Float[np.ndarray, "n P"]:
        """The inverse of the matrix that stands in for the Hessian, times columns.

        Arguments:
            columns: shape (R D, P).

        Returns:
            Shape (R D, P).
        """
        rights = columns.T.reshape(-1, *self.shape)
        # It need not be solved better than it is known.
        rtol = max(STAND_IN_RTOL, min(self.noise, 0.1))
        return super().solve(rights, rtol)[0].reshape(len(rights), -1).T

    def __str__(self) -> str:
        size = int(np.prod(self.shape))
        return (
            f"conjugate gradients on differences of forces, with fitted springs ({size:,} unknowns)"
        )


def hessian_solver(
    landscape: Landscape,
    q: Float[Array, "R D"],
    preconditioner: HostPreconditioner | None = None,
) -> HessianSolver:
    """Linear solves with the Hessian: from its matrix, or by products where these take long.

    Arguments:
        landscape: the function; rattlers without their edges.
        q: degrees of freedom, shape (R, D).
        preconditioner: one that serves already, of a Hessian nearby.

    Returns:
        The HessianSolver.

    Raises:
        LinearSolveError: the Hessian is not finite.
    """
    kind = HessianByCalls if landscape.potential.made_by_calls else HessianSolver
    return kind(landscape, q, preconditioner=preconditioner)
