"""BatchSensitivity: derivatives of many relaxed structures, in arrays over all of them."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mdsens.batches.batch_equilibrium import BatchEquilibrium
from mdsens.observables.observable import Observable
from mdsens.particles import System
from mdsens.pictured import PicturedBatch
from mdsens.potentials import Potential
from mdsens.relaxation.certificate import Certificate
from mdsens.sensitivities.results import DerivativesByName, Found, Sensitivity, Tangents
from mdsens.sensitivities.variables import Variables
from mdsens.summary import Summarised, Summary


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BatchSensitivity(Summarised, PicturedBatch, DerivativesByName[np.ndarray]):
    """Derivatives by name, with a first axis over the S systems.

    ``sens["pressure"]["sigma"]`` has shape (S,); ``sens.at(3)`` is the ordinary Sensitivity of the
    fourth system.

    Attributes:
        equilibria: where the derivatives were taken.
        observables: the observables by name.
        observed: their values, first axis S.
        derivatives: for each observable, its derivative in each parameter, first axis S.
        parameters: for each parameter, its value in each system, shape (S,).
        positions: for each parameter, the derivative of the relaxed positions, shape (S, N, D),
            length/unit; zero after the atoms of a smaller system.
        cells: for each parameter, the derivative of the relaxed cells, shape (S, D, D).
        degrees: for each parameter, the derivative of the degrees of freedom, S of shape (R, D).
        residuals: relative residual of each linear solve, shape (S, P).
        relative_errors: estimated relative error of the tangents of each parameter, shape (S, P);
            NaN where not estimated.
        errors: for each derivative its absolute error, of the same shape and unit; NaN likewise.
        value_errors: for each observable the absolute error of its value, first axis S.
        lowest_eigenvalues: of the Hessians outside their null spaces, shape (S, 6),
            energy/length^2; infinite where there are fewer.
        null_modes: number of null modes by kind, each of shape (S,).
    """

    equilibria: BatchEquilibrium
    observables: dict[str, Observable]
    observed: dict[str, Float[np.ndarray, "S ..."]]
    derivatives: dict[str, dict[str, Float[np.ndarray, "S ..."]]]
    parameters: dict[str, Float[np.ndarray, " S"]]
    positions: dict[str, Float[np.ndarray, "S N D"]]
    cells: dict[str, Float[np.ndarray, "S D D"]]
    degrees: dict[str, list[np.ndarray]]
    residuals: Float[np.ndarray, "S P"]
    relative_errors: Float[np.ndarray, "S P"]
    errors: dict[str, dict[str, Float[np.ndarray, "S ..."]]]
    value_errors: dict[str, Float[np.ndarray, "S ..."]]
    lowest_eigenvalues: Float[np.ndarray, "S 6"]
    null_modes: dict[str, Int[np.ndarray, " S"]]

    @property
    def stable(self) -> Bool[np.ndarray, " S"]:
        """Whether no direction curves down in each."""
        return self.lowest_eigenvalues[:, 0] > 0.0

    @property
    def _example(self) -> tuple[System, Potential]:
        return self.equilibria.systems[0], self.equilibria.potentials[0]

    @property
    def _leading(self) -> Iterable[tuple[tuple[int, ...], dict[str, Any]]]:
        return [((index,), {"system": index}) for index in range(len(self.equilibria))]

    @property
    def _axes(self) -> list[str]:
        return ["system"]

    @property
    def _relaxed(self) -> Float[np.ndarray, "S N D"]:
        return self.equilibria.positions

    def at(self, index: int) -> Sensitivity:
        """The Sensitivity of one system."""
        equilibrium = self.equilibria[index]
        eigenvalues = self.lowest_eigenvalues[index]
        relative = self.relative_errors[index]
        estimated = bool(np.isfinite(relative).all())
        certificate = Certificate(
            largest_force=float(equilibrium.largest_force),
            fmax=equilibrium.fmax,
            lowest_eigenvalues=tuple(float(v) for v in eigenvalues[np.isfinite(eigenvalues)]),
            null_modes={kind: int(count[index]) for kind, count in self.null_modes.items()},
            units=equilibrium.system.units,
            linear_residual=float(self.residuals[index].max(initial=0.0)),
            derivative_error=float(relative.max(initial=0.0)) if estimated else None,
        )
        tangents = {name: jnp.asarray(q[index]) for name, q in self.degrees.items()}
        found = Found(tangents, list(self.residuals[index]), list(relative))
        return Sensitivity(
            equilibrium=equilibrium,
            observables=self.observables,
            observed={name: jnp.asarray(value[index]) for name, value in self.observed.items()},
            derivatives={
                name: {p: jnp.asarray(value[index]) for p, value in by_parameter.items()}
                for name, by_parameter in self.derivatives.items()
            },
            parameters={name: float(value[index]) for name, value in self.parameters.items()},
            mode="forward",
            errors={
                name: {p: np.asarray(error[index]) for p, error in by_parameter.items()}
                for name, by_parameter in self.errors.items()
            },
            value_errors={
                name: np.asarray(error[index]) for name, error in self.value_errors.items()
            },
            certificate=certificate,
            tangents=Tangents(lambda: found),
            variables=Variables.of(equilibrium.landscape),
        )

    def _summary(self) -> Summary:
        count = len(self.equilibria)
        facts = [
            ("stable", f"{int(self.stable.sum())} of {count}"),
            ("derivatives of", ", ".join(["positions", *self.derivatives])),
            ("in", ", ".join(self.parameters)),
        ]
        return Summary(f"BatchSensitivity of {count} structures", facts)
