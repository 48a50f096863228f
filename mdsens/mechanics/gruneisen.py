"""How frequencies of vibrations follow the volume, with the ions at rest at each volume.

With s = ln V the strain is ds/D along each of D directions, and the atoms are displaced by w ds
beyond it, so that no force is left. A square of a frequency, e^+ D e of an eigenvector e of the
dynamical matrix D, then changes by e^+ D' e, and the eigenvectors by
e'_a = sum over b outside of a's set of e_b (e_b^+ D' e_a) / (squares_a - squares_b).

That change is stationary in e, and in e', where it is written as the slope of e^+ D e along both;
and in w where w takes one Newton step, with a matrix that is kept, towards where no force is left.
So its first derivatives need none of theirs (the theorem of 2n + 1 of perturbation theory, as of X.
Gonze, J.-P. Vigneron, Phys. Rev. B 39, 13120 (1989)).
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.mechanics.dynamical_matrix import of_some_waves, wave_hessians
from mdsens.mechanics.elasticity import gradients_in_strain
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_surroundings import null_vectors_of
from mdsens.mechanics.vibrations import (
    Modes,
    joined,
    means_over_sets,
    modes_of_hessians,
    squares_of_modes,
)
from mdsens.modules import Module
from mdsens.particles.system import System


class ModesInVolume(Module):
    """Modes, and how they change with the logarithm of the volume.

    Attributes:
        modes: the modes.
        changes: shape (Q, F, N, D), of their displacements, orthogonal to the set of each.
        slopes: shape (Q, F), of their squares, energy/length^2/mass: means over their sets.
        displacements: w, shape (N, D), of the ions beyond the strain, length.
        compliance: shape (N D, N D), displacements by forces, length^2/energy.
    """

    modes: Modes
    changes: Complex[Array, "Q F N D"]
    slopes: Float[Array, "Q F"]
    displacements: Float[Array, "N D"]
    compliance: Float[Array, "ND ND"]


def modes_in_volume(
    landscape: Landscape,
    q: Float[Array, "N D"],
    wave_vectors: Float[np.ndarray, "Q D"],
    inverse_roots: Float[Any, " N"],
    displacements: Float[Any, "N D"],
) -> ModesInVolume:
    """The modes of a crystal, and their changes.

    On the host, or with JAX where it traces the structure; without derivatives.

    Arguments:
        landscape: the landscape, of a cell that does not relax.
        q: the positions at rest, shape (N, D), length.
        wave_vectors: shape (Q, D), in the basis of the reciprocal lattice.
        inverse_roots: shape (N,), one over the root of each atom's mass, 0 for one that is fixed.
        displacements: w, shape (N, D), length.

    Returns:
        The ModesInVolume.
    """
    displacements, inverse_roots = on_device(displacements), on_device(inverse_roots)
    null_vectors = null_vectors_of(landscape, q)
    # The wave that is none comes last: its matrix is the Hessian of the atoms of one cell.
    waves = np.concatenate([wave_vectors, np.zeros((1, wave_vectors.shape[1]))])

    def hessians_in_volume(some: Float[Array, "W D"]) -> Any:
        return _hessians_in_volume(landscape, q, some, displacements)

    given = landscape, q, displacements
    found = of_some_waves(hessians_in_volume, waves, given, q.size)
    known = in_numpy(jax.lax.stop_gradient((found, inverse_roots, null_vectors)))
    xp, ((hessians, slopes), inverse_roots, null_vectors) = array_module(known), known
    modes = modes_of_hessians(hessians[:-1], wave_vectors, inverse_roots, null_vectors)
    constrained = in_numpy(jax.lax.stop_gradient(landscape.constrained_rows(q)))
    stiffness = compliance_of(hessians[-1].real, constrained[:, 0], null_vectors)

    moves, squares, sets, still = in_numpy(
        (modes.displacements, modes.squares, modes.sets, modes.still)
    )
    flat = moves.reshape(*moves.shape[:2], -1)
    coupling = xp.einsum("qbi,qij,qaj->qba", xp.conj(flat), slopes[:-1], flat)
    own = means_over_sets(xp, xp.einsum("qaa->qa", coupling).real, sets)
    apart = squares[:, None, :] - squares[:, :, None]
    same = sets[:, None, :] == sets[:, :, None]
    factors = xp.where(same, 0.0, coupling / xp.where(same, 1.0, apart))
    changes = xp.einsum("qba,qbi->qai", factors, flat).reshape(moves.shape)
    known = changes, xp.where(still, 0.0, own), displacements, stiffness
    return ModesInVolume(modes, *map(on_device, known))


def joined_in_volume(several: Sequence[ModesInVolume]) -> ModesInVolume:
    """Modes of all wave vectors of several, and their changes.

    Arguments:
        several: of one structure, whose ions move alike in all of them.

    Returns:
        All modes, in order.
    """
    changes, slopes = (
        jnp.concatenate([getattr(one, name) for one in several]) for name in ("changes", "slopes")
    )
    modes = joined([one.modes for one in several])
    return ModesInVolume(modes, changes, slopes, several[0].displacements, several[0].compliance)


def compliance_of(
    hessian: Float[Any, "ND ND"], constrained: Any, null_vectors: Float[Any, "M N D"]
) -> Float[Any, "ND ND"]:
    """The pseudo-inverse of a Hessian among the atoms that may move.

    Arguments:
        hessian: shape (N D, N D), energy/length^2.
        constrained: shape (N,), which atoms may not.
        null_vectors: shape (M, N, D), displacements that cost no energy by symmetry.

    Returns:
        Shape (N D, N D), length^2/energy; zero along what is constrained or costs nothing.
    """
    xp = array_module((hessian, constrained, null_vectors))
    dimension = null_vectors.shape[-1]
    free = xp.repeat(xp.where(constrained, 0.0, 1.0), dimension)
    rows = null_vectors.reshape(len(null_vectors), -1) * free[None, :]
    others = xp.diag(free) - xp.linalg.pinv(rows, rtol=NULL_FRACTION) @ rows
    within = others @ (hessian + hessian.T) @ others / 2
    return xp.linalg.pinv(within, NULL_FRACTION, hermitian=True)


@compiled(heavy=True)
def squares_and_slopes(
    landscape: Landscape, q: Float[Array, "N D"], held: ModesInVolume
) -> tuple[Float[Array, "Q F"], Float[Array, "Q F"]]:
    """Squares of angular frequencies, and their slopes in the logarithm of the volume.

    Arguments:
        landscape: the landscape, of a cell that does not relax.
        q: the positions at rest, shape (N, D), length.
        held: the modes there and their changes, which count as constant.

    Returns:
        Two of shape (Q, F), energy/length^2/mass: of each the mean over its set; 0 for what is
        still.
    """
    expansion = jnp.eye(q.shape[1]) / q.shape[1]

    def forces(q: Array, strain: Array) -> Array:
        return gradients_in_strain(landscape, q, strain)[0]

    start = q, jnp.zeros_like(expansion)
    left = jax.jvp(forces, start, (held.displacements, expansion))[1]
    step = (held.compliance @ left.reshape(-1)).reshape(q.shape)
    displacements = held.displacements - step

    system = landscape.system_at(q)

    def squares(positions: Array, cell: Array, moves: Array) -> Array:
        modes = eqx.tree_at(lambda modes: modes.displacements, held.modes, moves)
        given = _placed(system, positions, cell), landscape.potential, landscape.edge_list
        return squares_of_modes(*given, modes)

    return jax.jvp(
        squares,
        (system.positions, system.cell, held.modes.displacements),
        (displacements + system.positions @ expansion, system.cell @ expansion, held.changes),
    )


@compiled(heavy=True)
def _hessians_in_volume(
    landscape: Landscape,
    q: Float[Array, "N D"],
    wave_vectors: Float[Array, "Q D"],
    displacements: Float[Array, "N D"],
) -> tuple[Complex[Array, "Q F F"], Complex[Array, "Q F F"]]:
    """Second derivatives of the energy in waves, and their slopes in ln V."""
    system = landscape.system_at(q)

    def hessians(positions: Array, cell: Array) -> Array:
        placed = _placed(system, positions, cell)
        return wave_hessians(placed, landscape.potential, landscape.edge_list, wave_vectors)

    dimension = q.shape[1]
    changes = displacements + system.positions / dimension, system.cell / dimension
    return jax.jvp(hessians, (system.positions, system.cell), changes)


def _placed(system: System, positions: Array, cell: Array) -> System:
    return eqx.tree_at(lambda s: (s.positions, s.cell), system, (positions, cell))
