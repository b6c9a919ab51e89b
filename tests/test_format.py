"""How findings write their numbers."""

import pytest
from report.made_findings import ACCURACY, STEPS, comparison

from bncli.findings import Measure, Summary, Value
from bncli.format import written, written_comparison, written_setting, written_summary

GROWTH = Measure("bias_growth", "bias growth", "norm per step", "lower", "difference")


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (12500.0, "steps", "12,500"),
        (0.9713, "fraction", "97.1 %"),
        (0.13456, "nats", "0.1346"),
        (-0.00001, "nats", "0.0000"),
        (0.0123456, "norm per step", "0.0123"),
    ],
)
def test_a_number_is_written_in_its_unit(number, unit, expected):
    assert written(number, unit) == expected


@pytest.mark.parametrize(
    ("measure", "numbers", "expected"),
    [
        (STEPS, (0.408, 0.361, 0.468, 1.0), "0.41x [0.36, 0.47]"),
        (STEPS, (0.98, 0.961, 0.9996, 1.0), "0.9800x [0.9610, 0.9996]"),
        (STEPS, (0.043, 0.0214, 0.12, 1.0), "0.043x [0.021, 0.12]"),
        (STEPS, (23.4567, 9.0, 112.6, 1.0), "23.5x [9.00, 113]"),
        (STEPS, (None, None, 0.43, 1.0), "≤ 0.43x"),
        (STEPS, (None, 2.1, None, 0.0), "≥ 2.10x"),
        (STEPS, (None, None, None, 0.5), "n/a"),
        (STEPS, (None, None, 1.5e12, 1.0), "n/a"),
        (STEPS, (1.2, 1e-9, 1e9, 0.5), "1.20x"),
        (STEPS, (0.4, None, None, 1.0), "0.40x"),
        (ACCURACY, (0.004, 0.002, 0.006, 1.0), "+0.4 [+0.2, +0.6]"),
        (ACCURACY, (0.004, 0.0003, 0.0077, 1.0), "+0.40 [+0.03, +0.77]"),
        (ACCURACY, (-0.0001, -0.002, 0.002, 0.5), "+0.0 [-0.2, +0.2]"),
        (GROWTH, (0.202, 0.19754, 0.207, 0.0), "+0.202 [+0.198, +0.207]"),
    ],
)
def test_a_comparison_is_written_with_its_interval(measure, numbers, expected):
    assert written_comparison(comparison(measure, "batch", numbers, "inconclusive"), measure) == expected


def test_a_median_says_that_it_is_one():
    values = (Value(0, 400.0, 300.0, 400.0), Value(1, 500.0, 400.0, 500.0), Value(2, None, 1000.0, None, "not reached"))
    assert written_summary(Summary("steps_to_target", values, None, None, median=500.0), "steps") == "500 (median)"
    assert written_summary(Summary("steps_to_target", values, None, None), "steps") == "not reached"


def test_an_unknown_centre_is_not_available():
    unknown = Summary("final_loss", (Value(0, None, None, None, "not measured"),), None, None, "not measured")
    assert written_summary(unknown, "nats") == "n/a"


def test_settings_are_written_without_their_path():
    setting = {"training.lr": 0.1, "training.optimizer": {"name": "sgd", "momentum": 0.9}, "data.binarize": 127}
    assert written_setting(setting) == "lr 0.1, optimizer sgd momentum=0.9, binarize 127"


def test_a_loss_that_diverged_is_not_called_unreached():
    diverged = Summary(
        "final_loss", (Value(0, 0.5, 0.5, 0.5), Value(1, None, 2.3, None, "diverged at step 9")), None, None
    )
    assert written_summary(diverged, "nats") == "n/a"
