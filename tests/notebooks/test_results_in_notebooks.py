"""Results, views, figures and progress bars as a notebook shows them."""

import nbclient
import nbformat
import pytest

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("results_in_notebooks")]

CELLS = [
    """
import mdsens
atoms = [[0.0, 0.0, 0.0], [1.2, 0.0, 0.0], [0.5, 1.1, 0.1]]
system = mdsens.System(atoms, pbc=False, units="reduced")
potential = mdsens.potentials.LennardJones(epsilon=1.0, sigma=1.0, cutoff=3.0)
relaxed = mdsens.relax(system, potential, progress=True)
""",
    "sens = mdsens.sensitivity(relaxed, 'energy'); sens",
    "sens.view()",
    "sens.plot()",
]


@pytest.fixture(scope="module")
def outputs():
    """What each cell shows."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def html(outputs):
    return [out.data["text/html"] for out in outputs if "text/html" in out.get("data", {})]


def test_nothing_is_complained_about(outputs):
    assert [out.output_type for cell in outputs for out in cell if "name" in out] == []


def test_a_relaxation_ends_with_its_last_line(outputs):
    (bar,) = html(outputs[0])
    assert "relaxing: step" in bar
    assert "largest force" in bar


def test_results_are_tables_views_and_pictures(outputs):
    assert "<table>" in html(outputs[1])[0]
    assert html(outputs[2])[0].startswith("<iframe srcdoc=")
    assert "image/png" in outputs[3][0].data
