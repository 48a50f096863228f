"""Each notebook runs, and what its text claims is true."""

import runpy
from pathlib import Path

import jupytext
import matplotlib as mpl
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.fixture(scope="module")
def packed_particles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    mpl.use("Agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDSENS_SEEDS", "2")
        patch.setenv("MDSENS_STEPS", "400")
        patch.setenv("MDSENS_FIGURES", str(folder))
        names = runpy.run_path(str(NOTEBOOKS / "packed_particles.py"))
    return names, folder


@pytest.mark.xdist_group("packed-particles")
def test_implicit_derivatives_of_packings_agree_with_finite_differences(packed_particles):
    names, _ = packed_particles
    for errors in names["agreement"].values():
        assert np.max(errors) < 1e-5


@pytest.mark.xdist_group("packed-particles")
def test_unrolled_derivatives_have_not_converged_after_fifty_steps(packed_particles):
    names, _ = packed_particles
    for errors in names["errors"].values():
        assert np.min(errors[50 // names["EVERY"]]) > 0.01


@pytest.mark.xdist_group("packed-particles")
def test_the_figure_of_the_packings_is_drawn(packed_particles):
    assert (packed_particles[1] / "packed_particles.png").stat().st_size > 20_000


@pytest.mark.parametrize("script", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_script_and_has_been_run(script):
    written = jupytext.read(script)
    executed = jupytext.read(script.with_suffix(".ipynb"))
    assert [cell.source for cell in written.cells] == [cell.source for cell in executed.cells]
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
