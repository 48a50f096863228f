"""Study: a study.toml that has been read and checked."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.observables import Observable, parse
from mdsens.particles import System
from mdsens.particles.system import read_atoms
from mdsens.potentials import Potential
from mdsens.relaxation import METHODS, Equilibrium, check_relaxation, relax, unrelaxed
from mdsens.relaxation.arguments import checked_cell
from mdsens.sensitivities.unrolled import single_parameter
from mdsens.study.build import build_potential, build_system, quantity, structure_file
from mdsens.study.find import default_name
from mdsens.study.model import FileStructure, PackingStructure, StudyFile
from mdsens.study.study_file import read_study
from mdsens.units import in_dimensions
from mdsens.values import distinct_names, real, shown


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that can be run: everything in its file has been checked.

    Attributes:
        name: what it is called.
        folder: where its files are.
        table: the file as read, with the settings of `--set`.
        file: the same, checked.
        structure: the table of its structure.
        potential: the potential.
        observables: what to compute.
        parameters: names of the parameters to differentiate in.
        relaxation: keyword arguments of `mdsens.relax`.
        ensemble_parameter: what the ensemble is differentiated in; None where there is none.
    """

    name: str
    folder: Path
    table: dict[str, Any]
    file: StudyFile
    structure: FileStructure | PackingStructure
    potential: Potential
    observables: tuple[Observable, ...]
    parameters: tuple[str, ...]
    relaxation: dict[str, Any]
    ensemble_parameter: str | None = None

    @functools.cached_property
    def structure_file(self) -> Path | None:
        """The file that the structure is read from, looked for once; None where it is built."""
        return structure_file(self.structure, self.folder)

    @functools.cached_property
    def atoms(self) -> ase.Atoms | None:
        """The structure as its file holds it, read once; None where it is built."""
        path = self.structure_file
        return None if path is None else read_atoms(path)

    @functools.cached_property
    def system(self) -> System:
        """The structure that the relaxation begins at."""
        return self._built(self.structure)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the ensemble: that of the structure, and those that follow."""
        first = _seed(self.structure) or 0
        return tuple(range(first, first + self.file.ensemble.seeds))

    def start(self, seed: int) -> System:
        """The structure with another seed.

        Arguments:
            seed: of the random positions, or of the displacements of a structure from a file.

        Returns:
            The System.
        """
        return self._built(_with_seed(self.structure, seed))

    def _built(self, structure: FileStructure | PackingStructure) -> System:
        system = build_system(structure, self.file.units, self.atoms)
        fixed = self.file.relaxation.fixed
        if fixed is None:
            return system
        with _naming("relaxation"):
            return system.with_fixed(fixed)

    def check(self) -> None:
        """Find mistakes that only show with the structure, before anything long is computed.

        Raises:
            InputError: a species without parameters, an atom that does not exist, a volume or a
                pressure where there is no cell, and the like.
        """
        system = self.system
        with _naming("relaxation"):
            check_relaxation(system, self.potential, **self.relaxation)
        start = unrelaxed(system, self.potential, self.relaxation["cell"])
        # What an observable needs of a structure shows without forces, which take long to trace.
        count, dimension = system.positions.shape
        forces, virial = np.zeros((count, dimension)), np.zeros((dimension, dimension))
        start = start.with_mechanics((on_device(0.0), on_device(forces), on_device(virial)))
        for observable in self.observables:
            try:
                observable.check(start)
            except InputError as error:
                raise InputError(f"sensitivity.observables: {observable.name}: {error}") from None

    def relax(self, progress: bool = False) -> Equilibrium:
        """Relax the structure as the study says.

        Arguments:
            progress: whether to show a progress bar.

        Returns:
            The Equilibrium.
        """
        return relax(self.system, self.potential, progress=progress, **self.relaxation)


def load_study(study: str | Path, settings: Iterable[str] = ()) -> Study:
    """Read a study and check it.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.
        settings: changes such as ``"relaxation.fmax=1e-6"``.

    Returns:
        The Study.

    Raises:
        InputError: no such study, or a mistake in it: one line that names the key and the value.
    """
    path, table, file, structure = read_study(study, settings)
    folder = path.absolute().parent
    with _naming("potential"):
        potential = build_potential(file.potential, file.units)
    wanted = file.sensitivity
    with _naming("sensitivity.wrt"):
        parameters = tuple(_each_once(potential.expand_parameter_names, wanted.wrt))
    with _naming("sensitivity.observables"):
        observables = tuple(parse(text) for text in wanted.observables)
        if observables:
            names = [observable.name for observable in observables]
            distinct_names(names, "sensitivity.observables")
    return Study(
        name=file.name or default_name(folder.resolve()),
        folder=folder,
        table=table,
        file=file,
        structure=structure,
        potential=potential,
        observables=observables,
        parameters=parameters,
        relaxation=_relaxation(file, structure.dimension),
        ensemble_parameter=_ensemble_parameter(file, structure, potential, parameters),
    )


@contextlib.contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put a key's path before what is wrong with its value, unless it is there already."""
    try:
        yield
    except InputError as error:
        line = str(error)
        raise InputError(line if line.startswith(key) else f"{key}: {line}") from None


def _each_once(
    expanded: Callable[[list[str] | None], list[str]], names: list[str] | None
) -> list[str]:
    """Names of parameters, each meant by one entry of the list; a table's name means all of it."""
    if not names:
        return expanded(names)
    every = [one for name in names for one in expanded([name])]
    return list(distinct_names(every, "sensitivity.wrt"))


def _seed(structure: FileStructure | PackingStructure) -> int | None:
    """What decides a random structure; None where nothing is random."""
    if isinstance(structure, PackingStructure):
        return structure.seed
    return None if structure.rattle is None else structure.rattle.seed


def _with_seed(
    structure: FileStructure | PackingStructure, seed: int
) -> FileStructure | PackingStructure:
    if isinstance(structure, PackingStructure):
        return structure.model_copy(update={"seed": seed})
    if structure.rattle is None:
        raise InputError("the structure has no seed: set structure.rattle.amplitude")
    rattle = structure.rattle.model_copy(update={"seed": seed})
    return structure.model_copy(update={"rattle": rattle})


def _ensemble_parameter(
    file: StudyFile,
    structure: FileStructure | PackingStructure,
    potential: Potential,
    parameters: tuple[str, ...],
) -> str | None:
    """The parameter of the ensemble, where one is asked for and can be had."""
    ensemble, relaxation = file.ensemble, file.relaxation
    if ensemble.parameter is not None:
        try:
            parameters = (single_parameter(potential, ensemble.parameter),)
        except InputError as error:
            raise InputError(f"ensemble.parameter: {error}") from None
    if ensemble.seeds == 0:
        return None
    asked = f"ensemble.seeds = {ensemble.seeds}"
    if _seed(structure) is None:
        raise InputError(
            f"{asked}: the structure has no seed, and all starts would be alike; allowed are "
            "structures with a builder or a rattle: set structure.rattle.amplitude"
        )
    if relaxation.method not in METHODS:
        raise InputError(
            f"{asked} with relaxation.method = {relaxation.method!r}: the steps of one minimiser "
            f"are differentiated; set relaxation.method to one of {', '.join(METHODS)}"
        )
    if relaxation.cell != "none":
        raise InputError(
            f"{asked} with relaxation.cell = {shown(relaxation.cell)}: an ensemble has a fixed "
            "cell; set relaxation.cell=none"
        )
    if len(parameters) != 1:
        raise InputError(
            f"{asked}: ensemble.parameter is missing; set it to one of {', '.join(parameters)}"
        )
    return parameters[0]


def _relaxation(file: StudyFile, dimension: int) -> dict[str, Any]:
    table, units = file.relaxation, file.units

    def number(name: str, measure: str) -> float:
        return quantity(getattr(table, name), measure, units, f"relaxation.{name}")

    stresses = in_dimensions("energy/volume", dimension)
    fmax, max_step = number("fmax", "energy/length"), number("max_step", "length")
    for name, value in (("fmax", fmax), ("max_step", max_step)):
        real(value, f"relaxation.{name}", above=0)
    with _naming("relaxation"):
        cell = None if table.cell == "none" else checked_cell(table.cell)
    return {
        "method": table.method,
        "fmax": fmax,
        "max_steps": table.max_steps,
        "cell": cell,
        "pressure": number("pressure", stresses),
        "stress": None
        if table.stress is None
        else [
            quantity(one, stresses, units, f"relaxation.stress[{index}]")
            for index, one in enumerate(table.stress)
        ],
        "smax": None if table.smax is None else number("smax", stresses),
        "max_step": max_step,
        "skin": None if table.skin is None else number("skin", "length"),
    }
