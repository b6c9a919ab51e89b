"""What is read off one run."""

import math

import pytest

from analysis.made_runs import reaching, run_of
from bncli.analysis.measures import bias_growth, final_accuracy, final_loss, loss_change, steps_to_target
from bncli.findings import Value


def test_a_crossing_is_bracketed_by_the_evaluation_before_it():
    run = run_of({0: 0.1, 100: 0.9, 200: 0.96, 300: 0.97})
    assert steps_to_target(3, run, 0.95) == Value(3, 200.0, 100.0, 200.0)


def test_the_first_crossing_counts_even_if_accuracy_falls_again():
    assert steps_to_target(0, run_of({0: 0.1, 100: 0.96, 200: 0.5, 300: 0.97}), 0.95).value == 100


def test_a_crossing_before_the_first_evaluation_is_bracketed_from_zero():
    assert steps_to_target(0, run_of({100: 0.96}), 0.95) == Value(0, 100.0, 0.0, 100.0)


def test_a_target_met_before_training_took_no_steps():
    assert steps_to_target(0, run_of({0: 0.96, 100: 0.97}), 0.95) == Value(0, 0.0, 0.0, 0.0)


def test_a_target_is_met_by_an_accuracy_rounded_to_float32():
    assert steps_to_target(0, run_of({100: 0.949999988}), 0.95).value == 100
    assert steps_to_target(0, run_of({100: 0.949999}), 0.95).value is None


def test_a_run_that_never_gets_there_is_censored_at_its_budget():
    value = steps_to_target(0, run_of({0: 0.1, 1000: 0.9}, budget=1000), 0.95)
    assert value == Value(0, None, 1000.0, None, "not reached within 1,000 steps")


def test_a_diverged_run_is_censored_at_its_budget_not_where_it_broke_off():
    value = steps_to_target(0, run_of({0: 0.1}, status="diverged", step=40), 0.95)
    assert value == Value(0, None, 1000.0, None, "not reached within 1,000 steps, diverged at step 40")


def test_a_run_that_diverged_after_the_crossing_did_cross():
    assert steps_to_target(0, run_of({0: 0.1, 100: 0.96}, status="diverged", step=400), 0.95).value == 100


def test_a_number_that_is_not_finite_is_no_evaluation():
    run = run_of({0: 0.1, 100: math.nan, 200: 0.96}, {0: 2.0, 100: 1.0, 200: math.inf})
    assert steps_to_target(0, run, 0.95) == Value(0, 200.0, 0.0, 200.0)
    assert final_loss(0, run, None).value == 1.0


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
        (steps_to_target, "accuracy was not measured"),
        (final_accuracy, "accuracy was not measured"),
        (final_loss, "loss was not measured"),
        (loss_change, "loss was not measured"),
        (bias_growth, "no bias was measured twice"),
    ],
)
def test_what_was_not_measured_is_unknown_with_a_reason(read, reason):
    assert read(7, run_of(), 0.95) == Value(7, None, None, None, reason)


def test_without_a_target_nothing_is_timed():
    assert steps_to_target(0, reaching(300), None).reason == "there is no target accuracy"
