"""Atomic cluster expansions in the format ``.yace`` of ML-PACE, which is YAML."""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import yaml

from mdsens.errors import InputError
from mdsens.files import read_bytes
from mdsens.potentials.files.ace_contents import (
    EMBEDDINGS,
    INNER_CUTOFFS,
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
#: Keys of a file; what stands under the last is no part of the potential.
KEYS = ("elements", "E0", "deltaSplineBins", "embeddings", "bonds", "functions", "metadata")
#: Reads and lines are much faster in C, where PyYAML has it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_ace_yaml(path: Path) -> ACEContents:
    """Read a file of the format ``.yace``.

    Arguments:
        path: the file.

    Returns:
        What it holds.

    Raises:
        InputError: it cannot be read, is in other units than metal, is damaged, or has what is not
            computed: one line that names the place.
    """
    name = shown(path.name)
    text = read_bytes(path, LONGEST_FILE).decode("utf-8", "replace")
    header = metal_header(text.partition("\n")[0], name)
    try:
        node = yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "what is not YAML"
        raise InputError(f"{name}{line}: {problem}: give a file of YAML") from None
    if node is None:
        raise InputError(f"{name}, line 1: the file is empty; give a whole one")
    return _contents(_Entry(node, name, "the file"), header)


def _contents(file: "_Entry", header: Any) -> ACEContents:
    for key, _ in file.items():
        if key.text() not in KEYS:
            key.fail(f"key {key.said} is not known: allowed are {', '.join(KEYS)}")
    elements = tuple(entry.text() for entry in file["elements"])
    if not elements or len(set(elements)) < len(elements):
        file["elements"].fail(f"elements = {shown(list(elements))}: give different names")
    size = len(elements)
    own = file["E0"].numbers(size)
    by_element = {key.integer(0, size - 1): one for key, one in file["embeddings"].items()}
    by_pair = {
        tuple(part.integer(0, size - 1) for part in key): one for key, one in file["bonds"].items()
    }
    for index in range(size):
        if index not in by_element:
            file["embeddings"].fail(f"there is none of {elements[index]}: give {index}")
        for other in range(size):
            if (index, other) not in by_pair:
                file["bonds"].fail(
                    f"there is none of {elements[index]} with {elements[other]}: give "
                    f"[{index}, {other}]"
                )
    embeddings = tuple(_embedding(by_element[index]) for index in range(size))
    bonds = {(i, j): _bond(by_pair[i, j]) for i in range(size) for j in range(size)}
    kinds = sorted({bond.inner_kind for bond in bonds.values()})
    if len(kinds) > 1:
        file["bonds"].fail(f"inner_cutoff_type is {' and '.join(kinds)}: give one for all bonds")
    functions: dict[int, list[ACEFunction]] = {}
    for key, entries in file["functions"].items():
        element = key.integer(0, size - 1)
        functions[element] = [
            _function(entry, element, len(embeddings[element].factors), bonds) for entry in entries
        ]
    if not any(functions.values()):
        file["functions"].fail("there is no function: give one at least")
    ordered = tuple(one for index in range(size) for one in functions.get(index, []))
    spacing = file["deltaSplineBins"].number(0.0)
    return ACEContents(elements, tuple(own), embeddings, bonds, ordered, spacing, header)


def _embedding(entry: "_Entry") -> ACEEmbedding:
    densities = entry["ndensity"].integer(1, 1 << 10)
    numbers = entry["FS_parameters"].numbers()
    if len(numbers) < 2 * densities:
        entry["FS_parameters"].fail(
            f"{len(numbers)} numbers: give two of each of {densities} densities"
        )
    # As LAMMPS, which takes as many as there are densities.
    return ACEEmbedding(
        entry["npoti"].choice(EMBEDDINGS),
        tuple(numbers[: 2 * densities : 2]),
        tuple(numbers[1 : 2 * densities : 2]),
        entry["rho_core_cutoff"].number(),
        entry["drho_core_cutoff"].number(0.0),
    )


def _bond(entry: "_Entry") -> ACEBond:
    radial_basis = entry["radbasename"].choice(RADIAL_BASES)
    shape = (
        entry["nradmax"].integer(0, 1 << 10),
        1 + entry["lmax"].integer(0, MOST_MOMENTUM),
        entry["nradbasemax"].integer(1, 1 << 10),
    )
    rows = entry["radcoefficients"]
    table = np.zeros(shape)
    given = [[row.numbers(shape[2]) for row in block] for block in rows]
    if len(given) != shape[0] or any(len(block) != shape[1] for block in given):
        rows.fail(f"give {shape[0]} tables (nradmax) of {shape[1]} rows (lmax + 1)")
    table[:] = np.array(given).reshape(shape)
    cutoff, decay = entry["rcut"].number(0.0), entry["radparameters"].numbers()
    if cutoff == 0.0:
        entry["rcut"].fail("rcut = 0: give a positive number")
    if not decay or decay[0] <= 0.0:
        entry["radparameters"].fail(f"radparameters = {shown(decay)}: give a positive number")
    optional = {key: entry.get(key) for key in ("rcut_in", "dcut_in", "inner_cutoff_type")}
    inner, width, kind = optional.values()
    return ACEBond(
        radial_basis, decay[0], cutoff, entry["dcut"].number(0.0), table,
        entry["prehc"].number(), entry["lambdahc"].number(),
        0.0 if inner is None else inner.number(0.0),
        0.0 if width is None else width.number(0.0),
        INNER_CUTOFFS[0] if kind is None else kind.choice(INNER_CUTOFFS),
    )  # fmt: skip


def _function(
    entry: "_Entry", element: int, densities: int, bonds: dict[tuple[int, int], ACEBond]
) -> ACEFunction:
    entry["mu0"].integer(element, element)
    rank = entry["rank"].integer(1, MOST_RANK)
    count = entry["num_ms_combs"].integer(1, MOST_FUNCTIONS)
    own = entry["ndensity"].integer(densities, densities)
    mu, n, l = (tuple(entry[key].integers(rank)) for key in ("mus", "ns", "ls"))
    m = np.array(entry["ms_combs"].integers(rank * count)).reshape(count, rank)
    coefficients = np.array(entry["ctildes"].numbers(own * count)).reshape(count, own)
    found = ACEFunction(element, mu, n, l, tuple(map(tuple, m.tolist())), coefficients)
    wrong = what_is_wrong(found, densities, bonds)
    if wrong:
        entry.fail(wrong)
    return found


class _Entry:
    """A part of a file of YAML; what is wrong with it is said with its line."""

    def __init__(self, node: Any, name: str, label: str) -> None:
        self.node, self.name, self.label = node, name, label

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"{self.name}, line {self.node.start_mark.line + 1}: {what}")

    @property
    def said(self) -> str:
        return shown(self.node.value if isinstance(self.node, yaml.ScalarNode) else "a table", 40)

    def items(self) -> list[tuple["_Entry", "_Entry"]]:
        if not isinstance(self.node, yaml.MappingNode):
            self.fail(f"{self.label} = {self.said}: give a table of keys and values")
        return [
            (self._part(key, f"a key of {self.label}"), self._part(one, self._of(key)))
            for key, one in self.node.value
        ]

    def get(self, key: str) -> "_Entry | None":
        found = [one for name, one in self.items() if name.node.value == key]
        if len(found) > 1:
            found[1].fail(f"{key} is given twice: give it once")
        return found[0] if found else None

    def __getitem__(self, key: str) -> "_Entry":
        found = self.get(key)
        return self.fail(f"{self.label} has no {key}: give it") if found is None else found

    def __iter__(self) -> Iterator["_Entry"]:
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail(f"{self.label} = {self.said}: give a list")
        return (_Entry(one, self.name, self.label) for one in self.node.value)

    def text(self) -> str:
        if not isinstance(self.node, yaml.ScalarNode):
            self.fail(f"{self.label} is a table: give a word")
        return str(self.node.value)

    def choice(self, allowed: tuple[str, ...]) -> str:
        if self.text() not in allowed:
            self.fail(f"{self.label} {self.said} is not computed: allowed are {', '.join(allowed)}")
        return self.text()

    def number(self, least: float = -math.inf) -> float:
        text = self.text()
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
            self.fail(f"{self.label} = {self.said}: give a number")
        if float(text) < least:
            self.fail(f"{self.label} = {self.said}: give none below {least:g}")
        return float(text)

    def integer(self, least: int, most: int) -> int:
        text = self.text()
        if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            allowed = str(least) if least == most else f"a whole number from {least} to {most}"
            self.fail(f"{self.label} = {self.said}: give {allowed}")
        return int(text)

    def numbers(self, count: int | None = None) -> list[float]:
        return self._all(lambda one: one.number(), count)

    def integers(self, count: int) -> list[int]:
        return self._all(lambda one: one.integer(-(1 << 16), 1 << 16), count)

    def _all(self, read: Callable[["_Entry"], Any], count: int | None) -> list[Any]:
        found = [read(one) for one in self]
        if count is not None and len(found) != count:
            self.fail(f"{len(found)} numbers of {self.label}: give {count}")
        return found

    def _part(self, node: Any, label: str) -> "_Entry":
        return _Entry(node, self.name, label)

    def _of(self, key: Any) -> str:
        return str(key.value) if isinstance(key, yaml.ScalarNode) else "a bond"


def ace_yaml(contents: ACEContents) -> Iterator[str]:
    """Lines of a file of the format ``.yace``, every number with all its digits.

    Arguments:
        contents: what to write.
    """
    yield header_line(contents.header)
    yield f"elements: [{', '.join(contents.elements)}]"
    yield f"E0: {list(contents.own_energies)}"
    yield f"deltaSplineBins: {contents.spline_spacing!r}"
    yield "embeddings:"
    for index, one in enumerate(contents.embeddings):
        pairs = zip(one.factors, one.exponents, strict=True)
        yield (
            f"  {index}: {{ndensity: {len(one.factors)}, "
            f"FS_parameters: {[number for pair in pairs for number in pair]}, "
            f"npoti: {one.function}, rho_core_cutoff: {one.core_cutoff!r}, "
            f"drho_core_cutoff: {one.core_width!r}}}"
        )
    yield "bonds:"
    for (i, j), bond in sorted(contents.bonds.items()):
        radial, momenta, basis = bond.coefficients.shape
        yield (
            f"  [{i}, {j}]: {{nradmax: {radial}, lmax: {momenta - 1}, nradbasemax: {basis}, "
            f"radbasename: {bond.radial_basis}, radparameters: [{bond.decay!r}], "
            f"radcoefficients: {bond.coefficients.tolist()}, prehc: {bond.core_strength!r}, "
            f"lambdahc: {bond.core_decay!r}, rcut: {bond.cutoff!r}, dcut: {bond.cutoff_width!r}, "
            f"rcut_in: {bond.inner_cutoff!r}, dcut_in: {bond.inner_width!r}, "
            f"inner_cutoff_type: {bond.inner_kind}}}"
        )
    yield "functions:"
    for index in range(len(contents.elements)):
        own = [function for function in contents.functions if function.element == index]
        yield f"  {index}:" if own else f"  {index}: []"
        for function in own:
            yield (
                f"    - {{mu0: {index}, rank: {len(function.n)}, "
                f"ndensity: {function.coefficients.shape[1]}, num_ms_combs: {len(function.m)}, "
                f"mus: {list(function.neighbors)}, ns: {list(function.n)}, ls: {list(function.l)}, "
                f"ms_combs: {[one for m in function.m for one in m]}, "
                f"ctildes: {function.coefficients.ravel().tolist()}}}"
            )
