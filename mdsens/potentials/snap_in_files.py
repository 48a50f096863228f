"""SNAP in the files of LAMMPS: coefficients, parameters, and commands that may add a core."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import equinox as eqx
import numpy as np

from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.potentials.files import chosen_elements, find_file
from mdsens.potentials.files.snap_files import (
    FLAGS,
    OF_ELEMENTS,
    OverlaidZBL,
    SnapCoefficients,
    SnapCommands,
    read_snap_coefficients,
    read_snap_commands,
    read_snap_parameters,
    write_snap_coefficients,
    write_snap_commands,
    write_snap_parameters,
)
from mdsens.potentials.pair_laws import ZBL
from mdsens.potentials.potential import Potential
from mdsens.values import is_traced, shown

#: What files end in that a potential is read from.
ENDINGS = (".snap", ".snapcoeff")


class SnapInFiles(Potential):
    """What is read from files and written to them, for `mdsens.potentials.SNAP`."""

    species: eqx.AbstractVar[tuple[str, ...]]
    beta: eqx.AbstractVar[Any]
    radii: eqx.AbstractVar[tuple[float, ...]]
    weights: eqx.AbstractVar[tuple[float, ...]]
    switchinnerflag: eqx.AbstractVar[bool]
    header: eqx.AbstractVar[tuple[tuple[str, str], ...] | None]

    @classmethod
    def from_files(
        cls,
        coefficients: str | Path,
        parameters: str | Path,
        elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None,
    ) -> Self:
        """Read a file of coefficients and one of parameters, as LAMMPS does.

        Arguments:
            coefficients: the file that ends in ``.snapcoeff``; one that is not there is looked for
                among those of an installed LAMMPS, as is the other.
            parameters: the file that ends in ``.snapparam``.
            elements: which of the file's elements to take, or a dict that says for each species
                which; all by default. sinner and dinner are theirs in this order.

        Returns:
            The potential, in eV and Angstrom.

        Raises:
            InputError: no such file, one that is damaged (the line is named), an element that is
                not there, or files that do not go together.
        """
        file = read_snap_coefficients(find_file(coefficients, name="coefficients"))
        options = read_snap_parameters(find_file(parameters, name="parameters"))
        name = shown(path_of(coefficients, "coefficients").name)
        chosen = chosen_elements(elements, file.elements, name)
        rows = [file.elements.index(element) for element in chosen.values()]
        if options.get("chemflag") and rows != list(range(len(file.elements))):
            raise InputError(
                f"elements = {shown(elements)}: with chemflag = 1 coefficients are those of "
                f"triplets of {', '.join(file.elements)} in this order; give all of them"
            )
        try:
            return cls(
                beta=file.beta[rows],
                species=tuple(chosen),
                radii=tuple(file.radii[row] for row in rows),
                weights=tuple(file.weights[row] for row in rows),
                header=file.header or None,
                **options,
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None,
        parameters: str | Path | None = None,
    ) -> Potential:
        """Read a file of coefficients, or one of commands that may add the repulsion of nuclei.

        Arguments:
            path: of a file that ends in ``.snapcoeff``, or in ``.snap`` and holds pair_style and
                pair_coeff; one that is not there is looked for among those of an installed LAMMPS.
            elements: which of the file's elements to take, or a dict that says for each species
                which; all by default.
            parameters: the file that ends in ``.snapparam``, as it is called in the folder of the
                other; by default the same name with this ending.

        Returns:
            The potential; of commands with hybrid/overlay the sum with `ZBL`.

        Raises:
            InputError: no such file, or one that is damaged or says what is not understood here.
        """
        found = find_file(path)
        folder = found.parent
        if found.suffix == ".snapcoeff":
            beside = found.with_suffix(".snapparam") if parameters is None else folder / parameters
            return cls.from_files(found, beside, elements)
        if found.suffix != ".snap":
            raise InputError(
                f"path = {shown(found.name)}: allowed endings are {', '.join(ENDINGS)}"
            )
        if parameters is not None:
            raise InputError(f"parameters = {shown(str(parameters))}: {found.name} names its own")
        commands = read_snap_commands(found)
        chosen = chosen_elements(elements, commands.elements, shown(found.name))
        files = folder / commands.coefficients, folder / commands.parameters
        potential = cls.from_files(*files, chosen)
        if commands.zbl is None:
            return potential
        numbers = dict(zip(commands.elements, commands.zbl.Z, strict=True))
        of_species = np.array([numbers[element] for element in chosen.values()])
        core = ZBL(of_species, commands.zbl.cutoff, potential.species, commands.zbl.onset)
        return potential + core

    def to_files(self, coefficients: str | Path, parameters: str | Path) -> None:
        """Write a file of coefficients and one of parameters, for LAMMPS to read.

        Arguments:
            coefficients: the file, which ends in ``.snapcoeff``; one that is there is replaced.
            parameters: the file, which ends in ``.snapparam``.

        Raises:
            InputError: another ending, or a file that cannot be written.
        """
        paths = path_of(coefficients, "coefficients"), path_of(parameters, "parameters")
        for path, ending in zip(paths, (".snapcoeff", ".snapparam"), strict=True):
            if path.suffix != ending:
                raise InputError(f"cannot write {shown(path.name)}: the allowed ending is {ending}")
        if is_traced(self):
            raise InputError("SNAP is being traced: write it outside jit, grad and vmap")
        held = SnapCoefficients(
            self.header or (), self.species, self.radii, self.weights, np.asarray(self.beta)
        )
        names = ["rcutfac", "twojmax", "rfac0", "rmin0", *FLAGS]
        if self.switchinnerflag:
            names += OF_ELEMENTS
        write_snap_coefficients(paths[0], held)
        write_snap_parameters(paths[1], self.header, {one: getattr(self, one) for one in names})

    def to_file(self, path: str | Path) -> None:
        """Write a file of commands, and the two files that it names beside it.

        Arguments:
            path: the file, which ends in ``.snap``; those beside it are called like it, with the
                endings ``.snapcoeff`` and ``.snapparam``. Files that are there are replaced.

        Raises:
            InputError: another ending, or a file that cannot be written.
        """
        self.to_file_with(path, ())

    def to_file_with(self, path: str | Path, others: tuple[Potential, ...]) -> None:
        """The same of a sum with other potentials, of which the files can say one `ZBL`.

        Arguments:
            path: as of `to_file`.
            others: what is added to this potential.

        Raises:
            InputError: likewise, or another potential than one ZBL.
        """
        path = path_of(path, "path")
        if path.suffix != ".snap":
            raise InputError(f"cannot write {shown(path.name)}: the allowed ending is .snap")
        kinds = [type(one).__name__ for one in others]
        if kinds not in ([], ["ZBL"]):
            raise InputError(
                f"cannot write {shown(path.name)}: SNAP with {' and '.join(kinds)}: allowed in a "
                "file is the sum of SNAP and one ZBL; write SNAP alone with its to_file"
            )
        zbl = None
        if others:
            (core,) = others
            assert isinstance(core, ZBL)
            if is_traced(core):
                raise InputError("ZBL is being traced: write it outside jit, grad and vmap")
            known = self.species if core.species is None else core.species
            charges = dict(zip(known, np.broadcast_to(core.Z, len(known)).tolist(), strict=True))
            cutoff = float(core.cutoff)
            onset = 0.9 * cutoff if core.onset is None else float(core.onset)
            numbers = tuple(charges[name] for name in self.species)
            zbl = OverlaidZBL(onset, cutoff, numbers)
        files = path.with_suffix(".snapcoeff"), path.with_suffix(".snapparam")
        self.to_files(*files)
        commands = SnapCommands(files[0].name, files[1].name, self.species, zbl)
        write_snap_commands(path, self.header, commands)
