"""The mdsens command."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdsens import __version__
from mdsens.errors import InputError, MdsensError

if TYPE_CHECKING:
    from mdsens.study import FinishedRun, Verification

#: Exit statuses after Ctrl-C and after a request to end, as shells have them.
INTERRUPTED = 130
TERMINATED = 143

app = typer.Typer(
    name="mdsens",
    help="How relaxed structures, and what is computed from them, depend on their potentials.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A folder, a study.toml, or the name of a ready study (mdsens list)."
    ),
]
_SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the study, e.g. potential.sigma=3.4; may be given again.",
    ),
]


def _show_version(asked: bool) -> None:
    if asked:
        print(f"mdsens {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command("list")
def list_studies() -> None:
    """List the ready studies."""
    from rich.console import Console
    from rich.table import Table

    from mdsens.study.find import ready_folder, ready_studies

    found = ready_studies()
    if not found:
        raise InputError(f"no ready studies in {str(ready_folder())!r}: give run a folder instead")
    table = Table(box=None, pad_edge=False)
    table.add_column("study", style="bold", no_wrap=True)
    table.add_column("description")
    for name, description in found.items():
        table.add_row(name, description)
    Console().print(table)


@app.command()
def run(
    study: _StudyArgument,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results.", show_default="results/<name of the study>"),
    ] = None,
    settings: _SetOption = None,
    allow_unconverged: Annotated[
        bool,
        typer.Option(
            "--allow-unconverged",
            help="Give results where the structure is not a converged, stable minimum.",
        ),
    ] = False,
) -> None:
    """Relax a structure, differentiate it, and write results, figures and a report."""
    _announce("reading the study")
    from mdsens.study import load_study, run_study

    loaded = load_study(study, settings or [])
    _announce(f"running {loaded.name}")
    _show_run(run_study(loaded, out, allow_unconverged, progress=sys.stdout.isatty()))


@app.command()
def verify(study: _StudyArgument, settings: _SetOption = None) -> None:
    """Compare a study's derivatives with finite differences of re-relaxed structures."""
    _announce("reading the study")
    from mdsens.study import load_study, verify_study

    loaded = load_study(study, settings or [])
    _announce(f"verifying {loaded.name}")
    verification = verify_study(loaded, report=_announce)
    _show_verification(verification, loaded.file.units)
    if not verification.passed:
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that run has written.")],
) -> None:
    """Make the figures and the report of a finished run anew."""
    from mdsens.study.report import write_report

    for path in write_report(folder):
        print(path)


def main() -> None:
    """Run the command line and exit: 0 all well, 1 no trustworthy result, 2 wrong input."""
    # Asked to end, clean up first, as for Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        status = _exit_status(sys.argv[1:])
    except SystemExit as asked:
        if asked.code != TERMINATED:
            raise
        status = TERMINATED
    if status in (INTERRUPTED, TERMINATED):
        # Compiled code may still be running in threads of its own, and crashes if the interpreter
        # is taken down under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _exit_status(arguments: list[str]) -> int:
    try:
        status: Any = app(arguments, standalone_mode=False)
        if status == INTERRUPTED:
            # Some releases of typer turn Ctrl-C into this status without a word.
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except InputError as error:
        return _complain(error, 2)
    except MdsensError as error:
        return _complain(error, 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted: nothing was written", INTERRUPTED)
    except Exception as error:
        # A wrong option or command: the base class of these has moved between releases of typer.
        if hasattr(error, "format_message"):
            return _complain(f"{error.format_message()} See mdsens --help.", 2)
        # By name: the class comes with JAX, and compiled code wraps it in errors of its own.
        if "LinearSolveError" in (type(error).__name__, *str(error).split(":")):
            return _complain(error, 1)
        if "KeyboardInterrupt" in str(error):
            return _complain("interrupted: nothing was written", INTERRUPTED)
        raise


def _complain(error: object, status: int) -> int:
    text = " ".join(str(error).split())
    text = text.replace("pass allow_unconverged=True", "give --allow-unconverged")
    print(f"mdsens: {text}", file=sys.stderr)
    return status


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show_run(finished: "FinishedRun") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    results, units = finished.results, finished.results["units"]
    console = Console(highlight=False)
    good = results["kind"] == "minimum"
    console.print()
    console.print(f"[bold]{results['study']}[/]  {results['description']}", soft_wrap=True)
    console.print(f"[{'green' if good else 'red'}]{finished.sensitivity.certificate}[/]")
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
                name if index == 0 else "", shown if index == 0 else "", escape(parameter),
                f"{derivative:.6g}", unit,
            )  # fmt: skip
    console.print()
    console.print(table)
    times = results["timing"]
    console.print(
        f"\nrelaxed in {times['relax_s']:.1f} s, differentiated in {times['sensitivity_s']:.1f} s "
        f"(of both, {times['compile_s']:.1f} s compiling)"
    )
    console.print(f"results in [bold]{finished.folder}[/], report: {finished.folder}/report.html",
                  soft_wrap=True)  # fmt: skip


def _short_unit(unit: str) -> str:
    from mdsens.plots import pretty_unit

    return unit if unit == "reduced" else pretty_unit(unit)


def _show_verification(verification: "Verification", units: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mdsens.units import unit_name

    console = Console(highlight=False)
    comparisons = verification.comparisons
    observables = list(dict.fromkeys(comparison.observable for comparison in comparisons))
    table = Table(title="relative error of each derivative", box=None, pad_edge=False)
    table.add_column("parameter", style="bold", no_wrap=True)
    for observable in observables:
        table.add_column(observable, justify="right", overflow="fold")
    for parameter in dict.fromkeys(comparison.parameter for comparison in comparisons):
        errors = {c.observable: c.error for c in comparisons if c.parameter == parameter}
        table.add_row(
            escape(parameter),
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
