"""Why another program is ahead of mdsens on a problem, where it is."""

_DESCENT = (
    "coordinate descent in compiled code, one number after the other, which a gradient method in "
    "JAX does not match; it has no derivatives."
)

#: (problem, program): a sentence.
REASONS: dict[tuple[str, str], str] = {
    ("ridge", "optimistix"): (
        "it differentiates the linear solve and uses its factorisation again; here, as in JAXopt, "
        "the solver is a black box, and the derivative knows its condition alone. "
        "`mdsens.implicit.linear_solve.solve_cholesky` is the same thing."
    ),
    ("lasso", "SciPy, scikit-learn"): _DESCENT,
    ("sparse-coding", "SciPy, scikit-learn"): _DESCENT,
    ("isotonic", "SciPy, scikit-learn"): (
        "the same algorithm, one after the other in compiled code; it has no derivatives."
    ),
    ("logistic", "JAXopt"): (
        "conjugate gradients, where mdsens forms the Hessian of up to 200 unknowns to see whether "
        "it is singular; `implicit_diff_solve='cg'` is the same here, and the line with it shows "
        "its time."
    ),
    ("logistic", "optimistix"): "as JAXopt: conjugate gradients, unchecked.",
    ("curve-fit", "JAXopt"): (
        "its steps square the condition number of the Jacobian (Cholesky), those of mdsens do not "
        "(QR); `solver='cholesky'` is the same here, and the line with it shows its time."
    ),
    ("fixed-point", "JAXopt"): (
        "its linear solves are conjugate gradients on the normal equations, which square the "
        "condition number, here 20; those of mdsens are GMRES, whose residual is looked at. The "
        "products of the Anderson steps are the same, mdsens scales the differences before."
    ),
    ("fixed-point", "optimistix"): (
        "the map contracts so fast that plain iteration, which is what optimistix has, needs no "
        "acceleration; `layers.FixedPointIteration` is the same."
    ),
    ("lp", "qpax"): (
        "mdsens solves linear programs with Clarabel on the host, one after the other, unless "
        "`solver='interior-point'` is given: the line \"in JAX\", which is ahead of qpax."
    ),
    ("lp", "SciPy, scikit-learn"): "HiGHS on the host is as fast as Clarabel; no derivatives.",
    ("conic", "cvxpylayers"): (
        "it builds sparse matrices for the solver; the solution alone takes as long with either "
        "to a few per cent."
    ),
}
