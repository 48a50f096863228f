"""Bonds, fields and energies of jax-md in study files, which hold numbers and no code."""

import importlib.util

import pytest

import mdsens
from mdsens.study.build import build_potential


def test_bonds_and_fields_have_their_units(tmp_path):
    table = {
        "type": "sum",
        "parts": {
            "springs": {
                "type": "bonds", "pairs": [[0, 1], [1, 2]], "types": [0, 1],
                "stiffness": "16.0217663 N/m", "length": ["0.1 nm", 1.5],
            },
            "hold": {"type": "trap", "centre": ["0.1 nm", 0.0, 0.0], "stiffness": 2.0},
            "turn": {"type": "angles", "triples": [[0, 1, 2]], "stiffness": 1.0, "angle": 109.5},
        },
    }  # fmt: skip
    found = build_potential(table, "ase", tmp_path).parameters
    assert found["springs.stiffness"] == pytest.approx(1.0, rel=1e-8)
    assert (found["length[0]"], found["length[1]"]) == (1.0, 1.5)
    assert (found["centre_x"], found["angle"]) == (1.0, 109.5)


@pytest.mark.peer
@pytest.mark.skipif(importlib.util.find_spec("jax_md") is None, reason="jax-md is not installed")
def test_energies_of_jax_md_have_their_units(tmp_path):
    table = {"type": "jax-md", "energy": "stillinger_weber", "sigma": "0.2 nm", "lam": 25}
    found = build_potential(table, "ase", tmp_path).parameters
    assert (found["sigma"], found["lam"], found["gamma"]) == (2.0, 25.0, 1.2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"type": "jax-md"}, "give the name of an energy of jax-md, lennard_jones"),
        ({"type": "jax-md", "energy": "lennard_jonse"}, "did you mean 'lennard_jones'"),
        (
            {"type": "jax-md", "energy": "morse", "alfa": 2.0},
            "did you mean 'alpha'",
        ),
        ({"type": "bonds", "pairs": [[0, 1]], "stiffness": "2 nm", "length": 1.0}, "is no unit of"),
        ({"type": "bonds", "stiffness": 2.0, "length": 1.0}, "potential.pairs is missing"),
        ({"type": "bonds", "pairs": "all", "stiffness": 2.0, "length": 1.0}, "Bonds: atoms"),
    ],
)
def test_what_they_cannot_be_made_of_is_refused(table, message, tmp_path):
    with pytest.raises(mdsens.InputError, match=message):
        build_potential(table, "ase", tmp_path)
