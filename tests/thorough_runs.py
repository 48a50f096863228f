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


VERIFIED = "the eight studies that are verified, of each kind of potential and cell"
FROM_CONDITIONS = "the slab's, the wire's and the packing's other conditions, and those of a study"
#: Single cases, as `file::test[case]`: what tries each mechanism of it in every run.
THOROUGH = {
    **dict.fromkeys(
        [
            f"test_ready_studies.py::test_the_derivatives_of_a_ready_study_pass_verification[{name}]"
            for name in (
                "argon-cluster", "argon-vacancy", "emt-surface", "morse-copper-surface",
                "surface-energy", "tungsten-vacancy-snap", "vacancy-formation",
            )
        ],
        VERIFIED,
    ),
    "test_report_process.py::test_a_run_compiles_fewer_than_25_programs":
        "the count of the programs of every ready study, of two in processes of their own",
    "test_loads.py::test_verification_passes_in_every_condition"
    '[settings1-["stress[xz]", "epsilon"]]':
        "verification under a changed load, and derivatives in stresses of an alloy",
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
    "test_eam.py::test_the_checks_of_a_potential_pass[alloy]":
        "those of Finnis and Sinclair's files, which hold more, and LAMMPS with files of each",
    "test_embedded_atom.py::test_copper_relaxes_to_its_lattice_constant":
        "copper by Zhou's potential, and the plain sums and LAMMPS beside this one's energies",
    "test_testing.py::test_every_potential_passes_and_is_as_smooth_as_it_says[sw-flat]":
        "triplets of two species there, and derivatives of triplets in a flat cell in mechanics",
    **{
        f"test_testing.py::test_every_potential_passes_and_is_as_smooth_as_it_says[{name}]": others
        for name, others in (
            ("wca-binary-triclinic", "Lennard-Jones of two species, of which it is the core"),
            ("harmonic-table-triclinic", "Hertz's law of two species"),
        )
    },
    "test_hessian_solver.py::test_the_matrix_is_the_derivative_of_the_condition[crystal]":
        "fixed atoms in a crystal",
    "test_hessian_solver.py::test_the_matrix_is_the_derivative_of_the_condition[relaxed cell]":
        "a metal in a relaxed cell",
    "test_reference_lattice.py::test_traced_derivatives_use_it_too":
        "traced derivatives by the assembled Hessian, and solves by the lattice",
    "test_derivatives.py::test_vmap_of_the_derivative":
        "gradients of several side by side on one core, against their closed form",
    "test_cells.py::test_a_batch_relaxes_each_as_it_is_relaxed_alone[turned slab-full]":
        "cells of crystals that relax in a batch, and batches of slabs",
    "test_cells.py::test_a_cell_changes_as_if_relaxed_again[bulk-shape-None-jacrev]":
        "bulk under a stress, and an alloy whose shape relaxes in test_variables",
    "test_cells.py::test_a_cell_changes_as_if_relaxed_again[slab in vacuum-full-stress-jacfwd]":
        "bulk under a stress, a wire, and a slab that is stretched",
    **dict.fromkeys(
        [
            f"test_variables.py::test_derivatives_in_conditions_are_those_of_relaxing_again[{name}]"
            for name in (
                "slab-None-0.0-strain[xx]", "packing-None-0.0-strain[xy]",
                "alloy-full-0.0-pressure",
            )
        ],
        FROM_CONDITIONS,
    ),
    "test_variables.py::test_forward_and_reverse_agree[alloy-full-wrt1]":
        "a slab's strain, and derivatives in stresses, which are of relaxations",
    "test_cells.py::test_a_compiled_gradient_of_a_relaxed_slab_is_that_of_relaxing_again":
        "compiled gradients in every geometry, and of frequencies in a cell that relaxes",
    "test_constraints.py::test_gradients_under_jit_are_those_of_the_sensitivity"
    "[single atoms in bulk]": "bonds in a cluster",
    "test_elasticity.py::test_forward_and_reverse_agree":
        "reverse derivatives through relax, and those of relaxations again",
    "test_vibrations.py::test_frequencies_of_a_metal_follow_its_embedding":
        "an alloy and silicon, and dynamical matrices of a metal, which are those of supercells",
    "test_elasticity.py::test_constants_are_the_slopes_of_stresses_in_strains[silicon-True]":
        "an alloy under stress and a packing there, and silicon beside LAMMPS",
    "test_unrolled_tangents.py::test_no_contact_is_missed_however_short_the_lists_are[lbfgs]":
        "FIRE, which shares the lists",
    "test_vibrations.py::test_many_structures_have_the_frequencies_of_each":
        "derivatives of other observables in a batch, and frequencies that are traced",
    "test_vibrations.py::test_the_waves_of_a_primitive_cell_are_modes_of_a_conventional_one":
        "waves that are the modes of a supercell",
    "test_elastic_constants.py::test_silicon[wurtzite]":
        "diamond, whose ions move too, and a triclinic crystal under stress",
    "test_lowest_modes.py::test_the_lowest_vibrations_are_those_of_all[bulk-direct]":
        "a cluster by factorisation and atoms that are fixed by multigrid",
    "test_lowest_modes.py::test_the_lowest_vibrations_are_those_of_all[wire-multigrid]":
        "a cluster, which turns too, and a slab by multigrid",
}  # fmt: skip

#: What is collected, as `file::test[case]`.
COLLECTED: set[str] = set()
#: Single cases that are slow as well: what tries each mechanism of it among the fast ones.
SLOW = {
    "test_every_solver.py::test_compiled_batches_find_what_one_finds_after_the_other":
        "derivatives in both modes, whose differences are those of compiled batches",
    "test_every_solver.py::test_derivatives_of_iterations_are_those_of_their_limit":
        "test_unrolled, and derivatives of the solutions themselves",
    "test_every_solver.py::test_single_precision_stays_single_and_is_as_good": "test_precision",
    **{
        "test_every_solver.py::test_derivatives_in_both_modes_are_those_of_finite_differences"
        f"[{name}]": others
        for name, others in (
            ("BoxQP", "QuadraticProgram and LBFGSB"),
            ("BoxConstrainedQP", "QuadraticProgram and LBFGSB"),
            ("NonlinearProgram", "shadow prices and dependent rows in test_nonlinear_program"),
        )
    },
    "test_jaxopt_options.py::test_jaxopts_names_of_programs_are_these_programs":
        "the names of test_jaxopt_names, and every program in test_every_solver",
    "test_jaxopt_options.py::test_the_examples_of_the_page_run_as_they_stand":
        "options one by one in that file",
    **{
        f"test_jaxopt_examples.py::test_an_example_has_the_answer_of_jaxopt[{name}-]":
            "the examples that take less"
        for name in (
            "meta_learning", "picard_iteration", "kernel_svm", "lasso", "sparse_coding",
        )
    },
    "test_nonlinear_program.py::test_a_batch_of_solutions_multipliers_and_derivatives_are_those"
    "_of_the_closed_form": "multipliers beside SciPy, and derivatives in test_every_solver",
    "test_nonlinear_program.py::test_single_precision_stays_so_and_is_right_to_its_digits":
        "test_precision",
    "test_quadratic_program.py::test_a_solution_nearby_saves_the_iterations_and_changes_nothing"
    "_else[quadratic]": "the linear program",
    "test_program_operators.py::test_equations_without_matrices_have_the_solution_and"
    "_derivatives_of_the_factorisation": "solutions and derivatives by_matvec and by_function",
    "test_learning_from_batches.py::test_features_from_batches_of_tasks_let_new_tasks_be_learned"
    "_from_three_examples": "test_stochastic_bilevel",
    "test_stochastic_bilevel.py::test_batches_lead_there_as_fast_as_noise_allows":
        "the hypergradient of all data and the mean of batches",
    "test_quasi_newton.py::test_the_step_sizes_of_broyden_are_within_what_was_asked_for":
        "Broyden's condition",
    "test_perturbations.py::test_the_perturbed_argmax_with_gumbel_noise_is_the_softmax":
        "the perturbed maximum, whose gradient that is",
    "test_without_physics.py::test_layers_import_nothing_of_particles_and_leave_the_precision"
    "_as_it_is": "who imports whom in test_package",
    "test_reference_lattice.py::test_rings_tell_apart_what_a_lattice_does[3]": "the plane",
    "test_reference_lattice.py::test_a_crystal_with_a_vacancy_is_solved_in_few_iterations[wire]":
        "the cubic crystal",
    "test_reference_lattice.py::test_a_crystal_with_a_vacancy_is_solved_in_few_iterations"
    "[cluster]": "the cubic crystal",
    "test_reference_lattice.py::test_of_a_perfect_crystal_it_is_the_inverse"
    "[diamond-potential2-2]": "the cubic crystal",
    **{
        f"test_sparse_solver.py::test_one_soft_spot_among_many_soft_waves_is_found[{case}]":
            "1.02-multigrid"
        for case in ("1.02-block-jacobi", "1.5-multigrid", "1.5-block-jacobi")
    },
    "test_sparse_solver.py::test_multigrid_needs_no_more_iterations_as_the_system_grows":
        "every way, on one size",
    "test_columns_side_by_side.py::test_a_lattice_stays_where_it_serves_and_gives_way_where_it"
    "_does_not[30.0-multigrid-16]": "three columns",
    "test_calculator.py::test_ase_and_relax_come_to_the_same_minimum[BFGS-FrechetCellFilter]":
        "forces and stresses as slopes of the energy",
    "test_calculator.py::test_a_vacancy_hops_over_a_saddle_that_is_symmetric":
        "forces as slopes",
    "test_calculator.py::test_a_strain_filter_gives_the_lattice_constant_and_so_does_an_equation"
    "_of_state": "stresses as slopes",
    "test_quasi_harmonic.py::test_frequencies_fall_by_their_gruneisen_parameters_with_ions_that"
    "_follow": "the crystal of near neighbours",
    "test_quasi_harmonic.py::test_thermal_expansion_follows_parameters_and_the_pressure":
        "its expansion by its Grueneisen parameter",
    "test_elasticity.py::test_clamped_and_relaxed_ions_may_be_asked_for_together":
        "silicon, softer where its ions relax",
    "test_elasticity.py::test_displacements_are_refined_from_those_of_a_place_nearby":
        "silicon, softer where its ions relax",
    "test_vibrations.py::test_sums_over_equal_frequencies_follow_parameters":
        "the modes of a cluster, and traced modes",
    "test_vibrations.py::test_what_costs_nothing_by_symmetry_is_still[wire-4]": "flat cells",
    "test_vibrations.py::test_what_costs_nothing_by_symmetry_is_still[slab-3]": "flat cells",
    "test_pictures.py::test_one_line_draws_a_crystal_and_its_derivatives":
        "pictures of clusters, and test_plots",
    "test_structure_potentials.py::test_a_sum_with_edges_relaxes_in_a_field_that_holds_it[full]":
        "the cell that is held",
    "test_snap.py::test_forces_stress_and_hessian_are_derivatives_of_the_energy[quadratic]":
        "linear",
    "test_snap.py::test_forces_stress_and_hessian_are_derivatives_of_the_energy[elements]":
        "linear",
    "test_snap.py::test_nodes_integrate_products_of_three_characters_exactly":
        "derivatives of the energy, which are of the same nodes",
    "test_sweeps_in_batches.py::test_what_a_batch_cannot_do_is_done_alone":
        "three atoms in a batch",
    "test_combined.py::test_energies_forces_and_hessians_add_up[triplets and pairs]": "pairs",
    "test_combined.py::test_energies_forces_and_hessians_add_up[densities and triplets]": "pairs",
    "test_bonded.py::test_a_sum_with_edges_is_sparse_too": "an elastic network that is sparse",
    "test_energy_function.py::test_a_gradient_in_all_weights_is_one_solve":
        "a function of all pairs beside the potential of edges",
    "test_born_stability.py::test_ions_that_relax_make_it_less":
        "a stretched crystal at its largest tension",
    "test_born_stability.py::test_a_stretched_crystal_gives_way_to_dilation_where_its_tension_is"
    "_largest[5.9]": "the other lattice constant",
    "test_force_constants.py::test_they_scale_through_the_relaxation":
        "those of an image beside differences of forces",
    "test_new.py::test_a_study_from_each_format_runs[argon.cif]": "the other formats",
    **{
        f"test_ace.py::{test}[distance]": "the same of densities"
        for test in (
            "test_the_energy_is_the_closed_form", "test_what_is_written_is_read_again",
            "test_the_slope_in_parameters_is_that_of_differences",
            "test_elements_are_taken_in_the_order_that_is_asked_for",
        )
    },
    "test_command_line_page.py::test_every_example_runs": "each command in test_cli",
    "test_constrained_studies.py::test_a_cell_keeps_the_symmetry_that_its_study_asks_for":
        "constraints of a structure file, and cells with symmetry in test_constraints",
}  # fmt: skip
