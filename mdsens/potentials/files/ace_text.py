"""Atomic cluster expansions in the text format ``.ace`` of ML-PACE, of a single element."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from mdsens.errors import InputError
from mdsens.files import read_bytes
from mdsens.potentials.files.ace_contents import (
    EMBEDDINGS,
    MOST_FUNCTIONS,
    MOST_MOMENTUM,
    MOST_RANK,
    RADIAL_BASES,
    ACEBond,
    ACEContents,
    ACEEmbedding,
    ACEFunction,
    metal_header,
    what_is_wrong,
)
from mdsens.potentials.files.header import header_line
from mdsens.values import shown

#: Longest file that is read, bytes.
LONGEST_FILE = 1 << 28
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORD = re.compile(r"[=<>():]|[^\s=<>():]+")


def read_ace_text(path: Path) -> ACEContents:
    """Read a file of the format ``.ace``.

    Arguments:
        path: the file.

    Returns:
        What it holds.

    Raises:
        InputError: it cannot be read, is in other units than metal, has several elements, or is
            damaged: one line that names the place.
    """
    return _Reader(path).contents()


def ace_text(contents: ACEContents) -> Iterator[str]:
    """Lines of a file of the format ``.ace``, every number with all its digits.

    Arguments:
        contents: what to write, of one element.
    """
    (embedding,), bond = contents.embeddings, contents.bonds[0, 0]
    radial, momenta, basis = bond.coefficients.shape
    singles = [function for function in contents.functions if len(function.n) == 1]
    others = [function for function in contents.functions if len(function.n) > 1]
    parameters = [
        repr(number)
        for pair in zip(embedding.factors, embedding.exponents, strict=True)
        for number in pair
    ]
    most = max(len(function.m) for function in contents.functions)
    yield header_line(contents.header)
    yield from ("", "nelements=1", f"elements: {contents.elements[0]}", "", f"lmax={momenta - 1}")
    yield from ("", f"embedding-function: {embedding.function}")
    yield f"{len(parameters)} FS parameters: {' '.join(parameters)}"
    yield f"core energy-cutoff parameters: {embedding.core_cutoff!r} {embedding.core_width!r}"
    yield from (f"E0: {contents.own_energies[0]!r}", "", f"radbasename={bond.radial_basis}")
    yield from (f"nradbase={basis}", f"nradmax={radial}", f"cutoffmax={bond.cutoff!r}")
    yield f"deltaSplineBins={contents.spline_spacing!r}"
    yield f"core repulsion parameters: {bond.core_strength!r} {bond.core_decay!r}"
    yield from (f"radparameter= {bond.decay!r}", f"cutoff= {bond.cutoff!r}")
    yield from (f"dcut= {bond.cutoff_width!r}", "crad=")
    for row in bond.coefficients.transpose(2, 0, 1).reshape(-1, momenta):
        yield " ".join(map(repr, row.tolist()))
    yield from ("", f"rankmax={max(len(function.n) for function in contents.functions)}")
    yield from (f"ndensitymax={len(embedding.factors)}", "")
    yield from (f"num_c_tilde_max={len(contents.functions)}", f"num_ms_combinations_max={most}")
    for label, functions in (("total_basis_size_rank1", singles), ("total_basis_size", others)):
        yield f"{label}: {len(functions)}"
        for function in functions:
            yield from _function_text(function)


def _function_text(function: ACEFunction) -> Iterator[str]:
    def row(values: tuple[int, ...]) -> str:
        return " ".join(map(str, values))

    densities = function.coefficients.shape[1]
    yield (
        f"ctilde_basis_func: rank={len(function.n)} ndens={densities} mu0={function.element} "
        f"mu=( {row(function.neighbors)} )"
    )
    yield f"n=( {row(function.n)} )"
    yield f"l=( {row(function.l)} )"
    yield f"num_ms={len(function.m)}"
    for m, numbers in zip(function.m, function.coefficients.tolist(), strict=True):
        yield f"< {row(m)} >: {' '.join(map(repr, numbers))}"


class _Reader:
    """The words of a file, one after the other; what is wrong with one is said with its line."""

    def __init__(self, path: Path) -> None:
        self.name = shown(path.name)
        lines = read_bytes(path, LONGEST_FILE).decode("utf-8", "replace").splitlines()
        self.header = metal_header(lines[0] if lines else "", self.name)
        self.words = [
            (word, number)
            for number, line in enumerate(lines, 1)
            for word in _WORD.findall(line.partition("#")[0])
        ]
        self.place, self.last_line = 0, len(lines) or 1

    def contents(self) -> ACEContents:
        self.expect("nelements =")
        if self.integer("nelements", 1, 1 << 16) > 1:
            self.fail("several elements: allowed is one; give a .yace file of them")
        self.expect("elements :")
        element = self.word("the name of the element")
        self.expect("lmax =")
        momenta = 1 + self.integer("lmax", 0, MOST_MOMENTUM)
        embedding = self.embedding()
        own = 0.0
        if self.peek() == "E0":
            self.expect("E0 :")
            own = self.number("E0")
        bond, spacing = self.bond(momenta)
        self.expect("rankmax =")
        self.integer("rankmax", 1, MOST_RANK)
        self.expect("ndensitymax =")
        densities = len(embedding.factors)
        if self.integer("ndensitymax", 1, 1 << 16) != densities:
            self.fail(f"there are {2 * densities} FS parameters: give ndensitymax={densities}")
        for label in ("num_c_tilde_max", "num_ms_combinations_max"):
            self.expect(f"{label} =")
            self.integer(label, 0, MOST_FUNCTIONS)
        functions = list[ACEFunction]()
        for label in ("total_basis_size_rank1", "total_basis_size"):
            self.expect(f"{label} :")
            for _ in range(self.integer(label, 0, MOST_FUNCTIONS)):
                functions.append(self.function(label.endswith("rank1"), densities, bond))
        if self.place < len(self.words):
            self.word("")
            self.fail(
                f"{shown(self.words[self.place - 1][0])} follows where the last function ends"
            )
        if not functions:
            self.fail("there is no function: give one at least")
        return ACEContents(
            (element,), (own,), (embedding,), {(0, 0): bond}, tuple(functions), spacing, self.header
        )

    def embedding(self) -> ACEEmbedding:
        name = ""
        if self.peek() == "embedding-function":
            self.expect("embedding-function :")
            name = self.choice("embedding-function", EMBEDDINGS)
        count = self.integer("number of FS parameters", 2, 1 << 10)
        self.expect("FS parameters :")
        numbers = [self.number("an FS parameter") for _ in range(count)]
        if count % 2:
            self.fail(f"{count} FS parameters: give two of each density")
        if not name and any(exponent != 1.0 for exponent in numbers[1::2]):
            self.fail(
                f"no embedding-function, and it is not linear: name it, {_either(EMBEDDINGS)}"
            )
        self.expect("core energy-cutoff parameters :")
        core, width = self.number("core energy-cutoff"), self.number("core energy-cutoff", 0.0)
        return ACEEmbedding(
            name or EMBEDDINGS[0], tuple(numbers[::2]), tuple(numbers[1::2]), core, width
        )

    def bond(self, momenta: int) -> tuple[ACEBond, float]:
        self.expect("radbasename =")
        radial_basis = self.choice("radbasename", RADIAL_BASES[:2])
        self.expect("nradbase =")
        basis = self.integer("nradbase", 1, 1 << 10)
        self.expect("nradmax =")
        radial = self.integer("nradmax", 0, 1 << 10)
        self.expect("cutoffmax =")
        self.number("cutoffmax", 0.0)
        self.expect("deltaSplineBins =")
        spacing = self.number("deltaSplineBins", 0.0)
        self.expect("core repulsion parameters :")
        strength, core_decay = self.number("core repulsion"), self.number("core repulsion")
        self.expect("radparameter =")
        decay = self.number("radparameter", 0.0)
        self.expect("cutoff =")
        cutoff = self.number("cutoff", 0.0)
        self.expect("dcut =")
        width = self.number("dcut", 0.0)
        self.expect("crad =")
        numbers = [self.number("crad") for _ in range(basis * radial * momenta)]
        table = np.array(numbers).reshape(basis, radial, momenta).transpose(1, 2, 0)
        if decay == 0.0 or cutoff == 0.0:
            self.fail("radparameter or cutoff is zero: give positive numbers")
        # As ML-PACE has them, where the file cannot say.
        bond = ACEBond(radial_basis, decay, cutoff, width, table, strength, core_decay, 0.0, 1e-5)
        return bond, spacing

    def function(self, single: bool, densities: int, bond: ACEBond) -> ACEFunction:
        self.expect("ctilde_basis_func : rank =")
        rank = self.integer("rank", 1 if single else 2, 1 if single else MOST_RANK)
        line = self.words[self.place - 1][1]
        self.expect("ndens =")
        if self.integer("ndens", 1, 1 << 16) != densities:
            self.fail(f"the embedding has {densities} densities: give ndens={densities}")
        self.expect("mu0 =")
        element = self.integer("mu0", 0, 0)

        def row(label: str) -> tuple[int, ...]:
            self.expect(f"{label} = (")
            found = tuple(self.integer(label, 0, 1 << 16) for _ in range(rank))
            self.expect(")")
            return found

        neighbors, n, l = row("mu"), row("n"), row("l")
        self.expect("num_ms =")
        products, coefficients = [], []
        for _ in range(self.integer("num_ms", 1, MOST_FUNCTIONS)):
            self.expect("<")
            products.append(tuple(self.integer("m", -99, 99) for _ in range(rank)))
            self.expect("> :")
            coefficients.append([self.number("a coefficient") for _ in range(densities)])
        found = ACEFunction(element, neighbors, n, l, tuple(products), np.array(coefficients))
        wrong = what_is_wrong(found, densities, {(0, 0): bond})
        if wrong:
            self.fail(wrong, line)
        return found

    def fail(self, what: str, line: int | None = None) -> NoReturn:
        """Raise the error about the last word that was read, or a line."""
        number = self.words[self.place - 1][1] if self.place else 1
        raise InputError(f"{self.name}, line {number if line is None else line}: {what}")

    def peek(self) -> str:
        return self.words[self.place][0] if self.place < len(self.words) else ""

    def word(self, what: str) -> str:
        if self.place >= len(self.words):
            self.fail(f"the file ends where {what} should be; give a whole one", self.last_line)
        self.place += 1
        return self.words[self.place - 1][0]

    def expect(self, words: str) -> None:
        for wanted in words.split():
            whole = shown(words.replace(" =", "=").replace(" :", ":"))
            if (found := self.word(whole)) != wanted:
                self.fail(f"{shown(found)} where {whole} should be")

    def choice(self, what: str, allowed: tuple[str, ...]) -> str:
        found = self.word(what)
        if found not in allowed:
            self.fail(f"{what} {shown(found)} is not computed: allowed are {', '.join(allowed)}")
        return found

    def number(self, what: str, least: float = -math.inf) -> float:
        word = self.word(what)
        if not _NUMBER.fullmatch(word) or not math.isfinite(number := float(word)):
            self.fail(f"{what} = {shown(word)}: give a number")
        if number < least:
            self.fail(f"{what} = {shown(word)}: give none below {least:g}")
        return number

    def integer(self, what: str, least: int, most: int) -> int:
        word = self.word(what)
        if not re.fullmatch(r"[+-]?\d{1,9}", word, re.ASCII) or not least <= int(word) <= most:
            allowed = str(least) if least == most else f"a whole number from {least} to {most}"
            self.fail(f"{what} = {shown(word)}: give {allowed}")
        return int(word)


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(names)
