"""Verdicts of whole studies: several variants at once, several looks, runs that diverge; and what is said of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from performance.verdict_quality import (
    DIFFERENCES,
    PLANS,
    STUDIES,
    accuracies,
    as_advised,
    at_whim,
    compared,
    coverage,
    false_verdicts,
    once,
    power,
    until_decided,
)

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import analyse
from bncli.analysis.comparisons import holm
from bncli.findings import Claim, Looks

NOTHING = np.random.default_rng(5).normal(0.97, 0.003, 30)


def made(*means, seeds=10, spread=0.003):
    """(1 + variants, seeds): a reference at 0.9 and variants that differ from it by so much."""
    rng = np.random.default_rng(len(means) * seeds)
    return rng.normal(0.9, spread, (1 + len(means), seeds)) + np.array([0, *means])[:, None]


@pytest.mark.parametrize("plan", PLANS)
def test_at_most_6_of_100_studies_without_a_difference_claim_one(plan):
    """A few hundred studies, so that a fault of the old size (12 to 19 of 100) shows; the nightly test has 4,000."""
    studies = 300
    found = false_verdicts(PLANS[plan], 2, 0.05, studies)
    assert found <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.nightly
@pytest.mark.parametrize("diverging", [0, 0.05, 0.1])
@pytest.mark.parametrize("variants", [1, 5])
@pytest.mark.parametrize("plan", PLANS)
def test_at_most_6_of_100_of_4000_studies_without_a_difference_claim_one(plan, variants, diverging):
    assert false_verdicts(PLANS[plan], variants, diverging, STUDIES) <= 0.06


@pytest.mark.nightly
@pytest.mark.parametrize("seeds", [5, 8, 10, 15, 30, 50])
@pytest.mark.parametrize("kind", [kind for kind in DIFFERENCES if kind != "lognormal (.5), bare"])
def test_93_to_97_of_100_intervals_hold_the_mean(kind, seeds):
    assert 0.93 <= coverage(kind, seeds) <= 0.97


def test_effects_of_one_and_two_standard_deviations_are_found():
    assert power(once(10), 4, 2, 50)[0] > 0.95
    assert power(once(30), 4, 1, 50)[0] > 0.95
    assert power(until_decided(5, 8, 10, 15, 20, 30, 50), 4, 1, 30)[0] > 0.95


def test_each_of_four_variants_needs_more_than_it_would_alone():
    values = made(0.0025, 0, 0, 0)
    alone, (first, *_) = compared(values[:2])[0], compared(values)
    assert (alone.verdict, alone.level, alone.family) == ("better", 0.95, 1)
    assert (first.verdict, first.level, first.family) == ("inconclusive", 0.9875, 4)
    assert (first.low, first.high) == (alone.low, alone.high)
    assert first.low > 0 > first.corrected_low
    assert first.corrected_high > first.high


def test_what_is_decided_no_longer_counts_for_the_others():
    values = made(0.1, 0.1, 0.0025, 0)
    found = compared(values)
    assert [c.family for c in found] == [4, 4, 2, 2]
    assert [c.level for c in found] == pytest.approx([0.9875, 0.9875, 0.975, 0.975])


def test_a_verdict_is_better_or_worse_where_the_corrected_p_is_at_most_5_percent():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.normal(0.9, 0.003, (5, 10)) + rng.choice([0, 0.004], 5)[:, None]
        for c in compared(values):
            assert (c.verdict in ("better", "worse")) == (c.p_holm <= 0.05) or c.verdict == "equivalent"
            assert c.method == "exact test"


def test_the_interval_that_is_printed_allows_what_the_verdict_says():
    for seed in range(40):
        values = np.random.default_rng(seed).normal(0.9, 0.003, (5, 12))
        for looks in (Looks(), Looks(planned=(5, 8, 12)), Looks(unplanned=(5,))):
            for c in compared(values, looks):
                apart = c.corrected_low > 0 or c.corrected_high < 0
                assert (c.verdict in ("better", "worse")) == apart or c.verdict == "equivalent"


def test_every_setting_of_a_sweep_belongs_to_the_family():
    arms = [
        arm_of(variant, [reaching(step + 100 * (i % 2)) for i in range(6)], {"training.lr": lr})
        for lr in (0.1, 0.5)
        for variant, step in (("none", 500), ("batch", 500))
    ]
    found = [c for arm in analyse(arms, ask_of()).arms for c in arm.comparisons[:1]]
    assert [c.family for c in found] == [2, 2]


def losses(*finals):
    return [run_of(loss={0: 2.3, 1000: final}) for final in finals]


def test_the_headline_prints_the_corrected_interval_and_the_note_says_so():
    rng = np.random.default_rng(0)
    arms = [arm_of(f"v{i}" if i else "none", losses(*rng.normal(0.5, 0.1, 10))) for i in range(5)]
    findings = analyse(arms, ask_of("final_loss"))
    first = findings.arms[1].comparisons[0]
    assert f"95 % interval {first.corrected_low:+.4f} to {first.corrected_high:+.4f}" in findings.headlines[0]
    text = "[ ] is a 95 % interval over pairs of runs with the same seed, corrected for 4 variants"
    (note,) = [n for n in findings.notes if n.text == text]
    assert (
        "the intervals are therefore taken at 98.75 % (Holm's correction), so that in 95 % of studies no verdict of a "
        "column is wrong. An exact test underlies it"
    ) in note.explanation


def test_five_pairs_say_that_they_rest_on_normality():
    arms = [arm_of(v, losses(*np.linspace(at, at + 0.1, 5) ** 2)) for v, at in (("none", 0.9), ("batch", 0.1))]
    findings = analyse(arms, ask_of("final_loss"))
    assert findings.arms[1].comparisons[0].method == "t-interval, rests on normality"
    assert (
        "5 seeds cannot reach p < .05; 6 can: --seeds 6 (until then verdicts assume normally distributed differences)"
    ) in [n.text for n in findings.notes]


def judged(measure, variant, reference):
    arms = [arm_of("none", reference), arm_of("batch", variant)]
    findings = analyse(arms, ask_of(measure))
    return findings.arms[1].comparisons[0], findings.headlines[0]


def test_ten_pairs_that_all_got_there_are_not_equivalent():
    found, sentence = judged("reached", [reaching(400)] * 10, [reaching(400)] * 10)
    assert (found.verdict, found.method, found.reason) == ("inconclusive", "exact test", "")
    assert (found.low, found.high) == pytest.approx((-0.3085, 0.3085), abs=5e-5)
    assert "inconclusive: batch and none differ in share of runs that reach the target by +0 points" in sentence
    assert "(95 % interval -31 to +31)" in sentence


def test_hundred_pairs_that_all_got_there_are():
    assert judged("reached", [reaching(400)] * 100, [reaching(400)] * 100)[0].verdict == "equivalent"


def test_where_every_run_has_the_same_value_nothing_says_how_it_varies():
    found, sentence = judged("restricted_steps", [reaching(None)] * 10, [reaching(None)] * 10)
    assert (found.verdict, found.low, found.high) == ("inconclusive", None, None)
    assert sentence == (
        "inconclusive: batch had 1.00x the mean steps to the target (up to the budget) of none, better in 5 of 10 pairs;"
        " every run has the same value, 1000, so that nothing says how it varies"
    )


def extended(looks):
    rng = np.random.default_rng(1)
    arms = [arm_of(v, losses(*rng.normal(at, 0.1, 10))) for v, at in (("none", 0.5), ("batch", 0.48))]
    return analyse(arms, replace(ask_of("final_loss"), looks=looks))


def test_a_study_extended_after_a_look_is_judged_by_an_e_value_and_says_so():
    once_, later = extended(Looks()), extended(Looks(unplanned=(5,)))
    first, again = (f.arms[1].comparisons[0] for f in (once_, later))
    assert (first.low, first.high) == (again.low, again.high)
    assert again.corrected_high - again.corrected_low > 1.3 * (first.corrected_high - first.corrected_low)
    assert again.method == "e-value, rests on normality"
    (note,) = [n for n in later.notes if n.text.startswith("[ ]")]
    assert note.text.endswith("with the same seed; it allows for the reports with 5 seeds before this one")
    assert "so its verdicts follow from e-values at 97.5 %, which hold at any number of looks and are wider" in (
        note.explanation
    )


def test_a_study_planned_to_be_looked_at_says_with_how_many_seeds():
    (note,) = [note for note in extended(Looks(planned=(5, 10, 15))).notes if note.text.startswith("[ ]")]
    assert note.text.endswith("; it allows for looks at 5, 10 or 15 seeds")
    assert (
        "so that all looks together are wrong in 5 % of studies, verdicts follow from intervals at 97."
    ) in note.explanation


def test_an_open_headline_says_how_many_more_seeds_would_decide_and_by_which_rule():
    (sentence,) = extended(Looks()).headlines
    more = extended(Looks()).arms[1].comparisons[0].more_seeds
    assert sentence.endswith(f"; about {more} more seeds would decide: --seeds {10 + more}")


def test_who_follows_the_advice_finds_what_there_is():
    found, seeds = power(as_advised(5, 50), 1, 1, 60)
    assert found > 0.9
    assert seeds < 30


def test_an_extension_costs_less_than_it_finds():
    assert power(at_whim(5, 10, 15, 20), 1, 2, 60)[0] > 0.95


def test_runs_that_diverge_are_in_the_simulation():
    assert np.mean(accuracies(2, 0.1, 100) == 0.1) == pytest.approx(0.1, abs=0.01)


def test_holm_is_over_the_whole_measure():
    found = compared(made(0.002, 0.001, 0))
    assert [c.p_holm for c in found] == holm([c.p for c in found])


def timed(*seconds):
    """Runs of 1,000 steps that took so long."""
    run = run_of({0: 0.5, 1000: 0.9})
    return [replace(run, info=replace(run.info, seconds={"training": each})) for each in seconds]


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs", "verdict"),
    [
        ([3.0] * 10, [4.0] * 10, 1, "inconclusive"),  # ten lanes of one job, which was timed once
        ([3.0] * 5 + [4.5] * 5, [4.0] * 5 + [4.1] * 5, 2, "inconclusive"),  # two jobs
        ([3.0 + i / 100 for i in range(10)], [4.0 + i / 90 for i in range(10)], 10, "better"),  # trained one by one
    ],
)
def test_seeds_that_were_timed_together_are_one_measurement(ours, theirs, pairs, verdict):
    claim = Claim("seconds_per_step", "batch", "none", {}, "ratio", 1.0, None, "us")
    ask = replace(ask_of("seconds_per_step", target=None), claims=(claim,))
    found = analyse([arm_of("none", timed(*theirs)), arm_of("batch", timed(*ours))], ask)
    (comparison,), (judged,) = found.arms[1].comparisons, found.claims
    assert (comparison.pairs, comparison.verdict) == (pairs, verdict)
    assert (judged.pairs, judged.outcome) == (pairs, "confirmed" if verdict == "better" else "undecided")
    if pairs == 1:
        assert comparison.reason == judged.reason == (
            "seeds trained together are timed once: no interval; --engine plain times them one by one"
        )  # fmt: skip
