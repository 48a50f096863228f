"""The nearest image of a point in a lattice, however skewed its vectors are."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled

#: Rounds of reduction at most; a lattice whose vectors are 1e9 times too long takes some 50.
MAX_ROUNDS = 1000


@compiled
def nearest_image(vector: Float[Array, " D"], lattice: Float[Array, "n D"]) -> Float[Array, " D"]:
    """The shortest of a vector's images in a lattice; also where JAX traces both.

    The lattice is reduced first (H. Minkowski; in three dimensions P. Q. Nguyen, D. Stehle, ACM
    Trans. Algorithms 5, 46 (2009)). With reduced vectors b_1, b_2, b_3, no longer one before a
    shorter, and their parts b*_i across those before them, |b*_3|^2 is at least |b_3|^2 / 2 and
    |b*_2|^2 at least 3 |b_2|^2 / 4. A nearest image is within sqrt(sum |b*_j|^2, j <= i) / 2 of a
    point along b*_i, which is less than 1.12 |b*_3| and 0.77 |b*_2|: of the planes of images the
    nearest and its two neighbours suffice, of their lines likewise, and along a line the nearest.

    Arguments:
        vector: shape (D,), in units of length.
        lattice: shape (n, D), n independent lattice vectors as rows, 0 to D of them.

    Returns:
        Shape (D,). It follows the vector and the lattice, which image it is does not.
    """
    count = len(lattice)
    if count == 0:
        return vector
    # The image is chosen once; what is returned then follows positions and cell.
    still, rows = jax.lax.stop_gradient((vector, lattice))
    steps = _reduced(rows)
    rows = steps @ rows
    across = list(rows)
    for i, j in itertools.combinations(range(count), 2):
        across[j] = across[j] - _part(rows[j], across[i]) * across[i]
    left, taken = still[None], jnp.zeros((1, count))
    for i in reversed(range(count)):
        neighbors = jnp.array([0.0, -1.0, 1.0] if i else [0.0])
        places = -jnp.round(_part(left, across[i]))[:, None] + neighbors[None]
        left = (left[:, None] + places[:, :, None] * rows[None, None, i]).reshape(-1, len(still))
        along = jnp.zeros((*places.shape, count)).at[:, :, i].set(places)
        taken = (taken[:, None] + along).reshape(-1, count)
    nearest = jnp.argmin(jnp.sum(left**2, axis=1))
    return vector + (taken[nearest] @ steps) @ lattice


def images_as_near(
    vector: Float[np.ndarray, " D"], lattice: Float[np.ndarray, "n D"], tolerance: float
) -> int:
    """How many images are as near as the nearest.

    Two that are have between them a vector whose points half way are nearest to both ends; in a
    reduced basis it has no component beyond 1 (J. H. Conway, N. J. A. Sloane, Proc. R. Soc. Lond. A
    436, 55 (1992)).

    Arguments:
        vector: shape (D,), length.
        lattice: as in `nearest_image`.
        tolerance: relative difference of distances that are the same.

    Returns:
        At least 1.
    """
    nearest = np.asarray(nearest_image(jnp.asarray(vector), jnp.asarray(lattice)))
    if len(lattice) == 0:
        return 1
    rows = np.asarray(_reduced(jnp.asarray(lattice))) @ lattice
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=len(rows))))
    distances = np.linalg.norm(nearest + steps @ rows, axis=1)
    return int((distances <= (1.0 + tolerance) * np.linalg.norm(nearest)).sum())


def _part(vectors: Float[Array, "*m D"], direction: Float[Array, " D"]) -> Float[Array, "*m"]:
    """How often a direction goes into each vector."""
    return vectors @ direction / (direction @ direction)


def _reduced(rows: Float[Array, "n D"]) -> Float[Array, "n n"]:
    """Whole numbers, steps, such that steps @ rows is a Minkowski-reduced basis, shortest first.

    As long as a vector becomes shorter by the others, the one that becomes shorter most is taken:
    by a multiple of one other, which reduces pairs, or in three dimensions by both others at once.
    """
    count = len(rows)
    if count == 1:
        return jnp.eye(1)
    pairs = np.array(list(itertools.permutations(range(count), 2)))
    signs = [np.array(signs) for signs in itertools.product((1.0, -1.0), repeat=count)]
    both = np.array([s for s in signs if count == 3]).reshape(-1, count)
    which = np.concatenate([pairs[:, 0], *(np.full(len(both), i) for i in range(count))])

    def one_round(state: tuple[Any, ...]) -> tuple[Any, ...]:
        steps, _, rounds = state
        vectors = steps @ rows
        gram = vectors @ vectors.T
        i, j = pairs.T
        multiples = jnp.round(gram[i, j] / gram[j, j])
        by_one = steps[i] - multiples[:, None] * steps[j]
        changed = jnp.concatenate([by_one, *([both @ steps] * count)])
        left = jnp.sum((changed @ rows) ** 2, axis=1) / gram[which, which]
        best = jnp.argmin(left)
        shorter = left[best] < 1.0 - 1e-9
        chosen = jnp.arange(count) == jnp.asarray(which)[best]
        better = jnp.where(chosen[:, None], changed[best], steps)
        return jnp.where(shorter, better, steps), shorter, rounds + 1

    steps = jax.lax.while_loop(
        lambda state: state[1] & (state[2] < MAX_ROUNDS),
        one_round,
        (jnp.eye(count), jnp.array(True), 0),
    )[0]
    # Ranks in place of a sort, which takes long to compile.
    lengths, numbers = jnp.sum((steps @ rows) ** 2, axis=1), np.arange(count)
    before = (lengths[None] < lengths[:, None]) | (
        (lengths[None] == lengths[:, None]) & (numbers[None] < numbers[:, None])
    )
    order = jnp.sum(before, axis=1)[None] == numbers[:, None]
    return order.astype(float) @ steps
