"""Observables of waves that are asked for together: as each alone, and of fewer programs."""

import functools

import ase.build
import numpy as np
import pytest
from compiled_programs import compiled

import mdsens
from mdsens import System, observables
from mdsens.observables import waves
from mdsens.potentials import LennardJones

#: Of several wave vectors, meshes and masses, with vibrations that are equal and such that rest.
ASKED = [
    observables.phonon_frequencies([0.5, 0, 0.5]),
    observables.phonon_frequencies([0.1, 0.2, 0.35]),
    observables.phonon_frequencies(masses={"Ar": 36.0}),
    observables.mode_gruneisen_parameters([0.1, 0.2, 0.35]),
    observables.mode_gruneisen_parameters(),
    observables.heat_capacity(40, 2),
    observables.zero_point_energy(3),
    observables.gruneisen_parameter(40, 2),
]


@functools.cache
def crystal():
    """A sheared cell with two atoms, none of which rests at a centre of symmetry when strained."""
    atoms = ase.build.bulk("Ar", "hcp", 3.75, 6.2)
    atoms.symbols[1] = "Kr"
    tables = [[0.0104, 0.012], [0.012, 0.014]], [[3.4, 3.5], [3.5, 3.6]]
    potential = LennardJones(*tables, 7.9, species=("Ar", "Kr"))
    return mdsens.relax(System.from_ase(atoms), potential, fmax=1e-12, cell="full")


def test_together_they_are_what_each_is_alone():
    together = mdsens.sensitivity(crystal(), ASKED, wrt="sigma[Ar-Kr]", error_estimate=False)
    for one in ASKED:
        alone = mdsens.sensitivity(crystal(), [one], wrt="sigma[Ar-Kr]", error_estimate=False)
        for found in ("observed", "derivatives"):
            first, second = (getattr(of, found)[one.name] for of in (together, alone))
            if found == "derivatives":
                first, second = first["sigma[Ar-Kr]"], second["sigma[Ar-Kr]"]
            scale = np.abs(np.asarray(second)).max()
            assert scale > 0.0
            np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-11 * scale)


def test_values_and_matrices_of_other_waves_compile_nothing():
    def ask(q, mesh):
        several = [observables.phonon_frequencies(q), observables.heat_capacity(30, mesh)]
        values = [one(crystal()) for one in (*several, observables.mode_gruneisen_parameters(q))]
        assert all(np.isfinite(np.asarray(value)).all() for value in values)

    ask([0.3, 0.1, 0.2], 2)
    before = len(compiled)
    assert before > 0
    # Of another number, too.
    ask([0.2, 0.2, 0.0], 3)
    assert compiled[before:] == []


def test_the_lowest_vibrations_stand_beside_all_those_of_another_wave(monkeypatch):
    monkeypatch.setattr(waves, "DENSE_LIMIT", 0)
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True) * 2
    atoms.symbols[5] = "Kr"
    relaxed = mdsens.relax(System.from_ase(atoms), crystal().potential, fmax=1e-11)
    asked = observables.phonon_frequencies(count=3), observables.phonon_frequencies([0, 0, 0.25])
    given = {"wrt": "sigma[Ar-Ar]", "error_estimate": False}
    together = mdsens.sensitivity(relaxed, asked, **given)
    assert together.observed[asked[0].name].shape == (3,)
    assert together.observed[asked[1].name].shape == (96,)
    for one in asked:
        first, second = (
            of[one.name]["sigma[Ar-Ar]"]
            for of in (together, mdsens.sensitivity(relaxed, [one], **given))
        )
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_matrices_of_any_number_of_waves_are_those_of_each(count):
    from mdsens.mechanics.dynamical_matrix import hessians_of_waves, wave_hessians

    relaxed = crystal()
    given = relaxed.system, relaxed.potential, relaxed.edge_list
    vectors = np.random.default_rng(count).uniform(-1.0, 1.0, (count, 3))
    found = hessians_of_waves(*given, vectors)
    one_by_one = [np.asarray(wave_hessians(*given, one[None]))[0] for one in vectors]
    assert found.shape == (count, 6, 6)
    np.testing.assert_allclose(found, one_by_one, rtol=1e-12, atol=1e-13 * np.abs(found).max())
