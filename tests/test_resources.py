"""Work shared by cores gives what one core gives, bit by bit, and raises what it raises."""

import importlib
import threading
import time

import numpy as np
import pytest
import scipy.sparse
from ase.build import bulk

import mdsens
from mdsens import resources
from mdsens.linalg import sparse_plus_low_rank
from mdsens.linalg.multigrid import Multigrid, strong_couplings
from mdsens.mechanics import hessian_in_parts
from mdsens.particles import find_edges
from mdsens.resources import available_memory, on_all_cores

sparse_hessian = importlib.import_module("mdsens.mechanics.sparse_hessian")


@pytest.fixture
def cores(monkeypatch):
    """Sets how many cores there seem to be, everywhere."""
    resources._pool.cache_clear()

    def set_cores(count):
        for name in ("resources", "linalg.sparse_plus_low_rank", "particles.neighbor_pairs",
                     "mechanics.closed_form_hessian"):  # fmt: skip
            module = importlib.import_module(f"mdsens.{name}")
            monkeypatch.setattr(module, "available_cores", lambda: count)

    yield set_cores
    resources._pool.cache_clear()


def test_results_come_in_the_order_of_the_items_from_several_threads(cores):
    cores(3)
    seen, together = set(), threading.Barrier(3)

    def slow_square(number):
        seen.add(threading.get_ident())
        # Each thread takes its share, however late it comes.
        together.wait(300)
        time.sleep(0.01 if number % 2 else 0.03)
        return number**2

    assert on_all_cores(slow_square, range(12)) == [number**2 for number in range(12)]
    assert len(seen) == 3


def test_one_core_starts_no_thread(cores):
    cores(1)
    seen = set(on_all_cores(lambda _: threading.get_ident(), range(5)))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("failing", range(4))
def test_an_error_in_any_item_is_raised_and_ends_the_work(cores, failing):
    cores(2)

    def refuse(number):
        time.sleep(0.005)
        if number == failing:
            raise MemoryError(f"item {number}")
        return number

    with pytest.raises(MemoryError, match=f"item {failing}"):
        on_all_cores(refuse, range(4))
    assert on_all_cores(abs, [-1, -2, -3]) == [1, 2, 3]


def test_there_is_memory_and_no_more_than_the_machine_has():
    page = 4096
    assert page < available_memory() < 2**50


@pytest.mark.parametrize("blocks", [(1, 1), (3, 3), (3, 6)], ids=str)
@pytest.mark.parametrize("slices", [2, 5])
def test_slices_of_rows_multiply_as_the_whole_matrix(cores, blocks, slices):
    cores(2)
    generator = np.random.default_rng(0)
    dense = generator.normal(size=(60, 90)) * (generator.random((60, 90)) < 0.1)
    dense[12:24] = 0.0
    matrix = scipy.sparse.csr_array(dense)
    if blocks != (1, 1):
        matrix = matrix.tobsr(blocks)
    cut = sparse_plus_low_rank.RowSlices(matrix, slices)
    for vectors in (generator.normal(size=90), generator.normal(size=(90, 4))):
        np.testing.assert_array_equal(cut @ vectors, matrix @ vectors)


def crystal(element="Ar", structure="fcc", constant=5.26, repeats=14):
    """More than one block of atoms, so that there is something to share."""
    atoms = bulk(element, structure, a=constant, cubic=True) * ((repeats,) * 3)
    atoms.rattle(0.05, seed=3)
    return mdsens.System.from_ase(atoms)


@pytest.mark.parametrize("kind", ["pairs", "embedded atoms", "sites"])
def test_edges_and_hessian_are_the_same_on_one_core_and_on_two(cores, kind):
    system = crystal()
    potential = mdsens.potentials.LennardJones(0.0104, 3.405, 5.5)
    if kind == "embedded atoms":
        potential = mdsens.potentials.SuttonChen(0.0104, 5.26, 30.0, 9.0, 6.0, 5.5)
    if kind == "sites":
        system = crystal("Si", "diamond", 5.431, repeats=6)
        potential = mdsens.potentials.StillingerWeber(
            2.17, 2.0951, 1.8, 21.0, 1.2, -1.0 / 3.0, 7.05, 0.602, 4.0, 0.0
        )
    found = []
    for count in (1, 2):
        cores(count)
        edges = find_edges(
            np.asarray(system.positions), np.asarray(system.cell), system.pbc, 5.5, skin=0.3
        )
        matrix = hessian_in_parts(system, potential, edges)
        blocks = getattr(matrix, "sparse", matrix)
        found.append((np.asarray(edges.neighbors), np.asarray(edges.reverse), blocks))
    for one, two in zip(found[0][:2], found[1][:2], strict=True):
        np.testing.assert_array_equal(one, two)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found[0][2], name), getattr(found[1][2], name))


def test_a_multigrid_cycle_is_the_same_on_one_core_and_on_two(cores, monkeypatch):
    monkeypatch.setattr(sparse_plus_low_rank, "SHARED_BYTES", 0)
    system = crystal()
    potential = mdsens.potentials.LennardJones(0.0104, 3.405, 8.5)
    edges = find_edges(np.asarray(system.positions), np.asarray(system.cell), system.pbc, 8.5)
    motions = np.tile(np.eye(3), (system.atom_count, 1))
    vectors = np.random.default_rng(1).normal(size=(len(motions), 3))
    cycles = []
    for count in (1, 2):
        cores(count)
        multigrid = Multigrid(strong_couplings(hessian_in_parts(system, potential, edges)), motions)
        cycles.append((multigrid(vectors), multigrid(vectors[:, 0])))
    for one, two in zip(*cycles, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-14 * np.abs(one).max())


def test_a_variable_takes_fewer_cores_than_there_are_and_no_more(monkeypatch):
    there = resources.available_cores()
    monkeypatch.setenv("MDSENS_CORES", "1")
    assert resources.available_cores() == 1
    monkeypatch.setenv("MDSENS_CORES", str(there + 5))
    assert resources.available_cores() == there


@pytest.mark.parametrize("wrong", ["0", "two", "-1", "1.5"])
def test_a_number_of_cores_that_is_none_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("MDSENS_CORES", wrong)
    with pytest.raises(mdsens.errors.InputError, match=f"MDSENS_CORES = '{wrong}': give a whole"):
        resources.available_cores()


def test_libraries_start_no_threads_where_work_is_shared_and_do_again_after():
    from threadpoolctl import threadpool_info

    def threads():
        return [entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"]

    before = threads()
    with resources.products_on_one_core():
        assert set(threads()) == {1}
    assert threads() == before
    # Two relaxations in threads, of which the first ends first.
    first, second = resources.products_on_one_core(), resources.products_on_one_core()
    for one in (first, second):
        one.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before


def test_entries_are_summed_at_their_places_by_all_cores_as_by_one(cores, monkeypatch):
    monkeypatch.setattr(sparse_plus_low_rank, "SHARED_BYTES", 0)
    generator = np.random.default_rng(5)
    rows, columns = generator.integers(0, 9, (2, 300))
    entries = generator.normal(size=(300, 2, 2))
    dense = np.zeros((9, 2, 9, 2))
    for entry, row, column in zip(entries, rows, columns, strict=True):
        dense[row, :, column] += entry
    for count in (1, 2):
        cores(count)
        found = sparse_hessian._summed(entries, rows, columns, 9)
        assert found.has_sorted_indices
        np.testing.assert_array_equal(found.toarray(), dense.reshape(18, 18))


def test_a_relaxation_is_the_same_on_one_core_and_on_two(monkeypatch):
    monkeypatch.setattr(sparse_plus_low_rank, "SHARED_BYTES", 0)
    system = crystal(repeats=6)
    potential = mdsens.potentials.LennardJones(0.0104, 3.405, 5.5, truncation="force-shifted")
    found = []
    for count in ("1", "2"):
        monkeypatch.setenv("MDSENS_CORES", count)
        found.append(mdsens.relax(system, potential, fmax=1e-6))
    one, two = found
    assert one.history.methods[-1][0] == "Newton"
    np.testing.assert_array_equal(one.positions, two.positions)
    np.testing.assert_array_equal(one.history.enthalpies, two.history.enthalpies)
