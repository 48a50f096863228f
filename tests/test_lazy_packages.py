"""Packages of others that are executed when something of theirs is asked for."""

import subprocess
import sys

import pytest

from mdsens.lazy_packages import PACKAGES, import_lazily


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[-2]


def test_reading_structures_imports_no_integrals_of_scipy():
    found = python(
        "from mdsens.lazy_packages import import_lazily; import_lazily();"
        "import sys, mdsens.particles.structure_files, mdsens.particles.wave_paths;"
        "others = ('scipy.integrate', 'scipy.optimize', 'scipy.spatial', 'numpy.f2py.f2py2e');"
        "print([name for name in others if name in sys.modules])"
    )
    assert found == "[]"


@pytest.mark.parametrize(
    ("package", "name"),
    [("ase.dft", "get_distribution_moment"), ("ase.spacegroup", "Spacegroup")],
)
def test_what_a_package_has_of_its_own_is_there(package, name):
    """Taken by its name, by a star, and where it is imported a second time."""
    found = python(
        "from mdsens.lazy_packages import import_lazily; import_lazily(); import sys;"
        f"from {package} import *; from {package} import {name}; import {package} as again;"
        f"assert sys.modules['{package}'] is again and again.{name} is {name};"
        f"print(type(again).__name__, {name}.__module__.startswith('{package}'))"
    )
    assert found == "module True"


def test_what_is_missing_is_missed_as_ever():
    import_lazily()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sys.modules["ase.dft"].nothing  # noqa: B018


def test_packages_that_are_there_or_nowhere_stay_so():
    import_lazily()
    before = {name: sys.modules[name] for name in PACKAGES}
    import_lazily((*PACKAGES, "mdsens.nowhere", "nowhere.at_all"))
    assert all(sys.modules[name] is there for name, there in before.items())
    assert "mdsens.nowhere" not in sys.modules
