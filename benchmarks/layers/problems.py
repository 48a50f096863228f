"""The problems by name."""

from benchmarks.layers import equations, programs, regressions

PROBLEMS = {
    "ridge": regressions.ridge,
    "lasso": regressions.lasso,
    "logistic": regressions.logistic,
    "svm": regressions.svm,
    "sparse-coding": regressions.sparse_coding,
    "isotonic": regressions.isotonic,
    "curve-fit": equations.curve_fit,
    "fixed-point": equations.fixed_point,
    "root": equations.root,
    "transport": programs.transport,
    "qp": programs.qp,
    "portfolio": programs.portfolio,
    "lp": programs.lp,
    "conic": programs.conic,
    "nlp": programs.nlp,
}
