"""Linear solvers as functions, where JAXopt 0.8.5 has them: `mdsens.implicit.linear_solve`."""

from mdsens.implicit.linear_solve import *  # noqa: F403
from mdsens.implicit.linear_solve import __all__ as __all__
