"""Energy, pressure, stress, volume and area."""

import functools
from typing import SupportsIndex

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdsens.errors import InputError
from mdsens.observables.observable import Observable, name_of
from mdsens.relaxation import Equilibrium
from mdsens.values import integer
from mdsens.voigt import COMPONENTS


@functools.cache
def energy() -> Observable:
    """Potential energy."""
    return Observable("energy", "energy", lambda equilibrium: equilibrium.energy, fills_from=1)


@functools.cache
def energy_per_atom() -> Observable:
    """Potential energy divided by the number of atoms."""
    return Observable(
        "energy_per_atom",
        "energy",
        lambda equilibrium: equilibrium.energy / equilibrium.system.atom_count,
    )


@functools.cache
def pressure() -> Observable:
    """Pressure, minus the mean of the normal stresses."""
    return Observable(
        "pressure", "energy/volume", lambda equilibrium: equilibrium.pressure, fills_from=1
    )


@functools.cache
def stress() -> Observable:
    """Stress in Voigt order (xx yy zz yz xz xy; xx yy xy in 2D), positive under tension."""
    return Observable(
        "stress",
        "energy/volume",
        lambda equilibrium: equilibrium.stress,
        labels=COMPONENTS[3],
        fills_from=1,
    )


@functools.cache
def volume() -> Observable:
    """Volume of the cell; its area in two dimensions."""
    return Observable("volume", "volume", lambda equilibrium: equilibrium.volume, fills_from=1)


def area(i: SupportsIndex = 0, j: SupportsIndex = 1) -> Observable:
    """Area that two vectors of the cell span, as of each surface of a slab: |a_i x a_j|.

    Arguments:
        i: index of one vector of the cell: 0, 1, or 2.
        j: index of the other.

    Returns:
        The Observable.

    Raises:
        InputError: no such vectors, or twice the same one; at a structure that does not repeat
            along both.
    """
    first = integer(i, "area: i", at_least=0, at_most=2)
    second = integer(j, "area: j", at_least=0, at_most=2)
    if first == second:
        raise InputError(f"area({first},{second}): give two different vectors of the cell")
    return _area(min(first, second), max(first, second))


@functools.cache
def _area(i: int, j: int) -> Observable:
    name = "area" if (i, j) == (0, 1) else name_of("area", i, j)

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        pbc = equilibrium.system.pbc
        for axis in (i, j):
            if axis >= len(pbc) or not pbc[axis]:
                others = [str(vector) for vector, repeats in enumerate(pbc) if repeats]
                give = f"give area({','.join(others)})" if len(others) == 2 else "leave it out"
                raise InputError(
                    f"{name}: the structure does not repeat along vector {axis} of its cell; {give}"
                )
        first, second = equilibrium.cell[i], equilibrium.cell[j]
        # Lagrange's identity, for vectors of two components and of three.
        across = (first @ first) * (second @ second) - (first @ second) ** 2
        return jnp.sqrt(across)

    return Observable(name, "length^2", value, fills_from=1)
