"""What files of atomic cluster expansions hold, whatever their format."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.potentials.files.header import Header, read_header
from mdsens.values import listing, nearest, shown

#: Radial functions, ways to switch to the repulsion of cores, and embeddings that are computed.
RADIAL_BASES = ("ChebPow", "ChebExpCos", "ChebLinear", "SBessel")
INNER_CUTOFFS = ("density", "distance")
EMBEDDINGS = ("FinnisSinclair", "FinnisSinclairShiftedScaled")
#: Most that a file may ask for: functions of one factor have no need of more.
MOST_RANK, MOST_MOMENTUM, MOST_FUNCTIONS = 12, 20, 1_000_000


@dataclasses.dataclass(frozen=True)
class ACEEmbedding:
    """Energy of the densities at an atom of one element: sum_p w_p F(rho_p; m_p).

    Attributes:
        function: one of `EMBEDDINGS`.
        factors: w of each density, energy.
        exponents: m of each density.
        core_cutoff: repulsion of cores from which on the expansion is switched off, energy.
        core_width: how far below the switch begins, energy.
    """

    function: str
    factors: tuple[float, ...]
    exponents: tuple[float, ...]
    core_cutoff: float
    core_width: float


@dataclasses.dataclass(frozen=True)
class ACEBond:
    """Radial functions of a neighbour of one element at an atom of another.

    Attributes:
        radial_basis: one of `RADIAL_BASES`.
        decay: lambda, how the argument of polynomials depends on distance.
        cutoff: distance from which on nothing interacts, length.
        cutoff_width: of a switch before it, length.
        coefficients: of basis functions in radial functions, (n, l, k).
        core_strength: factor of the repulsion of cores, energy times length.
        core_decay: decay of that with the square of distance, 1/length^2.
        inner_cutoff: distance at which the expansion is switched off, length.
        inner_width: how far below it is, length.
        inner_kind: one of `INNER_CUTOFFS`.
    """

    radial_basis: str
    decay: float
    cutoff: float
    cutoff_width: float
    coefficients: Float[np.ndarray, "n l k"]
    core_strength: float
    core_decay: float
    inner_cutoff: float = 0.0
    inner_width: float = 0.0
    inner_kind: str = "density"

    @property
    def fits_text(self) -> bool:
        """Whether the format ``.ace`` can say it."""
        inner = self.inner_kind != "density" or self.inner_cutoff > 0.0
        return self.radial_basis in RADIAL_BASES[:2] and not inner


@dataclasses.dataclass(frozen=True)
class ACEFunction:
    """A sum of products of R factors A, over combinations of their m.

    Attributes:
        element: index of the atom's element.
        neighbors: index of the element of each factor.
        n: number of the radial function of each factor, from 1 on.
        l: angular momentum of each factor.
        m: its component, for each of T products.
        coefficients: of each product in each density.
    """

    element: int
    neighbors: tuple[int, ...]
    n: tuple[int, ...]
    l: tuple[int, ...]
    m: tuple[tuple[int, ...], ...]
    coefficients: Float[np.ndarray, "T P"]


@dataclasses.dataclass(frozen=True)
class ACEContents:
    """What a file holds, of S elements.

    Attributes:
        elements: their names.
        own_energies: E0 of each element, energy.
        embeddings: of each element.
        bonds: of each ordered pair of elements, that of the atom first.
        functions: those of the first element, then those of the next.
        spline_spacing: that of the tables of radial functions in LAMMPS, length.
        header: what the file says of itself.
    """

    elements: tuple[str, ...]
    own_energies: tuple[float, ...]
    embeddings: tuple[ACEEmbedding, ...]
    bonds: dict[tuple[int, int], ACEBond]
    functions: tuple[ACEFunction, ...]
    spline_spacing: float
    header: Header = ()

    def of(self, elements: tuple[str, ...], label: str) -> "ACEContents":
        """The contents about some elements, in their order; functions with others are zero there.

        Arguments:
            elements: names.
            label: what they are called, for the message.

        Raises:
            InputError: the file has no such element.
        """
        for name in elements:
            if name not in self.elements:
                raise InputError(
                    f"{label}: the file has no element {shown(name)}: it has "
                    f"{listing(self.elements)}{nearest(name, self.elements)}"
                )
        old = [self.elements.index(name) for name in elements]
        new = {index: place for place, index in enumerate(old)}
        return dataclasses.replace(
            self,
            elements=elements,
            own_energies=tuple(self.own_energies[index] for index in old),
            embeddings=tuple(self.embeddings[index] for index in old),
            bonds={
                (new[i], new[j]): bond
                for (i, j), bond in self.bonds.items()
                if i in new and j in new
            },
            functions=tuple(
                dataclasses.replace(
                    function,
                    element=place,
                    neighbors=tuple(new[index] for index in function.neighbors),
                )
                for place, index in enumerate(old)
                for function in self.functions
                if function.element == index and all(i in new for i in function.neighbors)
            ),
        )


def metal_header(line: str, name: str) -> Header:
    """What the first line of a file says of it.

    Arguments:
        line: the first line.
        name: of the file, for the message.

    Returns:
        Pairs such as ``("DATE", "2021-04-08")``.

    Raises:
        InputError: other units than metal, which ML-PACE has alone.
    """
    header = read_header(line, name)
    units = dict(header).get("UNITS", "metal")
    if units != "metal":
        raise InputError(
            f"{name}, line 1: UNITS: {shown(units)}: allowed is metal (eV and Ang) in files of "
            "ML-PACE; convert the file"
        )
    return header


def what_is_wrong(
    function: ACEFunction, embeddings: int, bonds: dict[tuple[int, int], ACEBond]
) -> str:
    """What forbids a function of a file, and what is allowed; nothing where it is all right.

    Arguments:
        function: the function.
        embeddings: number of densities of its element.
        bonds: radial functions of pairs of elements.
    """
    rank, elements = len(function.neighbors), 1 + max(i for i, _ in bonds)
    if len(function.n) != rank or len(function.l) != rank:
        return f"{len(function.n)} n and {len(function.l)} l of {rank} factors: give one of each"
    if not all(0 <= index < elements for index in function.neighbors):
        return f"mu = {shown(list(function.neighbors))}: give numbers from 0 to {elements - 1}"
    if function.coefficients.shape[1] != embeddings:
        return (
            f"ndensity = {function.coefficients.shape[1]}: the embedding has {embeddings}; give as "
            "many"
        )
    sizes = [bond.coefficients.shape for bond in bonds.values()]
    most_n, most_l, most_k = (max(size) for size in zip(*sizes, strict=True))
    if rank == 1:
        most_n, most_l = most_k, 1
    if not all(1 <= n <= most_n for n in function.n):
        return f"n = {shown(list(function.n))}: give numbers from 1 to {most_n}"
    if not all(0 <= l < most_l for l in function.l):
        return f"l = {shown(list(function.l))}: give numbers from 0 to {most_l - 1}"
    for m in function.m:
        if any(abs(one) > l for one, l in zip(m, function.l, strict=True)):
            return f"m = {shown(list(m))}: give none beyond l = {shown(list(function.l))}"
        if sum(m):
            return f"m = {shown(list(m))}: give such that add up to zero"
    return ""
