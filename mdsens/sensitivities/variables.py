"""What derivatives are taken in: the parameters of a potential, and the conditions of a structure.

A relaxed structure also depends on the pressure or the stress that its cell relaxes under, on the
strain of a cell that does not relax, and on where its fixed atoms are held.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import in_numpy, on_device
from mdsens.errors import InputError
from mdsens.mechanics.elasticity import condition_in_strain, unit_strains
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.relaxing_cell import COMPONENTS, CellMode
from mdsens.mechanics.stress import tensor_of, voigt
from mdsens.particles.system import System
from mdsens.potentials.potential import Potential
from mdsens.relaxation import Equilibrium
from mdsens.units import in_dimensions, unit_name
from mdsens.values import distinct_names, shown

#: The conditions by name, with their physical dimensions.
CONDITIONS = {
    "pressure": "energy/volume",
    "stress": "energy/volume",
    "strain": "1",
    "fixed_positions": "length",
}


class Load(eqx.Module):
    """What a relaxing cell is under; see `RelaxingCell`.

    Attributes:
        pressure: energy/length^D.
        tension: shape (D, D), energy.
    """

    pressure: Float[Any, ""]
    tension: Float[Any, "D D"]


class Variables(eqx.Module):
    """The numbers that derivatives of one structure are taken in; None: those are not asked for.

    Attributes:
        potential: the potential.
        load: of a cell that relaxes.
        strain: of a cell that does not, shape (D, D); zero.
        fixed_positions: positions of which those of fixed atoms count, shape (N, D), length.
        reference_volume: that a stress times gives a tension, length^D.
        span: projection onto what the cell spans, shape (D, D).
    """

    potential: Potential
    load: Load | None
    strain: Float[Array, "D D"] | None
    fixed_positions: Float[Array, "N D"] | None
    reference_volume: float = eqx.field(static=True)
    span: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    fixed: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def of(landscape: Landscape, names: Sequence[str] = ()) -> "Variables":
        """Those of a structure.

        Arguments:
            landscape: that it was relaxed in.
            names: of all that is to be differentiated by, as `expanded_names` gives them.

        Returns:
            The Variables.
        """
        system, cell = landscape.system, landscape.relaxing_cell
        kinds = {kind_of(name, landscape.potential) for name in names}
        load = strain = fixed_positions = None
        span: Any = np.eye(system.dimension)
        if kinds & {"pressure", "stress"} and cell is not None:
            load, span = Load(cell.pressure, cell.tension), np.asarray(cell.span)
        if "strain" in kinds:
            strain = on_device(np.zeros((system.dimension, system.dimension)))
        fixed: tuple[int, ...] = ()
        if "fixed_positions" in kinds:
            fixed_positions = system.positions
            fixed = tuple(np.flatnonzero(np.asarray(system.fixed)).tolist())
        volume = float(system.volume) if load is not None else 0.0
        rows = tuple(tuple(map(float, row)) for row in span)
        return Variables(landscape.potential, load, strain, fixed_positions, volume, rows, fixed)

    @property
    def parameters(self) -> dict[str, float]:
        """Name and value of all that there is."""
        found = dict(self.potential.parameters)
        dimension = len(self.span)
        if self.load is not None:
            pressure, tension = np.asarray(self.load.pressure), np.asarray(self.load.tension)
            found["pressure"] = float(pressure)
            stress = tension / self.reference_volume - pressure * np.array(self.span)
            found |= _by_component("stress", voigt(stress))
        if self.strain is not None:
            found |= _by_component("strain", np.zeros(dimension * (dimension + 1) // 2))
        if self.fixed_positions is not None:
            positions = np.asarray(self.fixed_positions)
            for atom in self.fixed:
                for axis, place in zip("xyz", positions[atom], strict=False):
                    found[f"fixed_positions[{atom},{axis}]"] = float(place)
        return found

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of one of them, e.g. ``"energy"``."""
        return dimension_of(name, self.potential, len(self.span))

    def direction(self, name: str) -> "Variables":
        """The unit tangent along one of them."""
        zeros = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), self)
        kind = kind_of(name, self.potential)
        if kind is None:
            return _replaced(zeros, "potential", self.potential.direction(name))
        if kind == "fixed_positions":
            atom, axis = name[len(kind) + 1 : -1].split(",")
            zeros.fixed_positions[int(atom), "xyz".index(axis)] = 1.0
            return zeros
        dimension = len(self.span)
        if kind == "pressure":
            return _replaced(zeros, "load", Load(np.ones(()), np.zeros((dimension, dimension))))
        component = COMPONENTS[dimension].index(name[len(kind) + 1 : -1])
        if kind == "strain":
            return _replaced(zeros, "strain", unit_strains(dimension)[component])
        span = np.array(self.span)
        within = span @ tensor_of(np.eye(len(COMPONENTS[dimension]))[component]) @ span
        pressure = -np.trace(within) / np.trace(span)
        tension = self.reference_volume * (within + pressure * span)
        return _replaced(zeros, "load", Load(np.asarray(pressure), tension))

    def derivative(self, gradient: "Variables", name: str) -> Float[Array, ""]:
        """The derivative along one of them, from one that is shaped like these."""
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
            matrix = jnp.eye(len(self.span)) + self.strain
            system = landscape.system
            landscape = eqx.tree_at(
                lambda l: (l.system.positions, l.system.cell),
                landscape,
                (system.positions @ matrix, system.cell @ matrix),
            )
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


def expanded_names(
    asked: list[str] | None, potential: Potential, system: System, cell_mode: CellMode
) -> list[str]:
    """Single names for what is asked for; a table's or a tensor's name means all of it.

    Arguments:
        asked: names such as ``"sigma"``, ``"pressure"``, ``"stress[xx]"`` or ``"strain"``; None:
            all parameters of the potential.
        potential: the potential.
        system: N atoms.
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
        if kind is None:
            found += potential.expand_parameter_names([name])
            continue
        allowed = _names_of(kind, system, cell_mode)
        if name == kind:
            found += allowed
        elif name in allowed:
            found.append(name)
        else:
            near = difflib.get_close_matches(name, allowed, 1, 0.0)
            raise InputError(
                f"wrt = {shown(name)}: there is no such component; did you mean {near[0]!r}?"
            )
    return list(dict.fromkeys(found))


def kind_of(name: str, potential: Potential) -> str | None:
    """Which condition a name is of; None where it is of the potential, or of nothing."""
    kind = str(name).split("[")[0]
    own = {parameter.split("[")[0] for parameter in potential.parameter_names}
    return kind if kind in CONDITIONS and kind not in own else None


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


def _by_component(kind: str, values: Float[np.ndarray, " V"]) -> dict[str, float]:
    names = next(names for names in COMPONENTS.values() if len(names) == len(values))
    return {f"{kind}[{name}]": float(x) for name, x in zip(names, values, strict=True)}


def _replaced(variables: Variables, field: str, value: Any) -> Variables:
    return eqx.tree_at(lambda v: getattr(v, field), variables, value)
