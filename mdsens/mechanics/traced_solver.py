"""The assembled Hessian as a lineax solver, so that grad, jacfwd, jacrev, jit and vmap reach it.

The callback that solves is SciPy's alone: one that started compiled code of its own would never
return where there is one core.
"""

import collections
import hashlib
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Array, Float

from mdsens.implicit import linear
from mdsens.implicit.conjugate_gradients import conjugate_gradients
from mdsens.implicit.known_matrix import KnownMatrix
from mdsens.mechanics.dense_jacobian import dense_jacobian, known_in_closed_form
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_by_calls import (
    MOST_STEPS,
    NOISES,
    SMALLEST_RTOL,
    STAND_IN_RTOL,
)
from mdsens.mechanics.hessian_solver import HessianSolver, hessian_fits
from mdsens.mechanics.hessian_surroundings import hessian_surroundings
from mdsens.mechanics.sparse_hessian import matrix_of_entries, traced_hessian_entries
from mdsens.mechanics.springs import FACTORISED, FEW, noise_of_products
from mdsens.potentials.potential import Potential

#: Relative residual of the solves.
RTOL = 1e-12
#: The same where products come from differences of forces, and how asymmetric these may be.
LOOSE_TOLERANCE = 1e-2
#: Hessians that are kept, most recent last: a derivative solves with the same one many times.
KEPT = 2

_recent: collections.OrderedDict[bytes, HessianSolver] = collections.OrderedDict()


class AssembledHessianSolver(lineax.AbstractLinearSolver):  # type: ignore[misc]  # Any to mypy
    """Solves with the derivative of a landscape's condition, by SciPy in a callback.

    What the matrix is made of is computed where the solver is traced; the host puts it together.

    Arguments:
        landscape: the function, without rattlers' edges.
        q: degrees of freedom, shape (R, D).
    """

    landscape: Landscape
    q: Float[Array, "R D"]

    def init(
        self, operator: lineax.AbstractLinearOperator, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        """All that the matrix is made of."""
        landscape, q = jax.lax.stop_gradient((self.landscape, self.q))
        surroundings = hessian_surroundings(landscape, q)
        entries = traced_hessian_entries(
            landscape.system_at(q),
            landscape.potential,
            landscape.edge_list,
            ~surroundings.constrained,
        )
        return entries, surroundings

    def compute(
        self, state: tuple[Any, ...], vector: Float[Array, " RD"], options: dict[str, Any]
    ) -> tuple[Float[Array, " RD"], lineax.RESULTS, dict[str, Any]]:
        """The solution for one right-hand side."""
        potential, (rows, dimension) = self.landscape.potential, self.q.shape

        def on_host(state: tuple[Any, ...], right: Any) -> np.ndarray:
            solver = _solver_of(potential, jax.tree.map(np.asarray, state))
            return solver.solve(np.asarray(right).reshape(1, rows, dimension), RTOL)[0].reshape(-1)

        shape = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
        # One after the other: each may have a Hessian of its own, and that of the last is kept.
        value = jax.pure_callback(on_host, shape, state, vector, vmap_method="sequential")
        return value, lineax.RESULTS.successful, {}

    def transpose(
        self, state: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same: the Hessian is symmetric."""
        return state, options

    def conj(
        self, state: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same: the Hessian is real."""
        return state, options

    def assume_full_rank(self) -> bool:
        """The null space is taken out before and after."""
        return False


class CalledHessianSolver(AssembledHessianSolver):
    """Solves by products with the Hessian that take long, inside what JAX traces.

    Conjugate gradients are compiled, and call the host for each product, and for the matrix that
    stands in for the Hessian as their preconditioner.

    Arguments:
        landscape: the function.
        q: degrees of freedom, shape (R, D).
    """

    #: Residual and asymmetry that pass: products may come from forces in single precision.
    tolerance: ClassVar[float] = LOOSE_TOLERANCE

    def init(
        self, operator: lineax.AbstractLinearOperator, options: dict[str, Any]
    ) -> tuple[Any, ...]:
        """The operator, and all that stands in for it is made of."""
        return operator, super().init(operator, options)

    def compute(
        self,
        state: tuple[Any, ...],
        vector: Float[Array, " RD"],
        options: dict[str, Any],
    ) -> tuple[Float[Array, " RD"], lineax.RESULTS, dict[str, Any]]:
        """The solution for one right-hand side."""
        operator, made_of = state
        potential, (rows, dimension) = self.landscape.potential, self.q.shape

        def on_host(made_of: tuple[Any, ...], right: Any) -> np.ndarray:
            solver = _solver_of(potential, jax.tree.map(np.asarray, made_of), "direct")
            rights = np.asarray(right).reshape(1, rows, dimension)
            return solver.solve(rights, STAND_IN_RTOL)[0].reshape(-1)

        def noise(products: Any) -> np.ndarray:
            return np.asarray(noise_of_products(jax.tree.map(np.asarray, products)))

        shape = jax.ShapeDtypeStruct(vector.shape, vector.dtype)

        def stand_in(right: Array) -> Array:
            # The null space is none of the matrix's concern, and must not come back as zero.
            found: Array = jax.pure_callback(
                on_host, shape, made_of, right, vmap_method="sequential"
            )
            return found

        number = jax.ShapeDtypeStruct((), vector.dtype)
        measured = jax.pure_callback(noise, number, made_of[0], vmap_method="sequential")
        aim = jnp.maximum(SMALLEST_RTOL, NOISES * measured)
        first, steps = conjugate_gradients(operator.mv, vector, stand_in, aim, MOST_STEPS)
        left = vector - operator.mv(first)
        # What is left of a solution as good as can be is not worth another step.
        size = jnp.linalg.norm(left) / jnp.maximum(jnp.linalg.norm(vector), 1e-300)
        again = jnp.where(size > 2.0 * aim, aim / jnp.maximum(size, 1e-300), 1.0)
        more, further = conjugate_gradients(operator.mv, left, stand_in, again, MOST_STEPS)
        return first + more, lineax.RESULTS.successful, {"num_steps": steps + further}

    def transpose(
        self, state: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same: the Hessian is symmetric."""
        return state, options


def hessian_solver_at(
    q: Float[Array, "R D"], landscape: Landscape
) -> AssembledHessianSolver | KnownMatrix | str | None:
    """The solver for a relaxed structure.

    Arguments:
        q: degrees of freedom, shape (R, D).
        landscape: the function, without rattlers' edges.

    Returns:
        The solver, on a CPU, and wherever products with the Hessian take long. For small systems
        and on accelerators JAX solves: with the dense matrix where pairs give it in closed form,
        else None, for what products tell. "cg" if the Hessian would not fit into the memory.
    """
    if landscape.potential.made_by_calls and q.size > FEW:
        coupled = landscape.motion is not None and landscape.motion.coupled
        return "cg" if coupled else CalledHessianSolver(landscape, q)
    if q.size <= linear.DENSE_LIMIT and known_in_closed_form(landscape):
        return KnownMatrix(dense_jacobian(*jax.lax.stop_gradient((landscape, q))))
    if q.size <= linear.DENSE_LIMIT or jax.default_backend() != "cpu":
        return None
    if landscape.couples_all or not hessian_fits(landscape):
        return "cg"
    return AssembledHessianSolver(landscape, q)


def _solver_of(potential: Potential, state: tuple[Any, ...], method: str = "auto") -> HessianSolver:
    """The HessianSolver of these numbers, which may have been asked for before."""
    digest = hashlib.blake2b()
    for leaf in jax.tree.leaves(state):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    key = digest.digest()
    if key not in _recent:
        entries, surroundings = state
        matrix = matrix_of_entries(
            potential, entries, ~surroundings.constrained, surroundings.q.shape[1]
        )
        if matrix.shape[0] > FACTORISED:
            method = "auto"
        _recent[key] = HessianSolver.of_arrays(matrix, surroundings, method)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    _recent.move_to_end(key)
    return _recent[key]
