"""The condition of a landscape, that no force is left, and products with its derivative."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from mdsens.implicit.linearisation import compiled_product
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.filling import Filling, serves_none_alone
from mdsens.modules import Module, with_fields
from mdsens.potentials.potential import Potential


def condition_in(
    landscape: Landscape, q: Float[Array, "R D"], potential: Potential
) -> Float[Array, "R D"]:
    """The optimality condition F(q, theta) of a landscape in a potential."""
    return eqx.tree_at(lambda given: given.potential, landscape, potential).condition(q)


class Condition(Module):
    """The optimality condition of a landscape as a function of q and of an argument.

    Attributes:
        landscape: the landscape.
        function: takes it, q (R, D) and the argument, and returns what is left, (R, D).
        fills_up: whether compiled code may take it filled up with atoms that do not move: not where
            the argument has numbers of each atom.
    """

    landscape: Landscape
    function: Callable[..., Float[Array, "R D"]] = eqx.field(static=True, default=condition_in)
    fills_up: bool = eqx.field(static=True, default=True)

    def __call__(self, q: Float[Array, "R D"], argument: Any) -> Float[Array, "R D"]:
        """What is left of the condition, shape (R, D), energy/length."""
        return self.function(self.landscape, q, argument)

    def filled(self) -> "tuple[Condition, Filling] | None":
        """The condition of more atoms, and how q is filled up; None where it is taken as it is."""
        filled = self.landscape.filled if self.fills_up else None
        if filled is None:
            return None
        return with_fields(self, landscape=filled.landscape), filled.filling

    def serves_as_it_is(self) -> None:
        """Note that what fills it up is not finite."""
        serves_none_alone(self.landscape.potential)


def hessian_products(
    landscape: Landscape, q: Float[Array, "R D"], vectors: Float[np.ndarray, "*K R D"]
) -> Float[Any, "*K R D"]:
    """Products of the enthalpy's Hessian with one vector or K, by code that is compiled once.

    Arguments:
        landscape: the landscape.
        q: degrees of freedom, shape (R, D), length.
        vectors: directions of these, length.

    Returns:
        Changes of the condition along them, shaped like the vectors, energy/length.
    """
    return compiled_product(Condition(landscape), q, (landscape.potential,), vectors)
