"""The shape of results.json: its keys, what each may be, and which must agree."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mdsens.digits import is_zero
from mdsens.errors import InputError
from mdsens.files import read_bytes
from mdsens.study.column_names import vector_name
from mdsens.study.messages import from_pydantic
from mdsens.study.model import PlainName

RESULTS_NAME = "results.json"
#: Version of the layout of results.json.
SCHEMA = 2
#: A file larger than this holds no results, bytes.
LARGEST_RESULTS = 1_000_000_000

Number = float | None
#: What an observable or a derivative is: null stands for numbers that are not finite.
Value = Number | list[Number] | list[list[Number]] | list[list[list[Number]]]
#: By observable, then by parameter.
ByBoth = dict[str, dict[str, Value]]
_Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A part of results.json; keys that it does not know are kept, and nobody reads them."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)


class UnitNames(Section):
    """The units of everything."""

    system: Literal["ase", "reduced"]
    energy: str
    largest_force: str
    fmax: str
    largest_stress: str | None = None
    smax: str | None = None
    length: str
    lowest_eigenvalue: str
    parameters: dict[str, str]
    sensitivities: dict[str, dict[str, str]]
    vectors: dict[str, str]
    cell_derivatives: dict[str, str] | None = None
    timing: Literal["s"]


class ObservedValue(Section):
    """An observable: its value, absolute error, unit, and names of its entries."""

    value: Value
    error: Value = None
    units: str
    labels: list[str] | None = None


class CertificateSection(Section):
    """What is known about the relaxed structure."""

    lowest_eigenvalue: Number
    lowest_eigenvalue_estimated: bool
    null_modes: _Count
    null_modes_by_kind: dict[str, _Count]
    linear_residual: Number
    derivative_error: Number
    derivative_error_rough: bool = False
    linear_solver: str | None


class Start(Section):
    """One random start of an ensemble."""

    seed: int
    kind: Literal["minimum", "saddle", "unconverged"]
    converged: bool
    largest_force: Number
    rattlers: _Count
    implicit_norm: Number
    finite_difference_error: Number
    unrolled_norms: dict[str, Number]
    rattler_norms: dict[str, Number]
    distances: dict[str, Number]


class EnsembleUnits(Section):
    """Units of an ensemble."""

    norms: str
    largest_force: str


class EnsembleSection(Section):
    """What an ensemble of random starts has shown."""

    parameter: str
    minimiser: str
    steps: int
    marks: Annotated[list[int], Field(min_length=1)]
    units: EnsembleUnits
    starts: list[Start]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        marks = {str(mark) for mark in self.marks}
        for start in self.starts:
            for found in (start.unrolled_norms, start.rattler_norms, start.distances):
                _require_same("starts", found, marks)
        return self


class EnergyVolumeSection(Section):
    """Energies per atom against volumes per atom."""

    volumes: Annotated[list[float], Field(min_length=3)]
    energies: list[float]
    pressures: list[float]
    derivatives: dict[str, list[float]]
    parameters: dict[str, float]
    relaxed_volume: float
    relaxed_energy: float
    units: dict[str, str]
    uncertainty: float | dict[str, float]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _require_same("energy_volume.parameters", self.parameters, self.derivatives)
        named = {"volume", "energy", "pressure", *self.derivatives}
        _require_same("energy_volume.units", self.units, named)
        for numbers in (self.energies, self.pressures, *self.derivatives.values()):
            if len(numbers) != len(self.volumes):
                raise ValueError("energy_volume: lists of different lengths")
        if any(a >= b for a, b in itertools.pairwise(self.volumes)):
            raise ValueError("energy_volume: volumes that do not increase")
        return self


class PhononBandsSection(Section):
    """Frequencies along a path of wave vectors."""

    distances: Annotated[list[float], Field(min_length=2)]
    vectors: list[list[float]]
    labels: list[tuple[float, str]]
    frequencies: list[list[float]]
    derivatives: dict[str, list[list[float]]]
    parameters: dict[str, float]
    units: dict[str, str]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _require_same("phonon_bands.parameters", self.parameters, self.derivatives)
        _require_same("phonon_bands.units", self.units, {"distance", "frequency", *self.parameters})
        count, bands = len(self.distances), {len(self.frequencies[0])} if self.frequencies else {0}
        for rows in (self.frequencies, *self.derivatives.values()):
            if len(rows) != count or {len(row) for row in rows} != bands:
                raise ValueError("phonon_bands: lists of different lengths")
        if len(self.vectors) != count or len({len(vector) for vector in self.vectors}) != 1:
            raise ValueError("phonon_bands: lists of different lengths")
        if any(a > b for a, b in itertools.pairwise(self.distances)):
            raise ValueError("phonon_bands: distances that decrease")
        return self


class StructureSection(Section):
    """What is said of a relaxed structure."""

    energy: Number
    largest_force: Number
    fmax: float
    largest_stress: Number | None = None
    smax: float | None = None
    converged: bool
    stable: bool
    kind: Literal["minimum", "saddle", "unconverged"]
    steps: _Count
    atoms: Annotated[int, Field(gt=0)]
    dimension: Literal[2, 3]
    cell: list[list[float]]
    pbc: list[bool]
    certificate: CertificateSection
    cell_derivatives: dict[str, list[list[Number]]] | None = None
    diameters: dict[str, float]
    energy_volume: EnergyVolumeSection | None = None
    phonon_bands: PhononBandsSection | None = None


class StudySection(Section):
    """What is said of a study, whatever structures it has."""

    layout: Annotated[Literal[2], Field(alias="schema")]
    study: str
    description: str
    units: UnitNames
    parameters: dict[str, float]
    observables: dict[str, ObservedValue]
    sensitivities: ByBoth
    sensitivity_errors: ByBoth | None = None
    logarithmic_sensitivities: ByBoth
    logarithmic_sensitivity_errors: ByBoth | None = None
    formulas: dict[str, str] | None = None
    timing: dict[str, float]
    vectors: dict[str, str]
    mode: str
    logarithmic: bool
    versions: dict[str, str]
    fingerprint: str | None = None

    @property
    def _each(self) -> Iterable[StructureSection]:
        """The structures."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        units = self.units
        for name, by_parameter in (
            ("vectors", self.vectors),
            ("units.parameters", units.parameters),
            ("units.vectors", units.vectors),
        ):
            _require_same(name, by_parameter, self.parameters)
        for structure in self._each:
            if structure.cell_derivatives is not None:
                _require_same("cell_derivatives", structure.cell_derivatives, self.parameters)
                named = units.cell_derivatives or {}
                _require_same("units.cell_derivatives", named, self.parameters)
        for name, by_both in (
            ("sensitivities", self.sensitivities),
            ("sensitivity_errors", self.sensitivity_errors),
            ("logarithmic_sensitivities", self.logarithmic_sensitivities),
            ("logarithmic_sensitivity_errors", self.logarithmic_sensitivity_errors),
            ("units.sensitivities", units.sensitivities),
        ):
            # Runs of earlier releases have told no errors.
            if by_both is None:
                continue
            _require_same(name, by_both, self.observables)
            for inner in by_both.values():
                _require_same(name, inner, self.parameters)
        for parameter, column in self.vectors.items():
            if column != vector_name(parameter):
                raise ValueError(f"vectors: {column!r} is no column of {parameter!r}")
        for name in self.formulas or {}:
            if name not in self.observables:
                raise ValueError(f"formulas: {name!r} is not among the observables")
        return self


class Results(StructureSection, StudySection):
    """A results.json of one structure as a whole."""

    ensemble: EnsembleSection | None = None

    @property
    def _each(self) -> Iterable[StructureSection]:
        return [self]


class CompositeResults(StudySection):
    """A results.json of several structures, by their names, as a whole."""

    converged: bool
    stable: bool
    kind: Literal["minimum", "saddle", "unconverged"]
    structures: Annotated[dict[PlainName, StructureSection], Field(min_length=1)]

    @property
    def _each(self) -> Iterable[StructureSection]:
        return self.structures.values()


class _Head(Section):
    """A results.json of which only the keys are known."""


def _require_same(name: str, found: Any, expected: Any) -> None:
    if set(found) != set(expected):
        raise ValueError(f"{name}: names {sorted(found)} where {sorted(expected)} are expected")


def read_results(folder: Path) -> dict[str, Any]:
    """The results of a finished run.

    Arguments:
        folder: the folder of the run.

    Returns:
        What its results.json holds, checked.

    Raises:
        InputError: the folder is missing, or its results.json is none of mdsens, is damaged, or
            of another version.
    """
    advice = "give the folder that `mdsens run` wrote"
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise InputError(f"{str(folder)!r} holds no results of mdsens: {advice}")
    content = read_bytes(path, LARGEST_RESULTS)
    model: type[Results] | type[CompositeResults] = Results
    try:
        # Which of the two it is shows in one key, and whether it is JSON at all shows here.
        if "structures" in (_Head.model_validate_json(content).model_extra or {}):
            model = CompositeResults
        return model.model_validate_json(content).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError as error:
        reason = from_pydantic(error, model)
        raise InputError(
            f"{str(folder)!r} holds no results of this version of mdsens: {RESULTS_NAME}: "
            f"{reason}; {advice}, or run the study again"
        ) from None


def structures_of(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What results.json says of each structure.

    Arguments:
        results: what results.json holds.

    Returns:
        By name; that of a study of one structure has an empty one, and all keys of the results.
    """
    found: dict[str, dict[str, Any]] = results.get("structures", {"": results})
    return found


def vanishing_observables(results: Mapping[str, Any]) -> list[str]:
    """The observables of which a number is zero within its error, so that it has no logarithm.

    Arguments:
        results: what results.json holds.

    Returns:
        Their names.
    """
    return [
        name
        for name, given in results["observables"].items()
        if np.any(
            is_zero(
                np.array(given["value"], float),
                np.nan if given.get("error") is None else np.array(given["error"], float),
            )
        )
    ]
