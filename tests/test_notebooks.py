"""Each notebook has the cells of its script, and has been run."""

from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("script", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_script_and_has_been_run(script):
    written = jupytext.read(script)
    executed = jupytext.read(script.with_suffix(".ipynb"))
    assert [cell.source for cell in written.cells] == [cell.source for cell in executed.cells]
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not any(o.output_type == "error" for cell in code for o in cell.outputs)
