"""Notebooks run as the scripts that they are paired with."""

import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run_notebook(name, folder, **settings):
    """The names that a script defines under small settings, and the folder of its figures."""
    # Without a display.
    mpl.use("Agg")
    with pytest.MonkeyPatch.context() as patch:
        for setting, value in settings.items():
            patch.setenv(setting, value)
        patch.setenv("MDSENS_FIGURES", str(folder))
        return runpy.run_path(str(NOTEBOOKS / f"{name}.py")), folder


def figure_is_drawn(path):
    """Whether a figure is there and is more than a blank sheet."""
    return path.exists() and path.stat().st_size > 20_000
