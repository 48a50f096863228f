"""Whether the derivatives of a structure can be trusted."""

import numpy as np

from mdsens.errors import UnreliableDerivativeError
from mdsens.linalg.null_space import NULL_FRACTION
from mdsens.relaxation import Equilibrium
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.sensitivities.linear_response import linear_response


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
