"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima twice LAMMPS's speed is met by both starts that were timed; from random "
        "places it is missed (start 0 was timed while Newton's method was tried earlier, and "
        "took 2,643 evaluations in place of 2,239), and 65,536 discs were not timed. From "
        "random places mdsens takes a third of the evaluations, and each costs more: of 1.42 "
        "s from start 1 (1,435 evaluations of 8,192 discs) 0.47 s go to finding edges anew 56 "
        "times, in all stages because a few discs move far; 0.43 s to forces, 0.30 ms each, "
        "of which gathering neighbours' places and sizes is half, and two fifths of the slots "
        "of neighbours are empty; 0.36 s to the vectors of L-BFGS and its line search; the "
        "rest to five Newton steps. LAMMPS takes 0.30 ms for each of 4,535 steps, everything "
        "included, with each pair once. Lists of pairs in place of slots would need a "
        "compiled loop of their own."
    ),
    "sensitivity": (
        "Of a sensitivity with its error estimate (0.37 s of 16,383 argon atoms) 0.13 s go to "
        "assembling the Hessian, 0.12 s to 21 products with it, 0.05 s to its lowest eigenvalue; "
        "the relaxation before it takes 22 evaluations and 5 Newton steps only. Around a void the "
        "lattice takes 18 iterations. A hundred parameters are a hundred solves of 10 products "
        "each, and derivatives of the forces in each."
    ),
}  # fmt: skip
