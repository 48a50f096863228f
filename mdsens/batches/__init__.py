"""Many systems side by side: relaxed together, and their sensitivities."""

from mdsens.batches.batch_equilibrium import BatchEquilibrium
from mdsens.batches.batch_sensitivity import BatchSensitivity
from mdsens.batches.relax_batch import relax_batch
from mdsens.batches.sensitivity_batch import sensitivity_batch

__all__ = ["BatchEquilibrium", "BatchSensitivity", "relax_batch", "sensitivity_batch"]
