"""Each notebook has the cells of its script, and has been run."""

import jupytext
import pytest
from notebook_scripts import NOTEBOOKS

pytestmark = pytest.mark.notebook

# A script without a notebook is found too, and so is a notebook without a script.
NAMES = sorted({path.stem for ending in ("ipynb", "py") for path in NOTEBOOKS.glob(f"*.{ending}")})


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_cells_of_its_script_and_has_been_run(name):
    written = jupytext.read(NOTEBOOKS / f"{name}.py")
    executed = jupytext.read(NOTEBOOKS / f"{name}.ipynb")
    assert [cell.source for cell in written.cells] == [cell.source for cell in executed.cells]
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
