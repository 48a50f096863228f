"""Formulas over observables of one or several structures: parsed, never executed.

A formula such as ``"vacancy.energy - vacancy.atoms / bulk.atoms * bulk.energy"`` is made of
numbers, observables, numbers of atoms, + - * / **, and parentheses. Its physical dimension follows
from those of its parts, and its derivatives from theirs, exactly: it is evaluated as a Taylor
expansion of second order in its parts, by the arithmetic of such expansions (A. Griewank, A.
Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 13).
"""

import ast
import dataclasses
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.observables import ARRAYS, BY_NAME, Observable, parse
from mdsens.units import dimension_of, powers, size_of_unit
from mdsens.values import nearest, shown

#: The number of atoms of a structure, as formulas name it beside the observables.
ATOMS = "atoms"
#: Largest exponent, and largest power of energy and length of a result.
LARGEST_POWER = 9
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_ALLOWED = "numbers, observables, atoms, + - * / ** and parentheses"


class Part(NamedTuple):
    """An observable of a structure.

    Attributes:
        structure: its name; empty in a study of one structure.
        observable: the observable.
    """

    structure: str
    observable: Observable

    @property
    def name(self) -> str:
        """What it is called in results, e.g. ``"bulk.energy"``."""
        return qualified(self.structure, self.observable.name)


def qualified(structure: str, name: str) -> str:
    """What something of a structure is called in the results of a study.

    Arguments:
        structure: name of the structure; empty in a study of one structure.
        name: e.g. ``"energy"``.

    Returns:
        E.g. ``"bulk.energy"``, or the name as it is.
    """
    return f"{structure}.{name}" if structure else name


@dataclasses.dataclass(frozen=True)
class Expansion:
    """A number that depends on P parts, to second order in their changes.

    Attributes:
        value: the number.
        slopes: its derivatives in the parts.
        curvatures: its second derivatives.
        rounding: absolute error that rounding has left in the value.
    """

    value: float
    slopes: Float[np.ndarray, " P"]
    curvatures: Float[np.ndarray, "P P"]
    rounding: float = 0.0

    def __add__(self, other: "Expansion") -> "Expansion":
        value = self.value + other.value
        return Expansion(
            value, self.slopes + other.slopes, self.curvatures + other.curvatures,
            self.rounding + other.rounding + _rounding(value),
        )  # fmt: skip

    def __mul__(self, other: "Expansion") -> "Expansion":
        value, crossed = self.value * other.value, np.outer(self.slopes, other.slopes)
        return Expansion(
            value,
            self.value * other.slopes + other.value * self.slopes,
            self.value * other.curvatures + other.value * self.curvatures + crossed + crossed.T,
            abs(self.value) * other.rounding + abs(other.value) * self.rounding + _rounding(value),
        )

    def __neg__(self) -> "Expansion":
        return Expansion(-self.value, -self.slopes, -self.curvatures, self.rounding)

    def power(self, exponent: float) -> "Expansion":
        """x^n, from x^n, n x^(n-1) and n (n-1) x^(n-2)."""
        x, n = self.value, exponent
        value = x**n
        # Where a factor is zero so is the term, whatever the power of zero that it stands before.
        first = n * x ** (n - 1) if n else 0.0
        second = n * (n - 1) * x ** (n - 2) if n * (n - 1) else 0.0
        return Expansion(
            value,
            first * self.slopes,
            first * self.curvatures + second * np.outer(self.slopes, self.slopes),
            abs(first) * self.rounding + _rounding(value),
        )


def _rounding(value: float) -> float:
    return float(np.finfo(float).eps) * abs(value)


@dataclasses.dataclass(frozen=True)
class Formula:
    """A formula that has been read and checked.

    Attributes:
        name: what its result is called.
        text: as it was written.
        dimension: physical dimension of its value, in powers of energy and length, or ``"angle"``.
        parts: the observables that it is made of, each once.
        sizes: the unit of each part in powers of the base units, in which formulas compute.
        expression: the formula as Python's parser sees it.
    """

    name: str
    text: str
    dimension: str
    parts: tuple[Part, ...]
    sizes: tuple[float, ...]
    expression: ast.expr = dataclasses.field(repr=False, compare=False)

    def expand(
        self,
        values: Mapping[str, float],
        atoms: Mapping[str, int],
        errors: Mapping[str, float] | None = None,
    ) -> Expansion:
        """The value of the formula, and how it changes with its parts.

        Arguments:
            values: values of its parts, by their names.
            atoms: numbers of atoms of the structures, by their names.
            errors: absolute errors of the values, by which a divisor may be zero.

        Returns:
            The Expansion, in the order of the parts.

        Raises:
            InputError: a division by what is zero within its error, a root of a negative number, or
                a number too large.
        """
        names = [part.name for part in self.parts]
        known = np.array([(errors or {}).get(name, 0.0) for name in names])
        known = np.nan_to_num(known, nan=0.0)
        count = len(names)

        def constant(number: float) -> Expansion:
            return Expansion(number, np.zeros(count), np.zeros((count, count)))

        def expand(node: ast.expr) -> Expansion:
            if isinstance(node, ast.Constant):
                return constant(_number(node))
            if isinstance(node, ast.UnaryOp):
                found = expand(node.operand)
                return -found if isinstance(node.op, ast.USub) else found
            if isinstance(node, ast.BinOp):
                left = expand(node.left)
                if isinstance(node.op, ast.Pow):
                    return raised(node, left, _exponent(node.right))
                right = expand(node.right)
                if isinstance(node.op, ast.Div):
                    return left * raised(node.right, right, Fraction(-1))
                if isinstance(node.op, ast.Sub):
                    right = -right
                return left * right if isinstance(node.op, ast.Mult) else left + right
            structure, name = _name_of(node)
            if name == ATOMS:
                return constant(float(atoms[structure]))
            place = names.index(_part(node).name)
            size = self.sizes[place]
            value, slopes = size * values[names[place]], size * np.eye(count)[place]
            return Expansion(value, slopes, np.zeros((count, count)))

        def raised(node: ast.expr, base: Expansion, exponent: Fraction) -> Expansion:
            off = float(np.abs(base.slopes) @ known) + base.rounding
            if exponent < 0 and abs(base.value) <= off:
                raise InputError(
                    f"division by zero: {_text(node)} is {base.value:.3g}, and its error "
                    f"{off:.1e}; divide by something else"
                )
            if exponent.denominator > 1 and base.value <= off:
                raise InputError(
                    f"{_text(node)} takes a root of {base.value:.3g}, whose error is {off:.1e}; "
                    "take roots of numbers above zero"
                )
            return base.power(float(exponent))

        try:
            with np.errstate(all="raise", under="ignore"):
                found = expand(self.expression)
            if not math.isfinite(found.value):
                raise OverflowError
        except InputError as error:
            raise InputError(f"formulas.{self.name}: {error}") from None
        except (OverflowError, FloatingPointError, ZeroDivisionError):
            raise InputError(
                f"formulas.{self.name} = {shown(self.text)} is not finite at these values: "
                f"{', '.join(f'{name} = {values[name]:.6g}' for name in names)}; change it"
            ) from None
        return found


def read_formula(name: str, given: str, spatial: Mapping[str, int], units: str) -> Formula:
    """Read a formula.

    Arguments:
        name: what its result is called.
        given: the formula.
        spatial: for each structure by its name, empty where there is only one, its number of
            spatial dimensions.
        units: ``"ase"`` or ``"reduced"``.

    Returns:
        The Formula.

    Raises:
        InputError: it is no formula, names an unknown structure or observable, mixes physical
            dimensions, divides by zero, or has a dimension without a unit.
    """
    try:
        try:
            expression = ast.parse(" ".join(given.split()), mode="eval").body
            parts = tuple(dict.fromkeys(_parts(expression, tuple(spatial))))
            found = _dimension(expression, spatial)
        except InputError:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise InputError(f"it cannot be read: write {_ALLOWED}") from None
        measured = [part.observable.dimension_in(spatial[part.structure]) for part in parts]
        sizes = tuple(size_of_unit(dimension, units) for dimension in measured)
        return Formula(name, given, _whole(found), parts, sizes, expression)
    except InputError as error:
        raise InputError(f"formulas.{name} = {shown(given)}: {error}") from None


def read_part(given: str, structures: Iterable[str]) -> Part | Observable:
    """An observable, of one structure or of every one.

    Arguments:
        given: e.g. ``"bulk.energy"``, or ``"energy"``, for that of every structure.
        structures: names of the structures; a single empty one in a study of one structure.

    Returns:
        The Part; where no structure is named, the Observable.

    Raises:
        InputError: there is no such structure or observable.
    """
    first, dot, rest = given.partition(".")
    if not dot or not first.strip().isidentifier():
        return parse(given)
    name = _known_structure(first.strip(), rest.strip(), tuple(structures))
    return Part(name, parse(rest))


def _parts(node: ast.expr, structures: tuple[str, ...]) -> list[Part]:
    """The observables in an expression, which holds nothing that is not allowed."""
    if isinstance(node, ast.Constant):
        _number(node)
        return []
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        return _parts(node.operand, structures)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
        left, right = (_parts(side, structures) for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow):
            _exponent(node.right)
        return left + right
    structure, name = _name_of(node)
    if structure:
        _known_structure(structure, name, structures)
    elif "" not in structures:
        raise InputError(
            f"{_text(node)} names no structure: write "
            + " or ".join(f"{one}.{_text(node)}" for one in structures[:2])
        )
    if name == ATOMS:
        if isinstance(node, ast.Call):
            raise InputError(
                f"{_text(node)}: the number of atoms is {ast.unparse(node.func)} alone"
            )
        return []
    if name not in BY_NAME:
        allowed = [ATOMS, *BY_NAME]
        raise InputError(
            f"{_text(node)}: there is no observable {name!r}; allowed are {', '.join(allowed)}"
            f"{nearest(name, allowed)}"
        )
    part = _part(node)
    if name in ARRAYS:
        raise InputError(
            f"{part.name} is several numbers: a formula takes observables that are one number"
        )
    return [part]


def _known_structure(structure: str, name: str, structures: tuple[str, ...]) -> str:
    """A structure's name, if there is such a structure."""
    if "" in structures:
        raise InputError(
            f"{structure}.{name} names a structure, and there is only one: write {name}"
        )
    if structure not in structures:
        raise InputError(
            f"{structure}.{name}: there is no structure {structure!r}; allowed are "
            f"{', '.join(structures)}{nearest(structure, structures)}"
        )
    return structure


def _name_of(node: ast.expr) -> tuple[str, str]:
    """The structure and the bare name in ``structure.name`` or ``structure.name(numbers)``."""
    target = node.func if isinstance(node, ast.Call) else node
    if isinstance(target, ast.Name):
        return "", target.id
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return target.value.id, target.attr
    raise InputError(f"{_text(node)} is not allowed: write {_ALLOWED}")


def _part(node: ast.expr) -> Part:
    structure, name = _name_of(node)
    alone: ast.expr = ast.Name(name)
    if isinstance(node, ast.Call):
        alone = ast.Call(alone, node.args, node.keywords)
    return Part(structure, parse(ast.unparse(alone)))


def _number(node: ast.Constant) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
        raise InputError(f"{_text(node)} is not allowed: write {_ALLOWED}")
    try:
        number = float(node.value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError("a number in it is too large: give a finite one")
    return number


def _exponent(node: ast.expr) -> Fraction:
    """An exponent: numbers alone, so that the dimension of the power is known."""
    found = _fraction(node)
    if found is None or abs(found) > LARGEST_POWER:
        raise InputError(
            f"exponent {_text(node)}: give a number from -{LARGEST_POWER} to {LARGEST_POWER}, or a "
            "fraction such as (1/3)"
        )
    return found


def _fraction(node: ast.expr) -> Fraction | None:
    if isinstance(node, ast.Constant):
        return Fraction(str(_number(node)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        found = _fraction(node.operand)
        return -found if found is not None and isinstance(node.op, ast.USub) else found
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        above, below = _fraction(node.left), _fraction(node.right)
        return above / below if above is not None and below else None
    return None


#: Dimensions that masses or temperatures belong to.
NO_POWERS = ("frequency", "density of states", "entropy", "inverse temperature")
#: Powers of energy, length, and angle.
_Powers = tuple[Fraction, Fraction, Fraction]
_PURE: _Powers = (Fraction(0), Fraction(0), Fraction(0))


def _dimension(node: ast.expr, spatial: Mapping[str, int]) -> _Powers:
    """The physical dimension of an expression.

    Raises:
        InputError: different ones are added, or a constant zero is divided by.
    """
    if isinstance(node, ast.Constant):
        return _PURE
    if isinstance(node, ast.UnaryOp):
        return _dimension(node.operand, spatial)
    if isinstance(node, ast.BinOp):
        left, right = (_dimension(side, spatial) for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow):
            power = _exponent(node.right)
            return (left[0] * power, left[1] * power, left[2] * power)
        if isinstance(node.op, (ast.Mult, ast.Div)):
            sign = 1 if isinstance(node.op, ast.Mult) else -1
            if sign < 0 and _fraction(node.right) == 0:
                raise InputError(f"division by zero: {_text(node)}; divide by something else")
            return (left[0] + sign * right[0], left[1] + sign * right[1], left[2] + sign * right[2])
        if left != right:
            raise InputError(
                f"{_text(node)} adds {_words(left)} and {_words(right)}; add what has the same "
                "dimension"
            )
        return left
    structure, name = _name_of(node)
    if name == ATOMS:
        return _PURE
    dimension = _part(node).observable.dimension_in(spatial[structure])
    if dimension in NO_POWERS:
        raise InputError(
            f"{_text(node)} is a {dimension}, which is no power of energy and length: leave it out"
        )
    found = powers(dimension)
    angle = Fraction(dimension == "angle")
    return (Fraction(found["energy"]), Fraction(found["length"]), angle)


def _whole(found: _Powers) -> str:
    """A dimension that has a unit."""
    energy, length, angle = found
    if angle == 1 and not energy and not length:
        return "angle"
    whole = energy.denominator == length.denominator == 1
    if angle or not whole or max(abs(energy), abs(length)) > LARGEST_POWER:
        raise InputError(
            f"its dimension is {_words(found)}, which has no unit here; powers of energy and "
            f"length must be whole and up to {LARGEST_POWER}, and angles stand alone"
        )
    return dimension_of(int(energy), int(length))


def _words(found: _Powers) -> str:
    if not any(found):
        return "a pure number"
    named = zip(("energy", "length", "angle"), found, strict=True)
    return "*".join(
        base if power == 1 else f"{base}^{power if power.denominator == 1 else f'({power})'}"
        for base, power in named
        if power
    )


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}"
