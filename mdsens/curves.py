"""Curves that a crystal has: numbers and units, which whoever draws them reads without JAX."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.values import real, shown


@dataclasses.dataclass(frozen=True)
class EnergyVolume:
    """Energies per atom of a crystal in cells of other sizes, in which its ions are relaxed.

    Attributes:
        volumes: volume per atom, increasing, shape (P,), length^D.
        energies: energy per atom, shape (P,).
        pressures: -dE/dV, shape (P,), energy/length^D.
        derivatives: dE/dtheta per atom at constant volume by parameter, each of shape (P,).
        parameters: value of each parameter.
        relaxed_volume: volume per atom of the relaxed structure.
        relaxed_energy: its energy per atom.
        units: unit of ``"volume"``, ``"energy"``, ``"pressure"``, and of each derivative by the
            name of its parameter.
    """

    volumes: Float[np.ndarray, " P"]
    energies: Float[np.ndarray, " P"]
    pressures: Float[np.ndarray, " P"]
    derivatives: dict[str, Float[np.ndarray, " P"]]
    parameters: dict[str, float]
    relaxed_volume: float
    relaxed_energy: float
    units: dict[str, str]

    def uncertainty(self, relative: float | Mapping[str, float]) -> Float[np.ndarray, " P"]:
        """The first-order change of the energies with uncertain, independent parameters.

        The root of the sum over parameters of (u theta dE/dtheta)^2.

        Arguments:
            relative: u, the relative standard uncertainty of every parameter, or of those named.

        Returns:
            Shape (P,), energy per atom.

        Raises:
            InputError: a parameter of which the curve has no derivative, or no number that is not
                negative.
        """
        given = checked_uncertainty(relative, self.derivatives)
        changes = [u * self.parameters[name] * self.derivatives[name] for name, u in given.items()]
        return np.sqrt(np.sum(np.square(np.reshape(changes, (-1, len(self.volumes)))), axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers."""
        return {
            "volumes": self.volumes.tolist(),
            "energies": self.energies.tolist(),
            "pressures": self.pressures.tolist(),
            "derivatives": {name: of.tolist() for name, of in self.derivatives.items()},
            "parameters": dict(self.parameters),
            "relaxed_volume": self.relaxed_volume,
            "relaxed_energy": self.relaxed_energy,
            "units": dict(self.units),
        }

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> "EnergyVolume":
        """What `to_dict` gave."""
        lists = ("volumes", "energies", "pressures")
        return EnergyVolume(
            **{name: np.array(given[name], float) for name in lists},
            derivatives={name: np.array(of, float) for name, of in given["derivatives"].items()},
            parameters=dict(given["parameters"]),
            relaxed_volume=given["relaxed_volume"],
            relaxed_energy=given["relaxed_energy"],
            units=dict(given["units"]),
        )


@dataclasses.dataclass(frozen=True)
class PhononBands:
    """Frequencies of the vibrations of a crystal along a path of wave vectors.

    Attributes:
        distances: length of the path up to each wave vector, 1/length, with the factor 2 pi, shape
            (P,); where one comes twice, the path goes on elsewhere.
        vectors: wave vectors in the basis of the reciprocal lattice, shape (P, D).
        labels: distances and names of symmetric points.
        frequencies: ascending, negative where they are imaginary, shape (P, M).
        derivatives: df/dtheta through the relaxation, by parameter, each of shape (P, M).
        parameters: value of each parameter.
        units: unit of ``"distance"``, ``"frequency"``, and of each derivative by the name of its
            parameter.
    """

    distances: Float[np.ndarray, " P"]
    vectors: Float[np.ndarray, "P D"]
    labels: tuple[tuple[float, str], ...]
    frequencies: Float[np.ndarray, "P M"]
    derivatives: dict[str, Float[np.ndarray, "P M"]]
    parameters: dict[str, float]
    units: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers."""
        return {
            "distances": self.distances.tolist(),
            "vectors": self.vectors.tolist(),
            "labels": [list(label) for label in self.labels],
            "frequencies": self.frequencies.tolist(),
            "derivatives": {name: of.tolist() for name, of in self.derivatives.items()},
            "parameters": dict(self.parameters),
            "units": dict(self.units),
        }

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> "PhononBands":
        """What `to_dict` gave."""
        lists = ("distances", "vectors", "frequencies")
        return PhononBands(
            **{name: np.array(given[name], float) for name in lists},
            labels=tuple((at, name) for at, name in given["labels"]),
            derivatives={name: np.array(of, float) for name, of in given["derivatives"].items()},
            parameters=dict(given["parameters"]),
            units=dict(given["units"]),
        )


def checked_uncertainty(
    given: Any, parameters: Iterable[str], name: str = "uncertainty"
) -> dict[str, float]:
    """Relative uncertainties by parameter.

    Arguments:
        given: one for all parameters, or a table by parameter.
        parameters: names of all parameters.
        name: what they are called, for the message.

    Returns:
        By parameter; those that are not named are exact.

    Raises:
        InputError: an unknown parameter, or no number that is not negative.
    """
    known = list(parameters)
    if not isinstance(given, Mapping):
        return dict.fromkeys(known, real(given, name, at_least=0.0))
    for one in given:
        if one not in known:
            raise InputError(
                f"{name}: {shown(one)} is no parameter that is differentiated by; give some of "
                f"{', '.join(known)}"
            )
    return {one: real(value, f"{name}[{one}]", at_least=0.0) for one, value in given.items()}
