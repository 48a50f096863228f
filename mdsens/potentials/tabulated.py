"""Embedded-atom potentials in closed form, written as the tables that LAMMPS reads."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import ase.data
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.particles.edges import Edges
from mdsens.potentials.embedded_atom import EmbeddingPotential
from mdsens.potentials.files.embedded_atom_files import (
    MOST_KNOTS,
    EmbeddedAtomTables,
    write_embedded_atom_file,
)
from mdsens.values import distinct_names, integer, is_traced, real, shown

#: Fraction of the range below which the functions of the distance are held: some have no end there.
INNERMOST = 0.1
#: The largest density of the tables, in that of the crystal.
DENSEST = 4.0
#: Nearest neighbours of crystals that are tried, in the range, and cells of them on each side.
NEAREST, CELLS = np.linspace(0.3, 0.95, 261), 4


class WrittenAsTables(EmbeddingPotential):
    """An embedding in a density in closed form, which can be written as tables."""

    def to_file(
        self,
        path: str | Path,
        elements: Sequence[str] | None = None,
        knots: int = 20_000,
        density_knots: int = 20_000,
        largest_density: float | None = None,
    ) -> None:
        """Write the potential as tables for LAMMPS's pair_style eam/alloy or eam/fs.

        LAMMPS puts splines through the tables: near kinks of the functions, as at a density of zero
        of a root, and below a tenth of the range, where they are held, those are others.

        Arguments:
            path: the file, ending in ``.fs``; in ``.alloy``, too, where what an element adds to a
                density does not depend on the other one.
            elements: names of the species; those of the potential by default.
            knots: number of distances.
            density_knots: number of densities.
            largest_density: the last of them, beyond which LAMMPS goes on straight; four times
                that of the densest of the face-centred cubic crystals by default.

        Raises:
            InputError: another ending, no name of an element, or the file cannot be written.
        """
        path = path_of(path, "path")
        label = type(self).__name__
        if is_traced(self):
            raise InputError(f"{label} is being traced: write it outside jit, grad and vmap")
        names = self.species if elements is None else distinct_names(elements, "elements")
        if names is None:
            raise InputError(f"{label} has no species: give elements, as in elements=['Cu']")
        if self.species is not None and len(names) != len(self.species):
            raise InputError(
                f"elements = {shown(names)}: give {len(self.species)}, one for each species"
            )
        tables = self._as_tables(
            tuple(names),
            integer(knots, "knots", at_least=100, at_most=MOST_KNOTS),
            integer(density_knots, "density_knots", at_least=100, at_most=MOST_KNOTS),
            largest_density,
        )
        of_pairs = bool(np.any(tables.rho != tables.rho[:, :1]))
        if path.suffix not in ((".fs",) if of_pairs else (".fs", ".alloy")):
            allowed = ".fs: densities are those of pairs" if of_pairs else ".alloy and .fs"
            raise InputError(f"path = {shown(str(path))}: allowed is the ending {allowed}")
        if path.suffix == ".alloy":
            tables = _of_sources(tables)
        write_embedded_atom_file(path, tables)

    def _as_tables(
        self, names: tuple[str, ...], knots: int, density_knots: int, largest: float | None
    ) -> EmbeddedAtomTables:
        reach, count = float(self.interaction_range), len(names)
        r = np.linspace(0.0, reach, knots)
        # The last knot is where the functions have ended, and they are held below the innermost.
        inside = np.clip(r, INNERMOST * reach, None)
        phi, rho = np.zeros((count, count, knots)), np.zeros((count, count, knots))
        for i, j in itertools.product(range(count), repeat=2):
            # What j adds at i.
            phi[i, j], rho[j, i] = self._functions(inside, i, j)
        densest = largest
        if densest is None:
            densest = DENSEST * self._crystal_density(r, phi, rho)
        densest = real(densest, "largest_density", above=0.0)
        spacing = densest / (density_knots - 1)
        densities = jnp.asarray(spacing * np.arange(density_knots))
        embedding = [
            np.asarray(self.embedding_energies(densities, jnp.full(density_knots, i)))
            for i in range(count)
        ]
        held = f"held below {INNERMOST * reach:g} Ang; largest density {densest:g}"
        return EmbeddedAtomTables(
            elements=names,
            comments=("# UNITS: metal", f"# {type(self).__name__}, tables by mdsens", f"# {held}"),
            atoms=tuple(map(_atom_line, names)),
            spacing=reach / (knots - 1),
            density_spacing=spacing,
            cutoff=reach,
            r_phi=r * phi,
            rho=rho,
            F=np.array(embedding),
        )

    def _functions(
        self, r: Float[np.ndarray, " n"], here: int, there: int
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Pair energies, and what the neighbour adds to the density, at distances."""
        distances = jnp.asarray(r)[:, None]
        zeros = jnp.zeros_like(distances)
        edges = Edges(
            (distances, zeros, zeros),
            jnp.ones(distances.shape, bool),
            jnp.full(1, here),
            jnp.full(distances.shape, there),
        )
        energies, densities = self.radial_functions(edges)(distances)
        return np.asarray(energies)[:, 0], np.asarray(densities)[:, 0]

    def _crystal_density(
        self,
        r: Float[np.ndarray, " n"],
        phi: Float[np.ndarray, "S S n"],
        rho: Float[np.ndarray, "S S n"],
    ) -> float:
        """The largest density in face-centred cubic crystals of single species at their rest."""
        cells = np.arange(-CELLS, CELLS + 1)
        x = np.stack(np.meshgrid(cells, cells, cells), axis=-1).reshape(-1, 3)
        # Those of whole coordinates with an even sum, of nearest neighbours at 1.
        shells = np.sqrt(np.sum(x[x.sum(axis=1) % 2 == 0] ** 2, axis=1) / 2.0)
        distances = NEAREST[:, None] * r[-1] * shells[shells > 0.0]

        def summed(table: Float[np.ndarray, " n"]) -> Float[np.ndarray, " tried"]:
            return np.interp(distances, r, table, right=0.0).sum(axis=1)

        found = 0.0
        for i in range(len(phi)):
            density = summed(rho[i, i])
            embedding = self.embedding_energies(jnp.asarray(density), jnp.full(len(density), i))
            best = int(np.argmin(0.5 * summed(phi[i, i]) + np.asarray(embedding)))
            found = max(found, *(float(summed(of)[best]) for of in rho[:, i]))
        return found


def _of_sources(tables: EmbeddedAtomTables) -> EmbeddedAtomTables:
    """The same with densities that depend on the atom alone that adds them."""
    return dataclasses.replace(tables, rho=tables.rho[:, 0])


def _atom_line(name: str) -> str:
    """Atomic number, mass, and a lattice constant and kind of lattice that nobody reads."""
    number = ase.data.atomic_numbers.get(name, 0)
    mass = float(ase.data.atomic_masses[number]) if number else 1.0
    return f"{number} {mass!r} 0.0 none"
