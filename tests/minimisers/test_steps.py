"""The contract of the loops of steps: how a relaxation stands, and what has gone wrong."""

import cases
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.minimisers import GradientDescent, first_state
from mdsens.minimisers.steps import Bounds, Outcome, failure, outlook, trial_fraction, within_skin
from mdsens.potentials import SoftSphere
from mdsens.relaxation.driver import Descent

DESCENT = Descent(cases.dimer(), cases.POTENTIALS["lj-smooth"], None, 1e-8, max_steps=100)
STATE = first_state(GradientDescent(), DESCENT.landscape, DESCENT.q)


def seen(state=STATE, fmax=1e-8, step_limit=5, allowed=0.1, steps=2, moved=0.0):
    bounds = Bounds(jnp.asarray(fmax), jnp.asarray(step_limit), jnp.asarray(allowed))
    reference = DESCENT.q.at[0, 0].add(moved)
    return outlook(DESCENT.landscape, state, reference, jnp.asarray(steps), bounds)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({}, Outcome.GOING),
        ({"fmax": 1e3}, Outcome.CONVERGED),
        ({"steps": 5}, Outcome.OUT_OF_STEPS),
        ({"state": eqx.tree_at(lambda s: s.stalled, STATE, jnp.asarray(True))}, Outcome.STALLED),
        ({"state": eqx.tree_at(lambda s: s.gradient, STATE, STATE.gradient * jnp.nan),
          "fmax": 1e3}, Outcome.NOT_FINITE),
        ({"state": eqx.tree_at(lambda s: s.enthalpy, STATE, jnp.asarray(jnp.inf)),
          "fmax": 1e3}, Outcome.NOT_FINITE),
    ],
)  # fmt: skip
def test_a_relaxation_stands_as_its_state_and_its_bounds_say(given, outcome):
    found = seen(**given)
    assert int(found.outcome) == outcome
    assert bool(found.unfinished) == bool(found.due) == (outcome == Outcome.GOING)


def test_edges_are_outdated_once_two_atoms_may_have_come_nearer_than_allowed():
    assert not seen(moved=0.049).outdated
    outdated = seen(moved=0.051)
    assert outdated.outdated
    assert outdated.unfinished
    assert not outdated.due


def test_trial_moves_stay_within_the_skin():
    minimiser, allowed = within_skin(GradientDescent(max_step=5.0), 1.0)
    assert 0 < minimiser.trial_distance < 0.5
    np.testing.assert_allclose(allowed + 2 * minimiser.trial_distance, 1.0)


def test_particles_that_only_push_are_moved_little_within_a_long_skin():
    discs, crystal = SoftSphere(1.0, 1.0), cases.POTENTIALS["lj-smooth"]
    farthest = {}
    for name, potential in (("discs", discs), ("crystal", crystal)):
        search = potential.edge_search(mdsens.System([[0.0, 0.0]]), None)
        skin = float(search.skin) / float(search.cutoff)
        minimiser, _ = within_skin(GradientDescent(max_step=5.0), skin, trial_fraction(potential))
        farthest[name] = skin, float(minimiser.trial_distance)
    assert farthest["discs"][0] > 2 * farthest["crystal"][0]
    # In diameters: what L-BFGS packs discs with in the fewest evaluations.
    assert 0.01 < farthest["discs"][1] < 0.03


def test_what_has_gone_wrong_is_said_of_the_atoms_that_it_happened_to():
    q, gradient = np.zeros((3, 3)), np.zeros((3, 3))
    assert failure(q, q, 0.0, gradient, 7, 1.0, 3) is None
    gradient[1, 2] = np.nan
    assert "after 7 steps, on atoms [1]" in failure(q, q, 0.0, gradient, 7, 1.0, 3)
    away = q.copy()
    away[2, 0] = 2e3
    assert "atom 2 has moved by 2e+03 after 7 steps" in failure(away, q, 0.0, q, 7, 1.0, 3)
