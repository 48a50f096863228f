"""What is simulated: systems of particles and the edges between them."""

from typing import TYPE_CHECKING

from mdsens.lazy_names import names_on_first_use

# Not on first use: its module has the same name.
from mdsens.particles.curve_order import curve_order

if TYPE_CHECKING:
    from mdsens.particles.edge_search import EdgeSearch, find_edges
    from mdsens.particles.edges import EdgeList, Edges, edge_blocks, no_edges
    from mdsens.particles.packing import random_packing
    from mdsens.particles.structure_files import read
    from mdsens.particles.system import System

# Public name -> module that defines it. Imported on first use: a report reads files of structures,
# and needs no JAX.
_HOMES = {
    "EdgeList": "edges",
    "EdgeSearch": "edge_search",
    "Edges": "edges",
    "System": "system",
    "edge_blocks": "edges",
    "find_edges": "edge_search",
    "no_edges": "edges",
    "random_packing": "packing",
    "read": "structure_files",
}

__all__ = [
    "EdgeList",
    "EdgeSearch",
    "Edges",
    "System",
    "curve_order",
    "edge_blocks",
    "find_edges",
    "no_edges",
    "random_packing",
    "read",
]


__getattr__ = names_on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
