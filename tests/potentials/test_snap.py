"""SNAP against Wigner's matrices, differences and re-relaxation; its files and names."""

import itertools
import math

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens import System
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.mechanics.hessian import hessian
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import Edges, find_edges
from mdsens.potentials import SNAP, PotentialSum, from_file
from mdsens.potentials.bispectrum import quadrature, triples_of_degrees
from mdsens.potentials.harmonics import harmonics, means_of_three

pytestmark = pytest.mark.xdist_group("snap")

#: What all potentials here are made with: two elements of different size.
OF_TWO = {"radii": (0.5, 0.45), "weights": (1.0, 0.8), "species": ("W", "Be")}
TWOJMAX = 3


def made(count, generator=5, **options):
    """A potential of two elements whose coefficients are drawn at random."""
    options = OF_TWO | {"rcutfac": 4.1, "twojmax": TWOJMAX} | options
    size = len(options["species"])
    beta = np.random.default_rng(generator).normal(0.0, 0.02, (size, count))
    return SNAP(beta, **options)


def neighbourhood(count=6):
    """An atom with neighbours of both species in all directions, for a potential of `made`."""
    generator = np.random.default_rng(2)
    vectors = generator.normal(size=(count, 3))
    vectors *= (generator.uniform(1.8, 3.6, count) / np.linalg.norm(vectors, axis=1))[:, None]
    kinds = np.resize([0, 1], count)
    edges = Edges(
        tuple(jnp.asarray(vectors[:, axis, None]) for axis in range(3)),
        jnp.ones((count, 1), bool), jnp.zeros(1, jnp.int32), jnp.asarray(kinds[:, None]),
    )  # fmt: skip
    return edges, vectors, kinds


def wigner(j, a, b):
    """The representation of degree j of the matrix (a, b), (-conj(b), conj(a)), as polynomials."""
    matrix = np.zeros((j + 1, j + 1), complex)
    for row, column in np.ndindex(matrix.shape):
        # Coefficient of x^(j - row) y^row in (a x + b y)^(j - column) (-b* x + a* y)^column.
        total = 0.0
        for k in range(max(0, row - column), min(row, j - column) + 1):
            rest = row - k
            total += (
                math.comb(j - column, k) * a ** (j - column - k) * b**k
                * math.comb(column, rest) * (-np.conj(b)) ** (column - rest)
                * np.conj(a) ** rest
            )  # fmt: skip
        norm = math.factorial(j - row) * math.factorial(row)
        norm /= math.factorial(j - column) * math.factorial(column)
        matrix[row, column] = total * math.sqrt(norm)
    return matrix


def clebsch_gordan(j1, m1, j2, m2, j):
    """<j1/2 m1/2 j2/2 m2/2 | j/2 (m1 + m2)/2>, by Racah's sum."""
    m, f = m1 + m2, math.factorial
    if abs(m) > j:
        return 0.0
    root = (j + 1) * f((j + j1 - j2) // 2) * f((j - j1 + j2) // 2) * f((j1 + j2 - j) // 2)
    root /= f((j1 + j2 + j) // 2 + 1)
    for degree, order in ((j1, m1), (j2, m2), (j, m)):
        root *= f((degree + order) // 2) * f((degree - order) // 2)
    total = 0.0
    for k in range(j1 + j2 + j + 1):
        parts = (
            k, (j1 + j2 - j) // 2 - k, (j1 - m1) // 2 - k, (j2 + m2) // 2 - k,
            (j - j2 + m1) // 2 + k, (j - j1 - m2) // 2 + k,
        )  # fmt: skip
        if min(parts) >= 0:
            total += (-1) ** k / math.prod(map(f, parts))
    return math.sqrt(root) * total


def bispectrum_of_matrices(potential, vectors, kinds):
    """Components as sums over Clebsch-Gordan coefficients of products of Wigner's matrices."""
    U = [np.eye(j + 1, dtype=complex) for j in range(TWOJMAX + 1)]
    for vector, kind in zip(vectors, kinds, strict=True):
        r = np.linalg.norm(vector)
        cutoff = potential.rcutfac * (potential.radii[0] + potential.radii[kind])
        if r >= cutoff:
            continue
        theta, (x, y, z) = potential.rfac0 * np.pi * r / cutoff, vector / r
        a = np.cos(theta) - 1j * np.sin(theta) * z
        b = np.sin(theta) * (y - 1j * x)
        strength = potential.weights[kind] * 0.5 * (np.cos(np.pi * r / cutoff) + 1.0)
        for j in range(TWOJMAX + 1):
            U[j] = U[j] + strength * wigner(j, a, b)
    found = []
    for j1, j2, j in triples_of_degrees(TWOJMAX):
        Z = np.zeros((j + 1, j + 1), complex)
        places = itertools.product(range(j1 + 1), range(j1 + 1), range(j2 + 1), range(j2 + 1))
        for row1, column1, row2, column2 in places:
            row, column = (
                row1 + row2 - (j1 + j2 - j) // 2, column1 + column2 - (j1 + j2 - j) // 2
            )  # fmt: skip
            if not (0 <= row <= j and 0 <= column <= j):
                continue
            left = clebsch_gordan(j1, j1 - 2 * row1, j2, j2 - 2 * row2, j)
            right = clebsch_gordan(j1, j1 - 2 * column1, j2, j2 - 2 * column2, j)
            Z[row, column] += left * right * U[j1][row1, column1] * U[j2][row2, column2]
        found.append(np.sum(np.conj(U[j]) * Z).real)
    return np.array(found)


def test_the_bispectrum_is_that_of_wigners_matrices():
    potential = made(9, bzeroflag=False)
    edges, vectors, kinds = neighbourhood()
    expected = bispectrum_of_matrices(potential, vectors, kinds)
    found = np.asarray(potential.bispectrum(edges))[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_energy_has_the_bispectrum_and_its_gradients_for_derivatives():
    potential = made(9)
    edges, _, _ = neighbourhood()

    def total(potential, vectors):
        return jnp.sum(potential.site_energies(edges.with_vectors(vectors)))

    value, pulled = jax.value_and_grad(total, (0, 1))(potential, edges.vectors)
    by_coefficient = pulled[0].beta[np.asarray(edges.species), 1:].sum(axis=0)
    expected = np.asarray(potential.bispectrum(edges)).sum(axis=1)
    np.testing.assert_allclose(by_coefficient, expected, rtol=1e-12)
    energies, gradients = potential.site_energies_and_gradients(edges)
    assert float(jnp.sum(energies)) == pytest.approx(float(value), rel=1e-13)
    np.testing.assert_allclose(np.stack(pulled[1]), np.stack(gradients), rtol=1e-11, atol=1e-14)
    moved, step = jax.tree.map(lambda v: jnp.cos(3.0 * v), edges.vectors), 1e-5
    ends = [
        total(potential, jax.tree.map(lambda v, m, h=h: v + h * m, edges.vectors, moved))
        for h in (step, -step)
    ]
    slope = sum(float(jnp.vdot(g, m)) for g, m in zip(pulled[1], moved, strict=True))
    assert slope == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_nodes_integrate_products_of_three_characters_exactly():
    table = quadrature(6)
    characters = [table.interpolation[j] @ _characters(table, j) for j in range(7)]
    for j1, j2, j3 in itertools.product(range(7), repeat=3):
        if (j1 + j2 + j3) % 2 == 0:
            values = [characters[j] for j in (j1, j2, j3)]
            expected = float(abs(j1 - j2) <= j3 <= j1 + j2)
            assert table.weights @ math.prod(values) == pytest.approx(expected, abs=1e-12)


def test_means_of_three_harmonics_are_sums_over_the_nodes():
    table = quadrature(4)
    at_nodes = [
        matrix @ harmonics(j, table.points[: (j + 1) ** 2])
        for j, matrix in enumerate(table.interpolation)
    ]
    for degrees in ((1, 1, 0), (3, 2, 1), (4, 3, 3), (4, 4, 4)):
        expected = np.einsum("g,gp,gq,gr->pqr", table.weights, *(at_nodes[j] for j in degrees))
        found = means_of_three(*degrees).toarray().reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-13)


def _characters(table, degree):
    """Sin((j + 1) omega) / sin(omega) at the points of a degree."""
    omega = np.arccos(np.clip(table.points[: (degree + 1) ** 2, 0], -1.0, 1.0))
    sine = np.sin(omega)
    assert np.all(sine > 1e-6)
    return np.sin((degree + 1) * omega) / sine


CASES = {
    "linear": (9, {}),
    "quadratic": (1 + 8 + 36, {"quadraticflag": True}),
    "elements": (
        1 + 8 * 8,
        {"chemflag": True, "bnormflag": True, "switchinnerflag": True, "sinner": (2.3, 2.2),
         "dinner": (0.4, 0.3)},
    ),
}  # fmt: skip


def crystal():
    """A distorted cell of four atoms of two species."""
    atoms = ase.build.bulk("W", "fcc", 3.9, cubic=True)
    atoms.set_cell(atoms.cell[:] * [[1, 1, 1], [1, 1.03, 1], [1, 1, 0.96]], scale_atoms=True)
    atoms.rattle(0.12, seed=4)
    atoms.symbols = ["W", "Be", "W", "W"]
    return atoms


@pytest.mark.parametrize("name", CASES)
def test_forces_stress_and_hessian_are_derivatives_of_the_energy(name):
    count, options = CASES[name]
    potential, atoms = made(count, **options), crystal()
    system = System.from_ase(atoms)
    edges = find_edges(atoms.positions, atoms.cell[:], system.pbc, potential.interaction_range)
    _, forces, virial = compiled_energy_forces_virial(system, potential, edges)

    def energy(step, direction):
        positions, strain = direction
        deformation = np.eye(3) + step * strain
        moved = system.with_positions((atoms.positions + step * positions) @ deformation)
        moved = moved.with_cell(atoms.cell[:] @ deformation)
        return float(compiled_energy_forces_virial(moved, potential, edges)[0])

    generator = np.random.default_rng(1)
    direction = generator.normal(size=(4, 3)), 0.2 * generator.normal(size=(3, 3))
    h = 4e-3
    values = [energy(k * h, direction) for k in (-3, -2, -1, 1, 2, 3)]
    numbers = np.dot([-1, 9, -45, 45, -9, 1], values) / (60 * h)
    expected = -np.sum(np.asarray(forces) * direction[0])
    expected += np.sum(np.asarray(virial) * direction[1])
    assert numbers == pytest.approx(expected, rel=3e-8)
    found = sparse_hessian(system, potential, edges).toarray()
    products = np.asarray(jax.jit(lambda s, e: hessian(s, potential, e))(system, edges))
    assert np.abs(found - products).max() < 1e-11 * np.abs(products).max()


def test_each_coefficient_is_a_parameter_and_forces_are_linear_in_them():
    potential = made(9)
    assert potential.parameter_names[:2] == ("beta[W,0]", "beta[W,1]")
    assert potential.parameter_names[9] == "beta[Be,0]"
    assert potential.expand_parameter_names("beta") == list(potential.parameter_names)
    changed = potential.with_parameters({"beta[Be,3]": 0.5})
    assert changed.parameters["beta[Be,3]"] == 0.5
    assert changed.parameter_units("beta[Be,3]") == "eV"
    atoms = crystal()
    system = System.from_ase(atoms)
    edges = find_edges(atoms.positions, atoms.cell[:], system.pbc, potential.interaction_range)
    step = 0.5 - potential.parameters["beta[Be,3]"]
    first, second = (
        np.asarray(compiled_energy_forces_virial(system, one, edges)[1])
        for one in (potential, changed)
    )
    along = potential.direction("beta[Be,3]")
    of_one = compiled_energy_forces_virial(system, along, edges)[1]
    np.testing.assert_allclose(second - first, step * np.asarray(of_one), atol=1e-13)


@pytest.mark.parametrize("name", ["linear", "quadratic"])
def test_an_atom_alone_has_the_energy_of_its_own_density(name):
    """Of B counted from zero: all components of an atom alone are j + 1."""
    count, options = CASES[name]
    potential = made(count, bzeroflag=False, **options)
    system = System([[0.0, 0.0, 0.0]], symbols=("Be",))
    edges = find_edges(np.zeros((1, 3)), np.eye(3), system.pbc, potential.interaction_range)
    found = float(compiled_energy_forces_virial(system, potential, edges)[0])
    B = np.array([j + 1.0 for _, _, j in triples_of_degrees(TWOJMAX)])
    row = np.asarray(potential.beta)[1]
    expected = row[0] + row[1:9] @ B
    if name == "quadratic":
        rows, columns = np.triu_indices(8)
        products = np.where(rows == columns, 0.5, 1.0) * B[rows] * B[columns]
        expected += row[9:] @ products
    assert found == pytest.approx(expected, rel=1e-13)


def test_what_is_written_is_read_back_the_same(tmp_path):
    count, options = CASES["elements"]
    potential = made(count, **options)
    paths = tmp_path / "a.snapcoeff", tmp_path / "a.snapparam"
    potential.to_files(*paths)
    for found in (SNAP.from_files(*paths), from_file(paths[0])):
        assert found.parameters == potential.parameters
        assert (found.sinner, found.chemflag, found.rcutfac) == ((2.3, 2.2), True, 4.1)
    one = made(9)
    one.to_files(*paths)
    alone = from_file(paths[0], {"Beryllium": "Be"})
    assert (alone.species, alone.radii) == (("Beryllium",), (0.45,))
    assert alone.parameters["beta[Beryllium,4]"] == one.parameters["beta[Be,4]"]


def test_commands_say_what_is_added_up(tmp_path):
    made(9).to_files(tmp_path / "a.snapcoeff", tmp_path / "a.snapparam")
    path = tmp_path / "a.snap"
    path.write_text(
        "# a comment\nvariable inner equal 3\nvariable Z index 74\n"
        "pair_style hybrid/overlay &\nzbl ${inner} 4.0 &\nsnap\npair_coeff 1 1 zbl ${Z} ${Z}\n"
        "pair_coeff 1 2 zbl 74 4\npair_coeff 2 2 zbl 4 4\n"
        "pair_coeff * * snap a.snapcoeff a.snapparam W Be\n"
    )
    found = from_file(path)
    assert isinstance(found, PotentialSum)
    core = found.parts[1]
    assert (core.onset, core.cutoff, core.Z.tolist()) == (3.0, 4.0, [74.0, 4.0])
    assert from_file(path, ["Be"]).parts[1].Z.tolist() == [4.0]
    path.write_text(path.read_text().replace("1 2 zbl 74 4", "1 2 zbl 74 5"))
    with pytest.raises(InputError, match="pair_coeff 1 2 zbl"):
        from_file(path)


@pytest.mark.slow
def test_derivatives_of_a_vacancy_are_those_of_relaxing_again():
    """A body-centred crystal of few coefficients, held together by a Morse potential."""
    small = SNAP(
        [[0.0, -0.02, 0.01, 0.005, 0.003, -0.002, 0.004, 0.001, 0.002]], ("W",), (0.5,), (1.0,),
        4.2, 3,
    )  # fmt: skip
    potential = small + mdsens.potentials.Morse(0.9, 1.4, 2.9, 5.0)
    atoms = ase.build.bulk("W", "bcc", 3.16, cubic=True) * (2, 2, 2)
    del atoms[0]
    system = System.from_ase(atoms)
    names = [f"beta[W,{k}]" for k in (4,)]
    base = mdsens.relax(system, potential, fmax=1e-11)
    found = mdsens.sensitivity(base, wrt=names, error_estimate=False).positions
    for name in names:
        h = 1e-4
        ends = []
        for step in (-2 * h, -h, h, 2 * h):
            value = potential.parameters[name] + step
            other = potential.with_parameters({name: value})
            again = mdsens.relax(base.system, other, fmax=1e-11)
            ends.append(np.asarray(again.positions))
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
        expected -= expected.mean(axis=0)
        error = np.abs(np.asarray(found[name]) - expected).max()
        assert error < 1e-6 * np.abs(expected).max()
