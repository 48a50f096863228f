"""phonon_bands: frequencies along a path through the Brillouin zone, and how they change."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from mdsens.curves import PhononBands
from mdsens.observables.vibrations import frequencies_of_waves
from mdsens.observables.waves import ListOfWaves
from mdsens.particles.masses import Masses
from mdsens.particles.system import System
from mdsens.particles.wave_paths import WavePath, wave_path
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities.arguments import asked_parameters
from mdsens.sensitivities.results import Sensitivity
from mdsens.sensitivities.sensitivity import sensitivity
from mdsens.units import quotient_unit_name, unit_name
from mdsens.values import instance, items

#: What it is called in messages.
NAME = "phonon_bands"


def phonon_bands(
    relaxed: Sensitivity | Equilibrium,
    path: Any = None,
    points: int = 100,
    wrt: str | Iterable[str] | None = None,
    masses: Any = None,
) -> PhononBands:
    """Frequencies of a crystal along a path through the Brillouin zone, and their derivatives.

    Those of `mdsens.observables.phonon_frequencies`, in one program for all wave vectors. They keep
    their places in the basis of the reciprocal lattice, which follows the cell.

    Arguments:
        relaxed: a relaxed crystal, or its Sensitivity.
        path: names of symmetric points as ASE has them, ``"GXWKGL"``, with a comma where the path
            goes on elsewhere; or pairs of names and wave vectors in the basis of the reciprocal
            lattice. None: the path that seekpath recommends for a crystal as it is given, Y. Hinuma
            et al., Comput. Mater. Sci. 128, 140 (2017).
        points: how many wave vectors, corners of the path included.
        wrt: names of parameters, e.g. ``["sigma"]``; None: all, or those of the Sensitivity; []:
            none.
        masses: as in `phonon_frequencies`.

    Returns:
        The PhononBands.

    Raises:
        InputError: what is not periodic, or not in each of three directions where there is no path;
            no path, an unknown name or parameter; fewer points than the path has corners; or as of
            `phonon_frequencies`.
        UnreliableDerivativeError: the structure is unconverged or unstable.
    """
    what = "an Equilibrium, as from mdsens.relax, or a Sensitivity"
    instance(relaxed, "relaxed", (Equilibrium, Sensitivity), what)
    several = items(wrt)
    if isinstance(relaxed, Sensitivity):
        known, equilibrium = True, relaxed.equilibrium
        several = list(relaxed.parameters) if wrt is None else several
    else:
        known, equilibrium = False, relaxed
    # An empty list is bands without derivatives.
    asked = [] if several == [] else asked_parameters(wrt if several is None else several)
    system = equilibrium.system
    along, waves = checked_path(system, path, points, masses)
    observable = frequencies_of_waves(NAME, waves)
    units = {"distance": unit_name("1/length", system.units),
             "frequency": unit_name("frequency", system.units)}  # fmt: skip
    derivatives: dict[str, Float[np.ndarray, "P M"]] = {}
    parameters: dict[str, float] = {}
    if asked == []:
        frequencies = np.asarray(observable(equilibrium))
    else:
        # Whoever has derivatives of a structure that is no minimum has asked for them.
        found = sensitivity(
            equilibrium, observable, asked, allow_unconverged=known, error_estimate=False
        )
        frequencies, parameters = np.asarray(found.observed[NAME]), dict(found.parameters)
        for name in parameters:
            derivatives[name] = np.asarray(found.derivatives[NAME][name])
            dimension = found.parameter_dimension(name)
            units[name] = quotient_unit_name("frequency", dimension, system.units)
    return PhononBands(
        distances=along.distances,
        vectors=along.vectors,
        labels=along.labels,
        frequencies=frequencies,
        derivatives=derivatives,
        parameters=parameters,
        units=units,
    )


def checked_path(
    system: System, path: Any, points: int, masses: Any = None
) -> tuple[WavePath, ListOfWaves]:
    """A path of wave vectors, and the waves that it stands for.

    Arguments:
        system: the crystal.
        path: as in `phonon_bands`.
        points: how many wave vectors.
        masses: as in `phonon_frequencies`.

    Returns:
        Both.

    Raises:
        InputError: as of `phonon_bands`.
    """
    along = wave_path(system, path, points)
    given = Masses.given(masses, f"{NAME}: masses")
    waves = ListOfWaves(given, tuple(map(tuple, along.vectors.tolist())))
    waves.require(system, NAME)
    return along, waves
