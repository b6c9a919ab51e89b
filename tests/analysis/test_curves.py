"""Curves over training: means over seeds with their intervals, at steps that runs share."""

import math

import pytest

from bncli.analysis.curves import find_curves
from bncli.analysis.readers import ArmRuns
from bncli.findings import ArmCurve
from bncli.measures import Metric
from bncli.records import Record, RunInfo, RunResult, Status

ACCURACY = "accuracy"


def run(
    values: dict[int, float], metric: str = ACCURACY, unit: str = "fraction", status: Status = "done", **seconds: float
) -> RunResult:
    records = [Record(metric, step, value, unit) for step, value in values.items()]
    info = RunInfo("id", status, max(values), seconds=seconds)
    return RunResult({"training": {"steps": max(values), "batch_size": 1}}, info, records)


def curves(*runs: RunResult, variant: str = "none") -> list[ArmCurve]:
    return list(find_curves([ArmRuns(variant, {}, dict(enumerate(runs)))]))


def test_a_curve_is_the_mean_over_seeds_with_its_t_interval() -> None:
    (curve,) = curves(run({0: 0.1, 10: 0.5}), run({0: 0.1, 10: 0.7}))
    assert (curve.variant, curve.metric, curve.unit, curve.steps) == ("none", "accuracy", "fraction", (0, 10))
    assert curve.mean == pytest.approx((0.1, 0.6))
    half = 12.7062 * 0.1  # t of 1 degree of freedom times s / sqrt 2
    assert curve.low == pytest.approx((0.1, 0.6 - half), rel=1e-4)
    assert curve.high == pytest.approx((0.1, 0.6 + half), rel=1e-4)


def test_one_run_has_no_interval() -> None:
    (curve,) = curves(run({0: 0.1, 10: 0.5}))
    assert curve.mean == (0.1, 0.5)
    assert curve.low == curve.high == (None, None)


def test_seconds_are_those_of_training_and_of_data_up_to_the_step() -> None:
    (curve,) = curves(run({0: 0.1, 10: 0.5}, training=3.0, data=1.0), run({0: 0.1, 10: 0.5}, training=8.0))
    assert curve.seconds == pytest.approx((0.0, 6.0))
    assert curves(run({0: 0.1, 10: 0.5}))[0].seconds == (None, None)


def test_a_run_that_diverged_counts_up_to_there() -> None:
    lost = run({0: 0.1, 10: 0.3, 20: math.nan}, status="diverged")
    (curve,) = curves(run({0: 0.1, 10: 0.5, 20: 0.9}), lost)
    assert curve.steps == (0, 10, 20)
    assert curve.mean == pytest.approx((0.1, 0.4, 0.9))
    assert curve.low[2] is None


def test_steps_that_some_runs_lack_are_left_out_unless_they_share_none() -> None:
    (curve,) = curves(run({0: 0.1, 10: 0.5, 20: 0.6}), run({0: 0.1, 15: 0.4, 20: 0.8}))
    assert curve.steps == (0, 20)
    (apart,) = curves(run({1: 0.1, 10: 0.5}), run({2: 0.2, 11: 0.4}))
    assert apart.steps == (1, 2, 10, 11)


def test_the_metric_with_the_target_comes_first_and_metrics_of_shift_do_not_come() -> None:
    records = [Record(name, 5, 1.0, "") for name in ("w1", "train_loss", "bleu", "loss")]
    layered = Record("loss", 5, 9.0, "", layer="hidden")
    arm = ArmRuns("none", {}, {0: RunResult({}, RunInfo("id", "done", 5), [layered, *records])})
    found = list(find_curves([arm], Metric("bleu", "higher", "points"), {"bleu": Metric("bleu", "higher", "points")}))
    assert [curve.metric for curve in found] == ["bleu", "loss", "train_loss"]
    assert (found[0].unit, found[1].mean) == ("points", (1.0,))
