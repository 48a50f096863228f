"""One program serves all species: what it must not know, and what it must not confuse."""

import functools
import itertools

import ase.data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from cases import SILICON

import mdsens
from mdsens import compilation
from mdsens.compilation import compiled
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.nameless import Name, named, nameless
from mdsens.observables import Observable

SIZES = {"Ar": (0.0104, 3.4, 5.3), "Kr": (0.0140, 3.65, 5.7)}


@pytest.fixture
def compilations():
    """What is compiled from here on."""
    seen = []

    def listen(event, *_, **about):
        if event.endswith("backend_compile_duration"):
            seen.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def crystal(element):
    """A rattled crystal, and a potential that knows the element by its name."""
    epsilon, sigma, edge = SIZES[element]
    atoms = bulk(element, "fcc", edge, cubic=True)
    atoms.rattle(0.02, seed=1)
    potential = mdsens.potentials.LennardJones(epsilon, sigma, "1.9 sigma", species=(element,))
    return mdsens.System.from_ase(atoms), potential


def volume_and_derivatives(element):
    system, potential = crystal(element)
    relaxed = mdsens.relax(system, potential, cell="isotropic", fmax=1e-10)
    assert relaxed.system.symbols == (element,)
    assert relaxed.potential.species == (element,)
    found = mdsens.sensitivity(relaxed, ["volume", "distance(0,1)"])
    return float(relaxed.volume), {name: float(x) for name, x in found["volume"].items()}


def test_another_element_compiles_nothing_and_has_its_own_numbers(compilations):
    volume_and_derivatives("Ar")
    compilations.clear()
    volume, derivatives = volume_and_derivatives("Kr")
    assert compilations == []
    # All lengths are multiples of sigma, and nothing else has a length.
    np.testing.assert_allclose(derivatives["sigma"], 3.0 * volume / SIZES["Kr"][1], rtol=1e-8)
    assert abs(derivatives["epsilon"]) < 1e-6 * volume


def test_a_hundred_relaxations_compile_as_often_as_one(monkeypatch):
    """None of the programs of a small structure is called so often that it is made again."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    compilation.forget_programs()
    volume_and_derivatives("Ar")
    called = {
        function.__name__: 1 - program.calls_left / program.calls
        for function in compilation._functions
        for program in function._programs.values()
        if program.calls_left < program.calls < np.inf
    }
    assert "energy_forces_virial" in called
    assert {name: part for name, part in called.items() if 100 * part > 1} == {}


def energy_of_pairs(system, epsilons, sigmas, cutoff):
    """By NumPy, with no cell: epsilons and sigmas by names."""
    names = [system.symbols[index] for index in np.asarray(system.species)]
    positions, total = np.asarray(system.positions), 0.0
    for i, j in itertools.combinations(range(len(names)), 2):
        pair, r = frozenset((names[i], names[j])), np.linalg.norm(positions[i] - positions[j])
        if r < cutoff:
            x6 = (sigmas[pair] / r) ** 6
            total += 4.0 * epsilons[pair] * x6 * (x6 - 1.0)
    return total


@pytest.mark.parametrize("order", list(itertools.permutations(("Ne", "Ar", "Xe"))))
def test_names_in_any_order_find_their_own_rows(order):
    places = np.random.default_rng(3).uniform(size=(7, 3)) + 3.2 * np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    )
    system = mdsens.System(places, symbols=("Xe", "Ne", "Ar"), species=[0, 1, 2, 1, 0, 2, 2])
    pairs = [frozenset(p) for p in itertools.combinations_with_replacement(("Ne", "Ar", "Xe"), 2)]
    epsilons = {pair: 0.01 + 0.003 * number for number, pair in enumerate(pairs)}
    sigmas = {pair: 2.5 + 0.1 * number for number, pair in enumerate(pairs)}
    tables = [
        [[by_pair[frozenset((a, b))] for b in order] for a in order]
        for by_pair in (epsilons, sigmas)
    ]
    potential = mdsens.potentials.LennardJones(*tables, 9.0, "none", species=order)
    edges = potential.edge_search(system).find(system.positions, system.cell)
    energy, *_ = compiled_energy_forces_virial(system, potential, edges)
    expected = energy_of_pairs(system, epsilons, sigmas, 9.0)
    np.testing.assert_allclose(energy, expected, rtol=1e-13)


def test_what_depends_on_the_element_itself_does():
    highest = {}
    for element in SIZES:
        epsilon, sigma, edge = SIZES["Ar"]
        system = mdsens.System.from_ase(bulk(element, "fcc", edge))
        potential = mdsens.potentials.LennardJones(epsilon, sigma, 8.0, species=(element,))
        relaxed = mdsens.relax(system, potential)
        name = mdsens.observables.phonon_frequencies([0.5, 0.5, 0.0]).name
        found = mdsens.sensitivity(relaxed, [name], wrt="epsilon")
        frequencies = np.asarray(found.observed[name])
        # Of a force constant that is proportional to epsilon.
        slopes = np.asarray(found[name]["epsilon"])
        np.testing.assert_allclose(slopes, 0.5 * frequencies / epsilon, rtol=1e-8)
        highest[element] = frequencies.max()
    masses = [ase.data.atomic_masses[ase.data.atomic_numbers[element]] for element in SIZES]
    np.testing.assert_allclose(
        highest["Ar"] / highest["Kr"], np.sqrt(masses[1] / masses[0]), rtol=1e-10
    )


def test_functions_of_others_see_the_names():
    def count_of_krypton(equilibrium):
        names = jnp.array([name == "Kr" for name in equilibrium.system.symbols])
        return jnp.where(names[equilibrium.system.species], 1.0, 0.0).sum()

    observable = Observable("krypton", "1", count_of_krypton)
    for element, expected in (("Ar", 0.0), ("Kr", 4.0)):
        relaxed = mdsens.relax(*crystal(element))
        assert mdsens.sensitivity(relaxed, [observable]).observed["krypton"] == expected


def test_names_that_are_not_known_cannot_be_asked_what_they_say():
    for ask in (hash, str, {"Ar": 40.0}.get, ("Ar",).index):
        with pytest.raises((TypeError, ValueError)):
            ask(Name(0))
    assert (Name(0), Name(1)).index(Name(1)) == 1


def test_headers_of_files_are_no_part_of_a_program_and_are_not_lost():
    system, potential = crystal("Ar")
    made = functools.partial(mdsens.potentials.StillingerWeber, 2.2, 2.1, **SILICON)
    silicon, told = made(species=("Ar",)), made(species=("Ar",), header=(("DATE", "2007"),))
    both, other = ([system, [potential, 2.0 * one]] for one in (told, silicon))
    without, said = nameless(both)
    assert said == ("Ar", (("DATE", "2007"),))
    assert without[0].symbols == without[1][0].species == (Name(0),)
    assert jax.tree.structure(without) == jax.tree.structure(nameless(other)[0])
    assert jax.tree.structure(named(without, said)) == jax.tree.structure(both)


def test_mistakes_are_told_with_names():
    @compiled
    def energy(system, potential):
        return potential.species_index(system) * 1.0

    system, _ = crystal("Ar")
    _, other = crystal("Kr")
    with pytest.raises(mdsens.InputError, match="no parameters for species Ar: it knows Kr"):
        energy(system, other)


def test_what_looks_a_name_up_finds_that_of_its_own_element():
    """Not what a table has for names that it does not know, which a program of all would."""
    weights = {"Ar": 40.0, "Kr": 84.0}

    @compiled
    def weight(system):
        return weights.get(system.symbols[0], 1.0) * jnp.ones_like(system.positions[0, 0])

    assert [float(weight(crystal(element)[0])) for element in SIZES] == [40.0, 84.0]
