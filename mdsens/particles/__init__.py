"""What is simulated: systems of particles and the edges between them."""

from mdsens.particles.curve_order import curve_order
from mdsens.particles.edge_search import EdgeSearch, find_edges
from mdsens.particles.edges import EdgeList, Edges, edge_blocks, no_edges
from mdsens.particles.packing import random_packing
from mdsens.particles.structure_files import read
from mdsens.particles.system import System

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
