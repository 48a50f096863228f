"""All projections onto sets, as in JAXopt 0.8.5; each is named where it is defined."""

from mdsens.layers import closed_form_projections, transport
from mdsens.layers.closed_form_projections import *  # noqa: F403
from mdsens.layers.cones import (
    projection_cone,
    projection_dual_cone,
    projection_exponential_cone,
    projection_second_order_cone,
)
from mdsens.layers.polyhedron import projection_polyhedron
from mdsens.layers.transport import *  # noqa: F403

__all__ = [
    "projection_cone",
    "projection_dual_cone",
    "projection_exponential_cone",
    "projection_polyhedron",
    "projection_second_order_cone",
]
__all__ += closed_form_projections.__all__
__all__ += transport.__all__
