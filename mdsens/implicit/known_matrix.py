"""A matrix that is known, where others are told by their products."""

import dataclasses

from jaxtyping import Array, Float

__all__ = ["KnownMatrix"]


@dataclasses.dataclass(frozen=True)
class KnownMatrix:
    """A solver by a dense factorisation of a matrix that a closed form has given.

    Products with the matrix are still what residuals are computed with.

    Arguments:
        matrix: A, its unknowns in the order of the right-hand side's flattened leaves.
    """

    matrix: Float[Array, "n n"]
