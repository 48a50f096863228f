"""verify finds right derivatives right and wrong ones wrong."""

import io
import json
from pathlib import Path

import ase
import ase.constraints
import ase.io
import numpy as np
import pytest
import rich.console

from mdsens.potentials import WCA, LennardJones, SoftSphere
from mdsens.study import differences as differences_module
from mdsens.study import load_study, terminal, verify_study
from mdsens.study import verify as module


@pytest.fixture
def packing():
    return load_study(
        "soft-spheres-2d",
        ["structure.count=16", "relaxation.method=auto", "structure.seed=1",
         'sensitivity.observables=["pressure", "mean_squared_displacement"]'],
    )  # fmt: skip


@pytest.mark.slow
def test_all_derivatives_of_a_packing_are_right(packing):
    lines = []
    found = verify_study(packing, lines.append)
    assert found.passed
    assert found.largest_error < 1e-6
    assert {(c.observable, c.parameter) for c in found.comparisons} == {
        (observable, parameter)
        for observable in ("positions", "pressure", "mean_squared_displacement")
        for parameter in ("diameter[large]", "diameter[small]", "epsilon")
    }
    assert len(lines) >= 3


def test_a_wrong_derivative_is_found(trimer, monkeypatch):
    right = module._implicit

    def wrong(implicit, observable, name, base):
        return right(implicit, observable, name, base) * (1.0 + 1e-5 * (name == "sigma"))

    monkeypatch.setattr(module, "_implicit", wrong)
    found = verify_study(load_study(trimer))
    assert not found.passed
    bad = {(c.observable, c.parameter) for c in found.comparisons if c.error > found.tolerance}
    # The energy does not depend on sigma, and a factor does not change zero.
    assert bad == {("positions", "sigma"), ("distance(0,1)", "sigma")}


@pytest.mark.slow
def test_a_cutoff_in_units_of_sigma_moves_in_differences_and_is_shown_so(trimer, command):
    settings = ["--set", "potential.cutoff=1.2 sigma", "--set", "potential.onset=1.05*sigma"]
    status, output, _ = command("verify", trimer, *settings)
    assert (status, "passed" in output, "not judged" in output) == (0, True, False)
    assert command("run", trimer, "--out", "moving", *settings)[0] == 0
    folder = Path("moving")
    assert 'cutoff = "1.2 sigma"' in (folder / "study.toml").read_text()
    assert "1.05*sigma" in (folder / "report.html").read_text()
    results = json.loads((folder / "results.json").read_text())
    # Lengths scale with sigma, and the energy knows nothing of it.
    length = results["observables"]["distance(0,1)"]["value"]
    slope = results["sensitivities"]["distance(0,1)"]["sigma"]
    assert slope == pytest.approx(length / 3.405, rel=1e-8)
    assert abs(results["sensitivities"]["energy"]["sigma"]) < 1e-9


@pytest.mark.slow
def test_a_step_that_changes_the_contacts_is_halved(packing):
    lines = []
    found = verify_study(
        load_study("soft-spheres-2d", [
            "structure.count=16", "relaxation.method=auto", "structure.seed=1", "verify.step=0.2",
            'sensitivity.observables=["pressure"]', 'sensitivity.wrt=["diameter[small]"]',
        ]),
        lines.append,
    )  # fmt: skip
    assert any("halving" in line for line in lines)
    assert all(comparison.halvings > 0 for comparison in found.comparisons)


def test_a_minimum_that_cannot_be_followed_is_not_judged(trimer, monkeypatch, command):
    def trouble(differences, step):
        return "another minimum is reached" if differences.name == "sigma" else ""

    monkeypatch.setattr(differences_module.Differences, "trouble", trouble)
    found = verify_study(load_study(trimer))
    assert found.passed
    assert {c.parameter for c in found.not_judged} == {"sigma"}
    assert all("stays in the same minimum" in c.reason for c in found.not_judged)
    monkeypatch.setattr(differences_module.Differences, "trouble", lambda *_: "it changes")
    status, output, _ = command("verify", trimer)
    # Nothing could be judged, and that is no success.
    assert status == 1
    assert "0 of 6 derivatives judged" in output
    assert "differences are not reliable here, because no step down to" in output


TOUCHING = """
units = "reduced"

[structure]
file = "discs.extxyz"
dimension = 2

[potential]
type = "soft-sphere"
diameter = 1.0

[relaxation]
method = "newton"
fmax = 1e-12

[sensitivity]
observables = ["energy", "distance(0,4)"]
"""


def touching(folder, gap):
    """A disc that three others hold, at an angle of 60 degrees from a fifth one across a gap."""
    angles = np.deg2rad([0.0, 120.0, 240.0, 60.0])
    distances = np.array([0.95, 0.95, 0.95, 1.0 + gap])
    around = distances[:, None] * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    atoms = ase.Atoms("X5", np.concatenate([[[0.0, 0.0, 0.0]], around]))
    atoms.set_constraint(ase.constraints.FixAtoms([1, 2, 3, 4]))
    folder.mkdir()
    ase.io.write(folder / "discs.extxyz", atoms)
    (folder / "study.toml").write_text(TOUCHING)
    return folder


def test_errors_are_relative_to_something_where_nothing_has_energy_or_a_derivative():
    zero = {"diameter": np.zeros(()), "epsilon": np.zeros(())}
    assert (
        module.compared_size(zero, "diameter", {"diameter": 1.0, "epsilon": 1.0}, natural=0.0) > 0.0
    )


def test_the_step_is_shorter_than_the_way_to_a_kink(tmp_path):
    found = verify_study(load_study(touching(tmp_path / "discs", 1e-4)))
    assert found.passed
    # The file's digits make the disc move by 5e-9, of which forces left over blur the sixth digit.
    assert {c.observable for c in found.not_judged} <= {"positions", "distance(0,4)"}
    steps = {c.parameter: c.step for c in found.comparisons}
    # Nothing moves, and the diameter may grow by the gap before the fifth disc is touched.
    assert 1e-5 < steps["diameter"] <= 0.501e-4
    assert steps["epsilon"] > 1e-4
    assert {c.halvings for c in found.comparisons} == {0}


@pytest.mark.slow
def test_differences_at_a_kink_are_not_reliable_which_is_no_failure(tmp_path, command):
    status, output, _ = command("verify", touching(tmp_path / "discs", 0.0))
    assert status == 0
    assert "passed" in output
    assert "4 of 6 derivatives judged" in output
    assert "not judged: positions in diameter, distance(0,4) in diameter" in output
    assert "atoms 0 and 4, 1 reduced apart, cross 1 reduced, where the energy is not smo" in output


def test_a_wrong_derivative_is_found_where_differences_are_blurred(tmp_path, monkeypatch):
    right = module._implicit

    def wrong(implicit, observable, name, base):
        return right(implicit, observable, name, base) + 10.0 * (observable == "distance(0,4)")

    monkeypatch.setattr(module, "_implicit", wrong)
    found = verify_study(load_study(touching(tmp_path / "discs", 0.0)))
    assert not found.passed
    failed = {(c.observable, c.parameter) for c in found.comparisons if c.verdict == "FAILED"}
    assert failed == {("distance(0,4)", "diameter"), ("distance(0,4)", "epsilon")}


@pytest.mark.parametrize(
    ("potential", "kinks"),
    [
        (LennardJones(1.0, 1.0, 2.5), [2.25, 2.5]),
        (LennardJones(1.0, 1.0, 2.5, onset=2.0), [2.0, 2.5]),
        (LennardJones(1.0, 1.0, 2.5, "force-shifted"), [2.5]),
        (WCA(1.0, 1.0), [2 ** (1 / 6)]),
        (SoftSphere([1.0, 0.4], species=("A", "B")), [[[1.0, 0.7], [0.7, 0.4]]]),
    ],
)
def test_potentials_know_where_their_energy_is_not_smooth(potential, kinks):
    np.testing.assert_allclose(potential.kink_distances, kinks, rtol=1e-15)


@pytest.mark.slow
def test_a_parameter_that_is_zero_takes_an_absolute_step(trimer):
    text = (trimer / "study.toml").read_text()
    head, tail = text.split("[potential]")[0], text.split("cutoff = 12.0\n")[1]
    (trimer / "study.toml").write_text(
        head
        + '[potential]\ntype = "stillinger-weber"\nepsilon = 2.0\nsigma = 3.3\na = 1.8\n'
        + "lambda_ = 21.0\ngamma = 1.2\ncosta0 = 0.5\nA = 7.0\nB = 0.6\np = 4.0\nq = 0.0\n".replace(
            "costa0", "costheta0"
        )
        + tail
    )
    found = verify_study(load_study(trimer, ['sensitivity.wrt=["q"]']))
    assert found.passed
    (step,) = {comparison.step for comparison in found.comparisons}
    assert 1e-5 <= step <= 1e-3
    assert all(np.linalg.norm(c.implicit) > 0.01 for c in found.comparisons)


@pytest.mark.slow
def test_the_relative_error_of_a_vanishing_derivative_is_no_quotient_of_zeros():
    derivatives = {"a": np.array(0.0), "b": np.array(2.0)}
    parameters = {"a": 1.0, "b": 0.0}
    assert module.relative_error(np.array(0.0), derivatives, "a", parameters, 0.0) == 0.0
    error = module.relative_error(np.array(2e-6), derivatives, "a", parameters, 0.0)
    assert error == pytest.approx(1e-3)
    assert module.relative_error(np.array(2.2), derivatives, "b", parameters, 0.0) == (
        pytest.approx(0.1)
    )


class KinksOnBothSides(differences_module.Differences):
    """Differences of O(x) = x + sign(x) max(|x| - kink, 0): its even part says nothing of them."""

    shortest = 1e-6

    def __init__(self, kink):
        self.kink, self.name, self.largest_force = kink, "sigma", 0.0

    def first_step(self):
        return 1.0

    def trouble(self, step):
        return ""

    def crossing(self, step):
        return "atoms 0 and 1 cross 3 Ang" if step > self.kink else ""

    def of(self, observable, step, error):
        def value(x):
            return np.float64(x + np.sign(x) * max(abs(x) - self.kink, 0.0))

        return differences_module.extrapolated(value, step, error)


@pytest.mark.parametrize(("derivative", "verdict"), [(1.0, "passed"), (1.01, "FAILED")])
def test_the_step_is_halved_until_kinks_on_both_sides_are_outside(derivative, verdict):
    judge = module._Judge(
        tolerance=1e-6, parameters={"sigma": 1.0},
        derivatives={"O": {"sigma": np.float64(derivative)}},
        value_errors={"O": np.zeros(())}, errors={"O": {"sigma": np.zeros(())}},
        naturals={"O": 1.0}, contact=False,
    )  # fmt: skip
    said = []
    (found,) = judge.compare(KinksOnBothSides(0.3), said.append).values()
    assert (found.verdict, found.step) == (verdict, 0.25)
    assert [line for line in said if "cross 3 Ang at a step of" in line]


@pytest.mark.parametrize("width", [60, 80, 132])
@pytest.mark.parametrize("parameters", [2, 12])
def test_every_error_stands_under_its_parameter_beside_its_observable(
    width, parameters, monkeypatch
):
    file = io.StringIO()
    monkeypatch.setattr(terminal, "console", lambda: rich.console.Console(file=file, width=width))
    names = [f"fixed_positions[{i},x]" for i in range(parameters)]
    observables = ["positions", "lattice_constants", "elastic_constant(4,4)"]
    errors = {(o, p): float(f"1.{i}e-1{j}") for j, o in enumerate(observables)
              for i, p in enumerate(names)}  # fmt: skip
    one = np.float64(1.0)
    comparisons = [
        module.Comparison(o, p, one, one, error, 1e-9, "passed", "", 1.0, 0)
        for (o, p), error in errors.items()
    ]
    terminal.show_verification(module.Verification(tuple(comparisons), 1e-6, 1e-12), "ase")
    found, head = {}, []
    for line in file.getvalue().splitlines()[1:]:
        assert len(line.rstrip()) <= width or line.startswith("passed")
        first, *others = line.split()
        if first in ("observable", "parameter"):
            head = others
        elif first in (*observables, *names):
            for other, number in zip(head, others, strict=True):
                key = (first, other) if first in observables else (other, first)
                found[key] = float(number)
    assert found == pytest.approx(errors, rel=0.1)
    assert found.keys() == errors.keys()
