"""The spectral neighbor analysis potential: energies in the bispectrum of neighbourhoods."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.bispectrum import (
    Densities,
    components,
    densities,
    slopes_at_points,
    slopes_of_means,
)
from mdsens.potentials.couplings import halves_of_curvatures, to_harmonics
from mdsens.potentials.files.snap_files import (
    FLAGS,
    OF_ELEMENTS,
)
from mdsens.potentials.groups import in_groups
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import LONG_FORMULAS
from mdsens.potentials.snap_neighbors import NeighborsOnSphere
from mdsens.values import boolean, integer, items, real, shown

#: Atoms that are taken at once, so that what is computed of them stays in a processor's cache; of
#: second derivatives there is more.
AT_ONCE, AT_ONCE_FOR_HESSIANS = 8, 8
#: Highest degree that tables are made for: there are 2,050 nodes at 10, and 5,800 at 14.
HIGHEST_DEGREE = 14


class SNAP(NeighborsOnSphere):
    """The spectral neighbor analysis potential (SNAP), linear or quadratic in the bispectrum.

    E_i = beta_0 + sum_k beta_k B_k + 1/2 sum_kl beta_kl B_k B_l, where B are the components
    B_{j1 j2 j} of the bispectrum of the atom's neighbourhood (`mdsens.potentials.bispectrum`), in
    the order of LAMMPS, and beta those of the atom's element. A neighbour at r e, e a unit vector,
    stands at the point (cos theta, sin theta e) of the sphere in four dimensions, with the strength
    w_j fc(r), where theta = rfac0 pi (r - rmin0) / (c - rmin0), fc = (cos(pi (r - rmin0) /
    (c - rmin0)) + 1) / 2 and c = rcutfac (radius_i + radius_j). The atom itself has the strength 1.

    The curvature of fc jumps at the cutoff c, and second derivatives of the energy with it.

    Arguments:
        beta: shape (S, M), coefficients of each of S elements, energy: 1 + K of K components, or
            these and the K (K + 1) / 2 of their products.
        species: names of the elements, e.g. ``("W",)``.
        radii: of each element; lengths where rcutfac is a number, as in files.
        weights: strength of each element as a neighbour.
        rcutfac: what two radii are multiplied by to get the cutoff.
        twojmax: highest degree, twice the highest J.
        rfac0: theta at the cutoff over pi.
        rmin0: distance at which theta is 0, length.
        bzeroflag: whether B are counted from those of an atom alone.
        bnormflag: whether B_{j1 j2 j} are divided by j + 1.
        switchflag: whether there is fc; without it strengths end in a step.
        quadraticflag: whether there are coefficients of products.
        chemflag: whether densities of each element of neighbours are kept apart: components are
            those of all triplets of elements.
        wselfallflag: whether the atom itself stands in the densities of all elements.
        switchinnerflag: whether strengths end at short distances, too.
        sinner: of each element, middle of that switch, length; of a pair the mean.
        dinner: of each element, half of its width, length.
        header: what a file says of itself, pairs of texts such as ``("DATE", "2017-02-20")``.

    Raises:
        InputError: a number outside its domain, or another count of coefficients.

    A. P. Thompson et al., J. Comput. Phys. 285, 316 (2015); quadratic: M. A. Wood, A. P. Thompson,
    J. Chem. Phys. 148, 241721 (2018).
    """

    compiler_options: ClassVar[Mapping[str, Any]] = LONG_FORMULAS

    beta: Parameter = parameter("energy", per="coefficient")
    species: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    radii: tuple[float, ...] = eqx.field(static=True, kw_only=True)
    weights: tuple[float, ...] = eqx.field(static=True, kw_only=True)
    rcutfac: float = eqx.field(static=True, kw_only=True)
    twojmax: int = eqx.field(static=True, kw_only=True)
    rfac0: float = eqx.field(static=True, kw_only=True)
    rmin0: float = eqx.field(static=True, kw_only=True)
    bzeroflag: bool = eqx.field(static=True, kw_only=True)
    bnormflag: bool = eqx.field(static=True, kw_only=True)
    switchflag: bool = eqx.field(static=True, kw_only=True)
    quadraticflag: bool = eqx.field(static=True, kw_only=True)
    chemflag: bool = eqx.field(static=True, kw_only=True)
    wselfallflag: bool = eqx.field(static=True, kw_only=True)
    switchinnerflag: bool = eqx.field(static=True, kw_only=True)
    sinner: tuple[float, ...] | None = eqx.field(static=True, kw_only=True)
    dinner: tuple[float, ...] | None = eqx.field(static=True, kw_only=True)
    header: tuple[tuple[str, str], ...] | None = eqx.field(static=True, kw_only=True)

    def __init__(
        self,
        beta: Any,
        species: Any,
        radii: Any,
        weights: Any,
        rcutfac: Any,
        twojmax: Any,
        rfac0: Any = 0.99363,
        rmin0: Any = 0.0,
        bzeroflag: Any = True,
        bnormflag: Any = False,
        switchflag: Any = True,
        quadraticflag: Any = False,
        chemflag: Any = False,
        wselfallflag: Any = False,
        switchinnerflag: Any = False,
        sinner: Any = None,
        dinner: Any = None,
        header: tuple[tuple[str, str], ...] | None = None,
    ):
        self.beta, self.species, self.radii, self.weights = beta, species, radii, weights
        self.rcutfac, self.twojmax, self.rfac0, self.rmin0 = rcutfac, twojmax, rfac0, rmin0
        self.bzeroflag, self.bnormflag, self.switchflag = bzeroflag, bnormflag, switchflag
        self.quadraticflag, self.chemflag = quadraticflag, chemflag
        self.wselfallflag, self.switchinnerflag = wselfallflag, switchinnerflag
        self.sinner, self.dinner, self.header = sinner, dinner, header

    def check_relations(self) -> None:
        """Raise InputError unless numbers, lengths of rows and counts go together."""
        label, size = "SNAP", len(self.species)
        changed: dict[str, Any] = {
            "rcutfac": real(self.rcutfac, f"{label}: rcutfac", above=0.0),
            "rfac0": real(self.rfac0, f"{label}: rfac0", above=0.0, at_most=1.0),
            "rmin0": real(self.rmin0, f"{label}: rmin0", at_least=0.0),
            "twojmax": integer(
                self.twojmax, f"{label}: twojmax", at_least=1, at_most=HIGHEST_DEGREE
            ),
        }
        for flag in FLAGS:
            changed[flag] = boolean(getattr(self, flag), f"{label}: {flag}")
        wanted = ["radii", "weights"]
        if changed["switchinnerflag"]:
            wanted += OF_ELEMENTS
        elif self.sinner is not None or self.dinner is not None:
            raise InputError(f"{label}: sinner and dinner are for switchinnerflag = 1: set it")
        for name in wanted:
            given = items(getattr(self, name))
            if given is None or len(given) != size:
                raise InputError(
                    f"{label}: {name} = {shown(getattr(self, name))}: give {size} numbers, one for "
                    f"each of {', '.join(self.species)}"
                )
            least = {"above": 0.0} if name in ("radii", "dinner") else {}
            changed[name] = tuple(real(one, f"{label}: {name}", **least) for one in given)
        for name, value in changed.items():
            object.__setattr__(self, name, value)
        if np.min(self._cutoffs) <= self.rmin0:
            raise InputError(
                f"{label}: rmin0 = {self.rmin0} is not below the shortest cutoff, "
                f"{np.min(self._cutoffs)}: give a shorter one"
            )
        count = 1 + self.component_count
        if self.quadraticflag:
            count += self.component_count * (self.component_count + 1) // 2
        if self.beta.shape[1] != count:
            raise InputError(
                f"{label}: {self.beta.shape[1]} coefficients of each element, where twojmax = "
                f"{self.twojmax}, quadraticflag = {int(self.quadraticflag)} and chemflag = "
                f"{int(self.chemflag)} of {size} elements need {count}: correct either"
            )

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of settings with values and units as text, and how many coefficients there are."""
        unit = self.parameter_units(self.parameter_names[0], units)
        count = f"{self.beta.shape[1]} coefficients, {unit}"
        own = [(f"beta[{name}]", count) for name in self.species]
        settings = super().described_parameters(units)
        return own + [one for one in settings if not one[0].startswith("beta[")]

    @property
    def component_count(self) -> int:
        """K, how many components of the bispectrum there are."""
        return len(self._quadrature.triples) * self._elements**3

    @property
    def interaction_range(self) -> float:
        """The longest cutoff of a pair, in units of length."""
        return float(np.max(self._cutoffs))

    @property
    def pair_ranges(self) -> Float[Array, "S S"] | None:
        """The cutoff of each pair of species, in units of length."""
        return None if len(self.species) == 1 else jnp.asarray(self._cutoffs)

    # Energies and their derivatives ---------------------------------------------------------------

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"]:
        """Energies of atoms without neighbours, shape (N,), energy."""
        return (self.beta[:, 0] + self._energies_alone())[species]

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energies that neighbours make, from the bispectrum of an atom's own edges, energy."""
        energies: Array = _site_energies(self, edges)
        return energies

    def bispectrum(self, edges: Edges) -> Float[Array, "K C"]:
        """Components of the bispectrum of each atom, in the order of LAMMPS.

        Arguments:
            edges: D components of edge vectors, each (K, C), in units of length; mask; species.

        Returns:
            Shape (K, C).
        """

        def group(some: Edges) -> Float[Array, "K C"]:
            return self._components(densities(self._quadrature, self._values(some)), some.species)

        found: Array = in_groups(group, edges, AT_ONCE)
        return found

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients: slopes at the points of the sphere, edge by edge."""
        energies, gradients, _ = self._energies_gradients_and(edges)
        return energies, gradients

    def _energies_gradients_and(
        self, edges: Edges, more: Callable[[Densities, Array], Any] = lambda f, species: None
    ) -> tuple[Any, Any, Any]:
        """Energies and gradients, and what else a function makes of densities at the nodes."""

        def group(some: Edges) -> tuple[Any, Any, Any]:
            energies, f, _, slopes = self._of_values(self._values(some), some.species)
            gradients = jax.lax.map(
                lambda slot: self._gradient_of_edge(slot[0], slot[1], slopes), self._slots(some)
            )
            return energies, gradients, more(f, some.species)

        found: tuple[Any, Any, Any] = in_groups(group, edges, AT_ONCE)
        return found

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """Second derivatives: those in the densities, between slopes of the densities.

        A density is a sum over edges, so that d2E/dR_k dR_l is J_k^T M J_l with the second
        derivatives M in the coefficients of its harmonics (`mdsens.potentials.couplings`) and J_k
        the derivatives of these along edge k; for k = l the curvature of the density joins it.
        """

        def group(some: Edges) -> Float[Array, "C K K D D"]:
            values = self._values(some)
            _, f, factors, slopes = self._of_values(values, some.species)
            dimension = len(some.vectors)

            def of_slot(slot: Any) -> tuple[Array, Array]:
                vectors, rest = slot

                def values(v: Any) -> Float[Array, "E V C"]:
                    return self._values_of_edge(v, *rest)

                def along(unit: Float[Array, " D"]) -> Float[Array, "E V C"]:
                    step = tuple(jnp.broadcast_to(u, vectors[0].shape) for u in unit)
                    changes: Array = jax.jvp(values, (vectors,), (step,))[1]
                    return changes

                own = self._curvature_of_edge(vectors, rest, slopes)
                return jax.vmap(along)(jnp.eye(dimension)), own

            jacobian, own = jax.lax.map(of_slot, self._slots(some))
            slots, _, elements, count, atoms = jacobian.shape
            # Values of all elements, directions and atoms last.
            jacobian = jacobian.transpose(2, 3, 4, 0, 1).reshape(elements, count, -1)
            coefficients = to_harmonics(self._quadrature, jacobian)
            shape = elements * count, atoms, slots * dimension
            along = coefficients.reshape(shape)
            half = halves_of_curvatures(
                self._quadrature, to_harmonics(self._quadrature, values), factors
            )
            products = jnp.einsum("cvw,wck->cvk", half, along)
            found = jnp.einsum("vcl,cvk->clk", along, products)
            found = found + found.transpose(0, 2, 1)
            if self.quadraticflag:
                of_atoms = jacobian.reshape(shape).transpose(1, 0, 2)
                found = found + self._of_products(some.species, f, of_atoms)
            found = found.reshape(atoms, slots, dimension, slots, dimension).transpose(
                0, 1, 3, 2, 4
            )
            same = own.transpose(3, 0, 1, 2)[:, :, None] * jnp.eye(slots)[None, :, :, None, None]
            found = found + same
            return (found + found.transpose(0, 2, 1, 4, 3)) / 2

        hessians: Array = in_groups(group, edges, AT_ONCE_FOR_HESSIANS, axis=0)
        return hessians

    # From densities to energies -------------------------------------------------------------------

    def _norms(self) -> Float[np.ndarray, " T"]:
        """What means over the sphere are multiplied by."""
        degrees = np.array([j for _, _, j in self._quadrature.triples])
        return np.ones(len(degrees)) if self.bnormflag else degrees + 1.0

    def _of_atom(self, rows: Float[Array, "S ..."], species: Int[Array, " C"]) -> Array:
        """The row of each atom's species, atoms last; one for all where there is one species."""
        if len(self.species) == 1:
            return rows[0][..., None]
        return jnp.moveaxis(rows[species], 0, -1)

    def _alone(self) -> Float[np.ndarray, "S K"]:
        """Components of atoms without neighbours, not counted from anything."""
        elements = self._elements
        found = np.zeros((len(self.species), *(elements,) * 3, len(self._quadrature.triples)))
        for row, of_species in enumerate(found):
            if self.wselfallflag or elements == 1:
                of_species[...] = self._norms()
            else:
                of_species[row, row, row] = self._norms()
        return found.reshape(len(found), -1)

    def _components(self, f: Densities, species: Int[Array, " C"]) -> Float[Array, "K C"]:
        means = components(self._quadrature, f) * self._norms()[None, None, None, :, None]
        found = means.reshape(-1, means.shape[-1])
        return (
            found - self._of_atom(jnp.asarray(self._alone()), species) if self.bzeroflag else found
        )

    def _coefficients(self) -> Float[Array, "S K"]:
        """Those of the components themselves."""
        return self.beta[:, 1 : 1 + self.component_count]

    def _energies_alone(self) -> Float[Array, " S"]:
        """Energies of components of atoms without neighbours; zero where B are counted from it."""
        if self.bzeroflag:
            return jnp.zeros(len(self.species))
        alone = jnp.asarray(self._alone())
        energies = jnp.sum(self._coefficients() * alone, axis=1)
        if self.quadraticflag:
            energies = energies + 0.5 * jnp.einsum("sk,skl,sl->s", alone, self._products(), alone)
        return energies

    def _products(self) -> Float[Array, "S K K"]:
        """Second derivatives in the components, of each species."""
        count = self.component_count
        rows, columns = np.triu_indices(count)
        upper = jnp.zeros((len(self.species), count, count))
        upper = upper.at[:, rows, columns].set(self.beta[:, 1 + count :])
        diagonal = jnp.eye(count)[None] * upper
        return upper + upper.swapaxes(1, 2) - diagonal

    def _of_values(
        self, values: Float[Array, "E V C"], species: Int[Array, " C"]
    ) -> tuple[Float[Array, " C"], Densities, Float[Array, "E E E T _"], Float[Array, "E V C"]]:
        """What densities at the points make.

        Energies beyond those of atoms alone; densities at the nodes; factors of the means of three
        of them; slopes in the values.
        """
        f = densities(self._quadrature, values)
        linear = self._of_atom(self._coefficients(), species)
        shape = (*(self._elements,) * 3, len(self._quadrature.triples))
        if self.quadraticflag:
            found = self._components(f, species)
            energies = self._energies_of(found, species)
            linear = linear + self._slopes_of_products(found, species)
        norms = self._norms()[None, None, None, :, None]
        factors = linear.reshape(*shape, -1) * norms
        slopes = slopes_at_points(self._quadrature, f, factors)
        if not self.quadraticflag:
            # Of third degree in the densities, the sum is a third of its slopes times these.
            alone = self._of_atom(jnp.asarray(self._alone()), species)
            energies = (
                -jnp.sum(linear * alone, axis=0) + jnp.sum(values * slopes, axis=(0, 1)) / 3.0
            )
        return energies, f, factors, slopes

    def _slopes_of_products(
        self, found: Float[Array, "K C"], species: Int[Array, " C"]
    ) -> Float[Array, "K C"]:
        """Slopes of the part of the energies in products of components in each of them."""
        product = jnp.einsum("skl,lc->skc", self._products(), found)
        # Each atom takes what the coefficients of its species make of it.
        kinds = jnp.arange(len(self.species), dtype=species.dtype)[:, None, None]
        return jnp.sum(jnp.where(species[None, None] == kinds, product, 0.0), axis=0)

    def _energies_of(
        self, found: Float[Array, "K C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """Energies beyond those of atoms alone, of components of the bispectrum: linear in beta."""
        slopes = self._of_atom(self._coefficients(), species)
        if self.quadraticflag:
            slopes = slopes + 0.5 * self._slopes_of_products(found, species)
        return jnp.sum(slopes * found, axis=0) - self._of_atom(self._energies_alone(), species)

    def _of_products(
        self, species: Int[Array, " C"], f: Densities, jacobian: Float[Array, "C V L"]
    ) -> Float[Array, "C L L"]:
        """What products of components add to second derivatives along edges."""
        slopes = slopes_of_means(self._quadrature, f)
        norms = np.tile(self._norms(), self._elements**3)[:, None, None]
        slopes = slopes.reshape(len(slopes), -1, slopes.shape[-1]) * norms
        along = jnp.einsum("kvc,cvl->ckl", slopes, jacobian)
        kinds = jnp.arange(len(self.species), dtype=species.dtype)[:, None, None, None]
        product = jnp.einsum("skm,cml->sckl", self._products(), along)
        product = jnp.sum(jnp.where(species[None, :, None, None] == kinds, product, 0.0), axis=0)
        return jnp.einsum("ckl,ckm->clm", along, product)


@jax.custom_jvp
def _site_energies(potential: SNAP, edges: Edges) -> Float[Array, " C"]:
    def group(some: Edges) -> Float[Array, " C"]:
        return potential._of_values(potential._values(some), some.species)[0]

    energies: Array = in_groups(group, edges, AT_ONCE)
    return energies


@_site_energies.defjvp
def _along_site_energies(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Gradients times changes of edges, and what changes of coefficients make of components.

    Without it the derivative of an energy is one of its slopes, as long as a second derivative.
    """
    (potential, edges), (along, moved) = primals, tangents
    changed = eqx.tree_at(lambda one: one.beta, potential, along.beta)
    energies, gradients, found = potential._energies_gradients_and(edges, potential._components)
    steps = zip(gradients, moved.vectors, strict=True)
    terms = [jnp.sum(slope * step, axis=0) for slope, step in steps]
    terms.append(changed._energies_of(found, edges.species))
    return energies, sum(terms[1:], start=terms[0])
