"""What a search over several keys says, on trials made by hand."""

import dataclasses
import math
import random

import pytest
from scipy.stats import kruskal

from analysis.made_runs import ask_of, reaching, run_of
from bncli.analysis import ArmRuns, analyse
from bncli.analysis.readers import TrialRuns
from bncli.analysis.search import rank, weigh_keys
from bncli.findings import Trial
from bncli.report.study.table import trial_lines

SPACE = {"training.lr": {"log": [1e-3, 10.0]}, "training.batch_size": [16, 32, 64]}


def runs(*accuracies, steps=90):
    return {
        1000 + i: run_of({0: 0.1, steps: a}, {0: 2.3, steps: 1 - a}, budget=steps) for i, a in enumerate(accuracies)
    }


def trial(lr, size, *rungs):
    """`rungs` are lists of accuracies by seed, at 10, 30 and 90 steps; one alone is at 90."""
    steps = (10, 30, 90)[: len(rungs)] if len(rungs) > 1 else (90,)
    point = {"training.lr": lr, "training.batch_size": size}
    return TrialRuns(point, [runs(*accuracies, steps=at) for accuracies, at in zip(rungs, steps, strict=True)])


def searched(*trials, by="validation_accuracy", variant="none"):
    arm = ArmRuns(variant, {}, {0: reaching(400)}, trials=trials)
    ask = dataclasses.replace(ask_of("steps_to_target"), chosen_by=by, space=SPACE, sampler="halton")
    return analyse([arm], ask)


def test_the_best_is_the_highest_median_not_the_highest_run_and_of_equals_the_earlier():
    lucky, good, same = trial(0.1, 16, [0.99, 0.5, 0.5]), trial(1, 16, [0.9, 0.9, 0.9]), trial(2, 16, [0.9, 0.9, 0.9])
    assert [t.point["training.lr"] for t in rank([lucky, good, same], 0, "validation_accuracy")] == [1, 2, 0.1]


def test_what_was_left_at_a_rung_is_not_chosen_for_its_score_there():
    findings = searched(trial(0.1, 16, [0.99]), trial(1, 32, [0.5], [0.6], [0.9]), trial(2, 32, [0.5], [0.6], [0.8]))
    (found,) = findings.searches
    assert found.chosen == {"training.lr": 1, "training.batch_size": 32}
    assert findings.arms[0].chosen == found.chosen


def test_by_loss_the_lowest_is_best_and_a_diverged_trial_the_worst():
    gone = trial(9, 64, [0.5])
    gone.rungs[0][1000] = run_of({0: 0.5}, {0: 2.3}, status="diverged", step=3, budget=90)
    (found,) = searched(gone, trial(0.1, 16, [0.7]), trial(1, 16, [0.8]), by="validation_loss").searches
    assert found.chosen["training.lr"] == 1
    assert found.best_so_far == (-math.inf, pytest.approx(-0.3), pytest.approx(-0.2))


def test_findings_say_what_was_tried_and_what_it_cost():
    findings = searched(
        trial(0.01, 16, [0.2, 0.3], [], []),
        trial(0.1, 32, [0.4, 0.6], [0.7, 0.7], [0.9, 0.8]),
        trial(1, 32, [0.3, 0.4], [0.6, 0.6]),
    )
    (found,) = findings.searches
    assert found.best_so_far == (0.25, 0.5, 0.5)
    assert [(t.first, t.steps, t.median) for t in found.trials] == [
        (0.25, 10, 0.25), (0.5, 90, pytest.approx(0.85)), (0.35, 30, 0.6)
    ]  # fmt: skip
    assert (found.runs, found.steps) == (12, 2 * (10 + 90 + 30))
    assert (
        "lr and batch_size were searched for each variant by 3 trials x 2 seeds of halton, the better third going on after"
        " 10 and 30 steps, by validation accuracy: 12 runs, 260 steps; the report's seeds are fresh"
    ) in [n.text for n in findings.notes]
    assert (
        "none: lr 0.1, batch_size 32 was best (85.0 %); how much each key mattered is not known (3 trials; it takes 20)"
    ) in [n.text for n in findings.notes]
    assert not [note for note in [n.text for n in findings.notes] if "Kruskal" in note]


def test_a_rung_that_only_the_later_best_passed_counts_as_one():
    (found,) = searched(trial(0.1, 16, [0.2]), trial(1, 32, [0.5], [0.6], [0.9])).searches
    assert found.rungs == (10, 30, 90)


def tried(score, count=40, seed=0):
    draw = random.Random(seed)
    points = [
        {"training.lr": 10 ** draw.uniform(-3, 1), "training.batch_size": draw.choice([16, 32, 64])}
        for _ in range(count)
    ]
    scores = [score(point, draw) for point in points]
    return [Trial(p, s, 90, {1000: s}, s) for p, s in zip(points, scores, strict=True)]


def peaked(point, draw):
    return 0.9 - 0.2 * abs(math.log10(point["training.lr"] / 0.1))


def test_a_key_whose_best_lies_in_the_middle_explains_what_it_does():
    weights = {each.key: each for each in weigh_keys(tried(peaked), SPACE)}
    assert weights["training.lr"].share > 0.6
    assert weights["training.lr"].p < 1e-4
    assert weights["training.batch_size"].share < 0.1


def test_keys_that_matter_nothing_explain_nothing_on_average():
    noise = [list(weigh_keys(tried(lambda point, draw: draw.random(), seed=i), SPACE)) for i in range(200)]
    for key in (0, 1):
        assert sum(found[key].p < 0.05 for found in noise) < 20
        assert sum(found[key].share for found in noise) / 200 < 0.04


def test_p_is_that_of_kruskal_and_wallis_also_where_scores_are_tied():
    trials = tried(lambda point, draw: draw.choice([0.1, 0.5, 0.6]))
    _, weight = weigh_keys(trials, SPACE)
    groups = [[t.first for t in trials if t.values["training.batch_size"] == size] for size in (16, 32, 64)]
    expected = kruskal(*groups)
    assert weight.p == pytest.approx(expected.pvalue)
    assert weight.share == pytest.approx(max(0, (expected.statistic - 2) / 37))


def test_too_few_trials_give_no_importance_and_say_so():
    lr, size = weigh_keys(tried(peaked, count=19), SPACE)
    assert (lr.share, lr.p, lr.reason) == (None, None, "19 trials; it takes 20")
    assert size.share is not None


def test_trials_that_all_score_the_same_say_nothing_of_any_key():
    lr, _ = weigh_keys(tried(lambda point, draw: 0.1), SPACE)
    assert (lr.share, lr.reason) == (None, "all trials have one value, or one score")


def test_importance_is_said_in_words_the_clear_key_with_its_share():
    trials = [trial(t.values["training.lr"], t.values["training.batch_size"], [t.first]) for t in tried(peaked)]
    findings = searched(*trials)
    (found,) = findings.searches
    (note,) = [note for note in [n.text for n in findings.notes] if note.startswith("none: lr")]
    share = 100 * found.importances[0].share
    assert note.endswith(
        f"of the differences between its trials lr explains {share:.0f} %; batch_size explains no more than chance would"
    )


@pytest.mark.parametrize(
    ("lr", "size", "on_edge"),
    [(0.0011, 32, ("training.lr",)), (0.01, 32, ()), (9.0, 64, ("training.lr", "training.batch_size")), (0.1, 16, ("training.batch_size",))],
)  # fmt: skip
def test_a_best_at_an_end_of_what_was_tried_is_flagged(lr, size, on_edge):
    findings = searched(trial(lr, size, [0.9]), trial(0.5, 32, [0.5]))
    assert findings.searches[0].on_edge == on_edge
    values = {"training.lr": lr, "training.batch_size": size}
    assert [warning for warning in findings.warnings if "edge" in warning] == [
        f"none: the best {key.split('.')[-1]}, {values[key]:g}, is at the edge of the space and may be better beyond;"
        " widen it for all"
        for key in on_edge
    ]


def test_the_table_shows_the_best_so_far_by_number_of_trials():
    findings = searched(*(trial(0.1 * (i + 1), 16, [a]) for i, a in enumerate([0.2, 0.5, 0.4, 0.9, 0.3, 0.8, 0.7])))
    lines = [line.plain.rstrip() for line in trial_lines(findings, 100)]
    assert lines[1:] == [
        "best validation accuracy, %, median over seeds, after so many trials of 90 steps",
        " variant      1     2     5     7",
        " none      20.0  50.0  90.0  90.0",
    ]
