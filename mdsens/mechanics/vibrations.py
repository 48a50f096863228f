"""Vibrations: squares of frequencies, and the modes in which they are stationary.

A frequency of several equal ones has no derivative of its own: of every member of such a set the
square and its derivatives are those of the set's mean, the trace of the dynamical matrix over its
modes divided by their number, which has derivatives like any other.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.linalg.lowest_modes import lowest_modes
from mdsens.linalg.multigrid import BlockJacobi
from mdsens.linalg.null_space import NEGLIGIBLE, NULL_FRACTION, orthonormal_rows
from mdsens.linalg.sparse_plus_low_rank import blocks_of
from mdsens.mechanics.dynamical_matrix import (
    hessians_of_waves,
    require_known_waves,
    wave_hessians,
)
from mdsens.mechanics.hessian import hessian_vector_product
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.modules import Module
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential

#: Neighbouring squares of frequencies whose relative difference is less belong to one set. Forces
#: of 1e-8 that a relaxation leaves split what symmetry makes equal by some 1e-7 in soft crystals.
SAME = 1e-6
#: What rounding leaves of a square, as a part of the largest; what is less is zero.
ROUNDING = 1e-13


class Modes(Module):
    """The vibrations of each of Q wave vectors, F = N D of them, by ascending squares.

    Attributes:
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
        displacements: shape (Q, F, N, D), of the atoms, orthonormal once each is multiplied by the
            root of its atom's mass, 1/mass^(1/2); 0 for one that is fixed.
        squares: shape (Q, F), squares of angular frequencies, energy/length^2/mass: the mean over
            the set that each belongs to.
        sets: shape (Q, F), number of that set, of all that there are.
        still: shape (Q, F), whether nothing pulls a mode back: its square is 0, and stays so.
    """

    wave_vectors: Float[Array, "Q D"]
    displacements: Complex[Array, "Q F N D"]
    squares: Float[Array, "Q F"]
    sets: Int[Array, "Q F"]
    still: Bool[Array, "Q F"]


def vibrational_modes(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    wave_vectors: Float[np.ndarray, "Q D"],
    inverse_roots: Float[Any, " N"],
    null_vectors: Float[Any, "M N D"],
) -> Modes:
    """The modes of a system: eigenvectors of its dynamical matrices.

    On the host, or with JAX where it traces the system; without derivatives.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
        inverse_roots: shape (N,), one over the root of each atom's mass, 0 for one that is fixed.
        null_vectors: shape (M, N, D), displacements of a cell and all its images alike that cost no
            energy by symmetry.

    Returns:
        The Modes.
    """
    require_known_waves(potential, wave_vectors)
    hessians = hessians_of_waves(system, potential, edge_list, wave_vectors)
    return modes_of_hessians(hessians, wave_vectors, inverse_roots, null_vectors)


def modes_of_hessians(
    hessians: Complex[Any, "Q F F"],
    wave_vectors: Float[np.ndarray, "Q D"],
    inverse_roots: Float[Any, " N"],
    null_vectors: Float[Any, "M N D"],
) -> Modes:
    """The same where second derivatives of the energy in waves are known.

    Arguments:
        hessians: shape (Q, F, F), as `wave_hessians` returns them, energy/length^2.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
        inverse_roots: shape (N,), one over the root of each atom's mass, 0 for one that is fixed.
        null_vectors: shape (M, N, D), displacements that cost no energy by symmetry.

    Returns:
        The Modes.
    """
    known = in_numpy(jax.lax.stop_gradient((hessians, inverse_roots, null_vectors)))
    xp, (hessians, inverse_roots, null_vectors) = array_module(known), known
    count, dimension = len(inverse_roots), wave_vectors.shape[1]
    weights = xp.repeat(inverse_roots, dimension).astype(complex)
    matrices = weights[None, :, None] * hessians * weights[None, None, :]
    matrices = (matrices + xp.conj(xp.swapaxes(matrices, 1, 2))) / 2
    roots = xp.where(
        inverse_roots > 0.0, 1.0 / xp.where(inverse_roots > 0.0, inverse_roots, 1.0), 0.0
    )
    rows = (null_vectors * roots[None, :, None]).reshape(len(null_vectors), -1)

    in_phase = np.all(wave_vectors == np.round(wave_vectors), axis=1)
    parts = [
        _eigenvectors(xp, matrices[np.flatnonzero(chosen)], rows if alike else None)
        for alike, chosen in ((True, in_phase), (False, ~in_phase))
        if chosen.any()
    ]
    squares, vectors, still = (xp.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(np.concatenate([np.flatnonzero(in_phase), np.flatnonzero(~in_phase)]))
    squares, vectors, still = squares[order], vectors[order], still[order]

    sets = _sets(xp, squares)
    means = means_over_sets(xp, squares, sets)
    moves = xp.swapaxes(vectors, 1, 2).reshape(*squares.shape, count, dimension)
    moves = moves * inverse_roots[None, None, :, None].astype(complex)
    found = wave_vectors, moves, xp.where(still, 0.0, means), sets, still
    return Modes(*map(on_device, found))


#: Relative residual of the solves that the lowest modes are found by.
SOLVES = 1e-11


def lowest_vibrational_modes(
    hessian: HessianSolver,
    inverse_roots: Float[np.ndarray, " N"],
    null_vectors: Float[np.ndarray, "M N D"],
    count: int,
) -> Modes:
    """The lowest modes of all cells alike, by products with the sparse Hessian.

    Arguments:
        hessian: that of the positions.
        inverse_roots: shape (N,), one over the root of each atom's mass, 0 for one that is fixed.
        null_vectors: shape (M, N, D), displacements that cost no energy.
        count: how many are wanted, beside what is still.

    Returns:
        The Modes: none of them still, and of the last set all members.

    Raises:
        LinearSolveError: they do not converge.
    """
    atoms, dimension = null_vectors.shape[1:]
    weights = np.repeat(np.where(hessian.motionless[:atoms], 0.0, inverse_roots), dimension)
    allowed = (weights > 0.0).astype(float)
    roots = np.where(weights > 0.0, 1.0 / np.where(weights > 0.0, weights, 1.0), 0.0)
    rows = orthonormal_rows(null_vectors.reshape(len(null_vectors), -1) * roots)
    sparse = hessian.sparse
    stable = sparse.positive_definite or sparse.lowest_eigenvalue() > 0.0
    # Solves by iterations cost less than a block of vectors that follow a preconditioner.
    exact = stable
    # What curves down is no preconditioner.
    nearly = sparse.preconditioner if stable else BlockJacobi(blocks_of(hessian.matrix))

    def scaled(factor: Any, function: Any) -> Any:
        def product(v: np.ndarray) -> np.ndarray:
            by = factor if v.ndim == 1 else factor[:, None]
            return by * function(by * v)

        return product

    def solve(v: np.ndarray) -> np.ndarray:
        if not exact:
            return nearly(v)
        return sparse.solve(v.reshape(len(v), -1), SOLVES).value.reshape(v.shape)

    found, vectors = lowest_modes(
        scaled(weights, lambda v: hessian.matrix @ v), scaled(roots, solve), exact, rows, allowed,
        count, SAME,
    )  # fmt: skip
    squares = found[None]
    sets = _sets(np, squares)
    moves = (weights * vectors).reshape(1, len(found), atoms, dimension).astype(complex)
    means, still = means_over_sets(np, squares, sets), np.zeros(squares.shape, bool)
    return Modes(*map(on_device, (np.zeros((1, dimension)), moves, means, sets, still)))


def joined(several: Sequence[Modes]) -> Modes:
    """Modes of all wave vectors of several, whose sets stay apart.

    Arguments:
        several: modes of one system.

    Returns:
        Their modes, in order.
    """
    apart, sets = 0, []
    for modes in several:
        sets.append(modes.sets + apart)
        apart += modes.sets.size
    together = jax.tree.map(lambda *parts: jnp.concatenate(parts), *several)
    return eqx.tree_at(lambda modes: modes.sets, together, jnp.concatenate(sets))


@compiled(heavy=True)
def squares_of_modes(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    modes: Modes,
) -> Float[Array, "Q F"]:
    """Squares of angular frequencies from modes that are kept: quotients of Rayleigh.

    With e an eigenvector of the dynamical matrix D, e^+ D e is its eigenvalue and stationary in e:
    its first derivatives are e^+ dD e, and no eigenvector is differentiated.

    Arguments:
        system: N atoms in D dimensions.
        potential: the potential.
        edge_list: all edges within the potential's range.
        modes: those of this system, which count as constant.

    Returns:
        Shape (Q, F), energy/length^2/mass: of each the mean over its set; 0 for what is still.
    """
    waves = modes.displacements.reshape(*modes.squares.shape, -1)
    if waves.shape[1] == waves.shape[2]:
        hessians = wave_hessians(system, potential, edge_list, modes.wave_vectors)
        products = waves @ jnp.swapaxes(hessians, 1, 2)
    else:
        # The lowest of a large cell, whose images move alike.
        def product(displacements: Float[Array, "N D"]) -> Float[Array, "N D"]:
            return hessian_vector_product(
                system, potential, edge_list.without_slots_counted(), displacements
            )

        found = jax.lax.map(product, modes.displacements[0].real)
        products = found.reshape(waves.shape).astype(complex)
    squares = jnp.sum((jnp.conj(waves) * products).real, axis=2)
    return jnp.where(modes.still, 0.0, means_over_sets(jnp, squares, modes.sets))


def _eigenvectors(xp: Any, matrices: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Ascending eigenvalues, eigenvectors as columns, and which of them are still."""
    size = matrices.shape[-1]
    if rows is None:
        values, vectors = xp.linalg.eigh(matrices)
        still, zero = xp.zeros(values.shape, bool), ROUNDING
    else:
        # Known to be still, whatever forces are left: out of the way of all others. In phase all
        # images move alike, and the matrix is real.
        projector = xp.linalg.pinv(rows, rtol=NEGLIGIBLE) @ rows
        others = xp.eye(size) - projector
        within = others[None] @ matrices.real @ others[None]
        beyond = 2.0 * xp.sqrt(xp.sum(within**2, axis=(1, 2), keepdims=True))
        values, vectors = xp.linalg.eigh(within + beyond * projector[None])
        still, zero = xp.sum(vectors * (projector[None] @ vectors), axis=1) > 0.5, NULL_FRACTION
        vectors = vectors.astype(complex)
    values = xp.where(still, 0.0, values)
    largest = xp.max(xp.abs(values), axis=1, keepdims=True)
    still = still | (xp.abs(values) <= zero * largest)
    values = xp.where(still, 0.0, values)
    order = xp.argsort(values, axis=1)
    return (
        xp.take_along_axis(values, order, axis=1),
        xp.take_along_axis(vectors, order[:, None, :], axis=2),
        xp.take_along_axis(still, order, axis=1),
    )


def _sets(xp: Any, squares: Any) -> Any:
    """Number of the set of equal ones that each of ascending squares belongs to."""
    sizes = xp.abs(squares)
    allowed = SAME * xp.maximum(sizes[:, 1:], sizes[:, :-1]) + ROUNDING * xp.max(
        sizes, axis=1, keepdims=True
    )
    apart = squares[:, 1:] - squares[:, :-1] > allowed
    begins = xp.concatenate([xp.ones((len(squares), 1), bool), apart], axis=1)
    return (xp.cumsum(begins.reshape(-1)) - 1).reshape(squares.shape)


def means_over_sets(
    xp: Any, squares: Float[Any, "Q F"], sets: Int[Any, "Q F"]
) -> Float[Any, "Q F"]:
    """The mean over the set that each square of a frequency belongs to.

    Arguments:
        xp: `numpy` or `jax.numpy`.
        squares: shape (Q, F).
        sets: shape (Q, F), numbers of sets.

    Returns:
        Shape (Q, F).
    """
    flat, numbers = squares.reshape(-1), sets.reshape(-1)
    if xp is np:
        return (np.bincount(numbers, flat) / np.bincount(numbers))[sets]
    blank = jnp.zeros_like(flat)
    counts = jnp.maximum(blank.at[numbers].add(1.0), 1.0)
    return (blank.at[numbers].add(flat) / counts)[sets]
