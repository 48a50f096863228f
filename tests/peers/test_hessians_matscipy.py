"""Hessians of three-body potentials against the closed forms of matscipy."""

import ase.build
import numerical
import numpy as np
import pytest
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import (
    StillingerWeber,
    TersoffBrenner,
    stillinger_weber,
    tersoff_brenner,
)

import mdsens
from mdsens import System
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles import find_edges

pytestmark = pytest.mark.peer


def silicon_of_stillinger_and_weber():
    numbers = stillinger_weber.Stillinger_Weber_PRB_31_5262_Si
    same = {name: numbers[name] for name in ("epsilon", "sigma", "a", "gamma", "A", "B", "p")}
    # Its cosine has the other sign, and its q is zero.
    ours = mdsens.potentials.StillingerWeber(
        **same, lambda_=numbers["lambda1"], costheta0=-numbers["costheta0"], q=0.0
    )
    return ours, Manybody(**StillingerWeber(numbers)), ase.build.bulk("Si", "diamond", 5.5)


def silicon_carbide_of_tersoff():
    numbers = tersoff_brenner.Tersoff_PRB_39_5566_Si_C

    def of_pairs(name):
        first, mixed, last = np.asarray(numbers[name], float)
        return np.array([[first, mixed], [mixed, last]])

    def of_centres(name, dimensions):
        table = np.asarray(numbers[name], float).reshape(-1, *[1] * (dimensions - 1))
        return np.broadcast_to(table, (2,) * dimensions)

    # The switch is that of the bond to the third atom.
    begin, end = (np.broadcast_to(of_pairs(name)[:, None], (2, 2, 2)) for name in ("r1", "r2"))
    ours = mdsens.potentials.Tersoff(
        m=3, gamma=1.0, lambda3=0.0, c=of_centres("c", 3), d=of_centres("d", 3),
        costheta0=of_centres("h", 3), n=of_centres("n", 2),
        beta=of_centres("beta", 2), lambda2=of_pairs("mu"),
        B=of_pairs("B") * of_pairs("chi"), R=0.5 * (begin + end), D=0.5 * (end - begin),
        lambda1=of_pairs("lambda"), A=of_pairs("A"), species=("C", "Si"),
    )  # fmt: skip
    return ours, Manybody(**TersoffBrenner(numbers)), ase.build.bulk("SiC", "zincblende", 4.4)


@pytest.mark.filterwarnings("ignore:'where' used without 'out'")
@pytest.mark.parametrize("case", [silicon_of_stillinger_and_weber, silicon_carbide_of_tersoff])
def test_a_hessian_is_that_of_matscipy(case):
    ours, theirs, crystal = case()
    atoms = crystal * (2, 2, 2)
    atoms.rattle(0.08, seed=2)
    system = System.from_ase(atoms)
    edges = find_edges(atoms.positions, atoms.cell[:], system.pbc, float(ours.interaction_range))
    found = sparse_hessian(system, ours, edges).toarray()
    expected = theirs.get_property("hessian", atoms).toarray()
    assert numerical.relative_error(found, expected) < 1e-10
