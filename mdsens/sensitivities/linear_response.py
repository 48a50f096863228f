"""The linear response of a relaxed structure to its potential: one linear solve for each."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from mdsens.arrays import array_module, on_device
from mdsens.implicit import (
    BlockSolver,
    JacobianError,
    jacobian_error_estimate,
    jvp_solution,
    vjp_solution,
)
from mdsens.implicit.linearisation import MANY, WORTH_COMPILING, compiled_change
from mdsens.implicit.refinement import refined_vjp
from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.sparse_plus_low_rank import blocks_of
from mdsens.linalg.sparse_solver import column_groups
from mdsens.mechanics.assembled_solver import AssembledSolver, response_solver
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.half_stored_hessian import (
    NearPairs,
    changes_as_atoms_move,
    changes_of_pairs,
    products_of_pairs,
    pull_back_of_pairs,
)
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.mechanics.near_edges import near_landscape, serves_at
from mdsens.progress import tracked
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities.parted_changes import (
    apart,
    changes_of_many,
    parted_changes,
    species_acted_on,
    told_apart,
)
from mdsens.sensitivities.results import Found
from mdsens.sensitivities.variables import Variables, condition_for

#: An estimate of errors is rough where a Newton step leaves more than this part of the way;
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
        variables: what they are followed along; None: the parameters of the potential.
    """

    def __init__(
        self,
        landscape: Landscape,
        q: Float[Array, "R D"],
        hessian: HessianSolver | None = None,
        progress: bool = False,
        variables: Variables | None = None,
    ) -> None:
        self.landscape, self.q, self.hessian, self.progress = landscape, q, hessian, progress
        self.variables = Variables.of(landscape) if variables is None else variables
        self._arguments = (self.variables.argument,)

    @functools.cached_property
    def _near(self) -> Landscape:
        """The landscape with the edges that are in range alone, where forces look at edges."""
        return near_landscape(self.landscape, self.q) if self._pairs is None else self.landscape

    @functools.cached_property
    def _condition(self) -> Callable[..., Any]:
        return condition_for(self.variables, self._near)

    @functools.cached_property
    def _condition_ahead(self) -> Callable[..., Any]:
        """The same where a Newton step leads to, where other edges may have come in range."""
        if self._near is self.landscape or serves_at(self._near, self.q, self.ahead):
            return self._condition
        return condition_for(self.variables, near_landscape(self.landscape, self.ahead))

    @functools.cached_property
    def _solver(self) -> BlockSolver:
        landscape, hessian = self.landscape, self.hessian
        null_vectors = None if hessian is not None else landscape.null_vectors(self.q)
        # XLA computes the many sums of a virial apart, and more so of several directions at once.
        apart = landscape.cell_mode is not None and landscape.potential.pairwise
        given = self._condition, self.q, self._arguments, hessian, null_vectors
        return response_solver(*given, one_by_one=apart)

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
        condition, arguments = self._condition, self._arguments
        here: dict[str, Any] = {}
        ahead: dict[str, Any] = {}
        residuals: dict[str, float] = {}
        absolute: dict[str, Any] = {}
        species, ordered = species_acted_on(self.landscape, names), names
        if species is not None:
            # Those that one pass over the edges serves one after the other.
            parts = apart([species[name] for name in names])
            ordered = [names[place] for part in parts for place in part]
        groups = [ordered[group] for group in column_groups(len(names), self.q.size)]
        description = "solving for derivatives"
        for group in tracked(groups, description, disable=not self.progress):
            directions = self._directions(group)
            change = self._changes(group, directions, species)
            given = condition, self.q, arguments, (directions,), self._solver
            if not estimate:
                solution = jvp_solution(*given, change=change)
                found, residual = solution.value, solution.residual
            else:
                left_by = self._left_ahead(group, directions, species)
                estimated = self._estimated(directions, change, left_by)
                found, residual = estimated.derivative, estimated.residual
                ahead |= dict(zip(group, estimated.corrected, strict=True))
                absolute |= dict(zip(group, estimated.absolute, strict=True))
            here |= dict(zip(group, found, strict=True))
            residuals |= {name: float(one) for name, one in zip(group, residual, strict=True)}
        # As they were asked for.
        here, ahead, residuals, absolute = (
            {name: of[name] for name in names if name in of}
            for of in (here, ahead, residuals, absolute)
        )
        reach = self._range
        errors = []
        if estimate:
            errors = relative_to_largest(
                self.variables.values(names), reach, here, absolute.values()
            )
        named, named_ahead = (
            {name: on_device(tangent) for name, tangent in found.items()} for found in (here, ahead)
        )
        return Found(named, list(residuals.values()), errors, named_ahead)

    def _estimated(
        self,
        directions: Any,
        change: Float[np.ndarray, "K R D"] | None,
        left_by: Callable[[Any], Float[Any, "K R D"]],
    ) -> JacobianError:
        """Tangents with estimates of their errors, which tell whether they solve the system."""
        given = self._condition, self.q, self._arguments, (directions,)
        solver = self._solver
        if not isinstance(solver, AssembledSolver):
            return jacobian_error_estimate(
                *given, solver, improved=self.ahead, change=change, left_by=left_by
            )
        if change is None:
            change = compiled_change(*given, one_by_one=solver.one_by_one)
        estimated = jacobian_error_estimate(
            *given, solver.unchecked(), improved=self.ahead, change=change, left_by=left_by
        )
        found, left = np.asarray(estimated.derivative), np.asarray(estimated.left)
        solver.confirm(-np.asarray(change), found, left)
        return estimated

    def _directions(self, names: list[str]) -> Any:
        """Directions along named parameters, stacked: of what the condition is a function of."""
        return jax.tree.map(
            lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]),
            *[self.variables.direction(name).argument for name in names],
        )

    def _changes(
        self, names: list[str], directions: Any, species: dict[str, frozenset[int]] | None
    ) -> Float[np.ndarray, "K R D"] | None:
        """Changes of the condition along parameters, where there is more to say than of each."""
        given = self._condition, self.q, *self._arguments, directions
        if self._pairs is not None:
            return self._changes_of_pairs(self._pairs, names, directions, species)
        if species is not None:
            return parted_changes(*given, *self._told_by(names, species))
        many = len(names) >= MANY and len(names) * self.q.size >= WORTH_COMPILING
        if not many or self._solver.one_by_one or self.landscape.potential.made_by_calls:
            return None
        return changes_of_many(*given)

    def _told_by(
        self, names: list[str], species: dict[str, frozenset[int]]
    ) -> tuple[list[frozenset[int]], Int[np.ndarray, " N"]]:
        """The species that each parameter acts on, and that of each atom."""
        index = self.landscape.potential.species_index(self.landscape.system)
        return [species[name] for name in names], np.asarray(index)

    def _changes_of_pairs(
        self,
        pairs: NearPairs,
        names: list[str],
        directions: Any,
        species: dict[str, frozenset[int]] | None,
    ) -> Float[np.ndarray, "K R D"]:
        """Changes of the condition along parameters, where it is a sum over pairs."""
        changes = functools.partial(changes_of_pairs, self.landscape.potential, pairs)
        if species is None:
            return changes(directions)
        along = jax.tree.map(np.asarray, directions)
        return told_apart(changes, along, *self._told_by(names, species))

    def _left_ahead(
        self, names: list[str], directions: Any, species: dict[str, frozenset[int]] | None
    ) -> Callable[[Any], Float[Any, "K R D"]]:
        """What tangents leave of the linear system at the point ahead, from the pairs there."""
        pairs = self._pairs_ahead
        if pairs is None:
            given = self._condition_ahead, self.ahead, self._arguments, (directions,)
            return functools.partial(compiled_change, *given)

        def left(tangents: Any) -> Float[np.ndarray, "K R D"]:
            if len(names) == 1:
                given = self.landscape.potential, pairs, directions
                return changes_as_atoms_move(*given, np.asarray(tangents))
            products = products_of_pairs(self.landscape.potential, pairs, np.asarray(tangents))
            return products + self._changes_of_pairs(pairs, names, directions, species)

        return left

    @functools.cached_property
    def _pairs_ahead(self) -> NearPairs | None:
        """The pairs at the point ahead."""
        if self._pairs is None:
            return None
        return self._pairs.moved(np.asarray(self.ahead) - np.asarray(self.q))

    @property
    def _pairs(self) -> NearPairs | None:
        """Pairs in range, each once, where the Hessian has found them, and they are all there is.

        A relaxing cell, and conditions of the structure, change more than these tell.
        """
        if self.landscape.cell_mode is not None or not self.variables.of_potential_alone:
            return None
        return None if self.hessian is None else self.hessian.pairs

    def cotangents(
        self, cotangents: Float[np.ndarray, "M R D"]
    ) -> tuple[list[Variables], list[float], Float[np.ndarray, "M R D"]]:
        """Cotangents of the variables for some of q; their parts in the null space have no effect.

        Arguments:
            cotangents: shape (M, R, D).

        Returns:
            M cotangents, each shaped like the variables; M relative residuals of the solves; the
            values of their solutions, shape (M, R, D).

        Raises:
            LinearSolveError: a solve did not converge.
        """
        pulled, solution = vjp_solution(
            self._condition, self.q, self._arguments, cotangents, self._solver,
            pull=self._pull_by(self._pairs),
        )  # fmt: skip
        residuals = [float(residual) for residual in solution.residual]
        gradients = _one_by_one(self.variables.shaped(pulled[0]), len(cotangents))
        return gradients, residuals, solution.value

    def cotangents_ahead(
        self, cotangents: Float[np.ndarray, "M R D"], solutions: Float[np.ndarray, "M R D"]
    ) -> list[Variables]:
        """The same at the point ahead, where they are better by one Newton step.

        Arguments:
            cotangents: those at the point ahead, shape (M, R, D).
            solutions: those that were found for the cotangents here, shape (M, R, D).

        Returns:
            M cotangents, each shaped like the variables.
        """
        given = self._condition_ahead, self.ahead, self._arguments, cotangents, solutions
        pairs, product = self._pairs_ahead, None
        if pairs is not None:
            product = functools.partial(products_of_pairs, self.landscape.potential, pairs)
        pulled = refined_vjp(*given, self._solver.roughly(), product, self._pull_by(pairs))
        return _one_by_one(self.variables.shaped(pulled[0]), len(cotangents))

    def _pull_by(self, pairs: NearPairs | None) -> Callable[[Any], tuple[Any]] | None:
        """What pulls weights of the condition back to the potential, where it is a sum of pairs."""
        if pairs is None:
            return None

        def pull(weights: Any) -> tuple[Any]:
            given = self.landscape.potential, pairs, np.asarray(weights)
            return (pull_back_of_pairs(*given),)

        return pull

    @functools.cached_property
    def newton_step(self) -> Float[np.ndarray, "R D"]:
        """One Newton step from q, length."""
        known = None if self.hessian is None else self.hessian.gradient
        return self._newton_step(self._gradient_at(self.q) if known is None else known)

    def _gradient_at(self, q: Float[Array, "R D"]) -> Float[np.ndarray, "R D"]:
        return np.asarray(self.landscape.evaluate(q)[1])

    def _newton_step(self, gradient: Float[np.ndarray, "R D"]) -> Float[np.ndarray, "R D"]:
        """A step with a gradient and the Hessian at the minimum."""
        return -np.asarray(self._solver.roughly().solve(gradient[None]).value[0])

    @functools.cached_property
    def stiffness(self) -> float:
        """The largest second derivative of the energy in a position, energy/length^2.

        Without a matrix that in the direction of a random vector.
        """
        if self.hessian is None:
            vector = np.random.default_rng(0).normal(size=self.q.shape)
            vector[np.asarray(self.landscape.constrained_rows(self.q)).ravel()] = 0.0
            return float(np.abs(hessian_products(self.landscape, self.q, vector)).max())
        moving = ~self.hessian.motionless[: self.hessian.atom_rows // self.q.shape[1]]
        if isinstance(self.hessian.matrix, HalfStored):
            return float(np.abs(self.hessian.matrix.own[moving]).max(initial=0.0))
        blocks = blocks_of(self.hessian.matrix)
        rows = np.repeat(np.arange(len(blocks.indptr) - 1), np.diff(blocks.indptr))
        # At a minimum none is larger than the largest on the diagonal.
        own = rows == blocks.indices
        # What does not move has ones there.
        own &= moving[rows]
        return float(np.abs(blocks.data[own]).max(initial=0.0))

    @property
    def noise_of_differences(self) -> float:
        """Relative error of what comes from differences; 0 where nothing does."""
        products = 0.0 if self.hessian is None else self.hessian.noise
        return products + self.landscape.potential.parameter_error

    @functools.cached_property
    def ahead(self) -> Float[Array, "R D"]:
        """The point after one Newton step."""
        step = part_taken(self.newton_step, self._range) * self.newton_step
        return on_device(np.asarray(self.q) + step)

    @functools.cached_property
    def left(self) -> float:
        """The part of the way to the minimum that the Newton step leaves, at most 1."""
        if not STRAIGHT < self._reach <= LONGEST:
            return float(self._reach > LONGEST)
        return float(part_left(self.newton_step, self._newton_step(self._gradient_at(self.ahead))))

    @property
    def rough(self) -> bool:
        """Whether the Newton step is so long that its second order matters to the estimates."""
        return self.left > ROUGH

    @property
    def reach(self) -> float:
        """Length of the Newton step, as far as it is taken, as a part of the potential's range."""
        return min(self._reach, LONGEST)

    @property
    def _reach(self) -> float:
        return float(reach_of(self.newton_step, self._range))

    @property
    def _range(self) -> float:
        return float(self.landscape.potential.interaction_range)

    def __str__(self) -> str:
        if self.hessian is None:
            return f"conjugate gradients without a matrix ({self.q.size:,} unknowns)"
        return str(self.hessian)


def part_taken(
    newton_step: Float[Array | np.ndarray, "R D"], interaction_range: ArrayLike
) -> Float[Any, ""]:
    """How much of a Newton step leads to where errors are estimated.

    Arguments:
        newton_step: the step, length.
        interaction_range: the range L of the potential, length.

    Returns:
        1, or less, so that no coordinate changes by more than `LONGEST` L.
    """
    # A step that is none reaches nowhere.
    return 1.0 / (reach_of(newton_step, interaction_range) / LONGEST).clip(1.0)


def part_left(
    here: Float[Array | np.ndarray, "R D"], there: Float[Array | np.ndarray, "R D"]
) -> Float[Any, ""]:
    """The part of the way to the minimum that a Newton step leaves.

    Arguments:
        here: the step, length.
        there: the one that follows it.

    Returns:
        The ratio of their norms, at most 1.
    """
    xp = array_module((here, there))
    here, there = xp.linalg.norm(here), xp.linalg.norm(there)
    # No number is more than all numbers here.
    return xp.where(there < here, there / xp.where(here > 0.0, here, 1.0), 1.0)


def reach_of(newton_step: Any, interaction_range: ArrayLike) -> Any:
    """Length of the Newton step as a part of the potential's range."""
    return abs(newton_step).max(initial=0.0) / interaction_range


def relative_to_largest(
    values: Mapping[str, float],
    interaction_range: float,
    tangents: dict[str, Any],
    errors: Iterable[Any],
) -> list[float]:
    """Errors of theta dq/dtheta, relative to the largest of these among the parameters.

    Where all parameters are zero, as loads of a crystal at rest may be, of dq/dtheta.

    Arguments:
        values: parameters theta by name.
        interaction_range: of the potential, length.
        tangents: tangents of q by name, each (R, D), length/unit.
        errors: estimated norm of the error of each, length/unit.

    Returns:
        The relative errors, one for each name.
    """
    if not tangents:
        return []
    reach = interaction_range
    sizes = weights({name: values[name] for name in tangents})
    found = np.stack([np.asarray(tangent) for tangent in tangents.values()])
    # A change of every position by a millionth of the range is as good as none.
    largest = max((sizes * _norms(found)).max(), 1e-6 * reach * np.sqrt(found[0].size))
    return [float(error) for error in sizes * np.asarray(list(errors)) / largest]


def weights(values: Mapping[str, float]) -> Float[np.ndarray, " P"]:
    """What errors of derivatives are weighed by: the sizes of parameters, or 1 if all are zero.

    Arguments:
        values: parameters by name.
    """
    sizes = np.abs(list(values.values()))
    return sizes if sizes.any() else np.ones(len(sizes))


def _norms(arrays: Float[np.ndarray, "P R D"]) -> Float[np.ndarray, " P"]:
    return np.linalg.norm(arrays.reshape(len(arrays), -1), axis=1)


def _one_by_one(stacked: Variables, count: int) -> list[Variables]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]


def linear_response(
    equilibrium: Equilibrium, progress: bool = False, variables: Variables | None = None
) -> LinearResponse:
    """How a structure follows what it depends on: from the Hessian if that fits into the memory.

    Arguments:
        equilibrium: a relaxed structure.
        progress: whether to show the linear solves of a large system as they go.
        variables: what it depends on; None: the potential.

    Returns:
        The LinearResponse.
    """
    landscape = differentiable_landscape(equilibrium)
    given = landscape, equilibrium.q, equilibrium.hessian_solver, progress
    return LinearResponse(*given, variables)


def differentiable_landscape(equilibrium: Equilibrium) -> Landscape:
    """The landscape without rattlers' edges, with the null vectors that were found."""
    floppy = equilibrium.certificate.floppy_vectors
    return eqx.tree_at(lambda landscape: landscape.floppy, equilibrium.backbone, on_device(floppy))
