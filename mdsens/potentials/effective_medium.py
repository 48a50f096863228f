"""ASE's effective medium theory (EMT), with parameters of its own for some elements."""

from collections.abc import Mapping

import ase
import ase.data
from ase.calculators import emt

#: ASE's numbers for each element, in the order of `known_calculators.EMT_DIMENSIONS`.
EMT_PARAMETERS = emt.parameters


class EffectiveMedium(emt.EMT):
    """EMT with parameters of its own for some elements, by names such as ``"s0[Cu]"``.

    Arguments:
        given: their values, in the units of ASE's table.
    """

    def __init__(self, given: Mapping[str, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given = dict(given)

    def initialize(self, atoms: ase.Atoms) -> None:
        """The tables of a structure, with these parameters in their places."""
        super().initialize(atoms)  # type: ignore[no-untyped-call]
        par = self.par
        numbers = [int(number) for number in par["Z"]]
        for name, value in self._given.items():
            kind, _, symbol = name.removesuffix("]").partition("[")
            number = ase.data.atomic_numbers[symbol]
            if number in numbers:
                par[kind][numbers.index(number)] = value
        for place in range(len(numbers)):
            lengths = par["s0"][place], par["eta2"][place], par["kappa"][place]
            first, second = self._calc_gammas(*lengths)  # type: ignore[no-untyped-call]
            par["inv12gamma1"][place] = 1.0 / (12.0 * first)
            par["neghalfv0overgamma2"][place] = -0.5 * par["V0"][place] / second
        self.chi = par["n0"][None, :] / par["n0"][:, None]
