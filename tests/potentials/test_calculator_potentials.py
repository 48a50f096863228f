"""Calculators of ASE as potentials: their derivatives, how exact they are, and how many calls."""

import ase
import ase.build
import ase.calculators.lj
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.calculators.emt import EMT

import mdsens
from mdsens.mechanics.hessian_by_calls import HessianByCalls
from mdsens.mechanics.springs import Products, matrix_of_products, noise_of_products
from mdsens.potentials import Calculator, LennardJones, emt
from mdsens.potentials.host_calculator import Structure, host_calculator

POINT = {"epsilon": 0.0104, "sigma": 3.405}
DIMENSIONS = {"epsilon": "energy", "sigma": "length"}


def direct(epsilon, sigma):
    return LennardJones(epsilon, sigma, 8.5, onset=7.0)


def as_calculator(epsilon, sigma):
    return mdsens.Calculator(direct(epsilon, sigma))


class Rounded(mdsens.Calculator):
    """What a model in single precision says: of positions that are rounded, and rounded itself."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        rounded = self.atoms.copy()
        rounded.positions = np.float64(np.float32(rounded.positions))
        rounded.calc = mdsens.Calculator(self.potential)
        energy = float(np.float32(rounded.get_potential_energy()))
        forces = np.float64(np.float32(rounded.get_forces()))
        self.results |= {"energy": energy, "free_energy": energy, "forces": forces}


def in_single_precision(epsilon, sigma):
    return Rounded(direct(epsilon, sigma))


def vacancy(repeats=2, element="Ar", a=5.26):
    atoms = ase.build.bulk(element, "fcc", a, cubic=True) * ((repeats,) * 3)
    atoms.rattle(0.02, seed=1)
    del atoms[0]
    return mdsens.System.from_ase(atoms)


def by_calls(make=as_calculator, **changes):
    return Calculator(make, POINT | changes, DIMENSIONS)


OBSERVABLES = ["distance(0,1)", "distance(3,9)", "energy"]


@pytest.fixture(scope="module")
def both():
    """The same vacancy by the calculator and by the potential itself."""
    found = [
        mdsens.relax(vacancy(), potential, fmax=1e-11)
        for potential in (by_calls(), direct(**POINT))
    ]
    return tuple(found)


def test_energy_forces_and_stress_are_those_of_the_calculator():
    atoms = vacancy().to_ase()
    emt_of_copper = ase.build.bulk("Cu", cubic=True) * (1, 1, 2)
    emt_of_copper.rattle(0.05, seed=2)
    for given, potential, calculator in (
        (atoms, by_calls(), as_calculator(**POINT)),
        (emt_of_copper, emt(["Cu"]), EMT()),
    ):
        here = mdsens.relax(mdsens.System.from_ase(given), potential, max_steps=0, method="fire")
        given.calc = calculator
        assert float(here.energy) == pytest.approx(given.get_potential_energy(), rel=1e-13)
        np.testing.assert_allclose(here.forces, given.get_forces(), atol=1e-13)
        np.testing.assert_allclose(here.stress, given.get_stress(), atol=1e-15)


def test_derivatives_are_those_of_the_potential_itself(both):
    calculated, known = both
    before = calculated.potential.calls
    wanted = mdsens.sensitivity(known, OBSERVABLES)
    assert calculated.certificate.lowest_eigenvalue == pytest.approx(
        known.certificate.lowest_eigenvalue, rel=0.1
    )
    found = mdsens.sensitivity(calculated, OBSERVABLES)
    for name in OBSERVABLES:
        for parameter in POINT:
            apart = abs(float(found[name][parameter] - wanted[name][parameter]))
            assert apart <= found.errors[name][parameter]
    # Which is an accuracy worth having.
    assert found.errors["distance(0,1)"]["sigma"] < 3e-9
    calls = calculated.potential.calls - before
    assert found.certificate.calls < calls < 150
    assert "calls of the calculator" in str(found)


@pytest.mark.slow
def test_a_relaxed_vacancy_of_copper_follows_the_parameters_of_emt():
    potential, observable = emt(["Cu"]), mdsens.observables.distance(0, 1)
    start = vacancy(element="Cu", a=3.59)
    relaxed = mdsens.relax(start, potential, fmax=1e-10)
    found = mdsens.sensitivity(relaxed, [observable, "energy"], wrt="s0")
    (name,) = found.parameters
    value, slopes = potential.parameters[name], []
    for step in (1e-3, 2e-3):
        ends = []
        for way in (1.0, -1.0):
            moved = potential.with_parameters({name: value * (1.0 + way * step)})
            other = mdsens.relax(relaxed.system, moved, fmax=1e-10)
            ends.append(np.array([float(observable(other)), float(other.energy)]))
        slopes.append((ends[0] - ends[1]) / (2.0 * step * value))
    numeric = (4.0 * slopes[0] - slopes[1]) / 3.0
    assert float(found["distance(0,1)"][name]) == pytest.approx(numeric[0], rel=1e-6)
    assert float(found["energy"][name]) == pytest.approx(numeric[1], rel=1e-6)


@pytest.mark.slow
def test_a_cell_relaxes_by_the_calculators_stress():
    relaxed = [
        mdsens.relax(vacancy(), potential, fmax=1e-9, cell="full")
        for potential in (by_calls(), direct(**POINT))
    ]
    assert float(relaxed[0].volume) == pytest.approx(float(relaxed[1].volume), rel=1e-10)
    found, wanted = (mdsens.sensitivity(one, ["volume", "distance(0,1)"]) for one in relaxed)
    for name in ("volume", "distance(0,1)"):
        assert found[name]["sigma"] == pytest.approx(wanted[name]["sigma"], rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("transform", [jax.jacfwd, lambda f: jax.jit(jax.grad(f))])
def test_gradients_go_through_relaxation(transform, both):
    _, known = both

    def distance(point):
        potential = Calculator(as_calculator, {"epsilon": point[0], "sigma": point[1]})
        x = mdsens.relax(vacancy(), potential, fmax=1e-10).positions
        return jnp.linalg.norm(x[0] - x[1])

    before = by_calls().calls
    found = transform(distance)(jnp.asarray(list(POINT.values())))
    assert by_calls().calls - before < 150
    wanted = mdsens.sensitivity(known, ["distance(0,1)"])["distance(0,1)"]["sigma"]
    assert float(found[1]) == pytest.approx(float(wanted), rel=1e-7)


@pytest.mark.slow
def test_errors_of_single_precision_are_told(both):
    _, known = both
    relaxed = mdsens.relax(vacancy(), by_calls(in_single_precision), fmax=1e-6)
    found = mdsens.sensitivity(relaxed, OBSERVABLES)
    wanted = mdsens.sensitivity(known, OBSERVABLES)
    assert 1e-9 < relaxed.potential.force_noise < 1e-6
    for name in OBSERVABLES:
        assert abs(float(found.observed[name] - wanted.observed[name])) <= found.value_errors[name]
        for parameter in POINT:
            apart = abs(float(found[name][parameter] - wanted[name][parameter]))
            assert apart <= found.errors[name][parameter]
    # No digit is shown that is not known, and there are some.
    error = found.errors["distance(0,1)"]["sigma"]
    assert 1e-6 < error < 1e-2
    (number,) = (part for part in str(found).split() if part.startswith("-0.19"))
    assert 10.0 ** -len(number.partition(".")[2]) > error / 10.0


@pytest.mark.slow
def test_a_thousand_atoms_take_as_few_calls():
    first = by_calls().calls
    relaxed = mdsens.relax(vacancy(7), by_calls(), fmax=1e-9)
    assert relaxed.system.atom_count == 1371
    before = relaxed.potential.calls
    assert before - first < 100
    found = mdsens.sensitivity(relaxed, ["distance(0,1)"], wrt="sigma")
    # With those that the certificate takes, which is made here.
    assert relaxed.potential.calls - before < 150
    assert found.certificate.calls == relaxed.potential.calls - before
    wanted = mdsens.relax(vacancy(7), direct(**POINT), fmax=1e-9)
    expected = mdsens.sensitivity(wanted, ["distance(0,1)"], wrt="sigma")
    apart = abs(float(found["distance(0,1)"]["sigma"] - expected["distance(0,1)"]["sigma"]))
    assert apart <= found.errors["distance(0,1)"]["sigma"] < 1e-7


@pytest.mark.slow
def test_a_sum_with_edges_is_that_of_both():
    """Half by the calculator, half along edges."""
    half = direct(POINT["epsilon"] / 2, POINT["sigma"])
    start = vacancy()
    summed = mdsens.relax(start, by_calls(epsilon=POINT["epsilon"] / 2) + half, fmax=1e-9)
    whole = mdsens.relax(start, direct(**POINT), fmax=1e-9)
    np.testing.assert_allclose(summed.positions, whole.positions, atol=1e-8)
    found = mdsens.sensitivity(summed, ["distance(0,1)"])["distance(0,1)"]
    wanted = mdsens.sensitivity(whole, ["distance(0,1)"])["distance(0,1)"]["sigma"]
    both = [found[name] for name in found if name.endswith(".sigma")]
    assert len(both) == 2
    assert float(sum(both)) == pytest.approx(float(wanted), rel=1e-7)


@pytest.mark.slow
def test_a_cluster_of_few_atoms_has_all_its_modes():
    atoms = ase.Atoms("Ar4", positions=[[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0], [1.9, 1.1, 3.1]])
    start = mdsens.System.from_ase(atoms)
    found, wanted = (
        mdsens.relax(start, potential, fmax=1e-10) for potential in (by_calls(), direct(**POINT))
    )
    assert found.certificate.null_modes == wanted.certificate.null_modes
    np.testing.assert_allclose(
        found.certificate.lowest_eigenvalues, wanted.certificate.lowest_eigenvalues, rtol=1e-8
    )
    slope = mdsens.sensitivity(found, ["distance(0,1)"])["distance(0,1)"]["sigma"]
    side = float(mdsens.observables.distance(0, 1)(found))
    # Within the cutoff's onset, a cluster scales with sigma.
    assert float(slope) == pytest.approx(side / POINT["sigma"], rel=1e-8)


def test_solves_are_those_with_the_hessian_itself(both):
    calculated, known = both
    solver = HessianByCalls(calculated.backbone, calculated.q)
    rights = np.random.default_rng(3).normal(size=(2, *known.q.shape))
    found, how = solver.solve(rights)
    wanted, _ = known.hessian_solver.solve(rights)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7 * np.abs(wanted).max())
    assert how.residuals.max() < 1e-8
    assert how.steps.max() < 20


def test_springs_of_a_pair_potential_are_its_hessian_and_noise_is_told_from_products():
    generator = np.random.default_rng(0)
    start = vacancy()
    positions, count = np.asarray(start.positions), start.atom_count
    known = mdsens.relax(start, direct(**POINT), max_steps=0, method="fire").hessian_solver
    matrix, vectors = known.matrix, generator.normal(size=(4, count, 3))
    products = (matrix @ vectors.reshape(4, -1).T).T.reshape(vectors.shape)
    noise = 1e-4 * np.sqrt(np.mean(products**2))
    noisy = products + noise * generator.normal(size=products.shape)
    given = positions, np.asarray(start.cell), np.array([True] * 3), np.zeros(count, int), vectors
    found = matrix_of_products(Products(*given, noisy), np.ones(count, bool))
    probe = generator.normal(size=3 * count)
    probe -= np.tile(probe.reshape(-1, 3).mean(axis=0), count)
    assert np.linalg.norm((found - matrix) @ probe) < 0.1 * np.linalg.norm(matrix @ probe)
    np.testing.assert_allclose(found @ np.ones(3 * count), 0.0, atol=1e-10)
    assert 0.3e-4 < noise_of_products(Products(*given, noisy)) < 3e-4


class Failing(ase.calculators.lj.LennardJones):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, *arguments, **options):
        raise RuntimeError("no licence")


def with_idle_parameter(epsilon, idle):
    return as_calculator(epsilon, 3.405)


def test_what_goes_wrong_is_said_in_a_line():
    with pytest.raises(mdsens.InputError, match="returned a int: return a calculator of ASE"):
        Calculator(lambda depth: 3, {"depth": 1.0})
    with pytest.raises(mdsens.InputError, match="it is called with the parameters by name"):
        Calculator(as_calculator, {"depth": 1.0})
    with pytest.raises(mdsens.InputError, match="give a dict of names and numbers"):
        Calculator(as_calculator, {})
    with pytest.raises(mdsens.InputError, match=r"'sgima' is no parameter.*did you mean 'sigma'"):
        Calculator(as_calculator, POINT, {"sgima": "length"})
    failing = Calculator(lambda depth: Failing(epsilon=depth), {"depth": 1.0})
    with pytest.raises(mdsens.MdsensError, match="Failing failed on Ar31: RuntimeError: no lice"):
        mdsens.relax(vacancy(), failing)
    with pytest.raises(mdsens.InputError, match="cell = 'full': the calculator Failing gives no s"):
        mdsens.relax(vacancy(), failing, cell="full")
    with pytest.raises(mdsens.InputError, match="'X1' is no element"):
        mdsens.relax(mdsens.System(np.eye(3), symbols=("X1",)), by_calls())


def test_a_parameter_that_changes_nothing_is_refused():
    atoms, values = vacancy().to_ase(), np.array([0.0104, 2.0])
    structure = Structure(atoms.numbers, atoms.pbc, atoms.positions, atoms.cell.array)
    host = host_calculator(with_idle_parameter, ("epsilon", "idle"))
    with pytest.raises(mdsens.InputError, match="'idle' changes nothing"):
        host.change_in_parameter(values, structure, 1)
    # The energy is proportional to epsilon.
    found = host.change_in_parameter(values, structure, 0)
    energy = host.evaluate(values, structure).energy
    assert found.energy == pytest.approx(energy / 0.0104, rel=1e-10)


def test_an_atom_alone_in_its_cell_feels_no_force_and_has_derivatives_all_the_same():
    potential = emt(["Cu"])
    crystal = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", a=3.6))
    found = mdsens.sensitivity(mdsens.relax(crystal, potential, fmax=1e-6), "energy", wrt="s0[Cu]")
    here, step = float(found.parameters["s0[Cu]"]), 1e-4

    def energy(s0):
        return float(mdsens.relax(crystal, potential.with_parameters({"s0[Cu]": s0})).energy)

    slopes = [(energy(here + h) - energy(here - h)) / (2.0 * h) for h in (step, 2.0 * step)]
    expected = (4.0 * slopes[0] - slopes[1]) / 3.0
    assert abs(expected) > 0.1
    assert float(found["energy"]["s0[Cu]"]) == pytest.approx(expected, rel=1e-7)
    assert float(found.errors["energy"]["s0[Cu]"]) < 1e-6


def test_there_are_no_second_derivatives_in_reverse(both):
    with pytest.raises(
        mdsens.InputError, match=r"of its forces: ask mdsens.sensitivity in forward"
    ):
        mdsens.sensitivity(both[0], ["elastic_constant(1,1)"], mode="reverse")


def test_elastic_constants_have_derivatives_by_differences_with_their_errors():
    atoms, constants = ase.build.bulk("Ar", "hcp", 3.7), mdsens.observables.elastic_constants()
    found, wanted = (
        mdsens.sensitivity(
            mdsens.relax(mdsens.System.from_ase(atoms), potential, cell="full", fmax=1e-9),
            [constants, "volume"],
            wrt="sigma",
        )
        for potential in (by_calls(), direct(**POINT))
    )
    slopes, exact = (np.asarray(one["elastic_constants"]["sigma"]) for one in (found, wanted))
    error = float(np.max(found.errors["elastic_constants"]["sigma"]))
    assert 0.0 < np.abs(slopes - exact).max() < error < 1e-5 * np.abs(exact).max()
    # What needs no Hessian is no such difference.
    assert found.errors["volume"]["sigma"] < 1e-8 * wanted["volume"]["sigma"]
    assert found.certificate.calls < 300
