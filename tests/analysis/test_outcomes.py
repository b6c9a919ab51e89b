"""What is read off one run."""

import math
from functools import partial

import pytest

from analysis.made_runs import reaching, run_of
from bncli.analysis.readers import (
    accuracy_area,
    best_accuracy,
    bias_growth,
    diverged,
    final_accuracy,
    final_loss,
    grew_most,
    loss_change,
    steps_to_target,
)
from bncli.findings import Value


def test_a_number_that_is_not_finite_is_no_evaluation():
    run = run_of({0: 0.1, 100: math.nan, 200: 0.96}, {0: 2.0, 100: 1.0, 200: math.inf})
    assert steps_to_target(0, run, 0.95) == Value(0, 200.0, 0.0, 200.0)
    assert final_loss(0, run).value == 1.0


def test_final_accuracy_is_that_of_the_last_evaluation():
    assert final_accuracy(0, reaching(300, 0.971)) == Value(0, 0.971, 0.971, 0.971)


def test_a_diverged_run_ends_at_chance():
    assert final_accuracy(0, run_of({0: 0.3, 100: 0.8}, status="diverged", step=150)).value == 0.1


def test_loss_change_is_last_less_first():
    run = run_of(loss={0: 2.5, 100: 1.0, 200: 0.5})
    assert final_loss(0, run).value == 0.5
    assert loss_change(0, run).value == -2.0


def test_the_loss_of_a_diverged_run_is_at_least_what_it_began_with():
    run = run_of(loss={0: 2.5, 100: 1.0}, status="diverged", step=150)
    assert final_loss(0, run) == Value(0, None, 2.5, None, "diverged at step 150")
    assert loss_change(0, run) == Value(0, None, 0.0, None, "diverged at step 150")


def test_bias_growth_is_that_of_the_joint_norm_of_all_biases_a_step():
    norms = {
        "layers.0.bias": {0: 0.0, 100: 3.0},
        "layers.1.bias": {0: 0.0, 100: 4.0},
        "layers.0.weight": {0: 1.0, 100: 99.0},
    }
    assert bias_growth(0, run_of(norms=norms)).value == pytest.approx(5 / 100)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (partial(steps_to_target, target=0.95), "accuracy was not measured"),
        (final_accuracy, "accuracy was not measured"),
        (final_loss, "loss was not measured"),
        (loss_change, "loss was not measured"),
        (bias_growth, "no bias was measured twice"),
    ],
)
def test_what_was_not_measured_is_unknown_with_a_reason(read, reason):
    assert read(7, run_of()) == Value(7, None, None, None, reason)


def test_best_accuracy_is_that_of_the_best_evaluation_even_before_a_divergence():
    assert best_accuracy(0, run_of({0: 0.1, 100: 0.8}, status="diverged", step=150)) == Value(0, 0.8, 0.8, 0.8)


def test_the_area_is_the_mean_of_the_curve_by_trapezoids():
    assert accuracy_area(0, run_of({0: 0.0, 500: 1.0, 1000: 1.0})).value == pytest.approx(0.75)


def test_after_a_divergence_the_area_counts_chance():
    run = run_of({0: 0.1, 500: 0.1}, status="diverged", step=600)
    assert accuracy_area(0, run).value == pytest.approx(0.1)


def test_divergence_is_a_share_over_runs():
    assert diverged(0, run_of({0: 0.1}, status="diverged")).value == 1
    assert diverged(0, run_of({0: 0.1})).value == 0


def test_the_parameter_that_blew_up_is_the_one_whose_norm_grew_by_the_largest_factor():
    norms = {"layers.0.weight": {0: 5.0, 100: 50.0}, "layers.1.weight": {0: 1.0, 100: 30.0, 200: math.inf}}
    assert grew_most(run_of(norms=norms, status="diverged", step=150)) == ("layers.1.weight", 30.0, 100)
    assert grew_most(run_of(norms={"layers.0.bias": {0: 0.0, 100: 1.0}, "layers.0.weight": {0: 1.0}})) is None
