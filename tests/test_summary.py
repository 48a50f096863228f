"""What results show of themselves in terminals and notebooks."""

import ase.build
import cases
import jax
import jax.numpy as jnp
import pytest

import mdsens
from mdsens.potentials import LennardJones, SoftSphere
from mdsens.summary import MOST_ROWS, Summary

pytestmark = pytest.mark.xdist_group("summary")
ARGON = LennardJones(epsilon=0.0104, sigma=3.4, cutoff=8.5)


@pytest.fixture(scope="module")
def relaxed():
    crystal = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", 5.3, cubic=True))
    return mdsens.relax(crystal, ARGON, cell="isotropic")


def facts(thing):
    return dict(thing._summary().facts)


def test_a_potential_shows_its_values_and_units():
    assert facts(ARGON) == {
        "epsilon": "0.0104 eV",
        "sigma": "3.4 Ang",
        "cutoff": "8.5 Ang",
        "truncation": "'smooth'",
    }
    assert repr(ARGON).startswith("LennardJones")


def test_names_are_never_taken_as_markup():
    discs = SoftSphere(diameter=[1.0, 1.4], species=("<b>", "\x1b[2J"))
    assert "<b>" not in discs._repr_html_()
    assert "&lt;b&gt;" in discs._repr_html_()
    assert "\x1b" not in repr(discs)


def test_a_potential_without_numbers_shows_its_arrays():
    seen = []
    jax.jit(lambda potential: seen.append((repr(potential), potential._repr_html_())))(ARGON)
    assert seen == [("LennardJones(cutoff=8.5, epsilon=f64[], sigma=f64[])", None)]
    many = jax.vmap(lambda sigma: LennardJones(1.0, sigma, cutoff=2.5))(jnp.ones(3))
    assert "sigma=f64[3]" in repr(many)


def test_a_system_is_a_few_lines_with_units():
    salt = ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True)
    system = mdsens.System.from_ase(salt).with_fixed([0, 3])
    assert facts(system) == {
        "species": "Na4 Cl4",
        "periodic": "xyz",
        "lattice vectors": "lengths 5.6, 5.6, 5.6 Ang",
        "volume": "175.616 Ang^3",
        "fixed": "2 atoms",
    }
    assert repr(system).splitlines()[0] == "System of 8 atoms in 3 dimensions"
    assert system._repr_html_().startswith("<div><strong>System of 8 atoms")
    flat = mdsens.System([[0.0, 0.0]], [[2.0, 0.0], [0.5, 1.5]], ("<b>",), units="reduced")
    assert facts(flat)["volume"] == "3 reduced"
    assert "<b>" not in flat._repr_html_()
    assert facts(cases.dimer()).keys() == {"species", "periodic"}


def test_a_system_without_numbers_shows_its_arrays():
    seen = []
    jax.jit(lambda system: seen.append(repr(system)))(cases.dimer())
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), cases.dimer())
    assert repr(several).split()[:2] == ["System(", "positions=f64[2,2,3],"]
    assert seen[0].split()[:2] == ["System(", "positions=f64[2,3],"]


@pytest.mark.slow
def test_an_equilibrium_is_a_few_lines_and_shows_no_number_below_its_error(relaxed):
    shown = facts(relaxed)
    assert 0.0 < abs(float(relaxed.pressure)) < 1e-8
    assert shown["pressure"] == "0 eV/Ang^3 (the cell relaxed: isotropic)"
    assert shown["energy"].endswith(" eV")
    assert shown["potential"].startswith("LennardJones: epsilon = 0.0104 eV, sigma = 3.4 Ang")
    assert len(repr(relaxed).splitlines()) < 10


def test_an_equilibrium_shows_its_certificate_once_that_is_known(relaxed):
    again = mdsens.relax(relaxed.system, ARGON, cell="isotropic")
    assert "certificate" not in facts(again)
    eigenvalue = again.certificate.lowest_eigenvalue_text
    assert facts(again)["certificate"].startswith(f"a minimum, lowest eigenvalue {eigenvalue} ")
    assert repr(again.certificate).startswith("Certificate of a minimum\n  largest force")


def test_an_equilibrium_inside_jit_shows_its_arrays():
    seen = []

    def energy(sigma):
        relaxed = mdsens.relax(cases.dimer(), LennardJones(1.0, sigma, cutoff=2.5))
        seen.append(repr(relaxed))
        return relaxed.energy

    jax.make_jaxpr(energy)(1.0)
    assert seen[0].startswith("Equilibrium(")


@pytest.mark.slow
def test_a_sensitivity_shows_its_derivatives_with_digits_that_their_errors_allow(relaxed):
    sens = mdsens.sensitivity(relaxed, ["volume", "pressure"])
    rows = {row[:2]: row[2:] for row in sens._summary().rows}
    volume = float(sens["volume"]["sigma"])
    assert float(rows["volume", "sigma"][0]) == pytest.approx(volume, rel=1e-6)
    assert rows["volume", "sigma"][2] == "Ang^3/Ang"
    # The pressure stays what it is asked to be, whatever the parameters are.
    assert rows["pressure", "sigma"][0] == "0"
    assert len(repr(sens).splitlines()) < 12
    assert "<td>volume</td>" in sens._repr_html_()


@pytest.mark.slow
def test_without_errors_no_noise_is_shown(relaxed):
    """Against the same with errors: what is zero there is zero here, and no digit is wrong."""
    asked = ["volume", "energy", "stress"]
    known = mdsens.sensitivity(relaxed, asked)
    bare = mdsens.sensitivity(relaxed, asked, error_estimate=False)
    head, rows = bare._summary().head, bare._summary().rows
    assert head == ("observable", "parameter", "derivative", "error", "unit")
    assert rows[1][2] != "0"
    for row, checked in zip(rows, known._summary().rows, strict=True):
        assert row[3] == "–"
        assert (row[2] == "0") == (checked[2] == "0"), row
        shown, unit = float(row[2]), 10.0 ** -len(row[2].partition(".")[2])
        assert abs(shown - float(checked[2])) <= unit


@pytest.mark.slow
def test_batches_are_a_few_lines():
    batch = mdsens.relax_batch([cases.dimer()] * 3, ARGON.with_parameters({"sigma": 1.0}))
    assert facts(batch)["converged"] == "3 of 3"
    sens = mdsens.sensitivity_batch(batch, "energy")
    assert facts(sens)["derivatives of"] == "positions, energy"
    for one in (batch, sens):
        assert len(repr(one).splitlines()) < 6
        assert one._repr_html_().startswith("<div><strong>Batch")


def test_of_a_long_table_the_first_rows_are_shown():
    summary = Summary("title", [], ("n",), [(str(n),) for n in range(MOST_ROWS + 5)])
    assert "... and 5 more rows" in summary.as_text()
    assert summary.as_html().count("<td>") == MOST_ROWS
