"""What the layers refuse, in one line each; and that what they do not refuse they solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mdsens import layers
from mdsens.errors import MdsensError


@pytest.mark.parametrize(("expression", "words"), refusals.REFUSALS, ids=lambda text: text[:60])
def test_what_cannot_be_meant_is_refused_in_a_line(expression, words):
    with pytest.raises(MdsensError) as raised:
        eval(expression, dict(refusals.NAMES))
    assert words in str(raised.value)
    assert "\n" not in raised.value.args[0]


QP = layers.QuadraticProgram()


def solution(Q, h):
    """min 1/2 x'Qx + x_0 + x_1 subject to -h_1 <= x_0 <= h_0."""
    rows = refusals.NAMES["opposite"]
    return QP.run(None, (Q, jnp.ones(2)), None, (rows, h)).params.primal


of_batch = jax.jit(jax.vmap(lambda v, w: solution(v * jnp.eye(2), jnp.stack([w, w]))))
POSITIVE, MIXED = jnp.ones(4), jnp.asarray([1.0, -1.0, 2.0, -2.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jax.vmap(layers.projection_simplex)(jnp.ones((4, 3)), MIXED),
         "members 1, 3 of a batch: value is negative"),
        (lambda: jax.jit(jax.vmap(jax.vmap(layers.projection_simplex)))(
            jnp.ones((1, 4, 3)), MIXED[None]
         ), r"members \[0, 1\], \[0, 3\] of a batch: value is negative"),
        (lambda: of_batch(POSITIVE, MIXED),
         "members 1, 3 of a batch: the constraints of the quadratic program are infeasible"),
        (lambda: of_batch(MIXED, POSITIVE),
         "members 1, 3 of a batch: the quadratic program is not convex"),
    ],
    ids=["empty sets", "in two axes", "infeasible", "not convex"],
)  # fmt: skip
def test_the_unsuitable_members_of_a_batch_are_named(call, words):
    with pytest.raises((RuntimeError, ValueError), match=words):
        jax.block_until_ready(call())


FEW = settings(max_examples=25, deadline=None, derandomize=True)
ANY = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-300, 1e300])
POINTS = arrays(float, 4, elements=st.floats(-100, 100))


def solved(call):
    """What a call returns, or None where it ended in one line of ours; nothing else may happen."""
    try:
        return np.asarray(call())
    except MdsensError as error:
        line = error.args[0]
    assert "\n" not in line
    return None


def simplex(p, value, slack):
    return (p >= -slack).all() and abs(p.sum() - value) <= slack


SETS = {
    "simplex": (layers.projection_simplex, simplex),
    "l1 ball": (layers.projection_l1_ball, lambda p, v, e: np.abs(p).sum() <= v + e),
    "l2 ball": (layers.projection_l2_ball, lambda p, v, e: np.linalg.norm(p) <= v + e),
    "linf ball": (layers.projection_linf_ball, lambda p, v, e: np.abs(p).max() <= v + e),
    "hypercube": (
        layers.projection_hypercube, lambda p, v, e: p.min() >= -e and p.max() <= v + e
    ),
    "halfspace": (
        lambda x, v: layers.projection_halfspace(x, (np.asarray([1.0, -2.0, 0.0, 3.0]), v)),
        lambda p, v, e: p @ [1.0, -2.0, 0.0, 3.0] <= v + e,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
@FEW
@given(x=POINTS | arrays(float, 4, elements=ANY), other=POINTS, value=ANY)
def test_a_projection_is_the_nearest_point_or_refused(name, x, other, value):
    project, holds = SETS[name]
    p, member = (solved(lambda at=at: project(jnp.asarray(at), value)) for at in (x, other))
    assert (member is None) <= (p is None)
    if p is None:
        return
    size = max(1.0, np.abs(x).max(), np.abs(p).max(), np.abs(member).max())
    if size > 1e150:  # the test's own products would overflow
        return
    slack = 1e-12 * size
    assert holds(p, value, 10 * slack)
    # The angle at p between x and any member of the set is obtuse.
    assert (x - p) @ (member - p) <= 100 * slack * size


@FEW
@given(
    Q=arrays(float, (2, 2), elements=st.integers(-2, 4).map(float)),
    h=arrays(float, 2, elements=st.integers(-3, 3).map(float)),
)
def test_a_quadratic_program_is_solved_or_refused(Q, h):
    x = solved(lambda: solution(jnp.asarray(Q), jnp.asarray(h)))
    if x is None:
        Q = (Q + Q.T) / 2
        slope = Q @ [0.0, 1.0]
        bounded = np.linalg.eigvalsh(Q).min() >= 0 and (slope[1] > 0)
        assert not (bounded and h[0] >= -h[1]), "refused a program that has a solution"
        return
    assert -h[1] - 1e-9 <= x[0] <= h[0] + 1e-9
    gradient = (Q + Q.T) / 2 @ x + 1
    projected = np.clip(x - gradient, [-h[1], -np.inf], [h[0], np.inf])
    np.testing.assert_allclose(projected, x, atol=1e-7 * (1 + np.abs(x).max()))


LBFGSB = layers.LBFGSB(lambda x, target: jnp.sum((x - target) ** 2 * jnp.arange(1.0, 5.0)))


@FEW
@given(target=arrays(float, 4, elements=st.floats(-10, 10)), lower=ANY, upper=ANY)
def test_a_minimum_between_bounds_is_found_or_refused(target, lower, upper):
    start = jnp.zeros(4)
    x = solved(lambda: LBFGSB.run(start, (lower, upper), jnp.asarray(target)).params)
    if lower <= upper and max(abs(lower), abs(upper)) <= 1e6:
        np.testing.assert_allclose(x, np.clip(target, lower, upper), atol=1e-6)
    elif x is not None:
        assert np.isfinite(x).all()
        assert (lower <= x).all()
        assert (x <= upper).all()
