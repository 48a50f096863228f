"""Studies, structures and results of others: they read no other files, and nothing in them runs."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import yaml

import mdsens
from mdsens.errors import InputError
from mdsens.phonopy.crystal_file import LOADER
from mdsens.study import load_study
from mdsens.study.results_file import read_results
from mdsens.study.study_file import read_study

pytestmark = pytest.mark.xdist_group("security")


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('file = "trimer.xyz"', 'file = "../secret.xyz"', "structure.file"),
        ('file = "trimer.xyz"', 'file = "{outside}"', "structure.file"),
        ('file = "trimer.xyz"', 'file = "a/../../secret.xyz"', "structure.file"),
        ("cutoff = 12.0", 'file = "/etc/passwd"', "potential.file"),
        ("cutoff = 12.0", '[potential.parts.a]\nfile = "../a.sw"', "potential.parts.a.file"),
        ("cutoff = 12.0", 'parameters = "../a.snapparam"', "potential.parameters"),
        ("[sensitivity]", '[sweep]\n"structure.file" = ["trimer.xyz", "../secret.xyz"]\n'
         "[sensitivity]", "sweep.structure.file"),
        ("[sensitivity]", '[sweep]\n"structure.\'file\'" = ["../secret.xyz"]\n[sensitivity]',
         "sweep.structure.'file'"),
    ],
)  # fmt: skip
def test_no_key_of_a_study_leads_out_of_its_folder(trimer, command, before, after, key):
    outside = trimer.parent / "secret.xyz"
    shutil.copy(trimer / "trimer.xyz", outside)
    path = trimer / "study.toml"
    path.write_text(path.read_text().replace(before, after.format(outside=outside)))
    for name in ("run", "verify", "plan"):
        status, _, errors = command(name, trimer)
        line = errors.splitlines()[-1]
        assert status == 2, name
        assert line.startswith("mdsens: ")
        assert f"{key} = " in line
        assert "leads out of the study's folder" in line
        assert "--set" in line
    assert not (trimer.parent / "results").exists()


def test_whoever_runs_a_study_may_give_it_other_files(trimer):
    outside = trimer.parent / "mine.xyz"
    shutil.copy(trimer / "trimer.xyz", outside)
    for path in ("../mine.xyz", str(outside)):
        load_study(trimer, [f"structure.file={path}"]).check()
    # Inside, however it is written.
    inside = trimer / "study.toml"
    text = inside.read_text()
    (trimer / "a").mkdir()
    for path in ("a/../trimer.xyz", str(trimer / "trimer.xyz")):
        inside.write_text(text.replace("trimer.xyz", path))
        load_study(trimer).check()


class Trap:
    """Writes a file where somebody unpickles it."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return exec, (f"open({self.path!r}, 'w').close()",)


def test_nothing_that_is_read_is_executed(tmp_path, trimer):
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    pickle.loads(trap)
    sprung.unlink()
    code = f"__import__('pathlib').Path({str(sprung)!r}).touch()"
    (tmp_path / "a.traj").write_bytes(b"PickleTrajectory" + trap)
    (tmp_path / "a.py").write_text(code)
    (tmp_path / "a.pkl").write_bytes(trap)
    (tmp_path / "a.extxyz").write_text(f'1\ninfo="{code}"\n{code} 0 0 0\n')
    for name in ("a.traj", "a.py", "a.pkl", "a.extxyz"):
        with pytest.raises(InputError, match="structure file"):
            mdsens.read(tmp_path / name)
    for setting in (
        f"sensitivity.observables=[{json.dumps(code)}]",
        f"formulas.x={json.dumps(code)}",
        f"potential.sigma={json.dumps(code)}",
        f"potential.cutoff={json.dumps(code)}",
        f"potential.type={json.dumps(code)}",
    ):
        with pytest.raises(InputError):
            load_study(trimer, [setting])
    # Values of other keys are text, and stay so.
    assert read_study(trimer, [f"description={json.dumps(code)}"]).file.description == code
    (tmp_path / "results.json").write_bytes(trap)
    with pytest.raises(InputError, match="no results"):
        read_results(tmp_path)
    (tmp_path / "a.npz").write_bytes(trap)
    with pytest.raises(InputError):
        mdsens.Sensitivity.load(tmp_path / "a.npz")
    assert not sprung.exists()


#: Calls that run what they are given.
DANGEROUS = {
    "eval", "exec", "__import__", "pickle.load", "pickle.loads", "os.system", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "marshal.loads", "dill.loads", "shelve.open",
}  # fmt: skip


def test_no_module_calls_what_would_execute_data():
    """But for what this user's own processes have written.

    Programs that runs have compiled are in a folder of the user's own, and what processes that
    share work tell one another goes through a pipe. The loader of YAML makes no objects.
    """
    package = Path(mdsens.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            loads_objects = any(
                word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
                for word in node.keywords
            )
            shell = any(word.arg == "shell" for word in node.keywords)
            if called in DANGEROUS or loads_objects or shell:
                found.add((path.relative_to(package).as_posix(), called))
    assert found == {
        ("kept_programs.py", "pickle.loads"),
        ("side_by_side.py", "pickle.loads"),
        ("phonopy/crystal_file.py", "yaml.load"),
    }
    assert issubclass(LOADER, (yaml.SafeLoader, yaml.CSafeLoader))


#: Markup of rich, escapes of a terminal that turn it red and change its title, and marks that turn
#: text around.
MARKUP = "[red]x[/]\x1b[31m\x1b]0;title\x07\u202e\r<b>"


def test_names_stay_text_in_every_list(tmp_path, command):
    (tmp_path / "study").mkdir()
    structure = f"2\nspecies:S:1:pos:R:3\n{MARKUP[:6]} 0 0 0\nAr 0 0 3\n"
    name = MARKUP.replace("/", "")
    (tmp_path / f"{name}.extxyz").write_text(structure)
    (tmp_path / "study" / "study.toml").write_text(
        f"name = {json.dumps(MARKUP)}\n[structure]\nfile = 'a'\n[potential]\ntype = 'wca'\n"
    )
    for arguments in (
        ["show", f"{name}.extxyz"],
        ["new", name, "--from", f"{name}.extxyz", "--potential", "lennard-jones"],
        ["compare", name, name],
        ["potentials", MARKUP],
        ["observables", MARKUP],
        ["run", "study"],
        ["plan", "study"],
        ["report", name],
    ):
        status, out, errors = command(*arguments)
        assert status == 2, arguments
        for sign in ("\x1b", "\x07", "\u202e", "\r"):
            assert sign not in out + errors, arguments
        assert errors.splitlines()[-1].startswith("mdsens: ")
