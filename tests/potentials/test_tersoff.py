"""Tersoff's potential against plain sums, and its derivatives against re-relaxation."""

import itertools

import ase
import ase.build
import cases
import numpy as np
import pytest
from ase.calculators.lammps import convert

import mdsens
from mdsens import System
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial, compiled_site_energies
from mdsens.particles import find_edges
from mdsens.potentials import StillingerWeberTriplets, Tersoff, from_file
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("tersoff")

NAMES = ("Si", "C")
#: Numbers of silicon as Tersoff gave them in 1988, with a short range of the switch.
SILICON = {
    "m": 3, "gamma": 1.0, "lambda3": 1.3258, "c": 4.8381, "d": 2.0417, "costheta0": 0.1,
    "n": 22.956, "beta": 0.33675, "lambda2": 1.3258, "B": 95.373, "R": 3.0, "D": 0.2,
    "lambda1": 3.2394, "A": 3264.7,
}  # fmt: skip


def mixture():
    """Two species whose every entry differs."""
    generator = np.random.default_rng(3)

    def table(value, dimensions, spread=0.1):
        return value * (1.0 + spread * generator.uniform(-1, 1, (2,) * dimensions))

    return Tersoff(
        m=1, gamma=table(0.9, 3), lambda3=table(0.4, 3), c=table(4.8, 3), d=table(2.0, 3),
        costheta0=table(-0.4, 3), n=table(0.78, 2), beta=table(0.3, 2), lambda2=table(1.3, 2),
        B=table(95.0, 2), R=table(3.0, 3, 0.03), D=table(0.3, 3), lambda1=table(3.2, 2),
        A=table(3200.0, 2), species=NAMES,
    )  # fmt: skip


def switch(r, R, D):
    if r < R - D:
        return 1.0
    return 0.0 if r > R + D else 0.5 - 0.5 * np.sin(0.5 * np.pi * (r - R) / D)


def site_energies(potential, positions, kinds):
    """The formula of the docstring, in loops over atoms."""

    def number(name, *index):
        value = np.asarray(getattr(potential, name))
        return float(value[index[: value.ndim]])

    found = np.zeros(len(positions))
    for i, j in itertools.permutations(range(len(positions)), 2):
        pair = (kinds[i], kinds[j], kinds[j])
        to_j = positions[j] - positions[i]
        r = np.linalg.norm(to_j)
        zeta = 0.0
        for k in range(len(positions)):
            if k in (i, j):
                continue
            triplet = (kinds[i], kinds[j], kinds[k])
            to_k = positions[k] - positions[i]
            s = np.linalg.norm(to_k)
            c, d = number("c", *triplet), number("d", *triplet)
            turned = number("costheta0", *triplet) - to_j @ to_k / (r * s)
            angular = number("gamma", *triplet) * (1 + c**2 / d**2 - c**2 / (d**2 + turned**2))
            decay = np.exp((number("lambda3", *triplet) * (r - s)) ** potential.m)
            zeta += switch(s, number("R", *triplet), number("D", *triplet)) * angular * decay
        n = number("n", *pair)
        order = (1 + (number("beta", *pair) * zeta) ** n) ** (-1 / (2 * n))
        repulsion = number("A", *pair) * np.exp(-number("lambda1", *pair) * r)
        attraction = number("B", *pair) * np.exp(-number("lambda2", *pair) * r)
        bond = switch(r, number("R", *pair), number("D", *pair))
        found[i] += 0.5 * bond * (repulsion - order * attraction)
    return found


def in_a_box(symbols, positions):
    return System.from_ase(ase.Atoms(symbols, positions))


def edges_of(system, potential):
    return find_edges(
        np.asarray(system.positions), np.asarray(system.cell), system.pbc,
        float(potential.interaction_range),
    )  # fmt: skip


def test_a_dimer_has_the_energy_and_force_of_a_morse_like_pair():
    r = 2.3
    potential = Tersoff(**SILICON)
    system = in_a_box("Si2", [[0, 0, 0], [r, 0, 0]])
    energy, forces, _ = compiled_energy_forces_virial(
        system, potential, edges_of(system, potential)
    )
    repulsion, attraction = (
        SILICON[strength] * np.exp(-SILICON[decay] * r)
        for strength, decay in (("A", "lambda1"), ("B", "lambda2"))
    )
    assert float(energy) == pytest.approx(repulsion - attraction, rel=1e-13)
    slope = -SILICON["lambda1"] * repulsion + SILICON["lambda2"] * attraction
    np.testing.assert_allclose(forces, [[slope, 0, 0], [-slope, 0, 0]], rtol=1e-12, atol=1e-12)


def test_energies_of_atoms_are_the_sums_over_bonds_and_triplets():
    potential = mixture()
    kinds = [0, 1, 0, 1, 1]
    positions = np.array(
        [[0, 0, 0], [2.2, 0.1, 0], [0.3, 2.4, 0.2], [-0.7, -0.5, 2.1], [1.6, 1.9, 1.5]]
    )
    system = in_a_box([NAMES[kind] for kind in kinds], positions)
    expected = site_energies(potential, positions, kinds)
    found = compiled_site_energies(system, potential, edges_of(system, potential))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
def test_derivatives_agree_with_finite_differences_for_two_species():
    crystal = ase.build.bulk("SiC", "zincblende", 4.7)
    check_potential(mixture(), crystal, smoothness=None).require()


@pytest.mark.slow
@cases.thorough("the checks above and the study of Tersoff's silicon, which is verified")
def test_sensitivities_are_those_of_relaxing_again():
    potential = mixture()
    system = System.from_ase(ase.build.bulk("SiC", "zincblende", 4.6))
    options = {"cell": "isotropic", "fmax": 1e-11}
    equilibrium = mdsens.relax(system, potential, **options)
    names = ["A[Si-C]", "gamma[C-Si-Si]"]
    found = mdsens.sensitivity(equilibrium, "volume", wrt=names, error_estimate=False)
    for name in names:
        value = potential.parameters[name]

        def volume(step, name=name, value=value):
            changed = potential.with_parameters({name: value * (1.0 + step)})
            return float(mdsens.relax(system, changed, **options).volume)

        slopes = [(volume(h) - volume(-h)) / (2 * h * value) for h in (1e-3, 5e-4)]
        expected = (4 * slopes[1] - slopes[0]) / 3
        assert float(found["volume"][name]) == pytest.approx(expected, rel=1e-6)


def test_each_entry_of_a_table_is_a_parameter_of_its_own():
    potential = mixture()
    assert "c[Si-C-Si]" in potential.parameters
    assert "A[C-Si]" in potential.parameters
    changed = potential.with_parameters({"A[C-Si]": 1.0})
    assert changed.parameters["A[C-Si]"] == 1.0
    assert changed.parameters["A[Si-C]"] == potential.parameters["A[Si-C]"]


def entry(elements="Si Si Si", count=14):
    return " ".join([elements, "3", *["0.5"] * (count - 1)])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (entry(count=13), ("line 1", "16 words", "14 numbers")),
        (f"# comment\n{entry(count=15)}\n", ("line 2", "18 words")),
        (entry().replace("0.5 0.5", "0.5 x", 1), ("line 1", "'x'", "no number")),
        (f"{entry()}\n\n{entry()}", ("line 3", "Si Si Si", "line 1")),
        (f"{entry()}\n{entry('Si C C')}", ("Si Si C", "line 2")),
        ("# UNITS: lj\n" + entry(), ("line 1", "'lj'", "real", "epsilon and sigma")),
        ("# UNITS: rael\n" + entry(), ("line 1", "'rael'", "did you mean 'real'")),
        ("# nothing\n", ("line 1", "before its first entry")),
        (entry(count=14).replace("Si Si", "Si 4", 1), ("line 1", "no element")),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_line(tmp_path, content, words):
    path = tmp_path / "broken.tersoff"
    path.write_text(content)
    elements = ["Si", "C"] if "C C" in content else None
    if elements:
        path.write_text(content + f"\n{entry('C Si Si')}")
        words = ("Si Si C", "no entry")
    with pytest.raises(InputError) as raised:
        from_file(path, elements)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_what_a_file_says_of_itself_is_kept_and_shown(tmp_path):
    potential = Tersoff(**SILICON, species=("Si",))
    potential.to_file(tmp_path / "plain.tersoff")
    text = (tmp_path / "plain.tersoff").read_text()
    dated = text.replace(
        "# UNITS: metal", "# DATE: 2007-10-25 UNITS: metal CITATION: Tersoff, 1988"
    )
    (tmp_path / "dated.tersoff").write_text(dated)
    read = from_file(tmp_path / "dated.tersoff")
    assert read.parameters == potential.parameters
    assert dict(read.header) == {
        "DATE": "2007-10-25", "UNITS": "metal", "CITATION": "Tersoff, 1988",
    }  # fmt: skip
    assert "Tersoff, 1988" in str(read)


@pytest.mark.parametrize("units", ["real", "electron", "nano"])
def test_a_file_in_other_units_is_converted(tmp_path, units):
    potential = Tersoff(**SILICON, species=("Si",))
    energy, length = (convert(1.0, name, "ASE", units) for name in ("energy", "distance"))
    sizes = {"A": energy, "B": energy, "R": length, "D": length}
    sizes |= dict.fromkeys(("lambda1", "lambda2", "lambda3"), 1.0 / length)
    numbers = [
        potential.m if column == "m" else potential.parameters[column] * sizes.get(column, 1.0)
        for column in Tersoff.layouts[".tersoff"]
    ]
    text = f"# DATE: 2007-10-25 UNITS: {units}\nSi Si Si {' '.join(map(repr, numbers))}\n"
    (tmp_path / "other.tersoff").write_text(text)
    read = from_file(tmp_path / "other.tersoff")
    assert read.parameters == pytest.approx(potential.parameters, rel=1e-6)
    assert dict(read.header) == {"DATE": "2007-10-25", "UNITS": "metal"}


def test_several_species_of_stillinger_weber_have_the_parameters_of_each_triplet(tmp_path):
    pairs = mdsens.potentials.StillingerWeber(
        [[2.1, 2.05], [2.05, 1.9]], 2.1, 1.8, [[21.0, 24.0], [24.0, 31.0]], 1.2, -0.33, 7.0, 0.6,
        4.0, 0.0, ("Si", "Ge"),
    )  # fmt: skip
    pairs.to_file(tmp_path / "pairs.sw")
    triplets = mdsens.potentials.StillingerWeber.from_file(tmp_path / "pairs.sw")
    assert "lambda_[Si-Ge-Ge]" in triplets.parameter_names
    # Where they follow from those of pairs, fewer numbers are the same.
    again = mdsens.potentials.StillingerWeber(**triplets.separated())
    assert again.parameters == pytest.approx(pairs.parameters)
    changed = triplets.with_parameters({"lambda_[Si-Ge-Si]": 20.0})
    changed.to_file(tmp_path / "triplets.sw")
    read = mdsens.potentials.StillingerWeber.from_file(tmp_path / "triplets.sw")
    assert isinstance(read, StillingerWeberTriplets)
    atoms = ase.Atoms("SiGeSiGe", [[0, 0, 0], [2.3, 0, 0], [0, 2.4, 0.3], [0.5, 0.7, 2.2]])
    system = System.from_ase(atoms)
    edges = edges_of(system, pairs)
    expected = float(compiled_site_energies(system, pairs, edges).sum())
    assert float(compiled_site_energies(system, triplets, edges).sum()) == pytest.approx(
        expected, rel=1e-13
    )
