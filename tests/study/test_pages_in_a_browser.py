"""Reports as a user has them: in a browser, with a pointer, and nothing from the network."""

import json

import browser
import matplotlib.image
import numpy as np
import pytest

from mdsens import plots
from mdsens.pages import View, page, structures_view, sweep_view
from mdsens.study import load_study, run_study
from mdsens.study.report_structures import shown_structures
from mdsens.study.results_file import read_results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.program() is None, reason=browser.SKIPPED),
    pytest.mark.xdist_group("browser"),
]

#: What would run, load or hide something if it were taken as markup.
MARKUP = "</script><script>hacked=1</script><img src=x onerror='hacked=1'><b>bold</b>"


@pytest.fixture(scope="module")
def chromium():
    started = browser.Browser()
    yield started
    started.close()


@pytest.fixture(scope="module")
def packing(tmp_path_factory):
    """The run of a small packing of two kinds of discs, with markup for a description."""
    folder = tmp_path_factory.mktemp("pages") / "packing"
    settings = ["structure.count=16", "relaxation.method=auto", "structure.seed=1",
                f"description={json.dumps(MARKUP)}"]  # fmt: skip
    return run_study(load_study("soft-spheres-2d", settings), folder)


@pytest.fixture
def report(chromium, packing):
    chromium.media("screen")
    chromium.open(packing.folder / "report.html")
    return chromium


def seen(report, number):
    """Where an atom is in the window, pixels."""
    return report.drawn(
        "(() => { const at = document.querySelector('[data-structure]').viewer; "
        "const box = at.canvas.getBoundingClientRect(); "
        f"return [box.left + at.seen[{number}].x, box.top + at.seen[{number}].y]; }})()"
    )


def inked(path):
    """The share of pixels of a picture that are not white."""
    return (matplotlib.image.imread(path)[..., :3] < 0.97).any(axis=-1).mean()


def test_a_report_loads_without_an_error_or_a_request_and_draws_its_structure(report, packing):
    assert report.complaints == []
    (own, *others) = report.requests
    assert own.endswith("report.html")
    assert all(url.startswith("data:image/png") for url in others)
    count = report.run("document.querySelectorAll('canvas').length")
    assert count == 2
    drawn = report.run(
        "[...document.querySelectorAll('canvas')].map((one) => "
        "one.getContext('2d').getImageData(0, 0, one.width, one.height).data"
        ".filter((alpha, k) => k % 4 === 3 && alpha > 0).length)"
    )
    assert min(drawn) > 1_000


def test_descriptions_with_markup_stay_text(report):
    assert report.run("typeof hacked") == "undefined"
    assert report.run("document.querySelectorAll('b, img[src=x]').length") == 0
    assert MARKUP in report.run("document.querySelector('p').textContent")


def test_a_click_tells_the_atom_with_its_position_and_its_motion(report, packing):
    (shown,) = shown_structures(packing.folder, read_results(packing.folder)).values()
    report.run("window.scrollTo(0, 0)")
    report.click(*seen(report, 5))
    told = report.run("document.querySelector('.told').textContent")
    assert told.startswith("atom 5 ")
    moved = np.array(told.split("= (")[1].split(")")[0].split(", "), float)
    np.testing.assert_allclose(moved, shown.motions[0].vectors[5][:2], rtol=1e-6)
    position = told.split("position (")[1].split(")")[0].split(", ")
    np.testing.assert_allclose(np.array(position, float), shown.atoms.positions[5][:2], rtol=1e-6)
    assert "reduced units" in told


def test_the_slider_moves_atoms_along_the_derivatives(report, packing):
    (shown,) = shown_structures(packing.folder, read_results(packing.folder)).values()
    before = np.array([seen(report, number) for number in range(16)])
    report.drawn(
        "(() => { const slider = document.querySelector('[data-structure]').viewer.slider; "
        "slider.value = 0.5; slider.dispatchEvent(new Event('input')); })()"
    )
    after = np.array([seen(report, number) for number in range(16)])
    moved = (after - before) * [1.0, -1.0]
    vectors = shown.motions[0].vectors[:, :2]
    scale = np.sum(moved * vectors) / np.sum(vectors**2)
    assert scale > 0
    np.testing.assert_allclose(moved, scale * vectors, atol=1e-4 * np.abs(moved).max())
    told = report.run("document.querySelector('.amount').textContent")
    assert told.startswith("diameter[large] = 1 + ")


def test_tables_sort_by_number_and_filter_by_comparison(report):
    table = "[...document.querySelectorAll('table.sortable')].at(-1)"
    column = f"[...{table}.tBodies[0].rows].map((row) => row.cells[2].textContent)"
    before = [float(text) for text in report.run(column)]
    assert before != sorted(before)
    press = f"{table}.tHead.rows[0].cells[2].querySelector('button').click()"
    report.run(press)
    assert [float(text) for text in report.run(column)] == sorted(before)
    report.run(press)
    assert [float(text) for text in report.run(column)] == sorted(before, reverse=True)
    report.run(
        "(() => { const box = [...document.querySelectorAll('.filter input')].at(-1); "
        "box.value = 'dO/dθ > 0.1, pressure'; box.dispatchEvent(new Event('input')); })()"
    )
    left = report.run(
        f"[...{table}.tBodies[0].rows].filter((row) => !row.hidden)"
        ".map((row) => [row.cells[0].textContent, row.cells[2].textContent])"
    )
    assert left
    assert all(name == "pressure" and float(value) > 0.1 for name, value in left)


def test_paper_has_the_figures_in_the_place_of_what_moves(report):
    shown = "[...document.querySelectorAll('.live, .still')].map((one) => [one.className, \
getComputedStyle(one).display !== 'none'])"
    on_screen = report.run(shown)
    report.media("print")
    on_paper = report.run(shown)
    report.media("screen")
    for (name, screen), (_, paper) in zip(on_screen, on_paper, strict=True):
        assert screen == ("live" in name.split())
        assert paper == ("still" in name.split())
    assert {"live", "still"} <= {part for name, _ in on_paper for part in name.split()}


def test_runs_of_a_sweep_are_linked(chromium, tmp_path):
    count = 2_000
    x = np.random.default_rng(1).uniform(1.0, 2.0, count)
    columns = [
        {"name": "run", "unit": "", "kind": "number", "values": list(range(count)), "exact": True},
        {"name": "sigma", "unit": "Å", "kind": "number", "values": x.tolist(), "exact": True},
        {"name": "distance(0,1)", "unit": "Å", "kind": "number", "values": (x**2).tolist(),
         "errors": [1e-3] * count},
        {"name": MARKUP, "unit": "", "kind": "text", "values": [MARKUP] * count},
    ]  # fmt: skip
    links = [None] * count
    links[7] = "runs/0007/report.html"
    data = {"columns": columns, "x": [1, 2], "y": [2, 1], "color": 1, "links": links,
            "palette": ["#000000", "#ffffff"]}  # fmt: skip
    path = tmp_path / "sweep.html"
    path.write_text(page("sweep", [sweep_view("runs", data)]), "utf-8")
    chromium.open(path)
    assert chromium.complaints == []
    assert len(chromium.requests) == 1
    assert chromium.run("typeof hacked") == "undefined"
    sweep = "document.querySelector('[data-sweep]').sweep"
    assert chromium.run(f"{sweep}.charts.map((one) => one.chart.canvas.dataset.drawn)") == [
        str(count)
    ] * 2  # fmt: skip
    # The pointer at a run in one chart: it is marked in the other, and told with its error.
    chromium.move(*chromium.run(
        f"(() => {{ const chart = {sweep}.charts[0].chart; "
        "const box = chart.canvas.getBoundingClientRect(); const series = chart.given.series[0]; "
        "return [box.left + chart.x.at(series.x[7]), box.top + chart.y.at(series.y[7])]; })()"
    ))  # fmt: skip
    near = chromium.run(f"{sweep}.charts.map((one) => one.chart.near.place)")
    assert near[0] == near[1]
    told = chromium.run("[...document.querySelectorAll('.tip')].find((one) => !one.hidden)"
                        ".textContent")  # fmt: skip
    assert f"distance(0,1): {round(x[near[0]] ** 2, 3):g} ± 1.0e-03 Å" in told
    # Sorted and filtered, the table has what NumPy says.
    chromium.run("document.querySelectorAll('table.runs th button')[1].click()")
    first = chromium.run("document.querySelector('table.runs tbody tr').dataset.run")
    assert int(first) == np.argmin(x)
    chromium.drawn(
        "(() => { const box = document.querySelector('.filter input'); "
        "box.value = 'distance(0,1) > 2.25, sigma < 1.8'; "
        "box.dispatchEvent(new Event('input')); })()"
    )
    assert chromium.run("document.querySelector('.filter .count').textContent") == (
        f"{np.sum((x > 1.5) & (x < 1.8))} of {count} runs"
    )


def test_a_slider_chooses_one_of_several_structures(chromium, tmp_path):
    import ase

    molecules = [ase.Atoms("X" * count, [[0, 0, 3 * k] for k in range(count)]) for count in (1, 2)]
    scenes = [(f"molecule {n}", plots.scene(one)) for n, one in enumerate(molecules)]
    path = tmp_path / "several.html"
    path.write_text(page("several", [structures_view("s", scenes, 0, left=7)]), "utf-8")
    chromium.open(path)
    chromium.drawn()
    several = "document.querySelector('[data-structures]').several"
    shown = f"[{several}.name.textContent, {several}.viewer.data.positions.length / 3]"
    assert chromium.run(shown) == ["molecule 0", 1]
    assert "7 more" in chromium.run("document.body.textContent")
    chromium.run(f"{several}.viewer.camera.turn(1, 0)")
    turned = chromium.run(f"{several}.viewer.camera.rotation")
    chromium.drawn(
        f"(() => {{ {several}.slider.value = 1; "
        f"{several}.slider.dispatchEvent(new Event('input')); }})()"
    )
    assert chromium.run(shown) == ["molecule 1", 2]
    assert chromium.run(f"{several}.viewer.camera.rotation") == turned
    chromium.run(
        "[...document.querySelectorAll('button')].find((b) => b.title === 'the one before').click()"
    )
    assert chromium.run(shown) == ["molecule 0", 1]
    assert chromium.complaints == []


def test_the_nearest_of_two_atoms_is_picked_and_shown_in_a_frame_of_a_notebook(chromium, tmp_path):
    import mdsens

    system = mdsens.System(
        [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]], None, ("<i>X</i>", "B"), [0, 1], units="reduced"
    )
    view = system.view()
    chromium.open(view.save(tmp_path / "view.html"))
    assert chromium.complaints == []
    chromium.drawn(
        "[...document.querySelectorAll('button')].find((one) => one.textContent === 'z').click()"
    )
    chromium.click(*seen(chromium, 0))
    assert chromium.run("document.querySelector('.told').textContent").startswith("atom 1 B;")
    chromium.run("document.querySelector('[data-structure]').viewer.set({ picked: 0 })")
    told = chromium.run("document.querySelector('.told').textContent")
    assert told.startswith("atom 0 <i>X</i>; position (0, 0, 0) reduced units")
    # A notebook's output has the page in a frame.
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><body>{view._repr_html_()}</body>", "utf-8")
    chromium.open(notebook)
    chromium.drawn()
    chromium.picture(tmp_path / "notebook.png", whole=False)
    assert chromium.complaints == []
    empty = tmp_path / "empty.html"
    empty.write_text(f"<!DOCTYPE html><body>{View('', '')._repr_html_()}</body>", "utf-8")
    chromium.open(empty)
    chromium.picture(tmp_path / "empty.png", whole=False)
    assert inked(tmp_path / "notebook.png") > inked(tmp_path / "empty.png") + 0.02
