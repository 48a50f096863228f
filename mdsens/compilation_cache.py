"""Compiled code that is kept on disk for the next run of the command."""

import contextlib
import functools
import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

#: The folder of compiled code is emptied to half of this many bytes when it holds more.
CACHE_LIMIT = 2**30
#: Earlier releases crash on macOS when they load compiled code from disk.
CACHE_JAXLIB = (0, 10)
#: What /proc/cpuinfo calls the things that compilers look at, on the processors of various makers.
CACHE_PROCESSOR = {
    "cpu architecture", "cpu family", "cpu implementer", "cpu part", "cpu variant", "features",
    "flags", "isa", "model", "model name", "stepping", "uarch", "vendor_id",
}  # fmt: skip


_wanted = False


def keep_compiled_code() -> None:
    """Keep on disk what this process compiles, if JAX is imported after this and nobody objects."""
    global _wanted
    if "jax" in sys.modules or os.environ.get("MDSENS_CACHE", "").lower() == "off":
        return
    # Where there is AVX-512, XLA adds preferences such as prefer-no-gather to the features that it
    # compiles for, misses them among the processor's when it loads the code, and says so at length
    # for every function: https://github.com/openxla/xla/issues/44565. It loads the code all the
    # same; that it is from this processor is seen to by `cache_folder`.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _wanted = True


def folder_of_programs() -> Path | None:
    """Where this process keeps the programs of mdsens; None where it keeps none."""
    return _folder_of_process() if _wanted else None


@functools.cache
def _folder_of_process() -> Path | None:
    return cache_folder(os.environ)


def cache_home(environment: Mapping[str, str]) -> Path:
    """The folder for compiled code of every kind; RuntimeError if there is no home to hold it."""
    asked = environment.get("MDSENS_CACHE")
    home = Path(environment.get("XDG_CACHE_HOME") or "~/.cache")
    return (Path(asked) if asked else home / "mdsens").expanduser().absolute()


def cache_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder for code that this computer can run, made if need be; None if there is none."""
    from importlib.metadata import version

    jaxlib = version("jaxlib")
    if tuple(int(part) for part in jaxlib.split(".")[:2]) < CACHE_JAXLIB:
        return None
    folder = None
    try:
        folder = cache_home(environment)
        # Compiled code may crash on another processor, and JAX itself does not see to that.
        folder = folder / f"jaxlib-{jaxlib}-{processor_name()}"
        # Who can write to it can have any code executed.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        forget_oldest(folder)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    announce(f"cannot write compiled code to {str(folder or '~/.cache')!r}: set MDSENS_CACHE to a "
             "folder, or to off")  # fmt: skip
    return None


def kept_code() -> tuple[Path, int, int]:
    """The folder for compiled code of every kind, and the number and the bytes of its files."""
    folder = cache_home(os.environ)
    files = _files(folder)
    return folder, len(files), sum(status.st_size for _, status in files)


def clear_cache() -> tuple[Path, int, int]:
    """Remove all that `kept_code` counts, which is returned."""
    folder = cache_home(os.environ)
    removed = _files(folder)
    for path, _ in removed:
        path.unlink(missing_ok=True)
    return folder, len(removed), sum(status.st_size for _, status in removed)


def _files(folder: Path, pattern: str = "jaxlib-*/*-cache") -> list[tuple[Path, os.stat_result]]:
    """Files of compiled code; another process may be removing them at this moment."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def processor_name(description: Path = Path("/proc/cpuinfo")) -> str:
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


def forget_oldest(folder: Path, limit: int = CACHE_LIMIT) -> None:
    """Remove the oldest compiled code, down to half of the limit, if there is more than that."""
    entries = _files(folder, "*-cache")
    size = sum(status.st_size for _, status in entries)
    if size <= limit:
        return
    for path, status in sorted(entries, key=lambda entry: entry[1].st_mtime):
        if size <= limit // 2:
            return
        path.unlink(missing_ok=True)
        size -= status.st_size


def announce(text: str) -> None:
    """Say what goes on, where output does not go."""
    print(text, file=sys.stderr, flush=True)
