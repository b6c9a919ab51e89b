"""From runs to findings: arms, comparisons, targets, warnings."""

import dataclasses
import math

import pytest

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import ArmRuns, analyse
from bncli.records import RunInfo, RunResult


def comparison(findings, variant, measure="steps_to_target"):
    arm = next(arm for arm in findings.arms if arm.variant == variant)
    return next(c for c in arm.comparisons if c.measure == measure)


def warned(findings, words):
    return [w for w in findings.warnings if words in w]


def two_arms(variant, reference):
    return [arm_of("none", [reaching(s) for s in reference]), arm_of("batch", [reaching(s) for s in variant])]


def test_a_faster_variant_is_better():
    found = comparison(analyse(two_arms([400] * 5, [900] * 5), ask_of()), "batch")
    assert found.verdict == "better"
    assert found.pairs == 5
    assert found.estimate == pytest.approx(4 / 9)
    assert (found.low, found.high) == pytest.approx((3 / 9, 4 / 8))
    assert found.probability_of_improvement == 1.0
    assert found.reason == ""


def test_a_slower_variant_is_worse():
    assert comparison(analyse(two_arms([900] * 5, [400] * 5), ask_of()), "batch").verdict == "worse"


def test_one_bracket_apart_is_inconclusive():
    assert comparison(analyse(two_arms([500] * 5, [400] * 5), ask_of()), "batch").verdict == "inconclusive"


def test_the_same_crossing_on_a_fine_grid_is_equivalent():
    arms = [arm_of(v, [reaching(900, every=10)] * 5) for v in ("none", "batch")]
    assert comparison(analyse(arms, ask_of()), "batch").verdict == "equivalent"


def test_an_arm_without_a_common_seed_is_not_comparable():
    arms = [arm_of("none", [reaching(400)]), ArmRuns("batch", {}, {7: reaching(300)})]
    found = comparison(analyse(arms, ask_of()), "batch")
    assert (found.verdict, found.pairs) == ("not comparable", 0)
    assert found.reason == "no seed has a run of both batch and none"


def test_what_was_not_measured_is_not_comparable():
    found = comparison(analyse(two_arms([400] * 3, [900] * 3), ask_of("final_loss")), "batch", "final_loss")
    assert (found.verdict, found.reason) == ("not comparable", "batch: loss was not measured")


def test_without_a_reference_nothing_is_comparable():
    found = comparison(analyse([arm_of("batch", [reaching(400)] * 3)], ask_of()), "batch")
    assert found.verdict == "not comparable"


def test_one_seed_has_no_interval_and_no_verdict():
    found = comparison(analyse(two_arms([400], [900]), ask_of()), "batch")
    assert (found.low, found.high, found.verdict, found.reason) == (None, None, "inconclusive", "one seed: no interval")
    assert found.estimate == pytest.approx(4 / 9)


def test_a_reference_that_never_gets_there_gives_an_upper_bound_with_a_reason():
    found = comparison(analyse(two_arms([400] * 5, [900] * 4 + [None]), ask_of()), "batch")
    assert found.estimate is None
    assert found.low is None
    assert found.high is not None
    assert found.verdict == "better"
    assert found.reason == "none: not reached within 1,000 steps in 1 of 5 pairs, so that the ratio has no lower limit"


def test_final_accuracies_are_compared_by_their_difference():
    arms = [arm_of("none", [reaching(900, f) for f in (0.96, 0.97)]), arm_of("batch", [reaching(400, 0.98)] * 2)]
    found = comparison(analyse(arms, ask_of()), "batch", "final_accuracy")
    half = 12.706204736 * math.sqrt(0.5) * 0.01 / math.sqrt(2)
    assert found.estimate == pytest.approx(0.015)
    assert (found.low, found.high) == pytest.approx((0.015 - half, 0.015 + half))


def test_only_paired_seeds_are_compared():
    none, batch = two_arms([400] * 5, [900] * 5)
    batch = dataclasses.replace(batch, runs={s: r for s, r in batch.runs.items() if s != 3})
    findings = analyse([none, batch], ask_of())
    assert comparison(findings, "batch").pairs == 4
    assert warned(findings, "batch: no run for seed 3; 4 of 5 seeds remain; the same command trains what is missing")


def test_a_failed_run_counts_as_missing():
    none, batch = two_arms([400] * 3, [900] * 3)
    failed = RunResult(none.runs[0].spec, RunInfo("id", "failed", 0, "out of memory"))
    findings = analyse([none, dataclasses.replace(batch, runs={**batch.runs, 1: failed})], ask_of())
    assert findings.arms[1].seeds == 2
    assert findings.arms[1].statuses == {"done": 2}


def test_arms_are_compared_at_their_own_setting():
    low, high = ({"training.lr": lr} for lr in (0.1, 0.5))
    arms = [
        arm_of("none", [reaching(900)] * 5, low),
        arm_of("batch", [reaching(300)] * 5, low),
        arm_of("none", [reaching(200)] * 5, high),
        arm_of("batch", [reaching(600)] * 5, high),
    ]
    findings = analyse(arms, ask_of())
    assert [c.verdict for arm in findings.arms for c in arm.comparisons[:1]] == ["better", "worse"]
    assert [arm.is_reference for arm in findings.arms] == [True, False, True, False]


def test_the_target_can_be_the_median_final_accuracy_of_a_variant():
    arms = [
        arm_of("none", [reaching(900, f) for f in (0.95, 0.96, 0.97)]),
        arm_of("batch", [reaching(400, 0.98)] * 3),
    ]
    findings = analyse(arms, ask_of(target=None, final_of="none"))
    assert [arm.target for arm in findings.arms] == [0.96, 0.96]
    assert [arm.reached for arm in findings.arms] == [2, 3]
    assert findings.measures[0].label == "steps to 96 %"


def test_each_setting_has_its_own_target():
    arms = [
        arm_of(variant, [reaching(400, final)] * 2, {"training.lr": lr})
        for lr, final in ((0.1, 0.96), (0.5, 0.97))
        for variant in ("none", "batch")
    ]
    findings = analyse(arms, ask_of(target=None, final_of="none"))
    assert [arm.target for arm in findings.arms] == [0.96, 0.96, 0.97, 0.97]
    assert findings.measures[0].label == "steps to final of none"


def test_a_target_of_a_variant_without_runs_is_no_target():
    findings = analyse([arm_of("none", [reaching(400)] * 2)], ask_of(target=None, final_of="batch"))
    assert findings.arms[0].target is None
    assert findings.arms[0].reached is None


def test_a_summary_is_mean_and_standard_deviation_over_seeds():
    found = analyse([arm_of("none", [reaching(s) for s in (400, 500, 600)])], ask_of()).arms[0].summaries[0]
    assert (found.mean, found.std, found.reason) == (500, 100, "")


def test_a_summary_with_a_censored_run_is_the_median():
    found = analyse([arm_of("none", [reaching(s) for s in (400, 500, None)])], ask_of()).arms[0].summaries[0]
    assert (found.mean, found.std, found.median) == (None, None, 500)
    assert found.reason == "1 of 3 runs have no value: not reached within 1,000 steps"


def test_the_median_is_not_reached_where_half_did_not():
    found = analyse([arm_of("none", [reaching(s) for s in (400, None)])], ask_of()).arms[0].summaries[0]
    assert (found.mean, found.median) == (None, None)


def test_the_spread_of_one_run_is_unknown_not_zero():
    found = analyse([arm_of("none", [reaching(400)])], ask_of()).arms[0].summaries[0]
    assert (found.mean, found.std, found.reason) == (400, None, "one run has no standard deviation")


def test_time_a_step_is_in_milliseconds():
    arm = analyse([arm_of("none", [reaching(400)] * 3)], ask_of()).arms[0]
    assert arm.ms_per_step == pytest.approx(0.5)
    assert arm.parameters == 1234


def test_an_arm_without_runs_is_shown_as_such():
    arm = analyse([arm_of("none", [reaching(400)]), arm_of("batch", [])], ask_of()).arms[1]
    assert (arm.seeds, arm.reached, arm.ms_per_step, arm.parameters) == (0, 0, None, None)
    assert arm.summaries[0].reason == "no run"


@pytest.mark.parametrize(
    ("seeds", "warning"),
    [
        (1, ["1 seed: no claim is made; use 5 or more: --seeds 5"]),
        (3, ["3 seeds: intervals rest on few runs; use 5 or more: --seeds 5"]),
        (5, []),
    ],
)
def test_few_seeds_are_warned_of(seeds, warning):
    findings = analyse(two_arms([400] * seeds, [900] * seeds), ask_of())
    assert [w for w in findings.warnings if "seed" in w and "evaluate" not in w] == warning


def test_diverged_runs_are_named_and_counted_as_chance():
    none, batch = two_arms([400] * 5, [900] * 5)
    diverged = run_of({0: 0.1, 100: 0.6}, status="diverged", step=140)
    findings = analyse([none, dataclasses.replace(batch, runs={**batch.runs, 2: diverged})], ask_of())
    said = "batch: 1 of 5 runs diverged (seed 2 at step 140); lower training.lr, or set training.clip"
    assert warned(findings, said) == [said]
    assert "a diverged run counts as chance: 10.0 % final accuracy" in [note.text for note in findings.notes]
    assert findings.arms[1].statuses == {"done": 4, "diverged": 1}
    assert findings.arms[1].summaries[1].values[2].value == 0.1


def test_a_diverged_run_makes_its_loss_worse_not_unknown():
    none = arm_of("none", [run_of(loss={0: 2.3, 1000: 0.1})] * 3)
    batch = arm_of("batch", [run_of(loss={0: 2.3}, status="diverged", step=9)] * 3)
    found = comparison(analyse([none, batch], ask_of("final_loss")), "batch", "final_loss")
    assert (found.estimate, found.high, found.verdict) == (None, None, "worse")
    assert found.low == pytest.approx(2.2)


def test_a_grid_that_dominates_the_interval_is_warned_of():
    assert warned(analyse(two_arms([400] * 5, [900] * 5), ask_of()), "evaluate more often") == [
        "steps to 95 %: over half of the interval's width comes from how seldom runs are evaluated, not from the seeds "
        "(batch); evaluate more often (--set evaluation.every=50)"
    ]


def test_a_grid_finer_than_the_spread_is_not_warned_of():
    spread = (300, 400, 500, 600, 700)
    arms = [
        arm_of("none", [reaching(900, every=5)] * 5),
        arm_of("batch", [reaching(s, every=5) for s in spread]),
    ]
    assert not warned(analyse(arms, ask_of()), "evaluate more often")


def test_a_target_met_before_training_is_warned_of():
    findings = analyse(two_arms([0] * 5, [900] * 5), ask_of())
    assert warned(
        findings, "batch: 5 of 5 runs met the target before training; set a harder one (--set target.accuracy=LEVEL)"
    )


def test_an_arm_compared_with_its_own_copy_is_never_better_or_worse():
    steps = (300, 400, 500, 600, 700)
    runs = [reaching(step, 0.97 + step / 1e5) for step in steps]
    findings = analyse([arm_of("none", runs), arm_of("batch", runs)], ask_of())
    assert comparison(findings, "batch").estimate == pytest.approx(1)
    assert comparison(findings, "batch").verdict == "inconclusive"
    assert comparison(findings, "batch", "final_accuracy").verdict == "equivalent"


def test_a_loss_is_in_nats_for_classes_and_a_squared_error_for_numbers():
    def measure(classes):
        arm = arm_of("none", [run_of(loss={0: 2.0, 100: 1.0}, classes=classes)] * 2)
        return analyse([arm], ask_of("loss_change")).measures[0]

    assert (measure(10).unit, measure(10).label) == ("nats", "loss change (nats)")
    assert (measure(0).unit, measure(0).label) == ("squared error", "loss change (squared error)")


def test_a_divergence_says_which_parameter_had_grown_most():
    none, batch = two_arms([400] * 5, [900] * 5)
    diverged = run_of({0: 0.1, 100: 0.6}, norms={"layers.3.weight": {0: 2.0, 100: 9.0}}, status="diverged", step=140)
    findings = analyse([none, dataclasses.replace(batch, runs={**batch.runs, 2: diverged})], ask_of())
    assert warned(findings, "(seed 2 at step 140); by step 100 the norm of layers.3.weight had grown most, 4.5x")
