"""Pages that one explores: what they are told of structures and runs, and that text stays text."""

import base64
import hashlib
import json
import re

import ase
import ase.build
import cases
import numpy as np
import pytest

import mdsens
from mdsens import plots
from mdsens.errors import InputError
from mdsens.pages import View, data_block, html_table, page, structure_view
from mdsens.potentials import LennardJones

MARKUP = "</script><img src=x onerror='hacked=1'>"
ARGON = LennardJones(0.0104, 3.4, cutoff=8.5)


def motion(vectors, error=1e-9, cell=None):
    return plots.Motion("sigma", 3.4, "Ang", "1", vectors, vectors, cell, error)


def test_data_cannot_end_its_element():
    block = data_block("x", {"name": MARKUP})
    assert block.count("<") == 2
    assert json.loads(block.split(">", 1)[1].rsplit("<", 1)[0]) == {"name": MARKUP}


def test_a_page_runs_its_own_scripts_alone_and_asks_no_network():
    text = page(MARKUP, [structure_view("s", {"title": MARKUP})])
    policy = re.search(r"Content-Security-Policy' content=\"(.*?)\"", text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    allowed = set(re.findall(r"'sha256-(.*?)'", policy))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts}
    assert len(scripts) == 2
    assert hashes == allowed
    assert "<img" not in text
    rest = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<[^>]*(src|href)=", rest)


def test_a_table_has_numbers_at_the_right_and_texts_as_they_are():
    table = html_table(["name", "value", "unit"], [(MARKUP, "1.5e-3", "Å"), ("b", "–", "eV/Å²")])
    assert "<img" not in table
    assert table.count("<td class='number'>") == 2
    assert "<th class=number>value</th>" in table
    assert "<td class='unit'>eV/Å²</td>" in table


def test_atoms_are_shown_inside_their_cell():
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, -0.5, 6.0]])
    inside = np.random.default_rng(1).uniform(0.1, 0.9, (20, 3)) @ cell
    images = np.random.default_rng(2).integers(-2, 3, (20, 3))
    told = plots.scene(ase.Atoms("Ar20", inside + images @ cell, cell=cell, pbc=True))
    np.testing.assert_array_equal(np.reshape(told["images"], (20, 3)), -images)
    assert plots.scene(ase.Atoms("Ar20", inside, cell=cell, pbc=True))["images"] is None
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("pbc", "frames"),
    [
        ((True, True, True), [[0, 0, 0]]),
        ((True, True, False), [[0, 0, 1.0], [0, 0, 5.0]]),
        ((True, False, False), [[0, 1.0, 3.0]]),
        ((False, False, False), [[0, 0, 0]]),
    ],
)
def test_frames_are_beside_surfaces_and_along_wires(pbc, frames):
    atoms = ase.Atoms("Ar2", [[1.0, 0.5, 1.0], [2.0, 1.5, 5.0]], cell=[4, 4, 9], pbc=pbc)
    found = sorted(plots.scene(atoms)["offsets"])
    np.testing.assert_allclose(found, frames, atol=1e-12)


def test_derivatives_below_their_error_are_zero_and_carry_their_units():
    vectors = np.array([[0.123456789, -1e-4, 0.0], [0.5, 2e-3, -0.25]])
    (told,) = plots.scene(ase.Atoms("Ar2", np.eye(3)[:2]), [motion(vectors, 1e-3)])["motions"]
    assert told["vectors"] == [0.1235, 0.0, 0.0, 0.5, 0.002, -0.25]
    assert told["unit"] == "Å/Å"
    assert told["parameterUnit"] == "Å"


def test_of_more_parameters_than_a_page_has_room_for_those_that_move_atoms_most_are_kept(
    monkeypatch,
):
    monkeypatch.setattr("mdsens.plots.scenes.MOST_VECTORS", 6)
    sizes = {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.01, "e": 0.4}
    motions = [
        plots.Motion(name, 1.0, "1", "Ang", np.full((2, 3), size), np.zeros((2, 3)), None, 1e-9)
        for name, size in sizes.items()
    ]
    atoms = ase.Atoms("Ar2", np.eye(3)[:2])
    told = plots.scene(atoms, motions)
    assert [one["name"] for one in told["motions"]] == ["b", "c", "e"]
    assert told["left"] == 2
    named = plots.scene(atoms, motions, parameter="d")
    assert [one["name"] for one in named["motions"]] == ["b", "d", "e"]


def test_positions_are_no_farther_off_than_springs_allow():
    """Against the solution of H x = F in a random symmetric positive definite matrix."""
    random = np.random.default_rng(1)
    for _ in range(20):
        matrix = random.normal(size=(9, 9))
        hessian = matrix @ matrix.T + 0.1 * np.eye(9)
        force = random.normal(size=9)
        off = np.linalg.norm(np.linalg.solve(hessian, force).reshape(3, 3), axis=1).max()
        largest = np.linalg.norm(force.reshape(3, 3), axis=1).max()
        lowest = np.linalg.eigvalsh(hessian)[0]
        assert off <= plots.position_error(largest, lowest, 3)
    assert plots.position_error(1.0, -1.0, 3) is None


def scene_of(view):
    return json.loads(re.search(r"id='structure'>(.*?)</script>", view.body)[1])


@pytest.fixture(scope="module")
def relaxed():
    return mdsens.relax(cases.dimer(), ARGON.with_parameters({"sigma": 1.0}))


def test_results_are_viewed_and_drawn(relaxed):
    system = relaxed.system
    assert scene_of(system.view())["motions"] == []
    told = scene_of(relaxed.view("sigma"))
    assert told["parameter"] == "sigma"
    # A dimer at rest is at 2^(1/6) sigma, and each end moves by half of it.
    moved = np.reshape(told["motions"][0]["vectors"], (2, 3))
    assert np.linalg.norm(moved[1] - moved[0]) == pytest.approx(2 ** (1 / 6), rel=1e-6)
    sens = mdsens.sensitivity(relaxed, "energy")
    assert [one["name"] for one in scene_of(sens.view())["motions"]] == ["epsilon", "sigma"]
    for figure in (system.plot(), relaxed.plot(), sens.plot(), sens.plot("sigma")):
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert figure.axes
    assert not system.plot().axes[0].get_title(loc="left")
    with pytest.raises(InputError, match="parameter"):
        sens.view("charge")
    frame = system.view()._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert frame.count("<") == 2


def test_a_view_is_written_as_a_page(tmp_path):
    view = cases.dimer().view()
    assert view.save(tmp_path / "view.html").read_text("utf-8") == view.to_html()
    with pytest.raises(InputError, match="cannot be written"):
        view.save(tmp_path / "none" / "view.html")
    assert "save" in repr(View("title", ""))


def test_the_spacing_of_a_scene_is_the_distance_of_neighbours():
    crystal = mdsens.System.from_ase(ase.build.bulk("Ar", "fcc", a=5.26, cubic=True) * 4)
    assert scene_of(crystal.view())["spacing"] == pytest.approx(5.26 / np.sqrt(2.0), rel=1e-3)


def test_structures_that_would_not_turn_are_refused_in_a_line():
    many = mdsens.System(np.random.default_rng(1).uniform(size=(plots.MOST_ATOMS + 1, 3)))
    with pytest.raises(InputError, match="20,001 atoms") as line:
        many.view()
    assert "\n" not in str(line.value)


@pytest.mark.slow
def test_batches_are_viewed_and_drawn():
    batch = mdsens.relax_batch([cases.dimer()] * 3, ARGON.with_parameters({"sigma": 1.0}))
    sens = mdsens.sensitivity_batch(batch, "energy")
    for figure in (batch.plot(), sens.plot()):
        assert all(axes.get_xlabel() == "structure" for axes in figure.axes[-1:])
    energies = batch.plot().axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(energies, [-0.0104 / 2] * 3, rtol=1e-3)
    several = scene_of(sens.view(1, "sigma"))
    assert several["first"] == 1
    assert several["names"] == [f"structure {index} of 3" for index in range(3)]
    assert [len(scene["motions"]) for scene in several["scenes"]] == [2] * 3
    assert scene_of(batch.view(2))["scenes"][2]["species"] == ["X"]
    with pytest.raises(InputError, match="has 3 structures"):
        batch.view(3)
