"""A calculator of ASE for every potential: its optimisers, filters, NEB, phonons and dynamics."""

from collections.abc import Sequence
from typing import Any

import ase
import ase.calculators.calculator
import jax
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from jaxtyping import Float

from mdsens.errors import InputError
from mdsens.mechanics import require_volume, voigt
from mdsens.mechanics.energy import compiled_site_energies
from mdsens.mechanics.shared_energy import mechanics_at
from mdsens.particles.edge_search import approach_bound
from mdsens.particles.edges import EdgeList
from mdsens.particles.lattice import completed_cell
from mdsens.particles.species_names import same_species_names
from mdsens.particles.system import System, coordinates
from mdsens.potentials.potential import Potential
from mdsens.units import check_unit_system
from mdsens.values import instance, integer, is_traced, real


class Calculator(ase.calculators.calculator.Calculator):
    """Energy, forces and stress of a potential for ASE.

    Energies are in the potential's unit of energy, forces and stress follow: eV, eV/Angstrom and
    eV/Angstrom^3, or reduced ones. Edges are found with a skin and kept while no two atoms or
    images can have come nearer by more than that; compiled code serves all structures of as many
    atoms with as much room for edges.

    Arguments:
        potential: the potential.
        dimension: 3, or 2 for the xy plane (all atoms must share one z). Forces and stress then
            have zeros for z, and the stress is per volume of ASE's cell.
        units: ``"ase"`` (eV, Angstrom) or ``"reduced"``: what the potential's numbers mean.
        skin: length by which edges reach beyond the potential's range; None: a fraction of it.

    Raises:
        InputError: no potential, or another dimension, unit or skin than is allowed; when asked to
            calculate: a species that the potential does not know, numbers that are not finite, or a
            structure that is not flat in two dimensions.
        PropertyNotImplementedError: when asked for the stress of what has no volume.
    """

    name = "mdsens"
    atoms: Any
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        potential: Potential,
        dimension: int = 3,
        units: str = "ase",
        skin: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dimension = integer(dimension, "dimension", at_least=2, at_most=3)
        check_unit_system(units)
        self.units = units
        self.skin = None if skin is None else real(skin, "skin", above=0.0)
        # Room for edges by the number of atoms: what was compiled for that serves again.
        self._capacities: dict[int, tuple[int, int]] = {}
        self.potential = potential

    @property
    def potential(self) -> Potential:
        """The potential; another one may be given at any time."""
        return self._potential

    @potential.setter
    def potential(self, potential: Potential) -> None:
        instance(potential, "potential", Potential, "a mdsens.potentials one")
        if is_traced(potential):
            raise InputError(
                "a calculator needs numbers, and JAX is tracing the potential: use it outside jit, "
                "grad and vmap, or mdsens.relax inside"
            )
        self._potential = potential
        self._structure: _Structure | None = None
        self.reset()  # type: ignore[no-untyped-call]

    def set(self, **values: float) -> dict[str, float]:
        """Change parameters of the potential by name, as `Potential.with_parameters` does.

        Arguments:
            values: a number for each name, such as ``"sigma"``.

        Returns:
            The same.

        Raises:
            InputError: there is no such parameter, or its value is not allowed.
        """
        if values:
            self.potential = self.potential.with_parameters(values)
        return values

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """What trajectories and databases of ASE keep: the potential's kind, values and settings.

        Arguments:
            skip_default: of no meaning here.

        Returns:
            Texts by name, with units.
        """
        described = dict(self.potential.described_parameters(self.units))
        return {"potential": type(self.potential).__name__, **described}

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; names of species are looked at too.

        Arguments:
            atoms: the structure.
            tol: the largest difference that is none.

        Returns:
            Any of ``"positions"``, ``"numbers"``, ``"cell"``, ``"pbc"``.
        """
        changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
        if not changes and not same_species_names(self.atoms, atoms):
            changes.append("numbers")
        return changes

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate energy, forces and stress, and energies of single atoms if they are asked for.

        Arguments:
            atoms: the structure; None: the last one.
            properties: what is asked for.
            system_changes: what has changed since; found out anew.

        Raises:
            InputError, PropertyNotImplementedError: see the class.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self.results = {}
        # What fails half-way is begun anew the next time.
        structure, self._structure = self._structure, None
        if structure is None or not structure.is_of(self.atoms):
            structure = _Structure(
                self.atoms, self.potential, self.dimension, self.units, self.skin
            )
        count = len(self.atoms)
        system, edge_list = structure.at(self.atoms, self._capacities.get(count, (1, 0)))
        self._capacities[count] = edge_list.capacity
        potential = structure.potential
        found = mechanics_at(system, potential, edge_list)
        # In two dimensions nothing depends on z.
        energy, forces, virial = float(found[0]), np.zeros((count, 3)), np.zeros((3, 3))
        forces[:, : self.dimension] = found[1]
        virial[: self.dimension, : self.dimension] = found[2]
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if "energies" in properties:
            energies = compiled_site_energies(system, potential, edge_list)
            self.results["energies"] = np.array(energies)
        why = self._without_volume(system)
        if not why:
            self.results["stress"] = voigt(virial) / self.atoms.cell.volume
        self._structure = structure
        if why and "stress" in properties:
            raise PropertyNotImplementedError(why)

    def _without_volume(self, system: System) -> str:
        """Why there is no volume that a stress could refer to; empty if there is one."""
        try:
            require_volume(system, "stress")
        except InputError as error:
            return str(error)
        if self.atoms.cell.rank < 3:
            return "stress needs a volume, and ASE's cell has none: give it a third vector"
        return ""

    def __getstate__(self) -> dict[str, Any]:
        # Edges are found anew.
        return vars(self) | {"_structure": None}


class _Structure:
    """A structure that moves, with edges that hold where it is."""

    def __init__(
        self,
        atoms: ase.Atoms,
        potential: Potential,
        dimension: int,
        units: str,
        skin: float | None,
    ) -> None:
        self.atoms, self.dimension = atoms, dimension
        # Constraints and masses are ASE's to keep.
        free = atoms.copy()
        free.set_constraint()
        free.set_array("masses", None)
        given = System.from_ase(free, dimension, units)
        species = potential.species_index(given)
        self.potential = potential.in_system(given)
        # Named as the potential names them: structures with others or in another order are of one
        # kind where it makes no difference, and share what is compiled.
        self.system = System(
            given.positions,
            given.cell,
            potential.species or ("X",),
            species,
            given.pbc,
            None,
            units,
        )
        self.search = jax.tree.map(np.asarray, potential.edge_search(self.system, skin))
        self.reach = self.search.cutoff + self.search.skin
        self.edge_list: EdgeList | None = None

    def is_of(self, atoms: ase.Atoms) -> bool:
        """Whether it has these atoms and boundaries, wherever they are."""
        same = (
            np.array_equal(getattr(self.atoms, name), getattr(atoms, name))
            for name in ("numbers", "pbc")
        )
        return all(same) and same_species_names(self.atoms, atoms)

    def at(self, atoms: ase.Atoms, capacity: tuple[int, int]) -> tuple[System, EdgeList]:
        """Where the atoms are, with edges that hold there.

        Arguments:
            atoms: the structure, moved.
            capacity: slots per atom and ghosts that new edges shall have room for at least.

        Returns:
            The System and its edges.
        """
        positions, cell = coordinates(atoms, self.dimension)
        system = self.system.with_positions(positions)
        if not np.array_equal(cell, np.asarray(self.system.cell)):
            system = system.with_cell(cell)
        if self.edge_list is None or (
            self.potential.acts_along_edges
            and not self._approached(positions, cell) < self.search.skin
        ):
            self.edge_list = self.search.find(positions, cell, capacity)
            self.found_at = positions, cell
        return system, self.edge_list

    def _approached(
        self, positions: Float[np.ndarray, "N D"], cell: Float[np.ndarray, "D D"]
    ) -> Float[Any, ""]:
        """How much nearer any two images may have come since the edges were found, length."""
        positions_before, cell_before = self.found_at
        before, now = (completed_cell(one, self.system.pbc) for one in (cell_before, cell))
        deformation = np.linalg.solve(before, now)
        moved = np.linalg.norm(positions - positions_before @ deformation, axis=1).max()
        return approach_bound(moved, deformation, self.reach)
