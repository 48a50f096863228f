"""The README's Python, run from top to bottom as a reader would."""

import re
from pathlib import Path

import numpy as np
import pytest

# On one worker, so that the README runs once.
pytestmark = pytest.mark.xdist_group("readme")

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def names():
    text = README.read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    namespace: dict = {}
    exec("\n".join(blocks), namespace)
    return namespace


def test_the_volume_of_the_readme_grows_with_sigma_as_in_finite_differences(names):
    volume, potential, step = names["volume"], names["potential"], 1e-4
    slope = names["jax"].grad(volume)(potential).sigma
    above, below = (volume(potential.with_parameters({"sigma": 3.405 + h})) for h in (step, -step))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6)


def test_the_square_root_of_the_readme_has_its_derivative(names):
    slope = names["jax"].grad(names["square_root"], argnums=1)(None, 2.0)
    np.testing.assert_allclose(slope, 0.5 / np.sqrt(2.0), rtol=1e-12)


def test_the_potential_of_the_readme_is_sensitive_to_its_parameters(names):
    sensitivity = names["mdsens"].sensitivity(names["relaxed"], "pressure")
    assert set(sensitivity["pressure"]) == {"A", "rho", "C"}
    pushed = names["exp6"].with_parameters({"rho": 0.2737 * (1 + 1e-5)})
    pulled = names["exp6"].with_parameters({"rho": 0.2737 * (1 - 1e-5)})
    start = names["relaxed"].system
    pressures = [names["mdsens"].relax(start, p, fmax=1e-11).pressure for p in (pushed, pulled)]
    difference = (pressures[0] - pressures[1]) / (2e-5 * 0.2737)
    np.testing.assert_allclose(sensitivity["pressure"]["rho"], difference, rtol=1e-6)
