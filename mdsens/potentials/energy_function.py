"""Any function of a structure as a potential, with its parameters in a pytree of any kind."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from mdsens.errors import InputError
from mdsens.particles.system import System
from mdsens.potentials.invariance import changes_as_a_whole, energy_at_rest
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.potentials.tree_potential import TreePotential
from mdsens.values import boolean, is_traced, shown, text

#: What the function is called with.
ARGUMENTS = ("positions", "cell", "species", "parameters")


class Energy(TreePotential, StructurePotential):
    """An energy that any function gives: ``function(positions, cell, species, parameters)``.

    The function is written for JAX. It is called with positions, shape (N, D), cell, shape (D, D)
    with lattice vectors as rows, species, shape (N,), each atom's index in ``species`` (all zero
    where that is None), and the parameters, and returns one number in double precision. Forces,
    stress and derivatives in every parameter follow. Where directions are periodic the function has
    to know of images itself.

    It is part of compiled programs: the same function object is compiled once, one that is made
    anew, as a lambda in a loop, each time.

    Arguments:
        function: the function.
        parameters: a dict, a list, an Equinox module, parameters of Flax, or any other pytree. Its
            floats and arrays of floats are parameters, in double precision; whatever else it holds
            is constant. A parameter is called by its path, as in ``"k"`` or
            ``"layers[0].weight[1,2]"``.
        species: names of species, where the function tells them apart.
        dimensions: physical dimensions of parameters, as in ``{"k": "energy/length^2"}``; a name
            stands for all that is within it. All others are of unknown dimension.
        invariant: whether the energy stays the same where the whole structure moves. True is
            checked; None: found out in the structure, by numbers, which JAX must not trace.
        isotropic: whether it also stays the same where the structure turns with its cell; likewise.
            None where JAX traces and ``invariant`` is True: it does.
        name: what messages and reports call it; by default the name of the function.

    Raises:
        InputError: no such function, no float among the parameters, or a name that is none.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    declared: bool | None = eqx.field(static=True)
    same_turned: bool | None = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: PyTree,
        species: Any = None,
        *,
        dimensions: Mapping[str, str] | None = None,
        invariant: bool | None = None,
        isotropic: bool | None = None,
        name: str | None = None,
    ):
        _check_function(function)
        own = getattr(function, "__name__", type(function).__name__)
        self._set(own if name is None else text(name, "name"), parameters, dimensions, species)
        self.function = function
        self.declared = None if invariant is None else boolean(invariant, "invariant")
        self.same_turned = None if isotropic is None else boolean(isotropic, "isotropic")
        if self.same_turned and self.declared is False:
            raise InputError(
                f"{self._title}: isotropic = True goes with no invariant = False: an energy that "
                "changes as the structure moves changes as it turns about another point"
            )

    @property
    def invariant(self) -> bool:  # type: ignore[override]
        """Whether the energy is the same wherever the whole system is.

        Raises:
            InputError: nobody has said, and no structure has been seen whose numbers are known.
        """
        if self.declared is None:
            raise InputError(
                f"{self._title}: whether the energy is invariant is not known, and JAX traces the "
                "structure or the parameters: give invariant=True, or False for a field that holds "
                "atoms in place"
            )
        return self.declared

    @property
    def isotropic(self) -> bool:  # type: ignore[override]
        """Whether it is the same however the system is turned, too."""
        return self.declared is not False and self.same_turned is not False

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """What the function returns, in units of energy.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            The energy.

        Raises:
            InputError: the function returns anything but one number in double precision.
        """
        found = self.function(positions, cell, species, self.parameter_tree)
        if not isinstance(found, (jax.Array, np.ndarray, np.generic)):
            raise InputError(f"{self._title} returns a {type(found).__name__}: return one number")
        if found.shape != ():
            raise InputError(
                f"{self._title} returns an array of shape {found.shape}: return one number, the "
                "sum of all energies"
            )
        if found.dtype != np.dtype("float64"):
            raise InputError(
                f"{self._title} returns a {found.dtype}: return a float64; something in it is in "
                "lower precision, or no float at all"
            )
        return jnp.asarray(found)

    def in_system(self, system: System) -> Self:
        """The same energy, of which is known whether it is invariant, and isotropic.

        Arguments:
            system: where it is to act.

        Returns:
            The potential.

        Raises:
            InputError: a species that it does not know, an energy that is no finite number, or one
                that is not what it was said to be.
        """
        self.species_index(system)
        potential, system = jax.lax.stop_gradient((self, system))
        if is_traced((potential, system.positions, system.cell)):
            return self
        energy = energy_at_rest(potential, system)
        if not np.isfinite(energy):
            raise InputError(
                f"{self._title}: the energy of the structure is {energy}: correct the function, "
                "its parameters, or the structure"
            )
        if self.declared is False:
            return self
        changes, known = changes_as_a_whole(potential, system), {}
        for field, option, change in (
            ("declared", "invariant", changes.moved),
            ("same_turned", "isotropic", changes.moved or changes.turned),
        ):
            if getattr(self, field) is None:
                known[field] = change is None
            elif getattr(self, field) and change is not None:
                raise InputError(
                    f"{self._title}: {option} = True, but {change}: give {option}=False, or "
                    "correct the function"
                )
        return self._with(**known)

    def _settings(self, units: str) -> list[tuple[str, str]]:
        known = {None: "to be found out", True: "yes", False: "no"}
        settings = [("function", self.name), ("invariant", known[self.declared])]
        if self.declared is not False:
            settings.append(("isotropic", known[self.same_turned]))
        return settings + ([] if self.species is None else [("species", shown(self.species))])


def _check_function(function: Any) -> None:
    """Raise InputError unless something can be called with the four arguments, and compared."""
    if not callable(function):
        raise InputError(f"function = {shown(function)}: give a function of {', '.join(ARGUMENTS)}")
    try:
        hash(function)
    except TypeError:
        raise InputError(
            f"function is a {type(function).__name__} that cannot be compared: give a function, "
            "and what it holds as parameters"
        ) from None
    try:
        inspect.signature(function).bind(*ARGUMENTS)
    except TypeError as error:
        raise InputError(
            f"function = {shown(function)} does not take ({', '.join(ARGUMENTS)}): {error}"
        ) from None
    except ValueError:
        # Something built in, of which nobody knows what it takes.
        return
