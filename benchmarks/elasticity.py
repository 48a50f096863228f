"""Elastic constants, vibrations and cells that relax: what they cost, and beside ASE and phonopy.

Times are of the processor, medians of several starts: other processes of the machine do not count.
ASE and phonopy have the forces of the same potential, compiled, from `mdsens.Calculator`.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.phonons
import ase.units
import jax
import numpy as np
import phonopy
from ase.optimize import LBFGS
from phonopy.structure.atoms import PhonopyAtoms

import mdsens
from benchmarks.response import PARAMETER_COUNT, SPECIES
from benchmarks.systems import ARGON, MAX_STEPS, RATTLE, Case
from benchmarks.timing import peak_memory
from benchmarks.with_mdsens import potential_of
from mdsens.mechanics.elasticity import unit_strains
from mdsens.observables import elastic_constants, phonon_frequencies

#: Starts of which the median is told.
STARTS = 3
#: Largest force at the minimum, and in strained cells of ASE, eV/Angstrom.
TIGHT, STRAINED = 1e-10, 1e-6
#: Smallest strain, and displacements of atoms, Angstrom.
STRAIN, DISPLACEMENT = 1e-3, 0.01
#: Parameters in which elastic constants are differentiated.
SILICON_PARAMETERS = ("epsilon", "sigma", "a", "lambda_", "gamma", "costheta0", "A", "B")


def coupled(case: Case, options: dict) -> dict:
    """Derivatives in two parameters and a hundred, of atoms alone and of atoms and cell."""
    species = np.random.default_rng(2).integers(len(SPECIES), size=case.atom_count)
    table = np.ones((len(SPECIES), len(SPECIES)))
    numbers = ARGON | {name: ARGON[name] * table for name in ("epsilon", "sigma")}
    potential = mdsens.potentials.LennardJones(**numbers, species=SPECIES)
    names = potential.expand_parameter_names(["epsilon", "sigma"])
    cell, parts = np.eye(3) * case.box, []
    for mode in (None, "full"):
        relaxed = [
            _relax(mdsens.System(positions, cell, SPECIES, species), potential, mode)
            for positions in _starts(case)
        ]
        for count in (2, PARAMETER_COUNT):
            chosen = names[:: len(names) // count][:count]

            def derivatives(at: mdsens.Equilibrium, chosen: list[str] = chosen) -> Any:
                found = mdsens.sensitivity(
                    dataclasses.replace(at), wrt=chosen, mode="forward", error_estimate=False
                )
                return jax.block_until_ready(found.tangents.q)

            words = "fixed cell" if mode is None else "with its cell"
            parts.append(_timed(f"{count} parameters, {words}", derivatives, relaxed))
    return {"parts": parts}


def constants(case: Case, options: dict) -> dict:
    """A relaxation, and the elastic constants with relaxed ions after it."""
    potential = potential_of(case, "smooth")
    systems = [_system(case, positions) for positions in _starts(case)]
    parts = [_timed("relaxation", lambda system: _relax(system, potential), systems)]
    relaxed = [_relax(system, potential) for system in systems]
    parts.append(_timed("elastic constants", _constants, relaxed))
    return {"parts": parts}


def constants_derivatives(case: Case, options: dict) -> dict:
    """Elastic constants, and all of them differentiated in eight parameters."""
    potential = potential_of(case, "smooth")
    relaxed = [_relax(_system(case, positions), potential) for positions in _starts(case)]

    def derivatives(at: mdsens.Equilibrium) -> Any:
        return mdsens.sensitivity(
            dataclasses.replace(at), elastic_constants(), wrt=list(SILICON_PARAMETERS),
            error_estimate=False,
        )  # fmt: skip

    words = f"in {len(SILICON_PARAMETERS)} parameters"
    return {
        "parts": [
            _timed("elastic constants", _constants, relaxed),
            _timed(f"elastic constants {words}", derivatives, relaxed),
        ]
    }


def constants_with_ase(case: Case, options: dict) -> dict:
    """Elastic constants, and the same from stresses of strained cells that ASE relaxes."""
    potential = potential_of(case, "smooth")
    relaxed = [_relax(_system(case, positions), potential) for positions in _starts(case)]
    calculator = mdsens.Calculator(potential)

    def slopes(at: mdsens.Equilibrium, size: float) -> np.ndarray:
        columns = []
        for strain in unit_strains(3):
            stresses = []
            for change in (size, -size):
                atoms = at.to_ase()
                atoms.set_cell(atoms.cell[:] @ (np.eye(3) + change * strain), scale_atoms=True)
                atoms.calc = calculator
                LBFGS(atoms, logfile=None).run(fmax=STRAINED, steps=MAX_STEPS)
                stresses.append(atoms.get_stress())
            columns.append((stresses[0] - stresses[1]) / (2.0 * size * ase.units.GPa))
        return np.stack(columns, axis=1)

    def by_stresses(at: mdsens.Equilibrium) -> np.ndarray:
        # Of two sizes, without which four digits are all there is.
        return (4.0 * slopes(at, STRAIN) - slopes(at, 2.0 * STRAIN)) / 3.0

    mine, found = _timed("elastic constants", _constants, relaxed, keep=True)
    peer, expected = _timed("elastic constants", by_stresses, relaxed, keep=True)
    return {"parts": [mine, _beside(peer, "ASE stresses of strained cells", expected, found)]}


def phonons_by_displacements(case: Case, options: dict) -> dict:
    """Frequencies at one wave vector, and the same of a supercell whose atoms others displace."""
    potential, wave = potential_of(case, "smooth"), [0.5, 0.0, 0.5]
    relaxed = [_relax(_system(case, positions), potential) for positions in _starts(case)]
    calculator = mdsens.Calculator(potential)
    terahertz = ase.units._hplanck * ase.units.J * 1e12
    # Wide enough that no atom meets an image of its neighbours.
    repeats = int(np.ceil(2.0 * case.interaction_range / case.box)) + 1

    def by_displacements(at: mdsens.Equilibrium) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            atoms = at.to_ase()
            name = str(Path(folder) / "phonons")
            phonons = ase.phonons.Phonons(
                atoms, calculator, 3 * (repeats,), delta=DISPLACEMENT, name=name
            )
            phonons.run()
            phonons.read(acoustic=True)
            energies = phonons.band_structure(np.array([wave]), verbose=False)[0]
        return np.real(energies) / terahertz

    def by_phonopy(at: mdsens.Equilibrium) -> np.ndarray:
        atoms = at.to_ase()
        cell = PhonopyAtoms(atoms.get_chemical_symbols(), cell=atoms.cell[:],
                            scaled_positions=atoms.get_scaled_positions())  # fmt: skip
        phonon = phonopy.Phonopy(cell, repeats * np.eye(3, dtype=int), np.eye(3), log_level=0)
        phonon.generate_displacements(distance=DISPLACEMENT, is_plusminus=True)
        forces = []
        for moved in phonon.supercells_with_displacements:
            given = ase.Atoms(moved.symbols, moved.positions, cell=moved.cell, pbc=True)
            given.calc = calculator
            forces.append(given.get_forces())
        phonon.forces = np.array(forces)
        phonon.produce_force_constants()
        phonon.symmetrize_force_constants()
        phonon.run_qpoints([wave])
        return phonon.qpoints.frequencies[0]

    def frequencies(at: mdsens.Equilibrium) -> np.ndarray:
        return np.asarray(phonon_frequencies(wave)(dataclasses.replace(at)))

    mine, found = _timed("frequencies at a wave vector", frequencies, relaxed, keep=True)
    parts = [mine]
    for program, function in (("ASE Phonons", by_displacements), ("phonopy", by_phonopy)):
        peer, expected = _timed(mine["quantity"], function, relaxed, keep=True)
        words = f"{program}, {repeats}x{repeats}x{repeats} cells"
        parts.append(_beside(peer, words, expected, found))
    return {"parts": parts}


def _starts(case: Case) -> Iterator[np.ndarray]:
    """Positions of which each set is displaced in another way."""
    positions = case.positions()
    for seed in range(STARTS):
        moves = np.random.default_rng(seed).normal(scale=0.1 * RATTLE, size=positions.shape)
        yield positions + moves


def _system(case: Case, positions: np.ndarray) -> mdsens.System:
    """With the elements' names, by which ASE knows masses."""
    element = {"lj": "Ar", "sw": "Si"}[case.potential]
    return mdsens.System(positions, np.eye(3) * case.box, (element,))


def _relax(system: Any, potential: Any, cell: Any = None) -> mdsens.Equilibrium:
    relaxed = mdsens.relax(system, potential, fmax=TIGHT, max_steps=MAX_STEPS, cell=cell)
    jax.block_until_ready(relaxed.positions)
    return relaxed


def _constants(relaxed: mdsens.Equilibrium) -> np.ndarray:
    # A copy has assembled nothing, factorised nothing and certified nothing.
    return np.asarray(elastic_constants()(dataclasses.replace(relaxed)))


def _timed(quantity: str, call: Callable[[Any], Any], given: list[Any], keep: bool = False) -> Any:
    """A row with the median processor time, from compiled code; the results too if asked for."""
    start = time.process_time()
    call(given[0])
    first, times, results = time.process_time() - start, [], []
    for one in given:
        # Another start may have room for other numbers of edges, and is compiled for anew.
        call(one)
        start = time.process_time()
        results.append(call(one))
        times.append(time.process_time() - start)
    median = statistics.median(times)
    row = {
        "quantity": quantity,
        "wall_s": median,
        "compile_s": max(0.0, first - median),
        "memory_mib": peak_memory(),
        "note": f"processor time, {len(times)} starts, {min(times):.3g} to {max(times):.3g} s",
    }
    return (row, results) if keep else row


def _beside(row: dict, label: str, results: list[Any], mine: list[Any]) -> dict:
    """The row of another program, with the largest difference to what mdsens has found."""
    differences = [
        float(np.abs(other - own).max() / np.abs(own).max())
        for other, own in zip(results, mine, strict=True)
    ]
    return row | {"label": label, "error": max(differences)}
