"""The linear response of a relaxed structure to its potential: one linear solve for each."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import track

from mdsens.implicit import LinearSolveError, jvp_solution, newton_step, vjp_solution
from mdsens.implicit.sparse_solver import column_groups
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Landscape
from mdsens.relaxation.hessian_solver import HessianSolver
from mdsens.relaxation.minimiser import evaluate
from mdsens.sensitivities.results import Found

#: Relative residual of the solves for derivatives, and of those that only estimate an error.
RTOL = 1e-11
ESTIMATE_RTOL = 1e-2
#: Numbers in all right-hand sides from which on a function for these alone, which does a third of
#: the work of one that serves for more, is worth compiling.
WORTH_COMPILING = 1_000_000
#: Relative difference between the assembled Hessian and the derivative of the forces, at most.
AGREEMENT = 1e-8
#: Distance of the differences that estimate an error, as a fraction of the potential's range.
DIFFERENCE = 1e-6


class LinearResponse(abc.ABC):
    """How degrees of freedom follow changes of the potential, to first order.

    Arguments:
        landscape: the landscape without loose atoms' edges, with the null vectors that were found.
        q: degrees of freedom at the minimum, shape (R, D).
    """

    def __init__(self, landscape: Landscape, q: Float[Array, "R D"]) -> None:
        self.landscape, self.q = landscape, q

    @abc.abstractmethod
    def tangents(self, names: list[str], estimate: bool) -> Found:
        """Tangents of q along named parameters.

        The error of each is that of theta dq/dtheta, relative to the largest of these among the
        parameters, from the change along one Newton step: a tangent that vanishes by symmetry has
        no relative error of its own.

        Arguments:
            names: names of P parameters.
            estimate: whether to estimate the errors.

        Returns:
            Tangents by name, each (R, D); P relative residuals; P relative errors, or none.

        Raises:
            LinearSolveError: a solve did not converge.
        """

    @abc.abstractmethod
    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float]]:
        """Cotangents of the potential for some of q; their parts in the null space have no effect.

        Arguments:
            cotangents: shape (M, R, D).

        Returns:
            M cotangents, each shaped like the potential; M relative residuals of the solves.

        Raises:
            LinearSolveError: a solve did not converge.
        """

    def _relative_errors(
        self,
        names: list[str],
        norms: Float[np.ndarray, " P"],
        changes: Float[np.ndarray, " P"],
    ) -> list[float]:
        values = self.landscape.potential.parameters
        sizes = np.array([abs(values[name]) for name in names])
        # A change of every position by a millionth of the range is as good as none.
        reach = float(self.landscape.potential.interaction_range)
        nothing = 1e-6 * reach * np.sqrt(self.q.size)
        return [float(error) for error in sizes * changes / max((sizes * norms).max(), nothing)]


class AssembledResponse(LinearResponse):
    """From the assembled Hessian: one factorisation or hierarchy, and a column for each solve.

    Arguments:
        landscape: as of every LinearResponse.
        q: likewise.
        solver: linear solves with the Hessian at q.
        progress: whether to show how many columns are done.
    """

    def __init__(
        self,
        landscape: Landscape,
        q: Float[Array, "R D"],
        solver: HessianSolver,
        progress: bool = False,
    ) -> None:
        super().__init__(landscape, q)
        self.solver, self.progress = solver, progress

    def tangents(self, names: list[str], estimate: bool) -> Found:
        """As of every LinearResponse."""
        landscape, q, solver = self.landscape, self.q, self.solver
        newton = None
        if estimate:
            gradient = np.asarray(evaluate(landscape, q)[1])[None]
            newton = -solver.solve(gradient, ESTIMATE_RTOL)[0][0]
        tangents: dict[str, Array] = {}
        residuals: list[float] = []
        changes: list[float] = []
        groups = [names[group] for group in column_groups(len(names), q.size)]
        told = "solving for derivatives"
        for group in track(groups, told, transient=True, disable=not self.progress):
            directions = [landscape.potential.direction(name) for name in group]
            rights = -_changes(landscape, q, directions)
            found, solution = solver.solve(rights, RTOL)
            self._require_solved(rights, found)
            residuals += [float(residual) for residual in solution.residuals]
            tangents |= {name: jnp.asarray(t) for name, t in zip(group, found, strict=True)}
            if newton is not None:
                turned = [
                    -_change_along(landscape, q, newton, tangents[name], direction)
                    for name, direction in zip(group, directions, strict=True)
                ]
                off, _ = solver.solve(np.stack(turned), ESTIMATE_RTOL)
                changes += list(_norms(off))
        errors: list[float] = []
        if newton is not None:
            norms = _norms(np.stack([np.asarray(tangents[name]) for name in names]))
            errors = self._relative_errors(names, norms, np.array(changes))
        return tangents, residuals, errors

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float]]:
        """As of every LinearResponse."""
        found, solution = self.solver.solve(cotangents, RTOL)
        self._require_solved(cotangents, found)
        pulled = [_pull(self.landscape, self.q, -jnp.asarray(vector)) for vector in found]
        return pulled, [float(residual) for residual in solution.residuals]

    def __str__(self) -> str:
        return str(self.solver.sparse)

    def _require_solved(
        self, rights: Float[np.ndarray, "P R D"], found: Float[np.ndarray, "P R D"]
    ) -> None:
        """Put a mix of the solutions into the derivative of the forces, which knows no matrix.

        Raises:
            LinearSolveError: they do not solve the system.
        """
        norms = _norms(rights)
        weights = np.random.default_rng(0).normal(size=len(norms)) / np.where(norms > 0, norms, 1.0)
        mixed = jnp.asarray(np.tensordot(weights, found, 1))
        image = self.solver.project(np.asarray(_product(self.landscape, self.q, mixed)))
        right = self.solver.project(np.tensordot(weights, rights, 1))
        scale = max(float(np.linalg.norm(right)), float(np.linalg.norm(image)), 1e-300)
        disagreement = float(np.linalg.norm(image - right)) / scale
        if not disagreement <= AGREEMENT:
            raise LinearSolveError(
                f"the solution of the linear system does not satisfy it: relative residual "
                f"{disagreement:.1e}, allowed {AGREEMENT:.0e}; relax to a smaller fmax"
            )


class MatrixFreeResponse(LinearResponse):
    """From products with the Hessian alone, where the matrix does not fit into the memory."""

    def tangents(self, names: list[str], estimate: bool) -> Found:
        """As of every LinearResponse."""
        landscape, q = self.landscape, self.q
        directions = [landscape.potential.direction(name) for name in names]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *directions)
        found, residuals = _matrix_free_tangents(landscape, q, stacked)
        errors: list[float] = []
        if estimate:
            corrected, _ = _matrix_free_tangents(
                landscape, _newton_corrected(landscape, q), stacked
            )
            changes = _norms(np.asarray(corrected) - np.asarray(found))
            errors = self._relative_errors(names, _norms(np.asarray(found)), changes)
        named = dict(zip(names, found, strict=True))
        return named, [float(residual) for residual in residuals], errors

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float]]:
        """As of every LinearResponse."""
        found = [_matrix_free_cotangent(self.landscape, self.q, jnp.asarray(c)) for c in cotangents]
        return [pulled for pulled, _ in found], [float(residual) for _, residual in found]

    def __str__(self) -> str:
        return f"conjugate gradients without a matrix ({self.q.size:,} unknowns)"


def _norms(arrays: Float[np.ndarray, "P R D"]) -> Float[np.ndarray, " P"]:
    return np.linalg.norm(arrays.reshape(len(arrays), -1), axis=1)


def _condition(q: Float[Array, "R D"], potential: Potential, landscape: Landscape) -> Array:
    return eqx.tree_at(lambda given: given.potential, landscape, potential).condition(q)


@eqx.filter_jit
def _left_over(
    landscape: Landscape, q: Float[Array, "R D"], tangent: Float[Array, "R D"], direction: Potential
) -> Array:
    """What is left of H tangent + dF/dtheta at q; one function, compiled once, for either alone."""
    return jax.jvp(
        lambda x, potential: _condition(x, potential, landscape),
        (q, landscape.potential),
        (tangent, direction),
    )[1]


def _changes(
    landscape: Landscape, q: Float[Array, "R D"], directions: list[Potential]
) -> Float[np.ndarray, "P R D"]:
    """dF/dtheta along directions of the potential."""
    if len(directions) * q.size < WORTH_COMPILING:
        nothing = jnp.asarray(np.zeros(q.shape))
        return np.stack([np.asarray(_left_over(landscape, q, nothing, d)) for d in directions])
    return np.stack([np.asarray(_change(landscape, q, d)) for d in directions])


@eqx.filter_jit
def _change(landscape: Landscape, q: Float[Array, "R D"], direction: Potential) -> Array:
    return jax.jvp(
        lambda potential: _condition(q, potential, landscape), (landscape.potential,), (direction,)
    )[1]


def _product(landscape: Landscape, q: Float[Array, "R D"], vector: Float[Array, "R D"]) -> Array:
    """The Hessian times a vector."""
    nothing = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape)), landscape.potential)
    return _left_over(landscape, q, vector, nothing)


def _change_along(
    landscape: Landscape,
    q: Float[Array, "R D"],
    step: Float[np.ndarray, "R D"],
    tangent: Float[Array, "R D"],
    direction: Potential,
) -> Float[np.ndarray, "R D"]:
    """How the right-hand side that a tangent leaves, zero at q, changes along a step from q.

    By a central difference over a distance at which its errors are a millionth of it: a third
    derivative would take longer to compile than all else together.
    """
    longest = float(np.abs(step).max())
    if not longest > 0:
        return np.zeros(step.shape)
    # In NumPy, of which nothing has to be compiled.
    part = DIFFERENCE * float(landscape.potential.interaction_range) / longest
    ahead, behind = (
        np.asarray(
            _left_over(landscape, jnp.asarray(np.asarray(q) + distance * step), tangent, direction)
        )
        for distance in (part, -part)
    )
    return (ahead - behind) / (2 * part)


@eqx.filter_jit
def _pull(
    landscape: Landscape, q: Float[Array, "R D"], cotangent: Float[Array, "R D"]
) -> Potential:
    return jax.vjp(lambda potential: _condition(q, potential, landscape), landscape.potential)[1](
        cotangent
    )[0]


def _null_space(q: Float[Array, "R D"], potential: Potential, landscape: Landscape) -> Array:
    return landscape.null_vectors(q)


@eqx.filter_jit
def _newton_corrected(landscape: Landscape, q: Float[Array, "R D"]) -> Float[Array, "R D"]:
    """The point after one Newton step from q, where derivatives have an error of second order."""
    return newton_step(
        _condition, q, (landscape.potential, landscape), symmetric=True, null_space=_null_space
    )


@eqx.filter_jit
def _matrix_free_tangents(
    landscape: Landscape, q: Float[Array, "R D"], directions: Potential
) -> tuple[Float[Array, "P R D"], Float[Array, " P"]]:
    """Tangents of q along stacked directions of the potential, and the residuals of the solves."""

    def one(direction: Potential) -> tuple[Array, Array]:
        solution = jvp_solution(
            _condition, q, (landscape.potential, landscape), (direction, None),
            solve="cg", symmetric=True, null_space=_null_space, least_squares=True,
        )  # fmt: skip
        return solution.value, solution.residual

    # Iterations are faster one after the other than side by side.
    return jax.lax.map(one, directions)


@eqx.filter_jit
def _matrix_free_cotangent(
    landscape: Landscape, q: Float[Array, "R D"], cotangent: Float[Array, "R D"]
) -> tuple[Potential, Array]:
    """Cotangent of the potential for one of q, and the residual of the solve behind it."""
    gradients, solution = vjp_solution(
        _condition, q, (landscape.potential, landscape), cotangent,
        solve="cg", symmetric=True, null_space=_null_space,
    )  # fmt: skip
    return gradients[0], solution.residual
