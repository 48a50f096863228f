"""The objectives of `mdsens.layers.objective`, by the name that they had first."""

from mdsens.layers.objective import *  # noqa: F403
from mdsens.layers.objective import __all__ as __all__
