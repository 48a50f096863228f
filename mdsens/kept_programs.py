"""Programs that are kept on disk, under names made from all that they were compiled from.

A name is the digest of the function's name and its arguments, written down; of the files of mdsens;
and of the releases and the settings of what compiles. What cannot be written down, or is somebody
else's code, which may change while its name stays, has no name and is not kept.
"""

import atexit
import contextlib
import functools
import hashlib
import io
import os
import pickle
import platform
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

from mdsens.compilation_cache import folder_of_programs
from mdsens.resources import available_cores

#: Packages whose releases stand for their code; of this one, its files do.
PACKAGES = ("jax", "jaxlib", "numpy", "equinox", "lineax", "optimistix", "jax_md", "ml_dtypes")
#: The setting that names the folder where JAX keeps what it compiles.
FOLDER_OF_JAX = "jax_compilation_cache_dir"
#: Where all that is part of a program may be defined.
KNOWN = {"mdsens", "builtins", "collections", "functools", "operator", *PACKAGES}

_NAME = re.compile("[0-9a-f]{64}")
#: Names of the programs that this process has needed, and programs that are being read for it.
_used: dict[str, None] = {}
_ahead: dict[str, Future[tuple[Any, Any] | None]] = {}

_known_task = False

#: How writing down fails.
_NOT_WRITTEN = (pickle.PicklingError, AttributeError, TypeError, ValueError, RecursionError)


class _Unknown(pickle.PicklingError):
    """Something is not defined where its release or its files tell what it is."""


class _Description(pickle.Pickler):
    """Writes down what a program depends on."""

    def reducer_override(self, given: Any) -> Any:
        """As ever; but no code that nothing tells apart from its next version."""
        # Of modules that have been taken apart, Equinox says by something else that they have none.
        if isinstance(getattr(given, "__qualname__", None), str):
            module = getattr(given, "__module__", None) or ""
            if module.partition(".")[0] not in KNOWN:
                raise _Unknown(module)
        return NotImplemented


def name(function: Any, described: Any, options: Mapping[str, Any]) -> str | None:
    """The name that a program is kept under; None where it is not kept.

    Arguments:
        function: what is compiled.
        described: its arguments, an array by its kind, and settings; anything that can be pickled.
        options: options of the compiler.

    Returns:
        A name that no other program has.
    """
    if folder_of_programs() is None or jax_keeps():
        return None
    if jax.device_count() > 1 or jax.default_backend() != "cpu":
        return None
    written = io.BytesIO()
    pickler = _Description(written)
    # Equal parts are written alike, whether they are the same object or not.
    pickler.fast = True
    try:
        pickler.dump((_name_of(function), described, sorted(options.items()), circumstances()))
    except _NOT_WRITTEN:
        return None
    return hashlib.sha256(written.getvalue()).hexdigest()


def is_told_by_releases(described: Any) -> bool:
    """Whether what a program depends on can be written down, and holds nobody else's code."""
    try:
        _Description(io.BytesIO()).dump(described)
    except _NOT_WRITTEN:
        return False
    return True


def jax_keeps() -> bool:
    """Whether JAX keeps what it compiles: what it reads there cannot be written a second time."""
    return getattr(jax.config, FOLDER_OF_JAX) is not None


def _name_of(function: Any) -> str:
    full = f"{function.__module__}.{function.__qualname__}"
    if full.partition(".")[0] not in KNOWN or "<" in full:
        raise _Unknown(full)
    return full


@functools.cache
def circumstances() -> tuple[Any, ...]:
    """All that decides what a program becomes, other than what it was made for."""
    package = Path(__file__).parent
    files = []
    for path in sorted(package.rglob("*.py")):
        status = path.stat()
        files.append((str(path.relative_to(package)), status.st_size, status.st_mtime_ns))
    # Code has as many parts as there are cores to work side by side.
    machine = platform.python_version(), os.environ.get("XLA_FLAGS"), available_cores()
    return files, *map(_release, PACKAGES), *machine


def _release(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read(name: str | None) -> tuple[Any, Any] | None:
    """A program that was kept: its code and what it returns; None if there is none."""
    folder = folder_of_programs()
    if name is None or folder is None:
        return None
    reading = _ahead.pop(name, None)
    # What has not begun to be read is read sooner here.
    waits = reading is not None and not reading.cancel()
    found = reading.result() if reading is not None and waits else _read(_path(folder, name))
    if found is not None:
        _used[name] = None
    return found


def read_ahead(task: str) -> None:
    """Have another thread read the programs that an earlier process needed for the same task.

    Reading takes a tenth of a second for each megabyte, most of it outside of Python, and goes on
    beside what this process imports. They are read in the order in which they were needed. What
    this process needs is noted when it ends.

    Arguments:
        task: what it is, with all that decides which programs it needs.
    """
    global _known_task
    folder = folder_of_programs()
    if folder is None or jax_keeps() or available_cores() < 2 or jax.default_backend() != "cpu":
        return
    written = pickle.dumps((task, circumstances()))
    note = _path(folder, hashlib.sha256(written).hexdigest())
    atexit.register(_note, note)
    pool = ThreadPoolExecutor(1)
    with contextlib.suppress(OSError):
        for name in filter(_NAME.fullmatch, note.read_text().split()):
            _known_task = True
            _ahead[name] = pool.submit(_read, _path(folder, name))
    pool.shutdown(wait=False)


def knows_task() -> bool:
    """Whether an earlier process has noted which programs the task of `read_ahead` needs."""
    return _known_task


def stop_reading_ahead() -> None:
    """Read nothing more ahead, and note nothing: what this was done for has failed.

    Otherwise the process would end only when all is read.
    """
    atexit.unregister(_note)
    for reading in _ahead.values():
        reading.cancel()


def _note(path: Path) -> None:
    """Write down which programs this process has needed."""
    text = "\n".join(_used)
    with contextlib.suppress(OSError):
        if text and not (path.is_file() and path.read_text() == text):
            _put(path, text.encode())


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}-cache"


def _read(path: Path) -> tuple[Any, Any] | None:
    try:
        content = path.read_bytes()
        digest, content = content[:32], content[32:]
        # Damaged code would take the process down.
        if hashlib.sha256(content).digest() != digest:
            return None
        _make_lapack_ready()
        *code, results = pickle.loads(content)
        found = serialize_executable.deserialize_and_load(*code), results
    except Exception:  # whatever is wrong with the file, the program is compiled anew
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


@functools.cache
def _make_lapack_ready() -> None:
    """JAX hands LAPACK to compiled code when it first makes some that uses it.

    Of whatever precision, which may not be set yet where programs are read ahead.
    """
    matrix = jax.ShapeDtypeStruct((1, 1), "float32")
    jax.jit(jax.lax.linalg.cholesky).lower(matrix)


def write(name: str | None, code: Any, results: Any) -> None:
    """Keep a program; where that is impossible, it is compiled again next time.

    Arguments:
        name: from `name`; None: it is not kept.
        code: what JAX has compiled.
        results: what it returns.
    """
    folder = folder_of_programs()
    if name is not None and folder is not None:
        _used[name] = None
        _writer().submit(_write, _path(folder, name), code, results)


@functools.cache
def _writer() -> ThreadPoolExecutor:
    """Writes while something else is done; whoever ends the process waits for it."""
    return ThreadPoolExecutor(1)


def _write(path: Path, code: Any, results: Any) -> None:
    try:
        content = pickle.dumps((*serialize_executable.serialize(code), results))
    except Exception:
        return
    _put(path, hashlib.sha256(content).digest() + content)


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever else reads or writes it."""
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        draft.write_bytes(content)
        os.replace(draft, path)
