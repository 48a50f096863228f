"""Where time goes in what misses a goal, by the word of its section; found by profiles."""

SHORTFALLS: dict[str, str] = {
    "packing": (
        "Near minima mdsens takes about half of LAMMPS's time, from random places a third: 0.23 ms "
        "for each of some 2,000 steps of 8,192 discs, where LAMMPS takes 0.31 ms for each of some "
        "4,500. How many steps it takes from random places is chance."
    ),
    "sensitivity": (
        "Of a sensitivity of 16,383 argon atoms about three tenths go to assembling one half of "
        "the Hessian, as many to iterations, a fifth to its lowest eigenvalue and a sixth to the "
        "changes of the forces; the relaxation before it assembles no Hessian. Around a void the "
        "lattice takes 18 iterations. A hundred parameters are a hundred solves of 11 iterations "
        "each, which share products and transforms in single precision, and derivatives of the "
        "forces."
    ),
}  # fmt: skip
