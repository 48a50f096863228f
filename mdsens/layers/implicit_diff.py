"""Implicit derivatives of any solver, where JAXopt 0.8.5 has them; all of it: `mdsens.implicit`."""

from mdsens.implicit import custom_fixed_point, custom_root, root_jvp, root_vjp

__all__ = ["custom_fixed_point", "custom_root", "root_jvp", "root_vjp"]
