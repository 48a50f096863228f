"""Figures from results: structures with sensitivity vectors, bars, moduli, curves, ensembles."""

from mdsens.diameters import diameters_of
from mdsens.plots.bars import LOGARITHMIC, ZERO_COLOR, sensitivities, sensitivities_figure
from mdsens.plots.batches import batch_figure, batch_sensitivity_figure, batch_view
from mdsens.plots.drawing import plot
from mdsens.plots.energy_volume import energy_volume, energy_volume_figure
from mdsens.plots.ensembles import RATTLER_COLOR, draw_ensemble, ensemble_figure
from mdsens.plots.histories import convergence, convergence_figure
from mdsens.plots.moduli import youngs_modulus, youngs_modulus_figure
from mdsens.plots.phonon_density import (
    bin_centres,
    phonon_density_figure,
    phonon_density_of_states,
)
from mdsens.plots.phonons import phonon_bands, phonon_bands_figure
from mdsens.plots.scenes import (
    MOST_ATOMS,
    PALETTE,
    Motion,
    motions_of,
    position_error,
    require_few_atoms,
    scene,
    view,
)
from mdsens.plots.structures import (
    ARROW_COLOR,
    FIXED_COLOR,
    MOST_ARROWS,
    SHORTEST_ARROW,
    SPECIES_COLORS,
    draw_structure,
    motion_error,
    non_affine,
    structure,
    structure_figure,
    structure_figures,
)
from mdsens.plots.style import BAR_COLOR, DERIVATIVE_COLORS, write_figures
from mdsens.plots.sweeps import scalar_observables, sweep_figure
from mdsens.units import pretty_unit

__all__ = [
    "ARROW_COLOR",
    "BAR_COLOR",
    "DERIVATIVE_COLORS",
    "FIXED_COLOR",
    "LOGARITHMIC",
    "MOST_ARROWS",
    "MOST_ATOMS",
    "PALETTE",
    "RATTLER_COLOR",
    "SHORTEST_ARROW",
    "SPECIES_COLORS",
    "ZERO_COLOR",
    "Motion",
    "batch_figure",
    "batch_sensitivity_figure",
    "batch_view",
    "bin_centres",
    "convergence",
    "convergence_figure",
    "diameters_of",
    "draw_ensemble",
    "draw_structure",
    "energy_volume",
    "energy_volume_figure",
    "ensemble_figure",
    "motion_error",
    "motions_of",
    "non_affine",
    "phonon_bands",
    "phonon_bands_figure",
    "phonon_density_figure",
    "phonon_density_of_states",
    "plot",
    "position_error",
    "pretty_unit",
    "require_few_atoms",
    "scalar_observables",
    "scene",
    "sensitivities",
    "sensitivities_figure",
    "structure",
    "structure_figure",
    "structure_figures",
    "sweep_figure",
    "view",
    "write_figures",
    "youngs_modulus",
    "youngs_modulus_figure",
]
