"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "forces": (
        "On a processor without AVX-512, whose vectors are half as wide. On one with it the ratios "
        "were 0.79 to 1.17 for argon and 0.55 to 1.05 for silicon on 30 November 2026."
    ),
    "packing": (
        "Near minima mdsens takes about a fifth of LAMMPS's time, from random places a quarter: "
        "Newton's method by conjugate gradients takes the place of the last steps. How many steps "
        "it takes from random places is chance."
    ),
    "sensitivity": (
        "Of a sensitivity of 16,383 argon atoms with its error estimate about a third goes to "
        "iterations and the lowest eigenvalue, a quarter to finding pairs and to assembling one "
        "half of the Hessian, and a sixth to what the estimate looks at a step further; the "
        "relaxation before it assembles no Hessian. A hundred parameters are a hundred solves, "
        "which share products and transforms in single precision, and derivatives of the forces."
    ),
}  # fmt: skip
