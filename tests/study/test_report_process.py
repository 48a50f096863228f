"""Reports that another process draws, and what a run of the command compiles."""

import os
import subprocess
import sys

import matplotlib
import pytest

from mdsens.study import load_study, run_study
from mdsens.study.report import make_report
from mdsens.study.report_process import report_process


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_another_process_draws_the_same_report(trimer, tmp_path):
    folder, goal = tmp_path / "out", tmp_path / "here"
    run_study(load_study(trimer), folder, report=False)
    goal.mkdir()
    with report_process() as draws:
        # Notebooks, which other tests run, draw in styles of their own.
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            here = make_report(folder, goal)
        assert draws.make_report(folder)
        # What cannot be drawn there is drawn, and explained, by the run.
        assert not draws.make_report(tmp_path)
    assert not draws.make_report(folder)
    for path in here:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def test_without_a_process_the_run_draws(trimer, tmp_path):
    with report_process(wanted=False) as draws:
        run = run_study(load_study(trimer), tmp_path / "out", draws=draws)
    assert (run.folder / "report.html").is_file()
    # Nor does a process that draws from these files wait for what computes.
    code = (
        f"import sys, pathlib; folder = pathlib.Path({str(run.folder)!r});"
        "from mdsens.study.report import make_report; assert make_report(folder, folder);"
        "others = ('jax', 'equinox', 'pandas', 'xarray', 'mdsens.relaxation');"
        "print([m for m in others if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("study", ["argon-vacancy", "emt-surface"])
def test_a_run_compiles_fewer_than_25_programs(study, tmp_path):
    left_out = ("JAX_", "XLA_", "MDSENS_")
    others = {name: of for name, of in os.environ.items() if not name.startswith(left_out)}
    done = subprocess.run(
        [sys.executable, "-c", "from mdsens.cli import main; main()", "run", study, "--out",
         str(tmp_path / "out")],
        env=others | {"MDSENS_CACHE": "off", "JAX_LOG_COMPILES": "1"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert 0 < done.stderr.count("Finished XLA compilation") < 25
    assert (tmp_path / "out" / "report.html").is_file()
