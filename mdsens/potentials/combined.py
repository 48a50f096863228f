"""Potentials made of others: sums of several, and multiples of one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.parameters import Parameter, parameter
from mdsens.potentials.parts import CombinedPotential, names_of
from mdsens.potentials.potential import Potential, RadialDerivatives
from mdsens.values import distinct_names, instance, items, shown


class PotentialSum(CombinedPotential):
    """The sum of several potentials.

    `a + b` makes one, and names each part by its class.

    Arguments:
        parts: the potentials, in a sequence, or by their names.

    Raises:
        InputError: no parts, names that are no words, or tables for other species.
    """

    parts: tuple[Potential, ...]
    part_names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, parts: Sequence[Potential] | Mapping[str, Potential]):
        given = list(parts.values()) if isinstance(parts, Mapping) else items(parts)
        if not given:
            raise InputError(f"parts = {shown(parts)}: give a list or a dict of potentials")
        for index, part in enumerate(given):
            instance(part, f"parts[{index}]", Potential, "a mdsens.potentials one")
        self.parts = tuple(given)
        if isinstance(parts, Mapping):
            self.part_names = distinct_names(list(parts), "names of parts")
            wrong = [name for name in self.part_names if not re.fullmatch(r"[A-Za-z]\w*", name)]
            if wrong:
                raise InputError(f"parts = {shown(wrong[0])}: give names of letters and digits")
        else:
            self.part_names = names_of(self.parts)
        known = [part for part in self.parts if part.species is not None]
        for part in known[1:]:
            if set(part.species or ()) != set(known[0].species or ()):
                raise InputError(
                    f"{type(part).__name__} has tables for {', '.join(part.species or ())}, and "
                    f"{type(known[0]).__name__} for {', '.join(known[0].species or ())}: give all "
                    "parts the same species"
                )

    def to_file(self, path: str | Path) -> None:
        """Write the sum where a file of LAMMPS can hold it: `SNAP`, and `ZBL` over it.

        Arguments:
            path: as of the first potential's to_file.

        Raises:
            InputError: the files of LAMMPS hold no such sum, or one cannot be written.
        """
        first, *others = self.parts
        if not hasattr(first, "to_file_with"):
            kinds = " and ".join(type(part).__name__ for part in self.parts)
            raise InputError(
                f"cannot write {shown(str(path))}: the sum of {kinds}: allowed in a file is SNAP, "
                "and ZBL after it; write each of parts with its to_file"
            )
        first.to_file_with(path, tuple(others))

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"] | None:
        """The sum of what atoms have by themselves in the parts, shape (N,), energy."""
        found = [part.own_energies(self._species_of(part, species)) for part in self.parts]
        known = [one for one in found if one is not None]
        return sum(known[1:], start=known[0]) if known else None

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """The sum of the parts' energies of the whole structure."""
        found = [
            part.structure_energy(positions, cell, self._species_of(part, species))
            for part in self.parts
            if part.of_structure
        ]
        return sum(found[1:], start=found[0])

    def structure_mechanics(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
        """The sums of what the parts say of the whole structure."""
        found = [
            part.structure_mechanics(positions, cell, self._species_of(part, species))
            for part in self.parts
            if part.of_structure
        ]
        return _added(found)

    def structure_blocks(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> list[tuple[Float[Array, "T n n D D"], Int[Array, "T n"]]]:
        """The groups of all parts."""
        return [
            found
            for part in self.parts
            if part.of_structure
            for found in part.structure_blocks(positions, cell, self._species_of(part, species))
        ]

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """The sum of the parts' energies, shape (C,), energy."""
        found = [part.site_energies(self._edges_of(part, edges)) for part in self._along_edges]
        return sum(found[1:], start=found[0])

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """The sums of the parts' energies and gradients."""
        found = [
            part.site_energies_and_gradients(self._edges_of(part, edges))
            for part in self._along_edges
        ]
        return _added(found)

    def site_energies_and_weights(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], Float[Array, "K C"]]:
        """The sums of the parts' energies and weights."""
        parts = self._along_edges
        return _added(
            [part.site_energies_and_weights(self._edges_of(part, edges)) for part in parts]
        )

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """The sum of the parts' second derivatives."""
        parts = self._along_edges
        return _added([part.site_hessians(self._edges_of(part, edges)) for part in parts])

    def second_variations(
        self, edges: Edges, changes: tuple[Float[Array, "K V C"], ...]
    ) -> Float[Array, "V V"]:
        """The sum of the parts' second derivatives."""
        parts = self._along_edges
        return _added([p.second_variations(self._edges_of(p, edges), changes) for p in parts])

    def edge_hessians(self, edges: Edges) -> list[list[Float[Array, "K C"]]]:
        """The sum of the parts' second derivatives."""
        parts = self._along_edges
        return _added([part.edge_hessians(self._edges_of(part, edges)) for part in parts])

    def embedding_derivatives(self, edges: Edges) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """F' and F'' of each atom, of the one part that is embedded."""
        (part,) = [part for part in self._along_edges if part.embedded]
        return part.embedding_derivatives(self._edges_of(part, edges))

    def radial_derivatives(self, edges: Edges) -> RadialDerivatives:
        """Slopes and curvatures of the sum of pair energies, and of the density."""
        none = jnp.zeros(edges.mask.shape)
        found = []
        for part in self._along_edges:
            seen = self._edges_of(part, edges)
            if isinstance(part, PairPotential):
                slopes = part.slopes_and_curvatures(seen)
                found.append(RadialDerivatives(*slopes, none, none, none, none))
            else:
                found.append(part.radial_derivatives(seen))
        return _added(found)


class ScaledPotential(CombinedPotential):
    """A multiple of a potential; `2.0 * potential` makes one.

    Arguments:
        scale: what its energy is multiplied with.
        potential: the potential.

    Raises:
        InputError: a scale that is no number.
    """

    scale: Parameter = parameter("1", per="all")
    parts: tuple[Potential, ...]
    part_names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, scale: Any, potential: Potential):
        instance(potential, "potential", Potential, "a mdsens.potentials one")
        self.scale, self.parts, self.part_names = scale, (potential,), names_of((potential,))

    @property
    def contact(self) -> bool:  # type: ignore[override]
        """Never: what is turned round attracts."""
        return False

    def own_energies(self, species: Int[Array, " N"]) -> Float[Array, " N"] | None:
        """The multiple of what atoms have by themselves, shape (N,), energy."""
        found = self.parts[0].own_energies(species)
        return None if found is None else self.scale * found

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """The multiple of the energy of the whole structure."""
        return self.scale * self.parts[0].structure_energy(positions, cell, species)

    def structure_mechanics(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> tuple[Float[Array, ""], Float[Array, "N D"], Float[Array, "D D"]]:
        """The multiples of energy, forces and virial of the whole structure."""
        return self._times(self.parts[0].structure_mechanics(positions, cell, species))

    def structure_blocks(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> list[tuple[Float[Array, "T n n D D"], Int[Array, "T n"]]]:
        """The same groups, with multiples of their second derivatives."""
        found = self.parts[0].structure_blocks(positions, cell, species)
        return [(self.scale * blocks, atoms) for blocks, atoms in found]

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """The multiple of the energies, shape (C,), energy."""
        return self.scale * self.parts[0].site_energies(edges)

    def site_energies_and_gradients(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], tuple[Float[Array, "K C"], ...]]:
        """The multiples of energies and gradients."""
        return self._times(self.parts[0].site_energies_and_gradients(edges))

    def site_energies_and_weights(
        self, edges: Edges
    ) -> tuple[Float[Array, " C"], Float[Array, "K C"]]:
        """The multiples of energies and weights."""
        return self._times(self.parts[0].site_energies_and_weights(edges))

    def site_hessians(self, edges: Edges) -> Float[Array, "C K K D D"]:
        """The multiple of the second derivatives."""
        return self._times(self.parts[0].site_hessians(edges))

    def second_variations(
        self, edges: Edges, changes: tuple[Float[Array, "K V C"], ...]
    ) -> Float[Array, "V V"]:
        """The multiple of the second derivatives."""
        return self._times(self.parts[0].second_variations(edges, changes))

    def edge_hessians(self, edges: Edges) -> list[list[Float[Array, "K C"]]]:
        """The multiple of the second derivatives."""
        return self._times(self.parts[0].edge_hessians(edges))

    def embedding_derivatives(self, edges: Edges) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """Multiples of F' and F''."""
        return self._times(self.parts[0].embedding_derivatives(edges))

    def radial_derivatives(self, edges: Edges) -> RadialDerivatives:
        """Multiples of those of the pair energy; the density is what it is."""
        found = self.parts[0].radial_derivatives(edges)
        return found._replace(
            pair_slope=self.scale * found.pair_slope,
            pair_curvature=self.scale * found.pair_curvature,
        )

    def _times(self, found: Any) -> Any:
        return jax.tree.map(lambda leaf: self.scale * leaf, found)


def sum_of(first: Potential, second: Potential) -> PotentialSum:
    """The sum of two potentials; of a sum that named its parts by their classes, with one more.

    Arguments:
        first: a potential.
        second: another.

    Returns:
        The PotentialSum.
    """
    parts = [
        part
        for one in (first, second)
        for part in (
            one.parts
            if isinstance(one, PotentialSum) and one.part_names == names_of(one.parts)
            else (one,)
        )
    ]
    return PotentialSum(parts)


def _added(found: list[Any]) -> Any:
    """The sum of trees of arrays."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *found)
