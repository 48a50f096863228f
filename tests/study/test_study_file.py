"""A mistake in a study is one line: the key, the value, what is allowed, the nearest match."""

import inspect
import json
import tomllib

import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError
from mdsens.study import load_study
from mdsens.study.model import Relaxation, SensitivityTable
from mdsens.study.toml import to_toml, with_settings


def mistake(trimer, *settings: str) -> str:
    with pytest.raises(InputError) as caught:
        load_study(trimer, settings).check()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("relaxation.methd=fire", ["relaxation.methd", "'fire'", "max_steps", "'method'?"]),
        ("relaxation.method=fier", ["relaxation.method", "'fier'", "lbfgs", "'fire'?"]),
        ("relaxation.max_steps=-1", ["relaxation.max_steps", "-1", "greater than or equal to 0"]),
        ("relaxation.max_steps=1.5", ["relaxation.max_steps", "1.5", "integer"]),
        ("relaxation.fmax=1 GPa", ["relaxation.fmax", "'GPa'", "eV/Ang"]),
        ("relaxation.fmax=0", ["relaxation.fmax", "0.0", "above 0"]),
        ("relaxation.cell=ful", ["relaxation.cell", "'ful'", "isotropic", "'full'?"]),
        ("relaxation.cell=full", ["cell", "'full'", "periodic"]),
        ("relaxation.pressure=1 GPa", ["pressure", "cell"]),
        ("relaxation=3", ["relaxation", "3", "table"]),
        ("units=si", ["units", "'si'", "ase, reduced"]),
        ("potental.sigma=3", ["potental", "potential", "did you mean 'potential'?"]),
        ("name=a/b", ["name", "'a/b'", "name for a folder"]),
        ("structure.seed=3", ["structure.seed", "3", "rattle"]),
        ("structure.file=trimmer.xyz", ["structure.file", "'trimmer.xyz'", "'trimer.xyz'?"]),
        ("structure.dimension=4", ["structure.dimension", "4", "2, 3"]),
        ("structure.dimension=2", ["dimension = 2", "plane"]),
        ("structure.builder=bcc", ["[structure]", "file and builder"]),
        (
            "potential.type=lenard-jones",
            ["potential.type", "mdsens potentials", "'lennard-jones'?"],
        ),
        ("potential.sigm=3", ["potential.sigm", "3", "epsilon", "'sigma'?"]),
        ("potential.sigma=3.4 eV", ["potential.sigma", "'3.4 eV'", "length", "nm"]),
        ("potential.sigma=true", ["potential.sigma", "True", "number"]),
        ("potential.cutoff=2.5 sgima", ["2.5 sgima", "no unit of length", "Ang", "'sigma'?"]),
        ("potential.cutoff=2.5 epsilon", ["2.5 epsilon", "no unit of length", "sigma"]),
        ("potential.onset=13 Ang", ["onset", "12"]),
        ("potential.onset=9 sigma", ["onset", "9 sigma", "not below cutoff"]),
        ("potential.sigma=-1", ["sigma", "-1", "above 0"]),
        ("potential.sigma={Ar-Ar=3}", ["potential.sigma", "potential.species"]),
        ('potential.species=["Kr"]', ["species", "Ar", "Kr"]),
        ("potential.truncation=sharp", ["truncation", "'sharp'", "shifted"]),
        ('sensitivity.wrt=["sigm"]', ["sensitivity.wrt", "'sigm'", "'sigma'?"]),
        ('sensitivity.observables=["enrgy"]', ["sensitivity.observables", "'energy'?"]),
        ('sensitivity.observables=["distance(0,9)"]', ["distance(0,9)", "9", "0 to 2"]),
        ('sensitivity.observables=["pressure"]', ["pressure", "cell"]),
        ("sensitivity.observables=energy", ["sensitivity.observables", "'energy'", "list"]),
        ("verify.step=2.0", ["verify.step", "2.0", "less than 0.5"]),
        ("verify.step=small", ["verify.step", "'small'", "number"]),
        ("verify.step=nan", ["verify.step", "nan", "finite"]),
        ("verify.tolerance=inf", ["verify.tolerance", "inf", "finite"]),
        ("relaxation.fmax=nan", ["relaxation.fmax", "nan", "finite"]),
        ('relaxation.pressure="1e400"', ["relaxation.pressure", "'1e400'", "finite"]),
        ("relaxation.max_steps=1979-05-27", ["1979-05-27", "no dates"]),
        ("relaxation.max_steps=9223372036854775808", ["more than 64 bits"]),
        ("potential.type=[]", ["potential.type = []", "mdsens potentials"]),
        ("potential.epsilon=1979-05-27", ["1979-05-27", "no dates"]),
        ("potential.epsilon=[0.1]", ["potential.epsilon", "[0.1]", "number"]),
        ("potential.epsilon=nan", ["potential.epsilon", "nan", "finite"]),
        ("potential.epsilon=" + "9" * 5000, ["64 bits"]),
        ('potential.species=["Ar", "Ar"]', ["potential.species", "'Ar' is given twice"]),
        ("potential.x\u202e=1", ["potential.x\\u202e", "no key"]),
        ("structure.file=.", ["structure.file", "'.'", "is a folder"]),
        ("structure.file=study.toml", ["structure file", "cannot be read"]),
        ("structure.file=" + "a" * 5000, ["structure.file", "...aaa", "too long"]),
        ('structure.file="a\\u0000b"', ["structure.file", r"a\x00b", "no path"]),
        ("structure.file=\udce4", ["structure.file", r"\udce4", "no Unicode text"]),
        ("structure.rattle.amplitude=-1", ["structure.rattle.amplitude", "-1.0", "at least 0"]),
        ("structure.rattle.amplitude=nan", ["structure.rattle.amplitude", "nan", "finite"]),
        ("structure.rattle.amplitude=1e300", ["structure.rattle.amplitude", "1e+300", "1000"]),
        ('sensitivity.observables=["energy", "energy()"]', ["'energy' is given twice"]),
        ('sensitivity.observables=["distance(0,1)", "distance(0, 1)"]', ["twice"]),
        ('sensitivity.observables=["' + "(" * 3000 + '"]', ["sensitivity.observables", "200"]),
        ("sensitivity.observables=[]", ["sensitivity.observables", "at least 1"]),
        ("sensitivity.wrt=[]", ["sensitivity.wrt", "at least 1"]),
        ("relaxation.cell=full", ["relaxation: cell = 'full'", "where a direction is periodic"]),
        ('sensitivity.wrt=["sigma", "sigma"]', ["'sigma' is given twice"]),
        ("ensemble.seeds=1000000000", ["ensemble.seeds", "1000000000", "100000"]),
        ("name=..", ["name = '..'", "name for a folder"]),
        ("name=" + "a" * 200, ["name", "at most 100 characters"]),
        ("relaxation.max_steps=5\nname='a'", ["--set", "more than one value"]),
        ("relaxation.fmax=1e-3 # for now", ["--set", "more than one value"]),
        ("a=" + "[" * 3000, ["--set", "16 deep"]),
        ("a." * 3000 + "b=1", ["--set", "so many parts"]),
        ("potential.sigma[0=1", ["--set", "key=value"]),
        ("sensitivity.observables[0]=energy", ["sensitivity.observables", "not a table"]),
    ],
)
def test_a_mistake_is_one_line(trimer, setting, words):
    message = mistake(trimer, setting)
    assert len(message) < 1000
    for word in words:
        assert word in message


def test_an_unknown_pair_of_species_is_named(trimer):
    message = mistake(
        trimer, 'potential.species=["Ar", "Kr"]', "potential.sigma={Ar-Ar=3, Ar-Xe=3, Kr-Kr=3}"
    )
    assert "potential.sigma.Ar-Xe" in message
    assert "Ar-Kr" in message


def test_a_missing_argument_of_the_potential_is_named(trimer):
    text = (trimer / "study.toml").read_text()
    (trimer / "study.toml").write_text(text.replace("cutoff = 12.0\n", ""))
    assert "potential.cutoff is missing" in mistake(trimer)


def test_a_missing_table_is_named(trimer):
    text = (trimer / "study.toml").read_text()
    (trimer / "study.toml").write_text(text.replace("[structure]\nfile", "[sensitivit]\nfile"))
    assert "structure" in mistake(trimer)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[structure", "not a TOML file"),
        (b"description = 'a'\nname = '\xff'", "line 2 is no text in UTF-8"),
        (bytes(100), "not a TOML file"),
        (b"a = " + b"[" * 3000, "16 deep"),
        (b"a = " + b"{b = " * 3000, "16 deep"),
        (b"[a" + b".b" * 400_000 + b"]", "16 deep"),
        (b"a" + b" . 'b'" * 100_000 + b" = 1", "16 deep"),
        (b"a = 0x" + b"f" * 5000, "more than 64 bits"),
        (b"a = 1979-05-27", "no dates"),
        (b"#" * 1_000_001, "more than 1,000,000 bytes"),
    ],
    ids=[
        "open",
        "encoding",
        "zeros",
        "lists",
        "tables",
        "header",
        "key",
        "integer",
        "date",
        "huge",
    ],
)
def test_a_file_that_is_no_study_is_named(trimer, content, words):
    (trimer / "study.toml").write_bytes(content)
    message = mistake(trimer)
    assert "study.toml" in message
    assert words in message


def test_a_byte_order_mark_is_no_part_of_a_study(trimer):
    path = trimer / "study.toml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_study(trimer).file.description == "three argon atoms"


def test_a_study_that_is_a_folder_is_named(trimer):
    (trimer / "study.toml").unlink()
    (trimer / "study.toml").mkdir()
    assert "holds no study.toml" in mistake(trimer)


@pytest.mark.parametrize(
    ("folder", "name"), [("a (2)", "a (2)"), (".hidden", "_hidden"), ("a\n\u202eb", "a__b")]
)
def test_a_folder_names_a_study_so_that_it_can_be_run_again(trimer, tmp_path, folder, name):
    trimer.rename(tmp_path / folder)
    study = load_study(tmp_path / folder)
    assert study.name == name
    assert load_study(tmp_path / folder, [f"name={json.dumps(study.name)}"]).name == name


def test_a_missing_study_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'argon-vacancy'"):
        load_study("argon-vacncy")
    with pytest.raises(InputError, match=r"holds no study\.toml"):
        load_study(tmp_path)


def test_units_are_converted(trimer):
    assert load_study(trimer).potential.parameters["sigma"] == pytest.approx(3.405, abs=1e-12)
    changed = load_study(trimer, ["potential.epsilon=1 kJ/mol", "relaxation.fmax=1 meV/Ang"])
    assert changed.potential.parameters["epsilon"] == pytest.approx(0.01036427, rel=1e-6)
    assert changed.only.relaxation["fmax"] == pytest.approx(1e-3)


def test_reduced_units_take_pure_numbers(trimer):
    assert "reduced units" in mistake(trimer, "units=reduced")
    assert load_study(trimer, ["units=reduced", "potential.sigma=1"]).system.units == "reduced"


def test_set_reaches_an_entry_of_a_table(trimer):
    settings = ['potential.species=["Ar", "Kr"]', "potential.sigma={Ar-Ar=3, Ar-Kr=3, Kr-Kr=3}"]
    for way in ("potential.sigma.Ar-Kr=3.5", "potential.sigma[Ar-Kr]=3.5"):
        found = load_study(trimer, [*settings, way]).potential.parameters
        assert found["sigma[Ar-Kr]"] == 3.5
        assert found["sigma[Ar-Ar]"] == 3.0


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("a.b = 3", {"a": {"b": 3}}),
        ("a[Ar-Kr].c=3", {"a": {"Ar-Kr": {"c": 3}}}),
        ("a.\"x.y=z\"['[']=3", {"a": {"x.y=z": {"[": 3}}}),
        ("a=x=y", {"a": "x=y"}),
        ("a='x # y'", {"a": "x # y"}),
        ("a=[1,\n2]", {"a": [1, 2]}),
        ("a=energy,volume", {"a": "energy,volume"}),
        ("a=two\nlines", {"a": "two\nlines"}),
    ],
)
def test_a_setting_is_one_key_and_one_value(setting, expected):
    assert with_settings({}, [setting]) == expected


@pytest.mark.parametrize(
    "setting",
    ["potential.sigma", "=3", "potential..sigma=3", "name.x=3", "a[]=3", "a]=3", 'a"b"=3', 3],
)
def test_a_setting_that_cannot_be_read_is_an_error(trimer, setting):
    with pytest.raises(InputError, match="--set"):
        with_settings({"name": "a"}, [setting])


def test_a_rattle_moves_every_atom_and_its_seed_decides_where(trimer):
    rattle = "structure.rattle.amplitude=0.1"
    still = load_study(trimer).system.positions
    first = load_study(trimer, [rattle]).system.positions
    again = load_study(trimer, [rattle, "structure.rattle.seed=0"]).system.positions
    other = load_study(trimer, [rattle, "structure.rattle.seed=1"]).system.positions
    assert (abs(first - still) > 0).all()
    assert (first == again).all()
    assert (first != other).all()


def test_a_packing_has_the_packing_fraction_and_counts_asked_for():
    study = load_study(
        "soft-spheres-2d",
        ["structure.packing_fraction=0.8", "structure.seed=5", "structure.count=30"],
    )
    system = study.system
    assert system.atom_count == 30
    area = 15 * 3.141592653589793 / 4 * (1.0**2 + 0.6**2)
    assert float(area / system.volume) == pytest.approx(0.8)
    assert (load_study("soft-spheres-2d").system.positions[:4] != system.positions[:4]).any()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("structure.count=7", ["structure.count = 7", "multiple of 2"]),
        ("structure.count={large=4, smal=4}", ["structure.count", "'smal'", "'small'?"]),
        ("structure.builder=packing", ["structure.builder", "soft-sphere-packing"]),
        ("structure.count=1000000000", ["structure.count", "10000000"]),
        ("structure.count={large=9999999, small=9999999}", ["19999998 particles", "10,000,000"]),
        ("structure.count={}", ["structure.count = {}"]),
        ("structure.packing_fraction=1e-300", ["structure.packing_fraction", "1e-06"]),
        ("structure.packing_fraction=nan", ["structure.packing_fraction", "nan", "finite"]),
        ("structure.diameters={large=1e300, small=1}", ["structure.diameters.large", "1e+300"]),
        ("structure.packing_fraction=-1", ["structure.packing_fraction = -1", "at least 1e-06"]),
        ("potential.alpha=cubic", ["alpha", "'cubic'", "harmonic"]),
        ("potential.diameter.larg=1", ["potential.diameter.larg", "'large'?"]),
    ],
)
def test_a_mistake_in_a_packing_is_one_line(setting, words):
    message = mistake("soft-spheres-2d", setting)
    for word in words:
        assert word in message


def test_toml_written_is_toml_read(trimer):
    table = tomllib.loads((trimer / "study.toml").read_text())
    table["potential"]["sigma"] = {"Ar-Ar": 3.0, "a b": 1e-30}
    table["description"] = 'quoted "text" with \\ and \n and é'
    table["sensitivity"]["flags"] = [True, 3, -1e300]
    assert tomllib.loads(to_toml(table)) == table


#: Arguments that no study can hold: what is relaxed, what is shown, what is traced; and where runs
#: of studies have their checkpoints, which the command decides.
NOT_IN_A_FILE = {
    "system", "potential", "equilibrium", "observables", "progress", "callback", "capacity",
    "checkpoint", "checkpoint_every",
}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "table"), [(mdsens.relax, Relaxation), (mdsens.sensitivity, SensitivityTable)]
)
def test_an_option_has_one_name_and_one_default_in_python_and_in_a_study(function, table):
    options = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in NOT_IN_A_FILE
    }
    # A file has no None: nothing of the cell relaxes where it says "none".
    defaults = {
        name: None if field.default == "none" else field.default
        for name, field in table.model_fields.items()
        if name not in NOT_IN_A_FILE | {"logarithmic"}
    }
    assert defaults == options


def test_fixed_atoms_and_the_skin_of_a_study_reach_its_relaxation(trimer):
    settings = [
        "relaxation.fixed=[0]",
        'relaxation.skin="0.04 nm"',
        "structure.rattle.amplitude=0.01",
    ]
    study = load_study(trimer, settings)
    assert np.flatnonzero(study.system.fixed).tolist() == [0]
    (started,) = study.starts([3])
    assert np.flatnonzero(started.fixed).tolist() == [0]
    assert study.only.relaxation["skin"] == pytest.approx(0.4, abs=1e-12)
    relaxed = study.relax()
    np.testing.assert_array_equal(relaxed.positions[0], study.system.positions[0])


def test_an_atom_that_does_not_exist_cannot_be_fixed(trimer):
    study = load_study(trimer, ["relaxation.fixed=[7]"])
    with pytest.raises(InputError, match=r"relaxation.*fixed.*7"):
        study.check()
