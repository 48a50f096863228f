"""JAXopt's isotonic regression without Numba, which cannot type what JAX of today hands over."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jaxopt._src.isotonic


def without_numba():
    """From now on it is the loop of Python that Numba would compile."""
    given = jaxopt._src.isotonic._isotonic_l2_pav_numba
    jaxopt._src.isotonic._isotonic_l2_pav_numba = getattr(given, "py_func", given)
