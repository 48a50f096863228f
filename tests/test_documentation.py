"""The Python of the README and of every page, run from top to bottom as a reader would."""

import contextlib
import functools
import re
import shutil
import tempfile
import tomllib
from pathlib import Path

import jax
import numerical
import numpy as np
import pytest
from lammps_library import lammps_module

from mdsens.potentials import BY_NAME
from mdsens.study.formulas import read_formula
from mdsens.study.study_file import study_text

# On one worker, so that each page runs once and all share what is compiled.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("documentation")]

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
# Of a site that was built in this checkout.
PAGES.pop("changelog", None)
#: Pages whose Python a test of its own runs: tests/potentials/test_own_potentials.py.
RUN_ELSEWHERE = {"own_potentials"}
#: Types of potentials that are no class of their own.
OTHER_TYPES = {"sum", "calculator", "jax-md"}

#: A sweep of which the page on sweeps reads the results.
SWEEP = """
[structure]
file = "argon.xyz"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.4
cutoff = 12.0

[sweep]
"potential.sigma" = [3.4, 3.45]
"""


def blocks(page, language):
    text = PAGES[page].read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def pages_with(language, without=()):
    return [page for page in PAGES if blocks(page, language) and page not in without]


def prepare(page):
    """The files that a page speaks of, in the present folder."""
    if page == "sweeps":
        Path("argon").mkdir()
        shutil.copy(ROOT / "systems" / "argon-cluster" / "argon-cluster.xyz", "argon/argon.xyz")
        Path("argon/study.toml").write_text(SWEEP, "utf-8")
    if page == "calculators":
        lammps_module()


@functools.cache
def names(page):
    """What a page's Python has defined once it has run, in a folder of its own."""
    # Classes of a page are found again by the name of its module.
    namespace = {"__name__": __name__}
    code = compile("\n".join(blocks(page, "python")), PAGES[page].name, "exec")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare(page)
        # As it is for a reader, who promotes without a word.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            exec(code, namespace)
    return namespace


@pytest.mark.parametrize("page", pages_with("python", RUN_ELSEWHERE))
def test_the_python_of_a_page_runs(page):
    assert names(page)


@pytest.mark.parametrize("page", pages_with("toml"))
def test_every_toml_block_of_a_page_is_a_study_or_a_part_of_one(page):
    for block in blocks(page, "toml"):
        table = tomllib.loads(block)
        one = {} if "structures" in table else {"structure": {"file": "argon.extxyz"}}
        text = study_text(Path("study.toml"), one | {"potential": {"type": "morse"}} | table)
        potential = text.file.potential
        kinds = {part["type"] for part in (potential, *potential.get("parts", {}).values())}
        assert kinds <= OTHER_TYPES | set(BY_NAME)
        for name, formula in text.file.formulas.items():
            read_formula(name, formula, dict.fromkeys(text.structures, 3), text.file.units)


def test_the_volume_of_the_readme_grows_with_sigma_as_in_finite_differences():
    readme = names("README")

    def relaxed(sigma):
        potential = readme["potential"].with_parameters({"sigma": sigma})
        return readme["mdsens"].relax(readme["system"], potential, cell="isotropic", fmax=1e-12)

    noise = numerical.left_over(relaxed(3.405), lambda equilibrium: equilibrium.volume)
    expected = numerical.derivative(lambda s: relaxed(s).volume, 3.405, 1e-3, noise=noise)
    slope = readme["jax"].grad(readme["volume"])(readme["potential"]).sigma
    numerical.agrees(slope, expected, rtol=1e-6)


def test_the_solutions_of_the_pages_have_the_derivatives_of_their_closed_forms():
    idea, solvers = names("idea"), names("solvers")
    np.testing.assert_allclose(idea["slope"], 2.0 ** (1 / 6), rtol=1e-12)
    slope = solvers["jax"].grad(solvers["square_root"], argnums=1)(None, 2.0)
    np.testing.assert_allclose(slope, 0.5 / np.sqrt(2.0), rtol=1e-12)


def test_the_relaxation_of_ase_on_its_page_ends_with_the_energy_of_ours():
    page = names("from_ase")
    ours = float(page["equilibrium"].energy)
    # ASE's ends at forces of 1e-4 eV/Ang on springs of 0.1 eV/Ang^2 and more.
    np.testing.assert_allclose(page["atoms"].get_potential_energy(), ours, atol=31 * 1e-7)


@pytest.mark.peer
def test_the_script_of_lammps_on_its_page_ends_where_ours_does(tmp_path, monkeypatch):
    page, (script,) = names("from_lammps"), blocks("from_lammps", "text")
    monkeypatch.chdir(tmp_path)
    page["ase"].io.write("argon.data", page["atoms"], format="lammps-data", masses=True)
    program = lammps_module().lammps(cmdargs=["-log", "none", "-screen", "none"])
    program.commands_string(script)
    equilibrium = page["equilibrium"]
    np.testing.assert_allclose(program.get_thermo("pe"), float(equilibrium.energy), rtol=1e-10)
    # Its cell stops at a pressure of some bar, 1e-8 of the bulk modulus.
    np.testing.assert_allclose(program.get_thermo("vol"), float(equilibrium.volume), rtol=1e-8)
    program.close()


def test_the_error_bars_of_the_page_are_those_of_many_relaxed_potentials():
    """By samples of the parameters, each with a relaxation of its own, to their sampling error."""
    page = names("error_bars")
    random = np.random.default_rng(0)
    means = np.array([0.0104, 3.405])
    samples = random.multivariate_normal(means, page["covariance"], size=40)
    found = []
    for epsilon, sigma in samples:
        potential = page["potential"].with_parameters({"epsilon": epsilon, "sigma": sigma})
        relaxed = page["mdsens"].relax(page["system"], potential, cell="isotropic", fmax=1e-8)
        found.append([float(relaxed.energy), float(relaxed.volume)])
    spread = np.std(found, axis=0, ddof=1)
    expected = np.sqrt(np.diag(page["propagated"])[:2])
    # The relative sampling error of a standard deviation of n is 1 / sqrt(2 (n - 1)).
    np.testing.assert_allclose(spread, expected, rtol=3.0 / np.sqrt(2 * 39))


def test_the_numbers_that_the_first_steps_show_are_those_that_come_out():
    """The oracle of the numbers themselves is elsewhere: here, that the page still tells them."""
    sensitivity = names("first_steps")["sensitivity"]
    row = re.compile(r"^    (\S+) +(epsilon|sigma) +(\S+) +(\S+)  (\S+)$", re.MULTILINE)
    rows = row.findall(PAGES["first_steps"].read_text("utf-8"))
    assert len(rows) == 6
    for observable, parameter, shown, error, unit in rows:
        assert sensitivity.units(observable, parameter) == unit
        value = float(sensitivity[observable][parameter])
        assert abs(value - float(shown)) <= float(error) + 5e-8 * abs(value)
