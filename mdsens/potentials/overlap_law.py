"""The law of pairs that push one another by a power of their overlap."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class OverlapLaw(NamedTuple):
    """phi(r) = (epsilon / alpha) (1 - r/d)^alpha for r < d, of each pair of S species.

    Attributes:
        distances: shape (S, S), the distance d at which a pair touches, length; symmetric.
        epsilon: shape (S, S), energy scale; symmetric.
        alpha: exponent, 2 or more.
    """

    distances: Float[np.ndarray, "S S"]
    epsilon: Float[np.ndarray, "S S"]
    alpha: float
