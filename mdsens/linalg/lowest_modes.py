"""The lowest eigenvalues of a large symmetric operator, with all members of degenerate sets."""

from collections.abc import Callable

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float

from mdsens.errors import LinearSolveError

#: Vectors beyond those asked for, which let the last of these converge.
GUARDS = 4
#: Residual of an eigenvector to reach, and the largest that is no error, as parts of the scale of
#: the operator's wanted eigenvalues.
RESIDUAL, TOLERANCE = 1e-8, 1e-6
#: Steps of the block method.
STEPS = 400

Product = Callable[[np.ndarray], np.ndarray]


def lowest_modes(
    operator: Product,
    inverse: Product,
    exact: bool,
    null_space: Float[np.ndarray, "m n"],
    allowed: Float[np.ndarray, " n"],
    count: int,
    same: float,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k n"]]:
    """The lowest eigenvalues outside the null space, and as many more as belong to the last one.

    Where solves are exact, by the Lanczos method on the inverse (ARPACK: R. B. Lehoucq, D. C.
    Sorensen, C. Yang, 1998); else by LOBPCG (A. V. Knyazev, SIAM J. Sci. Comput. 23, 517 (2001)).
    What was found is then projected out and the next ones are looked for, until these lie above:
    Lanczos vectors miss copies of equal eigenvalues.

    Arguments:
        operator: v -> A v, of one vector or columns, with A symmetric.
        inverse: v -> (A - s)^-1 v with s below all eigenvalues of A, or approximately so, positive
            definite.
        exact: whether it is one to rounding, with s = 0.
        null_space: shape (m, n), orthonormal vectors that are left out.
        allowed: shape (n,), 1 where a vector may have entries, 0 elsewhere.
        count: how many are wanted.
        same: relative difference up to which neighbouring eigenvalues are one set.

    Returns:
        Eigenvalues, shape (k,), ascending; orthonormal eigenvectors, shape (k, n); at least `count`
        of them where there are so many.

    Raises:
        LinearSolveError: the residuals do not come down.
    """
    size = int(allowed.sum()) - len(null_space)
    values, vectors = np.zeros(0), np.zeros((0, null_space.shape[1]))
    # Of these the first search finds all but what is degenerate.
    wanted = min(count + GUARDS, size)
    while len(values) < size:
        known = np.concatenate([null_space, vectors])

        def project(v: np.ndarray, known: np.ndarray = known) -> np.ndarray:
            v = v * (allowed if v.ndim == 1 else allowed[:, None])
            for _ in range(2):
                v = v - known.T @ (known @ v)
            return v

        more, directions = _search(
            operator, inverse, exact, project, min(wanted, size - len(values)),
            null_space.shape[1], size - len(values),
        )  # fmt: skip
        before = values
        values = np.concatenate([values, more])
        order = np.argsort(values)
        values, vectors = values[order], np.concatenate([vectors, directions])[order]
        if len(values) >= count and len(before) and _complete(before, more, count, same):
            break
        wanted = 2
    return _kept(operator, values, vectors, count, same)


def _complete(before: np.ndarray, more: np.ndarray, count: int, same: float) -> bool:
    """Whether the set that the last one wanted belongs to was complete."""
    if len(before) < count:
        return False
    last = before[count - 1]
    return bool(more.min() - last > same * max(abs(last), abs(more.min())))


def _kept(
    operator: Product, values: np.ndarray, vectors: np.ndarray, count: int, same: float
) -> tuple[np.ndarray, np.ndarray]:
    """Those wanted, and all that belong to the set of the last one; an error if they are none."""
    kept = min(count, len(values))
    while kept < len(values) and (
        values[kept] - values[kept - 1] <= same * max(abs(values[kept]), abs(values[kept - 1]))
    ):
        kept += 1
    values, vectors = values[:kept], vectors[:kept]
    residuals = np.linalg.norm(operator(vectors.T) - vectors.T * values, axis=0)
    scale = np.abs(values).max(initial=0.0)
    if not (residuals <= TOLERANCE * scale).all():
        bad = int((~(residuals <= TOLERANCE * scale)).sum())
        raise LinearSolveError(
            f"of the {kept} lowest vibrations {bad} did not converge: their largest residual is "
            f"{residuals.max() / scale:.1e} of the last square, asked {TOLERANCE:.0e}; ask for "
            "fewer or for more of them, or relax further"
        )
    return values, vectors


def _search(
    operator: Product, inverse: Product, exact: bool, project: Product, count: int, rows: int,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The lowest eigenvalues outside of what is projected out, and their vectors as rows."""
    random = np.random.default_rng(0)

    def product(v: np.ndarray) -> np.ndarray:
        return project(operator(project(v)))

    def solve(v: np.ndarray) -> np.ndarray:
        return project(inverse(project(v)))

    def linear(function: Product) -> scipy.sparse.linalg.LinearOperator:
        return scipy.sparse.linalg.LinearOperator(
            (rows, rows), matvec=lambda v: function(v.reshape(-1)), matmat=function, dtype=float
        )

    basis = project(random.normal(size=(rows, count)))
    if exact and count < size // 2:
        steps = min(size, max(2 * count + 1, 20))
        try:
            _, found = scipy.sparse.linalg.eigsh(
                linear(product), count, sigma=0.0, OPinv=linear(solve), which="LM", v0=basis[:, 0],
                ncv=steps, tol=RESIDUAL,
            )  # fmt: skip
        except scipy.sparse.linalg.ArpackNoConvergence as error:
            raise LinearSolveError(f"the lowest vibrations did not converge: {error}") from None
        return _rayleigh_ritz(product, project(found))
    block = _rayleigh_ritz(product, basis)[1].T
    return _block(product, solve, project, block)


def _block(
    product: Product, solve: Product, project: Product, block: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """LOBPCG in an orthonormal basis of all three kinds of vectors, which keeps its digits."""
    count = block.shape[1]
    moves = np.zeros((len(block), 0))
    values, rows = _rayleigh_ritz(product, block)
    vectors, guards = rows.T, min(GUARDS, count // 2)
    for _ in range(STEPS):
        residuals = product(vectors) - vectors * values
        lengths = np.linalg.norm(residuals, axis=0)
        # The last ones serve those before.
        scale = np.abs(values[: max(1, count - guards)]).max()
        if (lengths[: count - guards] <= RESIDUAL * scale).all():
            break
        going = lengths > RESIDUAL * scale
        better = _orthonormal(solve(residuals[:, going]), vectors)
        moves = _orthonormal(moves, np.concatenate([vectors, better], axis=1))
        space = np.concatenate([vectors, better, moves], axis=1)
        small = space.T @ product(space)
        _, parts = np.linalg.eigh((small + small.T) / 2)
        parts = parts[:, :count]
        moves = space[:, count:] @ parts[count:]
        vectors = project(space @ parts)
        values, rows = _rayleigh_ritz(product, vectors)
        vectors = rows.T
    return values[: count - guards], vectors.T[: count - guards]


def _orthonormal(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what columns add to others that are orthonormal."""
    if vectors.shape[1] == 0:
        return vectors
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-300)
    for _ in range(2):
        vectors = vectors - others @ (others.T @ vectors)
        left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
        vectors = left[:, sizes > 1e-10]
    return vectors


def _rayleigh_ritz(product: Product, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues in a span of columns, and their vectors as rows."""
    basis = np.linalg.qr(vectors)[0]
    small = basis.T @ product(basis)
    values, parts = np.linalg.eigh((small + small.T) / 2)
    return values, (basis @ parts).T
