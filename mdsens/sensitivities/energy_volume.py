"""energy_volume: the energy of a crystal against its volume, and how the curve changes."""

import warnings
from collections.abc import Iterable

import jax
import numpy as np

from mdsens.compilation import compiled
from mdsens.curves import EnergyVolume
from mdsens.errors import InputError, MdsensWarning
from mdsens.mechanics import require_volume
from mdsens.mechanics.energy import energy
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Equilibrium, relax
from mdsens.sensitivities.arguments import asked_parameters
from mdsens.units import in_dimensions, quotient_unit_name, unit_name
from mdsens.values import instance, integer, real

#: Fewest points of a curve.
FEWEST_POINTS = 3


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
