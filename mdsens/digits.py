"""Numbers as they are printed: with the digits that their errors support, and zero below these."""

import math

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

#: What stands in the place of a number that is not known.
UNKNOWN = "–"


def is_zero(value: ArrayLike, error: ArrayLike) -> Bool[np.ndarray, "..."] | np.bool_:
    """Whether a number is not to be told from zero.

    Arguments:
        value: the number, or an array of them.
        error: its absolute error; NaN where it is not known.

    Returns:
        Whether it is zero, or no larger than its error.
    """
    size = np.abs(np.asarray(value, float))
    return (size == 0.0) | (size <= np.asarray(error, float))


def with_digits(value: float | None, error: float | None = None, most: int = 8) -> str:
    """A number with the digits that its error supports.

    The last digit is that of the first digit of the error; a number below its error is 0.

    Arguments:
        value: the number; None or NaN where there is none.
        error: its absolute error; None or NaN where it is not known.
        most: how many digits to show at most.

    Returns:
        E.g. ``"0.01235"``, ``"0"``, or a dash where there is no number.
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if is_zero(value, math.nan if error is None else error):
        return "0"
    if error is not None and 0.0 < error < math.inf and math.isfinite(value):
        last = math.floor(math.log10(error))
        most = min(most, max(1, math.floor(math.log10(abs(value))) - last + 1))
    return f"{value:.{most}g}"


def error_text(error: float | None) -> str:
    """An error with the two digits that are worth reading.

    Arguments:
        error: absolute or relative; None or NaN where it is not known.

    Returns:
        E.g. ``"2.1e-09"``, or a dash where it is not known.
    """
    if error is None or math.isnan(error):
        return UNKNOWN
    return f"{error:.1e}"
