"""Lists of potentials and observables: complete, with units, and without JAX."""

import inspect
import json
import subprocess
import sys

import pytest

from mdsens.observables import ARRAYS
from mdsens.observables import BY_NAME as OBSERVABLES_THERE
from mdsens.potentials.any_file import BY_ENDING
from mdsens.study.build import BY_NAME, TYPES, potential_dimensions
from mdsens.study.listings import described_observable, described_potential
from mdsens.study.observable_table import OBSERVABLES
from mdsens.study.potential_table import POTENTIALS
from mdsens.units import unit_name

EMPTY = inspect.Parameter.empty
#: What numbers and whole numbers arguments of observables need at least.
SAMPLE = {"temperature": 300.0, "f_max": 2.0, "cutoff": 3.0, "r_max": 4.0, "i": 1, "j": 2, "k": 3}


def test_every_potential_is_listed_with_every_argument():
    assert set(POTENTIALS) == set(TYPES)
    for name, kind in BY_NAME.items():
        listed = described_potential(name, POTENTIALS[name])
        signature = {
            a: p for a, p in inspect.signature(kind).parameters.items() if a != "header"
        }  # fmt: skip
        if not {"tables", "contents"} & set(signature):
            dimensions = potential_dimensions(kind)
            assert [a["name"] for a in listed["arguments"]] == list(signature), name
            for argument in listed["arguments"]:
                there = signature[argument["name"]]
                assert argument["required"] == (there.default is EMPTY), (name, argument)
                if not argument["required"]:
                    assert argument["default"] == there.default, (name, argument)
                assert argument["dimension"] == dimensions.get(argument["name"]), (name, argument)
        if hasattr(kind, "from_file"):
            of_files = [a for a in inspect.signature(kind.from_file).parameters if a != "path"]
            assert listed["files"]["arguments"] == of_files, name
            endings = {ending for ending, one in BY_ENDING.items() if one is kind}
            assert endings <= set(listed["files"]["endings"]), name
        else:
            assert listed["files"] is None, name


def test_every_observable_is_listed_with_every_argument():
    assert list(OBSERVABLES) == list(OBSERVABLES_THERE)
    for name, factory in OBSERVABLES_THERE.items():
        listed = described_observable(name, OBSERVABLES[name])
        signature = inspect.signature(factory).parameters
        assert [a["name"] for a in listed["arguments"]] == list(signature)
        for argument in listed["arguments"]:
            default = signature[argument["name"]].default
            assert argument["required"] == (default is EMPTY)
            assert argument["required"] or argument["default"] == default
        needed = [a["name"] for a in listed["arguments"] if a["required"]]
        made = factory(**{argument: SAMPLE[argument] for argument in needed})
        assert listed["unit"] == made.units
        assert listed["several"] == (name in ARRAYS)


@pytest.mark.parametrize("what", ["potentials", "observables"])
def test_lists_do_not_wait_for_jax(what):
    code = (
        f"import sys; from mdsens import cli; print(cli.exit_status(['{what}']));"
        "print([m for m in ('jax', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "[]"]
    assert "\x1b" not in done.stdout


def test_lists_in_the_terminal_and_for_scripts(command):
    status, out, _ = command("potentials")
    assert status == 0
    assert all(name in out for name in POTENTIALS)
    assert "epsilon (eV), sigma (Ang)" in " ".join(out.split())
    _, out, _ = command("potentials", "lennard-jones", "--json")
    (listed,) = json.loads(out)
    assert listed["arguments"][1] == {
        "name": "sigma", "dimension": "length", "unit": unit_name("length"), "required": True,
        "default": None,
    }  # fmt: skip
    _, out, _ = command("observables")
    assert "angle(i, j, k)" in out
    _, out, _ = command("observables", "thermal_expansion")
    assert "1/K" in out
    assert "temperature" in out
    status, _, errors = command("potentials", "lenard-jones")
    assert (status, errors.count("\n")) == (2, 1)
    assert "'lennard-jones'?" in errors
    _, out, _ = command("list", "--json")
    assert "argon-cluster" in [study["study"] for study in json.loads(out)]
