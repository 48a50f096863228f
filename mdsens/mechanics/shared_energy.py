"""Energy, forces and virial on the host, of large systems by all cores, each of which has a share.

XLA runs the loop over blocks of atoms in one thread; here each core runs it for its share of them.
What a block gives depends on nothing but the block: forces are in every bit those of one core, and
the energy and the virial are sums over shares, in their order.
"""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import all_finite, on_device
from mdsens.compilation import of_array
from mdsens.mechanics.energy import (
    compiled_energy_and_forces,
    compiled_energy_and_slopes,
    compiled_energy_forces_virial,
    compiled_mechanics_once,
)
from mdsens.mechanics.filling import Filling, filling_of, serves_none_alone
from mdsens.modules import with_fields
from mdsens.particles.edges import FEWEST_SHARED, EdgeList, EdgeShare
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.resources import available_cores, on_all_cores

#: Energy, forces (N, D) and, where it is wanted, the virial (D, D) at positions (N, D), in NumPy.
Mechanics: TypeAlias = Callable[
    [Float[Any, "N D"]],
    tuple[Float[np.ndarray, ""], Float[np.ndarray, "N D"], Float[np.ndarray, "D D"] | None],
]


def mechanics_on_host(
    system: System, potential: Potential, edge_list: EdgeList, with_virial: bool = False
) -> Mechanics:
    """What evaluates a potential on the host, for one call or many.

    Arguments:
        system: N atoms in D dimensions; its positions are replaced.
        potential: the potential.
        edge_list: edges within its range, valid near there.
        with_virial: whether the virial is wanted.

    Returns:
        Energy, forces and virial as a function of positions.
    """
    shares = shares_of_cores(potential, edge_list)
    if shares:
        return _in_shares(system, potential, edge_list, shares, with_virial)
    whole = compiled_energy_forces_virial if with_virial else compiled_energy_and_forces
    filling = filling_of(system, potential, edge_list)
    if filling is not None:
        return _filled_up(filling, whole, system, potential, edge_list)
    at = of_array(whole, system.positions, system, potential, edge_list)

    def evaluate(positions: Float[Any, "N D"]) -> Any:
        # As it is: it is read before this returns.
        energy, forces, *virial = map(np.asarray, at(positions))
        return energy, forces, virial[0] if with_virial else None

    return evaluate


def _filled_up(
    filling: Filling,
    whole: Callable[..., Any],
    system: System,
    potential: Potential,
    edge_list: EdgeList,
) -> Mechanics:
    """`mechanics_on_host` by a program that serves structures of several sizes."""
    more = filling.system(system)
    at = of_array(whole, more.positions, more, potential, filling.edges(edge_list))

    def evaluate(positions: Float[Any, "N D"]) -> Any:
        energy, forces, *virial = map(np.asarray, at(filling.rows(positions)))
        found = energy, forces[: filling.count], virial[0] if virial else None
        if all_finite((forces, virial)) or not all_finite(positions):
            return found
        # Is it the atoms that fill up, which touch nothing?
        as_it_is = with_fields(system, positions=on_device(positions))
        energy, forces, *virial = map(np.asarray, whole(as_it_is, potential, edge_list))
        if np.isfinite(forces).all():
            serves_none_alone(potential)
        return energy, forces, virial[0] if virial else None

    return evaluate


def mechanics_at(
    system: System, potential: Potential, edge_list: EdgeList, seldom: bool = False
) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
    """Energy, forces and virial of one structure.

    Arguments:
        system: N atoms in D dimensions; JAX may trace it.
        potential: the potential.
        edge_list: all edges within its range.
        seldom: whether no relaxation has this program, so that it is made for the one call.

    Returns:
        Energy; forces, shape (N, D), energy/length; virial, shape (D, D), energy.
    """
    program = compiled_mechanics_once if seldom else compiled_energy_forces_virial
    filling = filling_of(system, potential, edge_list)
    if filling is None:
        return program(system, potential, edge_list)
    found = _filled_up(filling, program, system, potential, edge_list)(system.positions)
    energy, forces, virial = map(on_device, jax.tree.leaves(found))
    return energy, forces, virial


def shares_of_cores(potential: Potential, edge_list: EdgeList) -> list[EdgeShare]:
    """The blocks of atoms that each core goes over; none where one core takes less time.

    What embeds atoms in densities goes over all blocks twice, and what calls the host or has an
    energy of the whole structure is not made of blocks.

    Arguments:
        potential: the potential.
        edge_list: edges within its range.

    Returns:
        Shares of one shape, which one program serves.
    """
    cores = min(available_cores(), edge_list.neighbors.shape[0])
    alone = (
        cores < 2
        or edge_list.atom_count < FEWEST_SHARED
        or potential.in_two_passes
        or potential.of_structure
        or potential.made_by_calls
        or not potential.acts_along_edges
    )
    return [] if alone else edge_list.shares(cores)


def on_shares(
    function: Callable[..., Any],
    system: System,
    potential: Potential,
    shares: list[EdgeShare],
    *more: Any,
) -> Callable[[Float[Any, "N D"], Callable[[int, Any], Any]], list[Any]]:
    """A compiled function of each share of the edges, called by as many cores.

    Arguments:
        function: of system, potential and edges, compiled by `compiled`.
        system: N atoms; its positions are replaced.
        potential: the potential.
        shares: of the edges.
        more: further arguments.

    Returns:
        A function of positions (N, D), and of what is done with the number and the result of a
        share by the core that has it; it returns what that returns, in the order of the shares.
    """
    # Programs are made in this thread, which knows what is set in it.
    programs = [
        of_array(function, system.positions, system, potential, share, *more) for share in shares
    ]

    def evaluate(positions: Float[Any, "N D"], then: Callable[[int, Any], Any]) -> list[Any]:
        here, contexts = on_device(positions), [copy_context() for _ in shares]

        def of_share(share: int) -> Any:
            found = contexts[share].run(programs[share], here)
            return then(share, jax.tree.map(np.asarray, found))

        return on_all_cores(of_share, range(len(shares)))

    return evaluate


def _in_shares(
    system: System,
    potential: Potential,
    edge_list: EdgeList,
    shares: list[EdgeShare],
    with_virial: bool,
) -> Mechanics:
    from mdsens.mechanics.shared_energy_kernels import sum_over_ends

    count, dimension = system.positions.shape
    each, slots, size = shares[0].neighbors.shape
    atoms, edges = each * size, each * slots * size
    at = on_shares(compiled_energy_and_slopes, system, potential, shares, with_virial)
    reverse: Any = None if potential.pairwise else np.asarray(edge_list.reverse)

    def evaluate(positions: Float[Any, "N D"]) -> Any:
        forces = np.empty((count, dimension))
        slopes = np.empty((dimension, 0 if reverse is None else len(shares) * edges))

        def keep(share: int, found: Any) -> tuple[Any, Any]:
            energy, components, virial = found
            for axis, component in enumerate(components):
                if reverse is None:
                    own = forces[share * atoms : (share + 1) * atoms, axis]
                    own[:] = component.reshape(-1)[: len(own)]
                else:
                    slopes[axis, share * edges : (share + 1) * edges] = component.reshape(-1)
            return energy, virial

        def sum_share(share: int) -> None:
            sum_over_ends(share * each, (share + 1) * each, slopes, reverse, forces)

        energies, virials = zip(*at(positions, keep), strict=True)
        if reverse is not None:
            on_all_cores(sum_share, range(len(shares)))
        return np.asarray(sum(energies)), forces, sum(virials) if with_virial else None

    return evaluate
