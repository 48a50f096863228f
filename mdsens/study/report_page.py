"""The page of a report."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mdsens import plots
from mdsens.digits import error_text, with_digits
from mdsens.files import read_csv
from mdsens.markup import for_html
from mdsens.pages import chart, html_image, html_table, page, structure_view
from mdsens.study.figure_names import (
    ENERGY_VOLUME,
    PHONON_BANDS,
    density_figures,
    figure_of,
)
from mdsens.study.find import FILE_NAME
from mdsens.study.pictures import HEAD, densities_among, elastic_observables, elastic_rows
from mdsens.study.report_charts import (
    convergence_chart,
    energy_volume_chart,
    phonon_bands_chart,
)
from mdsens.study.report_structures import Shown, read_history
from mdsens.study.results_file import structures_of, vanishing_observables
from mdsens.study.run_files import ARRIVED, STRUCTURE_NAME, TABLE_NAME, of_structure

#: Derivatives of observables with more of them are shown when asked for.
MOST_DERIVATIVES = 100
#: Numbers of an observable that stand in the table of all; the others are shown when asked for.
SHOWN_ENTRIES = 6
#: Nobody estimates the error of an eigenvalue: as many digits as one reads.
EIGENVALUE_DIGITS = 3


def report_page(
    folder: Path, results: dict[str, Any], figures: list[Path], shown: dict[str, Shown]
) -> str:
    """The report of a run as a page.

    Arguments:
        folder: that of the run.
        results: what results.json holds.
        figures: files of figures.
        shown: from `shown_structures`.

    Returns:
        HTML.
    """
    structures, drawn = structures_of(results), {path.stem: path for path in figures}
    formulas = results.get("formulas", {})
    table = read_csv(folder / TABLE_NAME)
    title = for_html(results["study"])
    parts = [f"<h1>{title}</h1><p>{for_html(results['description'])}</p>"]
    if "" in structures:
        parts.append(f"<p>{_size(results)}</p>")
    else:
        parts.append(f"<p>{len(structures)} structures: {', '.join(structures)}.</p>")
    if formulas:
        parts += _formulas(results, table, drawn)
    if "" in structures:
        parts += _view(results, "", shown[""])
        parts += ["<h2>How good is it?</h2>", *_certificate(results)]
    for name, of in structures.items():
        if name:
            parts += [f"<h2>Structure: {for_html(name)}</h2>", f"<p>{_size(of)}</p>"]
            parts += _view(results | of, name, shown[name])
            parts += _certificate(results | of)
            parts += _structure_images(folder, results | of, name, drawn, shown[name])
    parts += ["<h2>Observables</h2>", *_observables(results)]
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
        parts += _structure_images(folder, results, "", drawn, shown[""])
    if "ensemble" in results:
        parts.append("<h2>Ensemble of random starts</h2>")
        parts += _ensemble(results["ensemble"])
        parts.append(html_image(drawn["ensemble"], "wide"))
    parts += ["<h2>As run</h2>", *_as_run(folder, results)]
    return page(results["study"], parts)


def _as_run(folder: Path, results: dict[str, Any]) -> list[str]:
    """Where the numbers come from: versions, times, and the study itself."""
    times = ", ".join(
        f"{key.removesuffix('_s')} {value:.1f} s" for key, value in results["timing"].items()
    )
    lines = (folder / FILE_NAME).read_text("utf-8").split("\n")
    text = "\n".join(map(for_html, lines))
    made = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    known = results.get("fingerprint")
    mark = (
        f" Fingerprint of the study and its files: <code>{for_html(known)}</code>." if known else ""
    )
    return [
        f"<p>{for_html(made)}. Time: {for_html(times)} (compiling is part of relaxing and "
        f"differentiating).{mark}</p>",
        f"<pre>{text}</pre>",
    ]


def _view(results: dict[str, Any], name: str, shown: Shown) -> list[str]:
    """The structure that one turns; not one of so many atoms that it would not turn."""
    count = len(shown.atoms)
    if count > plots.MOST_ATOMS:
        return [
            f"<p class='live hint'>The page shows structures of up to {plots.MOST_ATOMS:,} atoms; "
            f"{of_structure(STRUCTURE_NAME, name)} has all {count:,} for another viewer.</p>"
        ]
    title = results["study"] + (f", {name}" if name else "")
    return [structure_view(f"structure-{name}", shown.scene(results, title))]


def _observables(results: dict[str, Any]) -> list[str]:
    """Values and errors; those of many numbers in full where one asks for them."""
    formulas, rows, folded = results.get("formulas", {}), [], []
    for name, given in results["observables"].items():
        if name in formulas:
            continue
        unit = _unit(given["units"])
        rows.append((name, *_with_errors(given["value"], given.get("error")), unit))
        if np.size(np.array(given["value"], float)) > SHOWN_ENTRIES:
            folded.append(_all_entries(name, given, unit))
    return [html_table(["observable", "value", "error", "unit"], rows), *folded]


def _all_entries(name: str, given: dict[str, Any], unit: str) -> str:
    """Every number of an observable, with its error."""
    values = np.array(given["value"], float)
    errors = np.full(values.shape, np.nan)
    if given.get("error") is not None:
        errors = np.array(given["error"], float)
    labels = given.get("labels")
    rows = []
    for place in np.ndindex(values.shape):
        index = labels[place[0]] if labels and len(place) == 1 else ",".join(map(str, place))
        value, error = float(values[place]), float(errors[place])
        rows.append((index, with_digits(value, error), error_text(error), unit))
    table = html_table(["entry", "value", "error", "unit"], rows)
    return (
        f"<details><summary>{for_html(name)}: all {values.size} numbers</summary>{table}</details>"
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
        html_image(drawn["formulas"], "wide"),
    ]


def _elastic(results: dict[str, Any], drawn: dict[str, Path]) -> list[str]:
    """Moduli of crystals over all directions, as a table and a figure."""
    parts = []
    for observable, structure, name in elastic_observables(results):
        rows, figure = (
            elastic_rows(results, observable, errors=True),
            drawn.get(of_structure(name, structure)),
        )
        if not rows or figure is None:
            parts.append(
                f"<p>{for_html(observable)}: a strain lowers the energy, so that there are no "
                "moduli along directions.</p>"
            )
            continue
        parts += [f"<h3>{for_html(observable)}</h3>", html_table(list(HEAD), rows)]
        parts.append(html_image(figure, "wide"))
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
        ["observable O", "parameter θ", "dO/dθ", "error", "unit", "d ln O / d ln θ", "its error"],
        [_derivative_row(row) for row in rows],
    )


def _stress_rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of a cell that relaxes: the stress that is left, and what was asked for."""
    if results.get("largest_stress") is None:
        return []
    rows = [("largest stress beside the load", error_text(results["largest_stress"]),
             results["units"]["largest_stress"])]  # fmt: skip
    if results["smax"] is not None:
        rows.append(("asked for", f"{results['smax']:g}", results["units"]["smax"]))
    return rows


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
    lowest = with_digits(certificate["lowest_eigenvalue"], most=EIGENVALUE_DIGITS)
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
    rows = [(*row, _unit(unit)) for *row, unit in rows]
    return [*parts, html_table(["", "", "unit"], rows, sortable=False)]


def _structure_images(
    folder: Path, results: dict[str, Any], name: str, drawn: dict[str, Path], shown: Shown
) -> list[str]:
    """The figures of one structure, and what none shows; charts stand for them on a screen."""
    parts, rows = [], read_history(folder, name)
    if rows:
        parts.append(chart(f"convergence-{name}", convergence_chart(rows, results)))
    if "energy_volume" in results:
        curve = energy_volume_chart(results["energy_volume"])
        parts.append(chart(f"{ENERGY_VOLUME}-{name}", curve))
    if "phonon_bands" in results:
        parts.append(chart(f"{PHONON_BANDS}-{name}", phonon_bands_chart(results["phonon_bands"])))
    densities = density_figures(len(list(densities_among(results["observables"], name))))
    motions = {one: figure_of("structure", name, one) for one in results["vectors"]}
    stills = [
        of_structure("convergence", name),
        *(motions.values() if len(shown.atoms) <= plots.MOST_ATOMS else ()),
    ]
    figures = [
        *(of_structure(one, name) for one in ("convergence", ENERGY_VOLUME, PHONON_BANDS)),
        *(
            figure_of(kind, name, parameter)
            for kind in (PHONON_BANDS, *densities)
            for parameter in motions
        ),
        *motions.values(),
    ]
    parts += [
        html_image(drawn[one], "still" if one in stills else "") for one in figures if one in drawn
    ]
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
        error_text(number("logarithmic_error")),
    )


def _with_errors(value: Any, error: Any) -> tuple[str, str]:
    """A number, or a list's first few, with the digits that are known, and the largest error."""
    if value is None or not isinstance(value, list):
        return with_digits(value, error), error_text(error)
    flat = np.ravel(np.array(value, float))
    errors = np.full(flat.shape, np.nan) if error is None else np.ravel(np.array(error, float))
    shown = ", ".join(
        with_digits(*pair, most=6)
        for pair in zip(flat[:SHOWN_ENTRIES], errors[:SHOWN_ENTRIES], strict=True)
    )
    largest = np.nanmax(errors, initial=0.0) or np.nan
    return shown + (" ..." if flat.size > SHOWN_ENTRIES else ""), error_text(largest)


def _few_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _unit(unit: str) -> str:
    return plots.pretty_unit(unit)
