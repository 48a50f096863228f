"""Names of packages that are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def names_on_first_use(
    package: str, homes: Mapping[str, str], modules: Collection[str] = ()
) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports its modules when a name of theirs is used.

    Arguments:
        package: its full name.
        homes: for each name the module of the package that defines it.
        modules: of the package, that are names themselves.

    Returns:
        From a name to what it stands for, which the package knows from then on.
    """

    def of_name(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return of_name
