"""Studies whose cells relax under a load, and which differentiate in it."""

import json

import ase.build
import ase.io
import ase.units
import cases
import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.study import load_study, run_study, verify_study
from mdsens.study.results_file import Results

STUDY = """
[structure]
file = "argon.extxyz"

[potential]
type = "lennard-jones"
epsilon = 0.0104
sigma = 3.4
cutoff = 7.1

[relaxation]
fmax = 1e-10
smax = 1e-10
cell = "full"
pressure = "0.2 GPa"

[sensitivity]
observables = ["volume", "bulk_modulus('reuss')"]
wrt = ["sigma", "pressure", "stress[xy]"]
"""


@pytest.fixture
def argon(tmp_path):
    """Two atoms in a cell that is not cubic."""
    folder = tmp_path / "argon"
    folder.mkdir()
    atoms = ase.build.bulk("Ar", "hcp", 3.7, 6.0)
    ase.io.write(folder / "argon.extxyz", atoms)
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.mark.slow
def test_a_run_differentiates_in_the_load_of_its_cell(argon, tmp_path):
    run = run_study(load_study(argon), tmp_path / "out", allow_unconverged=False)
    found = json.loads((run.folder / "results.json").read_text())
    Results.model_validate(found)
    assert found["units"]["parameters"] == {
        "sigma": "Ang", "pressure": "eV/Ang^3", "stress[xy]": "eV/Ang^3",
    }  # fmt: skip
    assert found["parameters"]["pressure"] == pytest.approx(0.2 * ase.units.GPa)
    volume, modulus = (of["value"] for of in found["observables"].values())
    slope = found["sensitivities"]["volume"]["pressure"]
    assert slope == pytest.approx(-volume / (modulus * ase.units.GPa), rel=1e-9)
    assert found["largest_stress"] <= found["smax"] == 1e-10
    assert found["units"]["largest_stress"] == "eV/Ang^3"
    history = (run.folder / "history.csv").read_text().splitlines()
    assert history[0] == "step,enthalpy,largest_force,largest_stress"
    relaxed = ase.io.read(run.folder / "relaxed.extxyz")
    assert {"dsigma", "dpressure", "dstress_xy"} <= set(relaxed.arrays)
    assert relaxed.get_volume() == pytest.approx(volume, rel=1e-7)


@pytest.mark.slow
def test_verification_relaxes_under_the_changed_load(argon):
    found = verify_study(load_study(argon, ['sensitivity.observables=["volume"]']))
    assert found.passed
    judged = {(c.observable, c.parameter) for c in found.comparisons}
    assert ("volume", "pressure") in judged
    assert ("volume", "stress[xy]") in judged


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "wrt"),
    cases.with_others(
        [
            (
                ["relaxation.cell=none", "relaxation.fixed=[0]"],
                '["strain", "fixed_positions[0,z]"]',
            ),
            (['relaxation.cell="shape"'], '["stress[xz]", "epsilon"]'),
        ],
        [(["relaxation.cell=[1, 1, 1, 0, 0, 0]"], '["pressure"]')],
    ),
)
def test_verification_passes_in_every_condition(argon, settings, wrt):
    free = ["relaxation.pressure=0"] if "cell=none" in settings[0] else []
    text = (argon / "study.toml").read_text()
    if free:
        (argon / "study.toml").write_text(text.replace("smax = 1e-10\n", ""))
    asked = 'sensitivity.observables=["volume", "stress"]'
    study = load_study(argon, [*settings, *free, asked, f"sensitivity.wrt={wrt}"])
    assert verify_study(study).passed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("relaxation.cell=[1, 0]", "relaxation.cell"),
        ("relaxation.smax=0", "relaxation: smax = 0"),
        ('relaxation.stress=["1 GPa"]', "there is a stress too"),
        ('sensitivity.wrt=["strain"]', "sensitivity.wrt: wrt = 'strain': the cell relaxes"),
        ('sensitivity.wrt=["pressure", "pressure"]', "given twice"),
        ('sensitivity.wrt=["presure"]', "did you mean 'pressure'?"),
    ],
)
def test_what_a_study_cannot_be_told_is_said_in_a_line(argon, setting, message):
    with pytest.raises(InputError, match=message) as caught:
        load_study(argon, [setting]).check()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_several_structures_share_a_pressure(argon, tmp_path):
    table = STUDY.replace("[structure]\n", "[structures.dense]\n").replace(
        "[potential]", '[structures.cubic]\nfile = "cubic.extxyz"\n\n[potential]'
    )
    ase.io.write(argon / "cubic.extxyz", ase.build.bulk("Ar", "fcc", 5.2))
    formula = '\n[formulas]\nchange = "dense.volume / dense.atoms - cubic.volume / cubic.atoms"\n'
    table = table.replace('["volume", "bulk_modulus(\'reuss\')"]', '["volume"]') + formula
    (argon / "study.toml").write_text(table)
    run = run_study(load_study(argon), tmp_path / "out", allow_unconverged=False)
    found = json.loads((run.folder / "results.json").read_text())["sensitivities"]
    parts = found["dense.volume"]["pressure"] / 2 - found["cubic.volume"]["pressure"]
    assert found["change"]["pressure"] == pytest.approx(parts, abs=1e-9 * abs(parts) + 1e-6)
    assert np.isfinite(parts)
