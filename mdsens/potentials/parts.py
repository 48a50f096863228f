"""What potentials that are made of others have in common: their parts, named and put in order."""

import re
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.particles.edges import Edges
from mdsens.particles.system import System
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.potential import Potential
from mdsens.summary import Summary
from mdsens.values import nearest, shown


class CombinedPotential(Potential):
    """A potential whose parameters are those of its parts, and perhaps some of its own.

    A parameter that only one part has is called as that part calls it; one that several have is
    told apart by the part's name, as in ``"coulomb.epsilon"``. Every part's full name is
    understood for all.
    """

    parts: eqx.AbstractVar[tuple[Potential, ...]]
    part_names: eqx.AbstractVar[tuple[str, ...]]

    @property  # type: ignore[misc]
    def species(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Names of the species that the parts' tables are for; None where there are no tables."""
        return next((part.species for part in self.parts if part.species is not None), None)

    @property
    def pairwise(self) -> bool:  # type: ignore[override]
        """Whether all parts are sums over pairs."""
        return all(part.pairwise for part in self._along_edges)

    @property
    def embedded(self) -> bool:  # type: ignore[override]
        """Whether one part is embedded and all others are functions of distances."""
        embedded = [part for part in self._along_edges if part.embedded]
        radial = [part for part in self._along_edges if isinstance(part, PairPotential)]
        return len(embedded) == 1 and len(embedded) + len(radial) == len(self._along_edges)

    @property
    def contact(self) -> bool:  # type: ignore[override]
        """Whether particles only push one another in all parts."""
        return all(part.contact for part in self.parts)

    @property
    def acts_along_edges(self) -> bool:  # type: ignore[override]
        """Whether atoms interact along edges in some part."""
        return any(part.acts_along_edges for part in self.parts)

    @property
    def of_structure(self) -> bool:  # type: ignore[override]
        """Whether some part has an energy of the whole structure."""
        return any(part.of_structure for part in self.parts)

    @property
    def in_groups(self) -> bool:  # type: ignore[override]
        """Whether all energies of the whole structure are sums over groups of a few atoms."""
        return all(part.in_groups for part in self.parts if part.of_structure)

    @property
    def invariant(self) -> bool:  # type: ignore[override]
        """Whether all parts' energies are the same wherever the system is."""
        return all(part.invariant for part in self.parts)

    @property
    def isotropic(self) -> bool:  # type: ignore[override]
        """Whether all parts' energies are the same however the system is turned."""
        return all(part.isotropic for part in self.parts)

    @property
    def dear_hessian(self) -> bool:  # type: ignore[override]
        """Whether the Hessian of some part takes long beside its forces."""
        return any(part.dear_hessian for part in self.parts)

    @property
    def made_by_calls(self) -> bool:  # type: ignore[override]
        """Whether products with the Hessian of some part call something slow."""
        return any(part.made_by_calls for part in self.parts)

    def evaluated_in(self, system: System) -> Self:
        """The same of all parts."""
        parts = tuple(part.evaluated_in(system) for part in self.parts)
        return eqx.tree_at(lambda potential: potential.parts, self, parts)

    def check_use(self, system: System, cell: Any) -> None:
        """Raise InputError where a part refuses."""
        for part in self.parts:
            part.check_use(system, cell)

    @property
    def calls(self) -> int:
        """How often something slow was called by the parts."""
        return sum(part.calls for part in self.parts)

    @property
    def force_noise(self) -> float:
        """The largest error of a component of a force of a part, energy/length."""
        return max(part.force_noise for part in self.parts)

    @property
    def parameter_error(self) -> float:
        """The largest relative error of derivatives of a part's forces in a parameter."""
        return max(part.parameter_error for part in self.parts)

    @property
    def _along_edges(self) -> tuple[Potential, ...]:
        """The parts that act along edges."""
        return tuple(part for part in self.parts if part.acts_along_edges)

    @property
    def interaction_range(self) -> float | Float[Array, ""]:
        """The largest range of a part that acts along edges, in units of length."""
        parts = self._along_edges or self.parts
        ranges = in_numpy([part.interaction_range for part in parts])
        return on_device(array_module(ranges).stack(ranges).max())

    @property
    def switch_interval(self) -> tuple[Any, Any] | None:
        """Onset and cutoff of the smooth switch that reaches farthest; None where there is none."""
        found = [(part, part.switch_interval) for part in self._along_edges]
        switched = [(part, one) for part, one in found if one is not None]
        if not switched:
            return None
        part, switch = max(switched, key=lambda one: float(np.max(in_numpy(one[1][1]))))
        order = np.ix_(self._order(part), self._order(part))
        onset, cutoff = (one if np.ndim(one) == 0 else in_numpy(one)[order] for one in switch)
        return onset, cutoff

    @property
    def kink_distances(self) -> Float[Array, " M"] | Float[Array, "M S S"]:
        """Those of all parts, in units of length."""
        if not self.acts_along_edges:
            return super().kink_distances
        known = [jnp.asarray(part.kink_distances) for part in self._along_edges]
        for i, kinks in enumerate(known):
            if kinks.ndim == 3:
                order = jnp.asarray(self._order(self._along_edges[i]))
                known[i] = kinks[:, order][:, :, order]
        tables = [kinks.shape for kinks in known if kinks.ndim == 3]
        if tables:
            size = tables[0][1:]
            known = [
                kinks if kinks.ndim == 3 else jnp.broadcast_to(
                    kinks[:, None, None], (len(kinks), *size)
                )
                for kinks in known
            ]  # fmt: skip
        return jnp.concatenate(known)

    # Energies ----------------------------------------------------------------------------------

    def _order(self, part: Potential) -> np.ndarray:
        """The part's index of each species of the whole."""
        if part.species is None or self.species is None:
            return np.zeros(max(1, len(self.species or ())), np.int32)
        return np.array([part.species.index(name) for name in self.species], np.int32)

    def _edges_of(self, part: Potential, edges: Edges) -> Edges:
        """The edges with the species as a part numbers them."""
        if part.species == self.species:
            return edges
        return Edges(
            edges.vectors,
            edges.mask,
            self._species_of(part, edges.species),
            self._species_of(part, edges.neighbor_species),
        )

    def _species_of(self, part: Potential, species: Int[Array, "..."]) -> Int[Array, "..."]:
        """Species as a part numbers them."""
        return species if part.species == self.species else jnp.asarray(self._order(part))[species]

    # Parameters by name ------------------------------------------------------------------------

    def _parameters_of_parts(self) -> dict[str, tuple[int, str]]:
        """Where each parameter is by its name: which part, and its name there."""
        names = [part.parameter_names for part in self.parts]
        tables = [{_table_named(name) for name in part} for part in names]
        own = super()._entries()

        def known_as(i: int, name: str) -> str:
            table = _table_named(name)
            alone = sum(table in part for part in tables) == 1 and table not in own
            return name if alone else f"{self.part_names[i]}.{name}"

        return {known_as(i, name): (i, name) for i, part in enumerate(names) for name in part}

    def _entries(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """Its own, and those of parts: their tables are pairs of a part's number and a table."""
        of_parts = [part._entries() for part in self.parts]
        entries = super()._entries()
        for known, (i, name) in self._parameters_of_parts().items():
            table, index = of_parts[i][name]
            entries[known] = ((i, table), index)
        return entries

    def _table(self, table: Any) -> Any:
        if isinstance(table, str):
            return super()._table(table)
        return self.parts[table[0]]._table(table[1])

    def _places(self, table: Any, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        if isinstance(table, str):
            return super()._places(table, index)
        return self.parts[table[0]]._places(table[1], index)

    def _label(self, table: Any) -> str:
        if isinstance(table, str):
            return super()._label(table)
        return self.parts[table[0]]._label(table[1])

    def _check(self, tables: set[Any]) -> None:
        of_parts = [one for one in tables if not isinstance(one, str)]
        for i, part in enumerate(self.parts):
            changed = {table for place, table in of_parts if place == i}
            if changed:
                part._check(changed)
        super()._check(tables)

    def _meant(self, name: str, of_part: Callable[[Potential, str], list[str]]) -> list[str]:
        """Parameters of the parts that a name may mean, by the names they have here."""
        known_as = {place: known for known, place in self._parameters_of_parts().items()}
        for i, part in enumerate(self.part_names):
            if name.startswith(f"{part}."):
                below = name.removeprefix(f"{part}.")
                return [known_as[i, known] for known in of_part(self.parts[i], below)]
        return [
            known_as[i, known] for i, part in enumerate(self.parts) for known in of_part(part, name)
        ]

    def _named(self, name: str) -> list[str]:
        """The parameters of a table of one part; none where several have one of that name."""
        if own := super()._named(name):
            return own
        found = self._meant(name, lambda part, below: part._named(below))
        places = self._parameters_of_parts()
        return found if len({places[known][0] for known in found}) == 1 else []

    def _canonical(self, name: str) -> str:
        text, entries = str(name), self._entries()
        if text in entries:
            return text
        found = self._meant(text, _understood)
        if len(found) == 1:
            return found[0]
        if found:
            places = self._parameters_of_parts()
            meant = " or ".join(
                f"{self.part_names[i]}.{known}" for i, known in (places[one] for one in found)
            )
            raise InputError(f"parameter {shown(name)} is one of several parts: give {meant}")
        for i, part in enumerate(self.part_names):
            if text.startswith(f"{part}."):
                # Whose part it is, knows best what is wrong.
                self.parts[i]._canonical(text.removeprefix(f"{part}."))
        raise InputError(
            f"{type(self).__name__} has no parameter {shown(name)}: allowed are "
            f"{', '.join(list(entries)[:24])}{nearest(text, entries)}"
        )

    def parameter_dimension(self, name: str) -> str:
        """Physical dimension of a parameter, e.g. ``"energy"``."""
        known = self._canonical(name)
        if known in super()._entries():
            return super().parameter_dimension(known)
        i, of_part = self._parameters_of_parts()[known]
        return self.parts[i].parameter_dimension(of_part)

    def in_system(self, system: System) -> Self:
        """The same of parts as they act in the system."""
        self.species_index(system)
        parts = tuple(part.in_system(system) for part in self.parts)
        if all(new is part for new, part in zip(parts, self.parts, strict=True)):
            return self
        return eqx.tree_at(lambda potential: potential.parts, self, parts)

    def described_parameters(self, units: str = "ase") -> list[tuple[str, str]]:
        """Names of parameters, and of other lengths and settings, with values and units as text.

        Arguments:
            units: ``"ase"`` or ``"reduced"``.

        Returns:
            Those of each part under its name.
        """
        described, own = super().described_parameters(units), super()._entries()
        return [one for one in described if one[0] in own] + [
            (f"{name}.{key}", value)
            for name, part in zip(self.part_names, self.parts, strict=True)
            for key, value in part.described_parameters(units)
        ]

    def _summary(self) -> Summary | None:
        if any(part._summary() is None for part in self.parts):
            return None
        title = f"{type(self).__name__} (in eV and Ang, or all in reduced units)"
        kinds = [
            (name, type(part).__name__)
            for name, part in zip(self.part_names, self.parts, strict=True)
        ]
        return Summary(title, [*kinds, *self.described_parameters()])


def names_of(parts: tuple[Potential, ...]) -> tuple[str, ...]:
    """The parts' classes as names, numbered where there are several of one.

    Arguments:
        parts: the potentials.

    Returns:
        E.g. ``("snap", "zbl")``.
    """
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(part).__name__).lower() for part in parts]
    return tuple(
        word if words.count(word) == 1 else f"{word}_{words[: i + 1].count(word)}"
        for i, word in enumerate(words)
    )


def _table_named(name: str) -> str:
    """What the table of a parameter is called, up to the first bracket or dot."""
    return re.split(r"[\[.]", name, maxsplit=1)[0]


def _understood(part: Potential, name: str) -> list[str]:
    """The canonical name of a parameter in a part, if the part has it."""
    try:
        return [part._canonical(name)]
    except InputError:
        return []
