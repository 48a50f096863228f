"""What a problem of the benchmark is."""

import dataclasses
from collections.abc import Callable

import numpy as np

Reference = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A layer to differentiate: theta, a solution x(theta), and a loss of the solution.

    Attributes:
        name: what it is, with its size.
        data: arrays by name.
        theta: where the gradient is taken.
        reference: the solution and the loss's gradient there, to rounding, in NumPy, SciPy and
            scikit-learn, without any of the programs that are compared.
    """

    name: str
    data: dict[str, np.ndarray]
    theta: np.ndarray
    reference: Callable[[], Reference]
