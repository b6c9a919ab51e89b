"""When a run first reached the target, in steps, seconds and examples."""

import pytest

from analysis.made_runs import reaching, run_of
from bncli.analysis.readers import (
    examples_to_target,
    reached,
    restricted_steps,
    seconds_to_target,
    steps_to_target,
)
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


def test_without_a_target_nothing_is_timed():
    assert steps_to_target(0, reaching(300), None).reason == "there is no target accuracy"


def test_seconds_are_steps_times_the_time_of_a_training_step():
    assert seconds_to_target(0, reaching(400), 0.95) == Value(0, 0.2, pytest.approx(0.15), 0.2)  # 0.5 ms a step


def test_seconds_of_a_run_that_never_got_there_are_censored_at_its_budget():
    found = seconds_to_target(0, reaching(None), 0.95)
    assert (found.value, found.low, found.high) == (None, 0.5, None)


def test_examples_are_steps_times_the_batch():
    assert examples_to_target(0, reaching(400), 0.95) == Value(0, 24000, 18000, 24000)  # batches of 60


def test_a_crossing_in_the_first_bracket_took_one_step_at_least():
    assert examples_to_target(0, reaching(100), 0.95).low == 60


def test_restricted_steps_count_a_run_that_never_got_there_at_its_budget():
    assert restricted_steps(0, reaching(None), 0.95) == Value(0, 1000, 1000, 1000)
    assert restricted_steps(0, reaching(400), 0.95) == Value(0, 400, 300, 400)


def test_reaching_the_target_is_a_share_over_runs():
    assert [reached(0, run, 0.95).value for run in (reaching(400), reaching(None))] == [1, 0]
    assert reached(0, reaching(400), None).reason == "there is no target accuracy"
