"""The assembled Hessian as a lineax solver, so that grad, jacfwd, jacrev, jit and vmap reach it.

The callback that solves is SciPy's alone: one that started compiled code of its own would never
return where there is one core.
"""

import collections
import hashlib
from typing import Any

import jax
import lineax
import numpy as np
from jaxtyping import Array, Float

from mdsens.implicit import linear
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver, hessian_fits, hessian_surroundings
from mdsens.mechanics.sparse_hessian import matrix_of_entries, traced_hessian_entries
from mdsens.potentials.potential import Potential

#: Relative residual of the solves.
RTOL = 1e-12
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


def hessian_solver_at(
    q: Float[Array, "R D"], landscape: Landscape
) -> AssembledHessianSolver | str | None:
    """The solver for a relaxed structure; None where a dense matrix in JAX serves better.

    Arguments:
        q: degrees of freedom, shape (R, D).
        landscape: the function, without rattlers' edges.

    Returns:
        The solver, on a CPU; None for small systems and on accelerators, where JAX solves; "cg" if
        the Hessian would not fit into the memory.
    """
    if q.size <= linear.DENSE_LIMIT or jax.default_backend() != "cpu":
        return None
    if landscape.couples_all or not hessian_fits(landscape):
        return "cg"
    return AssembledHessianSolver(landscape, q)


def _solver_of(potential: Potential, state: tuple[Any, ...]) -> HessianSolver:
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
        _recent[key] = HessianSolver.of_arrays(matrix, surroundings)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    _recent.move_to_end(key)
    return _recent[key]
