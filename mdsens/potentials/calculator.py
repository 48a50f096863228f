"""Calculators of ASE as potentials: EMT, LAMMPS, models that were learned, programs."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import ase.data
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from mdsens.arrays import on_device
from mdsens.compilation import compiled
from mdsens.digits import with_digits
from mdsens.errors import InputError, NoSecondDerivativesError
from mdsens.host_errors import remembered
from mdsens.particles.system import System
from mdsens.potentials.host_calculator import (
    HostCalculator,
    checked_parameters,
    host_calculator,
)
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.summary import Summary
from mdsens.units import powers
from mdsens.values import distinct_names, is_traced, nearest, real_array, shown

#: Values of the parameters, positions, cell, atomic numbers, and which directions are periodic.
Given = tuple[Array, Array, Array, Array, Array]


class Calculator(StructurePotential):
    """The energy of any calculator of ASE, with numbers that it is made from as its parameters.

    ``make_calculator(**parameters)`` returns the calculator. It is called on the host for energy,
    forces and stress at each set of parameters. Products with the Hessian are differences of forces
    along a direction, with the step at which their noise, which is measured, and the third
    derivative do the same harm; derivatives in a parameter are differences of forces of calculators
    made with others, extrapolated. Linear systems are solved by iterations, with a network of
    springs that is fitted to a few of these products as the preconditioner: the calculator is
    called about a hundred times for a sensitivity, whatever the number of atoms.

    This is the opposite of `mdsens.Calculator`, which hands a potential of mdsens on to ASE.

    Of atoms the calculator is given elements, positions, cell and periodic directions; it has to
    give energies without noise beyond rounding, in the same unit throughout. There are no second
    derivatives of its forces: sensitivities of elastic constants are differences of the constants,
    and `jax.hessian` of anything relaxed is refused.

    Arguments:
        make_calculator: a function that takes the parameters by name and returns a calculator.
        parameters: numbers by name.
        dimensions: physical dimension of each parameter by name, e.g. ``{"sigma": "length"}``; what
            is not named is shown as a pure number.

    Raises:
        InputError: no function, no numbers, names or dimensions that are none, or what is made is
            no calculator.
    """

    made_by_calls: ClassVar[bool] = True
    species: tuple[str, ...] | None = eqx.field(static=True)
    make_calculator: Callable[..., Any] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    dimensions: tuple[str, ...] = eqx.field(static=True)
    values: Float[Array, " P"]
    numbers: Int[Array, " N"] | None
    pbc: Bool[Array, " 3"] | None

    def __init__(
        self,
        make_calculator: Callable[..., Any],
        parameters: Mapping[str, Any],
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        if not callable(make_calculator):
            raise InputError(
                f"make_calculator is a {type(make_calculator).__name__}: give a function that "
                "takes the parameters by name and returns a calculator of ASE"
            )
        given = checked_parameters(parameters)
        numbers = [real_array(value, f"Calculator: {name}", ()) for name, value in given.items()]
        self.species, self.numbers, self.pbc = None, None, None
        self.make_calculator, self.names = make_calculator, tuple(given)
        self.dimensions = _dimensions(self.names, dimensions)
        traced = is_traced(numbers)
        self.values = jnp.stack(numbers) if traced else on_device(np.stack(numbers))
        if not traced:
            self._host.calculator(np.asarray(self.values))

    @property
    def _host(self) -> HostCalculator:
        return host_calculator(self.make_calculator, self.names)

    @property
    def calls(self) -> int:
        """How often calculators that this function made have been called for forces."""
        return self._host.calls

    @property
    def force_noise(self) -> float:
        """Root mean square error of a component of a force that was measured, energy/length.

        Zero before any derivative was asked for.
        """
        return self._host.largest_noise

    @property
    def parameter_error(self) -> float:
        """The largest relative error of derivatives of forces in a parameter, so far."""
        return self._host.parameter_error

    # Energies ----------------------------------------------------------------------------------

    def evaluated_in(self, system: System) -> Self:
        """This potential with the elements and the periodic directions of a system."""
        if system.dimension != 3:
            raise InputError("Calculator: the system has two dimensions, and ASE's have three")
        unknown = [name for name in system.symbols if name not in ase.data.atomic_numbers]
        if unknown:
            raise InputError(
                f"Calculator: {shown(unknown[0])} is no element: name species by their elements"
            )
        order = np.array([ase.data.atomic_numbers[name] for name in system.symbols])
        known = _of_species(jnp.asarray(order), system.species), jnp.asarray(system.pbc)
        return eqx.tree_at(
            lambda potential: (potential.numbers, potential.pbc),
            self,
            known,
            is_leaf=lambda leaf: leaf is None,
        )

    def check_use(self, system: System, cell: Any) -> None:
        """Raise InputError where a cell is to relax and there is no stress.

        Arguments:
            system: that is to relax.
            cell: what of its cell relaxes, or None.
        """
        self.evaluated_in(system)
        if cell is None or is_traced(self.values):
            return
        values = np.asarray(self.values)
        if not self._host.has_stress(values):
            kind = type(self._host.calculator(values)).__name__
            raise InputError(
                f"cell = {shown(cell)}: the calculator {kind} gives no stress, without which no "
                "cell relaxes; use cell=None, or a calculator with stress"
            )

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """As of every StructurePotential."""
        return self.structure_mechanics(positions, cell, species)[0]

    def structure_mechanics(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
        """Energy, forces and virial from the calculator, with derivatives from differences.

        Arguments:
            positions: shape (N, 3), length.
            cell: shape (3, 3), lattice vectors as rows, length.
            species: of no meaning here: elements are those of `in_system`.

        Returns:
            Energy; forces, shape (N, 3), energy/length; virial, shape (3, 3), energy, NaN where a
            calculator knows no stress.
        """
        given = self.values, positions, cell, self.numbers, self.pbc
        energy, by_positions, by_cell = _first_derivatives(self._host, *given)
        virial = positions.T @ by_positions + cell.T @ by_cell
        return energy, -by_positions, virial

    # Parameters by name ------------------------------------------------------------------------

    def _entries(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: ("values", (place,)) for place, name in enumerate(self.names)}

    def expand_parameter_names(self, names: str | list[str] | tuple[str, ...] | None) -> list[str]:
        """Resolve names; what stands before brackets means all that begin with it.

        Raises:
            InputError: there is no such parameter; the nearest match is named.
        """
        if names is None:
            return list(self.names)
        expanded: list[str] = []
        for name in distinct_names(names, "names"):
            begun = [known for known in self.names if known.partition("[")[0] == name]
            expanded += begun or [self._canonical(name)]
        return list(dict.fromkeys(expanded))

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, as it was given; ``"1"`` where none was."""
        return self.dimensions[self._entry(name)[1][0]]

    def _summary(self) -> Summary | None:
        if is_traced(self.values) or not isinstance(self.values, (jax.Array, np.ndarray)):
            return None
        if np.shape(self.values) != (len(self.names),):
            return None
        title = f"{type(self).__name__} (in the units of what is made)"
        return Summary(title, self.described_parameters())

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of parameters with values and units as text, and what makes the calculator.

        Arguments:
            units: ``"ase"`` or ``"reduced"``.

        Returns:
            E.g. ``[("sigma", "3.405 Ang"), ("make_calculator", "lennard_jones")]``.
        """
        described = []
        for name, value in self.parameters.items():
            unit = self.parameter_units(name, units)
            text = with_digits(value, most=10)
            described.append((name, text if unit == "1" else f"{text} {unit}"))
        made = getattr(self.make_calculator, "__name__", type(self.make_calculator).__name__)
        return [*described, ("make_calculator", made)]


def _dimensions(names: tuple[str, ...], dimensions: Any) -> tuple[str, ...]:
    """The physical dimension of each parameter."""
    given = {} if dimensions is None else dimensions
    if not isinstance(given, Mapping):
        raise InputError(f"dimensions = {shown(given)}: give a dict of names and dimensions")
    for name, dimension in given.items():
        if name not in names:
            raise InputError(
                f"dimensions: {shown(name)} is no parameter: allowed are {', '.join(names)}"
                f"{nearest(name, names)}"
            )
        powers(dimension)
    return tuple(given.get(name, "1") for name in names)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _first_derivatives(
    host: HostCalculator, *given: Array
) -> tuple[Float[Array, ""], Float[Array, "N 3"], Float[Array, "3 3"]]:
    """Energy, and its derivatives in positions and cell."""
    return _called(host.evaluate_arrays, _shapes(given), *given)


@functools.partial(_first_derivatives.defjvp, symbolic_zeros=True)
def _change(host: HostCalculator, primals: Any, tangents: Any) -> Any:
    found = _first_derivatives(host, *primals)
    values, positions, cell = (
        None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[:3]
    )
    held = *_held(*primals[:3]), *primals[3:]
    energy, by_positions, by_cell = _zeros(found)
    if positions is not None:
        energy += jnp.vdot(found[1], positions)
    if cell is not None:
        energy += jnp.vdot(found[2], cell)
    if positions is not None or cell is not None:
        moved = (
            jnp.zeros_like(primals[1]) if positions is None else positions,
            jnp.zeros_like(primals[2]) if cell is None else cell,
        )
        by_positions, by_cell = _hessian_product(host, held, moved)
    if values is not None:
        mixed = _change_in_parameters(host, held, values)
        energy, by_positions, by_cell = jax.tree.map(
            jnp.add, (energy, by_positions, by_cell), mixed
        )
    return found, (energy, by_positions, by_cell)


@jax.custom_jvp
def _held(*arrays: Array) -> tuple[Array, ...]:
    """The same arrays, in which nothing more can be differentiated."""
    return arrays


@functools.partial(_held.defjvp, symbolic_zeros=True)
def _refused(primals: Any, tangents: Any) -> Any:
    if not all(isinstance(tangent, SymbolicZero) for tangent in tangents):
        raise NoSecondDerivativesError(
            "a calculator gives no second derivatives of its forces: ask mdsens.sensitivity in "
            "forward mode, which takes differences of elastic constants, differentiate what needs "
            "no Hessian, such as distances and energies, or use a potential of mdsens"
        )
    return primals, _zeros(primals)


def _hessian_product(host: HostCalculator, held: Given, moved: tuple[Array, Array]) -> Any:
    """Changes of the first derivatives in positions and cell along both: a symmetric map."""

    def product(_: Any, along: tuple[Array, Array]) -> Any:
        return _called(host.change_along, _shapes(held)[1:], *held, *along)

    return _linear(product, product, moved)


def _change_in_parameters(host: HostCalculator, held: Given, values: Array) -> Any:
    """Changes of the energy and of both first derivatives along parameters, and its transpose."""

    def forward(_: Any, along: tuple[Array, ...]) -> Any:
        changes = _called(host.change_along_parameters, _shapes(held), *held, along[0])
        return jnp.zeros_like(along[0]), *changes

    def backward(_: Any, weights: tuple[Array, ...]) -> Any:
        shape = jax.ShapeDtypeStruct(values.shape, values.dtype)
        found = _called(host.pulled_back, shape, *held, *weights[1:])
        return found, *_zeros(weights[1:])

    return _linear(forward, backward, (values, jnp.zeros(()), *_zeros(held[1:3])))[1:]


def _linear(forward: Callable[..., Any], backward: Callable[..., Any], along: Any) -> Any:
    """A linear map of a pytree to one alike whose transpose is known.

    JAX knows solutions of linear systems as such; the matrix itself is never asked for.
    """
    # As one vector, all of which is linear, also where parts of it are zero.
    flat, unravel = ravel_pytree(along)

    def flattened(product: Callable[..., Any]) -> Callable[..., Array]:
        return lambda matrix, vector: ravel_pytree(product(matrix, unravel(vector)))[0]

    found = jax.lax.custom_linear_solve(
        lambda same: same, flat, solve=flattened(forward), transpose_solve=flattened(backward)
    )
    return unravel(found)


@compiled
def _of_species(values: Array, species: Array) -> Array:
    """What each atom has, of values by species."""
    return values[species]


def _called(function: Callable[..., Any], shapes: Any, *given: Array) -> Any:
    """Call host code with NumPy's own arrays when the compiled code runs; each of a batch in turn.

    A callback that waits for JAX could wait forever.
    """

    def on_host(*arrays: Any) -> Any:
        return function(*map(np.asarray, arrays))

    on_host = remembered(on_host)
    return jax.pure_callback(on_host, shapes, *given, vmap_method="sequential")


def _shapes(given: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Of an energy, and its derivatives in positions and cell."""
    return tuple(
        jax.ShapeDtypeStruct(shape, jnp.float64)
        for shape in ((), jnp.shape(given[1]), jnp.shape(given[2]))
    )


def _zeros(tree: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, tree)
