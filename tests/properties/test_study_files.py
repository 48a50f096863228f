"""A study file with anything in it is read, or refused in one line; a right one is read."""

import copy
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st
from one_line import BrokenRuleError, refusal

from mdsens.study import load_study
from mdsens.study.toml import to_toml

pytestmark = pytest.mark.slow

ARGON = "4\nargon\nAr 0 0 0\nAr 3.7 0 0\nAr 0 3.7 0\nAr 0 0 3.7\n"
FILE = {
    "name": "argon",
    "description": "four atoms",
    "units": "ase",
    "structure": {"file": "argon.xyz", "rattle": {"amplitude": "0.01 Ang", "seed": 1}},
    "potential": {"type": "lennard-jones", "epsilon": 0.01, "sigma": "0.34 nm", "cutoff": 8.5},
    "relaxation": {"method": "lbfgs", "fmax": 1e-8, "cell": "none", "max_steps": 100},
    "sensitivity": {"observables": ["energy", "distance(0,1)"], "wrt": ["sigma"]},
    "verify": {"step": 1e-3, "tolerance": 1e-6},
    "ensemble": {"seeds": 2, "steps": 10, "parameter": "sigma"},
}
PACKING = {
    "units": "reduced",
    "structure": {
        "builder": "soft-sphere-packing",
        "count": {"large": 2, "small": 2},
        "diameters": {"large": 1.0, "small": 0.6},
        "packing_fraction": 0.9,
        "dimension": 3,
        "seed": 1,
    },
    "potential": {
        "type": "soft-sphere",
        "species": ["large", "small"],
        "diameter": {"large": 1.0, "small": 0.6},
        "alpha": "hertzian",
    },
    "relaxation": {"method": "fire", "fmax": 1e-8},
    "sensitivity": {"observables": ["energy", "pressure"], "logarithmic": True},
}
SEVERAL = {
    "structures": {
        "one": {"file": "argon.xyz"},
        "other": {"file": "argon.xyz", "relaxation": {"fmax": 1e-6}},
    },
    "potential": {"type": "lennard-jones", "epsilon": 0.01, "sigma": 3.4, "cutoff": 8.5},
    "relaxation": {"max_steps": 100},
    "sensitivity": {"observables": ["energy", "one.distance(0,1)"]},
    "formulas": {"ratio": "one.energy / (2 * other.energy) - 1", "square": "one.energy ** 2"},
}


def use(text: bytes, settings=()):
    """Read a study as far as its command does before it computes."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(folder) / "argon.xyz").write_text(ARGON)
        (Path(folder) / "study.toml").write_bytes(text)
        study = load_study(folder, settings)
        for structure in study.structures.values():
            if not np.isfinite(np.asarray(structure.system.positions)).all():
                raise BrokenRuleError("positions are not finite")
        if not np.isfinite(list(study.potential.parameters.values())).all():
            raise BrokenRuleError("parameters are not finite")
        study.check()


def paths(table, above=()):
    """Every key of a table and of those within it."""
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


@st.composite
def changed(draw):
    """A study with up to three of its values gone, or replaced by anything, or one more."""
    table = copy.deepcopy(draw(st.sampled_from([FILE, PACKING, SEVERAL])))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(sorted(paths(table))))
        inner = table
        for part in above:
            inner = inner[part]
        action = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add"]))
        if action == "delete":
            del inner[key]
        else:
            inner[key if action == "replace" else draw(strategies.texts)] = draw(strategies.toml())
        if not table:
            break
    return table


def test_the_studies_that_are_changed_are_right():
    for table in (FILE, PACKING):
        assert refusal(lambda table=table: use(to_toml(table).encode())) == ""


@given(table=changed())
def test_a_study_with_anything_in_it_is_read_or_refused(table):
    refusal(lambda: use(to_toml(table).encode()))


@given(data=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@example(data=b"\xef\xbb\xbf")
@example(data=b"a = " + b"1" * 5000)
@example(data=b"a = " + b"[" * 5000)
@example(data=b"a." * 5000 + b"a = 1")
def test_any_bytes_are_read_or_refused(data):
    whole = to_toml(FILE).encode()
    for text in (data, data + b"\n" + whole, whole + data):
        refusal(lambda text=text: use(text))


@given(key=strategies.texts, value=strategies.plain)
def test_any_setting_is_taken_or_refused(key, value):
    for name in (key, "relaxation.fmax", "structure.rattle.amplitude", f"potential.{key}"):
        refusal(lambda name=name: use(to_toml(FILE).encode(), [f"{name}={value}"]))


@given(table=st.dictionaries(strategies.texts, strategies.toml(), max_size=4))
def test_a_table_is_the_same_after_it_was_written(table):
    import tomllib

    back = tomllib.loads(to_toml(table))
    # NaN is no equal of itself.
    assert repr(in_order(back)) == repr(in_order(table))


def in_order(value):
    """The same with the keys of all tables in one order: inner tables are written after values."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(one) for one in value] if isinstance(value, list) else value
