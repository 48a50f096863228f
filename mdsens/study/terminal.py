"""What the command prints of a finished run and of a verification."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdsens.markup import console as terminal
from mdsens.markup import for_terminal, visible
from mdsens.plots import pretty_unit
from mdsens.study.run import FinishedRun
from mdsens.study.verify import Verification
from mdsens.units import unit_name


def show_run(finished: FinishedRun) -> None:
    """Print a run's certificate, its derivatives, and where its files are.

    Arguments:
        finished: what `run_study` returned.
    """
    results, units = finished.results, finished.results["units"]
    console = terminal()
    good = results["kind"] == "minimum"
    console.print()
    title = for_terminal(results["study"], "bold")
    console.print(Text.assemble(title, "  ", for_terminal(results["description"])), soft_wrap=True)
    console.print(Text(str(finished.sensitivity.certificate), "green" if good else "red"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    derivative_heading = "d ln O / d ln \u03b8" if results["logarithmic"] else "derivative"
    for heading in ("observable", "value", "parameter", derivative_heading, "unit"):
        right = heading in ("value", derivative_heading)
        # Where the terminal is narrow, the names of observables give way, the numbers do not.
        table.add_column(heading, justify="right" if right else "left",
                         no_wrap=heading != "observable", overflow="fold")  # fmt: skip
    for name, by_parameter in results["sensitivities"].items():
        observable = results["observables"][name]
        if isinstance(observable["value"], list):
            continue
        shown = f"{observable['value']:.6g} {_short_unit(observable['units'])}".strip()
        for index, (parameter, derivative) in enumerate(by_parameter.items()):
            unit = _short_unit(units["sensitivities"][name][parameter])
            if results["logarithmic"]:
                derivative, unit = results["logarithmic_sensitivities"][name][parameter], ""
            table.add_row(
                for_terminal(name if index == 0 else ""), shown if index == 0 else "",
                for_terminal(parameter),
                f"{derivative:.6g}", unit,
            )  # fmt: skip
    console.print()
    console.print(table)
    if "ensemble" in results:
        _show_ensemble(console, results["ensemble"])
    times = results["timing"]
    console.print(
        f"\nrelaxed in {times['relax_s']:.1f} s, differentiated in {times['sensitivity_s']:.1f} s "
        f"(of both, {times['compile_s']:.1f} s compiling)"
    )
    folder = str(finished.folder)
    report = for_terminal(f"{folder}/report.html")
    console.print(
        Text.assemble("results in ", for_terminal(folder, "bold"), ", report: ", report),
        soft_wrap=True,
    )


def _show_ensemble(console: Console, ensemble: dict) -> None:
    starts, last = ensemble["starts"], str(ensemble["marks"][-1])
    arrived = sum(start["distances"][last] < 0.01 for start in starts)
    rattling = sum(start["rattlers"] > 0 for start in starts)
    console.print(
        f"\n{len(starts)} random starts ({rattling} of them with rattlers): after {last} steps of "
        f"{ensemble['minimiser']} the unrolled derivative in {visible(ensemble['parameter'])} is "
        f"within 1 % of the implicit one for {arrived}",
        soft_wrap=True,
        markup=False,
    )


def _short_unit(unit: str) -> str:
    return unit if unit == "reduced" else pretty_unit(unit)


def show_verification(verification: Verification, units: str) -> None:
    """Print the relative error of each derivative, and whether all are within the tolerance.

    Arguments:
        verification: what `verify_study` returned.
        units: ``"ase"`` or ``"reduced"``.
    """
    console = terminal()
    comparisons = verification.comparisons
    observables = list(dict.fromkeys(comparison.observable for comparison in comparisons))
    table = Table(title="relative error of each derivative", box=None, pad_edge=False)
    table.add_column("parameter", style="bold", no_wrap=True)
    for observable in observables:
        table.add_column(for_terminal(observable), justify="right", overflow="fold")
    for parameter in dict.fromkeys(comparison.parameter for comparison in comparisons):
        errors = {c.observable: c.error for c in comparisons if c.parameter == parameter}
        table.add_row(
            for_terminal(parameter),
            *(
                f"[{'green' if errors[o] <= verification.tolerance else 'red'}]{errors[o]:.1e}[/]"
                for o in observables
            ),
        )
    console.print(table)
    verdict = "passed" if verification.passed else "FAILED"
    console.print(
        f"largest force left over {verification.fmax:.1e} {unit_name('energy/length', units)}"
    )
    console.print(
        f"{verdict}: largest relative error {verification.largest_error:.1e}, "
        f"allowed {verification.tolerance:.0e}"
    )
