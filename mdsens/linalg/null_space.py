"""What counts as zero and what as dependent: ranks and null modes on the host.

| threshold | what it decides |
|---|---|
| `NEGLIGIBLE` | a row shorter than this fraction of the longest is no direction |
| `DEPENDENT` | a vector within this sine of the angle to the span of others adds nothing to it |
| `NULL_FRACTION` | an eigenvalue below this fraction of the largest belongs to a null mode |

One fraction serves the certificate, Newton's method, Schur complements and the coarsest level of
multigrid, so that none of them moves along what another one counts as a null mode.
"""

import numpy as np
from jaxtyping import Bool, Float

#: Rotations of a chain about its own axis are as short as rounding makes them.
NEGLIGIBLE = 1e-8
#: Its square is a million times what rounding leaves of the eigenvalues of a Gram matrix.
DEPENDENT = 1e-6
#: Null modes have some 1e-15 by rounding; the softest modes that a structure of 1e9 atoms can have
#: by its elasticity lie above.
NULL_FRACTION = 1e-9
#: Scalar products of rows that are orthonormal are off by no more than this.
ORTHONORMAL = 1e-14


def orthonormal_rows(
    vectors: Float[np.ndarray, "m n"], passes: int = 2
) -> Float[np.ndarray, "rank n"]:
    """An orthonormal basis of the span of the rows, by their small Gram matrix.

    Arguments:
        vectors: shape (m, n), finite, with m far below n.
        passes: 1 gives the span with half the digits of orthogonality, 2 all of them (Cholesky QR
            done twice: Yamamoto et al. 2015, ETNA 44, 306).

    Returns:
        Shape (rank, n).
    """
    if np.abs(vectors @ vectors.T - np.eye(len(vectors))).max(initial=0.0) <= ORTHONORMAL:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1)
    kept = lengths > NEGLIGIBLE * lengths.max(initial=0.0)
    rows = vectors[kept] / lengths[kept, None]
    for _ in range(passes):
        values, eigenvectors = np.linalg.eigh(rows @ rows.T)
        independent = values > DEPENDENT**2 * values.max(initial=0.0)
        rows = (eigenvectors[:, independent] / np.sqrt(values[independent])).T @ rows
    return rows


def is_null(
    eigenvalues: Float[np.ndarray, " n"], largest: float | None = None
) -> Bool[np.ndarray, " n"]:
    """Which eigenvalues of a symmetric matrix are those of null modes.

    Arguments:
        eigenvalues: of either sign.
        largest: the size that they are compared with; None: the largest of them.

    Returns:
        Shape (n,).
    """
    sizes = np.abs(eigenvalues)
    return sizes <= NULL_FRACTION * (sizes.max(initial=0.0) if largest is None else largest)
