"""Double precision: switched on where particles are first imported, and asked for ever after.

JAX computes in single precision unless told otherwise, in which no structure relaxes to 1e-8. It is
a setting of the whole process, so that what knows nothing of particles leaves it as it is.
"""

import jax
import jax.numpy as jnp

from mdsens.errors import InputError

jax.config.update("jax_enable_x64", True)


def require_double_precision() -> None:
    """An error where double precision has been switched off since particles were imported.

    Raises:
        InputError: it is off, in this thread or for the whole process.
    """
    if jnp.result_type(float) != jnp.float64:
        raise InputError(
            "double precision is off in JAX, and particles need it: switch it on again by "
            'jax.config.update("jax_enable_x64", True)'
        )
