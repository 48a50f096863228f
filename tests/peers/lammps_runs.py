"""Runs of LAMMPS on structures of ASE, and what is read from them."""

import numpy as np

#: LAMMPS's own factor from eV/Angstrom^3 to bar in units metal.
BAR = 1.6021765e6


def lower_triangular(cell):
    """A cell turned so that its first vector is along x and its second in the xy plane."""
    upper = np.linalg.qr(np.transpose(cell), mode="r")
    return (upper * np.sign(np.diag(upper))[:, None]).T


def of(lammps, atoms, symbols, commands, style="atomic", boundary="p p p", flat=False, room=""):
    """A run with the atoms in their cell, turned as LAMMPS wants it, and with a potential.

    In units metal; in reduced units in two dimensions, which the xy plane is. What bonded terms
    need is told by the words for room in create_box.
    """
    run = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    cell = lower_triangular(atoms.cell[:])
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = cell.tolist()
    bottom = -lz / 2 if flat else 0.0
    run.commands_list([
        "units lj" if flat else "units metal", f"dimension {2 if flat else 3}",
        f"atom_style {style}", "atom_modify map array sort 0 0", f"boundary {boundary}",
        "box tilt large",
        f"region box prism 0 {lx!r} 0 {ly!r} {bottom!r} {bottom + lz!r} {xy!r} {xz!r} {yz!r}",
        f"create_box {len(symbols)} box {room}",
    ])  # fmt: skip
    types = [symbols.index(symbol) + 1 for symbol in atoms.symbols]
    positions = (atoms.get_scaled_positions(wrap=True) @ cell).ravel().tolist()
    run.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions)
    run.commands_list(["mass * 1.0", *commands, "thermo_modify norm no"])
    return run


def stress(run):
    """Voigt components, eV/Ang^3, positive under tension."""
    names = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
    return -np.array([run.get_thermo(name) for name in names]) / BAR


def cell_of(run):
    """The cell, vectors as rows."""
    low, high, xy, yz, xz, *_ = run.extract_box()
    lx, ly, lz = np.subtract(high, low)
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])


def tell(path, elements, errors):
    """One row of a table of files: how far what they give is from LAMMPS's.

    Shown by ``pytest -s``, or where a test fails.
    """
    names = ("energy", "forces", "stress")
    told = ", ".join(f"{name} {e:.0e}" for name, e in zip(names, errors, strict=True))
    print(f"{path.name:34} {' '.join(elements):24} {told}")
