"""The answer to a study's question, in every setting that there is."""

import dataclasses

import pytest

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import ArmRuns, analyse
from bncli.analysis.readers import TrialRuns
from bncli.measures import Metric


def arm(variant, steps, setting=None, **how):
    return arm_of(variant, [reaching(step, **how) for step in steps], setting)


def ending(variant, finals):
    """An arm that never reaches the target, and ends at these accuracies."""
    return arm_of(variant, [reaching(None, final) for final in finals])


def diverging(variant, lr=None):
    runs = [run_of({0: 0.1}, {0: 2.3}, status="diverged", step=30)] * 5
    if lr:
        runs = [dataclasses.replace(r, spec={**r.spec, "training": {**r.spec["training"], "lr": lr}}) for r in runs]
    return arm_of(variant, runs)


def answer(*arms, measures=(), **changes):
    return analyse(arms, dataclasses.replace(ask_of(*measures), **changes)).answer


def test_the_fastest_of_several_is_named_with_by_how_much_and_how_sure():
    assert answer(arm("none", [900] * 5), arm("batch", [400] * 5), arm("zca", [500] * 5)) == (
        "batch was fastest: it reached 95 % test accuracy in 0.44x the steps of none (95 % interval 0.33 to 0.50), "
        "better in 5 of 5 pairs"
    )


def test_of_two_one_is_faster():
    assert answer(arm("none", [900] * 5), arm("batch", [400] * 5)).startswith("batch was faster: it reached 95 %")


def test_what_is_inconclusive_beside_the_best_is_named():
    late = arm("late", [900, 700, 900, 1000, 800])
    assert answer(arm("none", [900] * 5), arm("batch", [400] * 5), late).endswith("; inconclusive: late")


def test_the_reference_may_be_the_fastest():
    assert answer(arm("none", [400] * 5), arm("batch", [800] * 5)) == (
        "none was faster: batch reached 95 % test accuracy in 2.00x the steps of none (95 % interval 1.75 to 2.67), "
        "worse in 5 of 5 pairs"
    )
    assert answer(arm("none", [400] * 5), arm("batch", [None] * 5), arm("zca", [800] * 5)).startswith(
        "none was fastest; the nearest: zca reached 95 % test accuracy in 2.00x the steps of none"
    )


def test_where_nobody_got_there_it_says_so_and_what_to_change_and_what_does_differ():
    none, batch = (ending(v, [at + i / 100 for i in range(5)]) for v, at in (("none", 0.2), ("batch", 0.54)))
    assert answer(none, batch) == (
        "no run reached 95 % test accuracy within 1,000 steps; the best run, of variant batch, got to 58 %; train "
        "longer (--set training.steps=2000) or set a nearer target (--set target.accuracy=0.54); but batch had the "
        "better final test accuracy: +34.0 points against none (95 % interval +34.0 to +34.0), better in 5 of 5 pairs"
    )


def test_the_nearer_target_is_one_that_every_run_reached_where_there_is_one():
    none, batch = ending("none", [0.62, 0.637]), ending("batch", [0.7, 0.8])
    assert "--set target.accuracy=0.62)" in answer(none, batch)


def test_no_nearer_target_is_named_where_training_led_nowhere():
    assert answer(ending("none", [0.5] * 5), ending("batch", [0.5] * 5)) == (
        "no run reached 95 % test accuracy within 1,000 steps; the best run, of variant none, got to 50 %; train "
        "longer (--set training.steps=2000)"
    )


def test_where_too_few_got_there_it_says_how_many():
    assert answer(arm("none", [None] * 4 + [900]), arm("batch", [500, 600, None, None, 800])) == (
        "too few runs reached 95 % test accuracy to tell which is faster (none 1 of 5, batch 3 of 5); train longer "
        "(--set training.steps=2000)"
    )


@pytest.mark.parametrize("made", ["by a task", "elsewhere"])
def test_of_a_task_and_of_runs_made_elsewhere_no_step_count_can_be_set(made):
    assert "; train longer or set a nearer target (--set target.accuracy=0.6" in answer(
        ending("none", [0.62] * 5), ending("batch", [0.7, 0.71, 0.72, 0.73, 0.74]), made=made
    )


def test_what_is_inconclusive_says_by_how_much_it_may_differ_and_how_many_seeds_would_decide():
    none = arm_of("none", [run_of(loss={0: 2.3, 1000: v}) for v in (0.5, 0.5, 0.5)])
    batch = arm_of("batch", [run_of(loss={0: 2.3, 1000: v}) for v in (0.3, 0.4, 0.5)])
    assert answer(none, batch, measures=["final_loss"]) == (
        "inconclusive: batch and none differ in final test loss by -0.1000 nats (95 % interval -0.3484 to +0.1484), "
        "better in 2.5 of 3 pairs (ties count half); about 14 more seeds would decide: --seeds 17"
    )


def test_of_several_that_are_inconclusive_the_most_promising_is_said():
    none, batch = arm("none", [400, 500, 600, 500, 500]), arm("batch", [500, 400, 500, 600, 500])
    assert answer(none, batch, arm("zca", [400, 300, 600, 500, 500])).startswith(
        "inconclusive: no variant is surely better than none; the most promising: zca reached 95 % test accuracy in "
        "0.90x the steps of none (95 % interval 0.43 to 1.64), better in 3 of 5 pairs"
    )


def test_equivalent_is_no_difference_that_matters():
    none, batch, zca = (arm(v, [900] * 5, every=10) for v in ("none", "batch", "zca"))
    assert answer(none, batch) == (
        "no difference that matters: batch reached 95 % test accuracy in 1.00x the steps of none (95 % interval 0.99 "
        "to 1.01, within the margin of 1/1.05 to 1.05x)"
    )
    slow = arm("slow", [1000] * 5, every=10)
    assert answer(none, batch, zca, slow) == (
        "no difference that matters in steps to 95 % from none to batch and zca; worse: slow"
    )


def test_one_seed_gives_its_number_and_no_answer():
    assert answer(arm("none", [900]), arm("batch", [400])) == (
        "no answer yet: one seed says nothing about how much runs differ by chance (in this one batch reached 95 % "
        "test accuracy in 0.44x the steps of none); use 5 or more: --seeds 5"
    )


def test_nothing_comparable_says_why():
    assert answer(arm("none", [900] * 2)) == (
        "nothing is compared: there are runs of none alone; add other variants with --variants"
    )
    assert answer(arm("none", [900]), ArmRuns("batch", {}, {7: reaching(300)})) == (
        "nothing can be compared: no seed has a run of both batch and none"
    )
    assert answer(arm("none", []), arm("batch", [])) == (
        "no run has numbers, so nothing is compared; bncli train shows how each ended"
    )


def test_where_every_run_diverged_the_learning_rate_is_to_be_lowered():
    assert answer(diverging("none", lr=2.0), diverging("batch", lr=2.0)) == (
        "every run diverged, so nothing is known of the steps to 95 %; lower the learning rate (--set training.lr=0.2)"
    )
    assert answer(diverging("none"), diverging("batch")).endswith("; lower the learning rate")


def test_a_reference_that_diverged_bounds_the_ratio():
    assert answer(diverging("none"), arm("batch", [400] * 5)) == (
        "batch was faster: it reached 95 % test accuracy in at most 0.40x the steps of none (end of the 95 % "
        "interval), better in 5 of 5 pairs; none: not reached within 1,000 steps, diverged at step 30 in 5 of 5 "
        "pairs, so that the ratio has no lower limit"
    )


def test_another_measure_than_a_target_names_what_was_better():
    none, batch = arm("none", [900] * 5), arm_of("batch", [reaching(400, 0.98)] * 5)
    assert answer(none, batch, measures=["final_accuracy"]) == (
        "batch had the better final test accuracy: +1.0 points against none (95 % interval +1.0 to +1.0), "
        "better in 5 of 5 pairs"
    )
    assert answer(none, batch, measures=["restricted_steps"]).startswith(
        "batch had the better mean steps to the target (up to the budget): 0.44x that of none (95 % interval"
    )


def swept(slow=(), lrs=(0.1, 0.5)):
    """Three variants at several learning rates; at the slow ones batch is no faster than none."""
    steps = [("none", 800), ("batch", 300)]
    return [
        arm(variant, [(800 if lr in slow else at) + 100 * (i % 2) for i in range(8)], {"training.lr": lr})
        for lr in lrs
        for variant, at in steps
    ]


def test_a_sweep_with_one_winner_says_so_with_its_range_and_the_best_of_all():
    assert answer(*swept()) == (
        "batch was faster at each of 2 settings of lr: 0.41x to 0.41x the steps of none; best of all: batch at lr 0.1 "
        "(steps to 95 %: 350)"
    )


def test_a_small_sweep_names_the_settings_of_each_winner():
    assert answer(*swept(slow=[2], lrs=(0.1, 0.5, 2))) == (
        "batch was faster at lr 0.1 and lr 0.5; nothing is decided at lr 2; best of all: batch at lr 0.1 (steps to "
        "95 %: 350)"
    )


def test_a_large_sweep_counts_settings():
    assert answer(*swept(slow=[2], lrs=(0.1, 0.5, 1, 2))).startswith(
        "batch was faster at 3 of 4 settings of lr; nothing is decided at 1 of 4 settings of lr; best of all: batch"
    )


def test_a_sweep_that_decides_nothing_says_what_is_missing_and_what_does_differ():
    arms = [
        arm_of(variant, [reaching(None, at + i / 100) for i in range(8)], {"training.lr": lr})
        for lr in (0.1, 0.5)
        for variant, at in (("none", 0.55), ("batch", 0.7))
    ]
    assert answer(*arms) == (
        "no run reached 95 % test accuracy within 1,000 steps; the best run, of variant batch, got to 77 %; train longer "
        "(--set training.steps=2000) or set a nearer target (--set target.accuracy=0.55); but batch had the better final "
        "test accuracy at each of 2 settings of lr; best of all: batch at lr 0.1 (final accuracy: 73.5 %)"
    )
    some = [
        arm("none", [None] * 5, {"training.lr": 0.1}),
        arm("batch", [400, None, None, None, None], {"training.lr": 0.1}),
    ]
    more = [dataclasses.replace(each, setting={"training.lr": 0.5}) for each in some]
    assert answer(*some, *more).startswith(
        "too few runs reached 95 % test accuracy to tell which is faster (none 0 of 10, batch 2 of 10); train longer"
    )
    same = [
        arm(v, steps, {"training.lr": lr}) for lr in (1, 2) for v, steps in (("none", [400, 600]), ("zca", [600, 400]))
    ]
    assert answer(*same).startswith(
        "inconclusive: no variant is surely better than none; the most promising: at lr 1: zca reached 95 % test "
        "accuracy in 1.00x the steps of none ("
    )


def test_a_tuned_study_names_what_was_chosen_for_each():
    tried = {0: [(lr, run_of({0: 0.1, 1000: 0.9 - abs(lr - 1) / 10})) for lr in (0.5, 1.0, 2.0)]}
    none, batch = (dataclasses.replace(arm(v, [at] * 5), search=tried) for v, at in (("none", 900), ("batch", 400)))
    found = answer(none, batch, searched="training.lr", chosen_by="validation_accuracy")
    assert found.startswith("each at its own best lr (none 1, batch 1), batch was faster: it reached 95 %")


def test_a_searched_study_names_every_key():
    trials = [
        TrialRuns({"training.lr": lr, "training.steps": 10}, [{0: run_of({0: 0.1, 1000: 0.9 - lr / 10})}])
        for lr in (0.5, 1.0)
    ]
    none, batch = (dataclasses.replace(arm(v, [at] * 5), trials=trials) for v, at in (("none", 900), ("batch", 400)))
    space = {"training.lr": [0.5, 1.0], "training.steps": [10]}
    found = answer(none, batch, chosen_by="validation_accuracy", space=space)
    assert found.startswith("each at its own best lr and steps (none 0.5 and 10, batch 0.5 and 10), batch was faster")


def test_a_metric_of_a_task_is_said_in_its_own_unit():
    bleu = Metric("bleu", "higher", "points")

    def runs(*finals):
        made = [run_of() for _ in finals]
        curves = [run_of({0: 1.0, 1000: final}).records for final in finals]
        named = [[r._replace(metric="bleu") for r in records] for records in curves]
        return [dataclasses.replace(run, records=tuple(records)) for run, records in zip(made, named, strict=True)]

    changes = {"aim": bleu, "metrics": {"bleu": bleu}, "split": "", "target_level": 30.0, "made": "by a task"}
    arms = arm_of("none", runs(20.0, 21.0, 20.5)), arm_of("batch", runs(25.0, 26.0, 25.4))
    assert answer(*arms, **changes, margins={**ask_of().margins, "metrics.bleu": 0.0},
                  measures=["steps_to_target", "final_bleu"]).startswith(
        "no run reached a bleu of 30 points within 1,000 steps; the best run, of variant batch, got to 26 points; "
        "train longer or set a nearer target (--set target.bleu=20); but batch had the better final bleu: +4.97 points "
        "against none (95 % interval"
    )  # fmt: skip


def test_what_a_step_costs_is_no_answer_where_nobody_got_there():
    none, batch = (slower(ending(name, [0.5] * 5), times) for name, times in (("none", 1), ("batch", 3)))
    said = answer(none, batch, measures=("steps_to_target", "seconds_per_step"))
    assert said.startswith("no run reached 95 % test accuracy")
    assert "but" not in said


def slower(arm, times):
    """The same runs, each step so many times as long."""
    return dataclasses.replace(arm, runs={
        seed: dataclasses.replace(run, info=dataclasses.replace(
            run.info, seconds={kind: times * (1 + seed / 100) * spent for kind, spent in run.info.seconds.items()}
        )) for seed, run in arm.runs.items()
    })  # fmt: skip


def test_variants_with_the_very_same_best_are_named_together():
    same = [400, 500, 500, 600, 500]
    said = answer(arm("none", [900] * 5), arm("batch", same), arm("zca", same))
    assert said.startswith(
        "batch and zca were fastest alike: each reached 95 % test accuracy in 0.55x the steps of none"
    )
