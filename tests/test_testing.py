"""The checks of `mdsens.testing`: every potential here passes, and one that is broken does not."""

from typing import ClassVar

import ase.build
import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdsens
from mdsens.errors import InputError, MdsensError
from mdsens.potentials import LennardJones, Parameter, Potential, parameter
from mdsens.testing import check_potential

pytestmark = pytest.mark.xdist_group("testing")
ARGON = LennardJones(epsilon=0.0104, sigma=3.405, cutoff=7.25)
#: How many derivatives do not jump where a pair begins to interact, of those that are not C2.
SMOOTHNESS = {
    "lj-plain": -1, "lj-shifted": 0, "lj-force-shifted": 1, "morse-binary": 1,
    "wca": 1, "wca-binary": 1, "harmonic": 1, "harmonic-table": 1,
}  # fmt: skip


def trimer():
    """Three atoms of two kinds, no two distances alike."""
    positions = [[0.0, 0.1, 0.0], [1.1, 0.0, 0.2], [0.4, 1.3, -0.1]]
    return mdsens.System(positions, None, ("A", "B"), [0, 1, 0], units="reduced")


#: Of which there is one with tables for two species among those that are tried, with the same law.
OF_ONE_SPECIES = ("lj-smooth", "morse", "wca", "sw", "sutton-chen")
TRIED = cases.with_others(
    [*((name, "triclinic") for name in cases.POTENTIALS if name not in OF_ONE_SPECIES),
     ("sw", "flat")],
    [(name, "triclinic") for name in OF_ONE_SPECIES],
)  # fmt: skip


@pytest.mark.slow
@cases.every(TRIED)
def test_every_potential_passes_and_is_as_smooth_as_it_says(case):
    order = SMOOTHNESS.get(case.name.removesuffix("-triclinic"), 2)
    report = check_potential(case.potential, case.system, None)
    assert report.passed, report
    assert report.smoothness == order


@pytest.mark.slow
def test_a_report_says_what_was_checked_and_how_well():
    report = check_potential(ARGON, ase.build.bulk("Ar", "fcc", 5.3))
    assert report.passed
    report.require()
    lines = repr(report).splitlines()
    assert lines[0] == "Checks of LennardJones"
    assert "C2" in lines[2]
    assert max(map(len, lines)) < 80
    # As exact as the definition of each check lets it be, and no more: not one is trivially so.
    assert 0.0 < report["forces"].error < report["forces"].tolerance == 7e-9
    for name, unit in (
        ("forces", "eV/Ang"),
        ("stress", "eV/Ang^3"),
        ("Hessian matrix", "eV/Ang^2"),
    ):
        assert report[name].unit == unit
        assert f" {unit} " in next(line for line in lines if line.strip().startswith(name))
    assert "<td>forces</td>" in report._repr_html_()


class Pairs(Potential):
    """Half a sum over edges of epsilon (1 - r/range)^3, which subclasses break."""

    epsilon: Parameter = parameter("energy", default=1.0)
    reach: float = eqx.field(static=True, default=2.0)
    species: ClassVar[tuple[str, ...] | None] = None

    @property
    def interaction_range(self):
        return self.reach

    def bonds(self, edges):
        overlap = jnp.where(edges.distances < self.reach, 1.0 - edges.distances / self.reach, 0.0)
        return self.epsilon * overlap**3

    def site_energies(self, edges):
        return 0.5 * jnp.sum(jnp.where(edges.mask, self.bonds(edges), 0.0), axis=0)


class ForcesWithoutAPart(Pairs):
    def bonds(self, edges):
        distances = jax.lax.stop_gradient(edges.distances)
        return super().bonds(edges) * (1.0 + 0.01 * distances)


class HessianWithoutAPart(Pairs):
    def site_energies_and_gradients(self, edges):
        energies, gradients = super().site_energies_and_gradients(edges)
        return energies, tuple(
            jnp.where(edges.distances < 1.3, jax.lax.stop_gradient(g), g) for g in gradients
        )


class DeafParameter(Pairs):
    def bonds(self, edges):
        return super().bonds(edges) / self.epsilon * jax.lax.stop_gradient(self.epsilon)


class Truncated(Pairs):
    def bonds(self, edges):
        return super().bonds(edges) + jnp.where(edges.distances < self.reach, 0.01, 0.0)


class Longer(Pairs):
    """Says that it reaches less far than it does."""

    @property
    def interaction_range(self):
        return 0.8 * self.reach


class Elsewhere(Pairs):
    """Atoms on one side of a plane attract less."""

    def species_index(self, system):
        return (system.positions[:, 0] > 0.2).astype(jnp.int32)

    def bonds(self, edges):
        both = edges.species[None] + edges.neighbor_species
        return super().bonds(edges) * (1.0 + 0.1 * both.astype(float))


class Compass(Pairs):
    """Bonds along x are stronger."""

    def bonds(self, edges):
        return super().bonds(edges) * (1.0 + 0.1 * (edges.vectors[0] / edges.distances) ** 2)


class FirstComesFirst(Pairs):
    """What is a species of the system is one of the potential."""

    def species_index(self, system):
        return system.species

    def bonds(self, edges):
        both = edges.species[None] + edges.neighbor_species
        return super().bonds(edges) * (1.0 + 0.1 * both.astype(float))


class OneSided(Pairs):
    """Pairs whose two atoms do not agree on their energy."""

    pairwise: ClassVar[bool] = True

    def species_index(self, system):
        return jnp.asarray(["AB".index(name) for name in system.symbols])[system.species]

    def bonds(self, edges):
        return super().bonds(edges) * (1.0 + 0.1 * edges.species.astype(float))[None]


class TwoEnergies(Pairs):
    def site_energies_and_gradients(self, edges):
        energies, gradients = super().site_energies_and_gradients(edges)
        return 1.01 * energies, tuple(1.01 * g for g in gradients)


def failures(potential):
    return {check.name for check in check_potential(potential, trimer()).failed}


@pytest.mark.slow
def test_the_potential_that_is_broken_below_is_sound():
    assert failures(Pairs()) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (ForcesWithoutAPart, {"forces", "virial"}),
        (HessianWithoutAPart, {"Hessian products", "Hessian matrix"}),
        (DeafParameter, {"energy along parameters", "forces along parameters"}),
        (Truncated, {"jump of the energy"}),
        (Longer, {"beyond the range"}),
        (Elsewhere, {"translation"}),
        (Compass, {"rotation"}),
        (FirstComesFirst, {"order of species"}),
        (OneSided, {"third law", "forces"}),
        (TwoEnergies, {"energy without forces"}),
    ],
)
def test_what_is_broken_is_found_by_its_name(broken, found):
    named = failures(broken())
    assert found <= named
    # What has nothing to do with it stays green.
    assert len(named) <= 6, named


@pytest.mark.slow
def test_a_failure_is_required_in_one_line_that_names_it():
    report = check_potential(LennardJones(1.0, 1.0, 2.5, "shifted"), cases.bipyramid())
    assert report.smoothness == 0
    assert not report.passed
    with pytest.raises(MdsensError, match="fails 2 checks: jump of the force is off by") as caught:
        report.require()
    assert "\n" not in str(caught.value)
    assert "A-A 2.5" in str(caught.value)
    # No more is asked for than one asks for.
    assert check_potential(LennardJones(1.0, 1.0, 2.5, "shifted"), cases.bipyramid(), 0).passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lj", trimer()), "potential is a str: give a mdsens.Potential"),
        ((ARGON, [[0.0, 0.0, 0.0]]), "atoms is a list: give an ase.Atoms or a mdsens.System"),
        (
            (ARGON, trimer(), 3),
            "smoothness = 3: give a whole number of at least 0 and of at most 2",
        ),
        ((ARGON, ase.build.bulk("Ar") * (8, 8, 8)), "atoms are 512, and allowed are 500"),
        ((ARGON, ase.Atoms("Ar")), "no two atoms are within the range of LennardJones, 7.25"),
        ((cases.POTENTIALS["harmonic"], ase.build.bulk("Ar", "fcc", 5.3)), "no two atoms are"),
        ((cases.POTENTIALS["lj-binary"], ase.build.bulk("Ar", "fcc", 2.0)), "no parameters for"),
    ],
    ids=range(7),
)
def test_what_cannot_be_checked_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        check_potential(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_potential_that_is_not_a_number_fails():
    class Undefined(Pairs):
        def bonds(self, edges):
            return super().bonds(edges) * jnp.where(edges.distances < 1.3, np.nan, 1.0)

    report = check_potential(Undefined(), trimer())
    assert {"forces", "virial", "translation"} <= {check.name for check in report.failed}
