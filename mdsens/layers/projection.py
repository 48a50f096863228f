"""All projections onto sets, in one module as in JAXopt 0.8.5."""

from mdsens.layers.closed_form_projections import (
    kl_projection_simplex,
    projection_affine_set,
    projection_box,
    projection_box_section,
    projection_halfspace,
    projection_hypercube,
    projection_hyperplane,
    projection_l1_ball,
    projection_l1_sphere,
    projection_l2_ball,
    projection_l2_sphere,
    projection_linf_ball,
    projection_non_negative,
    projection_simplex,
    projection_sparse_simplex,
)
from mdsens.layers.cones import (
    projection_cone,
    projection_dual_cone,
    projection_exponential_cone,
    projection_second_order_cone,
)
from mdsens.layers.polyhedron import projection_polyhedron
from mdsens.layers.transport import (
    kl_projection_birkhoff,
    kl_projection_transport,
    projection_birkhoff,
    projection_transport,
)

__all__ = [
    "kl_projection_birkhoff",
    "kl_projection_simplex",
    "kl_projection_transport",
    "projection_affine_set",
    "projection_birkhoff",
    "projection_box",
    "projection_box_section",
    "projection_cone",
    "projection_dual_cone",
    "projection_exponential_cone",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_polyhedron",
    "projection_second_order_cone",
    "projection_simplex",
    "projection_sparse_simplex",
    "projection_transport",
]
