"""The README's Python, run from top to bottom as a reader would."""

import contextlib
import re
from pathlib import Path

import numerical
import numpy as np
import pytest

# On one worker, so that the README runs once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("readme")]

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    text = README.read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    namespace: dict = {}
    with contextlib.chdir(tmp_path_factory.mktemp("readme")):
        exec("\n".join(blocks), namespace)
    return namespace


def test_the_volume_of_the_readme_grows_with_sigma_as_in_finite_differences(names):
    def relaxed(sigma):
        potential = names["potential"].with_parameters({"sigma": sigma})
        return names["mdsens"].relax(names["system"], potential, cell="isotropic", fmax=1e-12)

    noise = numerical.left_over(relaxed(3.405), lambda equilibrium: equilibrium.volume)
    expected = numerical.derivative(lambda s: relaxed(s).volume, 3.405, 1e-3, noise=noise)
    slope = names["jax"].grad(names["volume"])(names["potential"]).sigma
    numerical.agrees(slope, expected, rtol=1e-6)


def test_the_square_root_of_the_readme_has_its_derivative(names):
    slope = names["jax"].grad(names["square_root"], argnums=1)(None, 2.0)
    np.testing.assert_allclose(slope, 0.5 / np.sqrt(2.0), rtol=1e-12)


def test_the_potential_of_the_readme_is_sensitive_to_its_parameters(names):
    sensitivity = names["mdsens"].sensitivity(names["relaxed"], "pressure")
    assert set(sensitivity["pressure"]) == {"A", "rho", "C"}

    def relaxed(rho):
        potential = names["exp6"].with_parameters({"rho": rho})
        return names["mdsens"].relax(names["relaxed"].system, potential, fmax=1e-12)

    noise = numerical.left_over(relaxed(0.2737), lambda equilibrium: equilibrium.pressure)
    expected = numerical.derivative(lambda rho: relaxed(rho).pressure, 0.2737, 1e-4, noise=noise)
    numerical.agrees(sensitivity["pressure"]["rho"], expected, rtol=1e-6)
