"""What an observable is, and how its name is read."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.archive import can_hold
from mdsens.errors import InputError, warn
from mdsens.units import in_dimensions, unit_name
from mdsens.values import is_traced, nearest, shown, text

if TYPE_CHECKING:
    from mdsens.particles import System
    from mdsens.relaxation import Equilibrium


#: What of an observable no file holds.
_FUNCTIONS = ("function", "stationary", "require", "nearly", "examine", "asks", "caution")


@dataclasses.dataclass(frozen=True)
class Observable:
    """A differentiable function of an Equilibrium.

    The name stands for all that the observable is: it is made from every argument at full
    precision, and two of one name are the same. Those of this package that are asked for alike are
    equal, and so are those that hold the same function.

    Arguments:
        name: what it is called in results, e.g. ``"distance(0,1)"``.
        dimension: its physical dimension, e.g. ``"energy/length"``, or ``"energy/volume"``, which
            is energy/length^2 in two dimensions.
        function: takes an Equilibrium, returns a scalar or an array of real numbers.
        labels: names of the entries of an array, e.g. ``("xx", "yy", "xy")``; empty for numbers.
        traceable: whether the function may be compiled; False if it searches for edges.
        stationary: takes an Equilibrium, returns arrays that the function takes as a second
            argument, and in which its value is stationary where they are these: eigenvectors, or
            displacements at which an energy is least. First derivatives then need no derivatives of
            theirs, and they are computed once, before, where nothing is traced.
        require: takes an Equilibrium, raises InputError where there can be no value, whatever the
            positions and parameters; None: the function is tried, which one with `stationary`
            cannot be.
        nearly: as `stationary`, of half as many digits, where that takes less time: enough for a
            value, whose error is their square. None: `stationary`.
        examine: takes a value, numbers, and warns where it is not what it seems; None: nothing is
            said.
        asks: takes what `stationary` returns (None where there is none), returns what the function
            will ask the Equilibrium for: name and argument of a method that computes what several
            observables ask for together, as `Equilibrium.curvature_in_strain` does.
        caution: takes an Equilibrium of numbers and the names of conditions that may break its
            symmetry, and warns where there is no derivative in these; None: there is one.
        fills_from: number of atoms from which on the value stays what it is where more atoms, which
            touch nothing, come after all others: compiled code then serves several sizes. None: it
            does not, or nobody knows.
        held_tells: whether what `stationary` returns tells the value at the very equilibrium that
            it was made for, with next to no arithmetic: nothing is compiled for the value then.

    Raises:
        InputError: no name, no physical dimension, or no function.
    """

    name: str
    dimension: str
    function: Callable[..., Float[Array, "..."]]
    labels: tuple[str, ...] = ()
    traceable: bool = True
    stationary: Callable[["Equilibrium"], Any] | None = None
    require: Callable[["Equilibrium"], None] | None = None
    nearly: Callable[["Equilibrium"], Any] | None = None
    examine: Callable[[Float[np.ndarray, "..."]], None] | None = dataclasses.field(
        default=None, compare=False
    )
    asks: Callable[[Any], tuple[str, Any]] | None = None
    caution: Callable[["Equilibrium", list[str]], None] | None = dataclasses.field(
        default=None, compare=False
    )
    held_tells: bool = False
    fills_from: int | None = None

    def __post_init__(self) -> None:
        text(self.name, "the name of an observable")
        if self.stationary is not None and self.require is None:
            raise InputError(
                f"observable {self.name} has stationary, and no require: give one that raises "
                "InputError where there is no value, or does nothing"
            )
        if not callable(self.function):
            raise InputError(
                f"observable {self.name}: function = {shown(self.function)}: give a function of an "
                "Equilibrium"
            )
        try:
            hash(self.function)
        except TypeError:
            raise InputError(
                f"observable {self.name}: function = {shown(self.function)}: give one that can be "
                "told from others, as functions can, by hash and equality"
            ) from None
        object.__setattr__(self, "labels", tuple(self.labels))
        try:
            in_dimensions(self.dimension, 3)
        except InputError as error:
            raise InputError(f"observable {self.name}: {error}") from None

    def __call__(self, equilibrium: "Equilibrium", held: Any = None) -> Float[Array, "..."]:
        """The value at an equilibrium, in the units of its system.

        Arguments:
            equilibrium: the relaxed structure.
            held: what `stationary` returns there, if it is known; it is taken for constant.

        Returns:
            A number or an array.

        Raises:
            InputError: the function returns no real numbers, or numbers that are not finite.
        """
        if self.require is not None:
            self.require(equilibrium)
        if self.stationary is None:
            value = self.function(equilibrium)
        elif held is None and not is_traced(equilibrium):
            self._warn_unless_relaxed(equilibrium)
            # What it is computed from stays with the equilibrium, for the next observable.
            value = self.function(equilibrium, (self.nearly or self.stationary)(equilibrium))
        elif held is None:
            value = _with_stationary(self, equilibrium)
        else:
            value = self.function(equilibrium, held)
        try:
            array = None if isinstance(value, (str, bytes)) else jnp.asarray(value)
        except (TypeError, ValueError):
            array = None
        if array is None or array.dtype.kind not in "fiu":
            raise InputError(
                f"observable {self.name} returned {shown(value)}: give a function that returns a "
                "real number, or an array of them"
            )
        if self.labels and array.ndim == 1 and len(array) > len(self.labels):
            raise InputError(
                f"observable {self.name} returned {len(array)} numbers and has {len(self.labels)} "
                "labels: give one label for each, or none"
            )
        if not is_traced(array) and not np.isfinite(np.asarray(array)).all():
            raise InputError(
                f"observable {self.name} is not finite at this structure: {shown(array.tolist())}; "
                "leave it out, or mend its function"
            )
        if self.examine is not None and held is None and not is_traced(array):
            self.examine(np.asarray(array))
        return array.astype(jnp.float64)

    def _warn_unless_relaxed(self, equilibrium: "Equilibrium") -> None:
        """Warn where second derivatives are asked for beside a minimum."""
        if equilibrium.converged:
            return
        system = equilibrium.system
        unit = unit_name(in_dimensions("energy/length", system.dimension), system.units)
        warn(
            f"{self.name} of a structure that is not relaxed (largest force "
            f"{float(equilibrium.largest_force):.2g} {unit}, asked {equilibrium.fmax:.2g}): it is "
            "that of the structure as it is, not of one at rest; relax it with more steps"
        )

    def __getstate__(self) -> dict[str, Any]:
        # As files hold it, which hold no functions: see `__reduce__` for pickle.
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self._is_named or not can_hold(type(self.function)):
            state |= dict.fromkeys(_FUNCTIONS)
            if not self._is_named:
                state["function"] = NotKept(self.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["function"] is None:
            named = parse(state["name"])
            state = {**state, **{name: getattr(named, name) for name in _FUNCTIONS}}
        vars(self).update(state)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_named:
            return parse, (self.name,)
        return Observable, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def _is_named(self) -> bool:
        """Whether it is one of this package's that its name alone stands for."""
        try:
            return parse(self.name) == self
        except InputError:
            return False

    def check(self, equilibrium: "Equilibrium") -> None:
        """See that it can be computed at a structure; where it may be compiled, by tracing alone.

        Arguments:
            equilibrium: a structure with the atoms, the cell and the boundaries it will have.

        Raises:
            InputError: an atom that does not exist, a volume where there is none, and the like.
        """
        if self.require is not None:
            self.require(equilibrium)
        elif self.is_checked_by_tracing:
            # Another: what an equilibrium keeps of its own must not be what was traced here. One of
            # copy.copy would be kept by equinox for good, which takes it for unfinished.
            other = dataclasses.replace(equilibrium)
            # Forces that are known need not be traced, which takes long.
            vars(other).update(vars(equilibrium))
            jax.eval_shape(lambda: self.function(other))
        else:
            self.function(equilibrium)

    @property
    def is_checked_by_tracing(self) -> bool:
        """Whether `check` finds mistakes by tracing alone, which sees shapes and no numbers."""
        return self.require is None and self.traceable

    def dimension_in(self, spatial: int) -> str:
        """The physical dimension in a system of two or three dimensions.

        Arguments:
            spatial: number of spatial dimensions.

        Returns:
            In powers of energy and length, e.g. ``"energy/length^2"`` for a pressure in two.
        """
        return in_dimensions(self.dimension, spatial)

    def units_of(self, system: "System") -> str:
        """Unit of the value for a system: by its dimensions, in its system of units."""
        return unit_name(self.dimension_in(system.dimension), system.units)

    @property
    def units(self) -> str:
        """Unit of the value for a system of three dimensions in ASE's units."""
        return unit_name(self.dimension)

    def __repr__(self) -> str:
        return f"Observable({self.name!r}, units={self.units!r})"


@eqx.filter_custom_jvp
def _with_stationary(observable: Observable, equilibrium: "Equilibrium") -> Any:
    """The value with what it is stationary in, of which its first derivatives know nothing."""
    assert observable.stationary is not None
    return observable.function(equilibrium, observable.stationary(equilibrium))


@_with_stationary.def_jvp  # type: ignore[untyped-decorator]
def _derivative_with_stationary(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    (observable, equilibrium), (_, changes) = primals, tangents
    held = _differentiated_once(observable.stationary(equilibrium), observable.name)
    return eqx.filter_jvp(lambda e: observable.function(e, held), (equilibrium,), (changes,))


def _differentiated_once(held: Any, name: str) -> Any:
    """The same; an error where a second derivative would need the derivative of it."""

    @jax.custom_jvp
    def once(leaf: Array) -> Array:
        return leaf

    @once.defjvp
    def refuse(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        raise InputError(
            f"observable {name} has first derivatives alone: take those of sensitivity, jax.grad "
            "or jax.jacfwd once, and differences of them for second ones"
        )

    return jax.tree.map(lambda leaf: once(leaf) if eqx.is_inexact_array(leaf) else leaf, held)


@dataclasses.dataclass(frozen=True)
class NotKept:
    """In the place of a user's function, of which a file keeps the values alone.

    Attributes:
        name: of the observable.
    """

    name: str

    def __call__(self, equilibrium: "Equilibrium") -> Float[Array, "..."]:
        """Raise InputError, with what to do."""
        raise InputError(
            f"observable {self.name}: a file keeps its values, not its function; make the "
            "observable again to compute it"
        )


def name_of(kind: str, *arguments: Any) -> str:
    """The name of an observable, from all its arguments at full precision.

    Arguments:
        kind: e.g. ``"coordination"``.
        arguments: numbers, tuples of numbers, or dicts of texts and numbers; those that are None at
            the end are left out.

    Returns:
        E.g. ``"coordination(4.5,0.25)"``; `parse` reads it again.
    """
    given = list(arguments)
    while given and given[-1] is None:
        given.pop()
    return f"{kind}({','.join(map(exact, given))})" if given else kind


def exact(number: Any) -> str:
    """A number in as few digits as tell it from all others: 4 for 4.0, and 4.5 for 4.5.

    Several in a list, or by text in a dict, are written so each.
    """
    if isinstance(number, tuple):
        return f"[{','.join(map(exact, number))}]"
    if isinstance(number, dict):
        return "{" + ",".join(f"{key!r}:{exact(one)}" for key, one in number.items()) + "}"
    if number is None or isinstance(number, int):
        return str(number)
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def bin_labels(symbol: str, centres: Float[np.ndarray, " bins"]) -> tuple[str, ...]:
    """Names of bins by their centres, with as many digits as tell them apart.

    Arguments:
        symbol: what is binned, e.g. ``"r"``.
        centres: shape (bins,).

    Returns:
        E.g. ``("r=0.05", "r=0.15")``.
    """
    labels: tuple[str, ...] = ()
    for digits in range(4, 18):
        labels = tuple(f"{symbol}={centre:.{digits}g}" for centre in centres)
        if len(set(labels)) == len(labels):
            break
    return labels


def parse(name: str) -> Observable:
    """Read an observable from text such as ``"volume"`` or ``"distance(0, 1)"``.

    Arguments:
        name: the observable's name, with arguments as in Python; numbers, lists and dicts are
            allowed.

    Returns:
        The Observable.

    Raises:
        InputError: there is no such observable (the nearest is named), or wrong arguments.
    """
    from mdsens.observables import BY_NAME

    given = shown(text(name, "observable"))
    try:
        expression = ast.parse(name.strip(), mode="eval").body
        call = expression if isinstance(expression, ast.Call) else None
        target = call.func if call is not None else expression
        if not isinstance(target, ast.Name):
            raise ValueError
        arguments = [ast.literal_eval(node) for node in call.args] if call else []
        options = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg} if call else {}
        if call and len(options) < len(call.keywords):
            raise ValueError
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise InputError(f"observable {given} cannot be read: {_how_to_write(name)}") from None
    if target.id not in BY_NAME:
        raise InputError(
            f"observable {given} does not exist: allowed are {', '.join(BY_NAME)}"
            f"{nearest(target.id, BY_NAME)}"
        )
    factory: Callable[..., Observable] = BY_NAME[target.id]
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except TypeError as error:
        raise InputError(
            f"observable {given}: {error}; write {target.id}{_arguments(factory)}"
        ) from None
    return factory(*arguments, **options)


#: Words of TOML, JSON and Fortran, and what they are in an observable.
_PYTHON = {"true": "True", "false": "False", ".true.": "True", ".false.": "False", "null": "None"}


def _how_to_write(name: str) -> str:
    """What to write in place of text that is no observable."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", name)
    for word in re.findall(r"\.?\b[a-z]+\b\.?", bare, re.IGNORECASE):
        python = _PYTHON.get(word.lower())
        if python and word != python:
            return f"arguments are those of Python: write {python} for {word}"
    return "write a name, or a name with numbers as in distance(0,1)"


def _arguments(factory: Callable[..., Observable]) -> str:
    """How a factory is called, e.g. ``"(i, j)"``."""
    signature = inspect.signature(factory)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
