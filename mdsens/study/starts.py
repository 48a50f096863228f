"""Random starts: an ensemble is a sweep over the seed of one structure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdsens.errors import InputError
from mdsens.potentials import Potential
from mdsens.relaxation.arguments import compiled_methods
from mdsens.sensitivities.unrolled import single_parameter
from mdsens.study.model import FileStructure, PackingStructure, StudyFile, SweepTable
from mdsens.study.study_file import StructureText
from mdsens.study.sweep import Sweep, SweptKey
from mdsens.values import shown


def seed_of(structure: FileStructure | PackingStructure) -> int | None:
    """What decides a random structure.

    Arguments:
        structure: its table.

    Returns:
        The seed; None where nothing is random.
    """
    if isinstance(structure, PackingStructure):
        return structure.seed
    return None if structure.rattle is None else structure.rattle.seed


def over_seeds(
    path: Path, table: dict[str, Any], text: StructureText, seeds: tuple[int, ...]
) -> Sweep:
    """The sweep over the seed of a structure.

    Arguments:
        path: the study's file.
        table: its tables.
        text: what it says of the structure.
        seeds: the values.

    Returns:
        The Sweep: a run for each seed.

    Raises:
        InputError: nothing is random in the structure.
    """
    if seed_of(text.structure) is None:
        raise InputError("the structure has no seed: set structure.rattle.amplitude")
    inner = ("seed",) if isinstance(text.structure, PackingStructure) else ("rattle", "seed")
    parts = (*text.key.split("."), *inner)
    return Sweep(path, table, SweepTable(), (SweptKey(".".join(parts), parts, seeds),))


def ensemble_parameter(
    file: StudyFile,
    texts: Mapping[str, StructureText],
    potential: Potential,
    parameters: tuple[str, ...],
) -> str | None:
    """The parameter that an ensemble is differentiated in.

    Arguments:
        file: the study's file.
        texts: what it says of its structures.
        potential: the potential.
        parameters: names of those that the study is differentiated in.

    Returns:
        Its name; None where there is no ensemble.

    Raises:
        InputError: an ensemble is asked for, and cannot be had.
    """
    ensemble = file.ensemble
    if ensemble.parameter is not None:
        try:
            parameters = (single_parameter(potential, ensemble.parameter),)
        except InputError as error:
            raise InputError(f"ensemble.parameter: {error}") from None
    if ensemble.seeds == 0:
        return None
    asked = f"ensemble.seeds = {ensemble.seeds}"
    if len(texts) > 1:
        raise InputError(
            f"{asked} with structures {', '.join(texts)}: an ensemble is of one structure; set "
            "ensemble.seeds=0"
        )
    (text,) = texts.values()
    structure, relaxation = text.structure, text.relaxation
    if seed_of(structure) is None:
        raise InputError(
            f"{asked}: the structure has no seed, and all starts would be alike; allowed are "
            "structures with a builder or a rattle: set structure.rattle.amplitude"
        )
    methods = compiled_methods()
    if relaxation.method not in methods:
        raise InputError(
            f"{asked} with relaxation.method = {relaxation.method!r}: the steps of one compiled "
            "minimiser are differentiated; set relaxation.method to one of "
            f"{', '.join(methods)}"
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
