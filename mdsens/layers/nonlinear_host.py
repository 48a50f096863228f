"""SciPy's solvers of nonlinear programs: SLSQP and trust-constr.

They run outside all callbacks and call functions that JAX has compiled. SciPy is imported on first
use: it takes as long to import as all layers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mdsens.layers.program import INFEASIBLE, SOLVED, UNBOUNDED, UNSOLVED

if TYPE_CHECKING:
    import scipy.optimize

__all__ = ["scipy_minimum"]

_NEAR = 1e-5
_FALLEN = -1e15
_STILL = 5


def scipy_minimum(
    evaluate: Callable[..., np.ndarray],
    x: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    box: bool,
    name: str,
    tol: float,
    maxiter: int,
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Find a local minimum of f(x) subject to lower <= r(x) <= upper.

    Arguments:
        evaluate: gives "value", "gradient", "rows", "jacobian" and "hessian" at x, and
            "curvature", the Hessian of y r(x), at x and y.
        x: where to begin, (n,).
        lower: bounds of the rows, (m,).
        upper: likewise.
        box: whether the last rows are x itself.
        name: "slsqp" or "trust-constr".
        tol: where the solver stops.
        maxiter: most iterations.

    Returns:
        x (n,), the multipliers (m,) of the rows, a status of `mdsens.layers.program`, and the
        number of iterations.
    """
    import scipy.optimize

    rows = len(lower) - (len(x) if box else 0)
    bounds = scipy.optimize.Bounds(lower[rows:], upper[rows:]) if box else None
    if box:
        x = np.clip(x, lower[rows:], upper[rows:])
    common: dict[str, Any] = {
        "fun": lambda x: float(evaluate("value", x)),
        "x0": x,
        "jac": lambda x: evaluate("gradient", x),
        "bounds": bounds,
    }
    if name == "slsqp":
        equal = lower[:rows] == upper[:rows]
        constraints = [
            {
                "type": kind,
                "fun": lambda x, s=sign, w=which: (
                    s * (evaluate("rows", x)[:rows] - upper[:rows])[w]
                ),
                "jac": lambda x, s=sign, w=which: s * evaluate("jacobian", x)[:rows][w],
            }
            for kind, sign, which in (("eq", 1.0, equal), ("ineq", -1.0, ~equal))
            if np.any(which)
        ]
        options = {"maxiter": maxiter, "ftol": min(tol, 1e-10) ** 1.5}
        try:
            result = scipy.optimize.minimize(
                **common,
                method="SLSQP",
                constraints=constraints,
                options=options,
                callback=_Watch(common["fun"]),
            )
        except _StandstillError as standstill:
            result = standstill.result
        infeasible = result.status == 4
    else:
        general = scipy.optimize.NonlinearConstraint(
            lambda x: evaluate("rows", x)[:rows],
            lower[:rows],
            upper[:rows],
            jac=lambda x: evaluate("jacobian", x)[:rows],
            hess=lambda x, v: evaluate("curvature", x, np.pad(v, (0, len(lower) - rows))),
        )
        options = {"maxiter": maxiter, "gtol": tol, "xtol": tol**1.5, "barrier_tol": tol}
        result = scipy.optimize.minimize(
            **common,
            method="trust-constr",
            hess=lambda x: evaluate("hessian", x),
            constraints=[general] if rows else [],
            options=options,
        )
        infeasible = result.status in (1, 2) and result.constr_violation > tol**0.5
    found = np.asarray(result.x, float)
    if infeasible:
        status = INFEASIBLE
    elif not np.all(np.isfinite(found)):
        return x, np.zeros(len(lower)), UNSOLVED, int(result.nit)
    elif result.fun < _FALLEN:
        status = UNBOUNDED
    else:
        status = SOLVED if result.success else UNSOLVED
    if name == "slsqp":
        y = _multipliers(evaluate, found, lower, upper)
    else:  # in the order of its constraints: those of the rows, and the bounds
        y = np.concatenate([np.ravel(part) for part in result.v] or [np.zeros(0)])
    return found, y, status, int(result.nit)


class _StandstillError(Exception):
    """The iterations stand still: rounding keeps SLSQP from what it is told to reach."""

    def __init__(self, result: "scipy.optimize.OptimizeResult") -> None:
        super().__init__()
        self.result = result


class _Watch:
    """A callback that ends iterations which no longer move."""

    def __init__(self, fun: Callable[..., float]) -> None:
        self._fun, self._count, self._still = fun, 0, 0
        self._last: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> None:
        import scipy.optimize

        self._count += 1
        moved = self._last is None or np.max(np.abs(x - self._last)) > 1e-15 * np.max(np.abs(x))
        self._still = 0 if moved else self._still + 1
        self._last = np.array(x)
        if self._still == _STILL:
            raise _StandstillError(
                scipy.optimize.OptimizeResult(
                    x=self._last, fun=self._fun(x), nit=self._count, success=True, status=0
                )
            )


def _multipliers(
    evaluate: Callable[..., np.ndarray], x: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """The multipliers of the rows at their bounds that leave the least of the gradient."""
    import scipy.optimize

    r, gradient = evaluate("rows", x), evaluate("gradient", x)
    scale = _NEAR * (1 + np.abs(r))
    at_lower, at_upper = r - lower <= scale, upper - r <= scale
    rows = np.flatnonzero(at_lower | at_upper)
    y = np.zeros(len(r))
    if len(rows):
        least = np.where(at_lower[rows], -np.inf, 0.0)
        most = np.where(at_upper[rows], np.inf, 0.0)
        jacobian = evaluate("jacobian", x)[rows]
        y[rows] = scipy.optimize.lsq_linear(jacobian.T, -gradient, (least, most), tol=1e-14).x
    return y
