"""What runs where MDSENS_EVERY_GEOMETRY is set, since other tests try the same in every run."""

import os

import pytest

#: Whether everything is tried in every geometry.
EVERY = bool(os.environ.get("MDSENS_EVERY_GEOMETRY"))


def with_others(some, others):
    """What is tried, and where MDSENS_EVERY_GEOMETRY is set, what others between them cover."""
    return [*some, *(others if EVERY else ())]


def thorough(elsewhere):
    """Mark a test that runs where MDSENS_EVERY_GEOMETRY is set, since others try the same.

    Arguments:
        elsewhere: what tries each mechanism of it in every run.
    """
    reason = f"each mechanism is tried by {elsewhere}; MDSENS_EVERY_GEOMETRY=1 runs this one too"
    return pytest.mark.skipif(not EVERY, reason=reason)


VERIFIED = "the nine studies that are verified, of each kind of potential, cell and formula"
#: Single cases, as `file::test[case]`: what tries each mechanism of it in every run.
THOROUGH = {
    **dict.fromkeys(
        [
            f"test_ready_studies.py::test_the_derivatives_of_a_ready_study_pass_verification[{name}]"
            for name in (
                "argon-cluster", "argon-vacancy", "emt-surface", "morse-copper-surface",
                "surface-energy", "tungsten-vacancy-snap",
            )
        ],
        VERIFIED,
    ),
    "test_report_process.py::test_a_run_compiles_fewer_than_25_programs[argon-vacancy]":
        "the ready study of a surface, and the count of the programs of every study",
    "test_programs.py::test_other_positions_and_parameters_compile_nothing[isotropic]":
        "the same in a cell that is held, and kept programs of another structure where it relaxes",
    "test_edip.py::test_sensitivities_are_those_of_relaxing_again":
        "the checks of the potential, and vacancies of SNAP and of metals that relax again",
    "test_ace.py::test_a_relaxed_vacancy_follows_the_coefficients_as_if_relaxed_again":
        "the checks of the potential, and vacancies of SNAP and of metals that relax again",
    "test_combined.py::test_a_sum_is_a_potential[pairs]": "triplets and pairs",
    "test_combined.py::test_a_sum_is_a_potential[densities and pairs]": "triplets and pairs",
    "test_cutoffs.py::test_the_sum_of_a_mixture_s_derivatives_is_its_scaling":
        "a crystal that scales with sigma, and moving cutoffs of a metal",
    "test_cutoffs.py::test_derivatives_of_what_has_moving_cutoffs[pairs]": "those of a metal",
    "test_hessian_solver.py::test_the_matrix_is_the_derivative_of_the_condition[crystal]":
        "fixed atoms in a crystal",
    "test_hessian_solver.py::test_the_matrix_is_the_derivative_of_the_condition[relaxed cell]":
        "a metal in a relaxed cell",
    "test_cells.py::test_a_compiled_gradient_of_a_relaxed_slab_is_that_of_relaxing_again":
        "compiled gradients in every geometry, and of frequencies in a cell that relaxes",
    "test_constraints.py::test_gradients_under_jit_are_those_of_the_sensitivity"
    "[single atoms in bulk]": "bonds in a cluster",
    "test_lowest_modes.py::test_the_lowest_vibrations_are_those_of_all[bulk-direct]":
        "a cluster by factorisation and atoms that are fixed by multigrid",
    "test_lowest_modes.py::test_the_lowest_vibrations_are_those_of_all[wire-multigrid]":
        "a cluster, which turns too, and a slab by multigrid",
}  # fmt: skip
