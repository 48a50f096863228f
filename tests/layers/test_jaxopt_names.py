"""Names, arguments and their order are JAXopt 0.8.5's, but for what a table gives reasons for."""

import importlib.metadata
import inspect

import pytest
from jaxopt_names import (
    INSTEAD,
    MODULES,
    PAGE,
    REASONS,
    all_differences,
    differences,
    instead,
    ours,
    public_names,
    reason,
    with_tables,
)

NAMES = [(module, name) for module in MODULES for name in public_names(module)]


def test_it_is_this_version_of_jaxopt():
    assert importlib.metadata.version("jaxopt") == "0.8.5"
    assert len(NAMES) > 100


def test_what_differs_is_seen():
    def old(a, b=1, *, c=2): ...

    assert differences(old, lambda b=1, a=3: 0) == {
        "a": "has another position", "b": "has another position", "c": "is not there",
    }  # fmt: skip
    assert differences(old, lambda a, *, b=1, c=2: 0) == {"b": "has another position"}
    assert differences(old, lambda a, b=2, *, c=2: 0) == {"b": "is 2, was 1"}
    assert not differences(old, lambda a, b=1, d=0, *, c=2: 0)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[".".join(pair) for pair in NAMES])
def test_arguments_are_the_same_or_differ_for_a_reason(module, name):
    if ours(module, name) is None:
        assert instead(module, name), f"{module}.{name} is not here: say what to take instead"
        return
    for parameter, what in all_differences(module, name).items():
        assert reason(name, parameter), f"{name}: {parameter} {what}, without a reason"
        assert "position" not in what, f"{name}: {parameter} {what}"


def test_no_reason_is_given_for_what_does_not_differ():
    differ = {
        (name, parameter)
        for module, name in NAMES
        if ours(module, name) is not None
        for parameter in all_differences(module, name)
    }
    used = {key for name, parameter in differ for key in (parameter, f"{name}.{parameter}")}
    assert not REASONS.keys() - used
    modules = [key.removesuffix(".*") for key in INSTEAD]
    known = {".".join(pair) for pair in NAMES} | set(MODULES)
    assert not set(modules) - known


def test_every_solver_has_the_methods_of_all():
    solvers = [ours("jaxopt", name) for name in public_names("jaxopt")]
    for solver in filter(inspect.isclass, solvers):
        if hasattr(solver, "run"):
            methods = ("init_state", "update", "optimality_fun", "l2_optimality_error")
            # A function that a user gives is a field.
            fields = inspect.signature(solver).parameters
            assert not [m for m in methods if not hasattr(solver, m) and m not in fields], solver


def test_the_tables_of_the_page_are_these():
    page = PAGE.read_text("utf-8")
    assert page.count("<!-- jaxopt") == len(MODULES)
    message = "run python tests/layers/jaxopt_names.py, and look at what it has written"
    assert with_tables(page) == page, message
