"""Embedded-atom potentials from tables in files, as LAMMPS computes with them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.particles.edges import Edges
from mdsens.potentials.embedded_atom import EmbeddingPotential, RadialFunctions
from mdsens.potentials.files import (
    STYLES,
    EmbeddedAtomTables,
    find_file,
    read_embedded_atom_file,
    write_embedded_atom_file,
)
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.values import boolean, choice, distinct_names, is_traced


class EAM(EmbeddingPotential):
    """An embedded-atom potential of tables: `EAM.from_file` reads them.

    E = 1/2 sum_i sum_j a_ij phi_ij(s_ij) + sum_i e_i F_i(rho_i) with rho_i = sum_j d_j rho_j(s_ij)
    and s = r / l, where a (`pair_scale`), e (`embedding_scale`), d (`density_scale`) and l
    (`length_scale`) are 1 for the potential of the file. In the Finnis-Sinclair variant rho_j
    depends on the element of atom i, too.

    F, rho and r phi are cubic in each interval of their grids; at a knot their slope is
    (f[-2] - 8 f[-1] + 8 f[1] - f[2]) / 12h, (f[1] - f[-1]) / 2h next to an end and
    (f[1] - f[0]) / h at it, as in LAMMPS (pair_eam.cpp). Beyond the last knot F goes on as a
    straight line. Nothing acts from the cutoff on, where a table may end with a small jump. LAMMPS
    differs where its forces are no derivatives of its energy: in funcfl it begins that line one
    spacing later, and where a table ends before the cutoff it has a force at constant energy.

    So forces are continuous. The second derivative is piecewise linear and jumps at every knot, by
    a multiple of the cube of the spacing in tables of smooth functions: derivatives of what is
    relaxed jump with it, by as little. Knots are no `kink_distances`, as some pair always crosses
    one.

    Arguments:
        tables: what a file holds.
        pair_scale: factor of the pair energy; one value, or a table over pairs of elements.
        density_scale: factor of the density that an element adds; one value or one per element.
        embedding_scale: factor of the embedding energy; one value or one per element.
        length_scale: factor of all lengths.
        knots: whether the entries of the tables are parameters by name, e.g. ``"r_phi[Cu-Cu,17]"``,
            ``"rho[Cu,17]"`` (``"rho[Fe-P,17]"`` of Fe at P in the Finnis-Sinclair variant) and
            ``"F[Cu,17]"``, counted from 0.

    Raises:
        InputError: a length scale that is not positive, or a table of another shape.

    M. S. Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984); M. W. Finnis, J. E. Sinclair, Phil. Mag.
    A 50, 45 (1984).
    """

    #: Tables of knots and the dimensions of their entries; those of pairs in either order.
    tables: ClassVar[dict[str, str]] = {"r_phi": "energy*length", "rho": "1", "F": "energy"}
    tables_of_pairs: ClassVar[tuple[str, ...]] = ("r_phi",)
    #: Factors, as arguments after the tables.
    scales: ClassVar[tuple[str, ...]] = (
        "pair_scale", "density_scale", "embedding_scale", "length_scale",
    )  # fmt: skip

    pair_scale: Parameter = parameter("1")
    density_scale: Parameter = parameter("1", per="species")
    embedding_scale: Parameter = parameter("1", per="species")
    length_scale: Parameter = parameter("1", positive=True, per="all")
    r_phi: Float[Array, "S S n"] = eqx.field(kw_only=True)
    rho: Float[Array, "S n"] | Float[Array, "S S n"] = eqx.field(kw_only=True)
    F: Float[Array, "S m"] = eqx.field(kw_only=True)
    species: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    comments: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    atoms: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    spacing: float = eqx.field(static=True, kw_only=True)
    density_spacing: float = eqx.field(static=True, kw_only=True)
    cutoff: float = eqx.field(static=True, kw_only=True)
    knots: bool = eqx.field(static=True, kw_only=True)

    def __init__(
        self,
        tables: EmbeddedAtomTables,
        pair_scale: Any = None,
        density_scale: Any = None,
        embedding_scale: Any = None,
        length_scale: Any = 1.0,
        knots: bool = False,
    ):
        self.species, self.comments, self.atoms = tables.elements, tables.comments, tables.atoms
        self.spacing, self.density_spacing = tables.spacing, tables.density_spacing
        self.cutoff, self.knots = tables.cutoff, boolean(knots, "EAM: knots")
        self.r_phi, self.rho, self.F = map(on_device, (tables.r_phi, tables.rho, tables.F))
        count = len(tables.elements)
        ones: Any = np.ones(count)
        self.pair_scale = ones * ones[:, None] if pair_scale is None else pair_scale
        self.density_scale = ones if density_scale is None else density_scale
        self.embedding_scale = ones if embedding_scale is None else embedding_scale
        self.length_scale = length_scale

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        elements: list[str] | tuple[str, ...] | None = None,
        pair_scale: Any = None,
        density_scale: Any = None,
        embedding_scale: Any = None,
        length_scale: Any = 1.0,
        knots: bool = False,
        style: str | None = None,
    ) -> "EAM":
        """Read a potential from a file of LAMMPS: funcfl, setfl or its Finnis-Sinclair variant.

        Arguments:
            path: of the file, or the name of one that the installed package lammps brings.
            elements: which of its elements to use, in which order; None: all as they are there.
            pair_scale: factor of the pair energy; one value, or a table over pairs of elements.
            density_scale: factor of the density that an element adds; one value or one per element.
            embedding_scale: factor of the embedding energy; one value or one per element.
            length_scale: factor of all lengths.
            knots: whether the entries of the tables are parameters by name.
            style: ``"eam"`` (funcfl), ``"eam/alloy"`` (setfl) or ``"eam/fs"``; by the ending of the
                file's name by default.

        Returns:
            The potential, in eV and Angstrom.

        Raises:
            InputError: no such file, one that is damaged (the line is named) or not in metal units,
                or an element that it has not.
        """
        if style is not None:
            choice(style, "style", STYLES.values())
        tables = read_embedded_atom_file(find_file(path), style)
        if elements is not None:
            tables = tables.of(distinct_names(elements, "elements"), "elements")
        return cls(tables, pair_scale, density_scale, embedding_scale, length_scale, knots)

    def to_file(self, path: str | Path) -> None:
        """Write the potential, its factors multiplied into the tables, for LAMMPS to read.

        Arguments:
            path: the file, ending in ``.alloy``, or ``.fs`` where densities are those of pairs.

        Raises:
            InputError: another ending, or the file cannot be written.
        """
        path = path_of(path, "path")
        if path.suffix != self._ending:
            raise InputError(f"path = {str(path)!r}: the allowed ending is {self._ending}")
        if is_traced(self):
            label = type(self).__name__
            raise InputError(f"{label} is being traced: write it outside jit, grad and vmap")
        write_embedded_atom_file(path, self._scaled_tables())

    @property
    def _ending(self) -> str:
        """Of the files that are written."""
        return ".fs" if self.rho.ndim == 3 else ".alloy"

    def _scaled_tables(self) -> EmbeddedAtomTables:
        """The tables with the factors."""
        length, count = float(self.length_scale), len(self.species)
        pair = np.broadcast_to(self.pair_scale, (count, count))
        density = np.broadcast_to(self._of_species(self.density_scale), (count,))
        embedding = np.broadcast_to(self._of_species(self.embedding_scale), (count,))
        tables = self._tables()
        return dataclasses.replace(
            tables,
            spacing=length * tables.spacing,
            cutoff=length * tables.cutoff,
            r_phi=length * pair[:, :, None] * tables.r_phi,
            rho=density.reshape(-1, *[1] * (tables.rho.ndim - 1)) * tables.rho,
            F=embedding[:, None] * tables.F,
        )

    def _tables(self) -> EmbeddedAtomTables:
        """The tables as they are, without the factors."""
        return EmbeddedAtomTables(
            self.species, self.comments, self.atoms, self.spacing, self.density_spacing,
            self.cutoff, np.asarray(self.r_phi), np.asarray(self.rho), np.asarray(self.F),
        )  # fmt: skip

    @property
    def interaction_range(self) -> Float[Array, ""]:
        """The cutoff of the file times the length scale, in units of length."""
        return self.length_scale * self.cutoff

    def radial_functions(self, edges: Edges) -> RadialFunctions:
        """The function r -> (phi, rho) of these edges, zero where there is no edge."""
        here, there = jnp.broadcast_arrays(edges.species[None], edges.neighbor_species)
        pair, density = self._spline(self.r_phi, here, there), self._density(there, here)
        scale = self.pair_scale[here, there] if self.pair_scale.ndim else self.pair_scale

        def functions(r: Float[Array, "K C"]) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
            s = r / self.length_scale
            inside = edges.mask & (s < self.cutoff)
            return (
                jnp.where(inside, scale * pair(s) / s, 0.0),
                jnp.where(inside, density(s), 0.0),
            )

        return functions

    def densities_at_neighbors(
        self, edges: Edges
    ) -> Callable[[Float[Array, "K C"]], Float[Array, "K C"]] | None:
        """What the atoms add to the densities at their neighbours; None of a single element."""
        if len(self.species) == 1:
            return None
        here, there = jnp.broadcast_arrays(edges.species[None], edges.neighbor_species)
        density = self._density(here, there)

        def function(r: Float[Array, "K C"]) -> Float[Array, "K C"]:
            s = r / self.length_scale
            return jnp.where(edges.mask & (s < self.cutoff), density(s), 0.0)

        return function

    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """F of the density, beyond the last knot a straight line, in units of energy."""
        knots = self.F.shape[-1]
        x = density / self.density_spacing
        inside = jnp.minimum(x, knots - 1.0)
        slopes = _slopes(self.F)
        last = slopes[:, -1][species]
        energy = _cubic(self.F, slopes, species * knots, inside) + (x - inside) * last
        return self._factor(self.embedding_scale, species) * energy

    def _density(
        self, source: Int[Array, "K C"], target: Int[Array, "K C"]
    ) -> Callable[[Float[Array, "K C"]], Float[Array, "K C"]]:
        """What some atoms add to the density at others, over distance."""
        rows = (source, target) if self.rho.ndim == 3 else (source,)
        spline, scale = self._spline(self.rho, *rows), self._factor(self.density_scale, source)
        return lambda s: scale * spline(s)

    def _spline(
        self, table: Array, *rows: Int[Array, "K C"]
    ) -> Callable[[Float[Array, "K C"]], Float[Array, "K C"]]:
        """The function of some rows of a table over distance."""
        slopes, knots, count = _slopes(table), table.shape[-1], len(self.species)
        row = rows[0] if len(rows) == 1 else rows[0] * count + rows[1]
        # Of a single element every place is in the only row.
        first: Any = row * knots if count > 1 else 0

        def function(s: Float[Array, "K C"]) -> Float[Array, "K C"]:
            return _cubic(table, slopes, first, jnp.minimum(s / self.spacing, knots - 1.0))

        return function

    def _of_species(self, leaf: Parameter) -> Parameter:
        return jnp.diagonal(leaf) if leaf.ndim == 2 else leaf

    def _factor(self, leaf: Parameter, species: Int[Array, "..."]) -> Float[Array, "..."]:
        """A factor of each atom."""
        return self._of_species(leaf)[species] if leaf.ndim else leaf

    # Knots as parameters -------------------------------------------------------------------------

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``."""
        field = self._entry(name)[0]
        return self.tables[field] if field in self.tables else super().parameter_dimension(name)

    def _entries(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        entries = super()._entries()
        for field in self.tables if self.knots else ():
            shape = getattr(self, field).shape
            for rows in np.ndindex(shape[:-1]):
                if field in self.tables_of_pairs and rows[0] > rows[1]:
                    continue
                label = "-".join(self.species[row] for row in rows)
                for knot in range(shape[-1]):
                    entries[f"{field}[{label},{knot}]"] = (field, (*rows, knot))
        return entries

    def _places(self, field: str, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        if field in self.tables_of_pairs:
            return {index, (index[1], index[0], index[2])}
        return {index} if field in self.tables else super()._places(field, index)

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of parameters, but for knots, with values; the cutoff; what the file says."""
        if self.knots:
            scales = {name: getattr(self, name) for name in self.scales}
            return type(self)(self._tables(), **scales).described_parameters(units)
        described = super().described_parameters(units)
        left_out = ("comments", "atoms", "spacing", "density_spacing", "knots", *self.tables)
        kept = [(name, text) for name, text in described if name.split("[")[0] not in left_out]
        return kept + [("file", line) for line in self.comments if line.strip("# ")]


def _slopes(table: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """Slopes at the knots, per spacing: of five points, and of fewer near the ends."""
    f = table
    inner = ((f[..., :-4] - f[..., 4:]) + 8.0 * (f[..., 3:-1] - f[..., 1:-3])) / 12.0
    return jnp.concatenate(
        [
            f[..., 1:2] - f[..., 0:1], 0.5 * (f[..., 2:3] - f[..., 0:1]), inner,
            0.5 * (f[..., -1:] - f[..., -3:-2]), f[..., -1:] - f[..., -2:-1],
        ],
        axis=-1,
    )  # fmt: skip


def _cubic(
    table: Float[Array, "*rows n"],
    slopes: Float[Array, "*rows n"],
    first: Int[Array, "..."] | int,
    x: Float[Array, "..."],
) -> Float[Array, "..."]:
    """The cubic with the values and slopes of the two knots around x, counted in knots.

    Arguments:
        table: values at the knots.
        slopes: per spacing.
        first: place of the first knot of each row in the flat table.
        x: up to the last knot; below the first one the first cubic goes on.
    """
    # As floats, which have room for what is far away.
    left = jnp.clip(jnp.floor(x), 0.0, table.shape[-1] - 2.0)
    place = first + left.astype(jnp.int32)
    # Coefficients of each interval: there are fewer than places where they are wanted.
    rise, before, after = table[..., 1:] - table[..., :-1], slopes[..., :-1], slopes[..., 1:]
    second, third = 3.0 * rise - 2.0 * before - after, before + after - 2.0 * rise
    no_more = [(0, 0)] * (table.ndim - 1) + [(0, 1)]
    c0, c1, c2, c3 = (
        array.reshape(-1).at[place].get(mode="promise_in_bounds")
        for array in (table, slopes, jnp.pad(second, no_more), jnp.pad(third, no_more))
    )
    p = x - left
    return ((c3 * p + c2) * p + c1) * p + c0
