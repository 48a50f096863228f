"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima mdsens is twice as fast as LAMMPS, but where a Newton step meets soft modes, "
        "for which a linear solve takes a hundred iterations and more; from random places they "
        "are level. How many steps it takes from these is chance: energies that are added up in "
        "another order took start 3 from 1,653 evaluations to 2,925, so that only means over many "
        "starts compare versions. Of 1.7 s of 8,192 discs (1,650 evaluations, on a loaded "
        "machine) a half are steps of L-BFGS, 0.5 ms each, of which forces are 0.28 ms; a quarter "
        "goes to finding edges anew 57 times, because some ten discs move far; a tenth to Newton "
        "steps. LAMMPS takes 0.30 ms for each of 4,535 steps, everything included, with each pair "
        "once."
    ),
    "sensitivity": (
        "Of a sensitivity of 16,383 argon atoms two fifths go to assembling the Hessian, a quarter "
        "to iterations, a seventh to its lowest eigenvalue, the rest to the check against forces "
        "and to their changes; the relaxation before it assembles no Hessian. Around a void the "
        "lattice takes 18 iterations. A hundred parameters are a hundred solves of 11 iterations "
        "each, which share products and transforms in single precision, and derivatives of the "
        "forces."
    ),
}  # fmt: skip
