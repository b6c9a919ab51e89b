"""A metric of shift as a measure of a run."""

import dataclasses
import math

import pytest

from analysis.made_runs import arm_of, ask_of, run_of
from bncli.analysis import analyse
from bncli.analysis.readers import over_training
from bncli.findings import Claim
from bncli.records import Record

DRIFT = "percentile-drift"


def probed(layers):
    run = run_of()
    records = [
        Record(DRIFT, step, value, "", *layer.split("/"))
        for layer, values in layers.items()
        for step, value in values.items()
    ]
    return dataclasses.replace(run, records=tuple(records))


def test_it_is_the_mean_over_probes_then_the_geometric_mean_over_layers():
    run = probed({"a/norm": {100: 1.0, 200: 3.0}, "b/norm": {100: 8.0, 200: 8.0}, "c/norm": {100: 0.0}})
    assert over_training(0, run, DRIFT, ratio=True).value == pytest.approx(4)
    assert over_training(0, run, DRIFT, ratio=False).value == pytest.approx(10 / 3)


def test_what_was_not_probed_is_unknown():
    assert over_training(3, run_of(), DRIFT, ratio=True).reason == "percentile-drift was not probed"


def test_a_claim_can_be_about_a_metric_of_shift():
    arms = [
        arm_of(v, [probed({"a": {1: x * math.exp(0.01 * i)}}) for i in range(10)])
        for v, x in (("none", 0.21), ("batch", 0.035))
    ]
    claim = Claim(DRIFT, "batch", "none", {}, "ratio", 0.5, None, "Ioffe & Szegedy 2015, figure 1")
    (found,) = analyse(arms, dataclasses.replace(ask_of(), claims=(claim,))).claims
    assert found.outcome == "confirmed"
    assert found.estimate == pytest.approx(1 / 6)
