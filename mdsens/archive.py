"""Results in files: arrays bit for bit, and all else as text. Nothing in a file is ever executed.

A file is an npz of NumPy. Each array of a result is an entry of it; the entry ``contents`` is JSON
that says which objects there are, by their classes, and what each holds. An object that several
others hold is written once.
"""

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from mdsens.errors import InputError
from mdsens.files import path_of, replacing
from mdsens.values import is_traced, shown

#: Version of the layout of files.
SCHEMA = 1
#: Ending of files, and the entry that is no array of a result.
SUFFIX, CONTENTS = ".npz", "contents"


class Archived:
    """A class whose objects are saved in files and loaded from them, the same in every bit."""

    #: Whether files are made smaller, which takes long; and what to do about a damaged one.
    compressed: ClassVar[bool] = True
    remedy: ClassVar[str] = "save the result again"

    def save(self, path: str | Path) -> None:
        """Write to a file, which `load` reads.

        Arguments:
            path: the file, with the ending ``.npz``; one that is there is replaced.

        Raises:
            InputError: another ending, something that no file can hold, as what JAX traces, or the
                file cannot be written.
        """
        path = path_of(path, "path")
        if path.suffix != SUFFIX:
            raise InputError(f"cannot write {shown(path.name)}: the allowed ending is {SUFFIX}")
        writer = _Writer()
        writer.plain(self, type(self).__name__)
        contents = {"program": "mdsens", "schema": SCHEMA, "objects": writer.objects}
        text = json.dumps(contents, allow_nan=False).encode()
        entries: dict[str, Any] = {f"array{i}": array for i, array in enumerate(writer.arrays)}
        entries[CONTENTS] = np.frombuffer(text, np.uint8)
        with replacing(path) as file:
            (np.savez_compressed if self.compressed else np.savez)(file, **entries)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` has written.

        A potential of a class of your own is loaded once its module has been imported.

        Arguments:
            path: the file.

        Returns:
            The same as was saved, in every bit.

        Raises:
            InputError: no such file, one that `save` has not written, a damaged one, one of a later
                version, one of another kind of result, or a class that is not there.
        """
        path = path_of(path, "path")
        found = _read(path, cls.remedy)
        if not isinstance(found, cls):
            kind = type(found).__name__
            raise InputError(
                f"{shown(str(path))} holds a {kind}, and no {cls.__name__}: use {kind}.load"
            )
        return found


def is_holdable(value: Any) -> bool:
    """Whether a file can hold a value; functions, as those that make calculators, it cannot."""
    try:
        digest(value, "value")
    except InputError:
        return False
    return True


def digest(value: Any, where: str) -> str:
    """A text that two values share if a file that holds them would be the same.

    Arguments:
        value: whatever a file can hold.
        where: what it is called, for messages.

    Returns:
        A digest, hexadecimal.

    Raises:
        InputError: something that no file can hold.
    """
    writer = _Writer()
    head = writer.plain(value, where)
    found = hashlib.sha256(json.dumps([head, writer.objects]).encode())
    for array in writer.arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Importable:
    """A class whose subclasses, wherever they are defined, may be loaded from files."""


def can_hold(kind: type) -> bool:
    """Whether a file can hold objects of a class.

    Arguments:
        kind: the class.

    Returns:
        Whether it is one of mdsens that holds data, or a subclass of `Importable`, and is found by
        its name.
    """
    try:
        return _class_named(kind.__module__, kind.__qualname__) is kind
    except InputError:
        return False


class _Writer:
    """Objects and arrays, each once, in an order in which each holds only earlier ones."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.arrays: list[np.ndarray] = []
        # What was written, by its identity; held here, so that no other gets that identity.
        self.known: dict[int, tuple[Any, dict[str, int]]] = {}

    def plain(self, value: Any, where: str) -> Any:
        """A value as JSON can hold it; ``where`` names it in messages."""
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, np.generic):
            return self.plain(value.item(), where)
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, list):
            return [self.plain(item, where) for item in value]
        if isinstance(value, tuple) and type(value) is tuple:
            return {"tuple": [self.plain(item, where) for item in value]}
        if isinstance(value, dict):
            items = [[self.plain(key, where), self.plain(v, where)] for key, v in value.items()]
            return {"dict": items}
        if id(value) not in self.known:
            self.known[id(value)] = value, self._once(value, where)
        return self.known[id(value)][1]

    def _once(self, value: Any, where: str) -> dict[str, int]:
        if is_traced(value):
            raise InputError(f"{where} is being traced: save it outside jit, grad and vmap")
        if isinstance(value, bytes):
            return self._array(np.frombuffer(value, np.uint8), "bytes")
        if isinstance(value, (np.ndarray, jax.Array)) and value.dtype.kind in "biufcSU":
            kind = "jax" if isinstance(value, jax.Array) else "numpy"
            return self._array(np.asarray(value), kind)
        if not can_hold(type(value)):
            raise InputError(
                f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which no file "
                "can hold: give potentials of classes that can be imported, which hold arrays, "
                "numbers, text and such potentials"
            )
        state = {
            name: self.plain(held, f"{where}.{name}") for name, held in _state_of(value).items()
        }
        class_name = [type(value).__module__, type(value).__qualname__]
        self.objects.append({"class": class_name, "state": state})
        return {"object": len(self.objects) - 1}

    def _array(self, array: np.ndarray, kind: str) -> dict[str, int]:
        self.arrays.append(array)
        return {kind: len(self.arrays) - 1}


class _Reader:
    """Objects as they are made anew, in the order in which they were written."""

    def __init__(self, entries: Any) -> None:
        self.entries, self.objects = entries, list[Any]()
        self.arrays: dict[tuple[str, int], Any] = {}

    def make(self, written: dict[str, Any]) -> Any:
        """The next object."""
        kind = _class_named(*written["class"])
        state = {name: self.value(held) for name, held in written["state"].items()}
        made: Any = object.__new__(kind)
        if hasattr(kind, "__setstate__"):
            made.__setstate__(state)
        else:
            # What a class holds since a later version has the value that it had without a word.
            for field in dataclasses.fields(kind):
                if field.default is not dataclasses.MISSING:
                    state.setdefault(field.name, field.default)
            if state.keys() != {field.name for field in dataclasses.fields(kind)}:
                raise ValueError(f"{kind.__name__} has other fields")
            vars(made).update(state)
        self.objects.append(made)
        return made

    def value(self, written: Any) -> Any:
        """The value that `_Writer.plain` has written."""
        if isinstance(written, list):
            return [self.value(item) for item in written]
        if not isinstance(written, dict):
            return written
        ((kind, held),) = written.items()
        if kind == "float":
            return float(held)
        if kind == "tuple":
            return tuple(self.value(item) for item in held)
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in held}
        if kind == "object":
            return self.objects[held]
        if (kind, held) not in self.arrays:
            self.arrays[kind, held] = self._array(kind, self.entries[f"array{held}"])
        return self.arrays[kind, held]

    def _array(self, kind: str, array: np.ndarray) -> Any:
        if kind == "bytes":
            return array.tobytes()
        if kind == "numpy":
            return array
        if kind != "jax":
            raise ValueError(f"no value is a {kind}")
        found = jnp.asarray(array)
        if found.dtype != array.dtype:
            raise InputError(
                f"double precision is off in JAX, and a file holds {array.dtype}: switch it on, as "
                "importing mdsens.particles does"
            )
        return found


def _read(path: Path, remedy: str) -> Any:
    """What a file holds."""
    name = shown(str(path))
    try:
        with path.open("rb") as file:
            # Every file of zip begins so; where its end is lost, it is none for readers of zip.
            if file.read(4) != b"PK\x03\x04":
                raise _no_file_of_ours(name)
            file.seek(0)
            with np.load(file, allow_pickle=False) as entries:
                if CONTENTS not in entries:
                    raise _no_file_of_ours(name)
                contents = json.loads(bytes(entries[CONTENTS]))
                if contents["program"] != "mdsens":
                    raise _no_file_of_ours(name)
                if contents["schema"] > SCHEMA:
                    raise InputError(
                        f"{name} was written by a later version of mdsens, in layout "
                        f"{contents['schema']}, and this one reads up to {SCHEMA}: update mdsens"
                    )
                reader = _Reader(entries)
                return [reader.make(written) for written in contents["objects"]][-1]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        # A reader of zip, NumPy, JSON or ours: each has errors of its own for damaged bytes.
        raise InputError(
            f"{name} is damaged or cut short ({type(error).__name__}): {remedy}"
        ) from error


def _no_file_of_ours(name: str) -> InputError:
    return InputError(f"{name} holds no result of mdsens: give a file that `save` has written")


def _state_of(value: Any) -> dict[str, Any]:
    """What makes up an object: what it says itself, as for pickle, or all its fields."""
    if hasattr(type(value), "__setstate__"):
        state: dict[str, Any] = value.__getstate__()
        return state
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _class_named(module: str, name: str) -> type:
    """A class of mdsens that holds data, or one of a user's that may be loaded.

    Raises:
        InputError: it is not there, or is another.
    """
    whole = f"{module}.{name}"
    try:
        # Nothing is imported, for that would execute what a file names.
        found: Any = sys.modules[module]
        for part in name.split("."):
            found = getattr(found, part)
    except (KeyError, AttributeError):
        raise InputError(
            f"class {shown(whole)} is not there: import the module that defines it, under that "
            "name, before you load the file"
        ) from None
    own = module.split(".")[0] == "mdsens"
    if not isinstance(found, type) or not (
        # Not what a module has imported from elsewhere.
        (found.__module__, found.__qualname__) == (module, name)
        and (
            issubclass(found, Importable)
            or (own and (dataclasses.is_dataclass(found) or hasattr(found, "__setstate__")))
        )
    ):
        raise InputError(
            f"{shown(whole)} is no class that a file of results may hold: allowed are those of "
            "mdsens, and subclasses of mdsens.Potential"
        )
    return found
