"""Derivatives of many structures side by side against one at a time and relaxing again."""

import json

import cases
import jax.numpy as jnp
import numerical
import numpy as np
import pandas
import pytest

import mdsens
from mdsens.errors import InputError, UnreliableDerivativeError

pytestmark = pytest.mark.xdist_group("sensitivity-batch")
BINARY = cases.POTENTIALS["lj-binary"]
A, B = BINARY.species
ASKED = ("energy", "distance(0,1)")


def clusters():
    five = cases.bipyramid()
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.41
    return [
        five,
        mdsens.System(tetrahedron, None, (B, A), [0, 1, 1, 0], units="reduced"),
        cases.bipyramid((B, A), (0, 1, 1, 0, 1)).with_fixed([0, 1, 2]),
    ]


@pytest.fixture(scope="module")
def relaxed():
    return mdsens.relax_batch(clusters(), BINARY, fmax=1e-12)


@pytest.fixture(scope="module")
def derivatives(relaxed):
    return mdsens.sensitivity_batch(relaxed, ASKED)


@pytest.mark.slow
@pytest.mark.parametrize("index", [1])
def test_each_structure_has_the_derivatives_that_it_has_alone(relaxed, derivatives, index):
    alone = mdsens.sensitivity(relaxed[index], ASKED, mode="forward")
    mask = relaxed.mask[index]
    for name in BINARY.parameter_names:
        positions = derivatives.positions[name][index]
        np.testing.assert_allclose(positions[mask], alone.positions[name], atol=1e-10, rtol=0)
        assert not positions[~mask].any()
        for asked in ASKED:
            assert derivatives[asked][name][index] == pytest.approx(
                float(alone[asked][name]), abs=1e-10
            )
    told = derivatives.at(index)
    assert told.certificate.null_modes == alone.certificate.null_modes
    np.testing.assert_allclose(
        told.certificate.lowest_eigenvalues, alone.certificate.lowest_eigenvalues, rtol=1e-9
    )
    assert told.certificate.linear_residual < 1e-12
    assert told.certificate.derivative_error < 1e-9
    for asked in ASKED:
        for name in BINARY.parameter_names:
            # Both are noise of some 1e-14 here.
            assert float(told.errors[asked][name]) == pytest.approx(
                float(alone.errors[asked][name]), rel=0.9
            )
        assert float(told.value_errors[asked]) == pytest.approx(
            float(alone.value_errors[asked]), rel=0.9
        )
    assert told["energy"]["sigma[A-B]"] == derivatives["energy"]["sigma[A-B]"][index]


@pytest.mark.slow
def test_derivatives_are_the_differences_of_relaxing_again(relaxed, derivatives):
    name = "sigma[A-B]"
    starts = [equilibrium.system for equilibrium in relaxed]

    def again(values):
        # Potentials differ from system to system, and relax in one batch.
        potentials = [BINARY.with_parameters({name: value}) for (value,) in values]
        moved = mdsens.relax_batch(
            starts * len(potentials), [p for p in potentials for _ in starts], fmax=1e-12
        )
        assert moved.converged.all()
        bonds = np.linalg.norm(moved.positions[:, 0] - moved.positions[:, 1], axis=1)
        return np.stack([moved.energies, bonds], axis=1).reshape(len(values), len(starts), 2)

    # Forces by lowest stiffness move both ends of a bond; energies know only rounding.
    stray = 1e-12 * np.sqrt(5) / derivatives.lowest_eigenvalues[:, 0]
    rounding = 16 * np.finfo(float).eps * np.abs(relaxed.energies)
    noise = np.stack([rounding, np.sqrt(2) * stray], axis=1)
    at = np.array([BINARY.parameters[name]])
    (expected,) = numerical.along(again, at, np.ones((1, 1)), 4e-3, noise=noise)
    for column, (asked, least) in enumerate({"energy": 1e-3, "distance(0,1)": 1.0}.items()):
        # A bond between fixed atoms stays.
        scale = np.maximum(np.abs(expected.value[:, column]), least)
        ours = derivatives[asked][name]
        numerical.agrees(ours, expected[:, column], rtol=1e-6, scale=scale, each=True)


@pytest.mark.slow
def test_loose_structures_have_the_errors_that_they_have_alone():
    # Where the energy of two atoms hardly curves a Newton step is longer than may be taken.
    stretched = mdsens.System([[0.0, 0.0, 0.0], [1.22, 0.0, 0.0]], None, (A,), units="reduced")
    systems = [stretched, *clusters()[::2]]
    loose = mdsens.relax_batch(systems, BINARY, "fire", fmax=[1e3, 1e-2, 1e-3])
    together = mdsens.sensitivity_batch(loose, ASKED, allow_unconverged=True)
    for index in range(3):
        alone = mdsens.sensitivity(loose[index], ASKED, mode="forward", allow_unconverged=True)
        told = together.at(index)
        assert alone.certificate.rough == (index == 0)
        for asked in ASKED:
            for name in BINARY.parameter_names:
                one, other = told.errors[asked][name], alone.errors[asked][name]
                assert one == pytest.approx(float(other), rel=0.1, abs=1e-7), (index, asked, name)
        ours, theirs = told.certificate.derivative_error, alone.certificate.derivative_error
        assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.slow
def test_a_rattler_has_no_derivative_and_an_unconverged_structure_none_to_trust():
    packing, soft = cases.jammed_packing()
    batch = mdsens.relax_batch([packing] * 2, soft, "lbfgs", fmax=[1e-12, 1e-40])
    with pytest.raises(UnreliableDerivativeError, match="structures 1 are unconverged"):
        mdsens.sensitivity_batch(batch)
    found = mdsens.sensitivity_batch(batch[batch.converged], error_estimate=False)
    assert found.null_modes["rattlers"].tolist() == [2]
    moved = found.positions["diameter[large]"][0]
    assert not moved[5].any()
    assert np.abs(moved).max() > 0.0
    # No structure depends on the unit of energy.
    np.testing.assert_allclose(found.positions["epsilon"], 0.0, atol=1e-10)


def test_saddles_are_refused():
    square = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]]) / 2
    first, _, third = clusters()
    square_cluster = mdsens.System(square, None, (A,), units="reduced")
    batch = mdsens.relax_batch([first, square_cluster, third], BINARY, fmax=1e-12)
    with pytest.raises(UnreliableDerivativeError, match="structures 1 are saddles"):
        mdsens.sensitivity_batch(batch, error_estimate=False)
    anyway = mdsens.sensitivity_batch(batch, error_estimate=False, allow_unconverged=True)
    assert anyway.stable.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("observables", "options", "message"),
    [
        ("coordination(1.5)", {}, "one structure at a time"),
        ("pressure", {}, "needs a volume"),
        ("energy", {"wrt": "sigmaa"}, "did you mean"),
        ("energy", {"batch_size": 0}, "batch_size = 0"),
        ("energy", {"batch_size": True}, "batch_size = True: give a whole number"),
        (["energy", "energy"], {}, "'energy' is given twice"),
        ("energy", {"wrt": ["sigma[A-B]"] * 2}, "is given twice"),
        ("energy", {"progress": 1}, "progress = 1: give True or False"),
    ],
)
def test_what_is_not_allowed_is_said(relaxed, observables, options, message):
    with pytest.raises(InputError, match=message):
        mdsens.sensitivity_batch(relaxed, observables, **options)


def test_a_batch_goes_to_the_tables_that_one_structure_goes_to(derivatives, tmp_path):
    """Row by row and number by number what the sensitivity of each structure says by itself."""
    frame = derivatives.to_dataframe()
    dataset = derivatives.to_xarray()
    for index in range(3):
        one = derivatives.at(index)
        rows = frame[frame.system == index].drop(columns="system").reset_index(drop=True)
        pandas.testing.assert_frame_equal(rows, one.to_dataframe(), rtol=1e-14)
        expected, part = one.to_xarray(), dataset.sel(system=index)
        for name in expected:
            found = part[name].values
            if "atom" in part[name].dims:
                found = np.take(found, range(expected.sizes["atom"]), part[name].dims.index("atom"))
            np.testing.assert_allclose(found, expected[name].values, rtol=1e-14, atol=1e-13)
    assert derivatives.units("energy", "sigma[A-A]") == one.units("energy", "sigma[A-A]")
    assert dataset.parameter_value.dims == ("parameter", "system")
    derivatives.save(tmp_path / "table.csv")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == len(frame) + 1
    derivatives.save(tmp_path / "table.json")
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["rows"][-1]["system"] == 2
    np.testing.assert_array_equal(
        written["positions"]["sigma[A-A]"], derivatives.positions["sigma[A-A]"]
    )


@pytest.mark.slow
def test_logarithmic_derivatives_of_arrays_are_by_system(relaxed):
    lengths = mdsens.observables.Observable(
        "coordinates", "length", lambda e: e.positions[:2, 0] + jnp.array([3.0, 5.0])
    )
    # Each system with another value of the parameter.
    scaled = [BINARY.with_parameters({"epsilon[A-B]": 1.5 + 0.1 * i}) for i in range(3)]
    batch = mdsens.relax_batch(clusters(), scaled, fmax=1e-10)
    sens = mdsens.sensitivity_batch(batch, lengths, wrt="epsilon[A-B]")
    change = sens["coordinates"]["epsilon[A-B]"]
    theta = np.array([1.5, 1.6, 1.7])[:, None]
    found = sens.logarithmic()["coordinates"]["epsilon[A-B]"]
    np.testing.assert_allclose(found, theta * change / sens.observed["coordinates"], rtol=1e-14)
    assert np.abs(change).max() > 1e-6
