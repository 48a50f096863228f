"""energy_volume: the energy of a crystal against its volume, and how the curve changes."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mdsens.compilation import compiled
from mdsens.errors import InputError, MdsensWarning
from mdsens.mechanics import require_volume
from mdsens.mechanics.energy import energy
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Equilibrium, relax
from mdsens.sensitivities.arguments import asked_parameters
from mdsens.units import in_dimensions, quotient_unit_name, unit_name
from mdsens.values import instance, integer, real, shown

#: Fewest points of a curve.
FEWEST_POINTS = 3


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


def energy_volume(
    equilibrium: Equilibrium,
    strain: float = 0.03,
    points: int = 9,
    wrt: str | Iterable[str] | None = None,
) -> EnergyVolume:
    """The energy of a crystal against its volume under isotropic strain, with relaxed ions.

    At a minimum the energy changes with a parameter as if no ion moved (H. Hellmann (1937), R. P.
    Feynman, Phys. Rev. 56, 340 (1939)): the derivatives take no linear solve.

    Arguments:
        equilibrium: a relaxed crystal, from which all strains are told.
        strain: the largest strain of each length, to both sides.
        points: number of volumes, evenly spread over strains.
        wrt: names of parameters of the potential, e.g. ``["sigma"]``; None: all; []: none.

    Returns:
        The EnergyVolume.

    Raises:
        InputError: it is no relaxed structure that is periodic in every direction, an unknown
            parameter, a strain or a number of points that is not allowed, or a strain in which the
            ions do not relax.
        RelaxationError: energy or forces are not finite in a strained cell.
    """
    instance(equilibrium, "equilibrium", Equilibrium, "an Equilibrium, as from mdsens.relax")
    strain = real(strain, "energy_volume: strain", above=0.0, below=0.5)
    points = integer(points, "energy_volume: points", at_least=FEWEST_POINTS)
    potential, system = equilibrium.potential, equilibrium.system
    # An empty list is a curve without derivatives.
    asked = [] if wrt is not None and not len(list(wrt)) else asked_parameters(wrt)
    names = [] if asked == [] else potential.expand_parameter_names(asked)
    require_periodic(system.pbc)
    require_volume(system, "energy_volume")
    strains = np.linspace(-strain, strain, points)
    # With the same neighbours in every cell, all of them take the same programs.
    range_ = float(potential.interaction_range)
    reach = 1.02 * range_ / (1.0 - strain)
    cells = [_in_cell(equilibrium, one, reach * (1.0 + one) - range_) for one in strains]
    count = system.atom_count
    gradients = [compiled_parameter_gradient(c.system, potential, c.edge_list) for c in cells]
    derivatives = {
        name: np.array([float(potential.derivative(one, name)) for one in gradients]) / count
        for name in names
    }
    dimension, units = system.dimension, system.units
    measured = {name: potential.parameter_dimension(name) for name in names}
    return EnergyVolume(
        volumes=np.array([float(c.volume) for c in cells]) / count,
        energies=np.array([float(c.energy) for c in cells]) / count,
        pressures=np.array([float(c.pressure) for c in cells]),
        derivatives=derivatives,
        parameters={name: potential.parameters[name] for name in names},
        relaxed_volume=float(equilibrium.volume) / count,
        relaxed_energy=float(equilibrium.energy) / count,
        units={
            "volume": unit_name(in_dimensions("volume", dimension), units),
            "energy": unit_name("energy", units),
            "pressure": unit_name(in_dimensions("energy/volume", dimension), units),
            **{name: quotient_unit_name("energy", of, units) for name, of in measured.items()},
        },
    )


def require_periodic(pbc: Iterable[bool]) -> None:
    """Raise InputError for what has no volume of its own.

    Arguments:
        pbc: which directions are periodic.

    Raises:
        InputError: not every one is.
    """
    periodic = tuple(pbc)
    if not all(periodic):
        raise InputError(
            f"energy_volume with pbc = {periodic}: energies against volumes are those of a body "
            "that is periodic in every direction"
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


def _in_cell(equilibrium: Equilibrium, strain: float, skin: float) -> Equilibrium:
    """The ions relaxed in a cell of another size."""
    system = equilibrium.system
    scaled = system.with_cell(np.asarray(system.cell) * (1.0 + strain), scale_positions=True)
    with warnings.catch_warnings():
        # On their way shells of neighbours pass any switch.
        warnings.simplefilter("ignore", MdsensWarning)
        found = relax(scaled, equilibrium.potential, fmax=equilibrium.fmax, skin=skin)
    if not found.converged:
        raise InputError(
            f"energy_volume: at a strain of {strain:.3g} the ions do not relax to {found.fmax:g}: "
            "give a smaller strain"
        )
    return found


@compiled
def compiled_parameter_gradient(
    system: System, potential: Potential, edge_list: EdgeList
) -> Potential:
    """dE/dtheta while nothing moves, in the shape of the potential."""
    return jax.grad(lambda potential: energy(system, potential, edge_list))(potential)
