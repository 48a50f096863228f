"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima mdsens is about twice as fast as LAMMPS; from random places it is not. How "
        "many steps it takes from these is chance: energies that are added up in another order "
        "took start 3 from 1,653 evaluations to 2,925, so that only means over many starts compare "
        "versions. Of 1.7 s of 8,192 discs (1,650 evaluations, on a loaded machine) a half are "
        "steps of L-BFGS, 0.5 ms each, of which forces are 0.28 ms; a quarter goes to finding "
        "edges anew 57 times, because some ten discs move far; a tenth to Newton steps. LAMMPS "
        "takes 0.30 ms for each of 4,535 steps, everything included, with each pair once."
    ),
    "sensitivity": (
        "Of a sensitivity with its error estimate, of 16,383 argon atoms, a third goes to "
        "assembling the Hessian, a third to 21 products with it, a seventh to its lowest "
        "eigenvalue; the relaxation before it takes 22 evaluations and 5 Newton steps only. "
        "Around a void the lattice takes 18 iterations. A hundred parameters are a hundred solves "
        "of 10 products each, and derivatives of the forces in each."
    ),
}  # fmt: skip
