"""Derivatives of relaxed structures against closed forms and against relaxing again."""

import ase
import ase.build
import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

import mdsens
from mdsens.compilation import forget_programs
from mdsens.potentials import WCA, LennardJones, Morse, SoftSphere, StillingerWeber


def with_value(potential, name, value):
    """The potential with one parameter changed, which may be traced."""
    return eqx.tree_at(lambda p: getattr(p, name), potential, value)


# Closed forms


@pytest.mark.slow
@pytest.mark.xdist_group("closed-forms")
@pytest.mark.parametrize(
    "mode", cases.with_others([jax.jacrev], [jax.jacfwd]), ids=lambda f: f.__name__
)
def test_the_dimer_scales_with_sigma_alone(mode):
    def length(potential):
        return cases.bond_lengths(mdsens.relax(cases.dimer(), potential, fmax=1e-11))[0]

    derivative = mode(length)(LennardJones(1.3, 1.1, 2.75))
    assert float(derivative.sigma) == pytest.approx(2 ** (1 / 6), rel=1e-10)
    assert float(derivative.epsilon) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.slow
@cases.thorough("the theorem of Hellmann and Feynman, which ready studies have to obey")
@pytest.mark.xdist_group("closed-forms")
def test_the_dimer_s_energy_is_minus_epsilon():
    def energy(potential):
        return mdsens.relax(cases.dimer(), potential, fmax=1e-11).energy

    derivative = jax.grad(energy)(LennardJones(1.3, 1.1, 2.75))
    assert float(derivative.epsilon) == pytest.approx(-1.0, rel=1e-10)
    assert float(derivative.sigma) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.slow
@pytest.mark.xdist_group("closed-forms")
def test_a_stretched_chain_shares_its_extension_among_equal_springs():
    # A-B-B-C between walls: r_AB, r_BB and r_BC all exceed their r0 by (L - sum of r0) / 3.
    names, ends = ("A", "B", "C"), 3.75
    r0 = np.full((3, 3), 1.2)
    r0[0, 1] = r0[1, 0] = 1.1
    r0[1, 1] = 1.15
    positions = np.array([[0.0, 0, 0], [1.3, 0.01, 0], [2.5, 0, 0.02], [ends, 0, 0]])
    system = mdsens.System(positions, None, names, [0, 1, 1, 2], fixed=[0, 3])

    def along_chain(potential):
        return mdsens.relax(system, potential, fmax=1e-11).positions[1:3, 0]

    potential = Morse(1.0, 3.0, r0, 2.2, species=names, onset=1.9)
    extension = (ends - 1.1 - 1.15 - 1.2) / 3
    expected = [1.1 + extension, 1.1 + 1.15 + 2 * extension]
    np.testing.assert_allclose(along_chain(potential), expected, rtol=1e-10)
    derivative = jax.jacfwd(along_chain)(potential)
    for name, closed_form in {
        "r0[A-B]": (2 / 3, 1 / 3), "r0[B-B]": (-1 / 3, 1 / 3), "r0[B-C]": (-1 / 3, -2 / 3),
    }.items():  # fmt: skip
        ours = [potential.derivative(jax.tree.map(lambda d, i=i: d[i], derivative), name)
                for i in range(2)]  # fmt: skip
        np.testing.assert_allclose(ours, closed_form, rtol=1e-10)


@pytest.mark.slow
@cases.thorough("Euler's theorem, which ready studies of silicon have to obey")
@pytest.mark.xdist_group("closed-forms")
def test_scaling_sigma_scales_the_crystal():
    silicon = mdsens.System.from_ase(ase.build.bulk("Si", "diamond", 5.5))

    def lattice_constant(potential):
        volume = mdsens.relax(silicon, potential, cell="isotropic", fmax=1e-11).volume
        return (4 * volume) ** (1 / 3)

    potential = StillingerWeber(2.1683, 2.0951, **cases.SILICON)
    value, derivative = jax.value_and_grad(lattice_constant)(potential)
    assert float(derivative.sigma) == pytest.approx(float(value) / 2.0951, rel=1e-10)
    # At the ideal angle the triplets are at rest, and epsilon only scales the energy.
    for name in ("epsilon", "lambda_", "gamma"):
        assert float(getattr(derivative, name)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
@cases.thorough("the lattice sums of test_cells.py")
@pytest.mark.xdist_group("closed-forms")
def test_a_crystal_of_nearest_neighbours_has_the_lattice_constant_of_its_bonds():
    crystal = mdsens.System.from_ase(ase.build.bulk("Cu", "fcc", 1.45))

    def volume(potential):
        return mdsens.relax(crystal, potential, cell="full", fmax=1e-11).volume

    r0 = 1.02
    derivative = jax.grad(volume)(Morse(1.3, 5.0, r0, 1.36))
    assert float(derivative.r0) == pytest.approx(3 * np.sqrt(2) ** 3 / 4 * r0**2, rel=1e-10)
    assert float(derivative.alpha) == pytest.approx(0.0, abs=1e-10)
    assert float(derivative.epsilon) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.slow
@cases.thorough("the lattice sums and the flat cells under pressure of test_cells.py")
@pytest.mark.xdist_group("closed-forms")
def test_a_compressed_lattice_of_discs_balances_its_pressure():
    # Three bonds per disc: p V = -(3/2) r phi'(r) with V = sqrt(3/4) r^2, so that
    # p = sqrt(3) (epsilon / d) (1 - r/d) / r.
    disc = mdsens.System([[0.0, 0.0]], [[0.9, 0.0], [0.45, 0.9 * np.sqrt(0.75)]])
    pressure, d = 0.2, 1.0

    def spacing(potential, pressure):
        equilibrium = mdsens.relax(disc, potential, cell="isotropic", pressure=pressure, fmax=1e-12)
        return jnp.sqrt(equilibrium.volume / np.sqrt(0.75))

    potential = SoftSphere(d, 1.0)
    r = 1 / (1 / d + pressure * d / np.sqrt(3))
    assert float(spacing(potential, pressure)) == pytest.approx(r, rel=1e-10)
    by_potential, by_pressure = jax.grad(spacing, argnums=(0, 1))(potential, pressure)
    assert float(by_pressure) == pytest.approx(-(r**2) * d / np.sqrt(3), rel=1e-9)
    assert float(by_potential.diameter) == pytest.approx(
        r**2 * (1 / d**2 - pressure / np.sqrt(3)), rel=1e-9
    )
    assert float(by_potential.epsilon) == pytest.approx(r**2 * pressure / np.sqrt(3), rel=1e-9)


# Against relaxing again


BINARY = cases.POTENTIALS["lj-binary"]


def ab_distances(scale, fmax=1e-11):
    """Bond lengths of a cluster of two species as a function of sigma[A-B]."""
    sigma = BINARY.sigma.at[0, 1].set(scale).at[1, 0].set(scale)
    potential = with_value(BINARY, "sigma", sigma)
    return cases.bond_lengths(mdsens.relax(cases.bipyramid(), potential, fmax=fmax))


@pytest.fixture(scope="module")
def noise():
    relaxed = mdsens.relax(cases.bipyramid(), BINARY, fmax=1e-11)
    return numerical.left_over(relaxed, cases.bond_lengths)


@pytest.fixture(scope="module")
def expected_slope(noise):
    return numerical.derivative(ab_distances, 0.9, 1e-3, noise=noise)


@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
@pytest.mark.parametrize(
    ("mode", "wrap"),
    cases.with_others(
        [(jax.jacrev, jax.jit)],
        [(jax.jacfwd, lambda f: f), (jax.jacrev, lambda f: f), (jax.jacfwd, jax.jit)],
    ),
    ids=lambda f: f.__name__,
)
def test_bond_lengths_change_as_if_relaxed_again(mode, wrap, expected_slope):
    slope = wrap(mode(ab_distances))(0.9)
    numerical.agrees(slope, expected_slope, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
def test_second_derivatives_of_bond_lengths(noise):
    def total(sigma):
        return jnp.sum(ab_distances(sigma, fmax=1e-12))

    # A slope is wrong by as much as its structure, times the third derivative of the energy by
    # the second: 21 / r at the minimum of Lennard-Jones.
    noise_of_slope = 21 / 0.9 * noise.sum() * 1e-12 / 1e-11
    expected = numerical.derivative(jax.jacfwd(total), 0.9, 2e-3, noise=noise_of_slope)
    numerical.agrees(jax.hessian(total)(0.9), expected, rtol=1e-6)


@pytest.mark.slow
@cases.thorough("the derivative under vmap")
@pytest.mark.xdist_group("cluster")
def test_vmap_relaxes_each_on_its_own():
    values = jnp.array([0.88, 0.9, 0.93])
    together = jax.vmap(ab_distances)(values)
    each = jnp.stack([ab_distances(value) for value in values])
    np.testing.assert_allclose(together, each, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.xdist_group("cluster")
def test_vmap_of_the_derivative(expected_slope):
    slopes = jax.vmap(jax.jacfwd(ab_distances))(jnp.array([0.9, 0.91]))
    numerical.agrees(slopes[0], expected_slope, rtol=1e-6)


def energy_and_stress(equilibrium):
    return jnp.concatenate([equilibrium.energy[None], equilibrium.stress])


@pytest.mark.slow
@pytest.mark.xdist_group("vacancy")
def test_the_energy_and_the_stress_change_as_if_relaxed_again():
    system = cases.vacancy_crystal()

    def relaxed(sigma):
        return mdsens.relax(system, LennardJones(1.0, sigma, 2.5), fmax=1e-11)

    noise = numerical.left_over(relaxed(1.0), energy_and_stress)
    expected = numerical.derivative(
        lambda sigma: energy_and_stress(relaxed(sigma)), 1.0, 2e-4, noise=noise
    )
    slope = jax.jacfwd(lambda sigma: energy_and_stress(relaxed(sigma)))(1.0)
    numerical.agrees(slope, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.xdist_group("vacancy")
def test_the_derivative_in_the_cell():
    system = cases.vacancy_crystal()

    def relaxed(strain):
        stretch = jnp.diag(jnp.array([1.0, 0.0, -0.3])) * strain + jnp.eye(3)
        stretched = system.with_cell(system.cell @ stretch, scale_positions=True)
        return mdsens.relax(stretched, cases.POTENTIALS["lj-smooth"], fmax=1e-11)

    noise = numerical.left_over(relaxed(0.0), energy_and_stress)
    expected = numerical.derivative(
        lambda strain: energy_and_stress(relaxed(strain)), 0.0, 2e-4, noise=noise
    )
    slope = jax.jacfwd(lambda strain: energy_and_stress(relaxed(strain)))(0.0)
    numerical.agrees(slope, expected, rtol=1e-6)


@pytest.mark.slow
@cases.thorough(
    "the cells of pairs in test_cells.py and the studies of silicon, which are verified"
)
@pytest.mark.xdist_group("cells")
@pytest.mark.parametrize("cell", cases.with_others(["full"], ["isotropic"]))
def test_the_cell_changes_as_if_relaxed_again(cell):
    case = cases.case("sw-binary", "triclinic")
    # From far away, the parameters next to these may lead to another minimum.
    near = mdsens.relax(case.system, case.potential, cell=cell, pressure=0.05, fmax=1e-6).system

    def relaxed(inputs):
        potential = with_value(case.potential, "gamma", inputs[0])
        return mdsens.relax(near, potential, "newton", cell=cell, pressure=inputs[1], fmax=1e-12)

    def shape(equilibrium):
        lattice = equilibrium.cell
        return jnp.concatenate([equilibrium.volume[None], (lattice @ lattice.T).ravel()])

    point = jnp.array([1.2, 0.05])
    noise = numerical.left_over(relaxed(point), shape)
    slopes = jax.jacrev(lambda inputs: shape(relaxed(inputs)))(point)
    for column, at in enumerate((1.2, 0.05)):

        def along(value, column=column):
            return shape(relaxed(point.at[column].set(value)))

        expected = numerical.derivative(along, at, 1e-3, noise=noise)
        numerical.agrees(slopes[:, column], expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.xdist_group("packing")
def test_a_packing_changes_as_if_relaxed_again_and_its_rattler_stays():
    system, potential = cases.jammed_packing()

    def relaxed(diameter):
        changed = with_value(potential, "diameter", jnp.array([diameter, 0.4]))
        return mdsens.relax(system, changed, fmax=1e-13)

    def held(equilibrium):
        # Without the translation that nothing determines, and without the rattler.
        positions = jnp.delete(equilibrium.positions, 5, axis=0)
        return positions - jnp.mean(positions, axis=0, keepdims=True)

    noise = numerical.left_over(relaxed(1.0), held)
    expected = numerical.derivative(lambda d: held(relaxed(d)), 1.0, 5e-4, noise=noise)
    slope = jax.jacfwd(lambda d: relaxed(d).positions)(1.0)
    others = np.delete(slope, 5, axis=0)
    numerical.agrees(others - others.mean(axis=0), expected, rtol=1e-6)
    assert not np.any(slope[5])


@pytest.mark.xdist_group("closed-forms")
def test_fixed_atoms_pull_the_others_along():
    # One of three atoms in a row rests between two that are held: it moves by half of either.
    system = mdsens.System([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]], fixed=[0, 2])

    def middle(shift):
        positions = system.positions.at[2, 0].add(shift)
        moved = mdsens.relax(system.with_positions(positions), WCA(1.0, 1.0), fmax=1e-11)
        return moved.positions[1, 0]

    assert float(jax.grad(middle)(0.0)) == pytest.approx(0.5, rel=1e-10)


# What a derivative is computed by


def test_a_gradient_compiles_neither_a_relaxation_nor_a_hessian_again(monkeypatch):
    # All programs are made anew here, whatever other tests have made.
    forget_programs()
    system, names = cases.dimer(), []
    compile_ = jax.stages.Lowered.compile

    def watched(self, compiler_options=None):
        names.append(self.as_text().split()[1])
        return compile_(self, compiler_options)

    def stretch(potential):
        first, second = mdsens.relax(system, potential, fmax=1e-11).positions
        return ((second - first) ** 2).sum()

    stretch(LennardJones(1.3, 1.1, 2.75))
    monkeypatch.setattr(jax.stages.Lowered, "compile", watched)
    derivative = jax.grad(stretch)(LennardJones(1.3, 1.1, 2.75))
    assert sorted(names) == ["@jit_directional_change", "@jit_pull_back"]
    assert float(derivative.sigma) == pytest.approx(2 ** (1 / 3) * 2 * 1.1, rel=1e-10)
