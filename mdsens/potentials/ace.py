"""The atomic cluster expansion, from the files of ML-PACE."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import in_numpy, on_device
from mdsens.digits import with_digits
from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.particles.edges import Edges
from mdsens.potentials.ace_basis import (
    ACEBasis,
    basis_and_coefficients,
    contents_of,
    density_coefficients,
    products,
)
from mdsens.potentials.ace_functions import (
    EMBEDDING,
    RADIAL,
    core_repulsion,
    spherical_harmonics,
    switch,
)
from mdsens.potentials.files import ACEContents, find_file, read_ace_file, write_ace_file
from mdsens.potentials.files.header import Header
from mdsens.potentials.named_parameters import NamedParameters
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import LONG_FORMULAS, Potential
from mdsens.units import unit_name
from mdsens.values import boolean, distinct_names, instance, is_traced, shown

#: Atoms whose products are in memory at a time; they fit a core's cache (measured: of 16 to 256).
ATOMS_AT_ONCE = 64
#: Parameters with a place in an expansion, and their dimensions.
ENTRIES = {"c": "1", "embedding_factor": "energy", "embedding_exponent": "1", "crad": "1"}


class ACE(Potential):
    """An atomic cluster expansion: `ACE.from_file` reads it, as LAMMPS's pair_style pace does.

    E_i = E0 + f(V_i) sum_p w_p F(rho_i,p; m_p) + V_i,
    rho_i,p = sum_f c_f,p sum_m u_f,m,p Re prod_t A_i,mu_t n_t l_t m_t,
    A_i,mu n l m = sum_j R_n l(r_ij) Y_l m(R_ij / r_ij), over the neighbours j of element mu,
    R_n l(r) = sum_k crad_n l k g_k(r),

    where Y_00 is 1, and products of a single factor have g_n in the place of R_n l.

    A parameter c belongs to a whole function of the file and one density: the numbers in the file,
    c-tilde, are c u, where u has length 1 over the products of the function and is fixed. So every
    change of c leaves the energy as it is under rotations, which that of one c-tilde would not.
    Where a density has none of a function, u is that of the first density that has; a function
    without any has no parameter.

    V_i = sum_j v(r_ij) is the repulsion of cores,
    v(r) = |strength| exp(-|decay| r^2) / r (1 + cos(pi r / cutoff)) / 2,
    and f switches the expansion off where V_i is large. With an inner cutoff of the kind distance,
    v acts below it and radial functions above.

    Radial functions are computed as they are written; LAMMPS interpolates them in tables with the
    spacing of the file. The difference falls with the cube of the spacing: at 0.001 Ang and for
    copper it is 1e-13 of the energy and 5e-10 of the largest force.

    The energy is as smooth as radial functions are at the cutoff: those of ChebPow with a decay of
    2, which is usual, end like (1 - r / cutoff)^2, so second derivatives jump there, and what is
    derived from them. Those of ChebLinear end with a slope, where forces jump. The second
    derivatives of embeddings jump where a density changes its sign.

    Arguments:
        contents: what a file holds.
        radial: whether the coefficients of the radial functions are parameters by name, too:
            ``"crad[Cu-Cu,1,0,5]"`` of n, l and k, where n and k are counted from 1 as in files.

    The parameters are ``"c[Cu,17,0]"``, in density 0 the coefficient of function 17 of those whose
    centre is Cu, counted from 0 as they are in the file; ``"embedding_factor[Cu,0]"`` and
    ``"embedding_exponent[Cu,0]"``, w and m of density 0; ``"core_strength[Cu-Cu]"`` and
    ``"core_decay[Cu-Cu]"``; and ``"E0[Cu]"``.

    Raises:
        InputError: contents of no file.

    R. Drautz, Phys. Rev. B 99, 014104 (2019); Y. Lysogorskiy et al., npj Comput. Mater. 7, 97
    (2021).
    """

    compiler_options: ClassVar[Mapping[str, Any]] = LONG_FORMULAS
    dear_hessian: ClassVar[bool] = True

    E0: Parameter = parameter("energy", per="species")
    core_strength: Parameter = parameter("energy*length", per="bond")
    core_decay: Parameter = parameter("1/length^2", per="bond")
    c: Float[Array, "F P"] = eqx.field(kw_only=True)
    embedding_factor: Float[Array, "S P"] = eqx.field(kw_only=True)
    embedding_exponent: Float[Array, "S P"] = eqx.field(kw_only=True)
    crad: Float[Array, "S S n l k"] = eqx.field(kw_only=True)
    basis: ACEBasis = eqx.field(static=True, kw_only=True)
    species: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    spline_spacing: float = eqx.field(static=True, kw_only=True)
    header: Header = eqx.field(static=True, kw_only=True)
    radial: bool = eqx.field(static=True, kw_only=True)

    def __init__(self, contents: ACEContents, radial: bool = False):
        instance(contents, "ACE: contents", ACEContents, "what ACE.from_file reads")
        self.radial = boolean(radial, "ACE: radial")
        self.species, self.header = contents.elements, contents.header
        self.spline_spacing = contents.spline_spacing
        self.basis, tables = basis_and_coefficients(contents)
        self.E0 = on_device(np.array(contents.own_energies))
        self.core_strength = on_device(tables["core_strength"])
        self.core_decay = on_device(tables["core_decay"])
        self.c, self.crad = on_device(tables["c"]), on_device(tables["crad"])
        self.embedding_factor = on_device(tables["embedding_factor"])
        self.embedding_exponent = on_device(tables["embedding_exponent"])

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        elements: Mapping[str, str] | list[str] | tuple[str, ...] | None = None,
        radial: bool = False,
    ) -> "ACE":
        """Read a potential from a file of ML-PACE.

        Arguments:
            path: of the file, ``.yace``, or ``.ace`` of a single element; or the name of one that
                the installed package lammps brings.
            elements: which of its elements to use, in which order, or a dict that says for each
                species which, as in ``{"Cu1": "Cu"}``; None: all as they are there.
            radial: whether the coefficients of the radial functions are parameters by name.

        Returns:
            The potential, in eV and Angstrom.

        Raises:
            InputError: no such file, one that is damaged (the line is named) or not in metal units,
                has what is not computed (radial functions and inner cutoffs are named), or an
                element that it has not.
        """
        contents = read_ace_file(find_file(path))
        if elements is not None:
            named = isinstance(elements, Mapping)
            species = distinct_names(list(elements) if named else elements, "elements")
            chosen = tuple(elements.values()) if isinstance(elements, Mapping) else species
            if len(set(map(str, chosen))) < len(chosen):
                raise InputError(
                    f"elements = {shown(elements)}: give each species an element of its own"
                )
            contents = contents.of(chosen, "elements")
            contents = dataclasses.replace(contents, elements=species)
        return cls(contents, radial)

    def to_file(self, path: str | Path) -> None:
        """Write the potential for LAMMPS to read, and `from_file`.

        Where elements have different numbers of densities, ML-PACE computes with
        ``pair_style pace product`` alone: its recursive evaluator, the default, fails.

        Arguments:
            path: the file, ending in ``.yace``, or of a single element in ``.ace``; one that is
                there is replaced.

        Raises:
            InputError: another ending, or the file cannot be written.
        """
        if is_traced(self):
            raise InputError("ACE is being traced: write it outside jit, grad and vmap")
        write_ace_file(path_of(path, "path"), self._contents())

    # Energies ----------------------------------------------------------------------------------

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"]:
        """E0 of each atom, in units of energy."""
        return jnp.broadcast_to(self.E0, (len(self.species),))[species]

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energy of each atom, from its own edges alone, in units of energy."""
        return self._in_parts(ATOMS_AT_ONCE, self._energies, edges)

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Energy of each atom and its derivative with respect to the atom's own edge vectors."""

        def both(edges: Edges, coefficients: Array) -> Any:
            def energies(vectors: tuple[Array, ...]) -> tuple[Array, Array]:
                per_site = self._energies(edges.with_vectors(vectors), coefficients)
                return jnp.sum(per_site), per_site

            gradients, per_site = jax.grad(energies, has_aux=True)(edges.vectors)
            return per_site, gradients

        return self._in_parts(ATOMS_AT_ONCE, both, edges)

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """Second derivatives of each site energy with respect to the atom's own edge vectors.

        The energy is a function of M sums over edges. Its second derivatives in these sums, M
        columns, stand between the derivatives of what each edge adds to them: that M is there in
        place of 3 K makes it several times faster than one edge after another.
        """
        coefficients = density_coefficients(self.basis, self.c)

        def of_atom(atom: tuple[Array, ...]) -> Float[Array, "K K D D"]:
            vectors, mask, species, neighbor_species = atom
            # Each edge as if it were the only one of an atom.
            kinds = jnp.broadcast_to(species, mask.shape)
            alone = Edges(tuple(vectors[:, None]), mask[None], kinds, neighbor_species[None])

            def added(vectors: Float[Array, "D K"]) -> Float[Array, "M K"]:
                return self._sums_of_edges(alone.with_vectors(tuple(vectors[:, None])))

            def energies(sums: Float[Array, "M c"]) -> Float[Array, " c"]:
                of_atom = jnp.broadcast_to(species, sums.shape[1:])
                return self._energies_of_sums(sums, of_atom, coefficients)

            def slopes(sums: Float[Array, "M c"]) -> Float[Array, "M c"]:
                return jax.grad(lambda sums: jnp.sum(energies(sums)))(sums)

            def changes(function: Callable[[Array], Array]) -> Float[Array, "D m K"]:
                """How a function of each edge alone changes along each axis."""
                axes = jnp.eye(len(vectors))[:, :, None]
                units = jnp.broadcast_to(axes, (len(vectors), *vectors.shape))
                return jax.vmap(lambda unit: jax.jvp(function, (vectors,), (unit,))[1])(units)

            sums = jnp.sum(added(vectors), axis=1, keepdims=True)
            slope = slopes(sums)
            curvature = _columns(slopes, sums)
            jacobian = changes(added).transpose(1, 0, 2).reshape(len(sums), -1)
            between = jacobian.T @ (curvature @ jacobian)
            size, slots = vectors.shape
            between = between.reshape(size, slots, size, slots).transpose(1, 3, 0, 2)

            def along_edges(vectors: Float[Array, "D K"]) -> Float[Array, "D K"]:
                return jax.grad(lambda vectors: jnp.sum(slope * added(vectors)))(vectors)

            places = jnp.arange(slots)
            whole = between.at[places, places].add(changes(along_edges).transpose(2, 0, 1))
            return (whole + whole.transpose(1, 0, 3, 2)) / 2

        atoms = (
            jnp.stack(edges.vectors).transpose(2, 0, 1), edges.mask.T, edges.species,
            edges.neighbor_species.T,
        )  # fmt: skip
        return jax.lax.map(of_atom, atoms)

    def _in_parts(self, size: int, function: Any, edges: Edges) -> Any:
        """A function of edges and of coefficients of products, for so many atoms at a time.

        Atoms are the last axis of what it returns. Nothing is kept for derivatives but the edges.
        """
        coefficients = density_coefficients(self.basis, self.c)
        count = edges.species.size
        parts = -(-count // size)
        size = -(-count // parts)
        filling = parts * size - count

        def split(array: Array) -> Array:
            # More of what is there, which no distance of zero comes from.
            width = [(0, 0)] * (array.ndim - 1) + [(0, filling)]
            whole = jnp.pad(array, width, mode="edge")
            return jnp.moveaxis(whole.reshape(*array.shape[:-1], parts, size), -2, 0)

        # A bound method is hashed, and with it arrays.
        of_part = jax.checkpoint(lambda part: function(part, coefficients))
        if parts == 1:
            return of_part(edges)
        found = jax.lax.map(of_part, jax.tree.map(split, edges))
        return jax.tree.map(
            lambda array: jnp.moveaxis(array, 0, -2).reshape(*array.shape[1:-1], -1)[..., :count],
            found,
        )

    def _energies(self, edges: Edges, coefficients: Float[Array, "S P Q"]) -> Float[Array, " C"]:
        return self._energies_of_sums(self._sums_of_edges(edges), edges.species, coefficients)

    def _sums_of_edges(self, edges: Edges) -> Float[Array, "M C"]:
        """All that the energy of an atom is a function of: sums over its edges.

        The sums of radial bases over neighbours of each element; those of radial functions times
        harmonics over neighbours of each element, for each n and l; the repulsion of cores.
        """
        radial, harmonics, core = self._edge_functions(edges)
        count = len(self.species)
        pooled = []
        for element in range(count):
            near = edges.neighbor_species == element
            own = radial if count == 1 else jnp.where(near[None], radial, 0.0)
            pooled.append(jnp.einsum("bkc,hkc->bhc", own, harmonics))
        each = jnp.stack(pooled)
        # Y_00 is 1.
        singles = each[:, :, 0].reshape(-1, each.shape[-1])
        sums = jnp.zeros(())
        for element in range(count):
            rows = [
                jnp.einsum(
                    "snb,sbhc->snhc",
                    self.crad[element, :, :, l],
                    each[:, :, l * l : (l + 1) ** 2],
                )
                for l in range(self.basis.sizes[2])
            ]
            found = jnp.concatenate(rows, axis=2)
            at = edges.species[None, None, None] == element
            sums = found if count == 1 else sums + jnp.where(at, found, 0.0)
        parts = [singles, sums.reshape(-1, each.shape[-1]), jnp.sum(core, axis=0)[None]]
        return jnp.concatenate(parts)

    def _edge_functions(
        self, edges: Edges
    ) -> tuple[Float[Array, "k K C"], Float[Array, "h K C"], Float[Array, "K C"]]:
        """Of each edge the radial bases g, spherical harmonics and the repulsion of cores."""
        here, there = jnp.broadcast_arrays(edges.species[None], edges.neighbor_species)
        pair = here * len(self.species) + there
        bonds = [bond for row in self.basis.bonds for bond in row]

        def of_pair(table: Any) -> Array:
            flat = jnp.asarray(table, float).reshape(-1)
            return flat[pair] if flat.size > 1 else flat[0]

        def setting(name: str) -> Array:
            return of_pair(np.array([getattr(bond, name) for bond in bonds]))

        cutoff = setting("cutoff")
        inner, inner_width = setting("inner_cutoff"), setting("inner_width")
        distances = edges.distances
        inside = edges.mask & (distances < cutoff)
        # What is beyond is at half the cutoff, where everything has derivatives.
        r = jnp.where(inside, distances, 0.5 * cutoff)
        far = 1.0 / jnp.where(inside, distances, 1.0)
        # In fewer dimensions the others are zero.
        vectors = (*edges.vectors, *[jnp.zeros_like(r)] * 2)[:3]
        x, y, z = (jnp.where(inside, component * far, 0.0) for component in vectors)
        bases = sorted({bond.radial_basis for bond in bonds})
        radial = jnp.zeros(())
        for basis in bases:
            found = RADIAL[basis](
                r, setting("decay"), cutoff, setting("cutoff_width"), self.basis.sizes[0]
            )
            chosen = of_pair(np.array([bond.radial_basis == basis for bond in bonds])) > 0.0
            radial = found if len(bases) == 1 else radial + jnp.where(chosen[None], found, 0.0)
        by_distance = of_pair(np.array([bond.inner_kind == "distance" for bond in bonds])) > 0.0
        near = switch(r, inner, inner_width)
        outside = inside & (r > inner - inner_width)
        kept = jnp.where(outside, jnp.where(by_distance, 1.0 - near, 1.0), 0.0)
        radial = radial * kept[None]
        core = core_repulsion(r, of_pair(self.core_strength), of_pair(self.core_decay), cutoff)
        core = jnp.where(inside, core * jnp.where(by_distance, near, 1.0), 0.0)
        return radial, spherical_harmonics(x, y, z, self.basis.sizes[2]), core

    def _energies_of_sums(
        self,
        sums: Float[Array, "M C"],
        species: Int[Array, " C"],
        coefficients: Float[Array, "S P Q"],
    ) -> Float[Array, " C"]:
        """Energies of atoms of which `_sums_of_edges` has given the sums."""
        singles = len(self.species) * self.basis.sizes[0]
        core = sums[-1]
        found = products(self.basis, sums[:singles], sums[singles:-1])
        energy = jnp.zeros_like(core)
        for element, settings in enumerate(self.basis.embeddings):
            densities = coefficients[element] @ found
            embedding = EMBEDDING[settings.function]
            factors, exponents = self.embedding_factor[element], self.embedding_exponent[element]
            own = jnp.zeros_like(core)
            for density in range(settings.densities):
                own = own + factors[density] * embedding(densities[density], exponents[density])
            own = own * switch(core, settings.core_cutoff, settings.core_width)
            energy = jnp.where(species == element, own, energy)
        return energy + core

    @property
    def interaction_range(self) -> float:
        """The longest cutoff of the file, in units of length."""
        return float(self.basis.cutoffs.max())

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The longer of both cutoffs of each pair of elements, in units of length."""
        cutoffs = self.basis.cutoffs
        return None if cutoffs.size == 1 else on_device(np.maximum(cutoffs, cutoffs.T))

    # Parameters --------------------------------------------------------------------------------

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``."""
        field = self._entry(name)[0]
        return ENTRIES[field] if field in ENTRIES else super().parameter_dimension(name)

    def _entries(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        entries = dict(_entries_of(self.basis, self.species, self.radial))
        return entries | super()._entries()

    def _places(self, field: str, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {index} if field in ENTRIES else super()._places(field, index)

    def derivative(self, gradient: NamedParameters, name: str) -> Float[Array, ""]:
        """The derivative along one named parameter, from a derivative shaped like the potential."""
        field, index = self._entry(name)
        # Each of a thousand parameters has one place; none needs a tangent.
        return on_device(getattr(in_numpy(gradient), field)[index])

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names and values of parameters, but for coefficients; the cutoff; what the file says."""
        described = []
        coefficients = 0
        for name, value in self.parameters.items():
            if name.split("[")[0] in ("c", "crad"):
                coefficients += 1
                continue
            unit = self.parameter_units(name, units)
            described.append((name, with_digits(value, most=10) + f" {unit}" * (unit != "1")))
        length = unit_name("length", units)
        cutoff = with_digits(float(self.basis.cutoffs.max()), most=10)
        count = self.basis.function_count
        return [
            *described,
            (
                "coefficients",
                f"{coefficients} of {count} functions of up to {self.basis.rank} factors",
            ),
            ("cutoff", f"{cutoff} {length}"),
            *self.header,
        ]

    def _contents(self) -> ACEContents:
        """What a file of this potential holds."""
        size = len(self.species)
        tables = {
            name: np.broadcast_to(np.asarray(getattr(self, name)), (size, size))
            for name in ("core_strength", "core_decay")
        } | {name: np.asarray(getattr(self, name)) for name in ENTRIES}
        embeddings, bonds, functions = contents_of(self.basis, tables)
        own = tuple(np.broadcast_to(np.asarray(self.E0), (size,)).tolist())
        return ACEContents(
            self.species, own, embeddings, bonds, functions, self.spline_spacing, self.header
        )


def _columns(
    function: Callable[[Float[Array, "M c"]], Float[Array, "M c"]], point: Float[Array, "M 1"]
) -> Float[Array, "M M"]:
    """The derivative of a function of columns, each by itself, so many columns at a time."""
    size = len(point)
    parts = -(-size // ATOMS_AT_ONCE)
    width = -(-size // parts)

    def some(first: Array) -> Float[Array, "M w"]:
        columns = first + jnp.arange(width)
        units = (jnp.arange(size)[:, None] == columns[None]).astype(point.dtype)
        repeated = jnp.broadcast_to(point, units.shape)
        return jax.jvp(function, (repeated,), (units,))[1]

    found = jax.lax.map(some, width * jnp.arange(parts))
    return found.transpose(1, 0, 2).reshape(size, -1)[:, :size]


@functools.lru_cache(8)
def _entries_of(
    basis: ACEBasis, species: tuple[str, ...], radial: bool
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Names of parameters that have a place in an expansion, and where they are."""
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    known = np.zeros((basis.function_count, basis.densities), bool)
    np.logical_or.at(known, basis.product_table[:, 0], basis.share_table != 0.0)
    for number, (element, place) in enumerate(basis.place_table.tolist()):
        for density in np.flatnonzero(known[number]).tolist():
            entries[f"c[{species[element]},{place},{density}]"] = ("c", (number, density))
    for field in ("embedding_factor", "embedding_exponent"):
        for row, settings in enumerate(basis.embeddings):
            for density in range(settings.densities):
                entries[f"{field}[{species[row]},{density}]"] = (field, (row, density))
    for i, row_of in enumerate(basis.bonds if radial else ()):
        for j, bond in enumerate(row_of):
            for n, l, k in np.ndindex(bond.shape):
                name = f"crad[{species[i]}-{species[j]},{n + 1},{l},{k + 1}]"
                entries[name] = ("crad", (i, j, n, l, k))
    return entries
