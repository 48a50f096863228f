"""Results in files come back the same in every bit, and what is no such file is said in a line."""

import dataclasses
import json
import os
import pickle
import sys
import types

import ase.build
import cases
import equinox as eqx
import jax
import numpy as np
import pytest

import mdsens
from mdsens import observables
from mdsens.archive import CONTENTS
from mdsens.errors import InputError
from mdsens.observables import Observable
from mdsens.potentials import LennardJones, Parameter, TruncatedPairPotential, parameter

pytestmark = pytest.mark.xdist_group("archive")
ARGON = LennardJones(epsilon=0.0104, sigma=3.4, cutoff=8.5)


class Inverse(TruncatedPairPotential):
    """A user's own potential."""

    strength: Parameter = parameter("energy")

    def pair_energies(self, r):
        return self.strength * (r**-12 - r**-6)


@pytest.fixture(scope="module")
def equilibrium():
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    return mdsens.relax(mdsens.System.from_ase(atoms), ARGON, cell="full")


def derivatives(equilibrium, mode):
    reference = np.asarray(equilibrium.start) + 0.25
    asked = ["energy", "stress", observables.mean_squared_displacement(reference)]
    return mdsens.sensitivity(equilibrium, asked, mode=mode)


@pytest.fixture(scope="module")
def forward(equilibrium):
    return derivatives(equilibrium, "forward")


@pytest.fixture(scope="module")
def reverse(equilibrium):
    return derivatives(equilibrium, "reverse")


@pytest.fixture(scope="module")
def batch():
    potential = ARGON.with_parameters({"sigma": 1.0})
    return mdsens.relax_batch([cases.dimer(), cases.bipyramid(), cases.dimer()], potential)


@pytest.fixture(scope="module")
def batch_sensitivity(batch):
    return mdsens.sensitivity_batch(batch, "energy")


ALL = ("equilibrium", "forward", "reverse", "batch", "batch_sensitivity")


def through_file(result, tmp_path):
    result.save(tmp_path / "result.npz")
    return type(result).load(tmp_path / "result.npz")


def through_pickle(result, tmp_path):
    return pickle.loads(pickle.dumps(result))


def same(one, two):
    """Whether two things are of one kind, and the same in every bit; functions by equality."""
    if isinstance(one, float) and isinstance(two, float):
        return one.hex() == two.hex()
    if type(one) is not type(two):
        return False
    if isinstance(one, (np.ndarray, jax.Array)):
        one, two = np.asarray(one), np.asarray(two)
        return (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and same(list(one.values()), list(two.values()))
    if isinstance(one, Observable):
        return one == two
    if isinstance(one, mdsens.sensitivities.results.Tangents):
        return same((one.q, one.ahead, one.errors), (two.q, two.ahead, two.errors))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(
            name == "preconditioner" or same(getattr(one, name), getattr(two, name))
            for name in names
        )
    return one == two


@pytest.mark.slow
@pytest.mark.parametrize("way", [through_file, through_pickle])
@pytest.mark.parametrize("name", ALL)
def test_a_result_comes_back_the_same_in_every_bit(name, way, tmp_path, request):
    result = request.getfixturevalue(name)
    again = way(result, tmp_path)
    assert same(result, again)
    assert repr(result) == repr(again)


@pytest.mark.parametrize("way", [through_file, through_pickle])
@pytest.mark.parametrize("mode", ["forward", pytest.param("reverse", marks=pytest.mark.slow)])
def test_what_follows_from_a_result_follows_again(equilibrium, mode, way, tmp_path, request):
    sensitivity = request.getfixturevalue(mode)
    again = way(equilibrium, tmp_path)
    assert same(again.stress, equilibrium.stress)
    assert same(again.certificate, equilibrium.certificate)
    assert same(derivatives(again, mode)["stress"], sensitivity["stress"])
    loaded = way(sensitivity, tmp_path)
    assert same(loaded.positions, sensitivity.positions)
    assert same(loaded.cell, sensitivity.cell)


@pytest.mark.slow
def test_a_certificate_is_kept_once_it_is_known(tmp_path):
    relaxed = mdsens.relax(cases.dimer(), ARGON.with_parameters({"sigma": 1.0}))
    assert "certificate" not in vars(through_file(relaxed, tmp_path))
    known = relaxed.certificate
    assert same(vars(through_file(relaxed, tmp_path))["certificate"], known)


@pytest.mark.slow
def test_a_batch_that_is_loaded_is_a_batch(batch, batch_sensitivity, tmp_path):
    again = through_file(batch, tmp_path)
    # One potential of them all, as before: other ones would be compiled for one by one.
    assert len({id(potential) for potential in again.potentials}) == 1
    assert same(again[1].positions, batch[1].positions)
    one = through_file(batch_sensitivity, tmp_path).at(1)
    assert same(one["energy"], batch_sensitivity.at(1)["energy"])


def test_what_is_not_finite_and_what_failed_is_kept(batch, tmp_path):
    failed = eqx.tree_at(lambda e: e.largest_force, batch[0], np.nan)
    assert np.isnan(through_file(failed, tmp_path).largest_force)
    half = dataclasses.replace(batch, failures={2: "flew apart"}, pressure=-np.inf)
    again = through_file(half, tmp_path)
    assert again.failures == {2: "flew apart"}
    assert again.pressure == -np.inf


def test_a_potential_of_ones_own_is_loaded_where_its_class_is_there(tmp_path, monkeypatch):
    own = Inverse(strength=1.0, cutoff=3.0)
    relaxed = mdsens.relax(cases.dimer(), own)
    again = through_file(relaxed, tmp_path)
    assert type(again.potential) is Inverse
    assert same(again.energy, relaxed.energy)
    monkeypatch.delattr(sys.modules[__name__], "Inverse")
    with pytest.raises(InputError, match=r"Inverse.* is not there") as line:
        mdsens.Equilibrium.load(tmp_path / "result.npz")
    assert "\n" not in str(line.value)
    with pytest.raises(InputError, match="can be imported"):
        relaxed.save(tmp_path / "other.npz")
    assert not (tmp_path / "other.npz").exists()


def test_of_an_observable_of_ones_own_the_values_are_kept(equilibrium, tmp_path):
    height = Observable("height", "length", lambda e: e.positions[0, 2])
    found = mdsens.sensitivity(equilibrium, height)
    again = through_file(found, tmp_path)
    assert same(again["height"], found["height"])
    assert repr(again) == repr(found)
    with pytest.raises(InputError, match="height: a file keeps its values"):
        again.observables["height"](equilibrium)


def test_what_jax_traces_is_refused(tmp_path):
    def energy(sigma):
        relaxed = mdsens.relax(cases.dimer(), ARGON.with_parameters({"sigma": sigma}))
        relaxed.save(tmp_path / "traced.npz")
        return relaxed.energy

    with pytest.raises(InputError, match="being traced"):
        jax.make_jaxpr(energy)(1.0)
    assert not list(tmp_path.iterdir())


# Files that are none -----------------------------------------------------------------------------


def rewritten(path, change):
    """The same file with other contents."""
    with np.load(path) as file:
        entries = dict(file)
    contents = json.loads(bytes(entries[CONTENTS]))
    change(contents)
    entries[CONTENTS] = np.frombuffer(json.dumps(contents).encode(), np.uint8)
    np.savez(path, **entries)


def refusal(path, kind=mdsens.Equilibrium):
    with pytest.raises(InputError) as error:
        kind.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_are_none_are_said_in_a_line(equilibrium, tmp_path):
    path = tmp_path / "result.npz"
    assert "No such file" in refusal(path)
    path.write_text("positions")
    assert "holds no result of mdsens" in refusal(path)
    np.savez(path, a=np.zeros(3))
    assert "holds no result of mdsens" in refusal(path)
    equilibrium.save(path)
    assert "use Equilibrium.load" in refusal(path, mdsens.Sensitivity)
    rewritten(path, lambda contents: contents.update(schema=2))
    assert "later version" in refusal(path)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.7, 0.99])
def test_a_file_that_is_cut_short_is_refused(equilibrium, tmp_path, part):
    path = tmp_path / "result.npz"
    equilibrium.save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "damaged or cut short" in refusal(path)


def test_no_damage_goes_unnoticed(equilibrium, tmp_path):
    """Each byte of a file counts: it is refused, or what is loaded is the same."""
    path = tmp_path / "result.npz"
    equilibrium.save(path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(4, len(whole), 150):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            again = mdsens.Equilibrium.load(path)
        except InputError:
            refused += 1
        else:
            assert same(again, equilibrium)
    assert refused > 50


class Ran:
    """A class that no file may make."""

    made = False

    def __setstate__(self, state):
        type(self).made = True


@pytest.mark.parametrize(
    "named",
    [("test_archive", "Ran"), ("subprocess", "Popen"), ("mdsens.archive", "np.ndarray"),
     ("mdsens.archive", "json.loads"), ("mdsens.no_module", "X"), ("mdsens.values", "shown")],
)  # fmt: skip
def test_no_other_class_is_made(equilibrium, tmp_path, monkeypatch, named):
    module = types.ModuleType("test_archive")
    module.Ran = Ran
    Ran.__module__ = "test_archive"
    monkeypatch.setitem(sys.modules, "test_archive", module)
    path = tmp_path / "result.npz"
    equilibrium.save(path)
    rewritten(path, lambda contents: contents["objects"][0].update({"class": named}))
    assert "class" in refusal(path)
    assert not Ran.made


def test_no_pickle_is_read(equilibrium, tmp_path):
    path = tmp_path / "result.npz"
    equilibrium.save(path)
    with np.load(path) as file:
        entries = dict(file)
    entries["array0"] = np.array([Ran()], object)
    np.savez(path, **entries)
    assert "damaged" in refusal(path)
    assert not Ran.made


# Writing -----------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_or_not_at_all(equilibrium, tmp_path, monkeypatch):
    path = tmp_path / "result.npz"
    equilibrium.save(path)
    before = path.read_bytes()

    def full_disk(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(InputError, match="No space left"):
        equilibrium.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["result", "result.txt", "result.npz.gz"])
def test_other_endings_are_refused(equilibrium, forward, tmp_path, name):
    for result in (equilibrium, forward):
        with pytest.raises(InputError, match=r"cannot write .*\.npz"):
            result.save(tmp_path / name)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        equilibrium.save(tmp_path / "nowhere" / "result.npz")
