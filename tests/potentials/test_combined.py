"""Sums and multiples of potentials: what each part says, added up."""

from pathlib import Path

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.mechanics import sparse_hessian
from mdsens.mechanics.enthalpy import Landscape
from mdsens.particles.edges import Edges
from mdsens.potentials import (
    LennardJones,
    Morse,
    PotentialSum,
    ScaledPotential,
    StillingerWeber,
    SuttonChen,
)
from mdsens.study.build import build_potential
from mdsens.testing import check_potential

SILICON = StillingerWeber(
    2.1683, 2.0951, 1.8, 21.0, 1.2, -1 / 3, 7.049556277, 0.6022245584, 4.0, 0.0
)
REPULSION = LennardJones(0.01, 2.0, 3.6)
BOND = Morse(0.02, 1.4, 2.4, 4.0)
METAL = SuttonChen(0.012, 3.6, 39.0, 9.0, 6.0, 4.5)
ALLOY = LennardJones(
    {"A-A": 0.01, "A-B": 0.02, "B-B": 0.03}, {"A-A": 2.0, "A-B": 2.1, "B-B": 2.2}, 3.6,
    species=("A", "B"),
)  # fmt: skip
TURNED = Morse({"B-B": 0.02, "A-B": 0.03, "A-A": 0.04}, 1.4, 2.4, 4.0, species=("B", "A"))

SUMS = {
    "pairs": [REPULSION, BOND],
    "triplets and pairs": [SILICON, REPULSION],
    "densities and pairs": [METAL, REPULSION],
    "densities and triplets": [METAL, SILICON],
    "tables in two orders": [ALLOY, TURNED],
}


def crystal(potential):
    atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True)
    atoms.rattle(0.05, seed=3)
    system = mdsens.System.from_ase(atoms)
    if potential.species is None:
        return system
    return mdsens.System(system.positions, system.cell, ("A", "B"), [0, 1] * 4)


def mechanics(system, potential):
    edges = potential.edge_search(system).find(
        np.asarray(system.positions), np.asarray(system.cell)
    )
    landscape = Landscape.of(system, potential, edges)
    energy, gradient = landscape.evaluate(landscape.coordinates)
    return energy, gradient, sparse_hessian(system, potential, edges).toarray()


@pytest.mark.parametrize("name", list(SUMS))
def test_energies_forces_and_hessians_add_up(name):
    parts = SUMS[name]
    whole = PotentialSum(parts)
    system = crystal(whole)
    each = [mechanics(system, part) for part in parts]
    for found, *terms in zip(mechanics(system, whole), *each, strict=True):
        expected = sum(map(np.asarray, terms))
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * scale)
    assert whole.pairwise == all(part.pairwise for part in parts)
    assert whole.embedded == (name == "densities and pairs")


@pytest.mark.parametrize("potential", [SILICON, METAL, REPULSION], ids=lambda p: type(p).__name__)
def test_a_multiple_multiplies_energies_forces_and_hessians(potential):
    system = crystal(potential)
    for found, one in zip(
        mechanics(system, -1.5 * potential), mechanics(system, potential), strict=True
    ):
        expected = -1.5 * np.asarray(one)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    "potential",
    [REPULSION, REPULSION + BOND, ALLOY + TURNED, -0.7 * (ALLOY + TURNED), 2.0 * BOND],
    ids=["pairs", "a sum", "tables in two orders", "a multiple of these", "a multiple"],
)
def test_weights_of_edges_are_slopes_of_the_energy_over_their_length(potential):
    random = np.random.default_rng(7)
    vectors = tuple(jnp.asarray(random.normal(scale=1.6, size=(5, 3))) for _ in range(3))
    mask = jnp.asarray(random.random((5, 3)) < 0.8)
    some = 1 if potential.species is None else 2
    ends = random.integers(some, size=3), random.integers(some, size=(5, 3))
    edges = Edges(vectors, mask, *map(jnp.asarray, ends))
    energies, weights = potential.site_energies_and_weights(edges)
    np.testing.assert_allclose(energies, potential.site_energies(edges), rtol=1e-12)
    slopes = jax.grad(lambda r: potential.site_energies(edges.with_vectors(r)).sum())(vectors)
    assert np.abs(weights).max() > 1e-3
    for slope, vector in zip(slopes, vectors, strict=True):
        # Half of the pair's energy is the atom's own.
        size = np.abs(slope).max()
        np.testing.assert_allclose(0.5 * weights * vector, slope, atol=1e-12 * size)
    # What knows no better has them from its gradients.
    _, of_gradients = mdsens.Potential.site_energies_and_weights(potential, edges)
    np.testing.assert_allclose(of_gradients, weights, atol=1e-12 * np.abs(weights).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs", "triplets and pairs", "densities and pairs"])
def test_a_sum_is_a_potential(name):
    whole = PotentialSum(SUMS[name])
    check_potential(whole, crystal(whole)).require()


@pytest.mark.slow
def test_derivatives_in_a_part_and_in_its_scale_are_those_of_relaxing_again():
    atoms = ase.build.bulk("Si", "diamond", 5.43, cubic=True)
    atoms.rattle(0.02, seed=3)
    system = mdsens.System.from_ase(atoms)

    def relaxed(scale, sigma):
        potential = SILICON + scale * LennardJones(0.01, sigma, 3.6)
        return mdsens.relax(system, potential, fmax=1e-11, cell="isotropic")

    names = ["scale", "scaled_potential.sigma"]
    sensitivity = mdsens.sensitivity(relaxed(1.0, 2.0), ["volume"], wrt=names)
    h = 1e-4
    for name, up, down in (
        (names[0], (1 + h, 2.0), (1 - h, 2.0)),
        (names[1], (1.0, 2 + h), (1.0, 2 - h)),
    ):
        change = float(relaxed(*up).volume - relaxed(*down).volume) / (2 * h)
        assert float(sensitivity["volume"][name]) == pytest.approx(change, rel=1e-6)


def test_parameters_are_called_by_their_part_where_several_have_them():
    whole = REPULSION + BOND
    assert whole.parameter_names == (
        "lennard_jones.epsilon", "sigma", "morse.epsilon", "alpha", "r0"
    )  # fmt: skip
    assert whole.parameters["morse.epsilon"] == 0.02
    assert whole.parameter_dimension("morse.alpha") == "1/length"
    changed = whole.with_parameters({"sigma": 2.1, "morse.epsilon": 0.03})
    assert changed.parameters == whole.parameters | {"sigma": 2.1, "morse.epsilon": 0.03}
    assert whole.expand_parameter_names(["morse.r0", "sigma"]) == ["r0", "sigma"]
    along = whole.direction("lennard_jones.sigma")
    assert [float(leaf) for leaf in jax.tree.leaves(along)] == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert (2.0 * REPULSION).parameter_names == ("scale", "epsilon", "sigma")
    assert (REPULSION + REPULSION).part_names == ("lennard_jones_1", "lennard_jones_2")
    assert PotentialSum({"core": REPULSION, "bond": BOND}).parameter_names[0] == "core.epsilon"
    table = PotentialSum([ALLOY, TURNED])
    assert table.expand_parameter_names("sigma") == ["sigma[A-A]", "sigma[A-B]", "sigma[B-B]"]
    assert "morse.epsilon[B-A]" in table.parameter_names


@pytest.mark.parametrize(("attempt", "wrong"), [
    (lambda: PotentialSum([]), "give a list or a dict of potentials"),
    (lambda: PotentialSum([REPULSION, 3.0]), r"parts\[1\]"),
    (lambda: PotentialSum({"a b": REPULSION}), "give names of letters and digits"),
    (lambda: ALLOY + Morse(0.02, 1.4, 2.4, 4.0, species=("A", "C")), "all parts the same species"),
    (lambda: (REPULSION + BOND).with_parameters({"epsilon": 1.0}),
     "is one of several parts: give lennard_jones.epsilon or morse.epsilon"),
    (lambda: (REPULSION + BOND).with_parameters({"sgima": 1.0}), "did you mean 'sigma'"),
    (lambda: (REPULSION + BOND).with_parameters({"sigma": 1.0, "lennard_jones.sigma": 2.0}),
     "the same"),
    (lambda: ScaledPotential("two", REPULSION), "scale"),
    (lambda: build_potential({"type": "sum"}, "ase", Path()), "potential.parts = None: give a"),
    (lambda: build_potential({"type": "sum", "parts": {"core": {"type": "wac"}}}, "ase", Path()),
     "potential.parts.core.type = 'wac'.*'wca'"),
    (lambda: build_potential({"type": "sum", "part": {}}, "ase", Path()), "did you mean 'parts'"),
])  # fmt: skip
def test_what_makes_no_sum_is_refused(attempt, wrong):
    with pytest.raises(mdsens.InputError, match=wrong):
        attempt()
