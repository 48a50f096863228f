"""The mdsens command."""

import _thread
import hashlib
import os
import platform
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
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

#: The folder of compiled code is emptied to half of this many bytes when it holds more.
CACHE_LIMIT = 256_000_000
#: Earlier releases crash on macOS when they load compiled code from disk.
CACHE_JAXLIB = (0, 10)
#: What /proc/cpuinfo calls the things that compilers look at, on the processors of various makers.
CACHE_PROCESSOR = {
    "cpu architecture", "cpu family", "cpu implementer", "cpu part", "cpu variant", "features",
    "flags", "isa", "model", "model name", "stepping", "uarch", "vendor_id",
}  # fmt: skip

app = typer.Typer(
    name="mdsens",
    help="How relaxed structures, and what is computed from them, depend on their potentials.",
    epilog="Compiled code is kept in ~/.cache/mdsens for the next run. The environment variable "
    "MDSENS_CACHE names another folder, or is off.",
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
    _keep_compiled_code()
    from mdsens.study import load_study, run_study

    loaded = load_study(study, settings or [])
    _announce(f"running {loaded.name}")
    _show_run(run_study(loaded, out, allow_unconverged, progress=sys.stdout.isatty()))


@app.command()
def verify(study: _StudyArgument, settings: _SetOption = None) -> None:
    """Compare a study's derivatives with finite differences of re-relaxed structures."""
    _announce("reading the study")
    _keep_compiled_code()
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
    sys.unraisablehook = _hear_again
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


def _hear_again(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal again whose exception Python has dropped.

    What a signal raises inside a callback of the garbage collector (JAX has one) or a finalizer is
    printed and then ignored, and the run would go on.
    """
    if isinstance(lost.exc_value, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(lost.exc_value, SystemExit) and lost.exc_value.code == TERMINATED:
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(lost)
        return
    # Later, for here it would be dropped as well.
    again = threading.Timer(0.1, _thread.interrupt_main, [number])
    again.daemon = True
    again.start()


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


def _keep_compiled_code() -> None:
    """Let JAX keep on disk what it compiles, so that the next run need not compile it again."""
    if "jax" in sys.modules:
        # It has read its settings already, and whoever imported it may have made others.
        return
    for name, value in _cache_settings(os.environ).items():
        os.environ.setdefault(name, value)
    # A damaged entry or a full disk costs time, nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _cache_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that make JAX keep compiled code; none where it is not to be kept."""
    asked = environment.get("MDSENS_CACHE", "")
    if asked.lower() == "off" or "JAX_COMPILATION_CACHE_DIR" in environment:
        return {}
    from importlib.metadata import version

    jaxlib = version("jaxlib")
    if tuple(int(part) for part in jaxlib.split(".")[:2]) < CACHE_JAXLIB:
        return {}
    home = Path(environment.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(asked) if asked else home / "mdsens"
    try:
        # Compiled code may crash on another processor, and JAX itself does not see to that.
        folder = folder.expanduser().absolute() / f"jaxlib-{jaxlib}-{_processor()}"
        # Who can write to it can have any code executed.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_oldest(folder)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # the latter: there is no home
        writable = False
    if not writable:
        _announce(f"cannot write compiled code to {str(folder)!r}: set MDSENS_CACHE to a folder, "
                  "or to off")  # fmt: skip
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        # A run compiles a hundred small functions, each in a small part of a second.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Where there is AVX-512, XLA adds preferences such as prefer-no-gather to the features that
        # it compiles for, misses them among the processor's when it loads the code, and says so at
        # length for every function: https://github.com/openxla/xla/issues/44565. It loads the code
        # all the same; that it is from this processor is seen to above.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _processor(description: Path = Path("/proc/cpuinfo")) -> str:
    """A short name that changes with everything that compilers look at in a processor."""
    seen = set()
    try:
        for line in description.read_text(errors="replace").splitlines():
            if line.partition(":")[0].strip().lower() in CACHE_PROCESSOR:
                seen.add(line)
    except OSError:
        pass
    # Where the processor is not described, the name of the computer stands for it.
    known = sorted(seen) or [platform.processor(), platform.node()]
    text = "\n".join([platform.system(), platform.machine(), *known])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _forget_oldest(folder: Path, limit: int = CACHE_LIMIT) -> None:
    """Remove the oldest compiled code, down to half of the limit, if there is more than that."""
    entries = [(path, path.stat()) for path in folder.glob("*-cache")]
    size = sum(status.st_size for _, status in entries)
    if size <= limit:
        return
    for path, status in sorted(entries, key=lambda entry: entry[1].st_mtime):
        if size <= limit // 2:
            return
        path.unlink(missing_ok=True)
        size -= status.st_size


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
    if "ensemble" in results:
        _show_ensemble(console, results["ensemble"])
    times = results["timing"]
    console.print(
        f"\nrelaxed in {times['relax_s']:.1f} s, differentiated in {times['sensitivity_s']:.1f} s "
        f"(of both, {times['compile_s']:.1f} s compiling)"
    )
    console.print(f"results in [bold]{finished.folder}[/], report: {finished.folder}/report.html",
                  soft_wrap=True)  # fmt: skip


def _show_ensemble(console: Any, ensemble: dict) -> None:
    starts, last = ensemble["starts"], str(ensemble["marks"][-1])
    arrived = sum(start["distances"][last] < 0.01 for start in starts)
    rattling = sum(start["rattlers"] > 0 for start in starts)
    console.print(
        f"\n{len(starts)} random starts ({rattling} of them with rattlers): after {last} steps of "
        f"{ensemble['minimiser']} the unrolled derivative in {ensemble['parameter']} is within 1 % "
        f"of the implicit one for {arrived}",
        soft_wrap=True,
    )


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
