"""The assembled Hessian as a lineax solver, so that grad, jacfwd, jacrev, jit and vmap reach it."""

import collections
import hashlib
from typing import Any

import equinox as eqx
import jax
import lineax
import numpy as np
from jaxtyping import Array, Float

from mdsens.implicit import linear
from mdsens.relaxation.hessian_solver import HessianSolver, hessian_fits
from mdsens.relaxation.landscape import Landscape

#: Relative residual of the solves.
RTOL = 1e-12
#: Hessians that are kept, most recent last: a derivative solves with the same one many times.
KEPT = 2

_recent: collections.OrderedDict[bytes, HessianSolver] = collections.OrderedDict()


class AssembledHessianSolver(lineax.AbstractLinearSolver):
    """Solves with the derivative of a landscape's condition, assembled by the host at a callback.

    Arguments:
        landscape: the function, without loose atoms' edges.
        q: degrees of freedom, shape (R, D).
    """

    landscape: Landscape
    q: Float[Array, "R D"]

    def init(self, operator: lineax.AbstractLinearOperator, options: dict[str, Any]) -> tuple:
        """Nothing: the host assembles the matrix when it is first needed."""
        return ()

    def compute(
        self, state: tuple, vector: Float[Array, " RD"], options: dict[str, Any]
    ) -> tuple[Float[Array, " RD"], lineax.RESULTS, dict[str, Any]]:
        """The solution for one right-hand side."""
        arrays, rest = eqx.partition((self.landscape, self.q), eqx.is_array)

        def on_host(arrays: Any, right: np.ndarray) -> np.ndarray:
            landscape, q = eqx.combine(arrays, rest)
            solver = _solver_for(landscape, q)
            return solver.solve(np.asarray(right).reshape(1, *q.shape), RTOL)[0].reshape(-1)

        shape = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
        # One after the other: each may have a Hessian of its own, and that of the last is kept.
        value = jax.pure_callback(on_host, shape, arrays, vector, vmap_method="sequential")
        return value, lineax.RESULTS.successful, {}

    def transpose(self, state: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The same: the Hessian is symmetric."""
        return state, options

    def conj(self, state: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
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
        landscape: the function, without loose atoms' edges.

    Returns:
        The solver, on a CPU; None for small systems and on accelerators, where JAX solves; "cg" if
        the Hessian would not fit into the memory.
    """
    if q.size <= linear.DENSE_LIMIT or jax.default_backend() != "cpu":
        return None
    if not hessian_fits(landscape):
        return "cg"
    return AssembledHessianSolver(landscape, q)


def _solver_for(landscape: Landscape, q: Any) -> HessianSolver:
    """The HessianSolver of these numbers, which may have been asked for before."""
    digest = hashlib.blake2b()
    for leaf in jax.tree.leaves((landscape, q)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    key = digest.digest()
    if key not in _recent:
        landscape, q = jax.tree.map(jax.numpy.asarray, (landscape, q))
        _recent[key] = HessianSolver(landscape, q)
        while len(_recent) > KEPT:
            _recent.popitem(last=False)
    _recent.move_to_end(key)
    return _recent[key]
