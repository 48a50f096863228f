"""The linear response of a relaxed structure to its potential: one linear solve for each."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import track

from mdsens.implicit import (
    BlockSolver,
    LinearSolution,
    LinearSolveError,
    MatrixFreeSolver,
    jvp_solution,
    vjp_solution,
)
from mdsens.implicit.linearisation import compiled_product
from mdsens.implicit.refinement import refined_jvp, refined_vjp
from mdsens.linalg.sparse_plus_low_rank import blocks_of
from mdsens.linalg.sparse_solver import column_groups
from mdsens.mechanics.enthalpy import Landscape, condition_in
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.potentials.potential import Potential
from mdsens.sensitivities.results import Found

#: Relative residual of the solves for derivatives, and of those that only estimate an error.
RTOL = 1e-11
ESTIMATE_RTOL = 1e-2
#: Relative difference between the assembled Hessian and the derivative of the forces, at most.
AGREEMENT = 1e-8
#: An estimate of errors is rough where a Newton step leaves more than this part of the gradient;
#: one shorter than the second number, as a part of the potential's range, is as good as straight,
#: and one longer than the third is cut off there.
ROUGH, STRAIGHT, LONGEST = 0.1, 1e-6, 0.05


class LinearResponse:
    """How degrees of freedom follow changes of the potential, to first order.

    A customer of `mdsens.implicit`: the condition is that no force is left, and a `BlockSolver`
    solves with its derivative, from the assembled Hessian or from products with it.

    Errors are estimated from the point that one Newton step leads to, where the structure's own
    error is of second order: what is computed there, from solutions that are refined there once
    (which takes the error of the linear solves along), is compared with what was computed here.

    Arguments:
        landscape: the landscape without rattlers' edges, with the null vectors that were found.
        q: degrees of freedom at the minimum, shape (R, D).
        hessian: linear solves with the Hessian at q; None: products with it alone, where the matrix
            does not fit into the memory.
        progress: whether to show how many columns are done.
    """

    def __init__(
        self,
        landscape: Landscape,
        q: Float[Array, "R D"],
        hessian: HessianSolver | None = None,
        progress: bool = False,
    ) -> None:
        self.landscape, self.q, self.hessian, self.progress = landscape, q, hessian, progress
        # A pytree, of which the function alone is constant in compiled code.
        self._condition = jax.tree_util.Partial(condition_in, landscape)
        self._arguments = (landscape.potential,)
        self._solver = self._block_solver(RTOL)
        self._rough_solver = self._block_solver(ESTIMATE_RTOL)

    def _block_solver(self, rtol: float) -> BlockSolver:
        if self.hessian is not None:
            return _AssembledSolver(self._condition, self.q, self._arguments, self.hessian, rtol)
        null_space = self.landscape.null_vectors(self.q)
        # Iterations leave as much as they may, a factorisation less.
        rtol = 0.1 * rtol
        return MatrixFreeSolver(self._condition, self.q, self._arguments, null_space, rtol)

    def tangents(self, names: list[str], estimate: bool) -> Found:
        """Tangents of q along named parameters.

        The error of each is that of theta dq/dtheta, relative to the largest of these among the
        parameters: a tangent that vanishes by symmetry has no relative error of its own.

        Arguments:
            names: names of P parameters.
            estimate: whether to estimate the errors.

        Returns:
            Tangents, each (R, D), the residuals of the solves, and the errors if asked for.

        Raises:
            LinearSolveError: a solve did not converge.
        """
        condition, arguments, potential = self._condition, self._arguments, self.landscape.potential
        here: dict[str, Any] = {}
        ahead: dict[str, Any] = {}
        residuals: list[float] = []
        groups = [names[group] for group in column_groups(len(names), self.q.size)]
        description = "solving for derivatives"
        for group in track(groups, description, transient=True, disable=not self.progress):
            directions = jax.tree.map(
                lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
                *[potential.direction(name) for name in group],
            )
            solution = jvp_solution(condition, self.q, arguments, (directions,), self._solver)
            here |= dict(zip(group, solution.value, strict=True))
            residuals += [float(residual) for residual in solution.residual]
            if estimate:
                refined = refined_jvp(
                    condition, self.ahead, arguments, (directions,), solution.value,
                    self._rough_solver,
                )  # fmt: skip
                ahead |= dict(zip(group, refined, strict=True))
        errors = tangent_errors(potential, here, ahead) if estimate else []
        named, named_ahead = (
            {name: jnp.asarray(tangent) for name, tangent in found.items()}
            for found in (here, ahead)
        )
        return Found(named, residuals, errors, named_ahead)

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float], Float[np.ndarray, "M R D"]]:
        """Cotangents of the potential for some of q; their parts in the null space have no effect.

        Arguments:
            cotangents: shape (M, R, D).

        Returns:
            M cotangents, each shaped like the potential; M relative residuals of the solves; the
            values of their solutions, shape (M, R, D).

        Raises:
            LinearSolveError: a solve did not converge.
        """
        pulled, solution = vjp_solution(
            self._condition, self.q, self._arguments, cotangents, self._solver
        )
        residuals = [float(residual) for residual in solution.residual]
        return _one_by_one(pulled[0], len(cotangents)), residuals, solution.value

    def cotangents_ahead(
        self, cotangents: Float[np.ndarray, "M R D"], solutions: Float[np.ndarray, "M R D"]
    ) -> list[Potential]:
        """The same at the point ahead, where they are better by one Newton step.

        Arguments:
            cotangents: those at the point ahead, shape (M, R, D).
            solutions: those that were found for the cotangents here, shape (M, R, D).

        Returns:
            M cotangents, each shaped like the potential.
        """
        pulled = refined_vjp(
            self._condition, self.ahead, self._arguments, cotangents, solutions, self._rough_solver
        )
        return _one_by_one(pulled[0], len(cotangents))

    @functools.cached_property
    def newton_step(self) -> Float[np.ndarray, "R D"]:
        """One Newton step from q, length."""
        gradient = np.asarray(self.landscape.evaluate(self.q)[1])[None]
        return -np.asarray(self._rough_solver.solve(gradient).value[0])

    @functools.cached_property
    def stiffness(self) -> float:
        """The largest second derivative of the energy in a position, energy/length^2.

        Without a matrix that in the direction of a random vector.
        """
        if self.hessian is None:
            vector = np.random.default_rng(0).normal(size=self.q.shape)
            vector[np.asarray(self.landscape.constrained_rows(self.q)).ravel()] = 0.0
            product = compiled_product(self._condition, self.q, self._arguments, vector)
            return float(np.abs(product).max())
        blocks = blocks_of(self.hessian.matrix)
        rows = np.repeat(np.arange(len(blocks.indptr) - 1), np.diff(blocks.indptr))
        # What does not move has ones on the diagonal.
        moving = ~self.hessian.motionless[rows]
        return float(np.abs(blocks.data[moving]).max(initial=0.0))

    @functools.cached_property
    def ahead(self) -> Float[Array, "R D"]:
        """The point after one Newton step."""
        return jnp.asarray(np.asarray(self.q) + min(1.0, LONGEST / self._reach) * self.newton_step)

    @functools.cached_property
    def rough(self) -> bool:
        """Whether the Newton step is so long that its second order matters to the estimates."""
        if not STRAIGHT < self._reach <= LONGEST:
            return self._reach > LONGEST
        here, there = (np.asarray(self.landscape.evaluate(q)[1]) for q in (self.q, self.ahead))
        return not np.linalg.norm(there) <= ROUGH * np.linalg.norm(here)

    @property
    def _reach(self) -> float:
        """Length of the Newton step as a part of the potential's range, never zero."""
        longest = float(np.abs(self.newton_step).max(initial=0.0))
        return max(longest / float(self.landscape.potential.interaction_range), 1e-300)

    def __str__(self) -> str:
        if self.hessian is None:
            return f"conjugate gradients without a matrix ({self.q.size:,} unknowns)"
        return str(self.hessian.sparse)


class _AssembledSolver(BlockSolver):
    """From the assembled Hessian: one factorisation or hierarchy, and a column for each solve."""

    def __init__(
        self,
        condition: Any,
        q: Float[Array, "R D"],
        arguments: tuple[Potential],
        hessian: HessianSolver,
        rtol: float,
    ) -> None:
        self._given, self._hessian, self._rtol = (condition, q, arguments), hessian, rtol

    def solve(self, columns: Float[np.ndarray, "P R D"]) -> LinearSolution:
        """As of every BlockSolver."""
        found, solution = self._hessian.solve(columns, self._rtol)
        if self._rtol <= AGREEMENT:
            self._require_solved(columns, found)
        nothing = np.zeros(len(found))
        return LinearSolution(found, solution.residuals, nothing, solution.steps)

    def _require_solved(
        self, rights: Float[np.ndarray, "P R D"], found: Float[np.ndarray, "P R D"]
    ) -> None:
        """Put a mix of the solutions into the derivative of the forces, which knows no matrix.

        Raises:
            LinearSolveError: they do not solve the system.
        """
        norms = _norms(rights)
        weights = np.random.default_rng(0).normal(size=len(norms)) / np.where(norms > 0, norms, 1.0)
        mixed = np.tensordot(weights, found, 1)
        image = self._hessian.project(np.asarray(compiled_product(*self._given, mixed)))
        right = self._hessian.project(np.tensordot(weights, rights, 1))
        scale = max(float(np.linalg.norm(right)), float(np.linalg.norm(image)), 1e-300)
        disagreement = float(np.linalg.norm(image - right)) / scale
        if not disagreement <= AGREEMENT:
            raise LinearSolveError(
                f"the solution of the linear system does not satisfy it: relative residual "
                f"{disagreement:.1e}, allowed {AGREEMENT:.0e}; relax to a smaller fmax"
            )


def tangent_errors(
    potential: Potential, here: dict[str, Any], ahead: dict[str, Any]
) -> list[float]:
    """Errors of theta dq/dtheta, relative to the largest of these among the parameters.

    Arguments:
        potential: the potential, with its parameters theta.
        here: tangents of q by name, each (R, D), length/unit.
        ahead: the same where the structure's error is smaller by one order.

    Returns:
        The relative errors, one for each name.
    """
    if not here:
        return []
    values, reach = potential.parameters, float(potential.interaction_range)
    sizes = np.array([abs(values[name]) for name in here])
    found, better = (np.stack([np.asarray(of[name]) for name in here]) for of in (here, ahead))
    norms, changes = _norms(found), _norms(better - found)
    # A change of every position by a millionth of the range is as good as none.
    nothing = 1e-6 * reach * np.sqrt(found[0].size)
    return [float(error) for error in sizes * changes / max((sizes * norms).max(), nothing)]


def _norms(arrays: Float[np.ndarray, "P R D"]) -> Float[np.ndarray, " P"]:
    return np.linalg.norm(arrays.reshape(len(arrays), -1), axis=1)


def _one_by_one(stacked: Potential, count: int) -> list[Potential]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]
