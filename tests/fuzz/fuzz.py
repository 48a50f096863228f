"""Fuzz the readers of studies and structures: python tests/fuzz/fuzz.py --minutes 60.

Inputs are changed at random (`mutations`) and given to a reader (`readers`) in a process of its own
that may take so much time and memory. Whatever is neither read nor refused in a line is kept in
--findings, once for each place where it happens, made small, with its traceback. Where atheris is
installed, inputs that reach new code are kept to be changed further; it is no requirement.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

#: CPU time that one input may take, seconds; JAX compiles in it.
SLOW = 10.0
#: Real time after which a process counts as hung, seconds.
HUNG = 600.0
#: Memory beyond what the process begins with, bytes.
MEMORY = 3 * 2**30
#: Inputs after which a process makes room for a new one.
INPUTS_PER_PROCESS = 4000


class TooSlowError(BaseException):
    """An input took too long. No Exception, which a reader might take for its own."""


def main() -> None:
    """Fuzz for a while in processes that are watched, and tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--reader", choices=("study", "structure", "both"), default="both")
    parser.add_argument("--findings", type=Path, default=Path("results/fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.findings.mkdir(parents=True, exist_ok=True)
    if options.worker:
        work(options)
        return
    end = time.monotonic() + 60 * options.minutes
    readers = ("study", "structure") if options.reader == "both" else (options.reader,)
    turn = 0
    while (left := end - time.monotonic()) > 10:
        # Turns of a quarter of an hour, so that both readers get half of the time.
        watch(options, readers[turn % len(readers)], min(left, 900.0), options.seed + turn)
        turn += 1
    found = sorted(options.findings.glob("*.txt"))
    tallies = [json.loads(path.read_text()) for path in options.findings.glob("*.json")]
    inputs = sum(sum(tally.values()) for tally in tallies)
    print(f"{inputs} inputs, {len(found)} findings in {options.findings}")
    sys.exit(1 if found else 0)


def watch(options: argparse.Namespace, reader: str, seconds: float, seed: int) -> None:
    """Run one process until it ends; that it hangs, or dies, is a finding."""
    last = options.findings / f"{reader}.last"
    started = time.monotonic()
    command = [
        sys.executable, __file__, "--worker", "--reader", reader, "--minutes", str(seconds / 60),
        "--findings", str(options.findings), "--seed", str(seed),
    ]  # fmt: skip
    with open(options.findings / f"{reader}.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(1.0)
            since = time.time() - last.stat().st_mtime if last.exists() else 0.0
            if min(since, time.monotonic() - started) > HUNG:
                process.kill()
                process.wait()
                keep(options.findings, reader, last.read_bytes(), "hung", "hung: no end in sight")
                return
    if process.returncode != 0:
        cause = f"died with status {process.returncode}"
        keep(options.findings, reader, last.read_bytes() if last.exists() else b"", cause, cause)


def work(options: argparse.Namespace) -> None:
    """Change inputs and read them until the time is over."""
    os.environ.setdefault("MDSENS_CACHE", "off")
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    )
    try:
        import atheris
    except ImportError:
        atheris = None
    # What is imported here reports which of its code is reached.
    instrumented = contextlib.nullcontext() if atheris is None else atheris.instrument_imports(
        include=[f"mdsens.{room}" for room in ("study", "particles", "observables", "potentials",
                 "values", "units")] + ["ase.io", "ase.cell", "ase.spacegroup"]
    )  # fmt: skip
    # What all tests share lies a folder above.
    sys.path.insert(1, str(Path(__file__).parents[1]))
    with instrumented:
        import mutations
        import readers
    signal.signal(signal.SIGVTALRM, _too_slow)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    read = {"study": readers.read_study, "structure": readers.read_structure}[options.reader]
    mutate = {"study": mutations.mutate_study, "structure": mutations.mutate_structure}
    seeds = {"study": mutations.study_seeds, "structure": mutations.structure_seeds}
    change, corpus = mutate[options.reader], seeds[options.reader]()
    folder = readers.study_folder()
    last = options.findings / f"{options.reader}.last"
    tally = options.findings / f"{options.reader}-{options.seed}.json"
    counts = {"read": 0, "refused": 0, "found": 0}
    deadline, known = time.monotonic() + 60 * options.minutes, set()

    def failure(data: bytes) -> tuple[str, str]:
        """Where and how reading fails; empty if it does not."""
        signal.setitimer(signal.ITIMER_VIRTUAL, SLOW)
        try:
            line = read(data, folder)
            counts["refused" if line else "read"] += 1
            return "", ""
        except (Exception, TooSlowError) as error:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            return place(error), traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def one(data: bytes) -> None:
        last.write_bytes(data)
        if sum(counts.values()) % 100 == 0:
            # Now and then: atheris ends the process by itself.
            tally.write_text(json.dumps(counts))
        where, report = failure(data)
        if where and where not in known:
            counts["found"] += 1
            known.add(where)
            small = data if "TooSlow" in where else shrunk(data, where, failure)
            keep(options.findings, options.reader, small, where, report)

    try:
        if atheris is None:
            chance = random.Random(options.seed)
            while time.monotonic() < deadline and sum(counts.values()) < INPUTS_PER_PROCESS:
                one(change(chance.choice(corpus), chance))
        else:
            # What reached new code in earlier processes is where this one begins.
            grown = options.findings / f"{options.reader}-corpus"
            grown.mkdir(exist_ok=True)
            for data in corpus:
                (grown / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
            arguments = [
                sys.argv[0], str(grown), f"-max_total_time={int(60 * options.minutes)}",
                f"-runs={INPUTS_PER_PROCESS}", f"-seed={options.seed + 1}", "-max_len=20000",
                "-timeout=36000", "-rss_limit_mb=0", "-print_final_stats=1", "-len_control=0",
                f"-artifact_prefix={options.findings}/",
            ]  # fmt: skip
            atheris.Setup(
                arguments,
                one,
                custom_mutator=lambda data, size, seed: change(data, random.Random(seed))[:size],
            )
            atheris.Fuzz()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        tally.write_text(json.dumps(counts))


def place(error: BaseException) -> str:
    """Where an error was raised: its class, and the innermost lines of mdsens and of anything."""
    # A line that breaks the rule is found where it was made.
    error = error.__cause__ or error
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/mdsens/" in frame.filename]
    names = [f"{Path(f.filename).name}:{f.name}" for f in (*ours[-1:], *frames[-1:])]
    return " ".join([type(error).__name__, *dict.fromkeys(names)])


def shrunk(data: bytes, where: str, failure) -> bytes:
    """The same failure from less: pieces are left out for as long as it stays where it is."""
    end, size = time.monotonic() + 20.0, max(1, len(data) // 2)
    while size and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            less = data[:at] + data[at + size :]
            if failure(less)[0] == where:
                data = less
            else:
                at += size
        size //= 2
    return data


def keep(findings: Path, reader: str, data: bytes, where: str, report: str) -> None:
    """Keep a finding, the first for its place."""
    name = f"{reader}-{hashlib.sha1(where.encode()).hexdigest()[:10]}"
    path = findings / f"{name}.txt"
    if not path.exists():
        (findings / f"{name}.bin").write_bytes(data)
        path.write_text(f"{where}\n\n{data[:3000]!r}\n\n{report}", "utf-8")


def _too_slow(*_) -> None:
    raise TooSlowError(f"more than {SLOW} s")


if __name__ == "__main__":
    main()
