"""The shape of a study.toml: its tables, their keys, and what each may be."""

import keyword
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mdsens.markup import visible

#: A number in the study's units, or text with a number and a unit.
Quantity = float | str
#: How many digits of the finite differences must agree with the derivative, by default.
VERIFY_TOLERANCE = 1e-6

#: Largest standard deviation of random displacements: more is no displacement of a structure.
LARGEST_RATTLE = 1000.0
#: Longest name of a study: its results go to a folder of that name.
LONGEST_NAME = 100
#: Most runs of a sweep.
MOST_RUNS = 100_000

_ShortText = Annotated[str, Field(min_length=1, max_length=200)]
_FormulaText = Annotated[str, Field(min_length=1, max_length=1000)]


def _name_of_folder(name: str) -> str:
    if name != name.strip() or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError("give a name for a folder, without / or \\, and no dot at its head")
    if visible(name) != name:
        raise ValueError("give a name whose characters can all be seen")
    return name


def _plain_name(name: str) -> str:
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise ValueError(
            "give a name of letters, digits and underscores that begins with a letter and is no "
            "word of Python's"
        )
    return name


#: What formulas can name.
PlainName = Annotated[
    str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_plain_name)
]
StudyName = Annotated[
    str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_name_of_folder)
]


class Table(BaseModel):
    """A table of a study file; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Rattle(Table):
    """Random displacement of the starting positions, so that symmetry does not trap them.

    Attributes:
        amplitude: standard deviation of each component, length.
        seed: of the random numbers.
    """

    amplitude: Quantity
    seed: Annotated[int, Field(ge=0)] = 0


class FileStructure(Table):
    """A structure from a file that `ase.io.read` reads.

    Attributes:
        file: path, relative to the study's folder.
        dimension: 3, or 2 for the xy plane.
        rattle: random displacement at the start.
    """

    file: str
    dimension: Literal[2, 3] = 3
    rattle: Rattle | None = None


class PackingStructure(Table):
    """A random start for a packing; the keys mean what they mean in `random_packing`.

    Attributes:
        builder: ``"soft-sphere-packing"``.
        count: number of particles; a table gives that of each species.
        diameters: diameter of each species, length; with the packing fraction it sets the box.
        packing_fraction: volume of all particles over that of the box.
        dimension: 2 or 3.
        seed: of the random positions.
        rattle: random displacement at the start.
    """

    builder: Literal["soft-sphere-packing"]
    count: int | dict[str, int]
    diameters: dict[str, float]
    packing_fraction: float
    dimension: Literal[2, 3] = 2
    seed: Annotated[int, Field(ge=0)] = 0
    rattle: Rattle | None = None


class Relaxation(Table):
    """How to relax; the keys mean what they mean in `mdsens.relax`.

    Attributes:
        method: ``"auto"``, ``"fire"``, ``"gradient-descent"``, ``"lbfgs"``,
            ``"preconditioned-lbfgs"``, ``"cg"``, ``"newton"``.
        fmax: largest force at which to stop, energy/length.
        max_steps: steps to take at most.
        cell: what of the cell relaxes: ``"isotropic"``, ``"diagonal"``, ``"full"``, ``"shape"``, a
            list of booleans or 0 and 1, one for each strain component in Voigt order, or
            ``"none"`` for nothing.
        pressure: external pressure, energy/length^3; energy/length^2 in two dimensions.
        stress: external stress in place of a pressure, a list of its Voigt components.
        smax: largest stress at which to stop, where it has a tolerance of its own.
        max_step: largest move in one step, length.
        skin: length by which edges reach beyond the potential's range; chosen by default.
        fixed: indices of atoms that stay where they are, instead of the structure's own.
        symmetry: whether atoms and cell keep the symmetry that the structure has.
    """

    method: Literal[
        "auto", "fire", "gradient-descent", "lbfgs", "preconditioned-lbfgs", "cg", "newton"
    ] = "auto"
    fmax: Quantity = 1e-8
    max_steps: Annotated[int, Field(ge=0)] = 20_000
    cell: Literal["none", "isotropic", "diagonal", "full", "shape"] | list[bool | int] = "none"
    pressure: Quantity = 0.0
    stress: list[Quantity] | None = None
    smax: Quantity | None = None
    max_step: Quantity = 0.2
    skin: Quantity | None = None
    fixed: list[Annotated[int, Field(ge=0)]] | None = None
    symmetry: bool = False


class SensitivityTable(Table):
    """Which derivatives to take; the keys mean what they mean in `mdsens.sensitivity`.

    Attributes:
        observables: texts such as ``"energy"`` or ``"distance(0,1)"``; where there are several
            structures, of each of them, or of one as in ``"bulk.volume"``.
        wrt: names of parameters; all by default.
        mode: ``"auto"``, ``"forward"`` or ``"reverse"``.
        allow_unconverged: give derivatives where the structure is not a converged, stable minimum.
        error_estimate: also estimate the error of each value and derivative.
        logarithmic: whether the summary shows d ln O / d ln theta instead of dO/dtheta.
    """

    observables: Annotated[list[_ShortText], Field(min_length=1)] = ["energy"]
    wrt: Annotated[list[_ShortText], Field(min_length=1)] | None = None
    mode: Literal["auto", "forward", "reverse"] = "auto"
    allow_unconverged: bool = False
    error_estimate: bool = True
    logarithmic: bool = False


class Verify(Table):
    """How to compare derivatives with finite differences.

    Attributes:
        step: change of a parameter to begin with, relative to its value; absolute for a parameter
            that is zero; chosen for each parameter by default.
        tolerance: largest relative error allowed.
    """

    step: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    tolerance: Annotated[float, Field(gt=0)] = VERIFY_TOLERANCE


class EnergyVolumeTable(Table):
    """Energies of each structure against its volume, as in `mdsens.sensitivities.energy_volume`.

    Attributes:
        points: number of volumes, 3 or more; 0 for no curve.
        strain: the largest strain of each length, to both sides.
        uncertainty: relative standard uncertainty of every parameter, or a table of those of some;
            0 for no band.
    """

    points: Annotated[int, Field(ge=0, le=1_000)] = 0
    strain: Annotated[float, Field(gt=0, lt=0.5)] = 0.03
    uncertainty: float | dict[str, float] = 0.0


class PhononBandsTable(Table):
    """Frequencies of each structure along a path, as in `mdsens.sensitivities.phonon_bands`.

    Attributes:
        points: number of wave vectors; 0 for no bands.
        path: names of symmetric points such as ``"GXWKGL"``, or pairs of names and wave vectors;
            the path that seekpath recommends by default.
    """

    points: Annotated[int, Field(ge=0)] = 0
    path: str | list[list[str | list[float]]] | None = None


class EnsembleTable(Table):
    """Many random starts: derivatives through the steps of the minimiser, beside implicit ones.

    Attributes:
        seeds: number of starts, the first with the seed of the structure, the next with one more;
            0 for no ensemble.
        steps: steps of the minimiser (``relaxation.method``) to differentiate.
        parameter: the parameter to differentiate in; the study's own one if it has only one.
    """

    seeds: Annotated[int, Field(ge=0, le=100_000)] = 0
    steps: Annotated[int, Field(gt=0, le=1_000_000)] = 2000
    parameter: str | None = None


class SweepTable(Table):
    """Many runs of one study; every other key of the table is a key of the study, with its values.

    Attributes:
        mode: how the values of several keys meet: ``"grid"``, each with each; ``"zip"``, the first
            with the first; ``"random"`` or ``"latin-hypercube"``, samples of ranges.
        samples: number of runs of the last two.
        seed: of their random numbers.
        reports: whether each run has figures and a report.
        arrays: the format of the labelled arrays of all runs: ``"netcdf"``, or ``"zarr"``, which
            has room for more than 2 GB in an array.
        batch_size: runs of one shape that are relaxed side by side at most; 1: each by itself.
    """

    model_config = ConfigDict(extra="allow")

    mode: Literal["grid", "zip", "random", "latin-hypercube"] = "grid"
    samples: Annotated[int, Field(ge=1, le=MOST_RUNS)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    reports: bool = False
    arrays: Literal["netcdf", "zarr"] = "netcdf"
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16


class StudyFile(Table):
    """A study.toml as a whole.

    Attributes:
        name: what the study is called; its folder's name by default.
        description: what it is about.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``.
        structure: table of a FileStructure or a PackingStructure.
        structures: such tables by name, in the place of one structure; each may hold a table
            ``relaxation``, whose keys take the place of those of all.
        potential: ``type``, and the arguments of that potential, whose numbers are in ``units`` of
            LAMMPS's (``"real"``: kcal/mol and Ang) where that is given, too; or ``type``, ``file``,
            the path of a potential file inside the study's folder or the name of one that an
            installed LAMMPS brings, and ``elements``, which of its elements to take; or ``type =
            "calculator"``, ``calculator``, the name of one of ASE's that is known (``"emt"``),
            ``elements``, whose numbers are parameters, and perhaps ``values`` of some.
        relaxation: how to relax.
        sensitivity: which derivatives to take.
        formulas: quantities by name that follow from observables, e.g.
            ``"vacancy.energy - vacancy.atoms / bulk.atoms * bulk.energy"``; of one structure, the
            observables stand alone.
        verify: how to compare them with finite differences.
        energy_volume: energies against volumes.
        phonon_bands: frequencies along a path through the Brillouin zone.
        ensemble: random starts from which to compare them with those of the minimiser's steps.
        sweep: keys of the study that have several values, for a run with each.
    """

    name: StudyName | None = None
    description: str = ""
    units: Literal["ase", "reduced"] = "ase"
    structure: dict[str, Any] | None = None
    structures: Annotated[dict[PlainName, dict[str, Any]], Field(min_length=1)] | None = None
    potential: dict[str, Any]
    relaxation: Relaxation = Relaxation()
    sensitivity: SensitivityTable = SensitivityTable()
    formulas: dict[PlainName, _FormulaText] = {}
    verify: Verify = Verify()
    energy_volume: EnergyVolumeTable = EnergyVolumeTable()
    phonon_bands: PhononBandsTable = PhononBandsTable()
    ensemble: EnsembleTable = EnsembleTable()
    sweep: SweepTable | None = None
