"""Linear solves with the Hessian of a landscape: the sparse matrix, and a relaxing cell's rows."""

import copy
import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float

from mdsens.errors import warn
from mdsens.linalg.border import Border
from mdsens.linalg.half_stored import HalfStored
from mdsens.linalg.lattice_preconditioner import LatticeSites, rows_of
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.linalg.null_space import DEPENDENT, orthonormal_rows
from mdsens.linalg.quadratic_model import MULTIGRID_STEPS, DescentDirection
from mdsens.linalg.sparse_plus_low_rank import SparsePlusLowRank, SymmetricMatrix, blocks_of
from mdsens.linalg.sparse_solver import SparseSolution, SparseSolver
from mdsens.mechanics.condition import hessian_products
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.half_stored_hessian import (
    NearPairs,
    half_stored_hessian,
    suits_half_storage,
)
from mdsens.mechanics.hessian_surroundings import (
    Surroundings,
    cell_columns,
    cell_columns_of_strains,
    surroundings_of,
)
from mdsens.mechanics.reference_lattice import SAMPLED, lattice_sites_of_sample
from mdsens.mechanics.shared_energy import mechanics_at
from mdsens.mechanics.sparse_hessian import (
    hessian_and_gradient,
    hessian_in_parts,
    sparse_hessian_bytes,
)
from mdsens.mechanics.strain_of_hessian import (
    StrainDerivatives,
    has_one_image_each,
    strain_derivatives,
)
from mdsens.resources import DENSE_LIMIT, available_memory

#: Part of the free memory that a Hessian may take, with what is computed from it.
MEMORY_FRACTION = 0.5
#: Blocks of the Hessian that are referred to other coordinates at a time.
TURNED = 512
#: Components of the upper triangle of the unit matrix.
UNIT = (1.0, 0.0, 0.0, 1.0, 0.0, 1.0)
#: Relative residual above which a solution is an error, unless less was asked for.
TOLERANCE = 1e-6


def hessian_fits(landscape: Landscape) -> bool:
    """Whether the sparse Hessian fits into the free memory; if not, a warning says so.

    Nor is there one where all atoms are coupled, for then it is not sparse.
    """
    if landscape.couples_all and not landscape.potential.made_by_calls:
        return landscape.coordinates.size <= DENSE_LIMIT
    free = available_memory()
    # Edges are counted only where it matters.
    for counted in (False, True):
        needed = sparse_hessian_bytes(
            landscape.system, landscape.potential, landscape.edge_list, counted
        )
        if needed <= MEMORY_FRACTION * free:
            return True
    gib = 1024.0**3
    warn(
        f"the sparse Hessian would take up to {needed / gib:.3g} GiB of {free / gib:.3g} GiB free: "
        "it is not built, and what needs no matrix is done in its place, which is slower"
    )
    return False


class HessianSolver:
    """The derivative H of a landscape's condition as a matrix on the host, and solves of H x = b.

    The Hessian of the positions is a sparse matrix. The rows and columns of a relaxing cell are
    dense and few, one for each strain that is allowed: its border.

    Arguments:
        landscape: the function; rattlers without their edges.
        q: degrees of freedom, shape (R, D).
        method: ``"auto"``, ``"direct"``, ``"multigrid"`` or ``"block-jacobi"``.
        preconditioner: one that serves already, of a Hessian nearby.

    Attributes:
        matrix: the part of the positions, shape (N D, N D), energy/length^2; sparse, perhaps with
            a part of low rank; the identity for constrained atoms.
        cell_columns: the columns of the cell, shape (R D, D^2); None where it is fixed.
        null_space: orthonormal null vectors, shape (M, R D).
        motionless: shape (R,), rows of atoms that are constrained, or that nothing holds or pushes.

    Raises:
        LinearSolveError: the Hessian is not finite.
    """

    #: Whether its blocks tell what any strain does.
    _tells_strains = False
    #: Pairs in range, each once, where the Hessian is made of these.
    pairs: NearPairs | None = None
    #: The gradient there, shape (N, 3), energy/length, where it is found on the way.
    gradient: np.ndarray | None = None

    def __init__(
        self,
        landscape: Landscape,
        q: Float[Array, "R D"],
        method: str = "auto",
        preconditioner: HostPreconditioner | None = None,
    ) -> None:
        if landscape.motion is not None and landscape.motion.coupled:
            self._set_up(*_coupled(landscape, q), method, preconditioner)
            return
        surroundings = jax.tree.map(np.asarray, surroundings_of(landscape, q))
        system, edge_list = landscape.system_at(q), landscape.edge_list
        given = system, landscape.potential, edge_list
        free = not surroundings.constrained.any() and surroundings.follows is None
        matrix: SymmetricMatrix
        if free and suits_half_storage(*given):
            self.pairs = NearPairs(*given)
            matrix, self.gradient = half_stored_hessian(landscape.potential, self.pairs)
        elif free:
            matrix, self.gradient = hessian_and_gradient(*given)
        else:
            matrix = hessian_in_parts(*given, surroundings.constrained)
        self._tells_strains = (
            not surroundings.constrained.any()
            and landscape.motion is None
            and has_one_image_each(system, landscape.potential, float(edge_list.reach))
        )
        self._mechanics = functools.partial(mechanics_at, system, landscape.potential, edge_list)
        if landscape.cell_mode is not None and self._tells_strains:
            lattice = np.asarray(system.positions), np.asarray(system.cell), system.pbc
            _, forces, virial = map(np.asarray, self._mechanics())
            found = strain_derivatives(matrix, *lattice, forces, virial)
            columns = cell_columns_of_strains(landscape, q, found)
            surroundings = surroundings._replace(cell_columns=columns)
        elif landscape.cell_mode is not None:
            columns = np.asarray(cell_columns(landscape, q))
            surroundings = surroundings._replace(cell_columns=columns)
        self._set_up(matrix, surroundings, method, preconditioner)

    @classmethod
    def of_arrays(
        cls, matrix: SymmetricMatrix, surroundings: Surroundings, method: str = "auto"
    ) -> "HessianSolver":
        """The same of a matrix that is there, by NumPy and SciPy alone.

        Arguments:
            matrix: the Hessian of the positions; it is changed.
            surroundings: what `hessian_surroundings` has found, as NumPy arrays.
            method: how to solve.

        Returns:
            The HessianSolver.
        """
        solver = cls.__new__(cls)
        solver._set_up(matrix, surroundings, method, None)
        return solver

    def _set_up(
        self,
        matrix: SymmetricMatrix,
        surroundings: Surroundings,
        method: str,
        preconditioner: HostPreconditioner | None,
    ) -> None:
        self.method, self.given_preconditioner = method, preconditioner
        self.matrix, self._surroundings = matrix, surroundings
        constrained = surroundings.constrained
        self.shape = surroundings.q.shape
        count, dimension = len(constrained), self.shape[1]
        self.atom_rows = count * dimension
        self.cell_columns: np.ndarray | None = surroundings.cell_columns
        if surroundings.follows is not None:
            assert not isinstance(matrix, HalfStored)
            _refer_to_coordinates(matrix, surroundings, constrained)
        self.unpushed = _without_stiffness(matrix, dimension)
        self.motionless = np.zeros(len(surroundings.q), bool)
        self.motionless[:count] = constrained | self.unpushed
        # An orthonormal basis of the strains that are allowed: nothing changes along others.
        self._strains = np.zeros((0, 0))
        if surroundings.strains is not None:
            self._strains = orthonormal_rows(surroundings.strains)
        self._set_null_space(surroundings.null_vectors)

    def _set_null_space(self, null_vectors: Float[np.ndarray, "M R D"]) -> None:
        vectors = null_vectors * ~self.motionless[:, None]
        vectors = vectors.reshape(len(vectors), -1)
        self.null_space = orthonormal_rows(vectors)

    def with_floppy(self, floppy: Float[np.ndarray, "M R D"]) -> "HessianSolver":
        """The same matrix with more null vectors, which no symmetry explains."""
        if len(floppy) == 0:
            return self
        other = copy.copy(self)
        other.__dict__.pop("sparse", None)
        other._set_null_space(np.concatenate([self._surroundings.null_vectors, floppy]))
        return other

    @functools.cached_property
    def in_strain(self) -> StrainDerivatives | None:
        """What a strain does to forces and energy; None where the blocks do not tell.

        Of a cell that does not relax, to whose positions the blocks refer.
        """
        if not self._tells_strains or self.cell_columns is not None:
            return None
        given = self._surroundings
        positions, pbc = given.q[: len(given.constrained)], tuple(given.periodic.tolist())
        _, forces, virial = map(np.asarray, self._mechanics())
        return strain_derivatives(self.matrix, positions, given.cell, pbc, forces, virial)

    @functools.cached_property
    def sparse(self) -> SparseSolver:
        """Linear solves with the sparse part and the allowed strains beside it."""
        return SparseSolver(
            self.matrix,
            self._null_space_in_strains,
            _rigid_motions(self._surroundings, self.motionless),
            self.method,
            self.shape[1],
            self.given_preconditioner,
            # Not a method: what holds one another is let go of late, and a Hessian is large.
            functools.partial(_sites, self._surroundings, self.matrix, self.motionless),
            self._border,
        )

    @property
    def _null_space_in_strains(self) -> Float[np.ndarray, "M m"]:
        """Null vectors as those of positions and allowed strains; of all others nothing is left."""
        if self.cell_columns is None or len(self.null_space) == 0:
            return self.null_space
        vectors = self._in_strains(self.null_space.T).T
        # Rows of length 1 before: by their small Gram matrix, as `orthonormal_rows` finds a span.
        squares, mixed = np.linalg.eigh(vectors @ vectors.T)
        return mixed[:, squares > DEPENDENT**2].T @ vectors

    @property
    def _border(self) -> Border | None:
        if self.cell_columns is None or len(self._strains) == 0:
            return None
        columns = self._in_strains(self.cell_columns @ self._strains.T)
        border, corner = columns[: self.atom_rows], columns[self.atom_rows :]
        return Border(np.ascontiguousarray(border), (corner + corner.T) / 2)

    def _in_strains(self, columns: Float[np.ndarray, "RD ..."]) -> Float[np.ndarray, "m ..."]:
        """Columns of all degrees of freedom as those of positions and allowed strains."""
        if self.cell_columns is None:
            return columns
        above, below = columns[: self.atom_rows], columns[self.atom_rows :]
        return np.concatenate([above, self._strains @ below])

    def _of_strains(self, columns: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "RD ..."]:
        """The inverse of `_in_strains`; of strains that are not allowed there is nothing."""
        if self.cell_columns is None:
            return columns
        above, below = columns[: self.atom_rows], columns[self.atom_rows :]
        return np.concatenate([above, self._strains.T @ below])

    def dense(self) -> Float[np.ndarray, "RD RD"]:
        """The whole matrix, shape (R D, R D), in units of energy/length^2; symmetric."""
        size = int(np.prod(self.shape))
        whole = np.zeros((size, size))
        whole[: self.atom_rows, : self.atom_rows] = self.matrix.toarray()
        rows = np.flatnonzero(np.repeat(self.unpushed, self.shape[1]))
        whole[rows, rows] = 0.0
        if self.cell_columns is not None:
            whole[:, self.atom_rows :] = self.cell_columns
            whole[self.atom_rows :] = self.cell_columns.T
        return (whole + whole.T) / 2

    @property
    def noise(self) -> float:
        """Relative error of products with the matrix, beyond rounding; here there is none."""
        return 0.0

    @property
    def checks_itself(self) -> bool:
        """Whether residuals are those of the forces' derivative, and not of a matrix beside it."""
        # Pairs have their second derivatives from no other formula.
        return self.pairs is not None

    def __str__(self) -> str:
        return str(self.sparse)

    @property
    def preconditioner(self) -> HostPreconditioner | None:
        """That of the sparse part, for Hessians nearby; None where it is a factorisation."""
        return None if self.sparse.method == "direct" else self.sparse.preconditioner

    def solve(
        self,
        rights: Float[np.ndarray, "P R D"],
        rtol: float = 1e-10,
        callback: Callable[[int], None] | None = None,
    ) -> tuple[Float[np.ndarray, "P R D"], SparseSolution]:
        """Solve for P right-hand sides; their parts in the null space are left out.

        Arguments:
            rights: shape (P, R, D), energy/length.
            rtol: relative residual to reach.
            callback: called with the number of right-hand sides done after each.

        Returns:
            Shape (P, R, D), length; and how the sparse part was solved.

        Raises:
            LinearSolveError: a right-hand side is not finite, or no method converges.
        """
        flat = self._allowed(np.asarray(rights, float)).reshape(len(rights), -1)
        flat = (flat - (flat @ self.null_space.T) @ self.null_space).T
        right = np.ascontiguousarray(self._in_strains(flat))
        right[: self.atom_rows][np.repeat(self.unpushed, self.shape[1])] = 0.0
        solution = self.sparse.solve(right, rtol, max(TOLERANCE, 2.0 * rtol), callback)
        value = self._of_strains(solution.value)
        value = value.T - (value.T @ self.null_space.T) @ self.null_space
        return self._allowed(value.reshape(rights.shape)), solution

    def project(self, vector: Float[np.ndarray, "R D"]) -> Float[np.ndarray, "R D"]:
        """The part of a vector outside the null space, with nothing on what does not move."""
        vector = self._allowed(np.where(self.motionless[:, None], 0.0, vector)).reshape(-1)
        return (vector - self.null_space.T @ (self.null_space @ vector)).reshape(self.shape)

    def _allowed(self, vectors: Float[np.ndarray, "*P R D"]) -> Float[np.ndarray, "*P R D"]:
        """The part of vectors that constraints allow: rounding of what they hold is none."""
        motions = self._surroundings.motions
        if motions is None:
            return vectors
        count = self.atom_rows // self.shape[1]
        of_atoms = vectors[..., :count, :]
        if motions.ndim == 3:
            within = np.einsum("iab,...ib->...ia", motions, of_atoms)
        else:
            within = (of_atoms.reshape(*vectors.shape[:-2], -1) @ motions).reshape(of_atoms.shape)
        return np.concatenate([within, vectors[..., count:, :]], axis=-2)

    def descend(
        self,
        gradient: Float[np.ndarray, "R D"],
        rtol: float,
        max_steps: int = MULTIGRID_STEPS,
        reach: float = 0.0,
    ) -> DescentDirection:
        """An inexact Newton step -H^-1 g; where the Hessian curves down, a step down all the same.

        Arguments:
            gradient: shape (R, D), energy/length.
            rtol: relative residual at which to stop.
            max_steps: iterations to take at most; one is the preconditioner alone, scaled.
            reach: how far an atom may move along a direction of negative curvature, length; 0: such
                directions are not wanted.

        Returns:
            The step, shape (R, D), length; the iterations taken, and whether the Hessian was seen
            to curve down.
        """
        flat = self._in_strains(np.asarray(gradient, float).reshape(-1))
        found = self.sparse.descend(flat, rtol, max_steps, reach)
        direction = self._of_strains(found.value)
        return dataclasses.replace(found, value=direction.reshape(self.shape))

    @property
    def lowest_eigenvalue(self) -> float:
        """The lowest eigenvalue outside the null space, energy/length^2."""
        return self.sparse.lowest_eigenvalue()


def _refer_to_coordinates(
    matrix: SymmetricMatrix, surroundings: Surroundings, constrained: np.ndarray
) -> None:
    """Refer the blocks to q: where positions follow it as dx = dq T, K_ij becomes T_i K_ij T_j^T.

    Where a coordinate leads nowhere the diagonal is as stiff as the stiffest of all.
    """
    blocks, follows = blocks_of(matrix), surroundings.follows
    row = np.repeat(np.arange(len(constrained)), np.diff(blocks.indptr))
    moves = ~constrained[row]
    if follows.ndim == 2:
        if isinstance(matrix, SparsePlusLowRank):
            matrix.gradients.data[:] = matrix.gradients.data @ follows.T
        # As rows of one product, and some at a time: fresh memory for all takes longer than that.
        turn, rows = np.kron(follows, follows).T, blocks.data.reshape(len(row), follows.size)
        for start in range(0, len(rows), TURNED):
            some = slice(start, start + TURNED)
            turned = rows[some] @ turn
            rows[some] = (
                turned if moves[some].all() else np.where(moves[some, None], turned, rows[some])
            )
        return
    if isinstance(matrix, SparsePlusLowRank):
        ends = matrix.gradients.indices
        matrix.gradients.data[:] = np.einsum("bda,bca->bdc", matrix.gradients.data, follows[ends])
    ahead, behind = follows[row], follows[blocks.indices]
    stiffest = np.abs(blocks.data[moves]).max(initial=0.0)
    turned = ahead @ blocks.data @ behind.transpose(0, 2, 1)
    blocks.data[moves] = turned[moves]
    own = np.flatnonzero((row == blocks.indices) & moves)
    held = np.eye(follows.shape[1]) - surroundings.motions[row[own]]
    blocks.data[own] += (stiffest or 1.0) * held


def _coupled(landscape: Landscape, q: Float[Array, "R D"]) -> tuple[SymmetricMatrix, Surroundings]:
    """The Hessian in q where constraints couple atoms, from products: no block is zero."""
    units = np.eye(q.size).reshape(q.size, *q.shape)
    whole = np.asarray(hessian_products(landscape, q, units)).reshape(q.size, q.size)
    whole = (whole + whole.T) / 2
    count, dimension = landscape.system.positions.shape
    size = count * dimension
    surroundings = jax.tree.map(np.asarray, surroundings_of(landscape, q))
    columns = None if landscape.cell_mode is None else whole[:, size:]
    surroundings = surroundings._replace(cell_columns=columns, follows=None)
    assert landscape.motion is not None
    within = landscape.motion.allowed(np.eye(size).reshape(size, count, dimension))
    within = np.asarray(within).reshape(size, size)
    surroundings = surroundings._replace(motions=(within + within.T) / 2)
    held = np.eye(size) - surroundings.motions
    matrix = whole[:size, :size]
    # What leads nowhere has a stiffness of one there.
    matrix = matrix + (np.abs(matrix).max(initial=1.0) - 1.0) * held
    return scipy.sparse.bsr_array(matrix, blocksize=(dimension, dimension)), surroundings


def _without_stiffness(whole: SymmetricMatrix, dimension: int) -> Bool[np.ndarray, " N"]:
    """Atoms that nothing holds or pushes: their blocks become the identity, and they stay."""
    if isinstance(whole, HalfStored):
        unconnected = np.asarray(~whole.own.any(axis=1))
        whole.own[unconnected] = UNIT
        return unconnected
    matrix = blocks_of(whole)
    count = matrix.shape[0] // dimension
    row = np.repeat(np.arange(count), np.diff(matrix.indptr))
    own = row == matrix.indices
    unconnected = np.zeros(count, bool)
    empty = ~matrix.data[own].any(axis=(1, 2))
    if empty.any():
        unconnected[row[own]] = empty
        matrix.data[np.flatnonzero(own)[empty]] = np.eye(dimension)
    return unconnected


def _rigid_motions(
    surroundings: Surroundings, motionless: Bool[np.ndarray, " R"]
) -> Float[np.ndarray, "ND k"]:
    """Translations, and rotations where the boundaries allow them, of the atoms that move."""
    count, dimension = len(surroundings.constrained), surroundings.q.shape[1]
    positions = surroundings.q[:count]
    centred = positions - positions.mean(axis=0)
    motions = []
    for axis in range(dimension):
        motion = np.zeros((count, dimension))
        motion[:, axis] = 1.0
        motions.append(motion)
    motions += [centred @ generator for generator in surroundings.rotations]
    stacked = np.where(motionless[None, :count, None], 0.0, np.stack(motions))
    return stacked.reshape(len(motions), -1).T


def _sites(
    given: Surroundings, matrix: SymmetricMatrix, motionless: Bool[np.ndarray, " R"]
) -> LatticeSites | None:
    """Where atoms that move stand on a lattice, if they do."""
    count, periodic = len(given.constrained), tuple(given.periodic.tolist())
    rows = np.random.default_rng(0).permutation(count)[:SAMPLED]
    blocks = matrix if isinstance(matrix, HalfStored) else blocks_of(matrix)
    row, others, _ = rows_of(blocks, rows)
    number = np.zeros(count, int)
    number[rows] = np.arange(len(rows))
    sites = lattice_sites_of_sample(
        given.q[:count], given.cell, periodic, given.species, rows, number[row], others
    )
    if sites is None or not motionless.any():
        return sites
    return dataclasses.replace(sites, kinds=np.where(motionless[:count], -1, sites.kinds))
