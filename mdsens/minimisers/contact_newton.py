"""Steps of Newton's method for discs that push one another, by conjugate gradients."""

import math
from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled, host_compiled_sums

#: Residual at which a step is good enough, over the gradient.
RESIDUAL = 1e-2
#: Iterations at most.
MOST_ITERATIONS = 2000
#: Determinant of a disc's own block over the square of its trace, and trace over the largest one,
#: below which the block is not inverted: a disc that is hardly held.
SINGULAR, LOOSE = 1e-3, 1e-6


@host_compiled
def newton_direction(
    x: Any, gradient: Any, pairs: Any, alpha: float, residual: float, direction: Any
) -> int:
    """Minus the inverse Hessian times the gradient, as far as conjugate gradients go.

    In single precision, preconditioned by each disc's own block; where curvature is not positive
    they end with what they have (S. G. Nash, J. Comput. Appl. Math. 124, 45 (2000), section 4).

    Arguments:
        x: positions, shape (N, 2), length.
        gradient: there, shape (N, 2), energy/length.
        pairs: what `find_pairs` has found.
        alpha: exponent of the overlap.
        residual: at which to stop, over the norm of the gradient.
        direction: shape (N, 2), length, written over.

    Returns:
        Iterations that found positive curvature; where there are none, no direction.
    """
    count = x.shape[0]
    blocks, ends, own = _hessian(x, pairs, alpha)
    inverses = _inverses(own)
    left, along = np.empty((count, 2), np.float32), np.empty((count, 2), np.float32)
    product, total = np.empty((count, 2), np.float32), np.zeros((count, 2), np.float32)
    norm = math.sqrt(_square(gradient))
    # Of length one: single precision has no room for the squares of small forces.
    rest = _start(gradient, -1.0 / norm, inverses, left, along)
    iterations = 0
    while iterations < MOST_ITERATIONS:
        curvature = _times(blocks, ends, along, product)
        if not curvature > 0.0:
            break
        iterations += 1
        now, square = _advance(rest / curvature, along, product, inverses, total, left)
        if square <= residual * residual:
            break
        _turn(now / rest, left, inverses, along)
        rest = now
    for i in range(count):
        direction[i, 0], direction[i, 1] = norm * total[i, 0], norm * total[i, 1]
    return iterations


@host_compiled
def _hessian(x: Any, pairs: Any, alpha: float) -> Any:
    """Second derivatives of pairs that touch, their ends, and the sum of those of each disc.

    Of each symmetric block of two by two: xx, xy, yy.
    """
    ends, laws, shifts = pairs
    near, count = ends.shape[1] - shifts.shape[1], 0
    own = np.zeros((x.shape[0], 3))
    blocks, touching = (
        np.empty((ends.shape[1], 3), np.float32),
        np.empty((ends.shape[1], 2), np.uint32),
    )
    for p in range(ends.shape[1]):
        i, j = ends[0, p], ends[1, p]
        dx, dy = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1]
        if p >= near:
            dx += shifts[0, p - near]
            dy += shifts[1, p - near]
        r, inverse = math.sqrt(dx * dx + dy * dy), laws[0, p]
        overlap = 1.0 - r * inverse
        if overlap <= 0.0:
            continue
        scale = laws[1, p] * inverse * overlap ** (alpha - 2.0)
        across = -scale * overlap / r
        along = ((alpha - 1.0) * scale * inverse - across) / (r * r)
        xx, xy, yy = along * dx * dx + across, along * dx * dy, along * dy * dy + across
        blocks[count, 0], blocks[count, 1], blocks[count, 2] = xx, xy, yy
        touching[count, 0], touching[count, 1] = i, j
        count += 1
        for end in (i, j):
            own[end, 0] += xx
            own[end, 1] += xy
            own[end, 2] += yy
    return blocks[:count], touching[:count], own


@host_compiled
def _inverses(own: Any) -> Any:
    """The inverses of symmetric blocks; of what is not surely positive, one over its trace."""
    found, largest = np.empty(own.shape, np.float32), 0.0
    for i in range(own.shape[0]):
        largest = max(largest, own[i, 0] + own[i, 2])
    for i in range(own.shape[0]):
        xx, xy, yy = own[i, 0], own[i, 1], own[i, 2]
        trace, determinant = xx + yy, xx * yy - xy * xy
        if trace > LOOSE * largest and determinant > SINGULAR * trace * trace:
            found[i, 0], found[i, 2] = yy / determinant, xx / determinant
            found[i, 1] = -xy / determinant
        else:
            found[i, 0] = found[i, 2] = 1.0 / max(trace, LOOSE * largest)
            found[i, 1] = 0.0
    return found


@host_compiled_sums
def _square(rows: Any) -> float:
    total = 0.0
    for i in range(rows.shape[0]):
        total += rows[i, 0] * rows[i, 0] + rows[i, 1] * rows[i, 1]
    return total


@host_compiled_sums
def _times(blocks: Any, ends: Any, along: Any, product: Any) -> float:
    """The Hessian times a vector, and the curvature along it."""
    for i in range(product.shape[0]):
        product[i, 0], product[i, 1] = 0.0, 0.0
    curvature = 0.0
    # Pairs of one disc follow one another.
    i = ends[0, 0]
    x, y, px, py = along[i, 0], along[i, 1], product[i, 0], product[i, 1]
    for p in range(ends.shape[0]):
        if ends[p, 0] != i:
            product[i, 0], product[i, 1] = px, py
            i = ends[p, 0]
            x, y, px, py = along[i, 0], along[i, 1], product[i, 0], product[i, 1]
        j = ends[p, 1]
        dx, dy = along[j, 0] - x, along[j, 1] - y
        fx = blocks[p, 0] * dx + blocks[p, 1] * dy
        fy = blocks[p, 1] * dx + blocks[p, 2] * dy
        px -= fx
        py -= fy
        product[j, 0] += fx
        product[j, 1] += fy
        curvature += fx * dx + fy * dy
    product[i, 0], product[i, 1] = px, py
    return curvature


@host_compiled_sums
def _start(gradient: Any, scale: float, inverses: Any, left: Any, along: Any) -> float:
    """The first residual and direction; their product."""
    total = 0.0
    for i in range(left.shape[0]):
        left[i, 0], left[i, 1] = scale * gradient[i, 0], scale * gradient[i, 1]
        along[i, 0] = inverses[i, 0] * left[i, 0] + inverses[i, 1] * left[i, 1]
        along[i, 1] = inverses[i, 1] * left[i, 0] + inverses[i, 2] * left[i, 1]
        total += left[i, 0] * along[i, 0] + left[i, 1] * along[i, 1]
    return total


@host_compiled_sums
def _advance(
    factor: float, along: Any, product: Any, inverses: Any, total: Any, left: Any
) -> tuple[Any, Any]:
    """Go along; what is left in the norm of the preconditioner, and in its own, squared."""
    step, weighted, square = np.float32(factor), np.float32(0.0), np.float32(0.0)
    for i in range(along.shape[0]):
        total[i, 0] += step * along[i, 0]
        total[i, 1] += step * along[i, 1]
        x, y = left[i, 0] - step * product[i, 0], left[i, 1] - step * product[i, 1]
        left[i, 0], left[i, 1] = x, y
        cross = inverses[i, 1] * x * y
        weighted += inverses[i, 0] * x * x + cross + cross + inverses[i, 2] * y * y
        square += x * x + y * y
    return weighted, square


@host_compiled_sums
def _turn(factor: float, left: Any, inverses: Any, along: Any) -> None:
    """The next direction."""
    share = np.float32(factor)
    for i in range(along.shape[0]):
        x, y = left[i, 0], left[i, 1]
        along[i, 0] = inverses[i, 0] * x + inverses[i, 1] * y + share * along[i, 0]
        along[i, 1] = inverses[i, 1] * x + inverses[i, 2] * y + share * along[i, 1]
