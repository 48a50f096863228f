"""Several right-hand sides at once: a block of columns is as good as its columns one by one."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

from mdsens.errors import InputError, LinearSolveError
from mdsens.implicit import linear, root_jvp, root_vjp
from mdsens.implicit.derivatives import jvp_solution, vjp_solution

RANDOM = np.random.default_rng(5)
SIZE = 5
LOOSE = RANDOM.normal(size=(SIZE, SIZE)) + 4 * np.eye(SIZE)
SPRINGS = LOOSE @ LOOSE.T
# A chain of springs without a wall, which translates freely.
CHAIN = np.diag([1.0, 2, 2, 2, 1]) - np.eye(SIZE, k=1) - np.eye(SIZE, k=-1)
UNIFORM = jnp.ones((1, SIZE))


def springs(x, stiffness, load):
    """Forces; the load is a pair of pytrees, and has no effect along the free translation."""
    pull = load["pull"] * jnp.asarray([1.0, -1, 0.5, 0.25, -0.75])
    return {"x": pull - stiffness @ x["x"] + load["shear"] * jnp.asarray([2.0, 0, -1, -1, 0])}


def at_rest(stiffness, load):
    force = springs({"x": jnp.zeros(SIZE)}, stiffness, load)["x"]
    return {"x": jnp.asarray(np.linalg.pinv(stiffness) @ force)}


LOAD = {"pull": jnp.asarray(0.3), "shear": jnp.asarray(-0.7)}
DIRECTIONS = {"pull": jnp.asarray([1.0, 0.0, 2.0]), "shear": jnp.asarray([0.0, 1.0, -0.5])}
FORCES = np.array([[1.0, -1, 0.5, 0.25, -0.75], [2, 0, -1, -1, 0], [1, -2, 1.5, 1, -1.5]])
COTANGENTS = {"x": jnp.asarray(RANDOM.normal(size=(4, SIZE)))}

WAYS = {
    "dense": (SPRINGS, {"symmetric": True}),
    "not symmetric": (LOOSE, {}),
    "gmres": (LOOSE, {"solve": "gmres"}),
    "cg": (SPRINGS, {"solve": "cg", "symmetric": True}),
    "minres": (SPRINGS, {"solve": "minres", "symmetric": True}),
    "lineax": (LOOSE, {"solve": lineax.LU()}),
    "function": (LOOSE, {"solve": lambda matvec, b: {"x": jnp.linalg.solve(-LOOSE, b["x"])}}),
    "null space": (CHAIN, {"symmetric": True, "null_space": {"x": UNIFORM}}),
    "null space, cg": (
        CHAIN, {"solve": "cg", "symmetric": True, "null_space": {"x": UNIFORM}},
    ),
    "svd": (CHAIN, {"solve": "svd"}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_directions_together_are_the_columns_of_a_pseudo_inverse(way):
    matrix, options = WAYS[way]
    stiffness = jnp.asarray(matrix)
    sol = at_rest(stiffness, LOAD)

    def tangents(directions):
        return root_jvp(springs, sol, (stiffness, LOAD), (None, directions), **options)["x"]

    ours, alone = jax.jit(lambda many: (tangents(many), jax.vmap(tangents)(many)))(DIRECTIONS)
    expected = FORCES @ np.linalg.pinv(matrix).T
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("way", [way for way in WAYS if way != "function"])
def test_cotangents_together_are_the_rows_of_a_pseudo_inverse(way):
    matrix, options = WAYS[way]
    stiffness = jnp.asarray(matrix)
    sol = at_rest(stiffness, LOAD)

    def pulled(cotangents):
        return root_vjp(springs, sol, (stiffness, LOAD), cotangents, **options)

    by_stiffness, by_load = jax.jit(pulled)(COTANGENTS)
    inverse = np.linalg.pinv(matrix)
    rows = np.asarray(COTANGENTS["x"]) @ inverse
    np.testing.assert_allclose(by_load["pull"], rows @ [1, -1, 0.5, 0.25, -0.75], rtol=1e-9)
    np.testing.assert_allclose(by_load["shear"], rows @ [2.0, 0, -1, -1, 0], rtol=1e-9)
    expected = -rows[:, :, None] * np.asarray(sol["x"])
    np.testing.assert_allclose(by_stiffness, expected, rtol=1e-9, atol=1e-12)


def test_a_block_tells_how_well_each_column_was_solved():
    stiffness = jnp.asarray(SPRINGS)
    sol, how = at_rest(stiffness, LOAD), {"solve": "cg", "symmetric": True}

    @jax.jit
    def both():
        given = springs, sol, (stiffness, LOAD)
        forward = jvp_solution(*given, (None, DIRECTIONS), **how)
        return forward, vjp_solution(*given, COTANGENTS, **how)[1]

    forward, reverse = both()
    for solution, count in ((forward, 3), (reverse, 4)):
        for told in (solution.residual, solution.null_component, solution.steps):
            assert told.shape == (count,)
        assert 0 < solution.residual.max() < 1e-11
        assert solution.steps.min() > 0


@pytest.mark.slow
def test_the_part_of_each_column_in_the_null_space_is_told():
    columns = jnp.asarray(RANDOM.normal(size=(3, SIZE)))
    solution = linear.solve(
        lambda v: CHAIN @ v, columns, several=True, symmetric=True, null_space=UNIFORM,
        least_squares=True,
    )  # fmt: skip
    expected = np.abs(columns.sum(axis=1)) / np.sqrt(SIZE)
    np.testing.assert_allclose(solution.null_component, expected, rtol=1e-12)
    np.testing.assert_allclose(solution.value, columns @ np.linalg.pinv(CHAIN), atol=1e-12)


def test_a_block_is_factorised_once():
    def solved(columns):
        return linear.solve(lambda v: LOOSE @ v, columns, several=True).value

    text = str(jax.make_jaxpr(solved)(jnp.ones((7, SIZE))))
    assert text.count("= lu[") + text.count("= lu ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev])
def test_blocks_can_be_differentiated(transform):
    sol = at_rest(jnp.asarray(SPRINGS), LOAD)

    def total(scale):
        stiffness = scale * jnp.asarray(SPRINGS)
        rested = {"x": sol["x"] / scale}
        found = root_jvp(springs, rested, (stiffness, LOAD), (None, DIRECTIONS), symmetric=True)
        return jnp.sum(found["x"] ** 2)

    # The tangents fall as 1 / scale.
    derivative = transform(total)(jnp.asarray(1.3))
    np.testing.assert_allclose(derivative, -2 * total(jnp.asarray(1.3)) / 1.3, rtol=1e-10)


@pytest.mark.slow
def test_large_blocks_are_the_same_in_turn(monkeypatch):
    stiffness = jnp.asarray(SPRINGS)
    arguments = springs, at_rest(stiffness, LOAD), (stiffness, LOAD)
    ways = [(root_jvp, (None, DIRECTIONS)), (root_vjp, COTANGENTS)]
    whole = [function(*arguments, given, symmetric=True) for function, given in ways]
    monkeypatch.setattr("mdsens.implicit.backends._NUMBERS_AT_ONCE", 2 * SIZE)
    parts = [function(*arguments, given, symmetric=True) for function, given in ways]
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_one_bad_column_is_an_error():
    columns = np.ones((3, SIZE))
    columns[1, 2] = np.nan
    with pytest.raises(
        LinearSolveError, match="right-hand side of the linear system is not finite"
    ):
        linear.solve(lambda v: SPRINGS @ v, columns, several=True, symmetric=True)
    columns[1] = [1, 0, 0, 0, 0]
    columns[::2] = [1, 0, 0, 0, -1]
    chain = {"several": True, "symmetric": True, "null_space": UNIFORM}
    with pytest.raises(LinearSolveError, match="leaves the range"):
        linear.solve(lambda v: CHAIN @ v, columns, **chain)
    with pytest.raises(Exception, match=r"member 1 of a batch: .*leaves the range"):
        jax.block_until_ready(
            jax.jit(lambda c: linear.solve(lambda v: CHAIN @ v, c, **chain).value)(columns)
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "directions",
    [
        {"pull": jnp.ones(3), "shear": jnp.ones(2)},
        {"pull": jnp.ones(3), "shear": jnp.ones(())},
        {"pull": jnp.ones((3, 2)), "shear": jnp.ones((3, 2))},
    ],
    ids=["lengths", "one of several", "two axes"],
)
def test_directions_that_do_not_go_together_are_an_error(directions):
    stiffness = jnp.asarray(SPRINGS)
    with pytest.raises(InputError, match="the same extra leading axis"):
        root_jvp(springs, at_rest(stiffness, LOAD), (stiffness, LOAD), (None, directions))


def test_of_no_right_hand_sides_there_are_no_solutions():
    for options in ({}, {"solver": "gmres"}, {"solver": "svd"}):
        solution = linear.solve(lambda v: LOOSE @ v, jnp.zeros((0, SIZE)), several=True, **options)
        assert solution.value.shape == (0, SIZE)
