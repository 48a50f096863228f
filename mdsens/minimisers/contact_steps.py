"""Steps of L-BFGS and Newton's method for discs that push one another, in one compiled loop."""

import math
from typing import Any

import numpy as np

from mdsens.host_compilation import host_compiled, host_compiled_sums
from mdsens.mechanics.contact_pairs import energy_and_gradient, find_pairs
from mdsens.minimisers.contact_newton import RESIDUAL, newton_direction
from mdsens.minimisers.line_search import DECREASE, MAX_TRIALS, ROUNDING

#: Numbers of a vector that are taken together, within a core's first cache.
CHUNK = 2048
#: Steps that a list of pairs has served, from which on a shorter one is found, and below which the
#: next one reaches twice as far; and the shortest, in largest moves of a disc in a trial.
OFTEN_USED, SELDOM_USED = 100, 20
LEAST_SKIN = 0.02
#: The fraction of the first slope that a line search accepts.
CURVATURE = 0.9
#: Fraction of the largest step that discs move by, typically, in a first step.
FIRST = 0.25
#: Largest force to try Newton's method at, over a typical push of two discs; the factor that a step
#: must lower the forces by to be worth it, and how many in a row may not; and the fraction of the
#: force at which it is tried again.
NEWTON_FRACTION, WORTH, MOST_IDLE, NEXT_TRY = 1e-3, 0.5, 1, 0.1
#: Product of a step and its change, over the square of this, that tells of no curvature.
FLAT = 2.2e-16


@host_compiled
def descend(
    points: Any, flat: Any, energy: float, pairs: Any, reference: Any, box: Any, law: Any,
    past: Any, settings: Any, course: Any,
) -> Any:  # fmt: skip
    """Take steps until forces are small, or there are enough of them.

    Arguments:
        points: positions, length, and the gradient there, energy/length; room for a direction, and
            for positions and gradient of a trial; each of shape (N, 2); written over, as is all
            that is given as an array.
        flat: the same arrays with shape (2N,), for which numba has no quick word.
        energy: at the positions.
        pairs: what `find_pairs` has found.
        reference: positions where it has, shape (N, 2).
        box: cell, its inverse, cells along each lattice vector, and species of discs.
        law: distances, epsilon, alpha.
        past: what is known of the curvature: vectors of steps and changes in turns, shape
            (2M, 2N), in single precision; products of steps (rows) with changes, and of changes,
            shape (2, M, M); products of all vectors with the gradient, shape (2M,); the number of
            those in use, and the oldest of them, shape (2,); the inverse curvature of the newest,
            the skin of the pairs, how many steps they have served, the largest force to try
            Newton's method at, and how many steps of it in a row were worth little, shape (5,).
        settings: largest force to stop at; largest move of a disc in a trial; longest skin; steps
            to take; factor and exponent of the energy that make a typical push of two discs.
        course: shape (steps, 2), written over: energy and largest force after each.

    Returns:
        Positions, gradient and energy, pairs, steps, evaluations, and whether no step leads down
        any more.
    """
    fmax, max_step, longest_skin, most, push_factor, push_exponent = settings
    vectors, products, along, places, numbers = past
    cell, inverse, shape, species = box
    distances, epsilon, alpha = law
    here, slope_here, direction, there, slope_there = points
    flat_here, flat_slope, flat_direction, flat_there, flat_slope_there = flat
    steps, evaluations, stalled = 0, 0, False
    force, moved = _largest(slope_here), _farthest(here, reference)
    while steps < most and force > fmax and not stalled:
        push = push_factor * max(energy, 0.0) ** push_exponent
        newton = force <= min(numbers[3], NEWTON_FRACTION * push)
        if newton:
            residual = max(RESIDUAL, 0.5 * fmax / force)
            newton = newton_direction(here, slope_here, pairs, alpha, residual, direction) > 0
        if not newton:
            set_direction(flat_slope, vectors, products, along, places, numbers[0], flat_direction)
        largest = _limit(direction, max_step)
        slope = _product(flat_slope, flat_direction)
        if not newton and (places[0] == 0 or slope >= 0.0):
            places[0], places[1] = 0, 0
            typical = math.sqrt(_product(flat_slope, flat_slope) / here.shape[0])
            _scale(flat_slope, -FIRST * max_step / typical, flat_direction)
            largest = _limit(direction, max_step)
            slope = _product(flat_slope, flat_direction)
        least = min(max_step, 1.5 * largest)
        # Where discs have all but come to rest a shorter list serves as long.
        at_rest = numbers[2] >= OFTEN_USED and 0.125 * numbers[1] > max(moved, least)
        if at_rest or 0.5 * numbers[1] - moved < least:
            if at_rest:
                numbers[1] *= 0.25
            elif numbers[2] < SELDOM_USED:
                numbers[1] *= 2.0
            numbers[1] = min(max(numbers[1], LEAST_SKIN * max_step), longest_skin)
            _copy(here, reference)
            pairs = find_pairs(here, cell, inverse, shape, species, distances, epsilon, numbers[1])
            numbers[2], moved = 0.0, 0.0
        # As in `mdsens.minimisers.line_search`; no further than the pairs reach.
        longest = min(max_step, 0.5 * numbers[1] - moved) / max(largest, 1e-300)
        t, low, low_slope, high = min(1.0, longest), 0.0, slope, np.inf
        rounding, accepted, energy_there = ROUNDING * abs(energy), False, energy
        for _ in range(MAX_TRIALS):
            _move(flat_here, t, flat_direction, flat_there)
            ends, laws, shifts = pairs
            energy_there = energy_and_gradient(there, ends, laws, shifts, alpha, slope_there)
            evaluations += 1
            found = _product(flat_slope_there, flat_direction)
            good = energy_there <= energy + DECREASE * t * slope or (
                energy_there <= energy + rounding and found <= (2 * DECREASE - 1) * slope
            )
            if good and (abs(found) <= CURVATURE * abs(slope) or (t >= longest and found < 0.0)):
                accepted = True
                break
            secant = np.inf
            if found > low_slope:
                secant = low + (t - low) * low_slope / (low_slope - found)
            last = t
            if not good or found > 0.0:
                high = t
            else:
                low, low_slope = t, found
            if high < np.inf:
                t = secant if secant < np.inf else 0.5 * (low + high)
                t = min(max(t, low + 0.1 * (high - low)), high - 0.1 * (high - low))
            else:
                t = min(max(secant, 1.5 * last), 5.0 * last)
            t = min(t, longest)
        if accepted or (energy_there <= energy + rounding and _largest(slope_there) < force):
            if newton:
                before, after = (
                    _product(flat_slope, flat_slope),
                    _product(flat_slope_there, flat_slope_there),
                )
                numbers[4] = 0.0 if after < WORTH**2 * before else numbers[4] + 1.0
                if numbers[4] > MOST_IDLE:
                    numbers[3], numbers[4] = NEXT_TRY * force, 0.0
            remember(flat_here, flat_there, flat_slope, flat_slope_there, past)
            here, there = there, here
            slope_here, slope_there = slope_there, slope_here
            flat_here, flat_there = flat_there, flat_here
            flat_slope, flat_slope_there = flat_slope_there, flat_slope
            energy, force = energy_there, _largest(slope_here)
            moved = _farthest(here, reference)
        elif newton:
            numbers[3], numbers[4] = NEXT_TRY * force, 0.0
        else:
            # A failed search forgets the past; failing without one is the end.
            stalled = places[0] == 0
            places[0], places[1] = 0, 0
        course[steps, 0], course[steps, 1] = energy, force
        steps += 1
        numbers[2] += 1.0
    return here, slope_here, energy, pairs, steps, evaluations, stalled


@host_compiled
def set_direction(
    gradient: Any, vectors: Any, products: Any, along: Any, places: Any, gamma: float,
    direction: Any,
) -> None:  # fmt: skip
    """Minus the model's inverse Hessian times the gradient.

    In the compact form of R. H. Byrd, J. Nocedal, R. B. Schnabel, Math. Program. 63, 129 (1994),
    eq. 3.1: one pass over all vectors for their products with the gradient, one to add them up.
    """
    used, oldest = places[0], places[1]
    if used == 0:
        return
    at = np.empty(used, np.int64)
    for k in range(used):
        at[k] = (oldest + k) % used
    inner, outer = np.empty(used), np.empty(used)
    weights = np.empty(2 * used, np.float32)
    for k in range(used - 1, -1, -1):
        value = along[2 * at[k]]
        for other in range(k + 1, used):
            value -= products[0, at[k], at[other]] * inner[other]
        inner[k] = value / products[0, at[k], at[k]]
    for k in range(used):
        value = products[0, at[k], at[k]] * inner[k] - gamma * along[2 * at[k] + 1]
        for other in range(used):
            value += gamma * products[1, at[k], at[other]] * inner[other]
        for other in range(k):
            value -= products[0, at[other], at[k]] * outer[other]
        outer[k] = value / products[0, at[k], at[k]]
    for k in range(used):
        weights[2 * at[k]], weights[2 * at[k] + 1] = -outer[k], gamma * inner[k]
    _combine(vectors, weights, gradient, -gamma, direction)


@host_compiled
def remember(q: Any, there: Any, gradient: Any, gradient_there: Any, past: Any) -> None:
    """Write down a step, in the place of the oldest, and what it tells of the curvature."""
    vectors, products, along, places, numbers = past
    used, oldest, history = places[0], places[1], products.shape[1]
    slot = used if used < history else oldest
    own, square = _put_step(
        there, q, gradient_there, gradient, vectors[2 * slot], vectors[2 * slot + 1]
    )
    if not own > FLAT * square:
        # What was written over is the oldest, without which the others tell nothing.
        places[0], places[1] = 0, 0
        return
    if used < history:
        used += 1
        places[0] = used
    else:
        places[1] = (oldest + 1) % history
    now = np.empty(2 * used)
    _products(vectors, gradient_there, now)
    for k in range(used):
        # The change is one of gradients, and so are its products.
        products[0, k, slot] = now[2 * k] - along[2 * k]
        products[1, k, slot] = products[1, slot, k] = now[2 * k + 1] - along[2 * k + 1]
    products[0, slot, slot], products[1, slot, slot] = own, square
    for k in range(2 * used):
        along[k] = now[k]
    numbers[0] = own / square


@host_compiled_sums
def _put_step(
    there: Any, q: Any, gradient_there: Any, gradient: Any, step: Any, change: Any
) -> tuple[float, float]:
    """Write down a step and its change; their product, and the square of the change."""
    own, square = 0.0, 0.0
    for i in range(q.size):
        s, y = there[i] - q[i], gradient_there[i] - gradient[i]
        step[i], change[i] = s, y
        own += s * y
        square += y * y
    return own, square


@host_compiled_sums
def _product(a: Any, b: Any) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@host_compiled_sums
def _scale(a: Any, factor: float, out: Any) -> None:
    for i in range(a.size):
        out[i] = factor * a[i]


@host_compiled
def _copy(a: Any, out: Any) -> None:
    # A slice is assigned to by code that takes 3 s to compile.
    for i in range(a.shape[0]):
        out[i, 0], out[i, 1] = a[i, 0], a[i, 1]


@host_compiled_sums
def _move(q: Any, t: float, direction: Any, there: Any) -> None:
    for i in range(q.size):
        there[i] = q[i] + t * direction[i]


@host_compiled_sums
def _products(vectors: Any, gradient: Any, out: Any) -> None:
    """The products of the first vectors with the gradient."""
    for k in range(out.size):
        out[k] = 0.0
    for start in range(0, gradient.size, CHUNK):
        part = gradient[start : start + CHUNK]
        for k in range(out.size):
            out[k] += _product(vectors[k, start : start + CHUNK], part)


@host_compiled_sums
def _combine(vectors: Any, weights: Any, gradient: Any, scale: float, out: Any) -> None:
    """The sum of the first vectors with these weights, and of the gradient with its own.

    In single precision: it is a direction to go, and need not be exact.
    """
    total = np.empty(CHUNK, np.float32)
    for start in range(0, gradient.size, CHUNK):
        size = min(CHUNK, gradient.size - start)
        for i in range(size):
            total[i] = scale * gradient[start + i]
        for k in range(0, weights.size, 2):
            a, b = weights[k], weights[k + 1]
            _add_two(vectors[k, start:], vectors[k + 1, start:], a, b, total[:size])
        for i in range(size):
            out[start + i] = total[i]


@host_compiled_sums
def _add_two(first: Any, second: Any, a: float, b: float, total: Any) -> None:
    for i in range(total.size):
        total[i] += a * first[i] + b * second[i]


@host_compiled_sums
def _largest(rows: Any) -> float:
    """The largest norm of a row; NaN where there is one."""
    largest, total = 0.0, 0.0
    for i in range(rows.shape[0]):
        square = rows[i, 0] * rows[i, 0] + rows[i, 1] * rows[i, 1]
        largest = max(largest, square)
        total += square
    return math.sqrt(largest) if total < np.inf else np.nan


@host_compiled_sums
def _farthest(q: Any, reference: Any) -> float:
    farthest = 0.0
    for i in range(q.shape[0]):
        dx, dy = q[i, 0] - reference[i, 0], q[i, 1] - reference[i, 1]
        farthest = max(farthest, dx * dx + dy * dy)
    return math.sqrt(farthest)


@host_compiled_sums
def _limit(direction: Any, max_step: float) -> float:
    """Shorten rows to the largest step one by one; all together still do not move.

    Returns the largest norm of a row.
    """
    largest = _largest(direction)
    if largest <= max_step:
        return largest
    count, sx, sy = direction.shape[0], 0.0, 0.0
    for i in range(count):
        length = math.sqrt(direction[i, 0] ** 2 + direction[i, 1] ** 2)
        if length > max_step:
            direction[i, 0] *= max_step / length
            direction[i, 1] *= max_step / length
        sx += direction[i, 0]
        sy += direction[i, 1]
    for i in range(count):
        direction[i, 0] -= sx / count
        direction[i, 1] -= sy / count
    return _largest(direction)
