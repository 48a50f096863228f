"""The notebook on meta-learning runs, and what its text claims is true."""

import numpy as np
import pytest
from notebook_scripts import figure_is_drawn, run_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.xdist_group("meta-learning")]


@pytest.fixture(scope="module")
def meta_learning(tmp_path_factory):
    return run_notebook(
        "meta_learning",
        tmp_path_factory.mktemp("figures"),
        MDSENS_OUTER_STEPS="50",
        MDSENS_WIDTH="12",
        MDSENS_TEST_TASKS="40",
        MDSENS_SHOT_COUNTS="10",
        MDSENS_STEP_COUNTS="5,200",
    )


def test_the_implicit_meta_gradient_agrees_with_finite_differences(meta_learning):
    assert max(meta_learning[0]["gradient_errors"].values()) < 1e-5


def test_solutions_are_minima_though_the_loss_alone_is_not_convex_there(meta_learning):
    for lowest in meta_learning[0]["lowest"].values():
        assert np.all(lowest > -meta_learning[0]["PENALTY"])
        assert np.all(lowest < 0)


def test_meta_learning_makes_the_inner_problem_closer_to_convex(meta_learning):
    lowest = meta_learning[0]["lowest"]
    assert lowest["implicit"].mean() > lowest["no meta-learning"].mean() + 0.05


def test_more_tasks_are_solved_from_the_learned_start(meta_learning):
    solved = meta_learning[0]["solved"]
    assert solved["implicit"] > solved["no meta-learning"]


def test_a_learned_start_is_worth_more_than_none_or_one_network_for_all(meta_learning):
    errors = {name: values.mean() for name, values in meta_learning[0]["errors"].items()}
    assert errors["implicit"] < 0.6 * errors["no meta-learning"]
    assert errors["implicit"] < 0.8 * errors["one network for all"]


def test_implicit_meta_training_learns_more_in_an_outer_step(meta_learning):
    histories = meta_learning[0]["histories"]
    steps, _, error = histories["implicit"][-1]
    for name in ("unrolled, 5 steps", "unrolled, 1 step"):
        same_step = histories[name][histories[name][:, 0] == steps]
        assert error < 0.5 * same_step[0, 2]


def test_an_unrolled_outer_step_takes_less_time(meta_learning):
    histories = meta_learning[0]["histories"]
    per_step = {name: history[-1, 1] / history[-1, 0] for name, history in histories.items()}
    assert per_step["unrolled, 5 steps"] < 0.5 * per_step["implicit"]


def test_the_unrolled_start_adapted_to_the_solution_is_better_after_less_time(meta_learning):
    names = meta_learning[0]
    assert names["errors"]["unrolled, 5 steps"].mean() < names["errors"]["implicit"].mean()
    seconds = {name: history[-1, 1] for name, history in names["histories"].items()}
    assert seconds["unrolled, 5 steps"] < seconds["implicit"]


def test_the_implicit_meta_gradient_is_worse_after_few_steps_and_cheaper_for_many(meta_learning):
    costs = meta_learning[0]["costs"]
    few = {way: cost[0] for way, cost in costs.items()}
    many = {way: cost[-1] for way, cost in costs.items()}
    for way in ("unrolled, keeping all steps", "unrolled, keeping few steps"):
        assert few["implicit"][2] > few[way][2] > 1
        assert few["implicit"][0] > few[way][0]
        assert many["implicit"][0] < many[way][0]


def test_memory_grows_with_the_steps_that_are_unrolled_and_not_with_implicit(meta_learning):
    memory = {way: cost[:, 1] for way, cost in meta_learning[0]["costs"].items()}
    assert memory["implicit"][-1] < 1.05 * memory["implicit"][0]
    assert memory["unrolled, keeping all steps"][-1] > 20 * memory["unrolled, keeping all steps"][0]
    growth = memory["unrolled, keeping few steps"][-1] / memory["unrolled, keeping few steps"][0]
    assert 1.5 < growth < 20


def test_the_gauss_newton_solver_gives_the_meta_gradient_that_descent_does_not(meta_learning):
    names = meta_learning[0]
    assert names["solved_cost"][2] < 0.05
    assert names["costs"]["implicit"][0, 2] > 0.1


def test_the_figure_of_meta_learning_is_drawn(meta_learning):
    assert figure_is_drawn(meta_learning[1] / "meta_learning.png")
