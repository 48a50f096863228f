"""Nonlinear programs follow the contract of all solvers, and say so where no point is feasible."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.layers import InfeasibleError, NonlinearProgram
from mdsens.layers.nonlinear_program import NonlinearSolution


def total(x, area):
    return x["a"] + x["b"]


def disk(x, area):
    return x["a"] ** 2 + x["b"] ** 2 - area


DISK = NonlinearProgram(total, None, disk)
START = {"a": jnp.asarray(0.3), "b": jnp.asarray(-0.5)}


def test_updates_begin_anywhere_and_reach_the_closed_form():
    state = DISK.init_state(START, 2.0)
    assert state.iter_num == 0
    assert not state.converged
    params, state = DISK.update(START, state, 2.0)
    params, state = DISK.update(params, state, 2.0)
    assert state.converged
    np.testing.assert_allclose([params.primal["a"], params.primal["b"]], [-1, -1], atol=1e-12)
    np.testing.assert_allclose(params.dual_ineq, 0.5, atol=1e-12)


def test_conditions_vanish_at_the_closed_form_and_nowhere_else():
    minimum = {"a": jnp.asarray(-1.0), "b": jnp.asarray(-1.0)}
    half = jnp.asarray(0.5)
    assert DISK.l2_optimality_error(NonlinearSolution(minimum, None, half), 2.0) < 1e-15
    # The maximum is stationary too, with a multiplier of the wrong sign.
    maximum = {"a": jnp.asarray(1.0), "b": jnp.asarray(1.0)}
    assert DISK.l2_optimality_error(NonlinearSolution(maximum, None, -half), 2.0) == 0.5
    # Bounds that hold x back take over what the inequality had: 1 = the push of each lower bound.
    held = NonlinearSolution(minimum, None, 0 * half, {"a": -2 * half, "b": -2 * half})
    assert DISK.l2_optimality_error(held, 2.0, bounds=(-1.0, 5.0)) < 1e-15
    assert DISK.l2_optimality_error(held, 2.0, bounds=(-1.5, 5.0)) > 0.5


def test_rows_that_contradict_each_other_are_told_where_the_sum_of_violations_is_least():
    # The merit is least at x = 1/2, where the sum of squares of the violations is not.
    program = NonlinearProgram(lambda x: x[0], None, lambda x: jnp.stack([x[0] ** 2 + 1, 1 - x[0]]))
    with pytest.raises(InfeasibleError, match="infeasible near its start"):
        program.run(jnp.asarray([0.5]))


def test_unknown_options_and_batches_are_refused():
    with pytest.raises(InputError, match="steps"):
        NonlinearProgram(total, steps=3)
    with pytest.raises(InputError, match="no batches"):
        DISK.run_iterator(START, [])
