"""The mdsens command."""

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdsens import __version__
from mdsens.compilation_cache import announce, clear_cache, keep_compiled_code, kept_code
from mdsens.complaints import complain, unexpected, warn_in_a_line
from mdsens.errors import InputError, MdsensError
from mdsens.markup import console, for_terminal, visible
from mdsens.signals import INTERRUPTED, TERMINATED, hear_requests_to_end, signal_behind
from mdsens.streams import OutputError, flush_output, prepare_streams

if TYPE_CHECKING:
    from mdsens.study import Study, Sweep

app = typer.Typer(
    name="mdsens",
    help="How relaxed structures, and what is computed from them, depend on their potentials.",
    epilog="Exit status: 0 all well; 1 no result to rely on; 2 a mistake in what was given; 130 "
    "interrupted; 143 asked to end. Compiled code is kept in ~/.cache/mdsens for the next run; "
    "mdsens cache shows it. The "
    "environment variable MDSENS_CACHE names another folder, or is off.",
    add_completion=True,
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
_JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for a script instead of a table.")
]
_SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the study, e.g. potential.sigma=3.4; may be given again.",
    ),
]


def _show_version(asked: bool) -> bool:
    if asked:
        print(f"mdsens {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command("list")
def list_studies(as_json: _JsonOption = False) -> None:
    """List the ready studies."""
    from mdsens.study.find import ready_folder, ready_studies

    found = ready_studies()
    if not found:
        raise InputError(f"no ready studies in {str(ready_folder())!r}: give run a folder instead")
    if as_json:
        from mdsens.study.listings import print_json

        print_json([{"study": name, "description": text} for name, text in found.items()])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("study", style="bold", no_wrap=True)
    table.add_column("description")
    for name, description in found.items():
        table.add_row(for_terminal(name), for_terminal(description))
    console().print(table)


@app.command()
def potentials(
    name: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Show all that one of them takes.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """List the potentials that a study can name, with their parameters and units."""
    from mdsens.study.listings import show_potentials

    show_potentials(name, as_json)


@app.command()
def observables(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show what one of them takes.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """List the observables that a study can ask for, with their arguments and units."""
    from mdsens.study.listings import show_observables

    show_observables(name, as_json)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Folder to write.")],
    structure: Annotated[
        str,
        typer.Option(
            "--from", metavar="FILE", help="Structure: CIF, POSCAR, XYZ, data of LAMMPS ..."
        ),
    ],
    potential: Annotated[
        str,
        typer.Option(metavar="TYPE|FILE", help="As mdsens potentials lists them, or a file."),
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", metavar="NAME=VALUE", help="e.g. epsilon=0.0104; may be given again."
        ),
    ] = None,
    dimension: Annotated[
        int, typer.Option(min=2, max=3, help="2 takes the xy plane of the structure.")
    ] = 3,
    units: Annotated[str, typer.Option(help="ase (eV, Angstrom) or reduced.")] = "ase",
) -> None:
    """Write a commented study from a structure and a potential, ready to run."""
    keep_compiled_code()
    from mdsens.study.new import new_study

    folder = new_study(name, structure, potential, parameters or [], dimension, units)
    print(visible(f"{folder}: written; run it with mdsens run {folder}"))


@app.command()
def show(
    structure: Annotated[str, typer.Argument(metavar="STRUCTURE", help="A structure file.")],
    dimension: Annotated[
        int, typer.Option(min=2, max=3, help="2 takes the xy plane of the structure.")
    ] = 3,
    units: Annotated[str, typer.Option(help="ase (eV, Angstrom) or reduced.")] = "ase",
    as_json: _JsonOption = False,
) -> None:
    """Show what mdsens sees in a structure: atoms, cell, boundaries, distances, space group."""
    from mdsens.study.listings import print_json
    from mdsens.study.show import show_structure, structure_summary

    if as_json:
        print_json(structure_summary(structure, dimension, units))
    else:
        show_structure(structure, dimension, units)


@app.command()
def compare(
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR DIR...", help="Folders that run has written.")
    ],
    as_json: _JsonOption = False,
) -> None:
    """Show finished runs side by side: settings that differ, observables and derivatives."""
    from mdsens.study.compare import compare_runs, show_comparison
    from mdsens.study.listings import print_json

    comparison = compare_runs(folders)
    if as_json:
        print_json(comparison.to_dict())
    else:
        show_comparison(comparison)


@app.command()
def run(
    study: _StudyArgument,
    out: Annotated[
        str | None,
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
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where an earlier run into the folder has ended."),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --resume, run again what failed in a sweep."),
    ] = False,
    as_json: _JsonOption = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that do the runs of a sweep.", show_default="this one"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Scheduler of dask whose workers do the runs of a sweep, as tcp://node7:8786.",
        ),
    ] = None,
) -> None:
    """Relax a structure, differentiate it, and write results, figures and a report.

    A study with a table sweep is run with each of its values, each in a folder of its own.
    """
    if retry_failed and not resume:
        raise InputError("--retry-failed goes on with a sweep: give --resume, too")
    announce("reading the study")
    keep_compiled_code()
    from mdsens.study.sweep import read_sweep

    # Mistakes that the file alone tells need not wait for what is imported next.
    sweep = read_sweep(study, settings or [])
    if sweep is not None:
        _run_sweep(sweep, out, allow_unconverged, resume, retry_failed, as_json, workers, scheduler)
        return
    if workers is not None or scheduler is not None:
        raise InputError(
            "--workers and --scheduler share out the runs of a sweep, and the study has no table "
            "[sweep]: leave them out"
        )
    from mdsens.study.report_process import report_process

    # Where JAX is there already, so is what draws.
    with report_process("jax" not in sys.modules) as draws:
        with _importing() as own:
            loaded = _loaded(study, settings, own, read_ahead=True)
            from pathlib import Path

            from mdsens.study import run_study
            from mdsens.study.output import has_checkpoint
            from mdsens.study.run import default_folder, is_finished
            from mdsens.study.terminal import show_run

        if resume and is_finished(loaded, out):
            folder = str(out or default_folder(loaded.name))
            announce(f"{visible(folder)}: finished already")
            if as_json:
                from mdsens.study.results_file import read_results

                _print_summary(folder, read_results(Path(folder)))
            return
        announce(f"running {loaded.name}")
        progress = sys.stdout.isatty() and not as_json
        try:
            finished = run_study(
                loaded, out, allow_unconverged, progress=progress, resume=resume, draws=draws,
                rehearsed=True,
            )  # fmt: skip
        except BaseException as error:
            stopped = signal_behind(error) == INTERRUPTED
            if not stopped or not has_checkpoint(Path(out or default_folder(loaded.name))):
                raise
            line = "interrupted: the relaxation has a checkpoint; give --resume to go on from it"
            raise SystemExit(complain(line, INTERRUPTED)) from None
    if as_json:
        _print_summary(str(finished.folder), finished.results)
    else:
        show_run(finished)


def _print_summary(folder: str, results: dict[str, Any]) -> None:
    """What a script wants to know of a run; results.json holds all of it."""
    from mdsens.study.listings import print_json
    from mdsens.study.results import finite

    keys = (
        "study", "converged", "stable", "kind", "units", "parameters", "observables",
        "sensitivities", "sensitivity_errors", "timing",
    )  # fmt: skip
    summary = {key: results[key] for key in keys if key in results}
    print_json(finite({"folder": folder, **summary}))


def _run_sweep(
    sweep: "Sweep",
    out: str | None,
    allow_unconverged: bool,
    resume: bool,
    retry_failed: bool,
    as_json: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    from mdsens.study import run_sweep
    from mdsens.study.terminal import show_sweep

    announce(f"running a sweep of {sweep.count} runs")
    try:
        finished = run_sweep(
            sweep, out, resume, retry_failed, allow_unconverged, announce, workers, scheduler
        )
    except KeyboardInterrupt as error:
        # Typer would lose what it says.
        raise SystemExit(complain(error, INTERRUPTED)) from None
    if as_json:
        from mdsens.study.listings import print_json

        about = {"folder": str(finished.folder), "counts": finished.counts}
        failed = {str(number): reason for number, reason in finished.failed.items()}
        print_json({**about, "failed": failed})
    else:
        show_sweep(finished)
    if finished.failed:
        raise typer.Exit(1)


@app.command()
def plan(
    study: _StudyArgument,
    settings: _SetOption = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Do the first run, its results aside, and estimate time and memory."
        ),
    ] = False,
    as_json: _JsonOption = False,
) -> None:
    """Show how many runs a study has, over which keys; on request what they will take."""
    keep_compiled_code()
    from mdsens.study.plan import plan_study, show_plan

    found = plan_study(study, settings or [], measure)
    if as_json:
        import dataclasses

        from mdsens.study.listings import print_json

        print_json(dataclasses.asdict(found) | {"total": found.total})
    else:
        show_plan(found)


@app.command()
def verify(study: _StudyArgument, settings: _SetOption = None) -> None:
    """Compare a study's derivatives with finite differences of re-relaxed structures."""
    announce("reading the study")
    keep_compiled_code()
    with _importing() as own:
        loaded = _loaded(study, settings, own)
        from mdsens.study import verify_study
        from mdsens.study.terminal import show_verification

    if loaded.file.sweep is not None:
        announce("verifying the values of the study itself, without its sweep")

    announce(f"verifying {loaded.name}")
    verification = verify_study(loaded, report=announce)
    show_verification(verification, loaded.file.units)
    if not verification.passed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _importing() -> Iterator[bool]:
    """Import for good: nothing of it is looked through for garbage, then or later.

    Yields whether that is so, as it is in an own process alone.
    """
    if "jax" in sys.modules or not gc.isenabled():
        # Somebody else's process, with garbage that it must not keep.
        yield False
        return
    gc.disable()
    try:
        yield True
    finally:
        gc.freeze()
        gc.enable()


def _loaded(study: str, settings: list[str] | None, own: bool, read_ahead: bool = False) -> "Study":
    from mdsens.study.study_file import read_study

    # Mistakes that the file alone tells need not wait for what is imported next.
    text = read_study(study, settings or [])
    if read_ahead:
        from mdsens import kept_programs
        from mdsens.study.fingerprint import fingerprint

        # Nor need programs: another thread reads them while the rest is imported.
        kept_programs.read_ahead(fingerprint(text.table, text.path.parent))
    if own:
        from mdsens.lazy_packages import import_lazily

        import_lazily()
    from mdsens.study import load_study

    return load_study(study, settings or [])


@app.command()
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder that run has written.")],
) -> None:
    """Make the figures and the report of a finished run, or of a sweep so far, anew."""
    from mdsens.study.report import write_report

    for path in write_report(folder):
        print(visible(str(path)))


@app.command("cache")
def show_cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that is kept.")] = False,
    as_json: _JsonOption = False,
) -> None:
    """Show how much compiled code is kept, and where; or remove it."""
    if os.environ.get("MDSENS_CACHE", "").lower() == "off":
        raise InputError("MDSENS_CACHE is off: nothing is kept; unset it, or name a folder")
    folder, count, size = clear_cache() if clear else kept_code()
    if as_json:
        from mdsens.study.listings import print_json

        print_json({"folder": str(folder), "files": count, "bytes": size, "removed": clear})
        return
    done = "removed" if clear else "keeps"
    print(visible(f"{folder}: {done} {count} files of compiled code, {size / 1e6:.1f} MB"))


def main() -> None:
    """Run the command line and exit: 0 all well, 1 no trustworthy result, 2 wrong input."""
    # Most of what a run makes lives to its end, and is looked through for garbage in vain.
    gc.set_threshold(100_000, 50, 50)
    hear_requests_to_end()
    prepare_streams()
    warnings.showwarning = warn_in_a_line
    try:
        status = exit_status(sys.argv[1:])
    except SystemExit as asked:
        status = asked.code if isinstance(asked.code, int) else 1
    try:
        flush_output()
    except OutputError as error:
        status = status or complain(error, 1)
    kept = sys.modules.get("mdsens.kept_programs")
    if status and kept is not None:
        kept.stop_reading_ahead()
    rehearsals = sys.modules.get("mdsens.study.rehearsal")
    if status in (INTERRUPTED, TERMINATED) or (rehearsals and rehearsals.under_way()):
        # Compiled code may still be running in threads of its own, and crashes if the interpreter
        # is taken down under it.
        os._exit(status)
    sys.exit(status)


def exit_status(arguments: list[str]) -> int:
    """Run the command with its arguments; 0 all well, 1 no trustworthy result, 2 wrong input."""
    try:
        status: Any = app(arguments, standalone_mode=False)
        if status == INTERRUPTED:
            # Some releases of typer turn Ctrl-C into this status without a word.
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except InputError as error:
        return complain(error, 2)
    except MdsensError as error:
        return complain(error, 1)
    except (KeyboardInterrupt, typer.Abort):
        return complain("interrupted: nothing was written", INTERRUPTED)
    except Exception as error:
        # A wrong option or command: the base class of these has moved between releases of typer.
        if hasattr(error, "format_message"):
            message = str(error.format_message())
            end = "" if message.endswith((".", "?", "!")) else "."
            return complain(f"{message}{end} See mdsens --help.", 2)
        # By name: the class comes with JAX, and compiled code wraps it in errors of its own.
        if "LinearSolveError" in (type(error).__name__, *str(error).split(":")):
            return complain(error, 1)
        stopped = signal_behind(error)
        if stopped == INTERRUPTED:
            return complain("interrupted: nothing was written", INTERRUPTED)
        if stopped == TERMINATED:
            return TERMINATED
        return complain(unexpected(error), 1)
