"""Tangents of a minimiser's iterates are their derivatives, at every step and with any edges."""

import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.errors import InputError, RelaxationError
from mdsens.potentials import LennardJones, SoftSphere
from mdsens.relaxation import (
    FIRE,
    LBFGS,
    ConjugateGradient,
    GradientDescent,
    Newton,
    PreconditionedLBFGS,
)
from mdsens.relaxation.arguments import compiled_methods
from mdsens.sensitivities import unrolled_tangents

pytestmark = pytest.mark.xdist_group("unrolled")

COUNT, BOX = 10, 2.3
SPECIES = np.arange(COUNT) % 2
SMALL = 0.6


def packing(seed, box=BOX):
    positions = np.random.default_rng(seed).random((COUNT, 2)) * box
    return System(positions, box * np.eye(2), ("large", "small"), SPECIES, units="reduced")


def discs(small=SMALL):
    return SoftSphere([1.0, small], 1.0, species=("large", "small"))


STARTS = [packing(seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def fire():
    return unrolled_tangents(STARTS, discs(), "diameter[small]", FIRE(), steps=60, every=20)


@pytest.mark.slow
def test_tangents_are_those_of_a_loop_written_by_hand():
    """Every pair and every image, without a neighbour list, by jax.jacfwd."""
    step_size, steps = 0.04, 50
    images = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) * BOX

    def energy(x, small):
        diameters = jnp.where(SPECIES == 0, 1.0, small)
        contact = (diameters[:, None] + diameters[None]) / 2
        total = 0.0
        for image in images:
            vectors = x[:, None] - x[None] + image[None, None]
            apart = jnp.sum(vectors**2, axis=-1) > 0
            r = jnp.sqrt(jnp.where(apart[..., None], vectors, 1.0) ** 2 @ jnp.ones(2))
            overlap = jnp.where(apart, jnp.maximum(1 - r / contact, 0.0), 0.0)
            total += 0.25 * jnp.sum(overlap**2)
        return total

    def descend(small, x):
        def step(x, _):
            return x - step_size * jax.grad(energy)(x, small), None

        return jax.lax.scan(step, x, None, length=steps)[0]

    found = unrolled_tangents(
        STARTS[:1], discs(), "diameter[small]", GradientDescent(step_size=step_size), steps, steps
    )
    x = STARTS[0].positions
    np.testing.assert_allclose(found.positions[-1, 0], jax.jit(descend)(SMALL, x), atol=1e-11)
    by_hand = jax.jit(jax.jacfwd(descend))(SMALL, x)
    assert np.abs(by_hand).max() > 0.5
    np.testing.assert_allclose(found.tangents[-1, 0], by_hand, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_tangents_are_finite_differences_of_the_iterates_of_relax(fire):
    """FIRE from the command `relax`, stopped after as many steps, with other diameters."""
    for index, after in enumerate(fire.steps[:2]):

        def iterate(small, after=after):
            return mdsens.relax(STARTS[0], discs(small), FIRE(), 1e-300, int(after)).positions

        noise = numerical.rounding(lambda batch: [iterate(s) for s in batch], SMALL, 1e-9, 1)
        expected = numerical.derivative(iterate, SMALL, 1e-6, noise=noise)
        scale = np.maximum(np.abs(expected.value), 0.1)
        numerical.agrees(fire.tangents[index, 0], expected, rtol=1e-4, scale=scale, each=True)


def test_iterates_are_those_of_relax(fire):
    alone = mdsens.relax(STARTS[1], discs(), FIRE(), 1e-300, 60)
    np.testing.assert_allclose(fire.positions[-1, 1], alone.positions, atol=1e-10)
    np.testing.assert_allclose(fire.forces[-1, 1], alone.largest_force, rtol=1e-8)


@pytest.mark.slow
def test_starts_side_by_side_are_starts_one_by_one(fire):
    alone = unrolled_tangents(STARTS[2:], discs(), "diameter[small]", FIRE(), steps=60, every=60)
    np.testing.assert_allclose(fire.tangents[-1, 2], alone.tangents[0, 0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fire.norms[-1, 2], np.abs(alone.tangents).sum(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("minimiser", [FIRE(), LBFGS(max_step=0.005)], ids=["fire", "lbfgs"])
def test_no_contact_is_missed_however_short_the_lists_are(minimiser):
    """With a skin of 0.02 the lists are renewed at almost every step, with one of 2 never."""
    found = [
        unrolled_tangents(
            STARTS[:2], discs(), "diameter[small]", minimiser, steps=20, every=5, skin=skin
        )
        for skin in (0.02, 2.0)
    ]
    moved = np.linalg.norm(found[0].positions[-1, 0] - np.asarray(STARTS[0].positions), axis=-1)
    assert moved.max() > 3 * 0.02
    np.testing.assert_allclose(found[0].positions, found[1].positions, atol=1e-9)
    np.testing.assert_allclose(found[0].tangents, found[1].tangents, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_unrolling_ends_at_the_implicit_derivative():
    start = [packing(4, 2.1)]
    found = unrolled_tangents(start, discs(), "diameter[small]", FIRE(), steps=3000, every=1500)
    minimum = mdsens.relax(
        start[0].with_positions(found.positions[-1, 0]), discs(), "newton", 1e-12
    )
    assert minimum.certificate.kind == "minimum"
    assert not minimum.landscape.rattlers.any()
    implicit = mdsens.sensitivity(minimum, wrt="diameter[small]").positions["diameter[small]"]
    np.testing.assert_allclose(found.tangents[-1, 0], implicit, atol=1e-7)


def test_the_last_step_is_always_recorded():
    found = unrolled_tangents(STARTS[:1], discs(), "diameter[small]", steps=7, every=3)
    assert found.steps.tolist() == [3, 6, 7]
    assert found.tangents.shape == (3, 1, COUNT, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"systems": []}, "at least one"),
        ({"systems": STARTS[0]}, "list"),
        ({"systems": [STARTS[0], System(np.eye(2), 3 * np.eye(2))]}, r"systems\[1\]"),
        ({"parameter": "diameter[smal]"}, r"diameter\[small\]"),
        ({"parameter": "diameter"}, r"diameter\[large\], diameter\[small\]: give one"),
        ({"steps": 0}, "steps = 0"),
        ({"every": 0}, "every = 0"),
        ({"steps": 2.0}, "steps = 2.0: give a whole number"),
        ({"steps": True}, "steps = True: give a whole number"),
        ({"skin": "a"}, "skin = 'a': give a finite number"),
        ({"parameter": 3}, "parameter = 3: give text"),
        ({"potential": "soft"}, "potential is a str: give a potential"),
        ({"minimiser": "fire"}, "minimiser is a str: give a minimiser"),
        ({"minimiser": Newton()}, "minimiser = Newton: its steps are host code.*give one of FIRE"),
        ({"minimiser": PreconditionedLBFGS()}, "minimiser = PreconditionedLBFGS: its steps"),
        ({"systems": [1]}, r"systems\[0\] is a int: give a mdsens.System"),
        ({"progress": 0}, "progress = 0: give True or False"),
        ({"skin": 0.0}, "skin = 0.0"),
    ],
)
def test_a_mistake_is_named(changes, words):
    given = {"systems": STARTS, "potential": discs(), "parameter": "diameter[small]"} | changes
    with pytest.raises(InputError, match=words):
        unrolled_tangents(**given)


def test_methods_that_can_be_unrolled_are_named():
    assert set(compiled_methods()) == {"fire", "gradient-descent", "lbfgs", "cg"}


@pytest.mark.parametrize("minimiser", [GradientDescent(), LBFGS(), ConjugateGradient()])
def test_a_disc_that_touches_nothing_leaves_the_tangents_of_a_line_search_finite(minimiser):
    """Three discs in a row and one apart, which has no force and stays where it is."""
    places = [[0.5, 1.0], [1.2, 1.1], [1.9, 0.9], [1.0, 3.0]]
    start = System(places, 5.0 * np.eye(2), ("large", "small"), [0, 1, 0, 1], units="reduced")

    def unrolled(small):
        return unrolled_tangents([start], discs(small), "diameter[small]", minimiser, steps=2)

    step = 1e-6
    up, down = (unrolled(SMALL + change).positions[-1, 0] for change in (step, -step))
    expected = (up - down) / (2.0 * step)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(unrolled(SMALL).tangents[-1, 0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_forces_that_are_not_finite_are_an_error():
    start = System([[0.0, 0.0], [1e-60, 0.0]], units="reduced")
    with pytest.raises(RelaxationError, match="start 0"):
        unrolled_tangents([start], LennardJones(1.0, 1.0, 2.5), "sigma", steps=5)
