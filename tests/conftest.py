"""What all tests share. The folder of this file is where `cases` and `numerical` are found."""

import pytest

import mdsens  # noqa: F401  (double precision, before anything imports JAX)


@pytest.fixture
def case(request):
    """A case by the names of its potential and its cell."""
    import cases

    return cases.case(*request.param)
