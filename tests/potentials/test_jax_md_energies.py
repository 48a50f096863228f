"""Energies of jax-md along edges of mdsens: what jax-md gets wrong in silence is not."""

import importlib.util
import inspect
import subprocess
import sys

import ase.build
import ase.cluster
import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.mechanics.energy import energy_forces_virial
from mdsens.potentials import JaxMD, LennardJones, Morse, StillingerWeber
from mdsens.potentials.jax_md_names import KNOWN, known_as

pytestmark = [
    pytest.mark.peer,
    pytest.mark.xdist_group("jax-md"),
    pytest.mark.skipif(
        importlib.util.find_spec("jax_md") is None, reason="jax-md is not installed: mdsens[jax-md]"
    ),
]

RELAXED = {"fmax": 1e-11, "method": "newton"}
PLACES = np.array(
    [[0, 0, 0], [2.3, 0, 0], [0.1, 2.4, 0], [2.2, 2.3, 0.2], [1.2, 1.3, 2.0], [-1.3, -1.0, 1.5]]
) + 0.05 * np.random.default_rng(0).normal(size=(6, 3))
GUPTA = {"p": 10.15, "q": 4.13, "r_0n": 2.96, "U_n": 3.454, "A": 0.118428}
SILICON = {
    "sigma": 2.0951, "A": 7.049556277, "B": 0.6022245584, "lam": 21.0, "gamma": 1.2,
    "epsilon": 2.16826, "three_body_strength": 1.0, "cutoff": 3.77118,
}  # fmt: skip


def edges_of(system, potential):
    search = potential.edge_search(system)
    return search.find(np.asarray(system.positions), np.asarray(system.cell))


def mechanics(system, potential, edges=None):
    potential = potential.in_system(system)
    edges = edges_of(system, potential) if edges is None else edges
    return jax.jit(energy_forces_virial)(system, potential, edges)


def cluster():
    return mdsens.System(PLACES, None, ("Si",), None, False)


def double(numbers):
    return {name: jnp.asarray(number, float) for name, number in numbers.items()}


def theirs(name):
    """jax-md's own function of all pairs in free space, given arrays of double precision."""
    from flax import nnx
    from jax_md import energy, smap, space

    free, _ = space.free()
    if name == "lennard_jones":
        return energy.lennard_jones_pair(free, **double(OURS[name][0]))
    if name == "morse":
        pair = energy.multiplicative_isotropic_cutoff(
            energy.morse, jnp.asarray(2.5), jnp.asarray(3.3)
        )
        return smap.pair(
            pair, space.metric(free), **double({"sigma": 1.9, "epsilon": 0.3, "alpha": 2.0})
        )
    if name == "soft_sphere":
        return energy.soft_sphere_pair(free, **double(OURS[name][0]))
    if name == "stillinger_weber":
        return energy.stillinger_weber(free, **double(SILICON))
    if name == "gupta":
        return energy.gupta_potential(free, cutoff=8.0, **double(GUPTA))
    given = {"key": jax.random.PRNGKey(0), "mlp_sizes": (6, 6)}
    if name == "behler_parrinello":
        made = energy.behler_parrinello(free, sym_kwargs={"cutoff_distance": 4.0}, **given)
    else:
        made = energy.graph_network(free, 4.0, **given)
    nnx.update(made.model, nnx.State(ours(name).tree))
    return made


OURS = {
    "lennard_jones": ({"sigma": 1.9, "epsilon": 0.3, "r_onset": 1.5, "r_cutoff": 2.1},),
    "morse": ({"sigma": 1.9, "epsilon": 0.3, "alpha": 2, "r_onset": 2.5, "r_cutoff": 3.3},),
    "soft_sphere": ({"sigma": 2.9, "epsilon": 0.3, "alpha": 2.5},),
    "stillinger_weber": ({},),
    "gupta": ({},),
    "behler_parrinello": ({"mlp_sizes": (6, 6), "sym_kwargs": {"cutoff_distance": 4.0}},),
    "graph_network": ({"mlp_sizes": (6, 6), "r_cutoff": 4.0},),
}


def ours(name):
    return JaxMD(name, **OURS[name][0])


@pytest.mark.parametrize("name", list(OURS))
def test_energies_and_forces_are_those_of_jax_md_in_free_space(name):
    # Ours are given Python's numbers, of which jax-md makes single precision.
    expected, gradient = jax.jit(jax.value_and_grad(theirs(name)))(jnp.asarray(PLACES))
    energy, forces, _ = mechanics(cluster(), ours(name))
    assert energy.dtype == "float64"
    assert float(energy) == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(forces, -gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["stillinger_weber", "lennard_jones", "soft_sphere"])
def test_derivatives_in_parameters_are_numbers_and_those_of_differences(name):
    potential, system = ours(name), cluster()
    edges = edges_of(system, potential)

    def energy(potential):
        return mechanics(system, potential, edges)[0]

    gradient = jax.grad(energy)(potential)
    step = 1e-6
    for parameter, value in potential.parameters.items():
        sides = [
            float(energy(potential.with_parameters({parameter: value * (1.0 + h)})))
            for h in (step, -step)
        ]
        numeric = (sides[0] - sides[1]) / (2.0 * step * value)
        found = float(potential.derivative(gradient, parameter))
        assert found == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_embedded_atoms_are_functions_of_ones_own():
    part = jax.tree_util.Partial
    potential = JaxMD(
        "eam",
        cutoff=5.5,
        charge_fn=part(lambda b, r: jnp.exp(-b * r), 1.3),
        embedding_fn=part(lambda a, q: -a * jnp.sqrt(q + 0.1), 0.7),
        pairwise_fn=part(lambda c, r: c * jnp.exp(-2 * r), 5.0),
    )
    distances = np.linalg.norm(PLACES[:, None] - PLACES[None], axis=-1)
    inside = (distances < 5.5) & (distances > 0.0)
    density = np.sum(np.exp(-1.3 * distances) * inside, axis=1)
    pairs = 0.5 * np.sum(5.0 * np.exp(-2.0 * distances) * inside)
    expected = pairs - 0.7 * np.sum(np.sqrt(density + 0.1))
    assert float(mechanics(cluster(), potential)[0]) == pytest.approx(expected, rel=1e-13)
    assert len(potential.parameter_names) == 3


def test_a_cell_smaller_than_the_range_is_as_right_as_any():
    silicon = ase.build.bulk("Si", "diamond", 5.431)
    system = mdsens.System.from_ase(silicon)
    own = StillingerWeber(
        2.16826, 2.0951, 3.77118 / 2.0951, 21.0, 1.2, -1 / 3, 7.049556277, 0.6022245584, 4.0, 0.0
    )
    found, expected = (
        mdsens.sensitivity(
            mdsens.relax(system, one, cell="isotropic", **RELAXED), ["volume"], wrt=["sigma", "B"]
        )
        for one in (JaxMD("stillinger_weber"), own)
    )
    assert found.equilibrium.energy == pytest.approx(expected.equilibrium.energy, rel=1e-9)
    assert found.equilibrium.volume == pytest.approx(expected.equilibrium.volume, rel=1e-9)
    # With sigma alone their cutoff stays, and ours follows: B moves neither.
    assert found["volume"]["B"] == pytest.approx(expected["volume"]["B"], rel=1e-7)


def test_copies_of_a_small_cell_are_those_of_a_large_one():
    small = ase.build.bulk("Au", "fcc", 4.1)
    small.set_cell(small.cell.array @ [[1.0, 0.03, 0.0], [0.0, 1.0, 0.0], [0.0, 0.05, 1.0]], True)
    potential = JaxMD("gupta", cutoff=3.6)
    one, several = (
        mechanics(mdsens.System.from_ase(atoms), potential) for atoms in (small, small * (2, 2, 3))
    )
    assert float(several[0]) == pytest.approx(12.0 * float(one[0]), rel=1e-12)
    np.testing.assert_allclose(several[2], 12.0 * one[2], rtol=1e-10, atol=1e-12)


def test_pairs_below_the_onset_are_those_of_mdsens():
    system = cluster()
    for theirs, own in (
        (JaxMD("lennard_jones", sigma=1.9, epsilon=0.3, r_onset=9.0, r_cutoff=10.0),
         LennardJones(0.3, 1.9, 19.0, "none")),
        (JaxMD("morse", sigma=1.9, epsilon=0.3, alpha=2.0, r_onset=18.0, r_cutoff=19.0),
         Morse(0.3, 2.0, 1.9, 19.0, "none")),
    ):  # fmt: skip
        for found, expected in zip(mechanics(system, theirs), mechanics(system, own), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_tables_of_species_are_named_and_symmetric():
    table = np.array([[1.9, 2.1], [2.1, 2.3]])
    potential = JaxMD("soft_sphere", sigma=table, epsilon=0.3, species=["A", "B"])
    names = {"sigma[A-A]", "sigma[A-B]", "sigma[B-B]", "epsilon", "alpha"}
    assert set(potential.parameter_names) == names
    system = mdsens.System(PLACES, None, ("A", "B"), [0, 1, 0, 1, 0, 1], False)
    own = mdsens.potentials.SoftSphere(table, 0.3, 2.0, ("A", "B"))
    for found, expected in zip(mechanics(system, potential), mechanics(system, own), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    changed = potential.with_parameters({"sigma[B-A]": 2.2}).tree["sigma"]
    assert changed[0, 1] == changed[1, 0] == 2.2


def hold_to_differences(function, network, **tolerances):
    """Two weights' derivatives of a function beside differences of it."""
    gradient, step = jax.grad(function)(network), 1e-3
    for parameter in (network.parameter_names[-1], network.parameter_names[40]):
        value = network.parameters[parameter]
        high, low = (
            float(function(network.with_parameters({parameter: value + h}))) for h in (step, -step)
        )
        found = float(network.derivative(gradient, parameter))
        assert found == pytest.approx((high - low) / (2.0 * step), **tolerances)


@pytest.mark.slow
@cases.thorough("test_energy_function.py, on a network of its own")
def test_a_gradient_in_all_weights_of_a_network_is_one_solve():
    held = LennardJones(0.3, 2.1, 9.0)
    start, network = mdsens.relax(cluster(), held, **RELAXED).system, ours("behler_parrinello")

    def side(network):
        positions = mdsens.relax(start, held + 0.002 * network, **RELAXED).positions
        return jnp.linalg.norm(positions[0] - positions[4])

    assert len(network.parameter_names) > 200
    hold_to_differences(side, network, rel=1e-4, abs=1e-10)


@pytest.mark.slow
@cases.thorough("test_energy_function.py, on a network of its own")
def test_a_gradient_in_all_weights_of_a_network_of_graphs_is_one_solve():
    # Where three atoms are fixed nothing turns: its energy is not the same in every direction.
    places = ase.cluster.Icosahedron("Si", 2, 2.36 * 2**0.5).positions
    held, fixed = LennardJones(0.3, 2.1, 9.0), np.arange(13) < 3
    start = mdsens.System(places, None, ("Si",), None, False, fixed=fixed)
    network = JaxMD("graph_network", mlp_sizes=(6, 6), r_cutoff=7.0)

    def side(network):
        positions = mdsens.relax(start, held + 0.1 * network, **RELAXED).positions
        return jnp.linalg.norm(positions[3] - positions[12])

    assert len(network.parameter_names) > 1800
    hold_to_differences(side, network, rel=1e-5, abs=1e-12)


def pair_in_a_field(displacement, k, field):
    def energy(R):
        along = displacement(R[0], R[1])
        return k * (jnp.linalg.norm(along) - 1.0) ** 2 + field * along[0] ** 2

    return energy


@pytest.mark.parametrize(("field", "rotations"), [(0.0, 2), (1.0, 0)])
def test_no_rotation_is_free_where_directions_differ(field, rotations):
    start = mdsens.System([[0.0, 0.0, 0.0], [0.9, 0.3, 0.2]], None, ("Si",), None, False)
    relaxed = mdsens.relax(start, JaxMD(pair_in_a_field, k=1.0, field=field), fmax=1e-9)
    assert relaxed.certificate.null_modes["rotations"] == rotations


def test_a_network_of_graphs_does_not_turn_freely():
    network = JaxMD("graph_network", mlp_sizes=(6, 6), r_cutoff=4.0)
    assert not (LennardJones(0.3, 2.1, 9.0) + network).isotropic


@pytest.mark.slow
def test_atoms_that_come_together_are_counted_where_a_list_of_jax_md_overflows():
    from jax_md import energy, partition, space

    numbers = {"sigma": 1.0, "epsilon": 0.3, "r_onset": 2.0, "r_cutoff": 2.5}
    places = np.stack(np.meshgrid([0, 1.9], [0, 1.9], [0, 1.9, 3.8]), -1).reshape(-1, 3)
    places = places + 0.1 * np.random.default_rng(0).normal(size=places.shape)
    start = mdsens.System(places, None, ("Ar",), None, False)
    relaxed = mdsens.relax(start, JaxMD("lennard_jones", **numbers), fmax=1e-10)
    free, _ = space.free()
    box = jnp.asarray(20.0)
    moved = relaxed.positions + 8.0
    find, listed = energy.lennard_jones_neighbor_list(
        free, box, **double(numbers), dr_threshold=0.0, format=partition.Dense
    )
    first = find.allocate(jnp.asarray(places) + 8.0)
    last = first.update(moved)
    every = energy.lennard_jones_pair(free, **double(numbers))
    # Their list has no room for the neighbours that come, and leaves them out.
    assert bool(last.did_buffer_overflow)
    assert abs(float(listed(moved, neighbor=last)) - float(every(moved))) > 0.1
    assert float(relaxed.energy) == pytest.approx(float(every(moved)), rel=1e-12)
    assert float(jnp.abs(jax.grad(every)(moved)).max()) < 1e-9
    counts = (np.linalg.norm(moved[:, None] - moved[None], axis=2) < 2.5).sum(axis=1) - 1
    assert counts.min() > first.idx.shape[1]


def in_cell(side):
    return mdsens.System.from_ase(ase.build.bulk("Si", "diamond", side, cubic=True))


def own(displacement, k):
    return lambda R: k * jnp.sum(displacement(R[0], R[1]) ** 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: JaxMD("lennard_jone"), "did you mean 'lennard_jones'"),
        (lambda: JaxMD("lennard_jones", sigm=2.0), "takes no 'sigm'; did you mean 'sigma'"),
        (lambda: JaxMD("lennard_jones", sigma="2"), "give numbers"),
        (lambda: JaxMD("tersoff"), "use mdsens.potentials.Tersoff"),
        (lambda: JaxMD("bks", cutoff=8.0), "needs Q_sq, exp_coeff"),
        (lambda: JaxMD("bks"), "cutoff is missing: give one"),
        (lambda: JaxMD("edip"), "jumps as one crosses the cutoff"),
        (lambda: JaxMD("simple_spring_bond"), "use mdsens.potentials.Bonds"),
        (lambda: JaxMD("soft_sphere", sigma=[[1.0, 2.0], [2.0, 1.0]]), "one value is allowed, or"),
        (lambda: JaxMD("stillinger_weber", species=["Si"]), "for one species alone"),
        (
            lambda: mdsens.relax(
                mdsens.System(PLACES, None, ("Si", "C"), [0, 1] * 3, False),
                JaxMD("stillinger_weber"),
            ),
            "is of one species, and the system has Si, C",
        ),
        (
            lambda: mdsens.relax(in_cell(5.43), JaxMD("graph_network", r_cutoff=4.0)),
            "the cell is 5.43 across, and images are told apart from 8 on",
        ),
        (lambda: mdsens.relax(in_cell(5.43), JaxMD(own, k=1.0)), "is not known: give cutoff"),
    ],
)
def test_what_jax_md_would_ignore_or_get_wrong_is_refused(wrong, message):
    with pytest.raises(mdsens.InputError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_a_function_of_ones_own_sees_nearest_images_wherever_atoms_are():
    system = in_cell(5.43)
    moved = system.with_positions(np.asarray(system.positions) - [[0.0, 11.0, -30.0]])
    shifted = np.array(system.positions)
    shifted[1] += 3.0 * np.asarray(system.cell)[0]
    expected = 1.5 * 3.0 * (5.43 / 4.0) ** 2
    for one in (moved, system.with_positions(shifted)):
        assert float(mechanics(one, JaxMD(own, k=1.5, cutoff=2.6))[0]) == pytest.approx(
            expected, rel=1e-12
        )


#: Functions in the module of energies that make none, but parts of some, or read files.
NO_ENERGIES = {
    "canonicalize_node_state", "dense_graph_input", "load_lammps_eam_parameters",
    "load_lammps_tersoff_parameters", "maybe_downcast", "multiplicative_isotropic_cutoff",
    "neighbor_graph_input", "node_state_or_default", "sw_three_body_term",
}  # fmt: skip


def test_every_energy_of_jax_md_is_offered_or_refused_with_what_to_use():
    """All public functions of the module, whatever release it is of."""
    from jax_md import energy

    public = {
        name
        for name, function in inspect.getmembers(energy, inspect.isfunction)
        if not name.startswith("_") and function.__module__.startswith("jax_md")
    }
    offered, unknown = set(), set()
    for name in public - NO_ENERGIES:
        try:
            offered.add(known_as(name))
        except mdsens.InputError as error:
            if "is not offered: " not in str(error):
                unknown.add(name)
    assert not unknown
    assert offered == set(KNOWN)


def test_edip_of_jax_md_jumps_as_an_atom_crosses_its_cutoff():
    from jax_md import energy, space

    free, _ = space.free()
    cutoff = 3.1213820
    total = energy.edip(free, cutoff=jnp.asarray(cutoff))

    def at(distance):
        third = [2.3 * np.cos(1.9), 2.3 * np.sin(1.9), 0.0]
        return float(total(jnp.array([[0, 0, 0], [2.3, 0, 0], third, [0, 0, distance]], float)))

    assert abs(at(cutoff - 1e-7) - at(cutoff + 1e-7)) > 1e-3


@pytest.mark.slow
def test_jax_md_is_imported_only_when_it_is_asked_for():
    code = "import sys, mdsens, mdsens.potentials; assert 'jax_md' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
