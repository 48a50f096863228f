"""The linear response of a relaxed structure to its potential: one linear solve for each."""

import abc
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import track

from mdsens.implicit import LinearSolveError, jvp_solution, newton_step, vjp_solution
from mdsens.linalg.sparse_plus_low_rank import blocks_of
from mdsens.linalg.sparse_solver import column_groups
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.minimisers.minimiser import evaluate
from mdsens.potentials.potential import Potential
from mdsens.sensitivities.results import Found

#: Relative residual of the solves for derivatives, and of those that only estimate an error.
RTOL = 1e-11
ESTIMATE_RTOL = 1e-2
#: Numbers in all right-hand sides from which on a function for these alone, which does a third of
#: the work of one that serves for more, is worth compiling.
WORTH_COMPILING = 1_000_000
#: Relative difference between the assembled Hessian and the derivative of the forces, at most.
AGREEMENT = 1e-8
#: An estimate of errors is rough where a Newton step leaves more than this part of the gradient;
#: one shorter than the second number, as a part of the potential's range, is as good as straight,
#: and one longer than the third is cut off there.
ROUGH, STRAIGHT, LONGEST = 0.1, 1e-6, 0.05


class LinearResponse(abc.ABC):
    """How degrees of freedom follow changes of the potential, to first order.

    Errors are estimated from the point that one Newton step leads to, where the structure's own
    error is of second order: what is computed there, from solutions that are refined there once
    (which takes the error of the linear solves along), is compared with what was computed here.

    Arguments:
        landscape: the landscape without rattlers' edges, with the null vectors that were found.
        q: degrees of freedom at the minimum, shape (R, D).
    """

    def __init__(self, landscape: Landscape, q: Float[Array, "R D"]) -> None:
        self.landscape, self.q = landscape, q

    @abc.abstractmethod
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

    @abc.abstractmethod
    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float], Float[np.ndarray, "M R D"]]:
        """Cotangents of the potential for some of q; their parts in the null space have no effect.

        Arguments:
            cotangents: shape (M, R, D).

        Returns:
            M cotangents, each shaped like the potential; M relative residuals of the solves; the
            solutions, shape (M, R, D).

        Raises:
            LinearSolveError: a solve did not converge.
        """

    @abc.abstractmethod
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

    @property
    @abc.abstractmethod
    def newton_step(self) -> Float[np.ndarray, "R D"]:
        """One Newton step from q, length."""

    @property
    @abc.abstractmethod
    def stiffness(self) -> float:
        """The largest second derivative of the energy in a position, energy/length^2."""

    @functools.cached_property
    def ahead(self) -> Float[Array, "R D"]:
        """The point after one Newton step."""
        return jnp.asarray(np.asarray(self.q) + min(1.0, LONGEST / self._reach) * self.newton_step)

    @functools.cached_property
    def rough(self) -> bool:
        """Whether the Newton step is so long that its second order matters to the estimates."""
        if not STRAIGHT < self._reach <= LONGEST:
            return self._reach > LONGEST
        here, there = (np.asarray(evaluate(self.landscape, q)[1]) for q in (self.q, self.ahead))
        return not np.linalg.norm(there) <= ROUGH * np.linalg.norm(here)

    @property
    def _reach(self) -> float:
        """Length of the Newton step as a part of the potential's range, never zero."""
        longest = float(np.abs(self.newton_step).max(initial=0.0))
        return max(longest / float(self.landscape.potential.interaction_range), 1e-300)

    def _judged(
        self, names: list[str], here: dict[str, Array], ahead: dict[str, Array]
    ) -> tuple[list[float], dict[str, Array]]:
        """Relative errors of tangents from what they are ahead, if they were computed there."""
        if not ahead:
            return [], {}
        found = np.stack([np.asarray(here[name]) for name in names])
        changes = _norms(np.stack([np.asarray(ahead[name]) for name in names]) - found)
        return self._relative_errors(names, _norms(found), changes), ahead

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
        tangents: dict[str, Array] = {}
        ahead: dict[str, Array] = {}
        residuals: list[float] = []
        groups = [names[group] for group in column_groups(len(names), q.size)]
        description = "solving for derivatives"
        for group in track(groups, description, transient=True, disable=not self.progress):
            directions = [landscape.potential.direction(name) for name in group]
            rights = -dF_dtheta(landscape, q, directions)
            found, solution = solver.solve(rights, RTOL)
            self._require_solved(rights, found)
            residuals += [float(residual) for residual in solution.residuals]
            tangents |= {name: jnp.asarray(t) for name, t in zip(group, found, strict=True)}
            if estimate:
                left = [
                    np.asarray(condition_jvp(landscape, self.ahead, tangents[name], direction))
                    for name, direction in zip(group, directions, strict=True)
                ]
                found -= solver.solve(np.stack(left), ESTIMATE_RTOL)[0]
                ahead |= {name: jnp.asarray(t) for name, t in zip(group, found, strict=True)}
        return Found(tangents, residuals, *self._judged(names, tangents, ahead))

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float], Float[np.ndarray, "M R D"]]:
        """As of every LinearResponse."""
        found, solution = self.solver.solve(cotangents, RTOL)
        self._require_solved(cotangents, found)
        pulled = [_pull(self.landscape, self.q, -jnp.asarray(vector)) for vector in found]
        return pulled, [float(residual) for residual in solution.residuals], found

    def cotangents_ahead(
        self, cotangents: Float[np.ndarray, "M R D"], solutions: Float[np.ndarray, "M R D"]
    ) -> list[Potential]:
        """As of every LinearResponse."""
        refined = []
        for cotangent, solution in zip(cotangents, solutions, strict=True):
            product = np.asarray(_product(self.landscape, self.ahead, jnp.asarray(solution)))
            # Scaled to serve best here: the solution for the energy vanishes at the minimum.
            part = np.vdot(product, cotangent) / max(np.vdot(product, product), 1e-300)
            refined.append((part * solution, cotangent - part * product))
        begun, left = (np.stack(parts) for parts in zip(*refined, strict=True))
        found = begun + self.solver.solve(left, ESTIMATE_RTOL)[0]
        return [_pull(self.landscape, self.ahead, -jnp.asarray(vector)) for vector in found]

    @functools.cached_property
    def newton_step(self) -> Float[np.ndarray, "R D"]:
        """As of every LinearResponse."""
        gradient = np.asarray(evaluate(self.landscape, self.q)[1])[None]
        return -self.solver.solve(gradient, ESTIMATE_RTOL)[0][0]

    @functools.cached_property
    def stiffness(self) -> float:
        """As of every LinearResponse."""
        blocks = blocks_of(self.solver.matrix)
        rows = np.repeat(np.arange(len(blocks.indptr) - 1), np.diff(blocks.indptr))
        # What does not move has ones on the diagonal.
        moving = ~self.solver.motionless[rows]
        return float(np.abs(blocks.data[moving]).max(initial=0.0))

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
        named, ahead = dict(zip(names, found, strict=True)), {}
        if estimate:
            further, _ = _matrix_free_tangents(landscape, self.ahead, stacked)
            ahead = dict(zip(names, further, strict=True))
        left = [float(residual) for residual in residuals]
        return Found(named, left, *self._judged(names, named, ahead))

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Potential], list[float], Float[np.ndarray, "M R D"]]:
        """As of every LinearResponse."""
        found = [_matrix_free_cotangent(self.landscape, self.q, jnp.asarray(c)) for c in cotangents]
        # The point ahead has solutions of its own.
        nothing = np.zeros(np.shape(cotangents))
        return [pulled for pulled, _ in found], [float(r) for _, r in found], nothing

    def cotangents_ahead(
        self, cotangents: Float[np.ndarray, "M R D"], solutions: Float[np.ndarray, "M R D"]
    ) -> list[Potential]:
        """As of every LinearResponse."""
        return [
            _matrix_free_cotangent(self.landscape, self.ahead, jnp.asarray(one))[0]
            for one in cotangents
        ]

    @functools.cached_property
    def newton_step(self) -> Float[np.ndarray, "R D"]:
        """As of every LinearResponse."""
        return np.asarray(_newton_corrected(self.landscape, self.q)) - np.asarray(self.q)

    @functools.cached_property
    def stiffness(self) -> float:
        """As of every LinearResponse, from one product with a random vector."""
        vector = np.random.default_rng(0).normal(size=self.q.shape)
        vector[np.asarray(self.landscape.constrained_rows(self.q)).ravel()] = 0.0
        return float(np.abs(_product(self.landscape, self.q, jnp.asarray(vector))).max())

    def __str__(self) -> str:
        return f"conjugate gradients without a matrix ({self.q.size:,} unknowns)"


def _norms(arrays: Float[np.ndarray, "P R D"]) -> Float[np.ndarray, " P"]:
    return np.linalg.norm(arrays.reshape(len(arrays), -1), axis=1)


def _condition(q: Float[Array, "R D"], potential: Potential, landscape: Landscape) -> Array:
    return eqx.tree_at(lambda given: given.potential, landscape, potential).condition(q)


@eqx.filter_jit
def condition_jvp(
    landscape: Landscape, q: Float[Array, "R D"], tangent: Float[Array, "R D"], direction: Potential
) -> Array:
    """What is left of H tangent + dF/dtheta at q; one function, compiled once, for either alone."""
    return jax.jvp(
        lambda x, potential: _condition(x, potential, landscape),
        (q, landscape.potential),
        (tangent, direction),
    )[1]


def dF_dtheta(
    landscape: Landscape, q: Float[Array, "R D"], directions: list[Potential]
) -> Float[np.ndarray, "P R D"]:
    """dF/dtheta along directions of the potential."""
    if len(directions) * q.size < WORTH_COMPILING:
        nothing = jnp.asarray(np.zeros(q.shape))
        return np.stack([np.asarray(condition_jvp(landscape, q, nothing, d)) for d in directions])
    return np.stack([np.asarray(_change(landscape, q, d)) for d in directions])


@eqx.filter_jit
def _change(landscape: Landscape, q: Float[Array, "R D"], direction: Potential) -> Array:
    return jax.jvp(
        lambda potential: _condition(q, potential, landscape), (landscape.potential,), (direction,)
    )[1]


def _product(landscape: Landscape, q: Float[Array, "R D"], vector: Float[Array, "R D"]) -> Array:
    """The Hessian times a vector."""
    nothing = jax.tree.map(lambda leaf: jnp.asarray(np.zeros(leaf.shape)), landscape.potential)
    return condition_jvp(landscape, q, vector, nothing)


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
