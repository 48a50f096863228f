"""The one door for values: what a user gives is a number, an index, a mask, or refused in a line.

A value of another kind than what is asked for is refused and never cast: text is no number, a
boolean is no number, a float is no index, and what is not a number (NaN) is no value. The line says
the name, what was given, and what is allowed. Arrays that JAX is tracing have a type and a shape
to check, and numbers only later.
"""

import contextlib
import difflib
import math
import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mdsens.errors import InputError

#: So many numbers are shown where some of them are not finite.
FEW = 8
#: A shape as it is asked for: sizes, or names of sizes that may be anything.
Shape = tuple[int | str, ...]


def shown(value: Any, limit: int = 80) -> str:
    """A value as it can be put into one line of text.

    Arguments:
        value: anything.
        limit: length from which on something in the middle is left out.

    Returns:
        Its representation, on one line.
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:
        # An integer of thousands of digits has none, for one.
        text = f"a {type(value).__name__}"
    # The end tells as much as the beginning: of a path it is the file's name.
    end = limit // 3
    return text if len(text) <= limit else f"{text[: limit - end - 3]}...{text[-end:]}"


def nearest(name: Any, allowed: Iterable[str], likeness: float = 0.5, most: int = 1) -> str:
    """A question that names the nearest matches, or nothing if there is none near.

    Arguments:
        name: what was given.
        allowed: what there is.
        likeness: from 0 to 1, the least that counts as near.
        most: how many to name.

    Returns:
        E.g. ``"; did you mean 'sigma'?"``, or an empty string.
    """
    given, known = str(name), list(allowed)
    # A table's name is meant for its entries, which have brackets.
    written = dict(zip(known, known, strict=True))
    if "[" not in given:
        for one in reversed(known):
            written[one.partition("[")[0]] = one
    near = difflib.get_close_matches(given, written, most, likeness)
    meant = list(dict.fromkeys(written[one] for one in near))
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""


def listing(items: Iterable[Any], limit: int = 8) -> str:
    """The first few of many items, and how many more there are.

    Arguments:
        items: anything that can be written.
        limit: how many to name.

    Returns:
        E.g. ``"0, 3 and 12 more"``.
    """
    given = list(items)
    text = ", ".join(str(item) for item in given[:limit])
    return text + (f" and {len(given) - limit} more" if len(given) > limit else "")


def items(value: Any) -> list[Any] | None:
    """What something holds, if it holds several things.

    Arguments:
        value: anything; a list, a tuple, an array with dimensions, a generator.

    Returns:
        Its items; None for text, bytes, and whatever holds none.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return None
    # An array without dimensions passes for an iterable.
    return list(value) if getattr(value, "ndim", 1) > 0 else None


def is_traced(value: Any) -> bool:
    """Whether JAX is tracing the value, or one in a list of values, so that it has no number."""
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    try:
        leaves = jax.tree.leaves(value)
    except ValueError:
        # A table whose keys have no order, which is none that JAX knows.
        return False
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def real(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """A finite number.

    Arguments:
        value: an integer or a float of Python, NumPy or JAX.
        name: what it is called, for the message.
        above: it must be larger than this.
        at_least: it must be no smaller than this.
        below: it must be smaller than this.
        at_most: it must be no larger than this.

    Returns:
        The number.

    Raises:
        InputError: text, a boolean, several numbers, NaN or infinity, or outside the bounds.
    """
    wanted = "a finite number" + _bounds(above, at_least, below, at_most)
    scalar = _scalar(value)
    if is_traced(value):
        raise InputError(f"{name} is being traced: give {wanted}, outside jit, grad and vmap")
    if isinstance(scalar, (bool, np.bool_)) or not isinstance(scalar, numbers.Real):
        raise InputError(f"{name} = {shown(value)}: give {wanted}")
    try:
        number = float(scalar)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not _within(number, above, at_least, below, at_most):
        raise InputError(f"{name} = {shown(value)}: give {wanted}")
    # Zero has one sign: others take -0.0 for a negative number.
    return number + 0.0


def integer(
    value: Any, name: str, *, at_least: int | None = None, at_most: int | None = None
) -> int:
    """A whole number.

    Arguments:
        value: an integer of Python, NumPy or JAX; a float is none, not even 1.0.
        name: what it is called, for the message.
        at_least: it must be no smaller than this.
        at_most: it must be no larger than this.

    Returns:
        The number.

    Raises:
        InputError: anything but an integer, or outside the bounds.
    """
    wanted = "a whole number" + _bounds(None, at_least, None, at_most)
    scalar = _scalar(value)
    if isinstance(scalar, (bool, np.bool_)) or not isinstance(scalar, numbers.Integral):
        raise InputError(f"{name} = {shown(value)}: give {wanted}")
    if not _within(int(scalar), None, at_least, None, at_most):
        raise InputError(f"{name} = {shown(value)}: give {wanted}")
    return int(scalar)


def boolean(value: Any, name: str) -> bool:
    """True or False.

    Arguments:
        value: a boolean of Python, NumPy or JAX; a number or text is none.
        name: what it is called, for the message.

    Returns:
        The value.

    Raises:
        InputError: anything else.
    """
    scalar = _scalar(value)
    if not isinstance(scalar, (bool, np.bool_)):
        raise InputError(f"{name} = {shown(value)}: give True or False")
    return bool(scalar)


def text(value: Any, name: str) -> str:
    """Text that is not empty.

    Arguments:
        value: a str.
        name: what it is called, for the message.

    Returns:
        The text.

    Raises:
        InputError: no text, or none in it.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} = {shown(value)}: give text")
    return str(value)


def choice(value: Any, name: str, allowed: Iterable[str | None]) -> Any:
    """One of a few values.

    Arguments:
        value: what was given.
        name: what it is called, for the message.
        allowed: the texts there are, and None where nothing is one.

    Returns:
        The value.

    Raises:
        InputError: none of them; the nearest is named.
    """
    names = list(allowed)
    # By identity or as text: an array or a list compares in ways of its own, or not at all.
    if any(value is one for one in names) or (isinstance(value, str) and value in names):
        return value
    texts = [one for one in names if one is not None]
    raise InputError(
        f"{name} = {shown(value)}: allowed are {', '.join(map(str, names))}{nearest(value, texts)}"
    )


def distinct_names(value: Any, name: str) -> tuple[str, ...]:
    """Names, each once.

    Arguments:
        value: one name, or several in a list, a tuple or an array.
        name: what they are called, for the message.

    Returns:
        The names.

    Raises:
        InputError: no texts, none at all, or one of them twice.
    """
    given = [value] if isinstance(value, str) else value
    if isinstance(given, np.ndarray) and given.ndim == 1:
        given = given.tolist()
    if not isinstance(given, (list, tuple)) or not given:
        raise InputError(f"{name} = {shown(value)}: give a name, or a list of different names")
    for one in given:
        if not isinstance(one, str) or not one.strip():
            raise InputError(f"{name} = {shown(value)}: {shown(one)} is no name; give text")
    twice = [one for index, one in enumerate(given) if one in given[:index]]
    if twice:
        raise InputError(f"{name} = {shown(value)}: {twice[0]!r} is given twice; give each once")
    return tuple(str(one) for one in given)


def real_array(
    value: Any,
    name: str,
    shape: Shape | None = None,
    finite: bool = True,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Real numbers in an array of double precision.

    Arguments:
        value: an array, or numbers in lists; integers and single precision are taken too.
        name: what it is called, for the message.
        shape: what shape it must have: sizes, or letters for any size; None: any shape.
        finite: whether each number must be finite.
        above: each must be larger than this.
        at_least: each must be no smaller than this.
        below: each must be smaller than this.
        at_most: each must be no larger than this.

    Returns:
        A NumPy array, its own copy; the array itself, in double precision, if JAX traces it, and
        then of numbers yet unknown.

    Raises:
        InputError: text, booleans, complex numbers, another shape, numbers that are not finite, or
            outside the bounds.
    """
    array = _array(value, name, "fiu", "numbers")
    _check_shape(array, name, shape)
    if is_traced(array):
        return array.astype("float64")
    array = np.array(array, dtype=np.float64)
    bounds = (above, at_least, below, at_most)
    wanted = ("finite numbers" if array.ndim else "a finite number") + _bounds(*bounds)
    if finite and not np.isfinite(array).all():
        # Of many numbers, those that are not finite would hardly be among the few that are shown.
        few = f" = {shown(array.tolist())}" if array.size <= FEW else ""
        raise InputError(f"{name}{few} is not finite{_rows(~np.isfinite(array))}: give {wanted}")
    allowed = _allowed(array, *bounds)
    if not allowed.all():
        raise InputError(f"{name} = {shown(array.tolist())}{_rows(~allowed)}: give {wanted}")
    return array


def index_array(
    value: Any,
    name: str,
    count: int,
    shape: Shape | None = None,
    *,
    from_end: bool = True,
    traced: bool = False,
) -> Any:
    """Indices from 0 to below a count; negative ones count from the end.

    Arguments:
        value: integers in an array or in lists.
        name: what they are called, for the message.
        count: how many things there are.
        shape: as in `real_array`.
        from_end: whether negative ones are taken at all.
        traced: whether JAX may be tracing them; they are then returned as they are.

    Returns:
        Indices from 0 to count - 1, int64.

    Raises:
        InputError: floats, booleans, text, or an index that does not exist.
    """
    if is_traced(value) and not traced:
        raise InputError(f"{name} is being traced: give numbers, outside jit, grad and vmap")
    if isinstance(value, (list, tuple)) and not len(value):
        value = np.zeros(0, int)
    array = _array(value, name, "iu", "whole numbers")
    _check_shape(array, name, shape)
    if is_traced(array):
        return array
    array = np.asarray(array)
    outside = array[(array < (-count if from_end else 0)) | (array >= count)]
    if outside.size:
        raise InputError(
            f"{name} = {shown(array.tolist())}: there is no {listing(outside)}; allowed are 0 to "
            f"{count - 1}"
        )
    indices = array.astype(np.int64)
    return np.where(indices < 0, indices + count, indices)


def index(value: Any, name: str, count: int) -> int:
    """One index from 0 to below a count; a negative one counts from the end.

    Arguments:
        value: an integer.
        name: what it is called, for the message.
        count: how many things there are.

    Returns:
        The index, from 0 to count - 1.

    Raises:
        InputError: no integer, or one that does not exist.
    """
    found = integer(value, name)
    if not -count <= found < count:
        raise InputError(f"{name} = {found}: there is none; allowed are 0 to {count - 1}")
    return found % count


def mask(value: Any, name: str, count: int, *, traced: bool = False) -> Any:
    """Which of some things are meant: a mask, or indices, each once.

    Integers are indices and never a mask; a mask consists of booleans.

    Arguments:
        value: booleans, one for each of them, or integers.
        name: what it is called, for the message.
        count: how many things there are.
        traced: whether JAX may be tracing a mask; it is then returned as it is.

    Returns:
        Shape (count,), booleans.

    Raises:
        InputError: a mask of another length, numbers that are no indices, or an index twice.
    """
    if is_traced(value) and not traced:
        raise InputError(f"{name} is being traced: give numbers, outside jit, grad and vmap")
    if isinstance(value, (list, tuple)) and not len(value):
        value = np.zeros(0, int)
    array = _array(value, name, "biu", "a mask of booleans, or indices")
    if array.dtype == bool or is_traced(array):
        if array.dtype != bool or array.shape != (count,):
            raise InputError(
                f"{name} has shape {array.shape}: give a mask of shape ({count},), or indices"
            )
        return array if is_traced(array) else np.array(array)
    indices = index_array(array, name, count, ("n",))
    chosen, times = np.unique(indices, return_counts=True)
    if (times > 1).any():
        raise InputError(
            f"{name} = {shown(indices.tolist())}: {listing(chosen[times > 1])} is given twice; "
            "give each index once, or a mask of booleans"
        )
    found = np.zeros(count, bool)
    found[indices] = True
    return found


def instance(value: Any, name: str, kind: type | tuple[type, ...], what: str) -> Any:
    """A value of a class.

    Arguments:
        value: what was given.
        name: what it is called, for the message.
        kind: the class, or several.
        what: what to give instead, e.g. ``"a mdsens.System, as from System.from_ase"``.

    Returns:
        The value.

    Raises:
        InputError: it is of another class.
    """
    if not isinstance(value, kind):
        if isinstance(value, type):
            if issubclass(value, kind):
                what = f"what it makes, {value.__name__}(...)"
            raise InputError(f"{name} is the class {value.__name__}: give {what}")
        raise InputError(f"{name} is a {type(value).__name__}: give {what}")
    return value


def _scalar(value: Any) -> Any:
    """A number out of an array of one that has no dimensions; anything else as it is."""
    if isinstance(value, np.generic):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "dtype") and not is_traced(value):
        return np.asarray(value)[()]
    return value


def _is_mixed(value: Any) -> bool:
    """Whether booleans stand between numbers in lists; NumPy would make numbers of them."""
    if not isinstance(value, (list, tuple)):
        return False
    kinds = set()
    rest = list(value)
    while rest:
        one = rest.pop()
        if isinstance(one, (list, tuple)):
            rest.extend(one)
        elif hasattr(one, "dtype"):
            kinds.add(one.dtype == bool)
        else:
            kinds.add(isinstance(one, bool))
    return len(kinds) > 1


def _array(value: Any, name: str, kinds: str, what: str) -> Any:
    """The value as an array whose type is of one of NumPy's kinds."""
    array = None
    if not isinstance(value, (str, bytes, Mapping, set)) and value is not None:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            arrays = sys.modules["jax"].numpy if is_traced(value) else np
            array = None if _is_mixed(value) else arrays.asarray(value)
    # JAX has floating-point types of its own, which NumPy calls void.
    if array is None or array.dtype.kind not in kinds:
        raise InputError(f"{name} = {shown(value)}: give {what}, in an array or in lists")
    return array


def _check_shape(array: Any, name: str, shape: Shape | None) -> None:
    if shape is None:
        return
    fits = len(shape) == array.ndim and all(
        isinstance(asked, str) or asked == size
        for asked, size in zip(shape, array.shape, strict=True)
    )
    if not fits:
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        wanted = f"give ({sizes})" if shape else "give one number"
        raise InputError(f"{name} has shape {tuple(array.shape)}: {wanted}")


def _rows(bad: np.ndarray | np.bool_) -> str:
    """Which rows hold something bad, as a part of a sentence; nothing of what is no array."""
    if isinstance(bad, np.bool_):
        return ""
    return f" in rows {listing(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1)))}"


def _within(number: float, *bounds: float | None) -> bool:
    return bool(_allowed(np.asarray(number), *bounds))


def _allowed(
    numbers: np.ndarray,
    above: float | None,
    at_least: float | None,
    below: float | None,
    at_most: float | None,
) -> np.ndarray:
    """Whether each number is within the bounds."""
    allowed = np.ones(numbers.shape, bool)
    if above is not None:
        allowed &= numbers > above
    if at_least is not None:
        allowed &= numbers >= at_least
    if below is not None:
        allowed &= numbers < below
    if at_most is not None:
        allowed &= numbers <= at_most
    return allowed


def _bounds(
    above: float | None, at_least: float | None, below: float | None, at_most: float | None
) -> str:
    if above is not None and (below is not None or at_most is not None):
        end = f"below {below:g}" if below is not None else f"up to {at_most:g}"
        return f" above {above:g} and {end}"
    parts = []
    if above is not None:
        parts.append(f"above {above:g}")
    if at_least is not None:
        parts.append(f"of at least {at_least:g}")
    if below is not None:
        parts.append(f"below {below:g}")
    if at_most is not None:
        parts.append(f"of at most {at_most:g}")
    return (" " + " and ".join(parts)) if parts else ""
