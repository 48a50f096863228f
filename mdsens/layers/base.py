"""What all solvers are made of and give back, where JAXopt 0.8.5 has it."""

from mdsens.implicit.conditions import KKTSolution
from mdsens.layers.solution import OptStep
from mdsens.layers.solver import IterativeSolver

__all__ = ["IterativeSolver", "KKTSolution", "OptStep"]
