"""Whether the derivatives of a structure can be trusted."""

from collections.abc import Mapping

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, Float, Int

from mdsens.arrays import on_device
from mdsens.errors import UnreliableDerivativeError, warn
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.observables.observable import Observable
from mdsens.relaxation import Equilibrium
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.sensitivities.linear_response import linear_response
from mdsens.sensitivities.noise import Noise
from mdsens.sensitivities.observed import Held, values_nearby
from mdsens.values import listing

#: How far what moves freely is moved to see what changes with it, as a part of the potential's
#: range, and the change that counts, relative to this and to the size of an observable.
MOVED, COUNTS = 1e-5, 1e-3


def require_reliable(equilibrium: Equilibrium) -> None:
    """Raise UnreliableDerivativeError, with the remedy, unless the structure is a minimum.

    Arguments:
        equilibrium: the relaxed structure.

    Raises:
        UnreliableDerivativeError: the structure is unconverged or a saddle, or its lowest
            eigenvalue is below zero by no more than what the forces that are left explain, or is
            none in a structure of which null modes are not looked for.
    """
    certificate = equilibrium.certificate
    override = "or pass allow_unconverged=True"
    if not certificate.converged:
        raise UnreliableDerivativeError(
            f"the structure is unconverged: {_left_over(equilibrium)}, {override}"
        )
    if certificate.stable:
        return
    if certificate.estimated:
        # Of structures that are not small, null modes that no symmetry explains are not looked for.
        stiffness = linear_response(equilibrium).stiffness
        if abs(certificate.lowest_eigenvalue) <= NULL_FRACTION * stiffness:
            raise UnreliableDerivativeError(
                f"a lowest eigenvalue of {certificate.lowest_eigenvalue:.1g} is none beside a "
                f"stiffness of {stiffness:.3g}: something moves freely, as a part that touches "
                "nothing does; fix or remove it (up to "
                f"{EIGENVECTOR_LIMIT:,} degrees of freedom, all of that is projected out)"
            )
    # A force that is left over an edge of length r bends what is floppy by F / r, of either sign.
    interaction_range = float(equilibrium.potential.interaction_range)
    left = 10.0 * certificate.largest_force / interaction_range
    if -certificate.lowest_eigenvalue <= left:
        raise UnreliableDerivativeError(
            f"a lowest eigenvalue of {certificate.lowest_eigenvalue:.3g} is no more than what a "
            f"force of {certificate.largest_force:.2e} leaves open; relax to a smaller fmax, "
            f"{override}"
        )
    raise UnreliableDerivativeError(
        f"the structure is a saddle: lowest eigenvalue {certificate.lowest_eigenvalue:.3g}; "
        f"displace the atoms a little and relax again, {override}"
    )


def warn_of_undetermined(
    equilibrium: Equilibrium,
    observables: tuple[Observable, ...],
    held: Held,
    values: Mapping[str, ArrayLike],
    errors: Mapping[str, ArrayLike],
    noise: Noise,
) -> None:
    """Warn of observables that change with rattlers or floppy modes, which nothing determines.

    Arguments:
        equilibrium: the relaxed structure.
        observables: what is asked of it.
        held: what they are stationary in there.
        values: of the observables, by name.
        errors: of these values, by name.
        noise: of the structure, which tells the sizes of observables.
    """
    moves, free = _free_motion(equilibrium)
    if not free or not observables:
        return
    q = on_device(np.asarray(equilibrium.q) + MOVED * noise.length * moves)
    moved = eqx.tree_at(
        lambda e: e.landscape,
        equilibrium.moved_little(q),
        equilibrium.landscape.with_rattlers_at(q),
    )
    there = values_nearby(observables, moved, held)
    for observable in observables:
        name = observable.name
        if changes_freely(observable, values[name], there[name], errors[name], noise):
            warn_of_free(name, free)


def changes_freely(
    observable: Observable, value: ArrayLike, there: ArrayLike, error: ArrayLike, noise: Noise
) -> bool:
    """Whether an observable changes along a `free_motion` of `MOVED` times the potential's range.

    Arguments:
        observable: what is observed.
        value: of the structure.
        there: of the structure that is moved, of the same shape.
        error: of the value.
        noise: of the structure, which tells the sizes of observables.

    Returns:
        True where it changes by more than its error and than motion of second order does.
    """
    change = np.abs(np.asarray(there) - np.asarray(value))
    least = COUNTS * MOVED * noise.size(observable, value)
    # What has no value there, NaN, changes too.
    return not (change <= np.maximum(least, np.asarray(error))).all()


def warn_of_free(what: str, free: str) -> None:
    """Warn that something changes with what nothing determines.

    Arguments:
        what: names of observables, and of structures where there are many.
        free: names of what moves freely.
    """
    warn(
        f"{what} changes with what nothing determines ({free}): its value and derivatives are a "
        "matter of convention, which no error counts; observe what does not change with it, or "
        "fix it"
    )


def free_motion(
    floppy: Float[np.ndarray, "R D"], floppy_count: int, rattlers: Int[np.ndarray, " K"]
) -> tuple[Float[np.ndarray, "R D"], str]:
    """A motion along all that is free, by at most 1 in any coordinate, and what that is.

    Arguments:
        floppy: shape (R, D), any combination of the floppy modes; zero where there are none.
        floppy_count: how many floppy modes there are.
        rattlers: indices of atoms that nothing holds.

    Returns:
        The motion, shape (R, D), and its name, empty where nothing is free.
    """
    moves, names = np.zeros(floppy.shape), []
    if floppy_count:
        moves += floppy / np.abs(floppy).max()
        names.append(f"{floppy_count} floppy mode{'s' * (floppy_count > 1)}")
    if len(rattlers):
        random = np.random.default_rng(0)
        moves[rattlers] = random.uniform(-1.0, 1.0, size=moves[rattlers].shape)
        names.append(f"rattler{'s' * (len(rattlers) > 1)} {listing(rattlers.tolist())}")
    return moves, " and ".join(names)


def _free_motion(equilibrium: Equilibrium) -> tuple[Float[np.ndarray, "R D"], str]:
    landscape, modes = equilibrium.landscape, equilibrium.certificate.floppy_vectors
    rattlers = np.flatnonzero(np.asarray(landscape.rattlers) & ~np.asarray(landscape.system.fixed))
    floppy = np.zeros(equilibrium.q.shape)
    if len(modes):
        floppy += np.tensordot(np.random.default_rng(0).normal(size=len(modes)), modes, 1)
    moves, free = free_motion(floppy, len(modes), rattlers)
    if landscape.motion is not None:
        count = landscape.system.atom_count
        moves[:count] = landscape.motion.allowed(moves[:count])
    return moves, free


def _left_over(equilibrium: Equilibrium) -> str:
    """What an unconverged structure has left, and the remedy."""
    certificate = equilibrium.certificate
    force, fmax = certificate.largest_force, certificate.fmax
    largest = float(np.abs(np.asarray(equilibrium.positions)).max())
    rounding = np.finfo(float).eps * largest * linear_response(equilibrium).stiffness
    if fmax < force <= rounding:
        return (
            f"largest force {force:.2e}, asked {fmax:.2e}, and about {force:.0e} is what rounding "
            f"leaves where coordinates are as large as {largest:.2g}; ask for a larger fmax, or "
            "begin with atoms nearer to the origin"
        )
    left = f"largest force {force:.2e}, asked {fmax:.2e}"
    if force <= fmax:
        left = f"largest stress {certificate.largest_stress:.2e}, asked {certificate.smax:.2e}"
    return (
        f"{left}, and derivatives there can have the wrong sign; relax with more steps (max_steps) "
        "or method='auto'"
    )
