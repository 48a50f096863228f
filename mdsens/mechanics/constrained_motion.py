"""How constraints act on degrees of freedom: what moves, where to, and what forces are left of.

Coordinates q may be anything; the atoms are where the constraints let q lead them. With the
projection P onto displacements that linear constraints allow, the positions without bonds are
y = reference + P (q - reference). Bonds are then given their lengths, g(x) = 0, along the
directions B = P dg/dx that they have at a place nearby, the tangent: x = y + B^T mu, as SHAKE does
(J.-P. Ryckaert et al., J. Comput. Phys. 23, 327 (1977)). Along the span of 1 - P and of B nothing
depends on q.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.modules import Module
from mdsens.particles.constraints import Bonds
from mdsens.particles.system import System
from mdsens.values import is_traced

#: Relative error of lengths that are held, and the steps of Newton's method to it at most.
LENGTH_TOLERANCE, MOST_ITERATIONS = 1e-13, 50
#: Parts of equations below this, beside the largest, are none of their own.
DEPENDENT = 1e-10
#: Squares of sines below which a direction lies in a span.
IN_SPAN = 1e-12


class ConstrainedMotion(Module):
    """The constraints of a system's atoms, as a change of coordinates.

    Attributes:
        motions: shape (N, D, D), the projection of each atom's displacement onto what it may do by
            itself.
        equations: shape (M, N, D), along which displacements have no part; M may be 0.
        inverse: shape (M, M), the inverse of the equations' overlaps.
        bonds: lengths that are held; None where none is.
        tangent: shape (N, D), positions at which the directions of bonds are taken, length.
        cell: shape (D, D), the cell, whose images bonds may end in.
    """

    motions: Float[Array, "N D D"]
    equations: Float[Array, "M N D"]
    inverse: Float[Array, "M M"]
    bonds: Bonds | None
    tangent: Float[Array, "N D"]
    cell: Float[Array, "D D"]

    @staticmethod
    def of(system: System) -> "ConstrainedMotion | None":
        """That of a system; None where atoms are fixed or free.

        Arguments:
            system: N atoms in D dimensions.

        Returns:
            The ConstrainedMotion; nothing is differentiated through it.
        """
        constraints = system.constraints
        if constraints is None:
            return None
        count, dimension = system.positions.shape
        known = constraints, system.fixed, system.positions, system.cell
        if is_traced(known):
            known = jax.lax.stop_gradient(known)
        constraints, fixed, tangent, cell = in_numpy(known)
        xp = array_module((constraints, fixed))
        motions = constraints.motions
        if motions is None:
            motions = np.tile(np.eye(dimension), (count, 1, 1))
        motions = xp.where(fixed[:, None, None], 0.0, motions)
        equations = constraints.equations
        if equations is None:
            equations = np.zeros((0, count, dimension))
        equations = xp.einsum("mib,iab->mia", equations, motions)
        inverse = _inverse_of_overlaps(equations)
        return ConstrainedMotion(
            on_device(motions), on_device(equations), on_device(inverse), constraints.bonds,
            on_device(tangent), on_device(cell),
        )  # fmt: skip

    @property
    def coupled(self) -> bool:
        """Whether what one atom does is about others."""
        return self.bonds is not None or len(self.equations) > 0

    def project(self, displacements: Float[Any, "*K N D"]) -> Float[Any, "*K N D"]:
        """The part of displacements that linear constraints allow.

        Arguments:
            displacements: of all atoms, or K of these.

        Returns:
            The same shape.
        """
        given = displacements, self.motions, self.equations, self.inverse
        moves, motions, equations, inverse = known = in_numpy(given)
        xp = array_module(known)
        moves = xp.einsum("iab,...ib->...ia", motions, moves)
        if not len(equations):
            return moves
        along = xp.einsum("mia,...ia->...m", equations, moves) @ inverse
        return moves - xp.einsum("...m,mia->...ia", along, equations)

    def allowed(self, displacements: Float[Any, "*K N D"]) -> Float[Any, "*K N D"]:
        """The part of displacements that all constraints allow, bonds in their tangent's direction.

        Arguments:
            displacements: of all atoms, or K of these.

        Returns:
            The same shape.
        """
        moves = self.project(displacements)
        if self.bonds is None:
            return moves
        directions = self._directions_at_tangent()
        xp = array_module((moves, directions))
        along = xp.einsum("mia,...ia->...m", directions, moves)
        along = along @ _inverse_of_overlaps(directions)
        return moves - xp.einsum("...m,mia->...ia", along, directions)

    def placed(self, q: Float[Any, "N D"], reference: Float[Any, "N D"]) -> Float[Any, "N D"]:
        """Where atoms are.

        Arguments:
            q: where the coordinates would have them, shape (N, D), length.
            reference: where they are held, shape (N, D), length.

        Returns:
            Shape (N, D), length.
        """
        q, reference = in_numpy((q, reference))
        placed = reference + self.project(q - reference)
        if self.bonds is None:
            return placed
        given = self.bonds, on_device(placed), on_device(self._directions_at_tangent()), self.cell
        # Newton's method stops by the numbers: outside of traces it has a program of its own.
        found = _with_lengths(*given) if is_traced(given) else _with_lengths_compiled(*given)
        return in_numpy(found)

    def pulled_back(
        self, gradient: Float[Any, "N D"], positions: Float[Any, "N D"]
    ) -> Float[Any, "N D"]:
        """The derivative of an energy in q, from that in the positions.

        Arguments:
            gradient: in the positions, shape (N, D), energy/length.
            positions: where atoms are, shape (N, D), length.

        Returns:
            Shape (N, D), energy/length; zero where no allowed displacement changes the energy.
        """
        gradient, positions, cell = known = in_numpy((gradient, positions, self.cell))
        if self.bonds is None:
            return self.project(gradient)
        here, there = self.bonds.directions(positions, cell), self._directions_at_tangent()
        xp = array_module((known, here, there))
        overlaps = xp.einsum("mia,nia->mn", there, here)
        tensions = xp.linalg.solve(overlaps, xp.einsum("mia,ia->m", there, gradient))
        return self.project(gradient - xp.einsum("m,mia->ia", tensions, here))

    def apart(self, q: Float[Any, "N D"], reference: Float[Any, "N D"]) -> Float[Any, "N D"]:
        """The part of q that leads nowhere: zero where q is where the atoms are.

        Arguments:
            q: coordinates, shape (N, D), length.
            reference: where atoms are held, shape (N, D), length.

        Returns:
            Shape (N, D), length.
        """
        q, reference, tangent = in_numpy((q, reference, self.tangent))
        moved = q - reference
        apart = moved - self.project(moved)
        if self.bonds is None:
            return apart
        within = self.project(q - tangent)
        return apart + within - self.allowed(q - tangent)

    def touching(self, positions: Float[Any, "N D"]) -> "ConstrainedMotion":
        """The same with bonds in the directions that they have at these positions, (N, D)."""
        if self.bonds is None:
            return self
        held = jax.lax.stop_gradient(positions) if is_traced(positions) else on_device(positions)
        return eqx.tree_at(lambda motion: motion.tangent, self, held)

    def combinations(self, motions: Float[Array, "K N D"]) -> Float[Array, "K N D"]:
        """Motions of all atoms, combined so that constraints allow them or they are zero.

        Arguments:
            motions: K of them, shape (K, N, D).

        Returns:
            The same shape.
        """
        flat = motions.reshape(len(motions), -1)
        values, vectors = jnp.linalg.eigh(flat @ flat.T)
        independent = values > IN_SPAN * jnp.max(values)
        scales = jnp.where(independent, 1.0 / jnp.sqrt(jnp.where(independent, values, 1.0)), 0.0)
        flat = (vectors * scales[None]).T @ flat
        unit = flat.reshape(motions.shape)
        apart = (unit - self.allowed(unit)).reshape(len(motions), -1)
        values, vectors = jnp.linalg.eigh(apart @ apart.T)
        return (jnp.where((values < IN_SPAN)[None], vectors, 0.0).T @ flat).reshape(motions.shape)

    def held_directions(self) -> Float[np.ndarray, "F N D"]:
        """An orthonormal basis of what no displacement has a part along, on the host."""
        count, dimension = self.tangent.shape
        size = count * dimension
        units = np.eye(size).reshape(size, count, dimension)
        within = np.asarray(self.allowed(units)).reshape(size, size)
        values, vectors = np.linalg.eigh((within + within.T) / 2)
        return vectors[:, values < 0.5].T.reshape(-1, count, dimension)

    def _directions_at_tangent(self) -> Float[Any, "M N D"]:
        assert self.bonds is not None
        tangent, cell = in_numpy((self.tangent, self.cell))
        return self.project(self.bonds.directions(tangent, cell))


def _inverse_of_overlaps(rows: Float[Any, "M N D"]) -> Float[Any, "M M"]:
    """The pseudo-inverse of the rows' scalar products."""
    xp = array_module(rows)
    if not len(rows):
        return np.zeros((0, 0))
    overlaps = xp.einsum("mia,nia->mn", rows, rows)
    return xp.linalg.pinv(overlaps, DEPENDENT, hermitian=True)


def _with_lengths(
    bonds: Bonds,
    positions: Float[Array, "N D"],
    directions: Float[Array, "M N D"],
    cell: Float[Array, "D D"],
) -> Float[Array, "N D"]:
    """Positions moved along given directions to where bonds have their lengths."""
    at_tangent = jnp.asarray(directions)

    def placed(amounts: Float[Array, " M"]) -> Float[Array, "N D"]:
        return positions + jnp.einsum("m,mia->ia", amounts, at_tangent)

    def left(amounts: Float[Array, " M"]) -> Float[Array, " M"]:
        return bonds.sums(placed(amounts), cell) - bonds.lengths

    def slope(amounts: Float[Array, " M"]) -> Float[Array, "M M"]:
        here = bonds.directions(placed(amounts), cell)
        return jnp.einsum("mia,nia->mn", here, at_tangent)

    def solve(_: Any, start: Float[Array, " M"]) -> Float[Array, " M"]:
        def going(course: tuple[Array, Array, Array]) -> Bool[Array, ""]:
            _, error, steps = course
            allowed = LENGTH_TOLERANCE * jnp.max(jnp.abs(bonds.lengths))
            return (error > allowed) & (steps < MOST_ITERATIONS)

        def step(course: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            amounts, _, steps = course
            amounts = amounts - jnp.linalg.solve(slope(amounts), left(amounts))
            return amounts, jnp.max(jnp.abs(left(amounts))), steps + 1

        first = start, jnp.max(jnp.abs(left(start))), jnp.asarray(0)
        return jax.lax.while_loop(going, step, first)[0]

    def solve_tangent(change: Any, right: Float[Array, " M"]) -> Float[Array, " M"]:
        return jnp.linalg.solve(jax.jacobian(change)(right), right)

    start = jnp.zeros(len(bonds.lengths))
    return placed(jax.lax.custom_root(left, start, solve, solve_tangent))


_with_lengths_compiled = compiled(_with_lengths)
