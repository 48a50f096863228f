"""Why another program is ahead of mdsens on a problem, where it is."""

_DESCENT = (
    "coordinate descent in compiled code, one number after the other, which a gradient method in "
    "JAX does not match; it has no derivatives."
)

_UNCHECKED = (
    "conjugate gradients, where mdsens forms the Hessian of up to 200 unknowns to see whether it "
    "is singular; `implicit_diff_solve='cg'` is the same here, and the line with it shows its time."
)

#: (problem, program): a sentence.
REASONS: dict[tuple[str, str], str] = {
    ("ridge", "optimistix"): (
        "it differentiates the linear solve and uses its Cholesky factors again; here, as in "
        "JAXopt, the solver is a black box, and the derivative knows its condition alone. Beyond "
        "the solution mdsens forms the 20 Hessians from shared products, factorises them once "
        "more, and looks whether each is symmetric, finite and far from singular. The line "
        '"by factors" is '
        "`mdsens.implicit.linear_solve.solve_cholesky` as the solver, which has its factors too, "
        "but forms the matrix from products of its own."
    ),
    ("lasso", "SciPy, scikit-learn"): _DESCENT,
    ("sparse-coding", "SciPy, scikit-learn"): _DESCENT,
    ("isotonic", "SciPy, scikit-learn"): (
        "the same algorithm, one after the other in compiled code; it has no derivatives."
    ),
    ("isotonic", "JAXopt"): (
        "where Numba is installed it compiles the same algorithm, one array after the other on the "
        "host (given a copy of its input, without which it fails in JAX of today); mdsens has it "
        "in JAX, so that nothing leaves compiled code, and is far ahead with the gradient."
    ),
    ("logistic", "JAXopt"): _UNCHECKED,
    ("logistic", "optimistix"): _UNCHECKED,
    ("curve-fit", "JAXopt"): (
        "its steps square the condition number of the Jacobian (Cholesky), those of mdsens do not "
        "(QR), which takes more than a third of the time; `solver='cholesky'` is the same here, "
        "and the line with it shows its time. A sixth of that is the look whether all fits have "
        "converged, an error where not (`throw=False` leaves it out), and without it five steps "
        "take a third longer than JAXopt's six."
    ),
    ("fixed-point", "JAXopt"): (
        "conjugate gradients on the normal equations, which square the condition number, here 20, "
        "and end when they are there. mdsens has GMRES of lineax, which takes whole cycles of 20 "
        'products, and one more to see that nothing changes: 60 products here; the line "as '
        'JAXopt" shows the time with its solver, `linear_solve.solve_normal_cg`.'
    ),
    ("fixed-point", "optimistix"): (
        "the map contracts so fast that plain iteration, which is what optimistix has, needs no "
        'acceleration; the line "by iteration" is `layers.FixedPointIteration`, which takes two '
        "thirds of optimistix's time, and less than half with the gradient."
    ),
    ("lp", "SciPy, scikit-learn"): "HiGHS, a simplex method in compiled code; no derivatives.",
    ("conic", "cvxpylayers"): (
        "both call Clarabel, cvxpylayers for all programs in one call; mdsens adds Newton steps on "
        "the condition, which take the error from 1e-5 to 1e-15. At equal accuracy it is ahead."
    ),
}
