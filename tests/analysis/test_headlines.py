"""The sentences above the table."""

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


def test_a_better_variant_is_said_with_ratio_interval_and_seeds():
    assert headline([400] * 5, [900] * 5) == (
        "batch reached 95 % test accuracy in 0.44x [0.33, 0.50] the steps of none (5 paired seeds, indicative)"
    )


def test_ten_seeds_are_no_longer_indicative():
    assert headline([400] * 10, [900] * 10).endswith("(10 paired seeds)")
    assert headline([400] * 9, [900] * 9).endswith("(9 paired seeds, indicative)")


def test_an_upper_bound_is_said_as_such():
    assert headline([400] * 5, [None] * 5) == (
        "batch reached 95 % test accuracy in at most 0.40x the steps of none (5 paired seeds, indicative)"
    )


def test_a_variant_that_never_got_there_is_said_to_take_at_least_so_many():
    assert headline([None] * 5, [400] * 5) == (
        "batch reached 95 % test accuracy in 0 of 5 runs and takes at least 2.50x the steps of none "
        "(5 paired seeds, indicative)"
    )


def test_inconclusive_is_said_in_words():
    assert headline([500] * 5, [400] * 5) == (
        "whether batch reaches 95 % test accuracy in fewer steps than none is open: 1.25x [1.00, 1.67] the steps "
        "(5 paired seeds, indicative)"
    )


def test_two_arms_that_never_got_there_are_left_open_with_the_reason():
    assert headline([None] * 5, [None] * 5).startswith(
        "whether batch reaches 95 % test accuracy in fewer steps than none is open: "
        "batch in 5 of 5 pairs: not reached within 1,000 steps; the upper end is unbounded; none in 5 of 5 pairs"
    )


def test_equivalent_is_said_in_words():
    assert headline([900] * 5, [900] * 5, every=10) == (
        "batch and none reached 95 % test accuracy in as many steps, within the margin: 1.00x [0.99, 1.01] "
        "(5 paired seeds, indicative)"
    )


def test_one_seed_makes_no_claim():
    assert headline([400], [900]) == "no claim is made: one seed says nothing about the spread between seeds"


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
        "batch has a higher final test accuracy than none: +1.0 [+1.0, +1.0] points (5 paired seeds, indicative)",
    )


def test_a_lower_loss_is_said_with_its_unit():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.3, 0.3))]
    assert analyse(arms, ask_of("final_loss")).headlines == (
        "batch has a lower final test loss than none: -0.2000 [-0.2000, -0.2000] nats (3 paired seeds, indicative)",
    )


def test_an_open_difference_is_said_in_words():
    arms = [arm_of("none", losses(0.5, 0.5, 0.5)), arm_of("batch", losses(0.3, 0.5, 0.7))]
    assert (
        analyse(arms, ask_of("final_loss"))
        .headlines[0]
        .startswith(
            "whether batch and none differ in final test loss is open: +0.0000 [-0.4968, +0.4968] nats (3 paired seeds"
        )
    )


def test_growing_biases_are_said_with_their_slope():
    growing = [run_of(norms={"layers.0.bias": {0: 0.0, 1000: end}}) for end in (200.0, 202.0, 204.0)]
    still = [run_of(norms={"layers.0.bias": {0: 0.0, 1000: 0.1}})] * 3
    findings = analyse([arm_of("none", still), arm_of("detached", growing)], ask_of("bias_growth", "loss_change"))
    assert findings.headlines == (
        "detached has a higher growth of the bias norm than none: +0.202 [+0.197, +0.207] a step "
        "(3 paired seeds, indicative)",
    )
