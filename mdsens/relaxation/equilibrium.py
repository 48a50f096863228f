"""Equilibrium: a relaxed structure, what follows from it, and its certificate."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import ase
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from jaxtyping import Array, Float

from mdsens.archive import Archived
from mdsens.arrays import in_numpy, on_device
from mdsens.digits import with_digits
from mdsens.errors import InputError
from mdsens.linalg.multigrid import HostPreconditioner
from mdsens.mechanics import require_volume, voigt
from mdsens.mechanics.elasticity import (
    ENOUGH_FOR_VALUES,
    curvature_in_strain,
    curvature_of_blocks,
    displacements_in_strain,
    stress_strain_coefficients,
    unit_strains,
)
from mdsens.mechanics.energy import energy
from mdsens.mechanics.enthalpy import Landscape
from mdsens.mechanics.hessian_by_calls import hessian_solver
from mdsens.mechanics.hessian_solver import HessianSolver, hessian_fits
from mdsens.mechanics.relaxing_cell import name_of_mode
from mdsens.mechanics.shared_energy import mechanics_at
from mdsens.mechanics.springs import FEW
from mdsens.modules import Module, with_fields
from mdsens.particles.edges import EdgeList
from mdsens.particles.system import System
from mdsens.pictured import PicturedWithMotion
from mdsens.potentials.potential import Potential
from mdsens.relaxation.certificate import Certificate, certify, stress_text
from mdsens.relaxation.driver import History
from mdsens.resources import EIGENVECTOR_LIMIT
from mdsens.summary import Summarised, Summary
from mdsens.units import in_dimensions, unit_name
from mdsens.values import is_traced

#: What an equilibrium keeps what it will be asked for under.
_ASKED = "asked"


class Equilibrium(Summarised, Archived, PicturedWithMotion, Module):
    """A relaxed structure: positions, cell, energy, forces, stress, and how good they are.

    Everything is a differentiable function of what the relaxation was given.

    Attributes:
        landscape: the function that was minimised; its edges are those at the minimum.
        q: the degrees of freedom at the minimum, shape (R, D).
        start: positions that the relaxation began at, shape (N, D).
        largest_force: largest norm of a force reached, energy/length.
        fmax: the one at which to stop, as it was asked for.
        history: the course of the relaxation; None where it was traced.
        preconditioner: of the last Hessian that the relaxation solved with; None if it had none.
        largest_stress: largest component reached of the stress that the load does not balance,
            energy/length^D, among those that relax; None where the cell is fixed.
        smax: the one at which to stop, as it was asked for; None: ``fmax`` is for the cell too.
    """

    landscape: Landscape
    q: Float[Array, "R D"]
    start: Float[Array, "N D"]
    largest_force: Float[Array, ""]
    fmax: float = eqx.field(static=True)
    history: History | None = eqx.field(static=True)
    preconditioner: HostPreconditioner | None = eqx.field(static=True, default=None)
    largest_stress: Float[Array, ""] | None = None
    smax: float | None = eqx.field(static=True, default=None)

    @functools.cached_property
    def system(self) -> System:
        """The relaxed system."""
        return self.landscape.system_at(self.q)

    @property
    def potential(self) -> Potential:
        """The potential it was relaxed in."""
        return self.landscape.potential

    @property
    def edge_list(self) -> EdgeList:
        """All edges within the potential's range."""
        return self.landscape.edge_list

    @property
    def positions(self) -> Float[Array, "N D"]:
        """Relaxed positions, shape (N, D), length."""
        return self.system.positions

    @property
    def cell(self) -> Float[Array, "D D"]:
        """Relaxed cell, lattice vectors as rows, shape (D, D), length."""
        return self.system.cell

    @property
    def volume(self) -> Float[Array, ""]:
        """Volume of the cell, length^D."""
        require_volume(self.system, "volume")
        return self.system.volume

    @functools.cached_property
    def mechanics(self) -> tuple[Array, Array, Array]:
        """Energy, forces (N, D), energy/length, and virial (D, D), energy; computed once."""
        given = self.system, self.potential, self.edge_list
        return mechanics_at(*given, seldom=not self.landscape.takes_virial)

    def with_mechanics(self, mechanics: tuple[Array, Array, Array]) -> "Equilibrium":
        """This equilibrium, which need not compute these anew."""
        known = dataclasses.replace(self)
        vars(known)["mechanics"] = mechanics
        return known

    @property
    def energy(self) -> Float[Array, ""]:
        """Potential energy, in units of energy."""
        if "mechanics" not in vars(self) and is_traced((self.q, self.landscape)):
            # Derivatives then need no pass through those of the forces, the longest to compile.
            return self.once("energy", None, self._energy_alone)
        return self.mechanics[0]

    def _energy_alone(self) -> Float[Array, ""]:
        return energy(self.system, self.potential, self.edge_list)

    @property
    def forces(self) -> Float[Array, "N D"]:
        """Forces, shape (N, D), energy/length; those on fixed atoms too."""
        return self.mechanics[1]

    @property
    def stress(self) -> Float[Array, " V"]:
        """Stress in Voigt order (xx yy zz yz xz xy; xx yy xy in 2D), energy/length^D.

        Positive under tension, as in ASE.
        """
        require_volume(self.system, "stress")
        self._require_stress()
        virial, volume = in_numpy((self.mechanics[2], self.system.volume))
        return on_device(voigt(virial) / volume)

    @property
    def pressure(self) -> Float[Array, ""]:
        """Pressure, minus the mean of the normal stresses, energy/length^D."""
        require_volume(self.system, "pressure")
        self._require_stress()
        virial, volume = in_numpy((self.mechanics[2], self.system.volume))
        return on_device(-virial.trace() / (self.system.dimension * volume))

    @property
    def _knows_stress(self) -> bool:
        """Whether the potential gives a stress; not a calculator that has none."""
        virial = self.mechanics[2]
        return is_traced(virial) or not np.isnan(np.asarray(virial)).any()

    def _require_stress(self) -> None:
        if not self._knows_stress:
            raise InputError(
                f"{type(self.potential).__name__} gives no stress: ask for something else, or use "
                "a calculator with stress"
            )

    @property
    def converged(self) -> bool:
        """Whether the largest force, and the largest stress, came down to what was asked for."""
        stress, smax = self.largest_stress, self.smax
        relaxed = stress is None or smax is None or bool(stress <= smax)
        return relaxed and bool(self.largest_force <= self.fmax)

    @functools.cached_property
    def certificate(self) -> Certificate:
        """How good this minimum is: forces, lowest eigenvalues, null modes; computed once."""
        if is_traced((self.q, self.landscape)):
            raise InputError("a certificate needs numbers: ask for it outside jit, grad and vmap")
        return certify(
            self.backbone, self.q, float(self.largest_force), self.fmax,
            self.dense_jacobian, self._hessian,
            None if self.largest_stress is None else float(self.largest_stress), self.smax,
        )  # fmt: skip

    @functools.cached_property
    def backbone(self) -> Landscape:
        """The landscape without the edges of rattlers, which carry no load."""
        return self.landscape.backbone()

    @functools.cached_property
    def _hessian(self) -> HessianSolver | None:
        if not hessian_fits(self.backbone):
            return None
        return hessian_solver(self.backbone, self.q, self.preconditioner)

    @functools.cached_property
    def dense_jacobian(self) -> Float[np.ndarray, "RD RD"] | None:
        """The matrix of the condition's derivative (the Hessian); None for large systems."""
        limit = FEW if self.potential.made_by_calls else EIGENVECTOR_LIMIT
        if self.q.size > limit or self._hessian is None:
            return None
        return self._hessian.dense()

    @functools.cached_property
    def hessian_solver(self) -> HessianSolver | None:
        """Linear solves with the Hessian; None if it does not fit into the memory."""
        if self._hessian is None:
            return None
        return self._hessian.with_floppy(self.certificate.floppy_vectors)

    @functools.cached_property
    def at_fixed_cell(self) -> "Equilibrium":
        """The same minimum as one of the atoms alone, in the relaxed cell."""
        if self.landscape.cell_mode is None:
            return self
        landscape = Landscape.of(
            self.system, self.potential, self.edge_list, rattlers=self.landscape.rattlers
        )
        return dataclasses.replace(
            self, landscape=landscape, q=self.positions, largest_stress=None, smax=None
        )

    @functools.cached_property
    def displacements_in_strain(self) -> Float[Any, "V N D"]:
        """Displacements beyond what each strain does that leave no force, shape (V, N, D), length.

        In ASE's Voigt order; for shears by an angle of one.
        """
        held, near = self.at_fixed_cell, vars(self).get("nearby")
        given = held.backbone, held.q
        if is_traced((self.q, self.landscape)):
            return displacements_in_strain(*given)
        if near is None:
            return displacements_in_strain(*given, held.hessian_solver)
        found = near.displacements_in_strain
        return displacements_in_strain(*given, near.at_fixed_cell.hessian_solver, found)

    @functools.cached_property
    def nearly_displacements_in_strain(self) -> Float[Any, "V N D"]:
        """The same to half as many digits, which is enough for values; the same if it is known."""
        held, known = self.at_fixed_cell, "displacements_in_strain" in vars(self)
        if known or is_traced((self.q, self.landscape)) or "nearby" in vars(self):
            return self.displacements_in_strain
        given = held.backbone, held.q, held.hessian_solver
        return displacements_in_strain(*given, rtol=ENOUGH_FOR_VALUES)

    def curvature_in_strain(
        self, displacements: Float[Any, "V N D"] | None = None
    ) -> Float[Any, "V V"]:
        """Second derivatives of the energy in the Voigt components of a strain, energy.

        Arguments:
            displacements: as in `elastic_constants`.

        Returns:
            Shape (V, V).
        """
        held, moves = self.at_fixed_cell, displacements
        traced = is_traced((self.q, self.landscape, moves))
        if moves is not None and not traced and "nearby" not in vars(self):
            hessian = held.hessian_solver
            if hessian is not None and hessian.in_strain is not None:
                return curvature_of_blocks(hessian.in_strain, hessian.matrix, np.asarray(moves))

        def compute(several: list[Any]) -> list[Array]:
            none = np.zeros((len(unit_strains(held.q.shape[1])), *held.q.shape))
            moves = [on_device(none if one is None else one) for one in several]
            if len(moves) == 1:
                return [curvature_in_strain(held.landscape, held.q, moves[0], self.forces)]
            return list(curvature_in_strain(held.landscape, held.q, jnp.stack(moves), self.forces))

        return self.together("curvature_in_strain", moves, compute)

    def asked_for(self, asked: Iterable[tuple[str, Any]]) -> "Equilibrium":
        """This equilibrium, which knows what it will be asked for.

        Where it is traced, what is of one name is then computed in one loop, which takes no longer
        to compile than one of them.

        Arguments:
            asked: names of methods that compute `together`, each with what it will be given.

        Returns:
            The Equilibrium; this one where nothing is traced.
        """
        asked = list(asked)
        if not asked or not is_traced((self.q, self.landscape, asked)):
            return self
        found = dataclasses.replace(self)
        vars(found).update(vars(self), **{_ASKED: asked})
        return found

    def together(self, name: str, given: Any, compute: Callable[[list[Any]], list[Any]]) -> Any:
        """What is asked for, computed along with all else of its name that is known to be.

        Arguments:
            name: of what is computed.
            given: what it is computed from beside this equilibrium, told from others by identity.
            compute: computes it for each of several that are given.

        Returns:
            What that returns for this one.
        """
        asked = {id(one): one for of, one in vars(self).get(_ASKED, []) if of == name}
        if id(given) not in asked:
            return compute([given])[0]
        found = self.once(f"{name}_together", None, lambda: compute(list(asked.values())))
        return found[list(asked).index(id(given))]

    def elastic_constants(
        self, displacements: Float[Any, "V N D"] | None = None
    ) -> Float[Any, "V V"]:
        """Derivatives of the stress in a strain, energy/length^D, in ASE's Voigt order.

        Arguments:
            displacements: how the ions move in each strain beyond what it does itself, shape
                (V, N, D), length; None: they are clamped.

        Returns:
            Shape (V, V); see `mechanics.elasticity.stress_strain_coefficients`.
        """

        def compute() -> Float[Any, "V V"]:
            curvature = self.curvature_in_strain(displacements)
            given = curvature, self.mechanics[2], self.system.volume
            curvature, virial, volume = in_numpy(given)
            stress = (virial + virial.T) / (2.0 * volume)
            return stress_strain_coefficients(curvature, stress, volume)

        return self.once("elastic_constants", displacements, compute)

    def once(self, name: str, given: Any, compute: Callable[[], Any]) -> Any:
        """What several observables ask for, computed once for all of them.

        Arguments:
            name: of what is computed.
            given: what it is computed from beside this equilibrium, told from others by identity.
            compute: computes it.

        Returns:
            What that returns.
        """
        # What is kept with it keeps its address its own.
        key = f"{name}_{id(given)}"
        if key not in vars(self):
            vars(self)[key] = given, compute()
        return vars(self)[key][1]

    def moved_little(self, q: Float[Array, "R D"]) -> "Equilibrium":
        """This equilibrium at degrees of freedom so near that its linear solves serve there.

        Arguments:
            q: the degrees of freedom, shape (R, D).

        Returns:
            The Equilibrium.
        """
        moved = dataclasses.replace(self, q=q)
        vars(moved)["nearby"] = self
        return moved

    def __getstate__(self) -> dict[str, Any]:
        # What is derived is computed anew, but for the certificate, which takes long; a
        # preconditioner is a function, which neither pickle nor a file can hold.
        state = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        known = {"certificate": self.certificate} if "certificate" in vars(self) else {}
        return state | {"preconditioner": None} | known

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def for_compiled_code(self) -> "Equilibrium":
        """This equilibrium without what would have compiled code made anew for each."""
        return dataclasses.replace(self, history=None, preconditioner=None)

    @functools.cached_property
    def filled(self) -> "Equilibrium":
        """The same, with its landscape filled up, of one that is."""
        assert self.landscape.filled is not None
        landscape, filling = self.landscape.filled
        return with_fields(
            self, landscape=landscape, q=filling.places(self.q), start=filling.places(self.start),
            history=None, preconditioner=None,
        )  # fmt: skip

    def to_ase(self, like: ase.Atoms | None = None) -> ase.Atoms:
        """The relaxed structure as ase.Atoms, with energy, forces and stress attached.

        Arguments:
            like: the structure that was relaxed, or another of the same atoms, of which all else is
                copied: see `System.to_ase`.

        Returns:
            The ase.Atoms.

        Raises:
            InputError: ``like`` has another number of atoms, or other species.
        """
        atoms = self.system.to_ase(like)
        count, dimension = self.positions.shape
        forces = np.zeros((count, 3))
        forces[:, :dimension] = np.asarray(self.forces)
        results = {"energy": float(self.energy), "forces": forces}
        has_volume = any(self.system.pbc) and float(self.system.volume) > 0
        if dimension == 3 and has_volume and self._knows_stress:
            results["stress"] = np.asarray(self.stress)
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    def _summary(self) -> Summary | None:
        leaves = jax.tree.leaves(self)
        if is_traced(leaves) or not all(eqx.is_array(leaf) for leaf in leaves):
            return None
        if np.ndim(self.largest_force) or np.ndim(self.q) != 2:
            return None  # Several side by side, as vmap returns them.
        system = self.system

        def with_unit(number: str, dimension: str) -> str:
            return f"{number} {unit_name(in_dimensions(dimension, system.dimension), system.units)}"

        state = "converged" if self.converged else "NOT converged"
        steps = "" if self.history is None else f" after {self.history.steps} steps"
        force = with_unit(f"{float(self.largest_force):.2e}", "energy/length")
        facts = [
            ("state", state + steps),
            ("largest force", f"{force} (asked: {self.fmax:.0e})"),
            *([("largest stress", self._stress_text)] if self._stress_text else []),
            ("energy", with_unit(with_digits(float(self.energy), most=10), "energy")),
        ]
        if any(system.pbc) and float(system.volume) > 0.0:
            volume = with_digits(float(system.volume), most=10)
            facts.append(("volume", with_unit(volume, "volume")))
        if any(system.pbc) and float(system.volume) > 0.0 and self._knows_stress:
            # What the forces that are left do to the trace of the stress at most, where the cell
            # relaxed, and as much again for rounding.
            error, cell = 0.0, self.landscape.relaxing_cell
            if self.smax is not None and self.largest_stress is not None:
                error = 2.0 * float(self.largest_stress)
            elif cell is not None:
                error = 2.0 * float(self.largest_force * cell.length / system.volume)
                error /= np.sqrt(system.dimension)
            pressure = with_digits(float(self.pressure), error)
            relaxed = "" if cell is None else f" (the cell relaxed: {name_of_mode(cell.mode)})"
            facts.append(("pressure", with_unit(pressure, "energy/volume") + relaxed))
        if "certificate" in vars(self):
            value = self.certificate.lowest_eigenvalue_text
            eigenvalue = f"lowest eigenvalue {with_unit(value, 'energy/length^2')}"
            facts.append(("certificate", f"{self.certificate.title}, {eigenvalue}"))
        described = self.potential.described_parameters(system.units)
        listed = ", ".join(f"{name} = {value}" for name, value in described[:8])
        listed += f" and {len(described) - 8} more" if len(described) > 8 else ""
        facts.append(("potential", f"{type(self.potential).__name__}: {listed}"))
        return Summary(f"Equilibrium of {system}", facts)

    @property
    def _stress_text(self) -> str:
        """The largest stress left, with its unit; nothing where there is none."""
        if self.largest_stress is None:
            return ""
        system = self.system
        unit = unit_name(in_dimensions("energy/volume", system.dimension), system.units)
        return stress_text(float(self.largest_stress), self.smax, unit)

    def __str__(self) -> str:
        units = self.system.units
        state = "converged" if self.converged else "NOT converged"
        steps = "" if self.history is None else f" after {self.history.steps} steps"
        return (
            f"Equilibrium of {self.system}: {state}{steps}, largest force "
            f"{float(self.largest_force):.2e} {unit_name('energy/length', units)}, energy "
            f"{float(self.energy):.10g} {unit_name('energy', units)}"
        )
