"""Elastic constants, and the moduli that follow from them."""

import functools
from collections.abc import Callable
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError, warn
from mdsens.observables.observable import Observable, name_of
from mdsens.particles.constraints import require_unconstrained
from mdsens.relaxation import Equilibrium
from mdsens.units import in_dimensions, size_of_unit, unit_name
from mdsens.values import boolean, choice, integer, is_traced

#: Stiffnesses that differ by less than this part of the largest are equal: forces of 1e-8 that a
#: relaxation leaves split what symmetry makes equal by some 1e-7 in soft crystals.
SAME = 1e-6
#: Ways to average over all orientations: of Voigt, of Reuss, and their mean, of Hill.
AVERAGES = ("voigt", "reuss", "hill")


def elastic_constants(relaxed_ions: bool = True) -> Observable:
    """Elastic constants C_ab, the derivative of stress a in strain b, in ASE's Voigt order.

    With the stress of Cauchy and strains as engineers count shears (the angle), what a fit of
    stresses to strains gives. At a structure under stress these are the stress-strain coefficients,
    which are not quite symmetric unless the stress is a pressure: D. C. Wallace, Thermodynamics of
    Crystals (1972), eq. 2.24. They are found without any finite strain: from second derivatives of
    the energy, and one linear solve for each strain where the ions relax in it.

    Arguments:
        relaxed_ions: whether the atoms relax in the strained cell; if not, they follow the strain
            (clamped ions). Fixed atoms follow it in any case.

    Returns:
        The Observable: (6, 6) in GPa in ASE's units; (3, 3), xx yy xy, in N/m in two dimensions.

    Raises:
        InputError: when it is evaluated: the system is not periodic in every direction, or is no
            minimum, which has no elastic constants.
    """
    return _all_constants(boolean(relaxed_ions, "elastic_constants: relaxed_ions"))


def bulk_modulus(average: str = "hill", relaxed_ions: bool = True) -> Observable:
    """Bulk modulus of a body of many grains in all orientations.

    That of Reuss is the resistance of one crystal to a pressure, -V dp/dV; in a cubic crystal all
    averages are the same.

    Arguments:
        average: ``"voigt"``, ``"reuss"``, or ``"hill"``, their mean.
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `elastic_constants`, or another average.
    """
    return _average("bulk_modulus", "modulus", average, relaxed_ions, _bulk)


def shear_modulus(average: str = "hill", relaxed_ions: bool = True) -> Observable:
    """Shear modulus of a body of many grains in all orientations.

    Arguments:
        average: ``"voigt"``, ``"reuss"``, or ``"hill"``, their mean.
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `elastic_constants`, or another average.
    """
    return _average("shear_modulus", "modulus", average, relaxed_ions, _shear)


def youngs_modulus(average: str = "hill", relaxed_ions: bool = True) -> Observable:
    """Young's modulus of a body of many grains, from its bulk and shear modulus.

    Arguments:
        average: ``"voigt"``, ``"reuss"``, or ``"hill"``, of the two moduli.
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `elastic_constants`, or another average.
    """
    return _average("youngs_modulus", "modulus", average, relaxed_ions, _young)


def poisson_ratio(average: str = "hill", relaxed_ions: bool = True) -> Observable:
    """Poisson's ratio of a body of many grains, from its bulk and shear modulus.

    Arguments:
        average: ``"voigt"``, ``"reuss"``, or ``"hill"``, of the two moduli.
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, a pure number.

    Raises:
        InputError: as of `elastic_constants`, or another average.
    """
    return _average("poisson_ratio", "1", average, relaxed_ions, _poisson)


def universal_anisotropy(relaxed_ions: bool = True) -> Observable:
    """Universal elastic anisotropy, 5 G_V/G_R + K_V/K_R - 6; zero where all directions are alike.

    S. I. Ranganathan, M. Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008), eq. 8; in two
    dimensions K_V/K_R + 2 G_V/G_R - 3, by the same argument.

    Arguments:
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, a pure number.

    Raises:
        InputError: as of `elastic_constants`.
    """
    return _anisotropy(boolean(relaxed_ions, "universal_anisotropy: relaxed_ions"))


def born_stability(relaxed_ions: bool = True) -> Observable:
    """Least stiffness of a crystal, negative where a strain grows by itself under its load.

    The least eigenvalue of the stress-strain coefficients B, symmetrised, as a tensor: with shears
    as sqrt(2) e_xy, so that it does not depend on the axes. A crystal under a stress is held by B,
    which `elastic_constants` are, not by second derivatives of its energy: T. H. K. Barron, M. L.
    Klein, Proc. Phys. Soc. 85, 523 (1965); J. Wang, J. Li, S. Yip, S. Phillpot, D. Wolf,
    Phys. Rev. B 52, 12627 (1995). Without a stress the criterion is that of M. Born, Proc. Camb.
    Phil. Soc. 36, 160 (1940). What breaks up a cell into several, such as a soft phonon, is no
    strain, and is not seen.

    Least eigenvalues of which several are equal (within 1e-6 of the largest) have the derivative of
    their mean.

    Arguments:
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `elastic_constants`.
    """
    return _born_stability(boolean(relaxed_ions, "born_stability: relaxed_ions"))


@functools.cache
def _born_stability(relaxed: bool) -> Observable:
    name = named("born_stability", relaxed)

    def held(equilibrium: Equilibrium) -> tuple[Any, Any]:
        displacements = displacements_of_ions(equilibrium) if relaxed else None
        stiffness = _as_tensor(_constants(equilibrium, displacements))
        xp = array_module(stiffness)
        values, vectors = xp.linalg.eigh(stiffness)
        least = values <= values[0] + SAME * xp.max(xp.abs(values))
        # The projection onto the strains of least stiffness, over their number: the mean over them.
        return displacements, (vectors * least) @ vectors.T / xp.sum(least)

    def value(equilibrium: Equilibrium, found: tuple[Any, Any]) -> Float[Array, ""]:
        displacements, projection = found
        stiffness, projection = in_numpy((_constants(equilibrium, displacements), projection))
        return on_device((_as_tensor(stiffness) * projection).sum())

    def require(equilibrium: Equilibrium) -> None:
        _require_bulk(name, equilibrium)

    return Observable(
        name, "modulus", value, stationary=held, require=require,
        asks=lambda found: asked_of_strains(found[0]),
    )  # fmt: skip


def _as_tensor(constants: Float[Any, "V V"]) -> Float[Any, "V V"]:
    """The symmetric part, with shears that count twice: a matrix with the tensor's eigenvalues."""
    dimension = 3 if len(constants) == 6 else 2
    weights = np.where(np.arange(len(constants)) < dimension, 1.0, np.sqrt(2.0))
    return (constants + constants.T) / 2 * np.outer(weights, weights)


@functools.cache
def _all_constants(relaxed: bool) -> Observable:
    name = named("elastic_constants", relaxed)
    return _observable(
        name, "modulus", lambda constants: constants, relaxed,
        examine=functools.partial(_warn_unless_stable, name),
    )  # fmt: skip


@functools.cache
def _anisotropy(relaxed: bool) -> Observable:
    name = named("universal_anisotropy", relaxed)

    def value(constants: Float[Any, "V V"]) -> Float[Any, ""]:
        _require_stable(name, constants)
        (bulk_voigt, shear_voigt), (bulk_reuss, shear_reuss) = (
            _voigt_moduli(constants), _reuss_moduli(constants),
        )  # fmt: skip
        strains = 5 if len(constants) == 6 else 2
        return bulk_voigt / bulk_reuss + strains * shear_voigt / shear_reuss - (strains + 1)

    return _observable(name, "1", value, relaxed)


def elastic_constant(i: SupportsIndex, j: SupportsIndex, relaxed_ions: bool = True) -> Observable:
    """One elastic constant C_ij, by the numbers that its indices go by in print.

    Arguments:
        i: 1 to 6 for xx yy zz yz xz xy; 1 to 3 for xx yy xy in two dimensions.
        j: likewise.
        relaxed_ions: as in `elastic_constants`.

    Returns:
        The Observable, in GPa; in N/m in two dimensions.

    Raises:
        InputError: as of `elastic_constants`, or there is no such component.
    """
    row, column = (
        integer(index, f"elastic_constant: {name}", at_least=1, at_most=6)
        for name, index in (("i", i), ("j", j))
    )
    relaxed = boolean(relaxed_ions, "elastic_constant: relaxed_ions")
    return _constant(row, column, relaxed)


@functools.cache
def _constant(row: int, column: int, relaxed: bool) -> Observable:
    name = name_of("elastic_constant", row, column)
    if not relaxed:
        name = f"{name[:-1]},relaxed_ions=False)"

    def entry(constants: Float[Any, "V V"]) -> Float[Any, ""]:
        return constants[row - 1, column - 1]

    examine = functools.partial(_warn_unless_stable, name) if row == column else None
    return _observable(name, "modulus", entry, relaxed, max(row, column), examine)


def _average(
    kind: str, dimension: str, average: Any, relaxed_ions: Any, of_moduli: Callable[..., Any]
) -> Observable:
    chosen = choice(average, f"{kind}: average", AVERAGES)
    relaxed = boolean(relaxed_ions, f"{kind}: relaxed_ions")
    return _averaged(kind, dimension, chosen, relaxed, of_moduli)


@functools.cache
def _averaged(
    kind: str, dimension: str, average: str, relaxed: bool, of_moduli: Callable[..., Any]
) -> Observable:
    name = named(kind, relaxed, *([] if average == "hill" else [f"average={average!r}"]))

    def value(constants: Float[Any, "V V"]) -> Float[Any, ""]:
        if average != "voigt":
            _require_stable(name, constants)
        return of_moduli(*_moduli(constants, average), 3 if len(constants) == 6 else 2)

    return _observable(name, dimension, value, relaxed)


def named(kind: str, relaxed: bool, *options: str) -> str:
    """The name of an observable, in which what is as by default is left out."""
    given = [*options, *([] if relaxed else ["relaxed_ions=False"])]
    return f"{kind}({','.join(given)})" if given else kind


def _observable(
    name: str,
    dimension: str,
    of_constants: Callable[..., Any],
    relaxed: bool,
    last: int = 1,
    examine: Callable[[Any], None] | None = None,
) -> Observable:
    """An observable of the elastic constants, which it is given in their unit.

    Of their components there must be one of the number `last`.
    """

    def value(equilibrium: Equilibrium, displacements: Any = None) -> Float[Array, "..."]:
        return on_device(of_constants(_constants(equilibrium, displacements)))

    def require(equilibrium: Equilibrium) -> None:
        _require_bulk(name, equilibrium)
        spatial = equilibrium.system.dimension
        if last > spatial * (spatial + 1) // 2:
            raise InputError(f"{name}: in two dimensions there are components 1, 2 and 3 alone")

    if not relaxed:
        return Observable(
            name, dimension, value, require=require, examine=examine, asks=asked_of_strains
        )
    return Observable(
        name, dimension, value, stationary=displacements_of_ions, require=require,
        nearly=nearly_displacements_of_ions, examine=examine, asks=asked_of_strains,
    )  # fmt: skip


def asked_of_strains(displacements: Float[Any, "V N D"] | None) -> tuple[str, Any]:
    """What an observable of elastic constants asks an Equilibrium for."""
    return "curvature_in_strain", displacements


def _require_bulk(name: str, equilibrium: Equilibrium) -> None:
    """Raise InputError for slabs, wires and clusters, and for atoms under constraints."""
    require_unconstrained(equilibrium.system.constraints, name)
    pbc = equilibrium.system.pbc
    if not all(pbc):
        raise InputError(
            f"{name} with pbc = {pbc}: elastic constants are those of a body that is periodic "
            "in every direction; of a slab take slab_elastic_constants(), of a wire energies under "
            "strain"
        )


def displacements_of_ions(equilibrium: Equilibrium) -> Float[Any, "V N D"]:
    """How the ions move in each strain; an error where they would not stay."""
    _require_minimum(equilibrium)
    return equilibrium.displacements_in_strain


def nearly_displacements_of_ions(equilibrium: Equilibrium) -> Float[Any, "V N D"]:
    """The same, to as many digits as values need."""
    _require_minimum(equilibrium)
    return equilibrium.nearly_displacements_in_strain


def _constants(
    equilibrium: Equilibrium, displacements: Float[Any, "V N D"] | None
) -> Float[Any, "V V"]:
    """Elastic constants in the unit that they are shown in; None: those of clamped ions."""
    system = equilibrium.system
    unit = size_of_unit("modulus" if system.dimension == 3 else "planar modulus", system.units)
    return equilibrium.elastic_constants(displacements) / unit


def _require_minimum(equilibrium: Equilibrium) -> None:
    """Raise InputError where ions have no place to relax to."""
    if is_traced((equilibrium.q, equilibrium.landscape)):
        return
    certificate, system = equilibrium.at_fixed_cell.certificate, equilibrium.system
    if not certificate.stable:
        unit = unit_name(in_dimensions("energy/length^2", system.dimension), system.units)
        raise InputError(
            f"elastic constants of {certificate.title} (lowest eigenvalue "
            f"{certificate.lowest_eigenvalue_text} {unit}): ions that relax in a strain would "
            "leave it; displace the atoms a little and relax again, or give relaxed_ions=False"
        )


def _warn_unless_stable(name: str, constants: Float[np.ndarray, "*V"]) -> None:
    """Warn where a strain lowers the energy, as of a crystal that is held by its cell alone.

    Of all constants, or of one on the diagonal.
    """
    matrix = np.atleast_2d(constants)
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    if values[0] < -SAME * np.abs(values).max():
        warn(
            f"{name} of a crystal that is not stable: a strain lowers its energy (see "
            "born_stability), and it would not keep its shape; displace the atoms a little and "
            "relax with cell='full'"
        )


def _require_stable(name: str, constants: Float[Any, "V V"]) -> None:
    """Raise InputError where a strain lowers the energy, so that there is no compliance."""
    if is_traced(constants):
        return
    matrix = np.asarray(constants)
    lowest = float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[0])
    if not lowest > 0.0:
        raise InputError(
            f"{name}: a strain lowers the energy of this crystal, and it has no compliance: relax "
            "its cell too, as with cell='full'"
        )


def _voigt_moduli(constants: Float[Any, "V V"]) -> tuple[Any, Any]:
    """Bulk and shear modulus of grains under the same strain: W. Voigt (1928)."""
    xp, dimension = array_module(constants), 3 if len(constants) == 6 else 2
    normal, shear = constants[:dimension, :dimension], xp.diag(constants)[dimension:]
    bulk = xp.sum(normal) / dimension**2
    deviation = xp.trace(normal) - xp.sum(normal) / dimension
    # The mean over the D (D + 1) / 2 - 1 strains that keep the volume.
    return bulk, (deviation + 2.0 * xp.sum(shear)) / (dimension * (dimension + 1) - 2)


def _reuss_moduli(constants: Float[Any, "V V"]) -> tuple[Any, Any]:
    """Bulk and shear modulus of grains under the same stress: A. Reuss (1929)."""
    xp, dimension = array_module(constants), 3 if len(constants) == 6 else 2
    # By a factor that is not a number where a strain lowers the energy.
    factor = xp.linalg.inv(xp.linalg.cholesky((constants + constants.T) / 2))
    compliance = factor.T @ factor
    normal, shear = compliance[:dimension, :dimension], xp.diag(compliance)[dimension:]
    deviation = xp.trace(normal) - xp.sum(normal) / dimension
    strains = dimension * (dimension + 1) / 2 - 1
    return 1.0 / xp.sum(normal), strains / (2.0 * deviation + xp.sum(shear))


def _moduli(constants: Float[Any, "V V"], average: str) -> tuple[Any, Any]:
    """Bulk and shear modulus: R. Hill, Proc. Phys. Soc. A 65, 349 (1952)."""
    if average == "voigt":
        return _voigt_moduli(constants)
    if average == "reuss":
        return _reuss_moduli(constants)
    bulks, shears = zip(_voigt_moduli(constants), _reuss_moduli(constants), strict=True)
    return (bulks[0] + bulks[1]) / 2, (shears[0] + shears[1]) / 2


def averaged_moduli(constants: Float[Any, "V V"], average: str) -> tuple[Any, Any, Any, Any]:
    """Moduli of a body of many grains in all orientations.

    Arguments:
        constants: elastic constants in ASE's Voigt order, shape (6, 6), or (3, 3) in two
            dimensions.
        average: ``"voigt"``, ``"reuss"`` or ``"hill"``.

    Returns:
        Bulk modulus, Young's modulus and shear modulus, in their unit, and Poisson's ratio.
    """
    given = *_moduli(constants, average), 3 if len(constants) == 6 else 2
    return _bulk(*given), _young(*given), _shear(*given), _poisson(*given)


def _bulk(bulk: Any, shear: Any, dimension: int) -> Any:
    return bulk


def _shear(bulk: Any, shear: Any, dimension: int) -> Any:
    return shear


def _young(bulk: Any, shear: Any, dimension: int) -> Any:
    if dimension == 3:
        return 9.0 * bulk * shear / (3.0 * bulk + shear)
    return 4.0 * bulk * shear / (bulk + shear)


def _poisson(bulk: Any, shear: Any, dimension: int) -> Any:
    if dimension == 3:
        return (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear))
    return (bulk - shear) / (bulk + shear)
