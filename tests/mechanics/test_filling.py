"""Structures that are filled up for compiled code give what they give as they are."""

import ase.build
import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_programs import compiled

import mdsens
from mdsens import potentials
from mdsens.arrays import on_device
from mdsens.implicit.linearisation import compiled_change, compiled_pull_back, directional_change
from mdsens.linalg.sparse_plus_low_rank import to_bsr
from mdsens.mechanics import hessian_in_parts
from mdsens.mechanics.condition import Condition
from mdsens.mechanics.energy import compiled_site_energies, energy_forces_virial
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.filling import Filling, filled_size, filling_of, of_one_size
from mdsens.mechanics.hessian import hessian
from mdsens.mechanics.hessian_surroundings import surroundings_of
from mdsens.mechanics.shared_energy import mechanics_at, mechanics_on_host
from mdsens.observables import Observable

ATOMS = 24
SOME = [
    ("lj-binary", "triclinic"),
    ("lj-smooth", "small"),
    ("harmonic", "flat"),
    ("sw-binary", "triclinic"),
    ("sw", "slab"),
    ("sutton-chen-binary", "wire"),
    ("sutton-chen", "flat-cluster"),
]  # fmt: skip


def all_of(case):
    """System, potential and edges of a case."""
    return (
        case.system,
        case.potential,
        case.potential.edge_search(case.system, 0.05).find(
            np.asarray(case.system.positions), np.asarray(case.system.cell)
        ),
    )


@pytest.fixture
def given(case):
    return all_of(case)


def same_mechanics(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


@cases.every(SOME)
def test_energy_forces_and_virial_are_those_of_the_atoms_that_there_are(given):
    expected = energy_forces_virial(*given)
    assert filling_of(*given).atoms > given[0].atom_count
    same_mechanics(mechanics_at(*given), expected)
    same_mechanics(mechanics_on_host(*given, with_virial=True)(given[0].positions), expected)
    without = mechanics_on_host(*given)(np.asarray(given[0].positions))
    same_mechanics(without[:2], expected[:2])


def test_the_others_have_no_energy_of_their_own():
    lattice = ase.build.bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    lattice.rattle(0.1, seed=3)
    system = mdsens.System.from_ase(lattice)
    charges = potentials.DampedShiftedCoulomb([1.0, -1.0], 0.2, 6.0, species=("Na", "Cl"))
    # By themselves, and added to triplets, which are summed along another way.
    silicon = potentials.StillingerWeber(1.0, 1.0, **cases.SILICON)
    for potential in (charges, charges + silicon):
        search = potential.edge_search(system)
        edges = search.find(np.asarray(system.positions), np.asarray(system.cell))
        given = system, potential, edges
        with of_one_size([8, 12]):
            filling = filling_of(*given)
            assert filling.atoms == 16
            found = mechanics_at(*given)
        own = potential.own_energies(potential.species_index(system))
        assert float(jnp.abs(own[0])) > 1.0
        more = filling.system(system), potential, filling.edges(edges)
        expected = energy_forces_virial(*given)
        same_mechanics(found, expected)
        np.testing.assert_allclose(compiled_site_energies(*more).sum(), expected[0], rtol=1e-12)
        np.testing.assert_array_equal(compiled_site_energies(*more)[system.atom_count :], 0.0)


class MeanOfNeighbours(potentials.Potential):
    """A mean over neighbours: an atom that has none has no energy either."""

    A: potentials.Parameter = potentials.parameter("energy")
    species: tuple[str, ...] | None = eqx.field(static=True, default=None)

    @property
    def interaction_range(self):
        return 1.6

    def site_energies(self, edges):
        within = edges.mask & (edges.distances < 1.6)
        near = jnp.where(within, (1.0 - (edges.distances / 1.6) ** 2) ** 3, 0.0)
        return self.A * jnp.sum(near**2, axis=0) / jnp.sum(near, axis=0)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_potential_that_knows_no_lone_atoms_is_taken_as_it_is(mode):
    atoms = ase.build.bulk("X", "fcc", a=1.55, cubic=True)
    atoms.rattle(0.02, seed=2)
    system = mdsens.System.from_ase(atoms, units="reduced")

    def at_rest(A):
        potential = potentials.LennardJones(1.0, 1.0, 2.5) + MeanOfNeighbours(A)
        return mdsens.relax(system, potential, fmax=1e-11, cell="isotropic")

    equilibrium = at_rest(0.8)
    (name,) = (name for name in equilibrium.potential.parameters if name.endswith("A"))
    found = mdsens.sensitivity(equilibrium, ["energy", "volume"], wrt=[name], mode=mode)
    step = 1e-4
    ends = at_rest(0.8 + step), at_rest(0.8 - step)
    for one in ("energy", "volume"):
        above, below = (float(getattr(end, one)) for end in ends)
        np.testing.assert_allclose(found[one][name], (above - below) / (2 * step), rtol=1e-6)
    if mode == "reverse":
        # The mean of nothing times no weight at all is no number.
        given = equilibrium.system, equilibrium.potential, equilibrium.edge_list
        assert filling_of(*given) is None


@cases.every(SOME)
def test_the_hessian_is_that_of_the_atoms_that_there_are(given):
    system = given[0]
    held = np.arange(system.atom_count) == 1
    expected = np.array(hessian(*given))
    rows = np.repeat(held, system.dimension)
    size = np.abs(expected).max()
    np.testing.assert_allclose(
        to_bsr(hessian_in_parts(*given)).toarray(), expected, rtol=0, atol=1e-11 * size
    )
    expected[rows], expected[:, rows] = 0.0, 0.0
    expected[rows, rows] = 1.0
    found = to_bsr(hessian_in_parts(*given, held)).toarray()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * size)


@cases.every([("lj-binary", "triclinic"), ("sw", "wire"), ("sutton-chen", "cluster")])
def test_changes_of_the_condition_and_null_vectors_are_the_same(given):
    system, potential, edges = given
    for cell in (None, "full") if any(system.pbc) else (None,):
        same_changes(system, potential, edges, cell)


def same_changes(system, potential, edges, cell):
    # Far from the origin, where a turn about it would be all but a translation.
    system = system.with_positions(np.asarray(system.positions) + 1e4)
    landscape = Landscape.of(system, potential, edges, cell)
    q = landscape.coordinates
    random = np.random.default_rng(0)
    along = random.normal(size=q.shape)
    direction = jax.tree.map(lambda leaf: random.normal(size=np.shape(leaf)), potential)
    condition = Condition(landscape)
    assert condition.filled() is not None
    changes = directional_change(condition, q, (potential,), (direction,), along)
    found = compiled_change(condition, q, (potential,), (direction,), along)
    size = np.abs(changes).max()
    np.testing.assert_allclose(found, changes, rtol=0, atol=1e-9 * size)
    (pulled,) = compiled_pull_back(condition, q, (potential,), along)
    product = sum(
        np.sum(np.asarray(p) * d)
        for p, d in zip(jax.tree.leaves(pulled), jax.tree.leaves(direction), strict=True)
    )
    by_potential = directional_change(condition, q, (potential,), (direction,))
    np.testing.assert_allclose(product, np.sum(by_potential * along), rtol=1e-8)

    vectors = np.asarray(surroundings_of(landscape, q).null_vectors)
    expected = np.asarray(landscape.null_vectors(q))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-8)
    # Of the others none moves.
    more, filling = landscape.filled
    there = np.asarray(more.null_vectors(on_device(filling.places(q))))
    others = slice(filling.count, filling.atoms)
    np.testing.assert_array_equal(there[:, others], 0.0)
    assert more.constrained_rows(filling.places(q))[others].all()


def test_edges_in_larger_arrays_are_the_same_pairs():
    case = cases.case("sw-binary", "triclinic")
    system, _, edges = all_of(case)
    filling = Filling(system.atom_count, ATOMS, by_slots=False)
    more = filling.edges(edges)
    assert more is filling.edges(edges)
    assert more.edge_count == edges.edge_count
    assert int(more.present) == system.atom_count

    def pairs(edges, count):
        """Atom, neighbour, image of each edge, by the place of the edge."""
        neighbors = np.asarray(edges.neighbors)
        _, slots, size = neighbors.shape
        block, slot, column = np.nonzero(np.asarray(edges.mask))
        ends = neighbors[block, slot, column]
        owners = np.concatenate([np.arange(edges.atom_count), edges.ghost_owners])
        images = np.concatenate([np.zeros((edges.atom_count, 3)), edges.ghost_images])
        atoms = block * size + column
        assert (atoms < count).all()
        places = (block * slots + slot) * size + column
        return {
            place: (atom, int(owners[end]), *images[end])
            for place, atom, end in zip(places, atoms, ends, strict=True)
        }

    here, there = pairs(edges, system.atom_count), pairs(more, system.atom_count)
    assert sorted(here.values()) == sorted(there.values())
    reverse = np.asarray(more.reverse).ravel()
    for place, (atom, neighbor, *image) in there.items():
        assert there[reverse[place]] == (neighbor, atom, *(-x for x in image))
    rest = np.setdiff1d(np.arange(reverse.size), list(there))
    np.testing.assert_array_equal(reverse[rest], rest)


def test_what_was_filled_up_once_is_the_same_to_compiled_code():
    system, potential, edges = all_of(cases.case("sw", "slab"))
    landscape = Landscape.of(system, potential, edges)
    before = jax.tree.structure((landscape, Condition(landscape)))
    more, filling = landscape.filled
    assert landscape.filled.landscape is more
    assert more.edge_list is filling.edges(edges)
    assert jax.tree.structure((landscape, Condition(landscape))) == before
    assert jax.tree.structure(filling.landscape(landscape)) == jax.tree.structure(more)


def test_sizes_are_few_and_at_most_an_eighth_larger():
    sizes = [filled_size(count) for count in range(1, 2001)]
    assert sizes == sorted(sizes)
    assert all(size >= count for count, size in enumerate(sizes, 1))
    assert all(size <= max(1.125 * count, count + 7) for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 48


def relaxed(atoms, potential, cell=None, symmetric=False):
    system = mdsens.System.from_ase(atoms)
    return mdsens.relax(system, potential, fmax=1e-8, cell=cell, symmetry=symmetric)


ARGON = potentials.LennardJones(0.0104, 3.405, cutoff=6.0, onset=5.5)
SILICON = potentials.StillingerWeber(2.1683, 2.0951, **cases.SILICON)


def crystals():
    argon = ase.build.bulk("Ar", "fcc", a=5.26, cubic=True) * 3
    vacancy = argon.copy()
    del vacancy[0]
    silicon = ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * 2
    defect = silicon.copy()
    del defect[5]
    unit = ase.build.bulk("Si", "diamond", a=5.43, cubic=True)
    return {
        "argon": (ARGON, argon, vacancy, None),
        "silicon": (SILICON, silicon, defect, None),
        "silicon unit cell": (SILICON, defect, unit, "full"),
    }


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("name", ["argon", "silicon", "silicon unit cell"])
def test_another_structure_of_the_size_compiles_nothing(name, mode):
    potential, first, second, cell = crystals()[name]
    asked = ["energy", "pressure", "volume", "lattice_constants", "distance(0,1)"]
    wrt = ["epsilon", "sigma"]
    # A cell of eight atoms has the size of one with sixty-three where they are of one task.
    with of_one_size([len(first), len(second)]):
        for atoms in (first, second):
            before = len(compiled)
            equilibrium = relaxed(atoms, potential, cell)
            found = mdsens.sensitivity(equilibrium, asked, wrt=wrt, mode=mode)
            assert equilibrium.certificate.converged
    assert compiled[before:] == []
    # The energy follows epsilon, to which it is proportional.
    slope = float(found["energy"]["epsilon"])
    reference = float(equilibrium.energy) / potential.parameters["epsilon"]
    np.testing.assert_allclose(slope, reference, rtol=1e-9)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_what_is_observed_of_filled_structures_follows_relaxations(mode):
    _, _, atoms, _ = crystals()["argon"]
    atoms.rattle(0.05, seed=1)
    last = len(atoms) - 1
    asked = [
        "energy", "energy_per_atom", "pressure", "stress", "volume", "area",
        "cell_angles", "lattice_constants",
        f"distance(0,{last})", "distance(0,-1)", "angle(0,1,2)",
        Observable("spread", "length", lambda equilibrium: jnp.std(equilibrium.positions)),
    ]  # fmt: skip
    start = relaxed(atoms, ARGON)
    found = {}
    for one in asked:
        # Those that are filled up, and those that are not: each by itself.
        result = mdsens.sensitivity(start, [one], wrt=["sigma"], mode=mode)
        (name,) = result
        found[name] = np.asarray(result[name]["sigma"])

    def moved(sigma):
        potential = potentials.LennardJones(0.0104, sigma, cutoff=6.0, onset=5.5)
        again = mdsens.relax(start.system, potential, fmax=1e-10)
        positions, count = np.asarray(again.positions), last + 1
        u, v = positions[0] - positions[1], positions[2] - positions[1]
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        length = np.linalg.norm(again.system.to_ase().get_distance(0, last, mic=True))
        energy, _, virial = energy_forces_virial(again.system, potential, again.edge_list)
        return {
            "energy": energy, "energy_per_atom": energy / count,
            "pressure": -np.trace(virial) / 3.0 / again.volume, "volume": again.volume,
            "stress": np.asarray(virial)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / again.volume,
            "cell_angles": np.full(3, 90.0),
            "area": again.cell[0, 0] ** 2, "lattice_constants": np.diag(again.cell),
            f"distance(0,{last})": length, "distance(0,-1)": length,
            "angle(0,1,2)": np.degrees(np.arccos(cosine)), "spread": np.std(positions),
        }  # fmt: skip

    step = 1e-4
    above, below = moved(3.405 + step), moved(3.405 - step)
    for name, slope in found.items():
        expected = (np.asarray(above[name]) - np.asarray(below[name])) / (2.0 * step)
        scale = max(np.abs(expected).max(), np.abs(np.asarray(above[name])).max() * 1e-2)
        np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_an_atom_that_there_is_only_room_for_is_none(mode):
    equilibrium = relaxed(ase.build.bulk("Ar", "fcc", a=5.26, cubic=True), ARGON)
    assert equilibrium.landscape.filled.filling.atoms > 5
    with pytest.raises(mdsens.InputError, match="no atom 5; allowed are 0 to 3"):
        mdsens.sensitivity(equilibrium, ["distance(0,5)"], mode=mode)


def test_what_is_traced_or_of_another_kind_or_constrained_stays_as_it_is():
    case = cases.case("lj-smooth", "small")
    system, potential, edges = all_of(case)
    assert filling_of(system, potential, edges) is not None

    def inside(positions):
        assert filling_of(system.with_positions(positions), potential, edges) is None
        return positions

    jax.jit(inside)(system.positions)
    landscape = Landscape.of(system, potential, edges)

    def known(x):
        # Numbers are no tracers, but all that is made of them here is.
        assert filling_of(system, potential, edges) is None
        assert landscape.filled is None
        return x * mechanics_at(system, potential, edges)[0]

    jax.eval_shape(known, 1.0)
    assert landscape.filled is not None
    bound = potential + potentials.Trap([0.0, 0.0, 0.0], 0.1)
    assert filling_of(system, bound, edges) is None
    filling = filling_of(system, potential, edges)
    assert filling_of(filling.system(system), potential, filling.edges(edges)) is None
