"""How energy and forces change with a homogeneous strain: elastic constants, clamped and relaxed.

With positions x A and cell h A, A = 1 + strain, and the strain e_a of each Voigt component:
d2E/ds_a ds_b along the strains s_a e_a, while the atoms are displaced by s_a u_a beyond it.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, on_device
from mdsens.compilation import compiled
from mdsens.implicit import SolveOptions, SolverAt, root_jvp
from mdsens.implicit.refinement import refined_jvp
from mdsens.linalg.sparse_plus_low_rank import SymmetricMatrix
from mdsens.mechanics.assembled_solver import RTOL, response_solver
from mdsens.mechanics.condition import Condition
from mdsens.mechanics.energy import energy_forces_virial
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_solver import HessianSolver
from mdsens.mechanics.second_variations import second_variations
from mdsens.mechanics.strain_of_hessian import StrainDerivatives
from mdsens.mechanics.stress import voigt
from mdsens.mechanics.traced_solver import hessian_solver_at
from mdsens.resources import products_on_one_core
from mdsens.values import is_traced
from mdsens.voigt import VOIGT_INDICES

#: Relative residual of displacements for values alone: what is stationary in them is off by its
#: square, times the condition number.
ENOUGH_FOR_VALUES = 1e-6


def unit_strains(dimension: int) -> Float[np.ndarray, "V D D"]:
    """The symmetric strain of each Voigt component, in ASE's order; of a shear of 1 in angle.

    Arguments:
        dimension: D, 2 or 3.

    Returns:
        Shape (V, D, D): one half on both sides of the diagonal for shears, as in engineering.
    """
    rows, columns = map(np.array, VOIGT_INDICES[dimension])
    strains = np.zeros((len(rows), dimension, dimension))
    strains[np.arange(len(rows)), rows, columns] += 0.5
    strains[np.arange(len(rows)), columns, rows] += 0.5
    return strains


def gradients_in_strain(
    landscape: Landscape, q: Float[Array, "N D"], strain: Float[Array, "D D"]
) -> tuple[Float[Array, "N D"], Float[Array, "D D"]]:
    """Derivatives of the energy in positions and strain, of a strained system.

    Arguments:
        landscape: the landscape, of a cell that does not relax.
        q: positions before the strain, shape (N, D), length.
        strain: shape (D, D); fixed atoms and rattlers follow it.

    Returns:
        dE/dq, shape (N, D), energy/length, zero for atoms that are constrained; dE/d(strain),
        shape (D, D), energy.
    """
    system, deformation = landscape.system_at(q), jnp.eye(len(strain)) + strain
    strained = eqx.tree_at(
        lambda system: (system.positions, system.cell),
        system,
        (system.positions @ deformation, system.cell @ deformation),
    )
    _, forces, virial = energy_forces_virial(strained, landscape.potential, landscape.edge_list)
    along_positions = landscape.of_moving_atoms(q, system.positions, -forces @ deformation.T)
    return along_positions, jnp.linalg.solve(deformation.T, virial)


def condition_in_strain(
    landscape: Landscape, q: Float[Array, "N D"], strain: Float[Array, "D D"]
) -> Float[Array, "N D"]:
    """The optimality condition F(q, strain) = 0 of the atoms of a strained system.

    Arguments:
        landscape: as in `gradients_in_strain`, as are all that follow.
        q: positions before the strain.
        strain: the strain.

    Returns:
        Shape (N, D), energy/length; constrained atoms are where they are.
    """
    return landscape.held_back(q) + gradients_in_strain(landscape, q, strain)[0]


@compiled(heavy=True)
def curvature_in_strain(
    landscape: Landscape,
    q: Float[Array, "N D"],
    displacements: Float[Array, "*M V N D"],
    forces: Float[Array, "N D"],
) -> Float[Array, "*M V V"]:
    """Second derivatives of the energy in the Voigt components of a strain.

    Stationary in displacements that leave no force, so that its first derivatives need none of
    theirs.

    Arguments:
        landscape: the landscape, of a cell that does not relax.
        q: the positions, shape (N, D), length.
        displacements: of the atoms for each component beyond what the strain does, shape (V, N, D),
            length; zeros for ions that are clamped. Several such are shape (M, V, N, D).
        forces: on the atoms at q, shape (N, D), energy/length.

    Returns:
        Shape (V, V), energy; of several (M, V, V).
    """
    strains = jnp.asarray(unit_strains(q.shape[1]))
    several = displacements.reshape(-1, *strains.shape[:1], *q.shape)
    if landscape.potential.of_structure:
        found = _from_gradients(landscape, q, several, strains)
        return found.reshape(*displacements.shape[:-2], len(strains))
    system = landscape.system_at(q)
    given = system, landscape.potential, landscape.edge_list

    def one(moves: Float[Array, "V N D"]) -> Float[Array, "V V"]:
        moves = jnp.where(landscape.constrained_rows(q)[None], 0.0, moves)
        # A strain moves what has been displaced.
        work = jnp.einsum("na,inb,jba->ij", forces, moves, strains)
        return second_variations(*given, moves, strains) - work - work.T

    found = jax.lax.map(one, several) if len(several) > 1 else one(several[0])
    return found.reshape(*displacements.shape[:-2], len(strains))


def _from_gradients(
    landscape: Landscape,
    q: Float[Array, "N D"],
    several: Float[Array, "M V N D"],
    strains: Float[Array, "V D D"],
) -> Float[Array, "MV V"]:
    """The same of an energy of the whole structure, of which products alone are known."""

    def along(direction: tuple[Array, Array, Array]) -> Array:
        index, move, strain = direction
        by_q, by_strain = jax.jvp(
            lambda q, strain: gradients_in_strain(landscape, q, strain),
            (q, jnp.zeros_like(strains[0])),
            (move, strain),
        )[1]
        found = jnp.tensordot(several[index], by_q, 2)
        return found + jnp.tensordot(strains, by_strain, 2)

    # One loop over all, which is compiled once.
    count, size = several.shape[:2]
    which = jnp.repeat(jnp.arange(count), size)
    directions = which, several.reshape(-1, *q.shape), jnp.tile(strains, (count, 1, 1))
    return jax.lax.map(along, directions)


def forces_in_strains(found: StrainDerivatives) -> Float[np.ndarray, "V N D"]:
    """The forces on atoms that follow each Voigt component of a strain, in the place they had.

    Arguments:
        found: derivatives of the energy in any strain, where all atoms are free.

    Returns:
        Shape (V, N, D), energy/length: minus the change of `gradients_in_strain`.
    """
    strains = unit_strains(found.forces.shape[1])
    changes = np.tensordot(found.of_positions, strains, ((2, 3), (1, 2)))
    # What force there is turns with the strain.
    return found.forces @ strains - np.moveaxis(changes, 2, 0)


def curvature_of_blocks(
    found: StrainDerivatives, matrix: SymmetricMatrix, displacements: Float[np.ndarray, "V N D"]
) -> Float[np.ndarray, "V V"]:
    """`curvature_in_strain` from the blocks of the Hessian, which tell what any strain does.

    Arguments:
        found: derivatives of the energy in any strain.
        matrix: the Hessian, shape (N D, N D), energy/length^2.
        displacements: as in `curvature_in_strain`.

    Returns:
        Shape (V, V), energy.
    """
    count, moves = len(displacements), displacements.reshape(len(displacements), -1)
    strains = unit_strains(displacements.shape[2]).reshape(count, -1)
    clamped = strains @ found.of_strain.reshape(2 * (strains.shape[1],)) @ strains.T
    with products_on_one_core():
        released = moves @ forces_in_strains(found).reshape(count, -1).T
        # One by one: SciPy takes twice as long for a few columns of blocks at once.
        stored = np.stack([matrix @ move for move in moves]) @ moves.T
    return clamped - released - released.T + stored


def stress_strain_coefficients(
    curvature: Float[Any, "V V"], stress: Float[Any, "D D"], volume: Float[Any, ""]
) -> Float[Any, "V V"]:
    """Derivatives of the Cauchy stress in a symmetric strain, from those of the energy.

    B_ijkl = M_ijkl + (s_ik d_jl + s_il d_jk + s_jk d_il + s_jl d_ik) / 4 - s_ij d_kl, where M is
    the curvature of the energy in the strain over the volume, s the stress and d the identity: D.
    C. Wallace, Thermodynamics of Crystals (1972), eq. 2.24 and 3.36, with M in place of the second
    derivatives in the Lagrangian strain. Where there is no stress they are the elastic constants.

    Arguments:
        curvature: second derivatives of the energy in the strain, shape (V, V), energy.
        stress: shape (D, D), energy/length^D.
        volume: length^D.

    Returns:
        Shape (V, V), energy/length^D; rows are of the stress, columns of the strain.
    """
    dimension = len(stress)
    identity = np.eye(dimension)
    strains = unit_strains(dimension)
    # e_a s e_b is one of the four terms where both strains are symmetric.
    xp = array_module((curvature, stress, volume))
    products = xp.einsum("aij,jk,bki->ab", strains, stress, strains)
    work = xp.outer(voigt(stress), voigt(identity))
    return curvature / volume + (products + products.T) / 2 - work


def displacements_in_strain(
    landscape: Landscape,
    q: Float[Array, "N D"],
    hessian: HessianSolver | None = None,
    found: Float[Any, "V N D"] | None = None,
    rtol: float = RTOL,
) -> Float[Any, "V N D"]:
    """Displacements of the atoms, beyond what a strain does, that leave no force on them.

    u_a = -H^+ d2E/dq ds_a: what Wallace calls internal strain (T. H. K. Barron, R. W. Munn, Acta
    Cryst. A 24, 499 (1968)), by the implicit function theorem.

    Arguments:
        landscape: the landscape, of a cell that does not relax; rattlers without their edges.
        q: the positions at the minimum, shape (N, D), length.
        hessian: linear solves with the Hessian there; None where it does not fit into the memory,
            or where positions are traced, and JAX solves.
        found: those at a point nearby, whose Hessian then is the one given: they are refined.
        rtol: relative residual of the solves with a Hessian that is given.

    Returns:
        Shape (V, N, D), length, for each Voigt component; in NumPy where nothing is traced.

    Raises:
        LinearSolveError: a solve did not converge.
    """
    strains = unit_strains(q.shape[1])
    condition = Condition(landscape, condition_in_strain)
    given = condition, q, (on_device(np.zeros_like(strains[0])),), (strains,)
    traced = is_traced((landscape, q))
    if not traced and found is None and hessian is not None and hessian.in_strain is not None:
        solver = response_solver(*given[:3], hessian, None, rtol)
        return np.asarray(solver.solve(forces_in_strains(hessian.in_strain)).value)
    if traced:
        options = SolveOptions(
            SolverAt(lambda q, _: hessian_solver_at(q, landscape)),
            symmetric=True,
            null_space=landscape.null_basis(q),
            least_squares=True,
        )
        return root_jvp(*given, options)
    null_vectors = None if hessian is not None else landscape.null_vectors(q)
    solver = response_solver(*given[:3], hessian, null_vectors, rtol)
    if found is not None:
        return refined_jvp(*given, found, solver.roughly())[0]
    return root_jvp(*given, solver)
