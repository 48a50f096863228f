"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima four of five starts come within a tenth of twice LAMMPS's speed, and one "
        "does not; from random places it is missed. How many steps it takes from these is chance: "
        "energies that are added up in another order took start 3 from 1,653 evaluations to 2,925, "
        "so that only means over many starts compare versions. Of 1.7 s of 8,192 discs (1,650 "
        "evaluations) a half are steps of L-BFGS, 0.5 ms each: forces 0.28 ms with a skin of 0.4 "
        "(0.21 with 0.2; 3.3 ns for each of up to 21 slots of neighbours, of which gathers of "
        "places and species take less than half and square roots and divisions the rest; sorting "
        "along a curve gives nothing, species kept with the edges a tenth), the model's product "
        "0.1, some twenty five passes over vectors in the line search 0.1. A quarter goes to "
        "finding edges anew 57 times, 7 to 9 ms each, of which the search for pairs is a half: "
        "after the first 150 steps it is ten discs of 8,192 that move further than half the skin. "
        "A tenth to four to seven Newton steps. A memory of 16 steps in place of 8 takes a quarter "
        "fewer steps, each of which takes longer by as much. LAMMPS takes 0.30 ms for each of "
        "4,535 steps, everything included, with each pair once. Skins of single particles, and "
        "pairs in place of slots in a compiled loop of its own, are what is left."
    ),
    "sensitivity": (
        "Of a sensitivity with its error estimate, of 16,383 argon atoms, a third goes to "
        "assembling the Hessian, a third to 21 products with it, a seventh to its lowest "
        "eigenvalue; the relaxation before it takes 22 evaluations and 5 Newton steps only. "
        "Around a void the lattice takes 18 iterations. A hundred parameters are a hundred solves "
        "of 10 products each, and derivatives of the forces in each."
    ),
}  # fmt: skip
