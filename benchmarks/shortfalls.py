"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "forces": (
        "On an Intel processor with AVX-512 at 2.1 GHz, whose speed drifts by a third. For argon "
        "about a third of the time goes to reading the positions of neighbours, the rest to a root "
        "and divisions in passes over four slots of all atoms of a block; LAMMPS computes each "
        "pair once. On another processor with AVX-512 earlier versions took 0.79 to 1.17 of "
        "LAMMPS's time for argon, on one without 1.28 to 1.70."
    ),
    "packing": (
        "Near minima mdsens takes about a quarter of LAMMPS's time, from random places as much in "
        "the median: Newton's method by conjugate gradients takes the place of the last steps. How "
        "many steps it takes from random places is chance. The fifth start near a minimum was not "
        "measured this time."
    ),
    "sensitivity": (
        "Of a sensitivity of 16,383 argon atoms with its error estimate about a third goes to "
        "iterations and the lowest eigenvalue, a quarter to finding pairs and to assembling one "
        "half of the Hessian, and a sixth to what the estimate looks at a step further; the "
        "relaxation before it assembles no Hessian. The relaxation is the unit, and took "
        "longer in earlier versions: its forces now take three quarters of their time for argon, "
        "and for silicon about half. "
        "A hundred parameters are a hundred solves, which share products and transforms in single "
        "precision, and derivatives of the forces."
    ),
}  # fmt: skip
