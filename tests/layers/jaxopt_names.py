"""JAXopt 0.8.5's public names, where they are here, and every deliberate difference with its reason."""

import importlib
import inspect
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt

PAGE = Path(__file__).parents[2] / "docs" / "from_jaxopt.md"

# Modules of JAXopt, and where their names are.
MODULES = {
    "jaxopt": "mdsens.layers",
    "jaxopt.implicit_diff": "mdsens.implicit",
    "jaxopt.linear_solve": "mdsens.implicit.linear_solve",
    "jaxopt.projection": "mdsens.layers",
    "jaxopt.prox": "mdsens.layers",
    "jaxopt.objective": "mdsens.layers.losses",
    "jaxopt.loss": "mdsens.layers.loss",
    "jaxopt.isotonic": "mdsens.layers.isotonic",
    "jaxopt.perturbations": "mdsens.layers.perturbations",
    "jaxopt.loop": "mdsens.layers.loop",
    "jaxopt.base": "mdsens.layers",
    "jaxopt.tree_util": "mdsens.layers.tree_util",
}


def public_names(module):
    """The functions and classes of a module of JAXopt."""
    return [
        name
        for name, value in sorted(vars(importlib.import_module(module)).items())
        if not name.startswith("_") and callable(value) and not inspect.ismodule(value)
    ]


def ours(module, name):
    """What has the same name here, None if nothing has."""
    try:
        return getattr(importlib.import_module(MODULES[module]), name, None)
    except ModuleNotFoundError:
        return None


def theirs(module, name):
    """What has the name in JAXopt."""
    return getattr(importlib.import_module(module), name)


def parameters(function):
    """The parameters by name, without those that collect others."""
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    given = inspect.signature(function).parameters.values()
    return {p.name: p for p in given if p.kind not in collecting}


def differences(old, new):
    """What of the parameters of an old function a new one has not: {name: what is different}."""
    before, after = parameters(old), parameters(new)
    found = {name: "is not there" for name in before if name not in after}
    by_position = [
        name for name, p in before.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    positions = [
        name for name, p in after.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    for place, name in enumerate(name for name in by_position if name in after):
        if name not in positions[: place + 1]:
            found[name] = "has another position"
    for name in before.keys() & after.keys():
        a, b = before[name].default, after[name].default
        same = a is b or (callable(a) and callable(b)) or repr(a) == repr(b)
        if not same and name not in found:
            found[name] = f"is {shown(b)}, was {shown(a)}"
    return found


def shown(default):
    if default is inspect.Parameter.empty:
        return "needed"
    return getattr(default, "__name__", repr(default))
