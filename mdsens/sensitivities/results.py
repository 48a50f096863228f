"""Sensitivity: named derivatives that answer questions, print themselves, and go to tables."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.archive import SUFFIX, Archived
from mdsens.digits import error_text, is_zero, with_digits
from mdsens.errors import InputError
from mdsens.files import csv_text, path_of, replacing
from mdsens.observables.observable import Observable
from mdsens.particles import System
from mdsens.pictured import PicturedWithMotion
from mdsens.potentials import Potential
from mdsens.relaxation import Certificate, Equilibrium
from mdsens.sensitivities.variables import Variables, motion_of
from mdsens.summary import Summarised, Summary
from mdsens.units import powers, quotient_unit_name
from mdsens.values import nearest, shown
from mdsens.voigt import COMPONENTS

if TYPE_CHECKING:
    import pandas
    import xarray

#: Errors that were not estimated are taken to be larger by this than orders of magnitude say.
SAFETY = 10.0
#: What a derivative is: of one system, or with a first axis over many.
Derivative = TypeVar("Derivative")


@dataclasses.dataclass(frozen=True)
class Found:
    """Tangents of the degrees of freedom along parameters.

    Attributes:
        tangents: by name, each (R, D).
        residuals: relative residual of each linear solve.
        errors: estimated relative error of each; empty if not estimated.
        ahead: the same tangents at the point after one Newton step; empty if not estimated.
    """

    tangents: dict[str, Float[Array, "R D"]]
    residuals: list[float]
    errors: list[float]
    ahead: dict[str, Float[Array, "R D"]] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_pytree_with_keys_class
class ByParameter(dict[str, Derivative]):
    """Derivatives by parameter, which say what there is where another name is looked up."""

    def __missing__(self, name: Any) -> Derivative:
        known = ", ".join(self) or "none"
        raise KeyError(
            f"no derivative in {shown(name)} was asked for; there are: {known}{nearest(name, self)}"
        )

    def tree_flatten_with_keys(
        self,
    ) -> tuple[list[tuple[jax.tree_util.DictKey, Derivative]], tuple[str, ...]]:
        """Leaves and names in the order of names, as JAX does of dictionaries."""
        names = tuple(sorted(self))
        return [(jax.tree_util.DictKey(name), self[name]) for name in names], names

    @classmethod
    def tree_unflatten(
        cls, names: tuple[str, ...], leaves: Iterable[Derivative]
    ) -> "ByParameter[Derivative]":
        """The derivatives again, of these leaves."""
        return cls(zip(names, leaves, strict=True))


class Tangents:
    """Tangents of the degrees of freedom, one per parameter, computed when first asked for."""

    def __init__(self, compute: Callable[[], Found]):
        self._compute = compute
        self._found: Found | None = None

    def _get(self) -> Found:
        if self._found is None:
            self._found = self._compute()
        return self._found

    def __getstate__(self) -> dict[str, Any]:
        # The way to compute them needs the factorised Hessian: they are computed instead.
        return {"found": self._get()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._found = state["found"]

    @property
    def q(self) -> dict[str, Float[Array, "R D"]]:
        """Tangent of the degrees of freedom for each parameter."""
        return self._get().tangents

    @property
    def residuals(self) -> list[float]:
        """Relative residual of each linear solve."""
        return self._get().residuals

    @property
    def errors(self) -> list[float]:
        """Estimated relative error of each tangent; empty if not estimated."""
        return self._get().errors

    @property
    def ahead(self) -> dict[str, Float[Array, "R D"]]:
        """The tangents at the point after one Newton step; empty if not estimated."""
        return self._get().ahead


class DerivativesByName(Archived, Mapping[str, Mapping[str, Derivative]]):
    """Derivatives that are looked up by observable, then by parameter, and go to tables.

    Of one system, or of many, along a first axis.
    """

    derivatives: dict[str, dict[str, Derivative]]
    observables: dict[str, Observable]
    observed: dict[str, Any]
    parameters: dict[str, Any]
    positions: Any
    errors: dict[str, dict[str, Float[np.ndarray, "..."]]]
    value_errors: dict[str, Float[np.ndarray, "..."]]

    @property
    def _example(self) -> tuple[System, Potential]:
        """A system and a potential, from which units are known."""
        raise NotImplementedError

    @property
    def _leading(self) -> Iterable[tuple[tuple[int, ...], dict[str, Any]]]:
        """Indices along the first axis, and the columns of tables that say which it is."""
        raise NotImplementedError

    @property
    def _axes(self) -> list[str]:
        """Name of the first axis, where there is one."""
        raise NotImplementedError

    @property
    def _relaxed(self) -> Any:
        """The relaxed positions, length."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> dict[str, Derivative]:
        if name not in self.derivatives:
            known = ", ".join(self.derivatives) or "none"
            raise KeyError(
                f"no observable {shown(name)} was asked for; there are: {known}"
                f"{nearest(name, self.derivatives)}"
            )
        return ByParameter(self.derivatives[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.derivatives)

    def __len__(self) -> int:
        return len(self.derivatives)

    def units(self, observable: str, parameter: str) -> str:
        """Unit of one derivative, e.g. ``"Ang^3/eV"``."""
        system = self._example[0]
        return quotient_unit_name(
            self.observables[observable].dimension_in(system.dimension),
            self.parameter_dimension(parameter),
            system.units,
        )

    def parameter_dimension(self, parameter: str) -> str:
        """Physical dimension of what is differentiated by, e.g. ``"energy"``."""
        return self._example[1].parameter_dimension(parameter)

    def logarithmic(self) -> dict[str, dict[str, Derivative]]:
        """D ln O / d ln theta = (theta / O) dO/dtheta: per cent of change per cent of parameter.

        NaN where an observable is zero within its error: there is no such derivative.
        """
        result: dict[str, dict[str, Any]] = {}
        for name, by_parameter in self.derivatives.items():
            value = np.asarray(self.observed[name])
            divisor = np.where(is_zero(value, self.value_errors[name]), np.nan, value)
            result[name] = {
                parameter: np.asarray(derivative) * self._size(parameter, value.ndim) / divisor
                for parameter, derivative in by_parameter.items()
            }
        return result

    def logarithmic_errors(self) -> dict[str, dict[str, Float[np.ndarray, "..."] | np.float64]]:
        """Absolute errors of `logarithmic`, from those of observables and derivatives."""
        result: dict[str, dict[str, np.ndarray | np.float64]] = {}
        for name, by_parameter in self.logarithmic().items():
            value = np.abs(np.asarray(self.observed[name]))
            size = np.where(value > 0.0, value, np.nan)
            result[name] = {
                parameter: np.abs(np.asarray(logarithm)) * self.value_errors[name] / size
                + self.errors[name][parameter] * np.abs(self._size(parameter, value.ndim)) / size
                for parameter, logarithm in by_parameter.items()
            }
        return result

    def _size(self, parameter: str, dimensions: int) -> Any:
        """Values of a parameter, along the first axis of an array of so many dimensions."""
        values = np.asarray(self.parameters[parameter])
        return values.reshape(values.shape + (1,) * (dimensions - values.ndim))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of tables, one for each number and parameter, their cells by column."""
        logarithms, uncertain = self.logarithmic(), self.logarithmic_errors()
        for first, labels in self._leading:
            for name, by_parameter in self.derivatives.items():
                observable = self.observables[name]
                values = np.asarray(self.observed[name])
                shape = values[first].shape
                units = {parameter: self.units(name, parameter) for parameter in by_parameter}
                for index in np.ndindex(shape):
                    at = (*first, *index)
                    for parameter, derivative in by_parameter.items():
                        numbers = {
                            "value": values,
                            "value_error": self.value_errors[name],
                            "derivative": derivative,
                            "derivative_error": self.errors[name][parameter],
                            "logarithmic": logarithms[name][parameter],
                            "logarithmic_error": uncertain[name][parameter],
                        }
                        found = {key: float(np.asarray(of)[at]) for key, of in numbers.items()}
                        yield {
                            **labels,
                            "observable": name,
                            "component": component_label(observable, index, shape),
                            "value": found["value"],
                            "value_error": found["value_error"],
                            "value_units": observable.units_of(self._example[0]),
                            "parameter": parameter,
                            "parameter_value": float(np.asarray(self.parameters[parameter])[first]),
                            "derivative": found["derivative"],
                            "derivative_error": found["derivative_error"],
                            "derivative_units": units[parameter],
                            "logarithmic": found["logarithmic"],
                            "logarithmic_error": found["logarithmic_error"],
                        }

    def to_dataframe(self) -> "pandas.DataFrame":
        """A table with one row per number and parameter, units in columns of their own."""
        import pandas

        return pandas.DataFrame(list(self.rows()))

    def to_csv(self) -> str:
        """The table of `to_dataframe` as text with commas."""
        return csv_text(self.rows())

    def to_xarray(self) -> "xarray.Dataset":
        """Values and derivatives with named axes; positions under ``"positions"``.

        Absolute errors are under ``"error_<observable>"`` and ``"error_d_<observable>"``.
        """
        import xarray

        parameters, system = list(self.parameters), self._example[0]
        data: dict[str, Any] = {}
        for name, by_parameter in self.derivatives.items():
            value = np.asarray(self.observed[name])
            axes = [*self._axes, *_component_axes(name, value.ndim - len(self._axes))]
            units = {"units": self.observables[name].units_of(system)}
            data[name] = (axes, value, units)
            stacked = np.stack([np.asarray(by_parameter[p]) for p in parameters])
            data[f"d_{name}"] = (["parameter", *axes], stacked)
            stacked = np.stack([np.asarray(self.errors[name][p]) for p in parameters])
            data[f"error_{name}"] = (axes, np.asarray(self.value_errors[name]), units)
            data[f"error_d_{name}"] = (["parameter", *axes], stacked)
        if self.parameters:
            moved = np.stack([np.asarray(self.positions[p]) for p in parameters])
            data["d_positions"] = (["parameter", *self._axes, "atom", "axis"], moved)
        data["positions"] = ([*self._axes, "atom", "axis"], np.asarray(self._relaxed))
        coordinates = {
            "parameter": parameters,
            "parameter_value": (["parameter", *self._axes], list(self.parameters.values())),
            "axis": list("xyz"[: system.dimension]),
        }
        return xarray.Dataset(data, coordinates)

    def save(self, path: str | Path) -> None:
        """Write to a file: all of it, for `load`, or a table for others.

        Arguments:
            path: the file: ``.npz`` for all that is known; ``.csv`` for the table, and ``.json``
                for that and the derivatives of the positions.

        Raises:
            InputError: another ending, something that no file can hold, or the file cannot be
                written.
        """
        path = path_of(path, "path")
        if path.suffix == ".csv":
            text = self.to_csv()
        elif path.suffix == ".json":
            positions = {name: np.asarray(x).tolist() for name, x in self.positions.items()}
            text = json.dumps({"rows": list(self.rows()), "positions": positions})
        elif path.suffix == SUFFIX:
            super().save(path)
            return
        else:
            raise InputError(
                f"cannot write {shown(path.name)}: allowed endings are .npz, .csv and .json"
            )
        with replacing(path) as file:
            file.write(text.encode())


@dataclasses.dataclass(frozen=True, repr=False)
class Sensitivity(Summarised, PicturedWithMotion, DerivativesByName[Float[Array, "..."]]):
    """Derivatives by name: ``sens["volume"]["sigma"]`` is d volume / d sigma.

    Attributes:
        equilibrium: where the derivatives were taken.
        observables: the observables by name.
        observed: their values.
        derivatives: for each observable, its derivative in each parameter.
        parameters: names and values of the parameters.
        mode: ``"forward"`` or ``"reverse"``.
        errors: for each derivative its absolute error, of the same shape and unit: what a Newton
            step changes, with the linear solves refined, and rounding. A derivative no larger than
            its error is not to be told from zero. NaN where errors were not asked for.
        value_errors: for each observable the absolute error of its value, likewise.
        certificate: that of the equilibrium, with the residual and the error of these derivatives.
        variables: what was differentiated by: the potential, and conditions that were asked for.
    """

    equilibrium: Equilibrium
    observables: dict[str, Observable]
    observed: dict[str, Float[Array, "..."]]
    derivatives: dict[str, dict[str, Float[Array, "..."]]]
    parameters: dict[str, float]
    mode: str
    errors: dict[str, dict[str, Float[np.ndarray, "..."]]]
    value_errors: dict[str, Float[np.ndarray, "..."]]
    certificate: Certificate
    tangents: Tangents = dataclasses.field(repr=False)
    variables: Variables = dataclasses.field(repr=False)

    @property
    def positions(self) -> dict[str, Float[Array, "N D"]]:
        """Derivative of the relaxed positions in each parameter, shape (N, D), length/unit.

        Atoms that the energy does not hold have the derivative of smallest norm: no net
        translation or rotation, and none for rattlers.
        """
        moved = {name: self._moved(name, change)[0] for name, change in self.tangents.q.items()}
        return ByParameter(moved)

    @property
    def cell(self) -> dict[str, Float[Array, "D D"]]:
        """Derivative of the cell in each parameter, shape (D, D); zero if nothing changes it."""
        moved = {name: self._moved(name, change)[1] for name, change in self.tangents.q.items()}
        return ByParameter(moved)

    def _moved(self, name: str, change: Float[Array, "R D"]) -> tuple[Array, Array]:
        along = self.variables.direction(name)
        return motion_of(self.equilibrium, self.variables, change, along)

    def parameter_dimension(self, parameter: str) -> str:
        """Physical dimension of what is differentiated by, e.g. ``"energy"``."""
        return self.variables.parameter_dimension(parameter)

    @property
    def _example(self) -> tuple[System, Potential]:
        return self.equilibrium.system, self.equilibrium.potential

    @property
    def _leading(self) -> Iterable[tuple[tuple[int, ...], dict[str, Any]]]:
        return [((), {})]

    @property
    def _axes(self) -> list[str]:
        return []

    @property
    def _relaxed(self) -> Float[Array, "N D"]:
        return self.equilibrium.positions

    def supported_error(self, observable: str, parameter: str, logarithmic: bool = False) -> float:
        """How far the digits of a derivative can be trusted at best, where no error was estimated.

        By orders of magnitude, from how far the atoms are from where no force is on them, compared
        with the range of the potential, and from the residual of the linear solves.

        Arguments:
            observable: its name.
            parameter: its name.
            logarithmic: whether that of d ln O / d ln theta is meant.

        Returns:
            Absolute, in the unit of the derivative.
        """
        system, certificate = self.equilibrium.system, self.certificate
        reach = float(self.equilibrium.potential.interaction_range)
        stiffness = abs(certificate.lowest_eigenvalue) or np.inf
        left = max(
            certificate.largest_force / (stiffness * reach),
            certificate.linear_residual or 0.0,
            float(np.finfo(float).eps),
        )
        # What an observable of its dimension can be where no symmetry makes it zero.
        bases = {"energy": stiffness * reach**2, "length": reach}
        dimension = powers(self.observables[observable].dimension, system.dimension)
        scale = 1.0
        for base, power in dimension.items():
            scale *= bases[base] ** power if np.isfinite(bases[base]) else 1.0
        by_parameter = self.derivatives[observable]
        for name, theta in self.parameters.items():
            change = abs(theta) * np.abs(np.asarray(by_parameter[name])).max(initial=0.0)
            scale = max(scale, float(change))
        error = SAFETY * left * scale
        if logarithmic:
            return float(error / (np.abs(np.asarray(self.observed[observable])).max() or np.nan))
        return float(error / (abs(self.parameters[parameter]) or 1.0))

    @property
    def relaxes_cell(self) -> bool:
        """Whether the cell changes with what is differentiated by, so that it has derivatives."""
        relaxes = self.equilibrium.landscape.cell_mode is not None
        return relaxes or self.variables.strain is not None

    def to_dict(self) -> dict[str, Any]:
        """Values and derivatives as plain numbers, texts, lists and dictionaries, as for JSON.

        Returns:
            ``parameters``, ``observables`` (value, error, units, labels), ``sensitivities`` and
            their errors, logarithmic ones and theirs; where the cell relaxes ``cell_derivatives``.
        """
        return {
            "parameters": dict(self.parameters),
            "observables": {
                name: {
                    "value": np.asarray(self.observed[name]).tolist(),
                    "error": np.asarray(self.value_errors[name]).tolist(),
                    "units": observable.units_of(self.equilibrium.system),
                    **_labels(observable, np.shape(self.observed[name])),
                }
                for name, observable in self.observables.items()
            },
            "sensitivities": _plain(self),
            "sensitivity_errors": _plain(self.errors),
            "logarithmic_sensitivities": _plain(self.logarithmic()),
            "logarithmic_sensitivity_errors": _plain(self.logarithmic_errors()),
        } | ({"cell_derivatives": _plain({"": self.cell})[""]} if self.relaxes_cell else {})

    def _table(self) -> list[tuple[str, ...]]:
        """Rows of observable, parameter, derivative, its error, and unit, as text."""
        rows: list[tuple[str, ...]] = []
        for row in self.rows():
            label = row["observable"] + (f" {row['component']}" if row["component"] else "")
            error = row["derivative_error"]
            known = error
            if np.isnan(error):
                known = self.supported_error(row["observable"], row["parameter"])
            number = with_digits(row["derivative"], known)
            units = row["derivative_units"]
            rows.append((label, row["parameter"], number, error_text(error), units))
        return rows

    def __str__(self) -> str:
        lines = [f"{'observable':28s} {'parameter':18s} {'derivative':>16s} {'error':>9s}  unit"]
        lines += [
            f"{label:28s} {parameter:18s} {number:>16s} {error:>9s}  {units}"
            for label, parameter, number, error, units in self._table()
        ]
        return "\n".join([*lines, str(self.certificate)])

    def _summary(self) -> Summary:
        facts = [
            ("at", f"{self.certificate.title} of {self.equilibrium.system}"),
            ("derivatives of", ", ".join(["positions", *self.derivatives])),
            ("in", ", ".join(self.parameters)),
        ]
        head = ("observable", "parameter", "derivative", "error", "unit")
        return Summary("Sensitivity", facts, head if self.derivatives else (), self._table())


def component_label(observable: Observable, index: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Name of one entry of an observable's array: its label, or its index; empty for a number."""
    if not index:
        return ""
    if observable.name == "stress" and shape == (3,):
        return COMPONENTS[2][index[0]]
    if observable.labels and len(index) == 1:
        return observable.labels[index[0]]
    return ",".join(str(i) for i in index)


def _component_axes(name: str, count: int) -> list[str]:
    """Names of the axes of one observable."""
    return [f"{name}_component", *(f"{name}_component_{axis}" for axis in range(2, count + 1))][
        :count
    ]


def _plain(derivatives: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {parameter: np.asarray(value).tolist() for parameter, value in by_parameter.items()}
        for name, by_parameter in derivatives.items()
    }


def _labels(observable: Observable, shape: tuple[int, ...]) -> dict[str, list[str]]:
    if len(shape) != 1 or not observable.labels:
        return {}
    if observable.name == "stress" and shape == (3,):
        return {"labels": list(COMPONENTS[2])}
    return {"labels": list(observable.labels[: shape[0]])}
