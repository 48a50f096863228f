"""The method "auto": L-BFGS until the forces are small, then Newton steps with the Hessian.

Large crystals relax by L-BFGS with the average of their Hessian over the lattice first.
"""

import dataclasses
from typing import Any

from mdsens.mechanics.hessian_solver import hessian_fits
from mdsens.mechanics.lattice_model import suits_lattice_model
from mdsens.minimisers.contact_lbfgs import ContactLBFGS, suits_contact_list
from mdsens.minimisers.lattice_lbfgs import LatticeLBFGS
from mdsens.minimisers.lbfgs import LBFGS
from mdsens.minimisers.newton import Newton
from mdsens.minimisers.preconditioned_lbfgs import PreconditionedLBFGS
from mdsens.potentials.potential import Potential
from mdsens.relaxation.checkpoint import Leg
from mdsens.relaxation.driver import Descent

#: Newton's method is tried from this fraction of the first typical force on; and where particles
#: only push, later, for their contacts still change (8,192 discs, mean of five random starts: from
#: 1e-3 on 7 Newton steps and 1,850 evaluations of the forces, from 1e-4 on 5 and 1,740).
NEWTON_FRACTION, CONTACT_NEWTON_FRACTION = 5e-3, 1e-4
#: Far from the minimum a long memory costs more than it tells.
SHORT_HISTORY = 8
#: Steps of L-BFGS that are tried at last where Newton's method finds no way down.
LAST_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Automatic:
    """When one minimiser gives way to the other; numbers may be traced.

    Newton's method is tried when the largest force is a small fraction of the typical one of the
    beginning (the largest of that grows with the system), and taken as long as each step at least
    halves it; else L-BFGS goes on for another factor of 10.

    Attributes:
        first: L-BFGS with a short history.
        last: L-BFGS with its usual one, for where there is no Hessian or it finds no way down.
        fraction: largest force, over the typical one of the beginning, to try Newton's method at.
    """

    first: LBFGS
    last: LBFGS
    fraction: float

    def first_target(self, typical: Any) -> Any:
        """The force to try Newton's method at, from the first typical one; energy/length."""
        return self.fraction * typical

    def goes_on(self, before: Any, force: Any) -> Any:
        """Whether another Newton step is worth it, after one that led to this largest force."""
        return force <= 0.5 * before

    def next_target(self, force: Any) -> Any:
        """The largest force to try Newton's method at again, energy/length."""
        return 0.1 * force


def automatic(potential: Potential, max_step: float) -> Automatic:
    """The policy for a potential; `max_step` is the largest move of an atom in one trial."""
    fraction = CONTACT_NEWTON_FRACTION if potential.contact else NEWTON_FRACTION
    first = LBFGS(max_step=max_step, history=SHORT_HISTORY)
    return Automatic(first, LBFGS(max_step=max_step), fraction)


def descend_automatically(descent: Descent, max_step: float) -> Leg:
    """Relax by the policy on the host.

    What may be a large crystal is tried with the average over its lattice first, and goes on by the
    policy where that gives up. L-BFGS alone where there is no memory for the Hessian,
    preconditioned L-BFGS alone where each product with it takes long.
    """
    if descent.landscape.potential.made_by_calls:
        # The fewest calls: what was fitted to some serves many steps.
        return descent.run(PreconditionedLBFGS(max_step=max_step), descent.fmax, descent.max_steps)
    policy = automatic(descent.landscape.potential, max_step)
    if suits_contact_list(descent.landscape):
        # Its steps are so cheap that a Newton step is worth no fewer than hundreds of them.
        leg = descent.run(ContactLBFGS(max_step=max_step), descent.fmax, descent.max_steps)
        if leg.left <= descent.fmax or leg.steps >= descent.max_steps:
            return leg
    leg = descent.run(policy.first, descent.fmax, 0)
    target = policy.first_target(leg.typical_force)
    if leg.left > descent.fmax and suits_lattice_model(descent.landscape):
        leg = descent.run(LatticeLBFGS(max_step=max_step), descent.fmax, descent.max_steps)
        if leg.left <= descent.fmax or leg.steps >= descent.max_steps:
            return leg
    if leg.left > descent.fmax and not hessian_fits(descent.landscape):
        return descent.run(policy.last, descent.fmax, descent.max_steps)
    while True:
        leg = descent.run(policy.first, max(target, descent.fmax), descent.max_steps)
        before = force = leg.left
        goes_on = True
        while goes_on and descent.fmax < force and leg.steps < descent.max_steps:
            leg = descent.run(Newton(max_step=max_step), descent.fmax, 1)
            before, force = force, leg.left
            goes_on = policy.goes_on(before, force)
        if force <= descent.fmax or leg.steps >= descent.max_steps:
            return leg
        if leg.stalled and not goes_on:
            leg = descent.run(policy.last, descent.fmax, LAST_STEPS)
            if leg.stalled or leg.steps >= descent.max_steps:
                return leg
        target = policy.next_target(force)
