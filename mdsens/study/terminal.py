"""What the command prints of a finished run and of a verification."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdsens.digits import UNKNOWN, error_text, with_digits
from mdsens.markup import console, for_terminal, print_numbers
from mdsens.study.pictures import elastic_observables, elastic_rows
from mdsens.study.results_file import vanishing_observables
from mdsens.study.run import FinishedRun
from mdsens.study.sweep_file import SWEEP_NAME
from mdsens.study.verify import FAILED, NOT_JUDGED, PASSED, Comparison, Verification
from mdsens.units import pretty_unit, unit_name

if TYPE_CHECKING:
    from mdsens.study.sweep_run import FinishedSweep

#: Reasons of failed runs that are printed.
MOST_REASONS = 10
#: Letters of a relative error, with the mark that it is not judged; spaces between two columns.
WIDEST_ERROR, BETWEEN_COLUMNS = 8, 2


def show_run(finished: FinishedRun) -> None:
    """Print a run's certificate, its derivatives, and where its files are.

    Arguments:
        finished: what `run_study` returned.
    """
    results, units = finished.results, finished.results["units"]
    to = console()
    to.print()
    to.print(for_terminal(results["study"], "bold"), "", for_terminal(results["description"]),
             soft_wrap=True)  # fmt: skip
    for structure, sensitivity in finished.derivatives.structures.items():
        certificate = sensitivity.certificate
        if structure:
            to.print(for_terminal(f"{structure}:", "bold"))
        for line in str(certificate).splitlines():
            to.print(for_terminal(line, "green" if certificate.kind == "minimum" else "red"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    logarithmic = results["logarithmic"]
    heading = "d ln O / d ln \u03b8" if logarithmic else "derivative"
    # Each observable has a row of its own, above those of its parameters: names are long.
    for title in ("observable, parameter", f"value, {heading}", "error", "unit"):
        right = title.startswith(("value", "error"))
        table.add_column(title, justify="right" if right else "left")
    kind = "logarithmic_" if logarithmic else ""
    shown = results["sensitivities"] if not logarithmic else results["logarithmic_sensitivities"]
    all_errors = results[f"{kind}sensitivity_errors"]
    for name, by_parameter in shown.items():
        observable = results["observables"][name]
        if isinstance(observable["value"], list):
            continue
        error = observable["error"]
        table.add_row(
            for_terminal(name), _number(observable["value"], error),
            for_terminal(error_text(error), "dim"), for_terminal(_short_unit(observable["units"])),
        )  # fmt: skip
        for parameter, derivative in by_parameter.items():
            unit = "" if logarithmic else _short_unit(units["sensitivities"][name][parameter])
            error = all_errors[name][parameter]
            known = error
            if error is None or np.isnan(error):
                known = finished.derivatives.supported_error(name, parameter, logarithmic)
            table.add_row(
                for_terminal(f"  {parameter}"), _number(derivative, known),
                for_terminal(error_text(error), "dim"), for_terminal(unit),
            )  # fmt: skip
    to.print()
    print_numbers(to, table)
    vanishing = vanishing_observables(results)
    if logarithmic and vanishing:
        words = f"not defined: {', '.join(vanishing)} is zero within its error"
        to.print(for_terminal(words, "dim"), soft_wrap=True)
    for observable, _, _ in elastic_observables(results):
        _show_elastic(to, results, observable)
    if "ensemble" in results:
        _show_ensemble(to, results["ensemble"])
    times = results["timing"]
    to.print(
        f"\nrelaxed in {times['relax_s']:.1f} s, differentiated in {times['sensitivity_s']:.1f} s "
        f"(of both, {times['compile_s']:.1f} s compiling)"
    )
    folder = str(finished.folder)
    to.print("results in", for_terminal(folder, "bold") + ",", "report:",
             for_terminal(f"{folder}/report.html"), soft_wrap=True)  # fmt: skip


def show_sweep(finished: "FinishedSweep") -> None:
    """Print what became of a sweep, why runs failed, and where its files are.

    Arguments:
        finished: what `run_sweep` returned.
    """
    # With xarray, which takes long to import and which a single run does without.
    from mdsens.study.sweep_report import REPORT_NAME

    to, folder = console(), str(finished.folder)
    said = ", ".join(f"{number} {state}" for state, number in finished.counts.items() if number)
    to.print(for_terminal(f"{said} runs", "red" if finished.failed else "green"))
    for run, reason in list(finished.failed.items())[:MOST_REASONS]:
        to.print(for_terminal(f"run {run}: {reason}", "red"), soft_wrap=True)
    left = len(finished.failed) - MOST_REASONS
    if left > 0:
        to.print(for_terminal(f"and {left} more, see {SWEEP_NAME}", "red"))
    to.print("results in", for_terminal(folder, "bold") + ",", "overview:",
             for_terminal(f"{folder}/{REPORT_NAME}"), soft_wrap=True)  # fmt: skip


def _number(value: float | None, error: float | None) -> Text:
    """A number with the digits that its error supports; grey where it is zero within it."""
    text = with_digits(value, error, most=6)
    return for_terminal(text, "dim" if text in ("0", UNKNOWN) else "")


def _show_elastic(to: Console, results: dict[str, Any], observable: str) -> None:
    """Moduli over all directions, as far as there are any."""
    rows = elastic_rows(results, observable)
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("property", "", "value", "along", "unit"):
        table.add_column(title, justify="right" if title == "value" else "left")
    for title, low, low_along, high, high_along, ratio, unit in rows:
        table.add_row(*map(for_terminal, (title, "minimum", low, low_along, unit)))
        table.add_row(*map(for_terminal, ("", "maximum", high, high_along, unit)))
        table.add_row(*map(for_terminal, ("", "max / min", ratio, "", "")))
    to.print()
    to.print(for_terminal(f"{observable} along all directions (Cartesian):", "bold"))
    print_numbers(to, table)


def _show_ensemble(to: Console, ensemble: dict[str, Any]) -> None:
    starts, last = ensemble["starts"], str(ensemble["marks"][-1])
    arrived = sum(start["distances"][last] < 0.01 for start in starts)
    rattling = sum(start["rattlers"] > 0 for start in starts)
    to.print(
        f"\n{len(starts)} random starts ({rattling} of them with rattlers): after {last} steps of "
        f"{ensemble['minimiser']} the unrolled derivative in", for_terminal(ensemble["parameter"]),
        f"is within 1 % of the implicit one for {arrived}",
        soft_wrap=True,
    )  # fmt: skip


def _short_unit(unit: str) -> str:
    return unit if unit == "reduced" else pretty_unit(unit)


def show_verification(verification: Verification, units: str) -> None:
    """Print the relative error of each derivative, and whether all are within the tolerance.

    Arguments:
        verification: what `verify_study` returned.
        units: ``"ase"`` or ``"reduced"``.
    """
    to = console()
    comparisons = verification.comparisons
    observables = list(dict.fromkeys(comparison.observable for comparison in comparisons))
    parameters = list(dict.fromkeys(comparison.parameter for comparison in comparisons))
    of = {(c.parameter, c.observable): _judged(c) for c in comparisons}
    # Names of observables are long: many of them stand below one another.
    below = len(_side_by_side(["parameter", *observables], to.width)) > 1
    rows, columns = (observables, parameters) if below else (parameters, observables)
    title: str | None = "relative error of each derivative"
    longest = max(for_terminal(name).cell_len for name in ("observable", *rows))
    # Long names fold; more tables than the numbers need would be harder to read.
    for some in _side_by_side(columns, to.width - min(longest, to.width // 2) - BETWEEN_COLUMNS):
        table = Table(title=title, box=None, pad_edge=False)
        table.add_column("observable" if below else "parameter", style="bold", no_wrap=True)
        for name in some:
            table.add_column(for_terminal(name), justify="right", overflow="fold")
        for row in rows:
            pairs = [(column, row) if below else (row, column) for column in some]
            table.add_row(for_terminal(row), *(of[pair] for pair in pairs))
        print_numbers(to, table)
        title = None
    for reason, left in _by_reason(verification.not_judged).items():
        names = ", ".join(f"{c.observable} in {c.parameter}" for c in left)
        finest = min(c.resolution for c in left)
        known = f" (they resolve {finest:.0e})" if finest < np.inf else ""
        words = f"not judged: {names}: differences are not reliable here{known}, because {reason}"
        to.print(for_terminal(words, "yellow"), soft_wrap=True)
    unit = unit_name("energy/length", units)
    to.print(f"largest force left over {verification.largest_force:.1e} {unit}")
    count = len(verification.not_judged)
    judged = len(comparisons) - count
    verdict = "passed" if verification.passed else "FAILED"
    if comparisons and not judged:
        verdict = "FAILED, as nothing could be judged"
    to.print(
        f"{verdict}: largest relative error {verification.largest_error:.1e}, "
        f"allowed {verification.tolerance:.0e}; {judged} of {len(comparisons)} derivatives judged",
        soft_wrap=True,
    )


def _side_by_side(names: list[str], width: int) -> list[list[str]]:
    """Names of columns of errors, parted so that each part is no wider than the terminal."""
    parts: list[list[str]] = []
    used = width + 1
    for name in names:
        needed = max(for_terminal(name).cell_len, WIDEST_ERROR) + BETWEEN_COLUMNS
        if used + needed > width + BETWEEN_COLUMNS:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += needed
    return parts


def _judged(comparison: Comparison) -> Text:
    """The relative error of one derivative, in the colour of the verdict."""
    colours = {PASSED: "green", FAILED: "red", NOT_JUDGED: "yellow"}
    text = error_text(comparison.error)
    if comparison.verdict == NOT_JUDGED:
        text += "?"
    return Text(text, colours[comparison.verdict])


def _by_reason(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.reason, []).append(comparison)
    return found
