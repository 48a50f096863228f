"""Compiled code that is kept on disk for the next run of the command."""

import contextlib
import hashlib
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

#: The folder of compiled code is emptied to half of this many bytes when it holds more.
CACHE_LIMIT = 256_000_000
#: Earlier releases crash on macOS when they load compiled code from disk.
CACHE_JAXLIB = (0, 10)
#: What /proc/cpuinfo calls the things that compilers look at, on the processors of various makers.
CACHE_PROCESSOR = {
    "cpu architecture", "cpu family", "cpu implementer", "cpu part", "cpu variant", "features",
    "flags", "isa", "model", "model name", "stepping", "uarch", "vendor_id",
}  # fmt: skip


def keep_compiled_code() -> None:
    """Let JAX keep on disk what it compiles, so that the next run need not compile it again."""
    if "jax" in sys.modules:
        # It has read its settings already, and whoever imported it may have made others.
        return
    for name, value in cache_settings(os.environ).items():
        os.environ.setdefault(name, value)
    # A damaged entry or a full disk costs time, nothing else.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def cache_settings(environment: Mapping[str, str]) -> dict[str, str]:
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
        folder = folder.expanduser().absolute() / f"jaxlib-{jaxlib}-{processor_name()}"
        # Who can write to it can have any code executed.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        forget_oldest(folder)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # the latter: there is no home
        writable = False
    if not writable:
        announce(f"cannot write compiled code to {str(folder)!r}: set MDSENS_CACHE to a folder, "
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
    entries = []
    for path in folder.glob("*-cache"):
        # Another run may be forgetting them at this moment.
        with contextlib.suppress(FileNotFoundError):
            entries.append((path, path.stat()))
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
