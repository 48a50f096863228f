"""How a relaxed structure, and all that is computed from it, depends on its potential."""

import os
from typing import TYPE_CHECKING

from mdsens.lazy_names import names_on_first_use

if TYPE_CHECKING:
    from mdsens import batches as batches
    from mdsens import elate as elate
    from mdsens import implicit as implicit
    from mdsens import layers as layers
    from mdsens import linalg as linalg
    from mdsens import mechanics as mechanics
    from mdsens import minimisers as minimisers
    from mdsens import observables as observables
    from mdsens import particles as particles
    from mdsens import phonopy as phonopy
    from mdsens import plots as plots
    from mdsens import potentials as potentials
    from mdsens import relaxation as relaxation
    from mdsens import sensitivities as sensitivities
    from mdsens import study as study
    from mdsens import testing as testing
    from mdsens.ase_phonons import ase_phonons as ase_phonons
    from mdsens.batches import BatchEquilibrium as BatchEquilibrium
    from mdsens.batches import BatchSensitivity as BatchSensitivity
    from mdsens.batches.relax_batch import relax_batch as relax_batch
    from mdsens.batches.sensitivity_batch import sensitivity_batch as sensitivity_batch
    from mdsens.calculator import Calculator as Calculator
    from mdsens.errors import CalculatorError as CalculatorError
    from mdsens.errors import ConvergenceError as ConvergenceError
    from mdsens.errors import InputError as InputError
    from mdsens.errors import LinearSolveError as LinearSolveError
    from mdsens.errors import MdsensError as MdsensError
    from mdsens.errors import MdsensWarning as MdsensWarning
    from mdsens.errors import NoSecondDerivativesError as NoSecondDerivativesError
    from mdsens.errors import RelaxationError as RelaxationError
    from mdsens.errors import UnreliableDerivativeError as UnreliableDerivativeError
    from mdsens.particles import System as System
    from mdsens.particles import random_packing as random_packing
    from mdsens.particles import read as read
    from mdsens.potentials import Potential as Potential
    from mdsens.relaxation import Certificate as Certificate
    from mdsens.relaxation import Equilibrium as Equilibrium
    from mdsens.relaxation.relax import relax as relax
    from mdsens.sensitivities import Sensitivity as Sensitivity
    from mdsens.sensitivities.sensitivity import sensitivity as sensitivity
    from mdsens.sensitivities.unrolled import unrolled_tangents as unrolled_tangents
    from mdsens.study.sweep_results import load as load

__version__ = "0.1.0"

if len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(2)) == 1:
    # Of XLA's threads, as many as cores, host code that compiled code calls holds one. A calculator
    # in it that computes with JAX would wait for another: half of such relaxations never ended.
    # XLA reads the number here, before JAX starts.
    os.environ.setdefault("NPROC", "2")
if os.environ.get("MDSENS_CACHE", "off").lower() != "off":
    from mdsens.compilation_cache import keep_compiled_code

    # Before anything imports JAX, which reads its settings then.
    keep_compiled_code()

# Public name -> module that defines it. Imported on first use: JAX takes longer than a second to
# import, and `mdsens --help` needs none of it.
_HOMES = {
    "System": "particles",
    "random_packing": "particles",
    "read": "particles",
    "relax": "relaxation",
    "relax_batch": "batches",
    "Equilibrium": "relaxation",
    "BatchEquilibrium": "batches",
    "sensitivity": "sensitivities",
    "sensitivity_batch": "batches",
    "Sensitivity": "sensitivities",
    "BatchSensitivity": "batches",
    "unrolled_tangents": "sensitivities",
    "load": "study",
    "Potential": "potentials",
    "Calculator": "calculator",
    "ase_phonons": "ase_phonons",
    "Certificate": "relaxation",
    "MdsensError": "errors",
    "InputError": "errors",
    "CalculatorError": "errors",
    "RelaxationError": "errors",
    "UnreliableDerivativeError": "errors",
    "ConvergenceError": "errors",
    "LinearSolveError": "errors",
    "NoSecondDerivativesError": "errors",
    "MdsensWarning": "errors",
}
_ROOMS = (
    "batches",
    "elate",
    "implicit",
    "layers",
    "linalg",
    "mechanics",
    "minimisers",
    "observables",
    "particles",
    "phonopy",
    "plots",
    "potentials",
    "relaxation",
    "sensitivities",
    "study",
    "testing",
)

__all__ = [*_HOMES, *_ROOMS]


__getattr__ = names_on_first_use(__name__, _HOMES, _ROOMS)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
