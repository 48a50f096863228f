"""Derivatives of large systems: one assembled Hessian, one hierarchy, and a column for each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.progress import track

from mdsens.implicit import LinearSolveError
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Landscape
from mdsens.relaxation.hessian_solver import HessianSolver
from mdsens.relaxation.newton import hessian_product
from mdsens.sensitivities.results import Found

#: Relative residual of the solves for derivatives, and of those that only estimate an error.
RTOL = 1e-11
ESTIMATE_RTOL = 1e-2
#: Relative difference between the assembled Hessian and the derivative of the forces, at most.
AGREEMENT = 1e-8
#: Right-hand sides that are kept at a time.
COLUMNS = 16


def sparse_tangents(
    landscape: Landscape,
    q: Float[Array, "R D"],
    solver: HessianSolver,
    names: list[str],
    estimate: bool,
    progress: bool = False,
) -> Found:
    """Tangents of q along named parameters from the sparse Hessian.

    The error of each is that of theta dq/dtheta, relative to the largest of these among the
    parameters, from the change along one Newton step.

    Arguments:
        landscape: the landscape without loose atoms' edges.
        q: degrees of freedom at the minimum, shape (R, D).
        solver: linear solves with the Hessian there.
        names: names of P parameters.
        estimate: whether to estimate the errors.
        progress: whether to show how many are done.

    Returns:
        Tangents by name, each (R, D); P relative residuals; P relative errors, or none.

    Raises:
        LinearSolveError: a solve did not converge.
    """
    potential = landscape.potential
    newton = None
    if estimate:
        gradient = np.asarray(landscape.condition(q))[None]
        newton = jnp.asarray(-solver.solve(gradient, ESTIMATE_RTOL)[0][0])
    tangents: dict[str, Array] = {}
    residuals: list[float] = []
    changes: list[float] = []
    groups = [names[start : start + COLUMNS] for start in range(0, len(names), COLUMNS)]
    for group in track(groups, "solving for derivatives", transient=True, disable=not progress):
        directions = [potential.direction(name) for name in group]
        rights = np.stack([-np.asarray(_change(landscape, q, d)) for d in directions])
        found, solution = solver.solve(rights, RTOL)
        _require_agreement(landscape, q, solver, rights, found)
        residuals += [float(residual) for residual in solution.residuals]
        tangents |= {name: jnp.asarray(t) for name, t in zip(group, found, strict=True)}
        if newton is not None:
            turned = [
                -np.asarray(_change_along(landscape, q, newton, tangents[name], direction))
                for name, direction in zip(group, directions, strict=True)
            ]
            off, _ = solver.solve(np.stack(turned), ESTIMATE_RTOL)
            changes += list(_norms(off))
    errors: list[float] = []
    if newton is not None:
        values = potential.parameters
        sizes = np.array([abs(values[name]) for name in names])
        norms = np.array([float(jnp.linalg.norm(tangents[name])) for name in names])
        errors = _relative(landscape, sizes, norms, np.array(changes), q.size)
    return tangents, residuals, errors


def sparse_cotangent(
    landscape: Landscape,
    q: Float[Array, "R D"],
    solver: HessianSolver,
    cotangent: Float[Array, "R D"],
) -> tuple[Potential, Array]:
    """Cotangent of the potential for one of q, and the residual of the solve behind it.

    Arguments:
        landscape: the landscape without loose atoms' edges.
        q: degrees of freedom at the minimum, shape (R, D).
        solver: linear solves with the Hessian there.
        cotangent: shape (R, D).

    Returns:
        The cotangent, shaped like the potential; the relative residual.

    Raises:
        LinearSolveError: the solve did not converge.
    """
    rights = np.asarray(cotangent)[None]
    found, solution = solver.solve(rights, RTOL)
    _require_agreement(landscape, q, solver, rights, found)
    return _pull(landscape, q, -jnp.asarray(found[0])), jnp.asarray(solution.residuals[0])


def relative_errors(
    landscape: Landscape,
    sizes: Float[np.ndarray, " P"],
    tangents: Float[np.ndarray, "P R D"],
    changes: Float[np.ndarray, "P R D"],
) -> list[float]:
    """Changes of theta dq/dtheta relative to the largest of these among P parameters.

    Arguments:
        landscape: the landscape.
        sizes: shape (P,), the parameters' absolute values.
        tangents: shape (P, R, D).
        changes: shape (P, R, D), how far each tangent is off.

    Returns:
        P relative errors.
    """
    return _relative(landscape, sizes, _norms(tangents), _norms(changes), tangents[0].size)


def _relative(
    landscape: Landscape, sizes: np.ndarray, norms: np.ndarray, changes: np.ndarray, size: int
) -> list[float]:
    # A change of every position by a millionth of the range is as good as none.
    nothing = 1e-6 * float(landscape.potential.interaction_range) * np.sqrt(size)
    return [float(error) for error in sizes * changes / max((sizes * norms).max(), nothing)]


def _norms(arrays: Float[np.ndarray, "P R D"]) -> Float[np.ndarray, " P"]:
    return np.linalg.norm(arrays.reshape(len(arrays), -1), axis=1)


def _condition(q: Float[Array, "R D"], potential: Potential, landscape: Landscape) -> Array:
    return eqx.tree_at(lambda given: given.potential, landscape, potential).condition(q)


@eqx.filter_jit
def _change(landscape: Landscape, q: Float[Array, "R D"], direction: Potential) -> Array:
    """dF/dtheta along a direction of the potential."""
    return jax.jvp(
        lambda potential: _condition(q, potential, landscape),
        (landscape.potential,),
        (direction,),
    )[1]


@eqx.filter_jit
def _change_along(
    landscape: Landscape,
    q: Float[Array, "R D"],
    step: Float[Array, "R D"],
    tangent: Float[Array, "R D"],
    direction: Potential,
) -> Array:
    """How the right-hand side that a tangent leaves, zero at q, changes along a step from q."""

    def left_over(point: Float[Array, "R D"]) -> Array:
        return jax.jvp(
            lambda x, potential: _condition(x, potential, landscape),
            (point, landscape.potential),
            (tangent, direction),
        )[1]

    return jax.jvp(left_over, (q,), (step,))[1]


@eqx.filter_jit
def _pull(
    landscape: Landscape, q: Float[Array, "R D"], cotangent: Float[Array, "R D"]
) -> Potential:
    return jax.vjp(lambda potential: _condition(q, potential, landscape), landscape.potential)[1](
        cotangent
    )[0]


@eqx.filter_jit
def _compiled_product(landscape: Landscape, q: Array, vector: Array) -> Array:
    return hessian_product(landscape, q, vector)


def _require_agreement(
    landscape: Landscape,
    q: Float[Array, "R D"],
    solver: HessianSolver,
    rights: Float[np.ndarray, "P R D"],
    found: Float[np.ndarray, "P R D"],
) -> None:
    """Put a mix of the solutions into the derivative of the forces, which knows no matrix.

    Raises:
        LinearSolveError: they do not solve the system.
    """
    norms = _norms(rights)
    weights = np.random.default_rng(0).normal(size=len(norms)) / np.where(norms > 0, norms, 1.0)
    mixed = jnp.asarray(np.tensordot(weights, found, 1))
    image = np.asarray(_compiled_product(landscape, q, mixed))
    right = np.tensordot(weights, rights, 1)
    left = solver.project(image - right)
    scale = max(float(np.linalg.norm(right)), float(np.linalg.norm(image)), 1e-300)
    disagreement = float(np.linalg.norm(left) / scale)
    if not disagreement <= AGREEMENT:
        raise LinearSolveError(
            f"the solution of the linear system does not satisfy it: relative residual "
            f"{disagreement:.1e}, allowed {AGREEMENT:.0e}; relax to a smaller fmax"
        )
