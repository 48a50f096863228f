"""Second derivatives of energies in a few changes of positions and cell, against differences."""

import cases
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

from mdsens.compilation import compiled
from mdsens.mechanics.energy import energy
from mdsens.mechanics.second_variations import second_variations
from mdsens.potentials import Tersoff

TERSOFF = Tersoff(
    m=3.0, gamma=1.0, lambda3=0.5, c=2.0, d=1.0, costheta0=-0.4, n=0.8, beta=0.3, lambda2=1.3,
    B=4.0, R=1.5, D=0.2, lambda1=2.6, A=8.0,
)  # fmt: skip
_second_variations, _energy = compiled(second_variations), compiled(energy)
#: One of each way to find them, and sums of several.
KINDS = {
    "pairs": lambda: cases.POTENTIALS["lj-binary"],
    "embedded": lambda: cases.POTENTIALS["sutton-chen-binary"],
    "embedded and pairs": lambda: (
        cases.POTENTIALS["sutton-chen-binary"] + 0.3 * cases.POTENTIALS["lj-binary"]
    ),
    "triplets": lambda: cases.POTENTIALS["sw-binary"],
    "triplets of one strength": lambda: cases.POTENTIALS["sw"],
    "triplets and pairs": lambda: (
        0.7 * cases.POTENTIALS["sw-binary"] + cases.POTENTIALS["lj-binary"]
    ),
    "sites": lambda: TERSOFF,
}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_second_differences_of_the_energy(kind):
    potential = KINDS[kind]()
    system = cases.structure("triclinic", cases.POTENTIALS["lj-binary"])
    dimension, generator = system.dimension, np.random.default_rng(3)
    moves = 0.3 * generator.normal(size=(3, *system.positions.shape))
    # Neither symmetric nor small, and one change without a strain.
    strains = 0.2 * generator.normal(size=(3, dimension, dimension))
    strains[2] = 0.0
    # A wide skin, so that many edges are beyond the range.
    x, h = np.asarray(system.positions), np.asarray(system.cell)
    edges = potential.edge_search(system, 0.5).find(x, h)
    given = system, potential, edges, jnp.asarray(moves), jnp.asarray(strains)
    found = np.asarray(_second_variations(*given))

    def along(move, strain):
        def changed(s):
            turned = np.eye(dimension) + s * strain
            moved = system.with_positions(x @ turned + s * move).with_cell(h @ turned)
            return float(_energy(moved, potential, edges))

        noise = 1e-15 * max(abs(changed(0.0)), 10.0)
        return numerical.second_derivative(changed, step=4e-3, noise=noise)

    scale = np.abs(found).max()
    for i in range(3):
        numerical.agrees(found[i, i], along(moves[i], strains[i]), 1e-6, scale)
        for j in range(i):
            both = moves[i] + moves[j], strains[i] + strains[j]
            whole = found[i, i] + found[j, j] + found[i, j] + found[j, i]
            numerical.agrees(whole, along(*both), 1e-6, scale)
    np.testing.assert_allclose(found, found.T, rtol=0.0, atol=1e-13 * scale)
