"""JAXopt 0.8.5's public names, where they are here, and each deliberate difference with its reason.

`python tests/layers/jaxopt_names.py` writes the tables of `docs/from_jaxopt.md` anew.
"""

import importlib
import importlib.util
import inspect
import re
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")

PAGE = Path(__file__).parents[2] / "docs" / "from_jaxopt.md"

# Modules of JAXopt, and where their names are.
MODULES = {
    "jaxopt": "mdsens.layers",
    "jaxopt.implicit_diff": "mdsens.layers.implicit_diff",
    "jaxopt.linear_solve": "mdsens.layers.linear_solve",
    "jaxopt.projection": "mdsens.layers.projection",
    "jaxopt.prox": "mdsens.layers.prox",
    "jaxopt.objective": "mdsens.layers.objective",
    "jaxopt.loss": "mdsens.layers.loss",
    "jaxopt.isotonic": "mdsens.layers.isotonic",
    "jaxopt.perturbations": "mdsens.layers.perturbations",
    "jaxopt.base": "mdsens.layers.base",
    "jaxopt.loop": None,
    "jaxopt.cond": None,
    "jaxopt.tree_util": "mdsens.layers.tree_util",
}

METHODS = ("run", "init_state", "update", "optimality_fun", "l2_optimality_error", "run_iterator")

_TIGHT = "as tight as the precision allows, since derivatives are those of exact solutions"
_ENOUGH = "enough for the tolerance"
_ALONE = "the same: None stands for 1"
_PARAMS = "the name that it has everywhere"

RENAMED = {"sol": "params", "W": "params", "w": "params"}

# Differences of one parameter wherever it occurs, or of one function's: its name, a dot, and that
# of the parameter.
REASONS = {
    "tol": _TIGHT,
    "xtol": _TIGHT,
    "gtol": _TIGHT,
    "maxiter": _ENOUGH,
    "maxls": "enough to find a step size from afar",
    "ridge": "less lets the iterations converge further",
    "linesearch_init": "the natural length: 1 for quasi-Newton steps",
    "max_stepsize": "steps may be longer than the direction",
    "Broyden.condition": "|F| falls, for which no derivative is needed",
    "LBFGSB.linesearch": "the path bends at bounds, and is searched by halving",
    "LevenbergMarquardt.solver": "does not square the condition number",
    "LevenbergMarquardt.materialize_jac": "goes with `solver`, without effect",
    "GradientDescent.prox": "`ProximalGradient` has one",
    "solve": "dense, or iterations with a residual that is looked at",
    "check_feasible": "an empty set is an error",
    "l1reg": _ALONE,
    "prox_elastic_net.hyperparams": _ALONE,
    "sol": _PARAMS,
    "W": _PARAMS,
    "w": _PARAMS,
}

_OPTAX = "a loop of optax within `custom_root`, as above; `run_iterator` for batches"
_SCIPY = "SciPy within `custom_root`, as above"
_SEARCH = "`linesearch=`, `maxls=`, `condition=`, ... of the solver that searches"
_ELSEWHERE = "not there"
_TREES = "parameters are real"

_STATE = (
    "`state.error` in place of `state.status`, and an error that says so where a program is "
    "infeasible or unbounded; to begin elsewhere give a `KKTSolution`, not `init_params(x, ...)`"
)

# What differs beside the arguments of what is compared.
NOTES = {
    "jaxopt.objective.CompositeLinearFunction": "`matrix`, an array, in place of `make_linop`",
    "jaxopt.OSQP": _STATE,
    "jaxopt.BoxOSQP": _STATE,
    "jaxopt.base.IterativeSolver": (
        "an `equinox.Module`: it makes its own `__init__`, to which defaults are given by name"
    ),
}

# What to take instead of names that are not there; * is all of a module.
INSTEAD = {
    "jaxopt.ArmijoSGD": _OPTAX,
    "jaxopt.PolyakSGD": _OPTAX,
    "jaxopt.OptaxSolver": _OPTAX,
    "jaxopt.BacktrackingLineSearch": _SEARCH,
    "jaxopt.HagerZhangLineSearch": _SEARCH,
    "jaxopt.ZoomLineSearch": _SEARCH,
    "jaxopt.IterativeRefinement": "lineax, as above",
    "jaxopt.ScipyBoundedLeastSquares": _SCIPY,
    "jaxopt.ScipyBoundedMinimize": "`LBFGSB`, or SciPy within `custom_root`",
    "jaxopt.ScipyLeastSquares": _SCIPY,
    "jaxopt.ScipyMinimize": _SCIPY,
    "jaxopt.ScipyRootFinding": _SCIPY,
    "jaxopt.objective.*": _ELSEWHERE,
    "jaxopt.base.AutoOrBoolean": "a type, for annotations within JAXopt",
    "jaxopt.base.LinearOperator": "`matrix` of a `CompositeLinearFunction`",
    "jaxopt.base.StochasticSolver": "`IterativeSolver`: all have `run_iterator`",
    "jaxopt.loop.*": "`jax.lax.while_loop`, `equinox.internal.while_loop`",
    "jaxopt.cond.*": "`jax.lax.cond`",
    "jaxopt.tree_util.*": _TREES,
}


def public_names(module):
    """The functions and classes of a module of JAXopt."""
    return [
        name
        for name, value in sorted(vars(importlib.import_module(module)).items())
        if not name.startswith("_") and callable(value) and not inspect.ismodule(value)
    ]


def theirs(module, name):
    """What has the name in JAXopt."""
    return getattr(importlib.import_module(module), name)


def place(module, name):
    """The module that has the name here, None if none has."""
    # Losses are where objectives are, if they have no module of their own.
    for here in (MODULES[module], "mdsens.layers.objective" if module == "jaxopt.loss" else None):
        if here and importlib.util.find_spec(here):
            found = importlib.import_module(here)
            if hasattr(found, name) and not inspect.ismodule(getattr(found, name)):
                return here
    return None


def ours(module, name):
    """What has the same name here, None if nothing has."""
    here = place(module, name)
    return None if here is None else getattr(importlib.import_module(here), name)


def differences(old, new):
    """What of the parameters of an old function a new one has not: {name: what is different}."""
    before, after = (inspect.signature(function).parameters for function in (old, new))
    kinds = {p.kind for p in after.values()}
    takes_all = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    positions = [name for name, p in after.items() if p.kind is by_position]
    found, expected, in_order = {}, 0, True
    for name, parameter in before.items():
        here = RENAMED.get(name, name) if name not in after else name
        if parameter.kind in collecting or (here not in after and takes_all):
            continue
        if here not in after:
            found[name] = "is not there"
            # What comes after has no place of its own any more, and is given by name.
            in_order = False
            continue
        if here != name:
            found[name] = f"is called `{here}`"
        in_place = positions[expected : expected + 1] == [here]
        if in_order and parameter.kind is by_position and not in_place:
            found[name] = "has another position"
        expected += 1
        a, b = parameter.default, after[here].default
        # A function and its own or another's namesake; a default where there was none.
        same = a is b or shown(a) == shown(b)
        if not same and a is not inspect.Parameter.empty:
            found.setdefault(name, f"is {shown(b)}, was {shown(a)}")
    return found


def shown(default):
    """A default as one would write it."""
    if default is inspect.Parameter.empty:
        return "needed"
    if repr(default).startswith("<") and not hasattr(default, "__name__"):
        return f"{type(default).__name__}()"
    return getattr(default, "__name__", repr(default))


def reason(function, name):
    """Why a parameter is different, None if there is no reason."""
    gone = getattr(getattr(ours_by_name(function), "__init__", None), "gone", {})
    if name in gone:
        return gone[name][1]
    return REASONS.get(f"{function}.{name}", REASONS.get(name))


def ours_by_name(function):
    """A solver of the layers by its name."""
    return getattr(importlib.import_module("mdsens.layers"), function, None)


def instead(module, name):
    """What to take instead of a name that is not there, None if nobody says."""
    return INSTEAD.get(f"{module}.{name}", INSTEAD.get(f"{module}.*"))


def all_differences(module, name):
    """Those of a function, or of a class and its methods."""
    old, new = theirs(module, name), ours(module, name)
    found = differences(old, new)
    if inspect.isclass(old):
        for method in METHODS:
            if hasattr(old, method):
                found |= differences(getattr(old, method), getattr(new, method))
    return found


def table(module):
    """The rows of one module, with one reason for all parameters that share it."""
    rows = ["| JAXopt | mdsens | what differs |", "|---|---|---|"]
    together = f"{module}.*" in INSTEAD and not any(place(module, n) for n in public_names(module))
    if together:
        return [*rows, f"| `{module}.*` | | {INSTEAD[f'{module}.*']} |"]
    for name in public_names(module):
        here = place(module, name)
        if here is None:
            rows.append(f"| `{name}` | | {instead(module, name)} |")
            continue
        reasons = {}
        for parameter, what in all_differences(module, name).items():
            absent = what == "is not there"
            words = f"`{parameter}`" if absent else f"`{parameter}` {what}"
            reasons.setdefault((reason(name, parameter), absent), []).append(words)
        words = "; ".join(
            f"{'without ' if absent else ''}{', '.join(names)}: {why}"
            for (why, absent), names in reasons.items()
        )
        words = "; ".join(filter(None, [words, NOTES.get(f"{module}.{name}")]))
        rows.append(f"| `{name}` | `{here.removeprefix('mdsens.')}.{name}` | {words} |")
    return rows


def with_tables(page):
    """The page with its tables as they are now."""

    def anew(match):
        return "\n".join([match[1], "", *table(match[2]), "", "<!-- end -->"])

    return re.sub(r"(<!-- (jaxopt[\w.]*) -->)\n.*?<!-- end -->", anew, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
