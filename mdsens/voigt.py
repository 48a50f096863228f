"""Voigt's order of the components of strains and stresses."""

#: Rows and columns of the Voigt components, in ASE's order: xx yy zz yz xz xy, or xx yy xy.
VOIGT_INDICES = {3: ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)), 2: ((0, 1, 0), (0, 1, 1))}
#: Their names, by the number of dimensions.
COMPONENTS = {3: ("xx", "yy", "zz", "yz", "xz", "xy"), 2: ("xx", "yy", "xy")}
