"""Iterative refinement, against a direct solve of NumPy."""

import jax.numpy as jnp
import numpy as np

from mdsens.implicit.linear_solve import solve_iterative_refinement, solve_lu


def test_a_solver_of_another_matrix_is_refined_to_the_solution():
    random = np.random.default_rng(3)
    matrix = np.eye(6) + 0.1 * random.normal(size=(6, 6))
    b = random.normal(size=6)

    def matvec(v):
        return {"x": matrix @ v["x"]}

    given, exact = {"x": jnp.asarray(b)}, np.linalg.solve(matrix, b)
    inexact = solve_lu(matvec, given, ridge=1e-2)["x"]
    assert np.linalg.norm(inexact - exact) > 1e-3
    refined = solve_iterative_refinement(matvec, given, solve=solve_lu, ridge=1e-2)["x"]
    np.testing.assert_allclose(refined, exact, rtol=0, atol=1e-11)
