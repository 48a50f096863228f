"""Packages of others of which mdsens uses single modules: the rest waits until it is asked for."""

import importlib.util
import sys
import threading
import types
from typing import Any

#: Of ASE's that of densities of states, and that of space groups, which import much of SciPy for
#: what readers of structures do not need; NumPy's of Fortran, which SciPy names beside all others.
PACKAGES = ("ase.dft", "ase.spacegroup", "numpy.f2py")

_executing = threading.RLock()


class _Lazy(types.ModuleType):
    """A package whose modules can be imported, and which is executed for what else it has."""

    def __getattr__(self, name: str) -> Any:
        with _executing:
            # What is executed asks for more of the package, and gets what is there by then.
            if type(self) is _Lazy and not vars(self).get("_begun"):
                self._begun = True
                spec: Any = self.__spec__
                try:
                    spec.loader.exec_module(self)
                finally:
                    del self._begun
                self.__class__ = types.ModuleType  # type: ignore[assignment]
        return types.ModuleType.__getattribute__(self, name)


def import_lazily(packages: tuple[str, ...] = PACKAGES) -> None:
    """Have packages execute their own code when something of it is first asked for.

    That is a quarter of what mdsens imports beside JAX. It goes for the whole process, and so for
    those of the command alone.

    Arguments:
        packages: their full names; those that are imported already, or are not there, stay so.
    """
    for name in packages:
        if name in sys.modules:
            continue
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            continue
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _Lazy
        sys.modules[name] = package
        parent, _, own = name.rpartition(".")
        setattr(sys.modules[parent], own, package)
