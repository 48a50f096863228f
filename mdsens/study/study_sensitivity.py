"""The derivatives of a whole study: of each of its structures, and of formulas over them."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.digits import is_zero
from mdsens.potentials import Potential
from mdsens.sensitivities import Sensitivity
from mdsens.study.formulas import Expansion, Formula, qualified
from mdsens.units import quotient_unit_name, unit_name


@dataclasses.dataclass(frozen=True)
class FormulaSensitivity:
    """The value of a formula f of parts p, its derivatives in the parameters, and their errors.

    df/dtheta = sum_i f_i dp_i/dtheta, with f_i = df/dp_i. Errors are of first order in those of the
    parts, e_i of a value and e_i' of a derivative, added in size, as the parts may err together:
    sum_i |f_i| e_i for the value, and sum_i |f_i| e_i' + sum_ij |f_ij| e_j |dp_i/dtheta| for the
    derivative; and what rounding leaves of the terms.

    Attributes:
        formula: the formula.
        expansion: its value, and how it changes with its parts.
        error: absolute error of the value; NaN where errors were not estimated.
        derivatives: df/dtheta by parameter.
        errors: absolute error of each; NaN likewise.
        parameters: names and values of the parameters.
    """

    formula: Formula
    expansion: Expansion
    error: float
    derivatives: dict[str, float]
    errors: dict[str, float]
    parameters: dict[str, float]

    @property
    def value(self) -> float:
        """The value of the formula."""
        return self.expansion.value

    def logarithmic(self) -> dict[str, float]:
        """D ln f / d ln theta by parameter; NaN where the value is zero within its error."""
        divisor = np.nan if is_zero(self.value, self.error) else self.value
        return {name: d * self.parameters[name] / divisor for name, d in self.derivatives.items()}

    def logarithmic_errors(self) -> dict[str, float]:
        """Absolute errors of `logarithmic`, from those of the value and the derivatives."""
        size = abs(self.value) or np.nan
        return {
            name: abs(logarithm) * self.error / size
            + self.errors[name] * abs(self.parameters[name]) / size
            for name, logarithm in self.logarithmic().items()
        }


@dataclasses.dataclass(frozen=True)
class StudySensitivity:
    """The derivatives of a study in the parameters of its potential.

    Attributes:
        structures: those of each structure, by its name; empty for that of a study with only one.
        formulas: those of formulas, by their names.
    """

    structures: dict[str, Sensitivity]
    formulas: dict[str, FormulaSensitivity]

    @property
    def potential(self) -> Potential:
        """The potential, one for all structures."""
        return next(iter(self.structures.values())).equilibrium.potential

    @property
    def system_of_units(self) -> str:
        """``"ase"`` or ``"reduced"``."""
        return next(iter(self.structures.values())).equilibrium.system.units

    @property
    def parameters(self) -> dict[str, float]:
        """Names and values of the parameters."""
        return next(iter(self.structures.values())).parameters

    def units(self) -> dict[str, dict[str, str]]:
        """The unit of each derivative, by observable or formula, then by parameter."""
        found = {
            name: {parameter: self._formula_units(of.formula, parameter) for parameter in of.errors}
            for name, of in self.formulas.items()
        }
        for structure, sensitivity in self.structures.items():
            found |= {
                qualified(structure, name): {
                    parameter: sensitivity.units(name, parameter)
                    for parameter in sensitivity.parameters
                }
                for name in sensitivity
            }
        return found

    def _formula_units(self, formula: Formula, parameter: str) -> str:
        one = next(iter(self.structures.values()))
        below = one.parameter_dimension(parameter)
        return quotient_unit_name(formula.dimension, below, self.system_of_units)

    def to_dict(self) -> dict[str, Any]:
        """Values and derivatives as for JSON, see `Sensitivity.to_dict`; formulas first."""
        given = self.formulas.items()
        found: dict[str, Any] = {
            "parameters": self.parameters,
            "observables": {
                name: {
                    "value": of.value,
                    "error": of.error,
                    "units": unit_name(of.formula.dimension, self.system_of_units),
                }
                for name, of in given
            },
            "sensitivities": {name: of.derivatives for name, of in given},
            "sensitivity_errors": {name: of.errors for name, of in given},
            "logarithmic_sensitivities": {name: of.logarithmic() for name, of in given},
            "logarithmic_sensitivity_errors": {name: of.logarithmic_errors() for name, of in given},
        }
        for structure, sensitivity in self.structures.items():
            own = sensitivity.to_dict()
            for key in found:
                if key != "parameters":
                    found[key] |= {qualified(structure, name): own[key][name] for name in own[key]}
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of tables, as of `Sensitivity.rows`; formulas first."""
        for name, of in self.formulas.items():
            logarithms, uncertain = of.logarithmic(), of.logarithmic_errors()
            for parameter, derivative in of.derivatives.items():
                yield {
                    "observable": name,
                    "component": "",
                    "value": of.value,
                    "value_error": of.error,
                    "value_units": unit_name(of.formula.dimension, self.system_of_units),
                    "parameter": parameter,
                    "parameter_value": of.parameters[parameter],
                    "derivative": derivative,
                    "derivative_error": of.errors[parameter],
                    "derivative_units": self._formula_units(of.formula, parameter),
                    "logarithmic": logarithms[parameter],
                    "logarithmic_error": uncertain[parameter],
                }
        for structure, sensitivity in self.structures.items():
            for row in sensitivity.rows():
                yield row | {"observable": qualified(structure, row["observable"])}

    def supported_error(self, name: str, parameter: str, logarithmic: bool = False) -> float:
        """How far digits can be trusted where no error was estimated, as in `Sensitivity`.

        Arguments:
            name: of an observable or a formula.
            parameter: its name.
            logarithmic: whether that of d ln O / d ln theta is meant.

        Returns:
            Absolute, in the unit of the derivative.
        """
        for structure, sensitivity in self.structures.items():
            for observable in sensitivity:
                if qualified(structure, observable) == name:
                    return sensitivity.supported_error(observable, parameter, logarithmic)
        of = self.formulas[name]
        error = sum(
            abs(slope) * self.supported_error(part.name, parameter)
            for slope, part in zip(of.expansion.slopes.tolist(), of.formula.parts, strict=True)
        )
        if logarithmic:
            return error * abs(self.parameters[parameter]) / (abs(of.value) or np.nan)
        return float(error)


def study_sensitivity(
    structures: Mapping[str, Sensitivity], formulas: tuple[Formula, ...]
) -> StudySensitivity:
    """The derivatives of a study, from those of its structures.

    Arguments:
        structures: those of each structure, by its name.
        formulas: what to compute from their observables.

    Returns:
        The StudySensitivity.

    Raises:
        InputError: a formula divides by zero, or is not finite.
    """
    atoms = {name: of.equilibrium.system.atom_count for name, of in structures.items()}
    known: dict[str, Known] = {}
    for structure, of in structures.items():
        for name, value in of.observed.items():
            if np.ndim(value) == 0:
                known[qualified(structure, name)] = Known(
                    float(value),
                    float(of.value_errors[name]),
                    {parameter: float(d) for parameter, d in of[name].items()},
                    {parameter: float(e) for parameter, e in of.errors[name].items()},
                )
    parameters = next(iter(structures.values())).parameters
    found = {f.name: formula_sensitivity(f, known, atoms, parameters) for f in formulas}
    return StudySensitivity(dict(structures), found)


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a part of a formula.

    Attributes:
        value: its value.
        error: absolute error of the value.
        derivatives: its derivative in each parameter.
        errors: absolute error of each.
    """

    value: float
    error: float
    derivatives: dict[str, float]
    errors: dict[str, float]


def formula_sensitivity(
    formula: Formula,
    parts: Mapping[str, Known],
    atoms: Mapping[str, int],
    parameters: Mapping[str, float],
) -> FormulaSensitivity:
    """The value of a formula, its derivatives, and their errors, see `FormulaSensitivity`.

    Arguments:
        formula: the formula.
        parts: what is known of observables, by their names.
        atoms: numbers of atoms of the structures, by their names.
        parameters: names and values of the parameters.

    Returns:
        The FormulaSensitivity.

    Raises:
        InputError: the formula divides by zero, or is not finite.
    """
    given = [parts[part.name] for part in formula.parts]
    values = {part.name: of.value for part, of in zip(formula.parts, given, strict=True)}
    off = {part.name: of.error for part, of in zip(formula.parts, given, strict=True)}
    expansion = formula.expand(values, atoms, off)
    slopes, curvatures = np.abs(expansion.slopes), np.abs(expansion.curvatures)
    uncertain = np.array([of.error for of in given])
    derivatives, errors = {}, {}
    for parameter in parameters:
        changes = np.array([of.derivatives[parameter] for of in given])
        derivatives[parameter] = float(expansion.slopes @ changes)
        errors[parameter] = _sum(
            slopes * np.array([of.errors[parameter] for of in given]),
            (curvatures @ uncertain) * np.abs(changes),
            _rounding(slopes * changes),
        )
    error = _sum(slopes * uncertain, np.array(expansion.rounding))
    return FormulaSensitivity(formula, expansion, error, derivatives, errors, dict(parameters))


def _sum(*terms: Float[np.ndarray, "..."]) -> float:
    return float(sum(np.abs(term).sum() for term in terms))


def _rounding(terms: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    return len(terms) * np.finfo(float).eps * np.abs(terms)
