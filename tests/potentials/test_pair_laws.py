"""Laws of pairs against their formulas, written out once more with NumPy, and what they refuse."""

import ase
import ase.units
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import mdsens
from mdsens.potentials import (
    ZBL,
    Buckingham,
    DampedShiftedCoulomb,
    GaussianCore,
    InversePower,
    LennardJones,
    Mie,
    Spring,
    Yukawa,
)
from mdsens.testing import check_potential

K = ase.units._e**2 / (4 * np.pi * ase.units._eps0) / (ase.units._e * 1e-10)
#: Some distances below the cutoff of 3.
R = np.array([0.9, 1.3, 2.2])
LAWS = {
    "mie": (Mie(1.4, 1.1, 14.0, 7.0, 3.0, "none"),
            lambda r: 1.4 * 2.0 * 2.0 * ((1.1 / r) ** 14 - (1.1 / r) ** 7)),
    "buckingham": (Buckingham(900.0, 0.3, 20.0, 3.0, "none"),
                   lambda r: 900.0 * np.exp(-r / 0.3) - 20.0 / r**6),
    "yukawa": (Yukawa(-2.0, 0.7, 3.0, "none"), lambda r: -2.0 * np.exp(-0.7 * r) / r),
    "gaussian core": (GaussianCore(0.8, 1.2, "2.5 sigma", "none"),
                      lambda r: 0.8 * np.exp(-((r / 1.2) ** 2))),
    "spring": (Spring(5.0, 1.2, 3.0, "none"), lambda r: 2.5 * (r - 1.2) ** 2),
    "inverse power": (InversePower(0.4, 1.2, 9.0, 3.0, "none"), lambda r: 0.4 * (1.2 / r) ** 9),
}  # fmt: skip


def pair_energies(potential, r):
    return np.asarray(potential.truncated_pair_energies(jnp.asarray(r)))


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_its_formula(name):
    potential, formula = LAWS[name]
    np.testing.assert_allclose(pair_energies(potential, R), formula(R), rtol=1e-12)


def test_the_mie_law_of_12_and_6_is_that_of_lennard_jones():
    ours, theirs = Mie(1.4, 1.1, 12.0, 6.0, 3.0), LennardJones(1.4, 1.1, 3.0)
    np.testing.assert_allclose(pair_energies(ours, R), pair_energies(theirs, R), rtol=1e-12)


def test_a_mie_well_is_as_deep_as_epsilon():
    r = np.linspace(1.0, 1.6, 20001)
    assert pair_energies(Mie(1.4, 1.1, 20.0, 9.0, 3.0, "none"), r).min() == pytest.approx(-1.4)


def screened(r, first, second):
    a = 0.46850 / (first**0.23 + second**0.23)
    weights = (0.18175, 0.50986, 0.28022, 0.02817)
    decays = (3.19980, 0.94229, 0.40290, 0.20162)
    phi = sum(w * np.exp(-d * r / a) for w, d in zip(weights, decays, strict=True))
    return K * first * second / r * phi


def test_nuclei_repel_by_the_universal_screening_but_for_a_constant():
    potential = ZBL(14.0, 3.0, onset=2.5)
    ours = pair_energies(potential, R)
    shift = screened(R, 14, 14) - ours
    np.testing.assert_allclose(shift, shift[0], rtol=1e-12)
    # The constant that LAMMPS's documentation gives for its switch.
    h = 1e-3
    edge = [screened(3.0 + i * h, 14, 14) for i in (-1, 0, 1)]
    slope, curvature = (edge[2] - edge[0]) / (2 * h), (edge[2] - 2 * edge[1] + edge[0]) / h**2
    constant = -edge[1] + 0.25 * slope - 0.25 * curvature / 12.0
    assert -shift[0] == pytest.approx(constant, rel=1e-5)


def test_nuclei_stop_repelling_with_two_derivatives():
    potential = ZBL(14.0, 3.0)

    def phi(r):
        return potential.truncated_pair_energies(r)

    inside = [float(f(jnp.asarray(3.0 - 1e-7))) for f in (phi, jax.grad(phi),
                                                          jax.grad(jax.grad(phi)))]  # fmt: skip
    assert abs(inside[0]) < 1e-12
    assert abs(inside[1]) < 1e-8
    assert abs(inside[2]) < 1e-3


def energy_of(potential, symbols, positions):
    system = mdsens.System.from_ase(ase.Atoms(symbols, positions))
    edges = potential.edge_search(system).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    return float(mdsens.mechanics.energy(system, potential, edges))


PLACES = np.array([[0, 0, 0], [2.1, 0.3, 0], [0.4, 2.4, -0.2], [1.9, 2.2, 0.7]])


def test_charges_have_the_energy_of_the_damped_shifted_sum():
    charges, alpha, cutoff = {"Na": 0.8, "Cl": -1.1}, 0.2, 3.0
    potential = DampedShiftedCoulomb([0.8, -1.1], alpha, cutoff, ("Na", "Cl"))
    symbols = ["Na", "Cl", "Cl", "Na"]
    q = np.array([charges[symbol] for symbol in symbols])
    root = 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * cutoff) ** 2)) / cutoff
    tail = scipy.special.erfc(alpha * cutoff) / cutoff
    near = 1e-5
    at_itself = scipy.special.erfc(alpha * near) / near - tail
    at_itself += (tail / cutoff + root) * (near - cutoff) - 1.0 / near
    expected = 0.5 * K * (q**2).sum() * at_itself
    for i in range(4):
        for j in range(i):
            r = np.linalg.norm(PLACES[i] - PLACES[j])
            if r < cutoff:
                damped = scipy.special.erfc(alpha * r) / r - tail
                expected += K * q[i] * q[j] * (damped + (tail / cutoff + root) * (r - cutoff))
    assert energy_of(potential, symbols, PLACES) == pytest.approx(expected, rel=1e-5)


def test_nuclei_of_two_species_repel_by_both_their_numbers():
    potential = ZBL([14.0, 6.0], 3.0, ("Si", "C"), onset=2.5)
    alone = [ZBL(number, 3.0, onset=2.5) for number in (14.0, 6.0)]
    for symbol, one in zip(("Si", "C"), alone, strict=True):
        ours = energy_of(potential, [symbol] * 2, PLACES[:2])
        assert ours == pytest.approx(energy_of(one, ["X"] * 2, PLACES[:2]), rel=1e-12)
    r = np.linalg.norm(PLACES[1])
    mixed = energy_of(potential, ["Si", "C"], PLACES[:2])
    nearer = energy_of(potential, ["C", "Si"], 0.9 * PLACES[:2])
    assert nearer - mixed == pytest.approx(screened(0.9 * r, 14, 6) - screened(r, 14, 6), rel=1e-9)


CHECKED = {
    "mie": Mie(1.0, [[1.0, 0.9], [0.9, 0.88]], 14.0, [[7.0, 6.0], [6.0, 5.0]], 2.2,
               species=("A", "B")),
    "buckingham": Buckingham(900.0, 0.2, 1.0, 2.2),
    "zbl": ZBL([14.0, 6.0], 2.2, ("A", "B")),
    "charges": DampedShiftedCoulomb([0.8, -1.1], 0.6, 2.2, ("A", "B")),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_every_law_is_a_potential(name):
    import cases

    potential = CHECKED[name]
    # The second derivative of shifted charges jumps at the cutoff.
    smoothness = 1 if name == "charges" else 2
    check_potential(potential, cases.structure("triclinic", potential), smoothness).require()


@pytest.mark.parametrize(("attempt", "wrong"), [
    (lambda: Mie(1.0, 1.0, 6.0, 12.0, 2.5), "n = 6.0 is not above m = 12.0"),
    (lambda: Buckingham(1.0, 0.0, 1.0, 2.5), "rho"),
    (lambda: ZBL(-1.0, 2.5), "Z"),
    (lambda: ZBL([14.0, 6.0], 2.5), "species"),
    (lambda: DampedShiftedCoulomb(1.0, -0.2, 2.5), "alpha"),
    (lambda: InversePower(1.0, 1.0, 9.0, -2.5), "cutoff"),
    (lambda: GaussianCore(1.0, 0.0, 2.5), "sigma"),
    (lambda: Spring(1.0, 1.0, "0.9 r0"), "not above r0"),
])  # fmt: skip
def test_what_is_no_law_is_refused(attempt, wrong):
    with pytest.raises(mdsens.InputError, match=wrong):
        attempt()
