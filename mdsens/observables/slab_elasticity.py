"""Elastic constants of slabs, for strains in their plane."""

import functools
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.elasticity import stress_strain_coefficients
from mdsens.observables.elasticity import (
    asked_of_strains,
    displacements_of_ions,
    named,
    nearly_displacements_of_ions,
)
from mdsens.observables.observable import Observable
from mdsens.particles.constraints import require_unconstrained
from mdsens.relaxation import Equilibrium
from mdsens.units import size_of_unit
from mdsens.values import boolean, is_traced
from mdsens.voigt import VOIGT_INDICES

#: Lattice vectors that leave the plane of two axes by less than this part of their length do not.
FLAT = 1e-8


def slab_elastic_constants(relaxed_ions: bool = True) -> Observable:
    """Elastic constants of a slab for strains in its plane: forces per length, not per area.

    The derivative of the force per length of its edge, stress times thickness, in a strain of its
    plane: it has a unit without saying how thick a slab of a few atoms is. Over a thickness they
    are those of a plate with no load across it, as its ions relax across too. Under a tension in
    the plane they are the stress-strain coefficients, as of `elastic_constants`.

    Arguments:
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable: (3, 3) in N/m in ASE's units, xx yy xy where z is not periodic, xx zz xz or
        yy zz yz where y or x is not.

    Raises:
        InputError: when it is evaluated: the system is not periodic in two of three directions, its
            plane is not that of these two axes, or it is no minimum.
    """
    return _slab_constants(boolean(relaxed_ions, "slab_elastic_constants: relaxed_ions"))


@functools.cache
def _slab_constants(relaxed: bool) -> Observable:
    name = named("slab_elastic_constants", relaxed)

    def value(equilibrium: Equilibrium, displacements: Any = None) -> Float[Array, "3 3"]:
        system = equilibrium.system
        axes = np.flatnonzero(system.pbc)
        given = equilibrium.curvature_in_strain(displacements), equilibrium.mechanics[2]
        curvature, virial, cell = in_numpy((*given, system.cell))
        within, plane = virial[np.ix_(axes, axes)], cell[np.ix_(axes, axes)]
        area = array_module(cell).abs(array_module(cell).linalg.det(plane))
        components = list(zip(*VOIGT_INDICES[3], strict=True))
        places = [
            components.index((axes[i], axes[j])) for i, j in zip(*VOIGT_INDICES[2], strict=True)
        ]
        curvature = curvature[np.ix_(places, places)]
        tension = (within + within.T) / (2.0 * area)
        found = stress_strain_coefficients(curvature, tension, area)
        return on_device(found / size_of_unit("planar modulus", system.units))

    def require(equilibrium: Equilibrium) -> None:
        require_unconstrained(equilibrium.system.constraints, name)
        _require_slab(name, equilibrium)

    if not relaxed:
        return Observable(name, "planar modulus", value, require=require, asks=asked_of_strains)
    return Observable(
        name, "planar modulus", value, stationary=displacements_of_ions, require=require,
        nearly=nearly_displacements_of_ions, asks=asked_of_strains,
    )  # fmt: skip


def _require_slab(name: str, equilibrium: Equilibrium) -> None:
    """Raise InputError for what is not a slab in the plane of two axes."""
    system = equilibrium.system
    if system.dimension != 3 or sum(system.pbc) != 2:
        raise InputError(
            f"{name} with pbc = {system.pbc}: a slab is periodic in two of three directions; of "
            "what is periodic in every direction take elastic_constants()"
        )
    if is_traced(system.cell):
        return
    lattice = np.asarray(system.cell)[np.flatnonzero(system.pbc)]
    across = int(np.flatnonzero(~np.array(system.pbc))[0])
    if np.abs(lattice[:, across]).max() > FLAT * np.linalg.norm(lattice, axis=1).min():
        raise InputError(
            f"{name}: the periodic lattice vectors leave the plane across {'xyz'[across]}: turn "
            "the slab so that they lie in it"
        )
