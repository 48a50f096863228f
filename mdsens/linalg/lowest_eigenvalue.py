"""The lowest eigenvalue of a sparse matrix on the host, with the preconditioner of its solves."""

from collections.abc import Callable

import numpy as np

from mdsens.linalg.conjugate_gradients import Iterations, Operator
from mdsens.linalg.multigrid import HostPreconditioner

#: How exactly the matrix is inverted for a start, and iterations that this may take.
START_RTOL, START_STEPS = 1e-2, 300


def lowest_eigenvalue(
    matrix: Operator,
    size: int,
    solve: Callable[[np.ndarray, float, int], Iterations],
    preconditioner: HostPreconditioner,
    project: Callable[[np.ndarray], np.ndarray],
    steps: int,
    tolerance: float,
) -> float:
    """The lowest eigenvalue of a symmetric matrix outside its null space, to a few percent.

    By LOBPCG (A. V. Knyazev, SIAM J. Sci. Comput. 23, 517 (2001)), which the preconditioner lets
    end after few steps.

    Arguments:
        matrix: shape (n, n), symmetric.
        size: n.
        solve: conjugate gradients for a right-hand side, to a relative residual, in so many steps.
        preconditioner: r -> approximately A^-1 r.
        project: onto the complement of the null space, which is not all there is.
        steps: improvements to make at most.
        tolerance: residual, relative to the eigenvalue, at which to stop.

    Returns:
        The eigenvalue.
    """
    # A^-1 times a random vector is mostly made of the softest modes; on the way to it no
    # direction of negative curvature stays hidden.
    right = project(np.random.default_rng(0).normal(size=size))
    result = solve(right, START_RTOL, START_STEPS)
    if result.negative_curvature:
        vector = project(result.direction)
        image = matrix @ vector
    else:
        # Of which the iterations know the product already.
        vector, image = project(result.value), result.image
    length = np.linalg.norm(vector)
    vector, image = vector / length, image / length
    basis, images = vector[None], image[None]
    value = float(vector @ image)
    for _ in range(steps):
        residual = project(image - value * vector)
        if np.linalg.norm(residual) <= tolerance * abs(value):
            break
        better = project(preconditioner(residual))
        # Orthogonal to the others, so that the small problem stays well conditioned.
        for _ in range(2):
            better -= basis.T @ (basis @ better)
        length = np.linalg.norm(better)
        if not length > 0:
            break
        better /= length
        basis = np.concatenate([basis, better[None]])
        images = np.concatenate([images, (matrix @ better)[None]])
        small = basis @ images.T
        values, eigenvectors = np.linalg.eigh((small + small.T) / 2)
        value, eigenvector = float(values[0]), eigenvectors[:, 0]
        new, new_image = eigenvector @ basis, eigenvector @ images
        # The direction of the move is the best memory of the steps before.
        eigenvector[0] = 0.0
        along, along_image = eigenvector @ basis, eigenvector @ images
        along, along_image = (
            along - (along @ new) * new, along_image - (along @ new) * new_image
        )  # fmt: skip
        vector, image = new, new_image
        basis, images = vector[None], image[None]
        if (length := np.linalg.norm(along)) > 1e-8:
            basis = np.stack([vector, along / length])
            images = np.stack([image, along_image / length])
    return value
