"""Figures from results: structures with sensitivity vectors, bars, convergence, ensembles."""

from mdsens.plots.bars import LOGARITHMIC, ZERO_COLOR, sensitivities, sensitivities_figure
from mdsens.plots.ensembles import RATTLER_COLOR, draw_ensemble, ensemble_figure
from mdsens.plots.histories import convergence, convergence_figure
from mdsens.plots.structures import (
    ARROW_COLOR,
    FIXED_COLOR,
    MOST_ARROWS,
    SHORTEST_ARROW,
    SPECIES_COLORS,
    diameters_of,
    draw_structure,
    motion_error,
    non_affine,
    structure,
    structure_figure,
    structure_figures,
)
from mdsens.plots.style import BAR_COLOR, pretty_unit, write_figures

__all__ = [
    "ARROW_COLOR",
    "BAR_COLOR",
    "FIXED_COLOR",
    "LOGARITHMIC",
    "MOST_ARROWS",
    "RATTLER_COLOR",
    "SHORTEST_ARROW",
    "SPECIES_COLORS",
    "ZERO_COLOR",
    "convergence",
    "convergence_figure",
    "diameters_of",
    "draw_ensemble",
    "draw_structure",
    "ensemble_figure",
    "motion_error",
    "non_affine",
    "pretty_unit",
    "sensitivities",
    "sensitivities_figure",
    "structure",
    "structure_figure",
    "structure_figures",
    "write_figures",
]
