"""What derivatives are taken in: the parameters of a potential, and the conditions of a structure.

A relaxed structure also depends on the pressure or the stress that its cell relaxes under, on the
strain of a cell that does not relax, and on where its fixed atoms are held.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.compilation import compiled
from mdsens.errors import InputError
from mdsens.mechanics.condition import Condition, condition_in
from mdsens.mechanics.constrained_motion import ConstrainedMotion
from mdsens.mechanics.elasticity import condition_in_strain, unit_strains
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.relaxing_cell import CellMode
from mdsens.mechanics.stress import tensor_of, voigt
from mdsens.modules import Module
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Equilibrium
from mdsens.units import in_dimensions, unit_name
from mdsens.values import distinct_names, is_traced, listing, nearest, shown
from mdsens.voigt import COMPONENTS

#: The conditions by name, with their physical dimensions.
CONDITIONS = {
    "pressure": "energy/volume",
    "stress": "energy/volume",
    "strain": "1",
    "fixed_positions": "length",
}


class Load(Module):
    """What a relaxing cell is under; see `RelaxingCell`.

    Attributes:
        pressure: energy/length^D.
        tension: shape (D, D), energy.
        volume: of the reference cell, which turns a stress into a tension, length^D.
        span: projection onto what the cell spans, shape (D, D).
    """

    pressure: Float[Any, ""]
    tension: Float[Any, "D D"]
    volume: Float[Any, ""]
    span: Float[Any, "D D"]


class Variables(Module):
    """The numbers that derivatives of one structure are taken in; None: those are not asked for.

    Attributes:
        potential: the potential.
        load: of a cell that relaxes.
        strain: of a cell that does not, shape (D, D); zero.
        fixed_positions: positions of which those of fixed atoms count, shape (N, D), length.
        dimension: number of spatial dimensions.
    """

    potential: Potential
    load: Load | None
    strain: Float[Array, "D D"] | None
    fixed_positions: Float[Array, "N D"] | None
    dimension: int = eqx.field(static=True)

    @staticmethod
    def of(landscape: Landscape, names: Iterable[str] = ()) -> "Variables":
        """Those of a structure.

        Arguments:
            landscape: that it was relaxed in.
            names: of all that is to be differentiated by, as `expanded_names` gives them.

        Returns:
            The Variables.
        """
        system, cell = landscape.system, landscape.relaxing_cell
        kinds = {kind_of(name, landscape.potential) for name in names}
        load = strain = None
        if kinds & {"pressure", "stress"} and cell is not None:
            load = Load(cell.pressure, cell.tension, on_device(system.volume), cell.span)
        if "strain" in kinds:
            strain = on_device(np.zeros((system.dimension, system.dimension)))
        fixed_positions = system.positions if "fixed_positions" in kinds else None
        return Variables(landscape.potential, load, strain, fixed_positions, system.dimension)

    @property
    def of_potential_alone(self) -> bool:
        """Whether no condition of the structure is among them."""
        return self.load is None and self.strain is None and self.fixed_positions is None

    @property
    def argument(self) -> Any:
        """What `condition_for` takes of these, or of what is shaped like them."""
        return self.potential if self.of_potential_alone else self

    def shaped(self, argument: Any) -> "Variables":
        """What is shaped like these, from what is shaped like their `argument`."""
        if not self.of_potential_alone:
            return argument
        return dataclasses.replace(self, potential=argument)

    def values(self, names: Iterable[str]) -> dict[str, float]:
        """The values of some of them by name."""
        known = self.potential.parameters
        return {name: known[name] if name in known else self._value(name) for name in names}

    def _value(self, name: str) -> float:
        """The value of a condition."""
        kind, place = _parsed(name, self.dimension)
        if kind == "fixed_positions":
            return float(np.asarray(self.fixed_positions)[place])
        if kind == "strain" or self.load is None:
            return 0.0
        pressure, tension, volume, span = (np.asarray(part) for part in jax.tree.leaves(self.load))
        if kind == "pressure":
            return float(pressure)
        return float(voigt(tension / volume - pressure * span)[place])

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of one of them, e.g. ``"energy"``."""
        return dimension_of(name, self.potential, self.dimension)

    def direction(self, name: str) -> "Variables":
        """The unit tangent along one of them."""
        zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), self)
        if kind_of(name, self.potential) is None:
            return _replaced(zeros, "potential", self.potential.direction(name))
        kind, place = _parsed(name, self.dimension)
        if kind == "fixed_positions":
            zeros.fixed_positions[place] = 1.0
            return zeros
        if kind == "strain":
            return _replaced(zeros, "strain", unit_strains(self.dimension)[place])
        assert self.load is not None
        pressure, tension = np.ones(()), zeros.load.tension
        if kind == "stress":
            span, component = np.asarray(self.load.span), np.eye(len(COMPONENTS[self.dimension]))
            within = span @ tensor_of(component[place]) @ span
            pressure = np.asarray(-np.trace(within) / np.trace(span))
            tension = np.asarray(self.load.volume) * (within + pressure * span)
        load = Load(pressure, tension, zeros.load.volume, zeros.load.span)
        return _replaced(zeros, "load", load)

    def derivative(self, gradient: "Variables", name: str) -> Float[Array, ""]:
        """The derivative along one of them, from one that is shaped like these."""
        if kind_of(name, self.potential) is None:
            return self.potential.derivative(gradient.potential, name)
        direction, gradient = self.direction(name), in_numpy(gradient)
        products = jax.tree.map(lambda d, g: (d * g).sum(), direction, gradient)
        return on_device(sum(jax.tree.leaves(products)))

    def changed(self, name: str, change: float) -> "Variables":
        """These with one of them changed; nothing is checked."""
        return jax.tree.map(lambda leaf, unit: leaf + change * unit, self, self.direction(name))

    def placed(self, landscape: Landscape) -> Landscape:
        """A landscape in which potential, load and fixed positions are these."""
        landscape = eqx.tree_at(lambda l: l.potential, landscape, self.potential)
        if self.load is not None:
            landscape = eqx.tree_at(
                lambda l: (l.relaxing_cell.pressure, l.relaxing_cell.tension),
                landscape,
                (self.load.pressure, self.load.tension),
            )
        if self.fixed_positions is not None:
            held = landscape.system.fixed[:, None]
            positions = jnp.where(held, self.fixed_positions, landscape.system.positions)
            landscape = eqx.tree_at(lambda l: l.system.positions, landscape, positions)
        return landscape

    def at(self, equilibrium: Equilibrium, q: Float[Array, "R D"]) -> Equilibrium:
        """An equilibrium with these numbers, at some degrees of freedom.

        Arguments:
            equilibrium: that of which these are.
            q: the degrees of freedom before the strain, shape (R, D).

        Returns:
            The Equilibrium.
        """
        landscape = self.placed(equilibrium.landscape)
        if self.strain is not None:
            matrix = jnp.eye(self.dimension) + self.strain
            system, constraints = landscape.system, landscape.system.constraints
            if constraints is not None:
                # Where an atom is held is strained where it is: along a line that it has moved on.
                system = landscape.system_at(q)
                q = system.positions
                turned = constraints.strained(matrix)
                system = eqx.tree_at(lambda s: s.constraints, system, turned)
            moved = system.positions @ matrix, system.cell @ matrix
            system = eqx.tree_at(lambda s: (s.positions, s.cell), system, moved)
            motion = ConstrainedMotion.of(system)
            landscape = dataclasses.replace(landscape, system=system, motion=motion)
            q = q @ matrix
        return eqx.tree_at(lambda e: (e.landscape, e.q), equilibrium, (landscape, q))


def condition_at(
    landscape: Landscape, q: Float[Array, "R D"], variables: Variables
) -> Float[Array, "R D"]:
    """The optimality condition F(q, theta) = 0 of a structure, as a function of all variables.

    Arguments:
        landscape: of the structure.
        q: degrees of freedom, shape (R, D), before the strain.
        variables: theta.

    Returns:
        Shape (R, D), energy/length.
    """
    placed = variables.placed(landscape)
    if variables.strain is None:
        return placed.condition(q)
    return condition_in_strain(placed, q, variables.strain)


def condition_for(
    variables: Variables, landscape: Landscape
) -> Callable[[Float[Array, "R D"], Any], Float[Array, "R D"]]:
    """The optimality condition of a structure, as a function of the `argument` of its variables.

    Where these are of the potential alone it is the one whose products with the Hessian are taken,
    so that one program serves for both.

    Arguments:
        variables: theta.
        landscape: of the structure.

    Returns:
        F(q, theta), a pytree of which the function alone is constant in compiled code.
    """
    function = condition_in if variables.of_potential_alone else condition_at
    return Condition(landscape, function, fills_up=variables.fixed_positions is None)


def expanded_names(
    asked: list[str] | None,
    potential: Potential,
    system: System | None = None,
    cell_mode: CellMode = None,
) -> list[str]:
    """Single names for what is asked for; a table's or a tensor's name means all of it.

    Arguments:
        asked: names such as ``"sigma"``, ``"pressure"``, ``"stress[xx]"`` or ``"strain"``; None:
            all parameters of the potential.
        potential: the potential.
        system: N atoms; None where no condition is asked for.
        cell_mode: what of the cell relaxes.

    Returns:
        The names, each once.

    Raises:
        InputError: there is no such parameter, or the structure has no such condition.
    """
    if asked is None:
        return potential.expand_parameter_names(None)
    found: list[str] = []
    for name in distinct_names(asked, "names"):
        kind = kind_of(name, potential)
        if kind is None or system is None:
            found += _parameters_named(name, potential)
            continue
        allowed = _names_of(kind, system, cell_mode)
        if name == kind:
            found += allowed
        elif name in allowed:
            found.append(name)
        else:
            raise InputError(
                f"wrt = {shown(name)}: there is no such component; allowed are "
                f"{listing(allowed)}{nearest(name, allowed)}"
            )
    return list(dict.fromkeys(found))


def _parameters_named(name: str, potential: Potential) -> list[str]:
    """Parameters of the potential; an error that knows conditions too where there are none."""
    try:
        return potential.expand_parameter_names([name])
    except InputError:
        near = nearest(str(name).split("[")[0], CONDITIONS, 0.75)
        if not near:
            raise
        raise InputError(
            f"wrt = {shown(name)}: there is no such parameter, and no such condition{near}"
        ) from None


def kind_of(name: str, potential: Potential) -> str | None:
    """Which condition a name is of; None where it is of the potential, or of nothing."""
    kind = str(name).split("[")[0]
    if kind not in CONDITIONS:
        return None
    own = {parameter.split("[")[0] for parameter in potential.parameter_names}
    return None if kind in own else kind


def dimension_of(name: str, potential: Potential, spatial: int) -> str:
    """Physical dimension of a parameter or a condition.

    Arguments:
        name: as `expanded_names` gives it.
        potential: the potential.
        spatial: number of spatial dimensions.

    Returns:
        E.g. ``"energy"``.
    """
    kind = kind_of(name, potential)
    if kind is None:
        return potential.parameter_dimension(name)
    return in_dimensions(CONDITIONS[kind], spatial)


def units_of(name: str, potential: Potential, system: System) -> str:
    """Unit of a parameter or a condition of a system."""
    return unit_name(dimension_of(name, potential, system.dimension), system.units)


def _names_of(kind: str, system: System, cell_mode: CellMode) -> list[str]:
    """The names of one condition; an error where a structure has it not."""
    dimension = system.dimension
    if kind == "fixed_positions":
        fixed = np.flatnonzero(np.asarray(system.fixed))
        if not len(fixed):
            raise InputError("wrt = 'fixed_positions': no atom is fixed; give fixed to relax")
        return [f"{kind}[{atom},{axis}]" for atom in fixed for axis in "xyz"[:dimension]]
    if kind == "strain":
        if cell_mode is not None:
            raise InputError(
                "wrt = 'strain': the cell relaxes, and has the strain that its load gives it; ask "
                "for 'stress', or relax with cell=None"
            )
        if not any(system.pbc):
            raise InputError(
                "wrt = 'strain': no direction is periodic, and a strain would be forgotten; ask "
                "for something else"
            )
        if system.constraints is not None and system.constraints.bonds is not None:
            raise InputError(
                f"wrt = 'strain' with {system.constraints}: a strain would change the bonds that "
                "are held; ask for something else, or relax without that constraint"
            )
        return [f"{kind}[{component}]" for component in COMPONENTS[dimension]]
    if cell_mode is None:
        raise InputError(
            f"wrt = {kind!r}: it acts on a cell that relaxes, and the cell is fixed; relax with "
            "cell='full', or ask for 'strain'"
        )
    if not all(system.pbc):
        raise InputError(
            f"wrt = {kind!r} with pbc = {system.pbc}: a load per area needs a body without "
            "vacuum; ask for something else"
        )
    if kind == "pressure":
        return [kind]
    return [f"{kind}[{component}]" for component in COMPONENTS[dimension]]


def _parsed(name: str, dimension: int) -> tuple[str, Any]:
    """Which condition a name is of, and the place of its number there."""
    kind, _, component = name.removesuffix("]").partition("[")
    if kind == "fixed_positions":
        atom, axis = component.split(",")
        return kind, (int(atom), "xyz".index(axis))
    return kind, COMPONENTS[dimension].index(component) if component else ()


def _replaced(variables: Variables, field: str, value: Any) -> Variables:
    return eqx.tree_at(lambda v: getattr(v, field), variables, value)


def motion_of(
    equilibrium: Equilibrium, variables: Variables, change: Float[Any, "R D"], along: Variables
) -> tuple[Array, Array]:
    """How positions and cell follow a change of the degrees of freedom and of the variables.

    Arguments:
        equilibrium: a relaxed structure.
        variables: what it depends on.
        change: of its degrees of freedom, shape (R, D).
        along: the change of the variables.

    Returns:
        Changes of positions, shape (N, D), and of the cell, shape (D, D).
    """
    landscape, count = equilibrium.landscape, equilibrium.system.atom_count
    conditions = variables.load, variables.strain, variables.fixed_positions
    others = landscape.motion, landscape.cell_mode, *conditions
    if is_traced((equilibrium.q, change)) or any(one is not None for one in others):
        return _motion(equilibrium.for_compiled_code(), variables, change, along)
    # Atoms are where their degrees of freedom are, and no cell moves: not worth a program.
    constrained = np.asarray(landscape.constrained_rows(equilibrium.q))[:count]
    moved = np.where(constrained, 0.0, np.asarray(change)[:count])
    return on_device(moved), on_device(np.zeros(equilibrium.system.cell.shape))


@compiled
def _motion(
    equilibrium: Equilibrium, variables: Variables, change: Float[Array, "R D"], along: Variables
) -> tuple[Array, Array]:
    def at(q: Float[Array, "R D"], variables: Variables) -> tuple[Array, Array]:
        system = variables.at(equilibrium, q).system
        return system.positions, system.cell

    return jax.jvp(at, (equilibrium.q, variables), (change, along))[1]
