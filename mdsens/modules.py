"""The base of all classes here whose fields are pytrees."""

from typing import TYPE_CHECKING

import equinox as eqx


class Module(eqx.Module):
    """`equinox.Module`, with methods that are Python's own.

    Equinox makes a pytree of every method that is asked for, be it to be called at once, which is
    a tenth of a millisecond for a few calls and all that a step of a small system may take.
    """

    if not TYPE_CHECKING:
        __getattribute__ = object.__getattribute__
