"""Names of packages that are imported when they are first used."""

import sys

import pytest

import mdsens.potentials
from mdsens.lazy_names import names_on_first_use


def test_a_name_is_imported_once_and_then_known(monkeypatch):
    package = mdsens.potentials
    monkeypatch.delitem(vars(package), "ZBL", raising=False)
    of_name = names_on_first_use("mdsens.potentials", {"ZBL": "pair_laws"}, ("pair",))
    assert of_name("ZBL").__name__ == "ZBL"
    assert vars(package)["ZBL"] is of_name("ZBL")
    assert of_name("pair") is sys.modules["mdsens.potentials.pair"]


def test_a_name_that_is_none_is_missed_as_ever():
    of_name = names_on_first_use("mdsens.potentials", {})
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        of_name("nothing")
