"""Any function as a potential: parameters in a tree, what it may return, derivatives."""

import itertools

import ase
import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.potentials import Energy, LennardJones

RELAXED = {"fmax": 1e-11, "method": "newton"}
PLACES = [[0, 0, 0], [3.7, 0, 0], [1.8, 3.2, 0], [1.8, 1, 3], [2, 1, -3]]
TRACED = []


def cluster():
    return mdsens.System.from_ase(ase.Atoms("Ar5", positions=PLACES))


def pair_distances(positions):
    first, second = np.triu_indices(len(positions), 1)
    return jnp.linalg.norm(positions[first] - positions[second], axis=1)


def all_pairs(positions, cell, species, parameters):
    TRACED.append(len(positions))
    powers = (parameters["sigma"] / pair_distances(positions)) ** 6
    return jnp.sum(4.0 * parameters["epsilon"] * (powers**2 - powers))


def lennard_jones(**options):
    given = {"epsilon": 0.0104, "sigma": 3.4}
    return Energy(all_pairs, given, dimensions={"sigma": "length"}, **options)


def tethers(positions, cell, species, parameters):
    return 0.5 * jnp.sum(parameters["k"] * (positions - jnp.asarray(PLACES)) ** 2)


def test_a_function_of_all_pairs_is_the_potential_of_edges():
    whole = mdsens.relax(cluster(), lennard_jones(), **RELAXED)
    edges = mdsens.relax(cluster(), LennardJones(0.0104, 3.4, 60.0, onset=50.0), **RELAXED)
    assert whole.energy == pytest.approx(edges.energy, rel=1e-12)
    assert whole.certificate.null_mode_count == 6
    distance = mdsens.observables.distance(3, 4)
    found, expected = (mdsens.sensitivity(one, [distance]) for one in (whole, edges))
    assert found["distance(3,4)"]["sigma"] == pytest.approx(float(distance(whole)) / 3.4, rel=1e-9)
    assert found["distance(3,4)"]["sigma"] == pytest.approx(
        expected["distance(3,4)"]["sigma"], rel=1e-9
    )
    assert found.units("distance(3,4)", "sigma") == "1"
    assert found.units("distance(3,4)", "epsilon") == "Ang/(unknown unit)"


def test_other_values_are_not_compiled_again():
    mdsens.relax(cluster(), lennard_jones(), **RELAXED)
    TRACED.clear()
    mdsens.relax(cluster(), lennard_jones().with_parameters({"sigma": 3.41}), **RELAXED)
    mdsens.relax(cluster(), Energy(all_pairs, {"epsilon": 0.01, "sigma": 3.4},
                                   dimensions={"sigma": "length"}), **RELAXED)  # fmt: skip
    assert TRACED == []


class Network(eqx.Module):
    """Pairs that repel and attract, and a network's correction of their distances."""

    pair: dict[str, float]
    layers: eqx.nn.MLP

    def __call__(self, r):
        core = self.pair["depth"] * ((3.4 / r) ** 8 - 2.0 * (3.4 / r) ** 4)
        return core + 0.003 * jax.vmap(self.layers)(r[:, None] - 3.5).sum(axis=1)


def network_energy(positions, cell, species, parameters):
    return jnp.sum(parameters(pair_distances(positions)))


def network():
    layers = eqx.nn.MLP(1, 1, 24, 2, activation=jnp.tanh, key=jax.random.key(0))
    return Energy(network_energy, Network({"depth": 0.02}, layers), dimensions={"pair": "energy"})


def test_a_gradient_in_all_weights_is_one_solve():
    potential, start = network(), cluster()
    assert len(potential.parameter_names) == 1 + 24 + 24 + 24 * 24 + 24 + 24 + 1

    def loss(potential):
        positions = mdsens.relax(start, potential, **RELAXED).positions
        return jnp.sum((pair_distances(positions) - 3.3) ** 2)

    gradient = jax.grad(loss)(potential)
    assert jax.tree.structure(gradient) == jax.tree.structure(potential)
    names = ["pair.depth", "layers.layers[1].weight[3,5]", "layers.layers[0].bias[7]"]
    step = 2e-3
    for name in names:
        value = potential.parameters[name]
        high, low = (
            float(loss(potential.with_parameters({name: value * (1.0 + h)}))) for h in (step, -step)
        )
        numeric = (high - low) / (2.0 * step * value)
        found = float(potential.derivative(gradient, name))
        assert found == pytest.approx(numeric, rel=1e-4, abs=1e-9)
    # The same numbers by the front door, in reverse as there are many.
    relaxed = mdsens.relax(start, potential, **RELAXED)
    sensitivity = mdsens.sensitivity(relaxed, ["distance(0,1)"], wrt=["pair", "layers.layers[0]"])
    assert len(sensitivity.parameters) == 1 + 48
    assert "24 by 24 numbers, unknown unit" in repr(potential)


def test_names_are_paths():
    tree = {"k": 2.0, "table": np.ones((2, 2)), "pair": [0.5, (1.5, 3)], "n": 12}
    potential = Energy(lambda *_: jnp.zeros(()), tree, dimensions={"pair": "length"})
    assert potential.parameter_names == (
        "k", "pair[0]", "pair[1][0]", "table[0,0]", "table[0,1]", "table[1,0]", "table[1,1]"
    )  # fmt: skip
    assert Energy(all_pairs, {7: 1.0}).parameter_names == ("[7]",)
    assert Energy(all_pairs, 2.0).parameter_names == ("parameter",)
    assert potential.expand_parameter_names(["pair"]) == ["pair[0]", "pair[1][0]"]
    assert potential.expand_parameter_names("table") == [f"table[{i},{j}]" for i in (0, 1)
                                                         for j in (0, 1)]  # fmt: skip
    changed = potential.with_parameters({"table[1,0]": 5.0})
    assert changed.parameter_tree["table"][1, 0] == 5.0
    assert changed.parameter_tree["n"] == 12
    assert potential.parameter_dimension("pair[0]") == "length"
    assert potential.parameter_units("k") == "unknown unit"
    direction = potential.direction("table[0,1]")
    assert float(potential.derivative(direction, "table[0,1]")) == 1.0
    assert float(potential.derivative(direction, "k")) == 0.0
    both = potential + lennard_jones()
    assert both.expand_parameter_names(["energy_1.pair"]) == ["pair[0]", "pair[1][0]"]
    assert both.with_parameters({"pair[0]": 0.7}).parameters["pair[0]"] == 0.7
    assert both.parameter_dimension("sigma") == "length"


def test_whether_an_energy_is_invariant_is_found_out():
    held = mdsens.relax(cluster(), Energy(tethers, {"k": 0.3}) + lennard_jones(), **RELAXED)
    assert held.certificate.null_mode_count == 0
    assert not held.potential.invariant
    found = mdsens.sensitivity(held, ["distance(3,4)"])["distance(3,4)"]
    step = 1e-4
    sides = [
        mdsens.observables.distance(3, 4)(
            mdsens.relax(cluster(), Energy(tethers, {"k": k}) + lennard_jones(), **RELAXED)
        )
        for k in (0.3 + step, 0.3 - step)
    ]
    numeric = float(sides[0] - sides[1]) / (2.0 * step)
    assert found["k"] == pytest.approx(numeric, rel=1e-6)


def in_a_field(positions, cell, species, parameters):
    """Pairs in a field along x: the energy changes as the whole turns, and not as it moves."""
    apart = positions[:, 0, None] - positions[None, :, 0]
    return all_pairs(positions, cell, species, parameters) + 1e-4 * jnp.sum(apart**2)


def test_an_energy_that_changes_only_as_it_turns_keeps_its_translations():
    values = {"epsilon": 0.0104, "sigma": 3.4}
    relaxed = mdsens.relax(cluster(), Energy(in_a_field, values), **RELAXED)
    assert relaxed.potential.invariant
    assert not relaxed.potential.isotropic
    # The field turns with nothing but about its own axis, which is no symmetry that is looked for.
    assert relaxed.certificate.null_modes["translations"] == 3
    assert relaxed.certificate.null_modes["rotations"] == 0
    assert "isotropic" in repr(relaxed.potential)
    with pytest.raises(mdsens.InputError, match=r"isotropic = True, but .* give isotropic=False"):
        mdsens.relax(cluster(), Energy(in_a_field, values, isotropic=True), **RELAXED)
    with pytest.raises(mdsens.InputError, match="goes with no invariant = False"):
        Energy(in_a_field, values, invariant=False, isotropic=True)
    found = mdsens.sensitivity(relaxed, ["distance(3,4)"])["distance(3,4)"]["epsilon"]
    step, distance = 1e-6, mdsens.observables.distance(3, 4)
    sides = [
        float(distance(mdsens.relax(relaxed.system, Energy(in_a_field, changed), **RELAXED)))
        for changed in ({**values, "epsilon": 0.0104 + way * step} for way in (1, -1))
    ]
    assert found == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5)


def returning(value):
    return lambda positions, cell, species, parameters: value(positions * parameters["k"])


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (returning(lambda x: x.sum().astype("float32")), {}, "returns a float32: return a float64"),
        (returning(lambda x: x), {}, r"returns an array of shape \(5, 3\)"),
        (returning(lambda x: jnp.log(-jnp.sum(x**2))), {}, "the energy of the structure is nan"),
        (returning(lambda x: "text"), {}, "returns a str: return one number"),
        (returning(lambda x: jnp.sum(x)), {"invariant": True}, "invariant = True, but the energy"),
        (returning(lambda x: jnp.sum(x)), {"species": ["Kr"]}, "no parameters for species Ar"),
    ],
)
def test_what_a_function_may_not_do_is_said_in_a_line(function, options, message):
    with pytest.raises(mdsens.InputError, match=message) as caught:
        mdsens.relax(cluster(), Energy(function, {"k": 1.0}, **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Energy(3, {"k": 1.0}), "give a function of positions, cell, species"),
        (lambda: Energy(lambda x: x, {"k": 1.0}), "does not take"),
        (lambda: Energy(all_pairs, {"k": 1}), "there is no float among them"),
        (lambda: Energy(all_pairs, {"k": 1j}), "k is complex"),
        (lambda: Energy(all_pairs, {"k": np.inf}), "k is not finite"),
        (lambda: Energy(all_pairs, {"k": 1.0}, dimensions={"l": "length"}), "no parameter 'l'"),
        (lambda: Energy(all_pairs, {"k": 1.0}, dimensions={"k": "metre"}), "give powers of energy"),
        (lambda: Energy(all_pairs, {"a.b": 1.0, "a": {"b": 1.0}}), "would be called 'a.b'"),
        (lambda: lennard_jones().with_parameters({"sigmo": 1.0}), "did you mean 'sigma'"),
        (lambda: lennard_jones().with_parameters({"sigma": np.nan}), "sigma.* is not finite"),
    ],
)
def test_what_no_energy_is_made_of_is_refused(make, message):
    with pytest.raises(mdsens.InputError, match=message):
        make()


def test_what_jax_traces_takes_what_was_declared():
    def side(sigma, invariant):
        potential = Energy(all_pairs, {"epsilon": 0.0104, "sigma": sigma}, invariant=invariant)
        return mdsens.observables.distance(3, 4)(mdsens.relax(cluster(), potential, **RELAXED))

    with pytest.raises(mdsens.InputError, match="give invariant=True, or False"):
        jax.jit(jax.grad(lambda sigma: side(sigma, None)))(3.4)
    found, value = jax.jit(jax.value_and_grad(lambda sigma: side(sigma, True)))(3.4)[::-1]
    assert float(found) == pytest.approx(float(value) / 3.4, rel=1e-7)


SHIFTS = np.array(list(itertools.product((-2, -1, 0, 1, 2), repeat=3)), float)


def all_images(positions, cell, species, parameters):
    """Lennard-Jones of a crystal, between all images within two cells, cut off smoothly."""
    apart = positions[:, None] - positions[None]
    vectors = apart[:, :, None] + (SHIFTS @ cell)[None, None]
    squares = jnp.sum(vectors**2, axis=-1)
    squares = jnp.where(squares > 0.0, squares, 1e4)
    t = jnp.clip(jnp.sqrt(squares) - 6.5, 0.0, 1.0)
    switch = 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t))
    powers = (parameters["sigma"] ** 2 / squares) ** 3
    return 2.0 * parameters["epsilon"] * jnp.sum(switch * (powers**2 - powers))


@pytest.mark.slow
def test_a_crystal_has_its_cell_stress_and_elastic_constants():
    atoms = ase.build.bulk("Ar", "fcc", 5.2, cubic=True)
    atoms.rattle(0.03, seed=1)
    system = mdsens.System.from_ase(atoms)
    observables = [mdsens.observables.elastic_constant(4, 4), mdsens.observables.volume()]
    whole, edges = (
        mdsens.sensitivity(mdsens.relax(system, potential, cell="full", **RELAXED), observables)
        for potential in (
            Energy(all_images, {"epsilon": 0.0104, "sigma": 3.4}),
            LennardJones(0.0104, 3.4, 7.5, onset=6.5),
        )
    )
    for observable in observables:
        values = [float(observable(one.equilibrium)) for one in (whole, edges)]
        assert values[0] == pytest.approx(values[1], rel=1e-8)
        for parameter in ("epsilon", "sigma"):
            found, expected = (one[observable.name][parameter] for one in (whole, edges))
            assert found == pytest.approx(expected, rel=1e-7, abs=1e-7)
    np.testing.assert_allclose(whole.equilibrium.stress, 0.0, atol=1e-10)
    vibrations = mdsens.observables.phonon_frequencies(q=(0.0, 0.0, 0.0))
    found, expected = (
        mdsens.sensitivity(one.equilibrium, [vibrations], wrt=["sigma"]) for one in (whole, edges)
    )
    values = [np.asarray(vibrations(one.equilibrium)) for one in (found, expected)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-7)
    name = vibrations.name
    np.testing.assert_allclose(found[name]["sigma"], expected[name]["sigma"], rtol=1e-6, atol=1e-8)
    with pytest.raises(mdsens.InputError, match="use q = 0 of a supercell"):
        mdsens.observables.phonon_frequencies(q=(0.5, 0.0, 0.0))(whole.equilibrium)
