"""Study: a study.toml that has been read and checked."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ase
import jax
import numpy as np

from mdsens.archive import is_holdable
from mdsens.arrays import on_device
from mdsens.curves import checked_uncertainty
from mdsens.errors import InputError
from mdsens.mechanics.filling import of_one_size
from mdsens.observables import BY_NAME, Observable
from mdsens.particles import System
from mdsens.particles.structure_files import read_atoms
from mdsens.potentials import Potential
from mdsens.relaxation import Equilibrium, check_relaxation, relax, unrelaxed
from mdsens.relaxation.arguments import checked_cell, checked_options
from mdsens.sensitivities.energy_volume import FEWEST_POINTS, require_periodic
from mdsens.sensitivities.phonon_bands import checked_path
from mdsens.sensitivities.variables import expanded_names, kind_of
from mdsens.study.build import (
    build_potential,
    build_system,
    potential_files,
    quantity,
    structure_file,
)
from mdsens.study.find import FILE_NAME, default_name
from mdsens.study.formulas import (
    ATOMS,
    Formula,
    Part,
    qualified,
    read_formula,
    read_part,
)
from mdsens.study.model import FileStructure, PackingStructure, StudyFile
from mdsens.study.starts import ensemble_parameter, over_seeds, seed_of
from mdsens.study.study_file import StructureText, StudyText, read_study
from mdsens.units import in_dimensions
from mdsens.values import distinct_names, real, shown

#: What the relaxed positions are called beside the observables.
POSITIONS = "positions"


@dataclasses.dataclass(frozen=True)
class StudyStructure:
    """One structure of a study, and how it is relaxed.

    Attributes:
        name: what it is called; empty in a study of one structure.
        folder: where the study's files are.
        file: the study's file, checked.
        text: what the file says of this structure.
        potential: the potential.
        observables: what to compute: what is asked for, and what formulas are made of.
        relaxation: keyword arguments of `mdsens.relax`.
        for_formulas: names of those observables that formulas alone need.
    """

    name: str
    folder: Path
    file: StudyFile
    text: StructureText
    potential: Potential
    observables: tuple[Observable, ...]
    relaxation: dict[str, Any]
    for_formulas: frozenset[str] = frozenset()

    @property
    def structure(self) -> FileStructure | PackingStructure:
        """The table of the structure."""
        return self.text.structure

    @functools.cached_property
    def structure_file(self) -> Path | None:
        """The file that the structure is read from, looked for once; None where it is built."""
        return structure_file(self.structure, self.folder, self.text.key)

    @functools.cached_property
    def atoms(self) -> ase.Atoms | None:
        """The structure as its file holds it, read once; None where it is built."""
        path = self.structure_file
        return None if path is None else read_atoms(path)

    @functools.cached_property
    def system(self) -> System:
        """The structure that the relaxation begins at."""
        with self._naming_structure():
            system = build_system(self.structure, self.file.units, self.atoms, self.text.key)
        fixed = self.text.relaxation.fixed
        if fixed is not None:
            with _naming(self._relaxation_key("fixed")):
                system = system.with_fixed(fixed)
        if self.text.relaxation.symmetry:
            with _naming(self.text.relaxation_key("symmetry")):
                system = system.with_symmetry()
        return system

    def _relaxation_key(self, name: str) -> str:
        return self.text.relaxation_key(name).rpartition(".")[0]

    def _naming_structure(self) -> contextlib.AbstractContextManager[None]:
        """Say which of several structures is meant by what is said of it."""
        return _naming(self.text.key) if self.name else contextlib.nullcontext()

    def _naming_relaxation(self) -> contextlib.AbstractContextManager[None]:
        return _naming(f"{self.text.key}.relaxation" if self.name else "relaxation")

    def check_without_structure(self) -> None:
        """Find mistakes that show before the structure is there, in no time.

        Raises:
            InputError: a file that is not there, or options of a relaxation that do not fit.
        """
        _ = self.structure_file
        given = {name: value for name, value in self.relaxation.items() if name != "fmax"}
        with self._naming_relaxation():
            checked_options(**given, progress=False)

    def check(self, traced: set[Hashable] | None = None) -> None:
        """Find mistakes that only show with the structure, before anything long is computed.

        Arguments:
            traced: what observables have been traced with already, in other studies; this one is
                added.

        Raises:
            InputError: a species without parameters, an atom that does not exist, a volume or a
                pressure where there is no cell, and the like.
        """
        system = self.system
        with self._naming_relaxation():
            check_relaxation(system, self.potential, **self.relaxation)
        if self.file.energy_volume.points:
            require_periodic(system.pbc)
        bands = self.file.phonon_bands
        if bands.points:
            with self._naming_structure():
                checked_path(system, bands.path, bands.points)
        traced, given = set() if traced is None else traced, self._traced_with
        if given in traced and all(of.is_checked_by_tracing for of in self.observables):
            return
        # Bonds lead to images that show with the structure.
        potential = self.potential.in_system(system)
        start = unrelaxed(system, potential, self.relaxation["cell"])
        # What an observable needs of a structure shows without forces, which take long to trace.
        count, dimension = system.positions.shape
        forces, virial = np.zeros((count, dimension)), np.zeros((dimension, dimension))
        start = start.with_mechanics((on_device(0.0), on_device(forces), on_device(virial)))
        for observable in self.observables:
            name = qualified(self.name, observable.name)
            try:
                observable.check(start)
            except InputError as error:
                alone = observable.name in self.for_formulas
                where = "formulas" if alone else "sensitivity.observables"
                said = str(error)
                known = said.startswith(f"{name}: ")
                raise InputError(f"{where}: {said if known else f'{name}: {said}'}") from None
        traced.add(given)

    @property
    def _traced_with(self) -> Hashable:
        """All that decides what tracing the observables shows: no numbers, but what there is."""
        system = self.system
        return (
            tuple(of.name for of in self.observables),
            jax.tree.structure((system, self.potential)),
            *(np.shape(leaf) for leaf in jax.tree.leaves((system, self.potential))),
            np.asarray(system.species).tobytes(),
            np.any(np.asarray(system.cell), axis=1).tobytes(),
            str(self.relaxation["cell"]),
        )

    def relax(self, progress: bool = False, checkpoint: Path | None = None) -> Equilibrium:
        """Relax the structure as the study says.

        Arguments:
            progress: whether to show a progress bar.
            checkpoint: as in `mdsens.relax`; none of what no file can hold, as calculators.

        Returns:
            The Equilibrium.
        """
        if not is_holdable(self.potential):
            checkpoint = None
        return relax(
            self.system, self.potential, progress=progress, checkpoint=checkpoint, **self.relaxation
        )


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that can be run: everything in its file has been checked.

    Attributes:
        name: what it is called.
        folder: where its files are.
        table: the file as read, with the settings of `--set`.
        file: the same, checked.
        potential: the potential, one for all structures.
        parameters: names of the parameters to differentiate in.
        structures: its structures by name; the only one of ``[structure]`` has an empty name.
        formulas: what to compute from observables.
        ensemble_parameter: what the ensemble is differentiated in; None where there is none.
    """

    name: str
    folder: Path
    table: dict[str, Any]
    file: StudyFile
    potential: Potential
    parameters: tuple[str, ...]
    structures: dict[str, StudyStructure]
    formulas: tuple[Formula, ...] = ()
    ensemble_parameter: str | None = None

    @functools.cached_property
    def potential_files(self) -> dict[tuple[str, ...], Path]:
        """The files that the potential is read from, by names of parts where it is a sum."""
        return potential_files(self.file.potential, self.folder)

    @property
    def only(self) -> StudyStructure:
        """The structure of a study that has one.

        Raises:
            InputError: it has several.
        """
        if len(self.structures) > 1:
            names = ", ".join(self.structures)
            raise InputError(f"the study has several structures: take one of structures, {names}")
        (structure,) = self.structures.values()
        return structure

    @property
    def system(self) -> System:
        """The structure that the relaxation of a study of one structure begins at."""
        return self.only.system

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What a study of one structure computes."""
        return self.only.observables

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the ensemble: that of the structure, and those that follow."""
        if not self.file.ensemble.seeds:
            return ()
        first = seed_of(self.only.structure) or 0
        return tuple(range(first, first + self.file.ensemble.seeds))

    @property
    def curve_parameters(self) -> list[str]:
        """Parameters by which curves of energies against volumes are differentiated."""
        return _of_potential(self.parameters, self.potential)

    def starts(self, seeds: Iterable[int]) -> list[System]:
        """The random starts of an ensemble: those of the runs of a sweep over the seed.

        Arguments:
            seeds: of the random positions or displacements.

        Returns:
            A System for each.
        """
        found = []
        sweep = over_seeds(self.folder / FILE_NAME, self.table, self.only.text, tuple(seeds))
        for run in range(sweep.count):
            text = sweep.text_of(run).structures[self.only.name]
            found.append(dataclasses.replace(self.only, text=text).system)
        return found

    def check(self, traced: set[Hashable] | None = None) -> None:
        """Find mistakes that only show with the structures, see `StudyStructure.check`.

        Arguments:
            traced: as there.

        Raises:
            InputError: there are some.
        """
        for structure in self.structures.values():
            structure.check(traced)

    def of_one_size(self) -> contextlib.AbstractContextManager[None]:
        """A context in which its structures share their programs, if they are of few atoms."""
        return of_one_size(one.system.atom_count for one in self.structures.values())

    def relax(self, progress: bool = False) -> Equilibrium:
        """Relax the structure of a study of one structure as the study says.

        Arguments:
            progress: whether to show a progress bar.

        Returns:
            The Equilibrium.
        """
        return self.only.relax(progress)


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
    return study_of(read_study(study, settings))


def study_of(text: StudyText) -> Study:
    """A study from what its file says.

    Arguments:
        text: from `read_study`.

    Returns:
        The Study.

    Raises:
        InputError: a mistake in it.
    """
    path, table, file, texts = text
    folder = path.absolute().parent
    with _naming("potential"):
        potential = build_potential(file.potential, file.units, folder)
    asked = _asked(file, tuple(texts))
    formulas = _formulas(file, texts)
    needed: dict[str, list[Observable]] = {name: [] for name in texts}
    for part in dict.fromkeys(part for formula in formulas for part in formula.parts):
        if part.observable not in asked[part.structure]:
            needed[part.structure].append(part.observable)
    structures = {
        name: StudyStructure(
            name=name,
            folder=folder,
            file=file,
            text=text,
            potential=potential,
            observables=(*asked[name], *needed[name]),
            relaxation=_relaxation(text, file.units),
            for_formulas=frozenset(observable.name for observable in needed[name]),
        )
        for name, text in texts.items()
    }
    parameters = _parameters(file.sensitivity.wrt, potential, structures)
    _check_energy_volume(file, potential, parameters)
    return Study(
        name=file.name or default_name(folder.resolve()),
        folder=folder,
        table=table,
        file=file,
        potential=potential,
        parameters=parameters,
        structures=structures,
        formulas=formulas,
        ensemble_parameter=ensemble_parameter(file, texts, potential, parameters),
    )


def _parameters(
    wrt: list[str] | None, potential: Potential, structures: Mapping[str, StudyStructure]
) -> tuple[str, ...]:
    """What to differentiate in; conditions are those of every structure."""
    if any(kind_of(name, potential) for name in wrt or ()):
        # Which there are shows with the structures.
        systems = [structure.system for structure in structures.values()]
        cells = [structure.relaxation["cell"] for structure in structures.values()]
        everywhere: list[Callable[[list[str] | None], list[str]]] = [
            functools.partial(expanded_names, potential=potential, system=system, cell_mode=cell)
            for system, cell in zip(systems, cells, strict=True)
        ]
    else:
        everywhere = [functools.partial(expanded_names, potential=potential)]
    with _naming("sensitivity.wrt"):
        found = [tuple(_each_once(expanded, wrt)) for expanded in everywhere]
        if any(names != found[0] for names in found):
            raise InputError(
                "the structures have different atoms that are fixed: name single ones that all have"
            )
    return found[0]


def _asked(file: StudyFile, structures: tuple[str, ...]) -> dict[str, list[Observable]]:
    """The observables that are asked for, of each structure."""
    asked: dict[str, list[Observable]] = {name: [] for name in structures}
    with _naming("sensitivity.observables"):
        for text in file.sensitivity.observables:
            found = read_part(text, structures)
            if isinstance(found, Part):
                asked[found.structure].append(found.observable)
            else:
                for name in structures:
                    asked[name].append(found)
        for name, observables in asked.items():
            if observables:
                names = [qualified(name, observable.name) for observable in observables]
                distinct_names(names, "sensitivity.observables")
    return asked


def _formulas(file: StudyFile, texts: Mapping[str, StructureText]) -> tuple[Formula, ...]:
    spatial = {name: text.structure.dimension for name, text in texts.items()}
    for name, given in file.formulas.items():
        if name in (ATOMS, POSITIONS, *BY_NAME):
            raise InputError(
                f"formulas.{name} = {shown(given)}: an observable has that name; give another"
            )
    return tuple(
        read_formula(name, given, spatial, file.units) for name, given in file.formulas.items()
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


def _of_potential(parameters: Iterable[str], potential: Potential) -> list[str]:
    """Those that are no conditions, on which an energy at a given volume does not depend."""
    return [name for name in parameters if kind_of(name, potential) is None]


def _check_energy_volume(
    file: StudyFile, potential: Potential, parameters: tuple[str, ...]
) -> None:
    """Raise InputError for curves of energies against volumes that cannot be had."""
    asked = file.energy_volume
    if 0 < asked.points < FEWEST_POINTS:
        raise InputError(
            f"energy_volume.points = {asked.points}: give {FEWEST_POINTS} or more, or 0 for no "
            "curve"
        )
    known = _of_potential(parameters, potential)
    checked_uncertainty(asked.uncertainty, known, "energy_volume.uncertainty")


def _relaxation(text: StructureText, units: str) -> dict[str, Any]:
    table, dimension = text.relaxation, text.structure.dimension

    def number(name: str, measure: str) -> float:
        return quantity(getattr(table, name), measure, units, text.relaxation_key(name))

    stresses = in_dimensions("energy/volume", dimension)
    fmax, max_step = number("fmax", "energy/length"), number("max_step", "length")
    for name, value in (("fmax", fmax), ("max_step", max_step)):
        real(value, text.relaxation_key(name), above=0)
    with _naming(text.relaxation_key("cell")):
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
            quantity(one, stresses, units, f"{text.relaxation_key('stress')}[{index}]")
            for index, one in enumerate(table.stress)
        ],
        "smax": None if table.smax is None else number("smax", stresses),
        "max_step": max_step,
        "skin": None if table.skin is None else number("skin", "length"),
    }
