"""Jacobians by every way against one another, against relaxing again, and how they are told."""

import json
import re

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import mechanics, observables
from mdsens.digits import is_zero
from mdsens.errors import InputError, MdsensWarning, UnreliableDerivativeError
from mdsens.potentials import LennardJones
from mdsens.sensitivities.linear_response import relative_to_largest
from mdsens.sensitivities.noise import natural_size

LJ = cases.POTENTIALS["lj-smooth"]
BINARY = cases.POTENTIALS["lj-binary"]
ASKED = ("energy", "distance(0,1)", "angle(0,2,1)")


@pytest.fixture(scope="module")
def cluster():
    return mdsens.relax(cases.bipyramid(), BINARY, fmax=1e-12)


@pytest.fixture(scope="module")
def crystal():
    return mdsens.relax(cases.vacancy_crystal(), LJ, cell="full", fmax=1e-11)


@pytest.fixture(scope="module")
def trimer():
    corners = 1.1 * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]])
    return mdsens.relax(
        mdsens.System(corners, units="reduced"),
        mdsens.potentials.LennardJones(1.0, 1.0, 8.0),
        fmax=1e-10,
    )


@pytest.fixture(scope="module")
def forward(cluster):
    return mdsens.sensitivity(cluster, ASKED, mode="forward")


@eqx.filter_jit
def force_changes(system, potential, edge_list):
    """Derivatives of the forces in the potential, at the same structure."""
    return jax.jacfwd(lambda p: mechanics.forces(system, p, edge_list))(potential)


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-cluster")
def test_positions_move_by_the_pseudo_inverse_of_the_hessian(cluster, forward):
    system, edge_list = cluster.system, cluster.edge_list
    inverse = np.linalg.pinv(
        np.asarray(mechanics.hessian(system, BINARY, edge_list)), rcond=1e-9, hermitian=True
    )
    changes = force_changes(system, BINARY, edge_list)
    for name, ours in forward.positions.items():
        direction = BINARY.direction(name)
        change = sum(
            np.tensordot(np.asarray(getattr(changes, field)), np.asarray(getattr(direction, field)))
            for field in ("epsilon", "sigma")
        )
        assert numerical.relative_error(ours, (inverse @ change.ravel()).reshape(-1, 3)) < 1e-9


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-cluster")
def test_reverse_agrees_with_forward(cluster, forward):
    reverse = mdsens.sensitivity(cluster, ASKED, mode="reverse")
    assert reverse.mode == "reverse"
    for name in ASKED:
        ours = np.array(list(reverse[name].values()))
        assert numerical.relative_error(ours, list(forward[name].values())) < 1e-9


WAYS = ("multigrid", "block-jacobi", "matrix-free")


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-iterative")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_every_way_to_solve_agrees_with_the_factorisation(crystal, monkeypatch, mode, way):
    asked = ["volume", "stress"] if mode == "forward" else ["volume"]
    expected = mdsens.sensitivity(crystal, asked, mode="forward")
    assert crystal.hessian_solver.sparse.method == "direct"
    # A copy that has kept nothing, and no longer counts as small.
    fresh = eqx.tree_at(lambda equilibrium: equilibrium.q, crystal, crystal.q + 0.0)
    monkeypatch.setattr("mdsens.relaxation.equilibrium.EIGENVECTOR_LIMIT", 1)
    if way == "matrix-free":
        monkeypatch.setattr("mdsens.mechanics.hessian_solver.available_memory", lambda: 1024)
        with pytest.warns(MdsensWarning, match="sparse Hessian would take up to"):
            assert fresh.hessian_solver is None
    else:
        monkeypatch.setattr("mdsens.linalg.sparse_solver.DIRECT_LIMIT", {3: 0})
    if way == "block-jacobi":
        monkeypatch.setattr("pyamg.smoothed_aggregation_solver", lambda *_, **__: 1 / 0)
    ours = mdsens.sensitivity(fresh, asked, mode=mode)
    assert fresh.dense_jacobian is None
    assert way == "matrix-free" or fresh.hessian_solver.sparse.method == way
    for parameter in LJ.parameters:
        value, reference = ours["volume"][parameter], expected["volume"][parameter]
        assert float(value) == pytest.approx(float(reference), rel=1e-9, abs=1e-9)
    if mode == "forward":
        difference = numerical.relative_error(ours.positions["sigma"], expected.positions["sigma"])
        assert difference < 1e-9
        errors = ours.certificate.derivative_error, expected.certificate.derivative_error
        assert errors[0] == pytest.approx(errors[1], rel=0.5, abs=1e-12)


@pytest.mark.xdist_group("sensitivity-cluster")
def test_numbers_that_are_solved_for_in_several_blocks_are_those_of_one(cluster, monkeypatch):
    whole = mdsens.sensitivity(cluster, ASKED, mode="reverse")
    monkeypatch.setattr("mdsens.linalg.sparse_solver.TOGETHER", 2)
    parts = mdsens.sensitivity(cluster, ASKED, mode="reverse")
    for name in ASKED:
        ours, expected = list(parts[name].values()), list(whole[name].values())
        assert numerical.relative_error(np.array(ours), np.array(expected)) < 1e-12


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-cluster")
@pytest.mark.parametrize(("name", "step"), [("epsilon[A-B]", 1e-2), ("sigma[B-B]", 1e-3)])
def test_observables_change_as_if_relaxed_again(cluster, forward, name, step):
    def observe(equilibrium):
        return jnp.stack([observables.parse(o)(equilibrium) for o in ASKED])

    def again(value):
        potential = BINARY.with_parameters({name: value})
        return observe(mdsens.relax(cases.bipyramid(), potential, fmax=1e-12))

    at = BINARY.parameters[name]
    noise = numerical.left_over(cluster, observe)
    expected = numerical.derivative(again, at, step * at, noise=noise)
    numerical.agrees([forward[o][name] for o in ASKED], expected, rtol=1e-6, each=True)


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-crystal")
def test_the_cell_changes_as_if_relaxed_again(crystal):
    def observe(equilibrium):
        return jnp.append(jnp.linalg.norm(equilibrium.cell, axis=1), equilibrium.volume)

    def relaxed(sigma):
        potential = LJ.with_parameters({"sigma": sigma})
        return mdsens.relax(cases.vacancy_crystal(), potential, cell="full", fmax=1e-12)

    sens = mdsens.sensitivity(crystal, "volume", "sigma")
    noise = numerical.left_over(relaxed(1.0), observe)
    # Small, since third derivatives jump where a pair crosses the switch.
    expected = numerical.derivative(lambda s: observe(relaxed(s)), 1.0, 1e-4, noise=noise)
    cell = np.asarray(crystal.cell)
    lengths = np.sum(cell * np.asarray(sens.cell["sigma"]), axis=1) / np.linalg.norm(cell, axis=1)
    numerical.agrees([*lengths, sens["volume"]["sigma"]], expected, rtol=1e-6, each=True)


@pytest.mark.xdist_group("sensitivity-cluster")
def test_logarithms_are_per_cent_by_per_cent(cluster, forward):
    logarithms = forward.logarithmic()
    # Scaling all sigmas scales every length; the cutoff is out of reach of this cluster.
    total = sum(float(logarithms["distance(0,1)"][f"sigma[{p}]"]) for p in ("A-A", "A-B", "B-B"))
    assert total == pytest.approx(1.0, rel=1e-9)
    total = sum(float(logarithms["energy"][f"epsilon[{p}]"]) for p in ("A-A", "A-B", "B-B"))
    assert total == pytest.approx(1.0, rel=1e-9)


@pytest.mark.xdist_group("sensitivity-crystal")
def test_modes_are_chosen_by_the_number_of_solves(crystal):
    assert mdsens.sensitivity(crystal, "volume").mode == "reverse"
    assert mdsens.sensitivity(crystal, "volume", "sigma").mode == "forward"
    assert mdsens.sensitivity(crystal).mode == "forward"


@pytest.mark.xdist_group("sensitivity-cluster")
def test_a_table_s_name_means_all_of_it_and_pairs_have_no_order(cluster):
    sens = mdsens.sensitivity(cluster, "energy", ["sigma", "epsilon[B-A]"])
    assert list(sens["energy"]) == ["sigma[A-A]", "sigma[A-B]", "sigma[B-B]", "epsilon[A-B]"]


@pytest.mark.xdist_group("sensitivity-cluster")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observables": "volum"}, "did you mean 'volume'"),
        ({"wrt": "sigm"}, r"did you mean 'sigma"),
        ({"mode": "backward"}, "allowed are auto, forward, reverse"),
        ({"mode": 1}, "mode = 1: allowed are"),
        ({"observables": ["energy", "energy"]}, "'energy' is given twice"),
        ({"observables": ["distance(0,1)", observables.distance(0, 1)]}, "is given twice"),
        ({"observables": 3}, "observables = 3: give an observable"),
        ({"observables": ["energy", None]}, "observables: None is none"),
        ({"wrt": ["sigma", "sigma"]}, "wrt = .*'sigma' is given twice"),
        ({"wrt": 3}, "wrt = 3: give a name"),
        ({"wrt": [True]}, "True is no name"),
        ({"allow_unconverged": 1}, "allow_unconverged = 1: give True or False"),
        ({"error_estimate": "no"}, "error_estimate = 'no': give True or False"),
        ({"progress": None}, "progress = None: give True or False"),
    ],
)
def test_what_a_sensitivity_refuses(cluster, arguments, message):
    with pytest.raises(InputError, match=message):
        mdsens.sensitivity(cluster, **arguments)


def test_a_sensitivity_is_that_of_an_equilibrium():
    with pytest.raises(InputError, match="equilibrium is a System: give an Equilibrium"):
        mdsens.sensitivity(cases.dimer())
    with pytest.raises(InputError, match="equilibria is a System: give a BatchEquilibrium"):
        mdsens.sensitivity_batch(cases.dimer())


@pytest.mark.xdist_group("sensitivity-cluster")
def test_an_observable_that_was_not_asked_for_is_named(forward):
    with pytest.raises(KeyError, match="there are: energy"):
        forward["volume"]


@pytest.mark.xdist_group("sensitivity-cluster")
def test_a_parameter_that_was_not_asked_for_is_named(forward):
    """And what says so is otherwise a dictionary, to JAX as well."""
    known = next(iter(forward.parameters))
    for derivatives in (forward["energy"], forward.positions):
        with pytest.raises(KeyError, match=re.escape(f"no derivative in '{known}x'")):
            derivatives[f"{known}x"]
        doubled = jax.tree.map(lambda derivative: 2.0 * derivative, derivatives)
        assert list(doubled) == sorted(derivatives)
        plain = jax.tree.leaves_with_path(dict(derivatives))
        for (path, leaf), (place, twice) in zip(
            plain, jax.tree.leaves_with_path(doubled), strict=True
        ):
            assert path == place
            np.testing.assert_array_equal(2.0 * leaf, twice)


@pytest.mark.xdist_group("sensitivity-cluster")
def test_units_are_quotients(forward):
    assert forward.units("energy", "sigma[A-B]") == "reduced"


@pytest.mark.xdist_group("sensitivity-cluster")
def test_tables_and_files_hold_the_derivatives(forward, tmp_path):
    frame = forward.to_dataframe()
    assert len(frame) == len(ASKED) * len(BINARY.parameters)
    row = frame[(frame.observable == "energy") & (frame.parameter == "sigma[A-B]")]
    assert row.derivative.item() == float(forward["energy"]["sigma[A-B]"])
    assert row.derivative_error.item() == float(forward.errors["energy"]["sigma[A-B]"])
    assert row.value_error.item() == float(forward.value_errors["energy"])
    dataset = forward.to_xarray()
    error = dataset["error_d_distance(0,1)"].sel(parameter="epsilon[B-B]")
    assert error.item() == float(forward.errors["distance(0,1)"]["epsilon[B-B]"])
    assert dataset["error_energy"].item() == float(forward.value_errors["energy"])
    named = dataset["d_distance(0,1)"].sel(parameter="epsilon[B-B]")
    assert named.item() == float(forward["distance(0,1)"]["epsilon[B-B]"])
    assert dataset.d_positions.shape == (6, 5, 3)
    forward.save(tmp_path / "table.csv")
    assert len((tmp_path / "table.csv").read_text().splitlines()) == len(frame) + 1
    forward.save(tmp_path / "table.json")
    written = json.loads((tmp_path / "table.json").read_text())
    np.testing.assert_array_equal(
        written["positions"]["sigma[A-A]"], forward.positions["sigma[A-A]"]
    )
    with pytest.raises(InputError, match="allowed endings"):
        forward.save(tmp_path / "table.txt")


@pytest.mark.xdist_group("sensitivity-cluster")
def test_the_certificate_has_small_residuals_and_errors(forward):
    assert forward.certificate.linear_residual < 1e-10
    assert forward.certificate.derivative_error < 1e-9


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-refusals")
def test_an_unconverged_structure_is_refused():
    loose = mdsens.relax(cases.bipyramid(), BINARY, max_steps=2)
    with pytest.raises(UnreliableDerivativeError, match="allow_unconverged=True"):
        mdsens.sensitivity(loose, "energy")
    sens = mdsens.sensitivity(loose, "energy", allow_unconverged=True)
    assert np.isfinite(float(sens["energy"]["sigma[A-B]"]))


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-refusals")
def test_a_saddle_is_refused():
    straight = mdsens.System([[-1.12, 0, 0], [0, 0, 0], [1.12, 0, 0]], units="reduced")
    saddle = mdsens.relax(straight, LJ, fmax=1e-10)
    with pytest.raises(UnreliableDerivativeError, match="saddle"):
        mdsens.sensitivity(saddle, "distance(0,1)")
    sens = mdsens.sensitivity(saddle, "distance(0,1)", allow_unconverged=True)
    ratio = float(cases.bond_lengths(saddle)[0])
    assert float(sens["distance(0,1)"]["sigma"]) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-refusals")
def test_what_bends_by_the_forces_that_are_left_is_called_undecided_and_not_a_saddle():
    # Two bonds whose ends do not meet, a hair too short: they bend freely but for what is left.
    hinge = mdsens.System([[-1.12246204, 0, 0], [0, 0, 0], [1.12246204, 0, 0]], units="reduced")
    short = mdsens.potentials.LennardJones(1.0, 1.0, cutoff=1.5, onset=1.3)
    loose = mdsens.relax(hinge, short, fmax=1e-3, max_steps=0)
    assert -1e-5 < loose.certificate.lowest_eigenvalue < 0.0
    with pytest.raises(UnreliableDerivativeError, match="relax to a smaller fmax"):
        mdsens.sensitivity(loose, "energy")
    tight = mdsens.relax(hinge, short, fmax=1e-11)
    assert tight.certificate.null_modes["floppy"] == 2


@pytest.mark.slow
@pytest.mark.xdist_group("sensitivity-error")
def test_the_estimated_error_is_the_true_error_over_six_decades():
    system, asked = cases.vacancy_crystal(), ["pressure", "distance(0,1)"]
    exact = mdsens.sensitivity(mdsens.relax(system, LJ, fmax=1e-12), asked, "sigma", "forward")
    truth = np.asarray(exact.positions["sigma"])
    for fmax in 10.0 ** -np.arange(2, 9):
        loose = mdsens.relax(system, LJ, method="fire", fmax=fmax)
        sens = mdsens.sensitivity(loose, asked, wrt="sigma", mode="forward")
        true_error = numerical.relative_error(sens.positions["sigma"], truth)
        ratio = sens.certificate.derivative_error / true_error
        assert 1 / 3 < ratio < 3, fmax
        assert not sens.certificate.rough
        ways = (
            [sens] if fmax < 1e-4 else [sens, mdsens.sensitivity(loose, asked, "sigma", "reverse")]
        )
        for way in ways:
            for name in asked:
                off = (
                    way[name]["sigma"] - exact[name]["sigma"],
                    way.observed[name] - exact.observed[name],
                )
                told = way.errors[name]["sigma"], way.value_errors[name]
                for error, estimate in zip(off, told, strict=True):
                    assert 1 / 3 < float(estimate) / abs(float(error)) < 3, (name, fmax, way.mode)


@pytest.mark.xdist_group("sensitivity-cluster")
def test_an_estimate_that_a_long_newton_step_makes_rough_is_called_so():
    def found(fmax):
        loose = mdsens.relax(cases.bipyramid(), BINARY, method="fire", fmax=fmax)
        return mdsens.sensitivity(loose, wrt="sigma[A-B]", allow_unconverged=True).certificate

    far, near = found(3.0), found(1e-2)
    assert far.rough
    assert "a rough estimate: relax to a smaller force" in str(far)
    assert not near.rough
    assert "rough" not in str(near)


def test_errors_of_tangents_count_as_what_their_parameters_change_at_most():
    potential = LennardJones(epsilon=0.5, sigma=2.0, cutoff=6.0)
    tangents = {"epsilon": np.full((1, 3), 0.1), "sigma": np.full((1, 3), 0.4)}
    # theta |dq/dtheta| is largest for sigma: 2.0 * 0.4 sqrt(3).
    largest = 0.8 * np.sqrt(3)
    found = relative_to_largest(potential.parameters, 6.0, tangents, [0.02, 0.01])
    np.testing.assert_allclose(found, [0.5 * 0.02 / largest, 2.0 * 0.01 / largest], rtol=1e-14)
    # Where nothing moves, against a millionth of the range.
    still = {"sigma": np.zeros((1, 3))}
    nothing = 6e-6 * np.sqrt(3)
    found = relative_to_largest(potential.parameters, 6.0, still, [3e-9])
    assert found == [pytest.approx(6e-9 / nothing)]
    # At a load of zero, against what the load itself moves.
    found = relative_to_largest({"pressure": 0.0}, 6.0, {"pressure": tangents["sigma"]}, [0.01])
    assert found == [pytest.approx(0.01 / (0.4 * np.sqrt(3)))]


#: What is zero by symmetry or by definition, and so is noise however well it was relaxed.
ZEROS = {
    "crystal": [("pressure", "sigma"), ("pressure", "epsilon"), ("volume", "epsilon")],
    "trimer": [("energy", "sigma"), ("distance(0,1)", "epsilon"), ("angle(0,1,2)", "sigma")],
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group(f"sensitivity-{name}")) for name in ZEROS],
)
def test_what_is_zero_is_below_its_error_and_all_else_is_above(request, name, mode):
    system = request.getfixturevalue(name)
    sens = mdsens.sensitivity(system, list(dict.fromkeys(o for o, _ in ZEROS[name])), mode=mode)
    zeros = {(o, p) for o in sens for p in sens[o] if is_zero(sens[o][p], sens.errors[o][p])}
    # A triangle of equal atoms: all angles are 60 degrees, whatever the parameters.
    by_symmetry = {("angle(0,1,2)", "epsilon")} if name == "trimer" else set()
    assert zeros == set(ZEROS[name]) | by_symmetry
    for observable, parameter in zeros:
        assert sens.errors[observable][parameter] < 1e-8
        line = next(l for l in str(sens).splitlines() if l.split()[:2] == [observable, parameter])
        assert line.split()[2] == "0"
    if name == "crystal":
        # Its pressure is zero too, and nothing is a per cent of that.
        assert is_zero(sens.observed["pressure"], sens.value_errors["pressure"])
        assert np.isnan(float(sens.logarithmic()["pressure"]["sigma"]))
        assert float(sens.logarithmic()["volume"]["sigma"]) == pytest.approx(3.0, abs=1.0)


@pytest.mark.xdist_group("sensitivity-cluster")
def test_errors_that_were_not_asked_for_are_not_numbers(cluster):
    sens = mdsens.sensitivity(cluster, "energy", "sigma[A-B]", error_estimate=False)
    assert np.isnan(float(sens.errors["energy"]["sigma[A-B]"]))
    assert np.isnan(float(sens.value_errors["energy"]))
    assert sens.certificate.derivative_error is None


@pytest.mark.xdist_group("sensitivity-crystal")
def test_the_values_are_those_at_the_equilibrium(crystal):
    sens = mdsens.sensitivity(crystal, ["volume", "stress"], "sigma")
    assert float(sens.observed["volume"]) == float(jnp.abs(jnp.linalg.det(crystal.cell)))
    assert sens["stress"]["sigma"].shape == (6,)


def test_a_natural_size_is_in_the_unit_that_its_quantity_is_shown_in():
    # An eV per cubic Angstrom is 160.2 GPa, one per square Angstrom 16.02 N/m.
    assert natural_size("modulus", 2.0, 1.0, "ase") == pytest.approx(2 * 160.21766, rel=1e-6)
    assert natural_size("planar modulus", 1.0, 2.0, "ase") == pytest.approx(4.0054416, rel=1e-6)
    assert natural_size("modulus", 2.0, 1.0, "reduced") == 2.0
    assert natural_size("energy/length^3", 2.0, 1.0, "ase") == 2.0


@pytest.mark.parametrize("fixed", [[], [0]])
def test_positions_move_as_a_distance_does(fixed):
    positions = np.array([[0.0, 0.0, 0.0], [3.0, 2.0, 1.0]])
    system = mdsens.System(positions, symbols="Ar", fixed=fixed or None)
    potential = mdsens.potentials.LennardJones(0.0104, 3.4, cutoff=8.5)
    sens = mdsens.sensitivity(
        mdsens.relax(system, potential, fmax=1e-12), "distance(0,1)", wrt="sigma"
    )
    move, along = np.asarray(sens.positions["sigma"]), positions[1] / np.linalg.norm(positions[1])
    assert (move[1] - move[0]) @ along == pytest.approx(float(sens["distance(0,1)"]["sigma"]))
    assert not np.any(move[fixed])
    assert not np.any(np.asarray(sens.cell["sigma"]))
