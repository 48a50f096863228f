"""How a relaxed structure, and everything computed from it, depends on the potential's parameters."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdsens import implicit, mechanics, observables, plots, potentials, testing
    from mdsens.particles import System, read
    from mdsens.relaxation import Equilibrium, relax
    from mdsens.sensitivity import Sensitivity, sensitivity

__version__ = "0.1.0"

# A relaxation to 1e-8 is impossible in float32, JAX's default. The environment variable serves a
# JAX that is yet to be imported without importing it here; the update serves one that already is.
os.environ["JAX_ENABLE_X64"] = "1"
if "jax" in sys.modules:
    import jax

    jax.config.update("jax_enable_x64", True)

# Public name -> module that defines it. Imported on first use: JAX takes longer than a second to
# import, and `mdsens --help` needs none of it.
_HOMES = {
    "System": "mdsens.particles",
    "read": "mdsens.particles",
    "relax": "mdsens.relaxation",
    "Equilibrium": "mdsens.relaxation",
    "sensitivity": "mdsens.sensitivity",
    "Sensitivity": "mdsens.sensitivity",
}
_ROOMS = (
    "implicit",
    "mechanics",
    "observables",
    "particles",
    "plots",
    "potentials",
    "relaxation",
    "study",
    "testing",
)

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"mdsens.{name}")
    raise AttributeError(f"module 'mdsens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
