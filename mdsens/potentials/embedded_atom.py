"""Embedded-atom potentials: pairs, and a function of the density that the neighbours add up to."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.particles.edges import Edges
from mdsens.potentials.pair import CutOffPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.potential import Potential, RadialDerivatives

#: From distances (K, C) to pair energies and densities.
RadialFunctions: TypeAlias = Callable[
    [Float[Array, "K C"]], tuple[Float[Array, "K C"], Float[Array, "K C"]]
]


class EmbeddingPotential(Potential):
    """Half a sum over edges of a pair energy, and an energy of embedding in the density around.

    E = 1/2 sum_i sum_j phi(r_ij) + sum_i F(rho_i), with the density rho_i = sum_j f(r_ij): M. S.
    Daw, M. I. Baskes, Phys. Rev. B 29, 6443 (1984). A subclass gives the functions of its edges.
    """

    embedded: ClassVar[bool] = True
    in_two_passes: ClassVar[bool] = True

    @abc.abstractmethod
    def radial_functions(self, edges: Edges) -> RadialFunctions:
        """The function of the distance of these edges that gives phi and f.

        Arguments:
            edges: K slots of C atoms.

        Returns:
            A function of distances, (K, C), to energies and to what the neighbours add to the
            densities at the atoms, (K, C) each, zero where there is no edge.
        """

    @abc.abstractmethod
    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """Energy F of atoms in the density of their neighbours.

        Arguments:
            density: shape (C,).
            species: shape (C,), species index of each atom.

        Returns:
            Shape (C,), in units of energy.
        """

    def densities_at_neighbors(
        self, edges: Edges
    ) -> Callable[[Float[Array, "K C"]], Float[Array, "K C"]] | None:
        """The function of the distance that gives what the atoms add to their neighbours' density.

        Arguments:
            edges: K slots of C atoms.

        Returns:
            The function; None where two atoms add the same to one another's.
        """
        return None

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Half the pair energies of the atom's edges and its embedding, shape (C,), energy."""
        energies, densities = self.radial_functions(edges)(edges.distances)
        embedding = self.embedding_energies(jnp.sum(densities, axis=0), edges.species)
        return 0.5 * jnp.sum(energies, axis=0) + embedding

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """Site energies and their gradients, from slopes along r: twice as fast as in reverse."""
        r = edges.distances
        functions = self.radial_functions(edges)
        (energies, densities), slopes = jax.jvp(functions, (r,), (jnp.ones_like(r),))
        embedding, slope = self.embedding(jnp.sum(densities, axis=0), edges.species)
        weights = (0.5 * slopes[0] + slope[None] * slopes[1]) / r
        gradients = tuple(weights * component for component in edges.vectors)
        return 0.5 * jnp.sum(energies, axis=0) + embedding, gradients

    def embedding_derivatives(self, edges: Edges) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """F' and F'' of each atom, shape (C,) each, in energy per density and its square."""
        density = jnp.sum(self.radial_functions(edges)(edges.distances)[1], axis=0)
        ones = jnp.ones_like(density)
        return jax.jvp(lambda rho: self.embedding(rho, edges.species)[1], (density,), (ones,))

    def radial_derivatives(self, edges: Edges) -> RadialDerivatives:
        """Slopes and curvatures of phi and f along each edge, zero where there is none."""
        r = edges.distances
        functions, there = self.radial_functions(edges), self.densities_at_neighbors(edges)
        ones = jnp.ones_like(r)

        def all_functions(r: Float[Array, "K C"]) -> tuple[Array, ...]:
            return functions(r) if there is None else (*functions(r), there(r))

        def slopes_at(r: Float[Array, "K C"]) -> tuple[Array, ...]:
            return jax.jvp(all_functions, (r,), (ones,))[1]

        slopes, curvatures = jax.jvp(slopes_at, (r,), (ones,))
        return RadialDerivatives(
            slopes[0], curvatures[0], slopes[1], curvatures[1], slopes[-1], curvatures[-1]
        )

    def site_densities(self, edges: Edges) -> Float[Array, " C"]:
        """Density around each atom, shape (C,)."""
        return jnp.sum(self.radial_functions(edges)(edges.distances)[1], axis=0)

    def bond_slopes(
        self, edges: Edges, here: Float[Array, " C"], there: Float[Array, "K C"]
    ) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
        """Pair energies phi, and phi' + F'_i f_j' + F'_j f_i', shape (K, C) each."""
        r = edges.distances
        ones = jnp.ones_like(r)
        (energies, _), (slopes, by_neighbor) = jax.jvp(self.radial_functions(edges), (r,), (ones,))
        at_neighbor = self.densities_at_neighbors(edges)
        if at_neighbor is None:
            return energies, slopes + (here[None] + there) * by_neighbor
        by_atom = jax.jvp(at_neighbor, (r,), (ones,))[1]
        return energies, slopes + here[None] * by_neighbor + there * by_atom

    def embedding(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """F and F' of each atom."""
        return jax.jvp(
            lambda rho: self.embedding_energies(rho, species), (density,), (jnp.ones_like(density),)
        )


class EmbeddedAtomPotential(CutOffPotential, EmbeddingPotential):
    """An embedding in a density, of functions in closed form that a smooth switch ends.

    A subclass declares its parameters and gives phi, f and F, of which phi and f are multiplied by
    the switch of the smooth truncation of pairs.

    Arguments:
        cutoff: distance from which on there is no interaction, length.
        onset: where the switch begins, length; 0.9 cutoff by default.
        species: names of the rows of the parameters' tables; None where all species are alike.

    Raises:
        InputError: a cutoff that is not positive, or an onset outside the cutoff.
    """

    @abc.abstractmethod
    def pair_energies(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """Energy phi of each pair at distance r; parameters are already those of each pair.

        Arguments:
            r: distances, in units of length.

        Returns:
            Energies, in units of energy.
        """

    @abc.abstractmethod
    def densities(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """What each of two atoms at distance r adds to the density f at the other.

        Arguments:
            r: distances, in units of length; parameters are already those of each pair.

        Returns:
            Densities, in the unit that `embedding_energies` expects.
        """

    def radial_functions(self, edges: Edges) -> RadialFunctions:
        """The function r -> (phi, f) of these edges, switched off, zero where there is no edge."""
        pair = self.per_pair(edges)

        def functions(r: Float[Array, "K C"]) -> tuple[Float[Array, "K C"], Float[Array, "K C"]]:
            switch = pair.switch(r)
            inside = edges.mask & (r < pair.cutoff_distance)
            return (
                jnp.where(inside, pair.pair_energies(r) * switch, 0.0),
                jnp.where(inside, pair.densities(r) * switch, 0.0),
            )

        return functions


class SuttonChen(EmbeddedAtomPotential):
    """The Sutton-Chen potential of metals.

    E = 1/2 sum_i sum_j epsilon (a/r_ij)^n - sum_i c epsilon sqrt(rho_i),
    rho_i = sum_j (a/r_ij)^m.

    Where epsilon is a table over pairs of species, the embedding of an atom takes the entry of its
    own species with itself (H. Rafii-Tabar, A. P. Sutton, Phil. Mag. Lett. 63, 217 (1991)).

    Arguments:
        epsilon: energy scale; one value or a species-by-species table.
        a: length scale: the lattice constant that it was made for; one value or a table.
        c: strength of the embedding; one value or one per species.
        n: exponent of the repulsion; one value or a table.
        m: exponent of the density; one value or a table.
        cutoff: distance from which on there is no interaction, length, or as ``"2.5 a"``.
        species: names of the tables' rows, e.g. ``("Cu", "Ag")``.
        onset: where the smooth switch begins, likewise; 0.9 cutoff by default.

    Raises:
        InputError: a parameter that is not positive, or a cutoff that is no positive length.

    A. P. Sutton, J. Chen, Phil. Mag. Lett. 61, 139 (1990).
    """

    epsilon: Parameter = parameter("energy", positive=True)
    a: Parameter = parameter("length", positive=True)
    c: Parameter = parameter("1", positive=True, per="species")
    n: Parameter = parameter("1", positive=True)
    m: Parameter = parameter("1", positive=True)

    def __init__(
        self,
        epsilon: Any,
        a: Any,
        c: Any,
        n: Any,
        m: Any,
        cutoff: float | str,
        species: Any = None,
        onset: float | str | None = None,
    ):
        self.epsilon, self.a, self.c, self.n, self.m = epsilon, a, c, n, m
        self.cutoff, self.onset, self.species = cutoff, onset, species

    def pair_energies(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """Epsilon (a/r)^n, in units of energy."""
        return self.epsilon * jnp.exp(self.n * jnp.log(self.a / r))

    def densities(self, r: Float[Array, "K C"]) -> Float[Array, "K C"]:
        """(a/r)^m, without a unit."""
        return jnp.exp(self.m * jnp.log(self.a / r))

    def embedding_energies(
        self, density: Float[Array, " C"], species: Int[Array, " C"]
    ) -> Float[Array, " C"]:
        """- c epsilon sqrt(rho), in units of energy."""
        strength = of_species(self.c, species) * of_species(self.epsilon, species)
        return strength * minus_root(density)


def minus_root(density: Float[Array, " C"]) -> Float[Array, " C"]:
    """-sqrt(rho), the embedding of second-moment potentials; zero, as is its slope, where rho is.

    Arguments:
        density: shape (C,).

    Returns:
        Shape (C,).
    """
    # An atom without neighbours has no density, where the root has no slope.
    near = density > 0.0
    return jnp.where(near, -jnp.sqrt(jnp.where(near, density, 1.0)), 0.0)


def of_species(leaf: Parameter, species: Int[Array, " C"]) -> Float[Array, "..."]:
    """A parameter of each atom: that of its species, or of a pair of its species.

    Arguments:
        leaf: one value, or (S,) or (S, S).
        species: shape (C,), species index of each atom.

    Returns:
        One value, or shape (C,).
    """
    if leaf.ndim == 0:
        return leaf
    return (jnp.diagonal(leaf) if leaf.ndim == 2 else leaf)[species]
