"""One sentence for each arm that is compared."""

import dataclasses

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import ArmRuns, analyse


def headline(variant, reference, *, every=100):
    arms = [
        arm_of("none", [reaching(s, every=every) for s in reference]),
        arm_of("batch", [reaching(s, every=every) for s in variant]),
    ]
    (sentence,) = analyse(arms, ask_of()).headlines
    return sentence


def losses(*finals):
    return [run_of(loss={0: 2.3, 1000: final}) for final in finals]


def test_a_better_variant_is_said_with_ratio_interval_and_pairs():
    assert headline([400] * 5, [900] * 5) == (
        "batch reached 95 % test accuracy in 0.44x the steps of none (95 % interval 0.33 to 0.50), "
        "better in 5 of 5 pairs"
    )


def test_a_worse_variant_is_said_likewise():
    assert headline([800] * 5, [400] * 5) == (
        "batch reached 95 % test accuracy in 2.00x the steps of none (95 % interval 1.75 to 2.67), "
        "worse in 5 of 5 pairs"
    )


def test_an_upper_bound_is_said_as_such():
    assert headline([400] * 5, [None] * 5) == (
        "batch reached 95 % test accuracy in at most 0.40x the steps of none (end of the 95 % interval), "
        "better in 5 of 5 pairs; none: not reached within 1,000 steps in 5 of 5 pairs, so that the ratio has no lower "
        "limit"
    )


def test_a_variant_that_never_got_there_is_said_to_take_at_least_so_many():
    assert headline([None] * 5, [400] * 5) == (
        "batch did not reach 95 % test accuracy in any of 5 runs and takes at least 2.50x the steps of none "
        "(end of the 95 % interval), worse in 5 of 5 pairs"
    )


def test_a_variant_that_got_there_in_some_runs_says_in_how_many():
    assert headline([700] * 4 + [None], [200] * 5, every=50) == (
        "batch reached 95 % test accuracy in 4 of 5 runs, in at least 2.79x the steps of none "
        "(end of the 95 % interval), worse in 5 of 5 pairs; batch: not reached within 1,000 steps in 1 of 5 pairs, so "
        "that the ratio has no upper limit"
    )


def test_inconclusive_is_said_in_words():
    assert headline([500] * 5, [400] * 5) == (
        "inconclusive: batch reached 95 % test accuracy in 1.25x the steps of none (95 % interval 1.00 to 1.67), "
        "worse in 5 of 5 pairs"
    )


def test_ties_count_half_and_say_so():
    assert headline([400, 500, 600, 500, 500], [500, 400, 500, 600, 500]).endswith(
        "(95 % interval 0.60 to 1.68), better in 2.5 of 5 pairs (ties count half)"
    )


def test_where_nobody_got_there_one_sentence_says_so_for_all():
    assert headline([None] * 5, [None] * 5) == "no run reached 95 % test accuracy within 1,000 steps"


def test_two_arms_that_seldom_got_there_are_left_open_with_the_reason():
    assert headline([500, 600, None, None, 800], [None] * 4 + [900]) == (
        "inconclusive: batch and none cannot be told apart in steps to 95 %; "
        "batch: not reached within 1,000 steps in 2 of 5 pairs, so that the ratio has no upper limit; "
        "none: not reached within 1,000 steps in 4 of 5 pairs, so that the ratio has no lower limit"
    )


def test_equivalent_is_said_in_words():
    assert headline([900] * 5, [900] * 5, every=10) == (
        "batch reached 95 % test accuracy in 1.00x the steps of none (95 % interval 0.99 to 1.01, within the margin "
        "of 1/1.05 to 1.05x)"
    )


def test_one_seed_makes_no_claim():
    assert headline([400], [900]) == "no claim is made: one seed says nothing about how much runs differ by chance"


def test_one_pair_among_others_makes_no_claim():
    arms = [
        arm_of("none", [reaching(900)] * 5), arm_of("batch", [reaching(400)] * 5), arm_of("zca", [reaching(400)]),
    ]  # fmt: skip
    assert analyse(arms, ask_of()).headlines[1] == (
        "no claim is made about zca: one seed says nothing about how much runs differ by chance"
    )


def test_arms_without_a_common_seed_cannot_be_compared():
    arms = [arm_of("none", [reaching(400)]), ArmRuns("batch", {}, {7: reaching(300)})]
    assert analyse(arms, ask_of()).headlines == (
        "batch and none cannot be compared: no seed has a run of both batch and none",
    )


def test_a_sweep_names_the_setting():
    setting = {"training.lr": 0.5}
    arms = [arm_of("none", [reaching(900)] * 5, setting), arm_of("batch", [reaching(400)] * 5, setting)]
    assert analyse(arms, ask_of()).headlines[0].startswith("at lr 0.5: batch reached 95 % test accuracy in 0.44x")


def test_the_split_is_the_one_that_was_evaluated():
    arms = [arm_of("none", [reaching(900)] * 5), arm_of("batch", [reaching(400)] * 5)]
    (sentence,) = analyse(arms, dataclasses.replace(ask_of(), split="validation")).headlines
    assert sentence.startswith("batch reached 95 % validation accuracy in")


def test_a_difference_is_said_with_its_unit():
    arms = [arm_of("none", [reaching(900, 0.97)] * 5), arm_of("batch", [reaching(400, 0.98)] * 5)]
    assert analyse(arms, ask_of("final_accuracy")).headlines == (
        "batch has a higher final test accuracy than none: +1.0 points (95 % interval +1.0 to +1.0), "
        "better in 5 of 5 pairs",
    )


def test_a_lower_loss_is_said_with_its_unit():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.3, 0.3))]
    assert analyse(arms, ask_of("final_loss")).headlines == (
        "batch has a lower final test loss than none: -0.2000 nats (95 % interval -0.2000 to -0.2000), "
        "better in 3 of 3 pairs",
    )


def test_an_equal_difference_is_said_with_its_margin():
    arms = [arm_of("none", losses(0.5, 0.501, 0.502)), arm_of("batch", losses(0.501, 0.501, 0.503))]
    assert analyse(arms, ask_of("final_loss")).headlines == (
        "batch and none have the same final test loss: +0.0007 nats (95 % interval -0.0008 to +0.0021, within the "
        "margin of ±0.0100)",
    )


def test_a_ratio_of_what_is_no_crossing_is_said_with_what_it_is_of():
    arms = [arm_of("none", [reaching(900)] * 5), arm_of("batch", [reaching(400)] * 5)]
    assert analyse(arms, ask_of("restricted_steps")).headlines == (
        "batch had 0.44x the mean steps to the target (up to the budget) of none (95 % interval 0.33 to 0.50), "
        "better in 5 of 5 pairs",
    )


def test_an_open_difference_is_said_in_words():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.5, 0.7))]
    assert analyse(arms, ask_of("final_loss")).headlines == (
        "inconclusive: batch and none differ in final test loss by +0.0000 nats (95 % interval -0.4968 to +0.4968), "
        "better in 1.5 of 3 pairs (ties count half)",
    )


def test_an_open_headline_says_how_many_more_seeds_would_decide():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.4, 0.5))]
    (sentence,) = analyse(arms, ask_of("final_loss")).headlines
    assert sentence.endswith("; about 14 more seeds would decide: --seeds 17")


def test_seeds_of_runs_that_were_made_elsewhere_are_no_option():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.4, 0.5))]
    (sentence,) = analyse(arms, dataclasses.replace(ask_of("final_loss"), made="elsewhere")).headlines
    assert sentence.endswith("more seeds would decide")


def test_growing_biases_are_said_with_their_slope():
    growing = [run_of(norms={"layers.0.bias": {0: 0.0, 1000: end}}) for end in (200.0, 202.0, 204.0)]
    still = [run_of(norms={"layers.0.bias": {0: 0.0, 1000: 0.1}})] * 3
    findings = analyse([arm_of("none", still), arm_of("detached", growing)], ask_of("bias_growth", "loss_change"))
    assert findings.headlines == (
        "detached has a higher growth of the bias norm than none: +0.202 a step (95 % interval +0.197 to +0.207), "
        "worse in 3 of 3 pairs",
    )
