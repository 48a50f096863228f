"""The HTML report and the figures of a finished run, from its files."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mdsens import plots
from mdsens.digits import error_text, is_zero, with_digits
from mdsens.errors import InputError
from mdsens.files import path_of, read_csv
from mdsens.markup import for_html
from mdsens.particles.structure_files import require_assertions
from mdsens.sensitivities import EnergyVolume, PhononBands
from mdsens.study.column_names import vector_name
from mdsens.study.ensemble import ARRIVED
from mdsens.study.find import FILE_NAME
from mdsens.study.marker import MARKER_NAME, read_marker
from mdsens.study.output import output_folder, writing
from mdsens.study.pictures import (
    FIGURES,
    HEAD,
    elastic_figure,
    elastic_observables,
    elastic_rows,
)
from mdsens.study.results import (
    ENSEMBLE_NAME,
    HISTORY_NAME,
    STRUCTURE_NAME,
    TABLE_NAME,
    of_structure,
    read_atoms,
)
from mdsens.study.results_file import read_results, structures_of

REPORT_NAME = "report.html"
#: Longer names of columns are cut in the names of figures.
LONGEST_NAME = 100
#: Name of the figure of energies against volumes.
ENERGY_VOLUME = "energy-volume"
#: Names of figures of phonon bands begin with this.
PHONON_BANDS = "phonon-bands"
#: Derivatives of observables with more of them are shown when asked for.
MOST_DERIVATIVES = 100
#: Numbers of relaxed.extxyz are rounded to this.
ROUNDING = 1e-8

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid #e4e4e4; }
td.number { text-align: right; } td.zero { color: #9a9a9a; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; }
figure { display: inline-block; margin: .5rem; vertical-align: top; }
img { max-width: 28rem; width: 100%; } .wide img { max-width: 56rem; }
.warning { color: #a03000; font-weight: 600; }
"""


def write_report(folder: str | Path) -> list[Path]:
    """Make the figures and report.html of a finished run anew.

    Arguments:
        folder: what `mdsens run` wrote.

    Returns:
        The files that were written.

    Raises:
        InputError: the folder holds no results, somebody has changed them, or it cannot be written.
    """
    require_assertions()
    folder = path_of(folder, "folder")
    _require_as_written(folder)
    with output_folder(folder, replaces=_is_of_report) as new, writing(folder):
        return [folder / path.name for path in make_report(folder, new)]


def make_report(folder: Path, goal: Path) -> list[Path]:
    """Make figures and report.html from the files of a run.

    Arguments:
        folder: where these files are.
        goal: the folder to write to; it may be the same.

    Returns:
        The files that were written.

    Raises:
        InputError: the files are no results of a run.
        OSError: the goal cannot be written.
    """
    results = read_results(folder)
    figures = plots.write_figures(
        (goal / f"{name}.png", figure) for name, figure in _figures(folder, results)
    )
    report = goal / REPORT_NAME
    report.write_text(_page(folder, results, figures), "utf-8")
    return [*figures, report]


def possible_figures(structures: Iterable[str], parameters: Iterable[str]) -> list[str]:
    """Every file of a report.

    Arguments:
        structures: names of the structures; a single empty one in a study of one structure.
        parameters: names of the parameters that the run differentiates in.

    Returns:
        Names of files.
    """
    figures, moving = ["formulas", "sensitivities", "ensemble"], list(parameters)
    for structure in structures:
        whole = ("convergence", ENERGY_VOLUME, PHONON_BANDS, *FIGURES.values())
        figures += [of_structure(name, structure) for name in whole]
        for kind in ("structure", PHONON_BANDS):
            figures += [_figure_of(kind, structure, parameter) for parameter in moving]
    return [REPORT_NAME, *(f"{name}.png" for name in figures)]


def _is_of_report(name: str) -> bool:
    return name == REPORT_NAME or ("/" not in name and name.endswith(".png"))


def _figure_of(kind: str, structure: str, parameter: str) -> str:
    """Name of the figure of what a parameter changes; file systems know no long names."""
    column = vector_name(parameter)
    if len(column) > LONGEST_NAME:
        column = column[:LONGEST_NAME] + hashlib.sha256(column.encode()).hexdigest()[:16]
    return f"{of_structure(kind, structure)}-{column}"


def _require_as_written(folder: Path) -> None:
    """Refuse a folder whose results are not those that a run of mdsens has written there."""
    try:
        marker = read_marker(folder)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be read: {error.strerror}") from None
    results = read_results(folder)
    if marker is None:
        raise InputError(
            f"{str(folder)!r} has no {MARKER_NAME}: its results are of an earlier version, or of "
            "another program; run the study again"
        )
    for name in _needed(results):
        if not (folder / name).is_file():
            raise InputError(f"{str(folder)!r} lacks {name}: run the study again")
    for name in sorted(marker.names):
        if not _is_of_report(name) and not marker.is_unchanged(folder, name):
            raise InputError(
                f"{str(folder)!r}: {name!r} was changed after mdsens wrote it; run the study again"
            )


def _needed(results: dict[str, Any]) -> list[str]:
    structures = [of_structure(STRUCTURE_NAME, name) for name in structures_of(results)]
    return [*structures, TABLE_NAME, FILE_NAME] + [ENSEMBLE_NAME] * ("ensemble" in results)


def _figures(folder: Path, results: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Names of files and their figures; one figure may be the next one before that was changed."""
    formulas = results.get("formulas", {})
    if formulas:
        yield "formulas", plots.sensitivities_figure(results, formulas)
    others = [name for name in results["observables"] if name not in formulas]
    yield "sensitivities", plots.sensitivities_figure(results, others)
    for observable, structure, name in elastic_observables(results):
        figure = elastic_figure(results, observable)
        if figure is not None:
            yield of_structure(name, structure), figure
    for name, of in structures_of(results).items():
        yield from _structure_figures(folder, results | of, name)
    if "ensemble" in results:
        with np.load(folder / ENSEMBLE_NAME) as arrays:
            yield "ensemble", plots.ensemble_figure(dict(arrays), results["ensemble"])


def _structure_figures(
    folder: Path, results: dict[str, Any], name: str
) -> Iterator[tuple[str, Figure]]:
    """The figures of one structure."""
    history = folder / of_structure(HISTORY_NAME, name)
    if history.is_file():
        rows = read_csv(history)
        figure = plots.convergence_figure(
            [int(row["step"]) for row in rows],
            [float(row["largest_force"] or "nan") for row in rows],
            results["fmax"],
            results["units"]["fmax"],
            [float(row["largest_stress"] or "nan") for row in rows if "largest_stress" in row],
            results.get("smax"),
            results["units"].get("smax") or "",
        )
        yield of_structure("convergence", name), figure
    if "energy_volume" in results:
        curve = EnergyVolume.from_dict(results["energy_volume"])
        uncertainty = results["energy_volume"]["uncertainty"] or None
        figure = plots.energy_volume_figure(curve, uncertainty)
        yield of_structure(ENERGY_VOLUME, name), figure
    if "phonon_bands" in results:
        bands = PhononBands.from_dict(results["phonon_bands"])
        if not bands.derivatives:
            yield of_structure(PHONON_BANDS, name), plots.phonon_bands(bands)
        for parameter in bands.derivatives:
            figure = plots.phonon_bands(bands, parameter)
            yield _figure_of(PHONON_BANDS, name, parameter), figure
    atoms = read_atoms(folder / of_structure(STRUCTURE_NAME, name))
    moved = plots.structure_figures(
        atoms,
        _motions(atoms, results),
        results["units"]["vectors"],
        results["units"]["length"],
        results["dimension"],
        results["diameters"],
        "cell_derivatives" in results,
    )
    for parameter, figure in moved:
        yield _figure_of("structure", name, parameter), figure


def _motions(atoms: ase.Atoms, results: dict[str, Any]) -> dict[str, Float[np.ndarray, "N 3"]]:
    """How particles move with each parameter, length/unit; not with those that move none."""
    motions = {}
    error = results["certificate"]["derivative_error"] or 0.0
    largest = {
        name: np.abs(atoms.arrays[column]).max(initial=0.0)
        for name, column in results["vectors"].items()
    }
    strains = results.get("cell_derivatives")
    for parameter, column in results["vectors"].items():
        vectors = np.asarray(atoms.arrays[column])
        noise = plots.motion_error(parameter, results["parameters"], largest, error)
        if strains is not None:
            cell_moved, dimension = np.zeros((3, 3)), results["dimension"]
            cell_moved[:dimension, :dimension] = strains[parameter]
            vectors = plots.non_affine(atoms.positions, atoms.cell[:], vectors, cell_moved)
            strained = np.abs(np.linalg.pinv(atoms.cell[:]) @ cell_moved).sum()
            noise = max(noise, 2.0 * ROUNDING * (1.0 + strained))
        if np.abs(vectors).max(initial=0.0) > noise:
            motions[parameter] = vectors
    return motions


def _stress_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of a cell that relaxes: the stress that is left, and what was asked for."""
    if results.get("largest_stress") is None:
        return []
    rows = [("largest stress beside the load", error_text(results["largest_stress"]),
             results["units"]["largest_stress"])]  # fmt: skip
    if results["smax"] is not None:
        rows.append(("asked for", f"{results['smax']:g}", results["units"]["smax"]))
    return rows


def _page(folder: Path, results: dict[str, Any], figures: list[Path]) -> str:
    title = for_html(results["study"])
    structures, drawn = structures_of(results), {path.stem: path for path in figures}
    formulas = results.get("formulas", {})
    table = read_csv(folder / TABLE_NAME)
    parts = [f"<h1>{title}</h1><p>{for_html(results['description'])}</p>"]
    if "" in structures:
        parts.append(f"<p>{_size(results)}</p>")
    else:
        parts.append(f"<p>{len(structures)} structures: {', '.join(structures)}.</p>")
    if formulas:
        parts += _formulas(results, table, drawn)
    if "" in structures:
        parts += ["<h2>How good is it?</h2>", *_certificate(results)]
    for name, of in structures.items():
        if name:
            parts += [f"<h2>Structure: {for_html(name)}</h2>", f"<p>{_size(of)}</p>"]
            parts += _certificate(results | of)
            parts += _structure_images(results | of, name, drawn)
    parts.append("<h2>Observables</h2>")
    parts.append(
        html_table(
            ["observable", "value", "error", "unit"],
            [
                (name, *_with_errors(given["value"], given.get("error")), _unit(given["units"]))
                for name, given in results["observables"].items()
                if name not in formulas
            ],
        )
    )
    parts.append("<h2>Sensitivities</h2>")
    parts += _sensitivities([row for row in table if row["observable"] not in formulas])
    parts.append(
        "<p>Errors are absolute; 0 stands for what is not above its error, and no digit is shown "
        "below that.</p>"
    )
    vanishing = vanishing_observables(results)
    if vanishing:
        parts.append(
            f"<p>d ln O / d ln θ is not defined for {for_html(', '.join(vanishing))}: the value "
            "is zero within its error.</p>"
        )
    parts += _elastic(results, drawn)
    parts += ["<h2>Figures</h2>", html_image(drawn["sensitivities"])]
    if "" in structures:
        parts += _structure_images(results, "", drawn)
    if "ensemble" in results:
        parts.append("<h2>Ensemble of random starts</h2>")
        parts += _ensemble(results["ensemble"])
        parts.append(html_image(drawn["ensemble"]).replace("<figure", "<figure class='wide'"))
    times = ", ".join(
        f"{key.removesuffix('_s')} {value:.1f} s" for key, value in results["timing"].items()
    )
    lines = (folder / FILE_NAME).read_text("utf-8").split("\n")
    as_run = "\n".join(map(for_html, lines))
    made = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts += [
        "<h2>As run</h2>",
        f"<p>{for_html(made)}. Time: {for_html(times)} (compiling is part of relaxing and "
        "differentiating).</p>",
        f"<pre>{as_run}</pre>",
    ]
    body = "\n".join(parts)
    return (
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _size(structure: dict[str, Any]) -> str:
    many = "atom" if structure["atoms"] == 1 else "atoms"
    return f"{structure['atoms']} {many}, {structure['dimension']} dimensions."


def _formulas(
    results: dict[str, Any], table: list[dict[str, str]], drawn: dict[str, Path]
) -> list[str]:
    """What formulas gave, and how that changes with the parameters."""
    rows = []
    for name, text in results["formulas"].items():
        given = results["observables"][name]
        found = _with_errors(given["value"], given.get("error"))
        rows.append((f"{name} = {' '.join(text.split())}", *found, _unit(given["units"])))
    return [
        "<h2>Formulas</h2>",
        html_table(["formula", "value", "error", "unit"], rows),
        "<p></p>",
        _derivatives(row for row in table if row["observable"] in results["formulas"]),
        html_image(drawn["formulas"]).replace("<figure", "<figure class='wide'"),
    ]


def _elastic(results: dict[str, Any], drawn: dict[str, Path]) -> list[str]:
    """Moduli of crystals over all directions, as a table and a figure."""
    parts = []
    for observable, structure, name in elastic_observables(results):
        rows, figure = elastic_rows(results, observable), drawn.get(of_structure(name, structure))
        if not rows or figure is None:
            parts.append(
                f"<p>{for_html(observable)}: a strain lowers the energy, so that there are no "
                "moduli along directions.</p>"
            )
            continue
        parts += [f"<h3>{for_html(observable)}</h3>", html_table(list(HEAD), rows)]
        parts.append(html_image(figure).replace("<figure", "<figure class='wide'"))
    if not parts:
        return []
    said = "Directions are along Cartesian axes; where several are alike, one is named."
    return ["<h2>Elastic moduli along directions</h2>", *parts, f"<p>{said}</p>"]


def _sensitivities(rows: list[dict[str, str]]) -> list[str]:
    """Derivatives of observables, of which those of many numbers are folded away."""
    by_observable: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_observable.setdefault(row["observable"], []).append(row)
    long = {name: of for name, of in by_observable.items() if len(of) > MOST_DERIVATIVES}
    short = [row for row in rows if row["observable"] not in long]
    parts = [_derivatives(short)] if short else []
    for name, of in long.items():
        summary = f"<summary>{for_html(name)}: {len(of)} derivatives</summary>"
        parts.append(f"<details>{summary}{_derivatives(of)}</details>")
    return parts


def _derivatives(rows: Iterable[dict[str, str]]) -> str:
    return html_table(
        ["observable O", "parameter θ", "dO/dθ", "error", "unit", "d ln O / d ln θ"],
        [_derivative_row(row) for row in rows],
    )


def _certificate(results: dict[str, Any]) -> list[str]:
    """How good a relaxed structure is."""
    units, certificate, parts = results["units"], results["certificate"], []
    if results["kind"] != "minimum":
        what = "a saddle" if results["kind"] == "saddle" else "unconverged"
        parts.append(
            f"<p class='warning'>The structure is {what}: its derivatives can be wrong, even in "
            "sign.</p>"
        )
    kinds = ", ".join(f"{n} {kind}" for kind, n in certificate["null_modes_by_kind"].items() if n)
    lowest = with_digits(certificate["lowest_eigenvalue"])
    if certificate.get("lowest_eigenvalue_estimated"):
        lowest = f"about {certificate['lowest_eigenvalue']:.2g}"
    rows = [
        ("kind of structure", results["kind"], ""),
        ("largest force", error_text(results["largest_force"]), units["largest_force"]),
        ("asked for", f"{results['fmax']:g}", units["fmax"]),
        *_stress_rows(results),
        ("steps", str(results["steps"]), ""),
        ("lowest eigenvalue", lowest, units["lowest_eigenvalue"]),
        ("null modes", kinds or "none", ""),
        ("linear solver", certificate.get("linear_solver") or "", ""),
        ("linear residual (relative)", error_text(certificate["linear_residual"]), ""),
        ("estimated error of the derivatives (relative)" +
         ", rough: relax to a smaller force" * bool(certificate.get("derivative_error_rough")),
         error_text(certificate["derivative_error"]), ""),
    ]  # fmt: skip
    return [*parts, html_table(["", "", "unit"], [(*row, _unit(unit)) for *row, unit in rows])]


def _structure_images(results: dict[str, Any], name: str, drawn: dict[str, Path]) -> list[str]:
    """The figures of one structure, and what none shows."""
    motions = {
        parameter: _figure_of("structure", name, parameter) for parameter in results["vectors"]
    }
    shown = [
        *(of_structure(one, name) for one in ("convergence", ENERGY_VOLUME, PHONON_BANDS)),
        *(_figure_of(PHONON_BANDS, name, parameter) for parameter in motions),
        *motions.values(),
    ]
    parts = [html_image(drawn[figure]) for figure in shown if figure in drawn]
    still = [parameter for parameter, figure in motions.items() if figure not in drawn]
    if still:
        beyond = ", but for the strain of the cell" if "cell_derivatives" in results else ""
        parts.append(f"<p>No particle moves with {for_html(', '.join(still))}{beyond}.</p>")
    return parts


def _ensemble(ensemble: dict[str, Any]) -> list[str]:
    """How many starts have the right derivative after how many steps, and each start."""
    starts, marks = ensemble["starts"], ensemble["marks"]
    minima = [start for start in starts if start["kind"] == "minimum"]
    groups = {
        "all minima": minima,
        "without rattlers": [start for start in minima if not start["rattlers"]],
        "with rattlers": [start for start in minima if start["rattlers"]],
    }
    name = for_html(ensemble["parameter"])
    unit = for_html(plots.pretty_unit(ensemble["units"]["norms"]))

    def arrived(group: list[dict[str, Any]], mark: int) -> str:
        distances = [start["distances"][str(mark)] for start in group]
        return f"{sum(d is not None and d < ARRIVED for d in distances)} of {len(group)}"

    judged = [s["finite_difference_error"] for s in minima]
    judged = [error for error in judged if error is not None]
    worst = f"; largest difference {max(judged):.1e} (relative)" if judged else ""
    return [
        f"<p>d x / d {name} from {len(starts)} random starts: through every step of "
        f"{ensemble['minimiser']} (unrolled), and implicitly at the minima that the runs lead to. "
        f"{len(minima)} of {len(starts)} are minima. The implicit derivative was compared with "
        f"finite differences with the same contacts at {len(judged)} of them{worst}.</p>",
        f"<p>Unrolled derivatives within {100 * ARRIVED:g} % of the implicit ones (rattlers "
        "themselves left out):</p>",
        html_table(
            ["after", *groups],
            [(f"{mark} steps", *(arrived(g, mark) for g in groups.values())) for mark in marks],
        ),
        f"<details><summary>Each start (norms in L1, {unit or 'pure numbers'})</summary>",
        html_table(
            ["seed", "kind", "rattlers", "implicit norm", "error by finite differences",
             *(f"distance after {mark} steps" for mark in marks)],
            [
                (str(start["seed"]), start["kind"], str(start["rattlers"]),
                 _few_digits(start["implicit_norm"]),
                 _few_digits(start["finite_difference_error"]),
                 *(_few_digits(start["distances"][str(mark)]) for mark in marks))
                for start in starts
            ],
        ),
        "</details>",
    ]  # fmt: skip


def vanishing_observables(results: Mapping[str, Any]) -> list[str]:
    """The observables of which a number is zero within its error, so that it has no logarithm.

    Arguments:
        results: what results.json holds.

    Returns:
        Their names.
    """
    return [
        name
        for name, given in results["observables"].items()
        if np.any(
            is_zero(
                np.array(given["value"], float),
                np.nan if given.get("error") is None else np.array(given["error"], float),
            )
        )
    ]


def _derivative_row(row: dict[str, str]) -> tuple[str, ...]:
    """The cells of one row of sensitivities.csv, where numbers that are none are empty."""

    def number(name: str) -> float | None:
        return None if row.get(name, "") == "" else float(row[name])

    error = number("derivative_error")
    return (
        row["observable"] + (f" {row['component']}" if row["component"] else ""),
        row["parameter"],
        with_digits(number("derivative"), error),
        error_text(error),
        _unit(row["derivative_units"]),
        with_digits(number("logarithmic"), number("logarithmic_error")),
    )


def _with_errors(value: Any, error: Any) -> tuple[str, str]:
    """A number, or a list's first few, with the digits that are known, and the largest error."""
    if value is None or not isinstance(value, list):
        return with_digits(value, error), error_text(error)
    flat = np.ravel(np.array(value, float))
    errors = np.full(flat.shape, np.nan) if error is None else np.ravel(np.array(error, float))
    shown = ", ".join(with_digits(*pair, most=6) for pair in zip(flat[:6], errors[:6], strict=True))
    largest = np.nanmax(errors, initial=0.0) or np.nan
    return shown + (" ..." if flat.size > 6 else ""), error_text(largest)


def _few_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _unit(unit: str) -> str:
    return plots.pretty_unit(unit)


def html_table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of texts; nothing in them is taken as markup.

    Arguments:
        head: titles of the columns.
        rows: their cells.

    Returns:
        HTML.
    """
    lines = [
        "<table>",
        "<tr>" + "".join(f"<th>{for_html(cell)}</th>" for cell in head) + "</tr>",
    ]
    for row in rows:
        cells = "".join(
            f"<td class='{'number zero' if cell == '0' else 'number'}'>{for_html(cell)}</td>"
            if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell)
            else f"<td>{for_html(cell)}</td>"
            for cell in row
        )
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def html_image(path: Path) -> str:
    """A figure that is part of the page.

    Arguments:
        path: the PNG.

    Returns:
        HTML.
    """
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    label = for_html(path.stem)
    return f"<figure><img alt='{label}' src='data:image/png;base64,{data}'></figure>"
