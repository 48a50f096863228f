"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima four of five starts come within a tenth of twice LAMMPS's speed, and one "
        "does not; from random places it is missed. 65,536 discs were not timed. From random "
        "places mdsens takes a third of the evaluations, and each costs more: of 1.42 s from "
        "start 1 (1,435 evaluations of 8,192 discs) 0.47 s go to finding edges anew 56 times, in "
        "all stages because a few discs move far; 0.43 s to forces, 0.30 ms each, of which "
        "gathering neighbours' places and sizes is half, and two fifths of the slots of "
        "neighbours are empty; 0.36 s to the vectors of L-BFGS and its line search; the rest to "
        "five Newton steps. LAMMPS takes 0.30 ms for each of 4,535 steps, everything included, "
        "with each pair once. Lists of pairs in place of slots would need a compiled loop of "
        "their own."
    ),
    "sensitivity": (
        "Of a sensitivity with its error estimate, of 16,383 argon atoms, a third goes to "
        "assembling the Hessian, a third to 21 products with it, a seventh to its lowest "
        "eigenvalue; the relaxation before it takes 22 evaluations and 5 Newton steps only. "
        "Around a void the lattice takes 18 iterations. A hundred parameters are a hundred solves "
        "of 10 products each, and derivatives of the forces in each."
    ),
}  # fmt: skip
