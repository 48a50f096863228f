"""Coordination and radial distribution, smooth in the positions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.observables.observable import Observable, bin_labels, name_of
from mdsens.particles import EdgeList, Edges, EdgeSearch, System, edge_blocks
from mdsens.potentials.pair import smooth_switch
from mdsens.relaxation import Equilibrium
from mdsens.values import integer, is_traced, real


def coordination(cutoff: float, width: float | None = None) -> Observable:
    """Mean number of neighbours, counted smoothly.

    A neighbour at distance r counts 1 up to cutoff - width/2, 0 from cutoff + width/2 on, and in
    between follows the quintic switch 1 - 10 t^3 + 15 t^4 - 6 t^5, twice differentiable.

    Arguments:
        cutoff: distance at which a neighbour counts one half, length.
        width: length over which the count falls from 1 to 0, at most twice the cutoff; a fifth of
            the cutoff by default.

    Returns:
        The Observable.

    Raises:
        InputError: no numbers, or not positive.
    """
    cutoff = real(cutoff, "coordination: cutoff", above=0.0)
    if width is not None:
        width = real(width, "coordination: width", above=0.0, at_most=2.0 * cutoff)
    return _coordination(cutoff, width)


@functools.cache
def _coordination(cutoff: float, width: float | None) -> Observable:
    spread = 0.2 * cutoff if width is None else width
    name = name_of("coordination", cutoff, width)

    def value(equilibrium: Equilibrium) -> Float[Array, ""]:
        edge_list = _edges_within(equilibrium.system, cutoff + spread / 2, name)
        total = _smooth_count(equilibrium.system, edge_list, cutoff, spread)
        return total / equilibrium.system.atom_count

    return Observable(name, "1", value, traceable=False)


def radial_distribution(r_max: float, bins: int = 50, width: float | None = None) -> Observable:
    """Radial distribution function g(r) at the centres of bins, smoothed by a Gaussian.

    g(r) = V / (N^2 s(r)) sum_{i != j} G(r - r_ij), with s(r) the surface of a sphere of radius r
    (M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids, 2nd ed., eq. 2.95) and G a
    Gaussian of the given width in the place of the delta function, so that g has derivatives.

    Arguments:
        r_max: where the last bin ends, length.
        bins: number of bins, up to a million.
        width: standard deviation of the Gaussian, length; one bin by default.

    Returns:
        The Observable.

    Raises:
        InputError: no numbers, or not positive.
    """
    r_max = real(r_max, "radial_distribution: r_max", above=0.0)
    bins = integer(bins, "radial_distribution: bins", at_least=1, at_most=1_000_000)
    if width is not None:
        width = real(width, "radial_distribution: width", above=0.0)
    return _radial_distribution(r_max, bins, width)


@functools.cache
def _radial_distribution(r_max: float, bins: int, width: float | None) -> Observable:
    centres = (np.arange(bins) + 0.5) * r_max / bins
    spread = r_max / bins if width is None else width
    # A Gaussian's tail beyond six standard deviations is below 1e-9 of its area.
    reach = r_max + 6.0 * spread
    default = (bins, width) == (50, None)
    name = name_of("radial_distribution", r_max, None if default else bins, width)

    def value(equilibrium: Equilibrium) -> Float[Array, " bins"]:
        system = equilibrium.system

        edge_list = _edges_within(system, reach, name)
        counts = _smooth_histogram(system, edge_list, jnp.asarray(centres), spread)
        surface = 2 * jnp.pi * centres if system.dimension == 2 else 4 * jnp.pi * centres**2
        density = system.atom_count / equilibrium.volume
        return counts / (system.atom_count * density * surface)

    return Observable(
        name,
        "1",
        value,
        labels=bin_labels("r", centres),
        traceable=False,
    )


@compiled
def _smooth_count(
    system: System, edge_list: EdgeList, cutoff: float, width: float
) -> Float[Array, ""]:
    def counts(edges: Edges) -> Float[Array, ""]:
        weight = smooth_switch((edges.distances - cutoff) / width + 0.5)
        return jnp.sum(jnp.where(edges.mask, weight, 0.0))

    return jnp.sum(edge_blocks(counts, system.positions, system.cell, system.species, edge_list))


@compiled
def _smooth_histogram(
    system: System, edge_list: EdgeList, centres: Float[Array, " bins"], width: float
) -> Float[Array, " bins"]:
    def histogram(edges: Edges) -> Float[Array, " bins"]:
        r = edges.distances

        def at(centre: Array) -> Array:
            weight = jnp.exp(-0.5 * ((centre - r) / width) ** 2)
            # Smoothly cut where it is negligible, so that no edge enters with a jump.
            weight = weight * smooth_switch((r - (edge_list.reach - width)) / width)
            return jnp.sum(jnp.where(edges.mask, weight, 0.0))

        return jax.lax.map(at, centres) / (width * jnp.sqrt(2 * jnp.pi))

    blocks = edge_blocks(histogram, system.positions, system.cell, system.species, edge_list)
    return jnp.sum(blocks, axis=0)


def _edges_within(system: System, reach: float, name: str) -> EdgeList:
    """Edges of a system whose positions may carry derivatives but must be numbers."""
    positions, cell = jax.lax.stop_gradient((system.positions, system.cell))
    if is_traced((positions, cell)):
        raise InputError(
            f"{name} counts pairs, which needs numbers: ask for it outside jit and vmap"
        )
    try:
        search = EdgeSearch(system.pbc, reach, with_reverse=False)
        return search.find(np.asarray(positions), np.asarray(cell))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
