"""Energies of jax-md as potentials: edges of mdsens's own, or all pairs, in the place of its lists.

S. S. Schoenholz and E. D. Cubuk, Advances in Neural Information Processing Systems 33 (2020).
"""

from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.arrays import array_module, in_numpy, on_device
from mdsens.errors import InputError
from mdsens.modules import Module
from mdsens.particles.edges import Edges
from mdsens.particles.lattice import heights
from mdsens.particles.system import System
from mdsens.potentials import jax_md_calls as calls
from mdsens.potentials.jax_md_names import EMBEDDED, KNOWN, known_as
from mdsens.potentials.pair import PairPotential
from mdsens.potentials.structure_potential import StructurePotential
from mdsens.potentials.tree_potential import TreePotential
from mdsens.units import UNKNOWN
from mdsens.values import is_traced, items, nearest, real, shown

#: Beyond so many copies of a cell it is too small, or the range is no range.
MOST_COPIES = 1000


def JaxMD(
    energy: str | Callable[..., Any],
    *,
    species: Any = None,
    cutoff: float | None = None,
    **parameters: Any,
) -> "JaxMDPotential":
    """An energy of jax-md's as a potential.

    By name: ``"lennard_jones"``, ``"morse"``, ``"soft_sphere"`` and ``"bks"`` (one value of each
    parameter, or a table for each pair of ``species``), ``"stillinger_weber"``, ``"eam"``,
    ``"gupta"``, and the networks ``"behler_parrinello"`` and
    ``"graph_network"``, whose weights are parameters. All parameters are called as in jax-md, and
    mean what they mean there: r_onset and r_cutoff of ``"lennard_jones"`` are multiples of the
    largest sigma.

    A function of one's own, ``energy(displacement, **parameters)``, returns a function of positions
    as jax-md's do; it is called with a displacement function and sees nearest images.

    What is a function of distances, or of each atom's neighbours, acts along the edges of mdsens:
    every image within the range counts, in a cell of any size and shape, and the Hessian is sparse.
    ``"gupta"``, ``"graph_network"`` and functions of one's own take all pairs of atoms; of
    ``"gupta"`` as many copies of the cell as its range needs, of the others a cell of at least two
    ranges across, or it is an error.

    Arguments:
        energy: the name, or the function.
        species: names of the rows of tables; None where all species are alike.
        cutoff: the range, length, where the energy asks for one: ``"bks"``, ``"eam"``, ``"gupta"``,
            and functions of one's own in periodic structures.
        parameters: numbers, tables or, of ``"eam"``, functions that are modules of Equinox or
            `jax.tree_util.Partial`; settings such as ``mlp_sizes`` and ``seed``. What is not given
            is what jax-md has by default. Of a network ``weights`` may be given.

    Returns:
        The potential.

    Raises:
        InputError: no such energy, an unknown or a missing keyword, or jax-md is not installed.
    """
    if callable(energy):
        given = {} if cutoff is None else {"cutoff": real(cutoff, "cutoff", above=0.0)}
        name = getattr(energy, "__name__", type(energy).__name__)
        own: Any = JaxMDStructure
        return own(name, parameters, {}, given, species, energy)
    name = known_as(energy)
    known, label = KNOWN[name], f"JaxMD {name}"
    if cutoff is not None:
        parameters = {**parameters, "cutoff": cutoff}
    names = list(known.parameters or (EMBEDDED if name == "eam" else ("weights",)))
    allowed = [*names, *known.settings]
    for key in parameters:
        if key not in allowed:
            raise InputError(
                f"{label} takes no {shown(key)}{nearest(key, allowed)}; allowed are "
                f"{', '.join(allowed)}"
            )
    settings = {
        key: _setting(parameters.pop(key, default), f"{label}: {key}")
        for key, default in known.settings.items()
    }
    tree = {**known.defaults, **parameters}
    missing = [key for key in names if key not in tree and key != "weights"]
    if missing:
        raise InputError(f"{label} needs {', '.join(missing)}: give a value for each")
    calls.jax_md()
    if known.parameters is None and name != "eam":
        tree = tree.get("weights") or calls.weights(name, settings, 3)
    if known.parameters is not None:
        tree = {key: _numbers(value, f"{label}: {key}") for key, value in tree.items()}
    kinds: dict[str, Any] = {"pairs": JaxMDPairs, "sites": JaxMDSites, "structure": JaxMDStructure}
    dimensions = {key: one for key, one in (known.parameters or {}).items() if one != UNKNOWN}
    return kinds[known.kind](name, tree, dimensions, settings, species)


def _numbers(value: Any, label: str) -> Any:
    """A parameter as floats: jax-md takes whole numbers too."""
    if is_traced(value):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{label} = {shown(value)}: give numbers")
    return array.astype(float)


def _setting(value: Any, label: str) -> Any:
    """A setting as something that can be compared."""
    if value is None:
        raise InputError(f"{label} is missing: give one")
    if isinstance(value, dict):
        return tuple((key, _setting(one, label)) for key, one in value.items())
    if isinstance(value, str) or callable(value):
        return value
    several = items(value)
    if several is not None:
        return tuple(_setting(one, label) for one in several)
    if isinstance(value, (int, np.integer)):
        return int(value)
    return real(value, label)


class JaxMDPotential(TreePotential):
    """What all energies of jax-md share.

    Attributes:
        settings: names and values of what is no parameter.
        function: a user's own; None where the name tells.
    """

    settings: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    function: Callable[..., Any] | None = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        tree: Any,
        dimensions: Any,
        settings: dict[str, Any],
        species: Any = None,
        function: Callable[..., Any] | None = None,
    ):
        self.settings, self.function = tuple(settings.items()), function
        self._set(name, tree, dimensions, species)

    @property
    def _title(self) -> str:
        return f"JaxMD {self.name}"

    @property
    def _all_settings(self) -> dict[str, Any]:
        return dict(self.settings)

    def _settings(self, units: str) -> list[tuple[str, str]]:
        return [
            ("energy", f"{self.name} of jax-md"),
            *((key, shown(value)) for key, value in self.settings),
            *super()._settings(units),
        ]

    @property
    def interaction_range(self) -> float | Float[Array, ""]:
        """Distance beyond which nothing interacts, in units of length."""
        tree, settings = in_numpy(self.tree), self._all_settings
        if self.name == "lennard_jones" and self.function is None:
            return on_device(settings["r_cutoff"] * array_module(tree).max(tree["sigma"]))
        for key in ("r_cutoff", "cutoff"):
            if key in settings:
                return float(settings[key])
        if self.name == "behler_parrinello":
            return float(dict(settings["sym_kwargs"]).get("cutoff_distance", 8.0))
        if self.name == "soft_sphere":
            return on_device(array_module(tree).max(tree["sigma"]))
        return on_device(tree.get("cutoff", 1.0))


class JaxMDPairs(JaxMDPotential, PairPotential):
    """Half a sum over edges of a function of the distance that jax-md has."""

    @property
    def contact(self) -> bool:  # type: ignore[override]
        """Whether particles only push one another, where they touch."""
        return self.name == "soft_sphere"

    def __check_init__(self) -> None:
        count = 0 if self.species is None else len(self.species)
        for name, leaf in self.tree.items():
            if np.shape(leaf) in ((), (count, count)):
                continue
            raise InputError(
                f"{self._title}: {name} has shape {np.shape(leaf)}: one value is allowed, or a "
                "table for each pair of species, with their names as in species=('Si', 'O')"
            )

    def _entries(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        names = self.species or ()
        entries: dict[str, tuple[Any, tuple[int, ...]]] = {}
        for table, leaf in self.tree.items():
            if np.ndim(leaf) == 0:
                entries[table] = (table, ())
                continue
            for i, first in enumerate(names):
                for j in range(i, len(names)):
                    entries[f"{table}[{first}-{names[j]}]"] = (table, (i, j))
        return entries

    def _places(self, table: Any, index: tuple[int, ...]) -> set[tuple[int, ...]]:
        return {index, index[::-1]}

    def pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair at distance r, where all species are alike, in units of energy."""
        return _OfPairs(self, self.tree).truncated_pair_energies(r)

    def per_pair(self, edges: Edges) -> Any:
        """This potential with the parameters of each edge, shape (K, C)."""

        def value(leaf: Array) -> Array:
            if leaf.ndim != 2:
                return leaf
            return ((leaf + leaf.T) / 2)[edges.species[None, :], edges.neighbor_species]

        return _OfPairs(self, jax.tree.map(value, self.tree))


class _OfPairs(Module):
    """A potential of pairs whose parameters are those of each pair."""

    whole: JaxMDPairs
    tree: Any

    def truncated_pair_energies(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy of each pair at distance r."""
        with calls.as_jax_md_does():
            whole = self.whole
            function = calls.pair_function(whole.name, whole.tree, whole._all_settings)
            return function(r, self.tree)


class JaxMDSites(JaxMDPotential):
    """A sum over atoms of what jax-md makes of each atom's neighbours."""

    def __check_init__(self) -> None:
        if self.species is not None:
            raise InputError(
                f"{self._title}: species = {shown(self.species)}: jax-md has it for one species "
                "alone; leave species out"
            )
        if self.name == "eam":
            return
        wrong = [key for key, leaf in self.tree.items() if np.ndim(leaf)]
        if wrong and self.name != "behler_parrinello":
            raise InputError(f"{self._title}: {wrong[0]} is a table: give one value")

    def species_index(self, system: System) -> Int[Array, " N"]:
        """Zero for each atom; an error where there are several species, which jax-md ignores."""
        if len(system.symbols) > 1:
            raise InputError(
                f"{self._title} is of one species, and the system has {', '.join(system.symbols)}: "
                "use another potential"
            )
        return super().species_index(system)

    def site_energies(self, edges: Edges) -> Float[Array, " C"]:
        """Energy of each atom, shape (C,), in units of energy."""
        reach = jnp.asarray(self.interaction_range)
        inside = (edges.mask & (edges.distances < reach)).T
        vectors = jnp.stack([component.T for component in edges.vectors], axis=-1)
        distant = jnp.zeros(vectors.shape[-1]).at[0].set(calls.DISTANT * reach)
        vectors = jnp.where(inside[:, :, None], vectors, distant[None, None])
        tree, settings = self.parameter_tree, self._all_settings

        def one(vectors: Float[Array, "K D"], inside: Array) -> Float[Array, ""]:
            return calls.site_energy(self.name, tree, settings, vectors, inside)

        with calls.as_jax_md_does():
            return jax.vmap(one)(vectors, inside)


class JaxMDStructure(JaxMDPotential, StructurePotential):
    """An energy of all pairs of atoms, and of copies of the cell where it is small.

    Attributes:
        pbc: whether each direction is periodic; None until a system is known.
        copies: of the cell in each direction.
        same_turned: whether the energy is known to be the same however the structure is turned;
            that of a network of graphs is not, for it sees components of vectors.
    """

    pbc: tuple[bool, ...] | None = eqx.field(static=True, default=None)
    copies: tuple[int, ...] = eqx.field(static=True, default=())
    same_turned: bool = eqx.field(static=True, default=True)

    @property
    def isotropic(self) -> bool:  # type: ignore[override]
        """Whether the energy is the same however the structure is turned."""
        return self.same_turned and (self.function is not None or self.name != "graph_network")

    def in_system(self, system: System) -> Self:
        """The same, with the boundaries of a system, and copies of its cell.

        Arguments:
            system: where it is to act.

        Returns:
            The potential.

        Raises:
            InputError: it is periodic, and the range is not known or too long for its cell.
        """
        self.species_index(system)
        copies, settings = [1] * system.dimension, self._all_settings
        if any(system.pbc):
            if not {"cutoff", "r_cutoff"} & set(settings):
                raise InputError(
                    f"{self._title}: the structure is periodic, and how far the energy reaches is "
                    "not known: give cutoff"
                )
            if is_traced(system.cell):
                raise InputError(
                    f"{self._title}: the cell is being traced, and how many copies of it the range "
                    "needs is not known: relax outside jit, or use an energy along edges"
                )
            copies = self._copies(system)
        potential = self._with(pbc=tuple(map(bool, system.pbc)), copies=tuple(copies))
        if self.function is not None:
            from mdsens.potentials.invariance import changes_as_a_whole, energy_at_rest

            still, where = jax.lax.stop_gradient((potential, system))
            if not is_traced((still, where.positions)) and not np.isfinite(
                found := energy_at_rest(still, where)
            ):
                raise InputError(
                    f"{self._title}: the energy of the structure is {found}: correct the function, "
                    "its parameters, or the structure"
                )
            # Of two periodic directions and more nothing turns.
            if not is_traced((still, where.positions)) and sum(system.pbc) < 2:
                change = changes_as_a_whole(still, where).turned
                potential = potential._with(same_turned=change is None)
        return potential

    def _copies(self, system: System) -> list[int]:
        across = iter(heights(np.asarray(system.cell), system.pbc))
        reach = float(self.interaction_range)
        # A cell that relaxes may become smaller.
        needed = [
            max(1, int(np.ceil(2.1 * reach / next(across)))) if periodic else 1
            for periodic in system.pbc
        ]
        if self.name == "gupta" and self.function is None and np.prod(needed) <= MOST_COPIES:
            return needed
        smallest = min(heights(np.asarray(system.cell), system.pbc))
        if smallest < 2.0 * reach:
            raise InputError(
                f"{self._title}: the cell is {smallest:.4g} across, and images are told apart from "
                f"{2.0 * reach:.4g} on, twice the range: give a supercell"
            )
        return [1] * system.dimension

    def structure_energy(
        self,
        positions: Float[Array, "N D"],
        cell: Float[Array, "D D"],
        species: Int[Array, " N"],
    ) -> Float[Array, ""]:
        """The energy of all pairs of atoms, in units of energy; NaN where the cell is too small.

        Arguments:
            positions: shape (N, D), in units of length; atoms may lie outside the cell.
            cell: shape (D, D), lattice vectors as rows.
            species: shape (N,), species index of each atom.

        Returns:
            The energy.
        """
        if self.pbc is None:
            raise InputError(f"{self._title}: no system is known: relax one, or use in_system")
        dimension, periodic = len(self.pbc), np.array(self.pbc)
        wrapped, fits = _free, jnp.array(True)
        if periodic.any():
            grid = np.stack(np.meshgrid(*map(np.arange, self.copies), indexing="ij"), -1)
            steps = jnp.asarray(grid.reshape(-1, 1, dimension), float)
            positions = (positions[None] + steps @ cell).reshape(-1, dimension)
            lattice = (jnp.asarray(self.copies, float)[:, None] * cell)[np.flatnonzero(periodic)]
            # Vectors across the lattice are no longer than one over the distance of its planes.
            dual = lattice.T @ jnp.linalg.inv(lattice @ lattice.T)
            across = 1.0 / jnp.linalg.norm(dual, axis=0)
            fits = jnp.all(across >= 2.0 * self.interaction_range)

            def wrapped(first: Array, second: Array, **_: Any) -> Array:
                apart = first - second
                turns = jnp.round(jax.lax.stop_gradient(apart @ dual))
                return apart - turns @ lattice

        with calls.as_jax_md_does():
            function = calls.structure_function(
                None if self.function is not None else self.name,
                self.function, self.parameter_tree, self._all_settings, wrapped, dimension,
            )  # fmt: skip
            found = function(positions)
        if getattr(found, "shape", None) != () or found.dtype != np.dtype("float64"):
            kind = getattr(found, "dtype", type(found).__name__)
            raise InputError(
                f"{self._title} gives {kind} of shape {getattr(found, 'shape', None)}: one number "
                "in double precision is needed"
            )
        return jnp.where(fits, found / int(np.prod(self.copies or (1,))), jnp.nan)


def _free(first: Array, second: Array, **_: Any) -> Array:
    return first - second
