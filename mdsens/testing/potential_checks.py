"""The checks of a potential: derivatives against differences, symmetries, cells, smoothness."""

from typing import Any

import ase
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.mechanics.energy import energy, energy_and_forces
from mdsens.mechanics.hessian import hessian_vector_product
from mdsens.mechanics.sparse_hessian import sparse_hessian
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.testing.bench import LONG_SKIN, Bench, supercell
from mdsens.testing.finite_differences import (
    MARGIN,
    Oracle,
    along,
    rounding,
    virial,
)
from mdsens.testing.report import FAILED, NOT_ASKED, NOT_JUDGED, PASSED, Check, PotentialReport
from mdsens.testing.smoothness import force_beyond_range, jumps_at_kinks
from mdsens.values import instance, integer, real

#: Relative errors allowed: of forces against differences of the energy (the grade A of OpenKIM), of
#: stress, Hessians and derivatives along parameters against differences, of what has to be equal
#: but for rounding, and of what may not jump where pairs begin to interact.
FORCE_TOLERANCE = 7e-9
DIFFERENCE_TOLERANCE = 1e-7
SYMMETRY_TOLERANCE = 1e-12
JUMP_TOLERANCE = 1e-7

#: Atoms of a structure to check on, at most.
MOST_ATOMS = 500


def check_potential(
    potential: Potential, atoms: ase.Atoms | System, smoothness: int | None = 2
) -> PotentialReport:
    """Check a potential: what mdsens computes with it is right if it passes.

    The structure is distorted a little, at random and always in the same way. Then forces are
    compared with differences of the energy, the virial with differences in the strain, Hessians
    with differences of forces, and derivatives along parameters with differences; translations,
    rotations, the order of atoms and of species, and a supercell may change nothing; and forces add
    up to zero. Of every pair of species, nothing acts beyond the range, and the energy and two
    derivatives do not jump where it begins to interact; all else is checked of the pairs in the
    structure.

    Arguments:
        potential: the potential.
        atoms: some atoms that interact, up to 500: a cluster or a small crystal, with every
            species. What is fixed in it may move.
        smoothness: how many derivatives of the energy may not jump, 0 to 2. Sensitivities jump
            with the second. None: whatever jumps is told and not asked for.

    Returns:
        The PotentialReport, which says what has failed; its `require` raises.

    Raises:
        InputError: no potential, no atoms that interact, too many, or a species without parameters.
    """
    instance(potential, "potential", Potential, "a mdsens.Potential")
    if smoothness is not None:
        integer(smoothness, "smoothness", at_least=0, at_most=2)
    if isinstance(atoms, ase.Atoms):
        atoms = System.from_ase(atoms)
    system = instance(atoms, "atoms", System, "an ase.Atoms or a mdsens.System")
    if system.atom_count > MOST_ATOMS:
        raise InputError(
            f"atoms are {system.atom_count}, and allowed are {MOST_ATOMS}: give a smaller structure"
        )
    real(np.asarray(potential.interaction_range), "the potential's range", above=0.0)
    # What repeats a single atom has no forces, however it is distorted.
    alone = system.atom_count == 1
    bench = Bench(potential, supercell(system) if alone else system.with_fixed(None))
    checks = [
        *_derivative_checks(bench),
        *_symmetry_checks(bench),
        *_parameter_checks(bench),
    ]
    jumps, order = _smoothness_checks(bench, smoothness)
    return PotentialReport(type(potential).__name__, str(system), (*checks, *jumps), order)


def _equal(
    name: str, value: Any, expected: Any, scale: float, unit: str, tolerance: float
) -> Check:
    """Whether two things are the same, but for rounding."""
    error = float(np.linalg.norm(np.asarray(value) - np.asarray(expected))) / scale
    return Check(name, error, tolerance, scale, unit, PASSED if error <= tolerance else FAILED)


def _agrees(
    name: str,
    value: Float[Any, "..."],
    oracle: Oracle,
    unit: str,
    tolerance: float,
    rows: tuple[str, ...] = (),
) -> Check:
    """Whether something is what differences say that it is, if they know it well enough.

    The row that is off most is named, where rows have names.
    """
    scale = float(np.linalg.norm(oracle.value))
    off, doubt = np.linalg.norm(value - oracle.value), np.linalg.norm(oracle.error)
    blurred = MARGIN * doubt > tolerance * scale
    verdict = PASSED if off <= tolerance * scale else FAILED
    if blurred and not off > MARGIN * doubt:
        verdict = NOT_JUDGED
    # What vanishes is nothing to compare with, and right.
    error = float(off) / scale if scale or off else 0.0
    by_row = np.abs(value - oracle.value).reshape(len(value), -1).max(axis=1)
    return Check(
        name, error, tolerance, scale, unit, verdict, rows[by_row.argmax()] if rows else ""
    )


def _derivative_checks(bench: Bench) -> list[Check]:
    """The energy where no derivative is asked for, and all derivatives in space."""
    shifts = np.zeros((bench.dimension, *bench.positions.shape))
    for axis in range(bench.dimension):
        shifts[axis, :, axis] = 1.0
    vectors = np.concatenate([bench.coordinates, shifts])
    alone, products = _energy_and_products(
        bench.potential, bench.system, bench.edge_list, jnp.asarray(vectors)
    )
    flat = np.asarray(products).reshape(len(vectors), -1)
    return [
        _equal(
            "energy without forces", alone, bench.energy, bench.energy_scale,
            bench.unit("energy"), SYMMETRY_TOLERANCE,
        ),
        *_energy_checks(bench),
        *_hessian_checks(bench, flat),
    ]  # fmt: skip


def _energy_checks(bench: Bench) -> list[Check]:
    """Forces and virial."""
    force_unit, stress_unit = bench.unit("energy/length"), bench.unit("energy/volume")
    chosen = bench.coordinates
    noise = rounding(bench.energies, bench.positions)
    slopes = along(bench.energies, bench.positions, chosen, bench.step, noise=noise)
    strained = virial(bench.energies, bench.positions, bench.cell, bench.strain)
    volume = float(bench.system.volume) if any(bench.system.pbc) else 0.0
    name, unit = ("stress", stress_unit) if volume else ("virial", bench.unit("energy"))
    by = volume or 1.0
    return [
        _agrees(
            "forces", -np.tensordot(chosen, bench.forces, 2), slopes, force_unit, FORCE_TOLERANCE
        ),
        _agrees(
            name, bench.virial / by, Oracle(strained.value / by, strained.error / by), unit,
            DIFFERENCE_TOLERANCE,
        ),
    ]  # fmt: skip


def _hessian_checks(bench: Bench, products: Float[np.ndarray, "M ND"]) -> list[Check]:
    """Products with the Hessian, the matrix, and that a translation does no work in it."""
    unit, size = bench.unit("energy/length^2"), bench.positions.size
    chosen = bench.coordinates
    noise = rounding(bench.forces_of, bench.positions)
    slopes = along(bench.forces_of, bench.positions, chosen, bench.step, noise=noise)
    rows = -slopes.reshape(len(chosen), size)
    flat = chosen.reshape(len(chosen), size)
    matrix = sparse_hessian(bench.system, bench.potential, bench.edge_list)
    scale = float(np.linalg.norm(matrix.data))
    return [
        _agrees("Hessian products", products[: len(chosen)], rows, unit, DIFFERENCE_TOLERANCE),
        _agrees("Hessian matrix", (matrix @ flat.T).T, rows, unit, DIFFERENCE_TOLERANCE),
        _equal(
            "Hessian of translations", products[len(chosen) :], 0.0, scale or 1.0, unit,
            SYMMETRY_TOLERANCE,
        ),
    ]  # fmt: skip


def _symmetry_checks(bench: Bench) -> list[Check]:
    """What changes neither the energy nor the forces."""
    system, generator = bench.system, np.random.default_rng(22)
    order = generator.permutation(system.atom_count)
    turn = _rotation(bench.dimension, generator)
    shift = bench.nearest * generator.uniform(0.3, 0.7, bench.dimension)
    names = system.symbols[::-1]
    kinds = len(names) - 1 - np.asarray(system.species)

    def like(positions: Any, cell: Any, symbols: Any, species: Any) -> System:
        return System(positions, cell, symbols, species, system.pbc, units=system.units)

    species = np.asarray(system.species)
    same = (bench.cell, system.symbols, species)
    shuffled = like(bench.positions[order], bench.cell, system.symbols, species[order])
    turned = like(bench.positions @ turn, bench.cell @ turn, system.symbols, species)
    checks = [
        _equal(
            "third law", bench.forces.sum(axis=0), 0.0, *_force_scale(bench), SYMMETRY_TOLERANCE
        ),
        _unchanged(bench, "translation", like(bench.positions + shift, *same)),
        _unchanged(bench, "rotation", turned, turn=turn),
        _unchanged(bench, "order of atoms", shuffled, chosen=order),
    ]
    if len(names) > 1:
        renamed = like(bench.positions, bench.cell, names, kinds)
        checks.append(_unchanged(bench, "order of species", renamed))
    if any(system.pbc):
        big = supercell(system)
        copies = big.atom_count // system.atom_count
        every = np.tile(np.arange(system.atom_count), copies)
        checks.append(_unchanged(bench, "supercell", big, chosen=every, copies=copies))
    scale, unit = _force_scale(bench)
    forces = [bench.of(system, bench.edges(system, skin))[1] for skin in (0.0, LONG_SKIN)]
    alone = force_beyond_range(bench.potential, system)
    off = max(float(np.linalg.norm(forces[1] - forces[0])), alone)
    checks.append(_equal("beyond the range", off, 0.0, scale, unit, SYMMETRY_TOLERANCE))
    return checks


def _force_scale(bench: Bench) -> tuple[float, str]:
    """The norm of all forces, and its unit."""
    return float(np.linalg.norm(bench.forces)), bench.unit("energy/length")


def _rotation(dimension: int, generator: np.random.Generator) -> Float[np.ndarray, "D D"]:
    """A random rotation, no reflection."""
    turn, _ = np.linalg.qr(generator.normal(size=(dimension, dimension)))
    turn[0] *= np.sign(np.linalg.det(turn))
    return turn


def _unchanged(
    bench: Bench,
    name: str,
    system: System,
    turn: np.ndarray | None = None,
    chosen: Any = slice(None),
    copies: int = 1,
) -> Check:
    """Whether another system has the same energy, forces and virial, turned and in its order."""
    turn = np.eye(bench.dimension) if turn is None else turn
    found = bench.of(system)
    scale, unit = _force_scale(bench)
    expected = bench.forces[chosen] @ turn
    off = max(
        abs(found[0] / copies - bench.energy) / bench.energy_scale,
        np.linalg.norm(found[1] - expected) / np.linalg.norm(expected),
        np.linalg.norm(found[2] / copies - turn.T @ bench.virial @ turn)
        / max(np.linalg.norm(bench.virial), bench.energy_scale),
    )
    return _equal(name, off * scale, 0.0, scale, unit, SYMMETRY_TOLERANCE)


def _parameter_checks(bench: Bench) -> list[Check]:
    """Derivatives of the energy and of the forces along each parameter, times the parameter."""
    names = bench.potential.parameter_names
    found, expected, doubts = [], [], []
    noise = np.append(
        rounding(bench.energies, bench.positions), rounding(bench.forces_of, bench.positions)
    )
    for name, value in bench.potential.parameters.items():
        weight = abs(value) or 1.0
        tangent = jax.tree.map(lambda unit, by=weight: by * unit, bench.potential.direction(name))
        slopes: list[np.ndarray] = []

        def at(changes: np.ndarray, tangent: Potential = tangent, slopes: Any = slopes) -> Any:
            # All differences, and the derivative, come from one program.
            values, slope = _along_parameter(
                bench.potential, tangent, bench.system, bench.edge_list, jnp.asarray(changes)
            )
            slopes.append(np.asarray(slope))
            return values

        oracle = along(at, 0.0, np.ones(1), bench.parameter_step, noise=noise)[0]
        found.append(slopes[0])
        expected.append(oracle.value)
        doubts.append(oracle.error)
    if not names:
        return []
    ours, oracle = np.array(found), Oracle(np.array(expected), np.array(doubts))
    energies, forces = np.s_[:, 0], np.s_[:, 1:]
    return [
        _agrees(
            f"{what} along parameters", ours[part], oracle[part], bench.unit(dimension),
            DIFFERENCE_TOLERANCE, names,
        )
        for what, part, dimension in (
            ("energy", energies, "energy"), ("forces", forces, "energy/length"),
        )
    ]  # fmt: skip


def _smoothness_checks(bench: Bench, smoothness: int | None) -> tuple[list[Check], int]:
    """What jumps where pairs begin to interact, and how many derivatives do not."""
    found = jumps_at_kinks(bench.potential, bench.system)
    # A pair of species that does not interact has nothing that could jump.
    errors = np.array([np.abs(one.jumps) / np.where(one.scales, one.scales, 1.0) for one in found])
    worst = errors.argmax(axis=0)
    largest = errors.max(axis=0)
    continuous = largest <= JUMP_TOLERANCE
    # A derivative of what jumps means nothing.
    order = int(np.logical_and.accumulate(continuous).sum()) - 1
    asked = -1 if smoothness is None else smoothness
    checks = []
    for degree, (what, dimension) in enumerate(
        (("energy", "energy"), ("force", "energy/length"), ("curvature", "energy/length^2"))
    ):
        one = found[worst[degree]]
        verdict = PASSED if continuous[degree] else FAILED if degree <= asked else NOT_ASKED
        checks.append(
            Check(
                f"jump of the {what}", float(largest[degree]), JUMP_TOLERANCE,
                float(one.scales[degree]), bench.unit(dimension), verdict, one.pair,
            )
        )  # fmt: skip
    return checks, order


@compiled
def _energy_and_products(
    potential: Potential, system: System, edge_list: EdgeList, vectors: Float[Array, "M N D"]
) -> tuple[Float[Array, ""], Float[Array, "M N D"]]:
    """The energy where no derivative is asked for, and products with the Hessian."""
    return energy(system, potential, edge_list), jax.lax.map(
        lambda vector: hessian_vector_product(system, potential, edge_list, vector), vectors
    )


@compiled
def _along_parameter(
    potential: Potential,
    tangent: Potential,
    system: System,
    edge_list: EdgeList,
    changes: Float[Array, " M"],
) -> tuple[Float[Array, "M _"], Float[Array, " _"]]:
    """Energies and forces, in a row each, where a parameter is changed; and their slope."""

    def mechanics(change: Float[Array, ""]) -> Float[Array, " _"]:
        # Not by with_parameters: a step out of its domain, the energy goes on smoothly.
        changed = jax.tree.map(lambda leaf, unit: leaf + change * unit, potential, tangent)
        energy, forces = energy_and_forces(system, changed, edge_list)
        return jnp.append(energy, forces)

    nothing = jnp.zeros(())
    slope = jax.jvp(mechanics, (nothing,), (nothing + 1.0,))[1]
    return jax.lax.map(mechanics, changes), slope
