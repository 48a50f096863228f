"""Elastic moduli along directions; see `mdsens.elastic_directions`, which needs no JAX."""

from mdsens.elastic_directions import (
    ElasticRange,
    checked_constants,
    compliance_change,
    compliance_tensor,
    direction_name,
    elastic_ranges,
    property_at,
    youngs_modulus_along,
    youngs_modulus_change,
)

__all__ = [
    "ElasticRange",
    "checked_constants",
    "compliance_change",
    "compliance_tensor",
    "direction_name",
    "elastic_ranges",
    "property_at",
    "youngs_modulus_along",
    "youngs_modulus_change",
]
