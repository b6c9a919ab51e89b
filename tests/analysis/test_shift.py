"""Probes become findings: means over time, noise bands, paired ratios, and words that follow from them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bncli.analysis import ArmRuns
from bncli.analysis.shift import ShiftAsk, analyse_shift, noise_edge
from bncli.findings import Scale
from bncli.findings.shift import Definition, ShiftComparison, ShiftFindings
from bncli.records import PERCENTILES, CurveKey, Record, RunInfo, RunResult
from bncli.shift.samples import noise_of

DRIFT = Definition("w1", "w1", "pair", "activation", "ratio", "lower")
COSINE = Definition("gradient-cosine", "gradient cosine", "gradient", "", "difference", "higher")
RANK = Definition("stable-rank", "stable rank", "sample", "directions", "ratio", "higher")
SITE = ("hidden.0", "norm")
SECONDS = {"training": 8.0, "data": 2.0, "probing": 0.5}


def run_of(curves: Mapping[CurveKey, Sequence[float]]) -> RunResult:
    """A run with the given curves, a probe every 500 steps."""
    records = [
        Record(key.metric, 500 * i, value, "", *key[1:])
        for key, values in curves.items()
        for i, value in enumerate(values, 1)
    ]
    return RunResult({}, RunInfo("id", "done", 1000, seconds=SECONDS), tuple(records))


def drifting(*values: float, null: float = 0.01) -> RunResult:
    return run_of({CurveKey("w1", *SITE, "mean"): values, CurveKey("w1", *SITE, "null"): [null]})


def found(
    none: Sequence[RunResult], batch: Sequence[RunResult], *definitions: Definition, layers: str = ""
) -> ShiftFindings:
    arms = [ArmRuns(name, {}, dict(enumerate(runs))) for name, runs in (("none", none), ("batch", batch))]
    wanted = tuple(layers.split()) if layers else ()
    return analyse_shift(
        arms, ShiftAsk("p", "?", "setup", "probes", "none", definitions or (DRIFT,), wanted, 0.05, (), {})
    )


def overall(findings: ShiftFindings, metric: str = "w1") -> ShiftComparison:
    return next(c for c in findings.comparisons if c.metric == metric)


def test_a_cell_is_the_mean_over_probes_then_over_seeds() -> None:
    cell = found([drifting(1, 3), drifting(2, 6)], []).arms[0].cells[0]
    assert (cell.values, cell.mean, cell.first, cell.last) == ({0: 2.0, 1: 4.0}, 3.0, 1.5, 4.5)
    assert cell.std == pytest.approx(math.sqrt(2))


def test_a_cell_has_the_t_interval_of_its_mean_and_none_of_one_seed() -> None:
    cell = found([drifting(1, 3), drifting(2, 6)], []).arms[0].cells[0]
    assert (cell.low, cell.high) == pytest.approx((3 - 12.7062, 3 + 12.7062), rel=1e-4)
    alone = found([drifting(1, 3)], []).arms[0].cells[0]
    assert (alone.low, alone.high) == (None, None)


def test_a_course_is_the_mean_over_seeds_at_the_probes_that_all_have() -> None:
    findings = found([drifting(1, 3, 5), drifting(2, 6)], [drifting(1)])
    assert [(c.metric, c.variant, c.layer, c.place, c.steps, c.values) for c in findings.courses] == [
        ("w1", "none", *SITE, (500, 1000), (1.5, 4.5)), ("w1", "batch", *SITE, (500,), (1.0,)),
    ]  # fmt: skip
    assert found([drifting(1)], [], layers="elsewhere").courses == ()


def test_the_ratio_is_of_geometric_means_with_a_paired_t_interval_of_logarithms() -> None:
    none, batch = [drifting(v) for v in (8.0, 16.0, 8.0)], [drifting(v) for v in (1.0, 4.0, 2.0)]
    c = overall(found(none, batch))
    logs = [math.log(1 / 8), math.log(1 / 4), math.log(1 / 4)]
    mean = sum(logs) / 3
    deviation = math.sqrt(sum((x - mean) ** 2 for x in logs) / 2)
    half = 4.302652729911275 * deviation / math.sqrt(3)  # of Student's t with 2 degrees of freedom
    assert c.low is not None
    assert (c.estimate, c.low, c.high) == pytest.approx((math.exp(mean), math.exp(mean - half), math.exp(mean + half)))
    assert (c.side, c.pairs) == ("less", 3)


def test_only_seeds_that_both_arms_have_are_paired() -> None:
    arms = [ArmRuns("none", {}, {0: drifting(4), 1: drifting(9), 2: drifting(4)}),
            ArmRuns("batch", {}, {0: drifting(1), 2: drifting(1), 7: drifting(50)})]  # fmt: skip
    ask = ShiftAsk("p", "?", "s", "p", "none", (DRIFT,), (), 0.05, (), {})
    c = overall(analyse_shift(arms, ask))
    assert (c.pairs, c.estimate) == (2, pytest.approx(0.25))


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ([1.0, 1.1, 0.9], "w1 is 8.0x [6.3, 10.3] smaller with batch"),
        ([16.0, 17.0, 15.0], "w1 is not smaller with batch but 2.00x [1.71, 2.33] larger"),
        ([8.01, 8.0, 8.0], "w1 is the same with batch, within the margin: 1.000x [0.999, 1.002]"),
        ([2.0, 8.0, 40.0], "whether w1 is smaller with batch is open: 1.08x [0.026, 44.6] that of none"),
    ],
)  # fmt: skip
def test_a_sentence_follows_from_the_interval(batch: list[float], sentence: str) -> None:
    findings = found([drifting(8.0)] * 3, [drifting(v) for v in batch])
    assert findings.sentences == (sentence,)


def test_a_metric_with_an_upper_end_is_compared_by_difference() -> None:
    none, batch = (
        [run_of({CurveKey("gradient-cosine", "l"): [v]}) for v in values] for values in ([0.9, 0.9], [0.7, 0.71])
    )
    findings = found(none, batch, COSINE)
    assert overall(findings, "gradient-cosine").side == "more"  # less alike, so more shift
    assert findings.sentences[0].startswith("gradient cosine is lower with batch: -0.195 [-0.2")


def test_definitions_that_disagree_are_said_to() -> None:
    none = [run_of({CurveKey("w1", *SITE, "mean"): [8 + i], CurveKey("gradient-cosine", "l"): [0.9]}) for i in range(3)]
    batch = [
        run_of({CurveKey("w1", *SITE, "mean"): [1 + i / 8], CurveKey("gradient-cosine", "l"): [0.5 + i / 100]})
        for i in range(3)
    ]
    assert found(none, batch, DRIFT, COSINE).sentences[-1] == (
        "the definitions disagree about batch: there is less shift with batch than with none by w1; "
        "there is more shift with batch than with none by gradient cosine"
    )


def test_definitions_that_agree_are_said_to() -> None:
    twice = Definition("w2", "w2", "pair", "", "ratio", "lower")
    none, batch = (
        [run_of({CurveKey("w1", *SITE, "mean"): [v + i / 9], CurveKey("w2", *SITE, "mean"): [v]}) for i in range(3)]
        for v in (8.0, 1.0)
    )
    assert found(none, batch, DRIFT, twice).sentences[-1] == (
        "by every definition measured there is less shift with batch than with none"
    )


def test_what_defines_no_shift_has_no_say_in_whether_they_agree() -> None:
    none, batch = (
        [run_of({CurveKey("w1", *SITE, "mean"): [v], CurveKey("stable-rank", *SITE): [v]})] * 3 for v in (8.0, 2.0)
    )
    assert not any("definition" in sentence for sentence in found(none, batch, DRIFT, RANK).sentences)


def test_layers_are_averaged_on_the_logarithmic_scale_and_one_that_goes_the_other_way_is_named() -> None:
    none = [run_of({CurveKey("w1", "a", "norm", "mean"): [4.0], CurveKey("w1", "b", "norm", "mean"): [1.0]})] * 3
    batch = [run_of({CurveKey("w1", "a", "norm", "mean"): [1.0], CurveKey("w1", "b", "norm", "mean"): [2.0]})] * 3
    findings = found(none, batch)
    assert overall(findings).estimate == pytest.approx(math.sqrt(1 / 4 * 2))
    assert findings.sentences[0].endswith("smaller with batch; the other way at b")


def test_a_layer_that_is_exactly_0_has_no_ratio_and_is_left_out_of_the_mean() -> None:
    none = [run_of({CurveKey("w1", "a"): [0.0], CurveKey("w1", "b"): [4.0]})] * 2
    batch = [run_of({CurveKey("w1", "a"): [0.0], CurveKey("w1", "b"): [2.0]})] * 2
    whole, a, b = found(none, batch).comparisons
    assert (whole.estimate, b.estimate) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (a.side, a.estimate, a.reason) == ("not comparable", None, "it is exactly 0, which has no ratio")


def test_what_is_within_sampling_noise_is_marked_and_said() -> None:
    none, batch = ([drifting(v, v, null=0.5)] * 3 for v in (0.4, 0.2))
    findings = found(none, batch)
    assert all(cell.within_noise for arm in findings.arms for cell in arm.cells)
    assert findings.sentences[0].endswith("; both are within sampling noise")
    assert not found([drifting(0.6, null=0.5)] * 2, []).arms[0].cells[0].within_noise


def test_a_trend_needs_an_interval_over_seeds_that_excludes_none() -> None:
    def trend(*runs: RunResult) -> str:
        return found(runs, []).arms[0].cells[0].trend

    assert trend(drifting(1, 2, 3), drifting(1, 2, 3.1), drifting(1, 2, 2.9)) == "rising"
    assert trend(drifting(3, 2, 1), drifting(3, 2, 1.1), drifting(3, 2, 0.9)) == "falling"
    assert trend(drifting(1, 2, 3), drifting(3, 2, 1)) == "open"
    assert trend(drifting(1, 2, 3)) == "open"


def test_one_seed_makes_no_claim() -> None:
    findings = found([drifting(8.0)], [drifting(1.0)])
    assert findings.sentences == ("no claim is made: one seed says nothing about the spread between seeds",)
    assert (overall(findings).low, overall(findings).high) == (None, None)


def test_what_one_arm_lacks_is_not_compared_and_says_why() -> None:
    findings = found([drifting(8.0)] * 2, [run_of({CurveKey("w1", "other", "norm", "mean"): [1.0]})] * 2)
    assert findings.sentences == (
        "w1 cannot be compared between batch and none: there is no layer at which both were measured",
    )


def test_layers_are_chosen_by_pattern() -> None:
    runs = [run_of({CurveKey("w1", "a.0", "norm", "mean"): [4.0], CurveKey("w1", "b.0", "norm", "mean"): [1.0]})] * 2
    assert [(cell.layer, cell.place) for cell in found(runs, runs, layers="b*").arms[0].cells] == [("b.0", "norm")]


def test_probing_is_a_share_of_training_time() -> None:
    findings = found([drifting(1.0)], [])
    assert findings.arms[0].probing == pytest.approx(0.05)
    assert "probing took, of training time: none 5.0 %, batch n/a" not in findings.notes
    assert any(note.startswith("probing took, of training time: none 5.0 %") for note in findings.notes)


def banded(units: Mapping[int | None, Sequence[float]]) -> RunResult:
    """A run whose percentiles lie 1 below and above the given middles."""
    curves: dict[CurveKey, list[float]] = {}
    for index, middles in units.items():
        for name, shift in zip(PERCENTILES, (-1, 0, 1), strict=True):
            key = CurveKey(name, *SITE, "median" if index is None else "", index)
            curves[key] = [m + shift for m in middles]
    return run_of(curves)


def test_a_band_is_the_median_unit_averaged_over_seeds() -> None:
    band = found([banded({None: [0, 2]}), banded({None: [2, 4]})], []).bands[0]
    assert (band.index, band.steps) == (None, (500, 1000))
    assert (band.low, band.middle, band.high) == ((0, 2), (1, 3), (2, 4))


def test_the_typical_unit_is_the_one_whose_band_moved_as_the_median_of_them_did() -> None:
    units = {None: [0, 0, 0], 0: [0, 9, 0], 1: [0, 1, 0], 2: [5, 5, 5]}
    assert [band.index for band in found([banded(units)], []).bands] == [None, 1]


@pytest.mark.parametrize("scale", ["ratio", "difference"])
def test_arms_that_are_the_same_are_not_told_apart(scale: Scale) -> None:
    runs = [drifting(v) for v in (1.0, 2.0, 4.0)]
    definition = Definition("w1", "w1", "pair", "", scale, "lower")
    assert overall(found(runs, runs, definition)).side == "same"


def random_drift(rng: np.random.Generator, draws: int, units: int) -> RunResult:
    """A run in which nothing moves: drifts and null draws are means over units of one distribution."""
    values = np.abs(rng.standard_normal((draws + 1, units))).mean(1).tolist()
    return run_of({CurveKey("w1", *SITE, "mean"): values[:1], CurveKey("w1", *SITE, "null"): values[1:]})


@pytest.mark.parametrize(("draws", "units"), [(2, 64), (5, 64), (18, 64), (25, 64), (39, 1), (5, 8)])
def test_what_did_not_move_lies_beyond_the_edge_of_noise_once_in_twenty_times(draws: int, units: int) -> None:
    rng = np.random.default_rng(draws)
    cells = [found([random_drift(rng, draws, units)], []).arms[0].cells[0] for _ in range(2000)]
    assert 0.03 <= np.mean([not cell.within_noise for cell in cells]) <= 0.07


def test_the_edge_of_a_study_is_that_of_drift_for_the_same_draws() -> None:
    draws = iter(np.random.default_rng(0).random(39).tolist())
    kept: list[float] = []

    def measure(first: Any, second: Any) -> Any:
        kept.append(next(draws))
        return torch.tensor(kept[-1], dtype=torch.float64)

    assert noise_edge(kept) is None
    assert noise_of(measure, 3, seed=0).upper.item() == noise_edge(kept)


def test_one_draw_has_no_edge_and_one_that_is_not_finite_none_either() -> None:
    assert noise_edge([0.5]) is None
    assert noise_edge([0.5, math.nan, 0.4]) is None
    assert not found([drifting(0.1, null=0.5)], []).arms[0].cells[0].within_noise


def test_every_draw_of_several_counts_and_their_mean_as_older_stores_have_it_does_not() -> None:
    draws = {CurveKey("w1", *SITE, "null", index): [float(index)] for index in range(19)}
    several = RunResult({"probes": {"null_draws": 19}}, RunInfo("id", "done", 1000, seconds=SECONDS), run_of(
        {CurveKey("w1", *SITE, "mean"): [17.5], CurveKey("w1", *SITE, "null"): [1.0], **draws}
    ).records)  # fmt: skip
    (cell,) = found([several], []).arms[0].cells
    assert (cell.null, cell.within_noise) == (18.0, True)


def test_what_is_not_finite_is_never_within_noise_and_is_not_compared() -> None:
    lost = found([drifting(0.1, null=0.5)] * 2, [drifting(0.1, math.nan, null=0.5)] * 2)
    assert [cell.within_noise for arm in lost.arms for cell in arm.cells] == [True, False]
    assert overall(lost).reason == "it is not a finite number in some run"
    assert "w1 cannot be compared between batch and none: it is not a finite number in some run" in lost.sentences


def test_a_diverged_run_is_never_within_noise() -> None:
    diverged = dataclasses.replace(drifting(0.1, null=0.5), info=RunInfo("id", "diverged", 700, seconds=SECONDS))
    assert not found([drifting(0.1, null=0.5), diverged], []).arms[0].cells[0].within_noise


def test_a_run_with_a_single_probe_has_no_drift_and_says_so() -> None:
    runs = [run_of({CurveKey("stable-rank", *SITE): [2.0]})] * 2
    arms = [ArmRuns(name, {}, dict(enumerate(runs))) for name in ("none", "batch")]
    ask = ShiftAsk("p", "?", "s", "p", "none", (DRIFT, RANK), (), 0.05, (), {}, {"w1": "there was one probe"})
    assert "w1 cannot be compared between batch and none: there was one probe" in analyse_shift(arms, ask).sentences


@pytest.mark.parametrize("lost", ["batch", "none"])
def test_nothing_is_said_of_the_shift_of_an_arm_whose_runs_all_diverged(lost: str) -> None:
    runs = {"none": [drifting(8.0), drifting(16.0)], "batch": [drifting(1.0), drifting(4.0)]}
    for each in range(2):
        assert overall(found(runs["none"], runs["batch"])).side != "not comparable"  # one that did not is enough
        runs[lost][each] = dataclasses.replace(runs[lost][each], info=RunInfo("id", "diverged", 700, seconds=SECONDS))
    findings = found(runs["none"], runs["batch"])
    assert findings.sentences == (f"w1 cannot be compared between batch and none: all runs of {lost} diverged",)
    assert {c.side for c in findings.comparisons} == {"not comparable"}
