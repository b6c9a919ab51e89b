"""The footnotes of a study: which there are, in which order, and their words."""

import dataclasses

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import analyse
from bncli.findings import Looks, Note


def arm(variant, steps, setting=None, **how):
    return arm_of(variant, [reaching(step, **how) for step in steps], setting)


def notes(*arms, measures=(), timed=False, **changes):
    """The texts; with `timed` also what is said of seconds."""
    found = analyse(arms, dataclasses.replace(ask_of(*measures), **changes)).notes
    return [note.text for note in found if timed or not note.text.startswith("steps are not seconds")]


SEEDS = "until then verdicts assume normally distributed differences"


def test_the_notes_of_a_common_study_are_ranked_and_say_what_they_say():
    assert notes(arm("none", [900] * 5), arm("batch", [400] * 5), arm("zca", [500, 500, 500, 1000, None])) == [
        f"5 seeds cannot reach p < .05 after correction for 2 variants; 7 can: --seeds 7 ({SEEDS})",
        "[ ] is a 95 % interval over pairs of runs with the same seed, corrected for 2 variants",
        "steps are known to within 100; the intervals allow for it",
        "a run that never reached the target counts as slower than its budget, and is never left out",
        "variants are compared with none, not with each other; --set reference=batch compares with batch",
        "± is the standard deviation over seeds",
        "better than none on steps to 95 %: batch in 5 of 5 pairs (95 % interval 48 to 100 %), zca in 3 of 5 pairs "
        "(95 % interval 15 to 95 %)",
        "better than none on final accuracy: batch in 2.5 of 5 pairs (95 % interval 9 to 91 %), zca in 2 of 5 pairs "
        "(95 % interval 5 to 85 %)",
    ]


def test_what_the_plan_knows_of_the_norms_comes_first():
    found = notes(arm("none", [900] * 5), arm("batch", [400] * 5), notes=(Note("zca whitens"),))
    assert found[0] == "zca whitens"


def test_every_note_that_asks_for_one_has_a_paragraph():
    arms = [arm("none", [900] * 5), arm("batch", [400] * 5), arm("zca", [500] * 5)]
    found = analyse(arms, ask_of()).notes
    assert [bool(note.explanation) for note in found] == [True] * (len(found) - 1) + [False]
    assert found[1].explanation.startswith(
        "An exact test asks how often chance alone would make one variant come out ahead in as many pairs: with 5 pairs "
        "that is at least 2 in 32, however large the difference. Until there are 7 pairs, verdicts rest on t-intervals"
    )


def test_how_many_seeds_can_reach_the_level_is_computed():
    five = [400, 500, 600, 500, 500]
    two = [arm("none", [900] * 5), arm("batch", five)]
    assert notes(*two)[0] == f"5 seeds cannot reach p < .05; 6 can: --seeds 6 ({SEEDS})"
    four = [arm(f"v{i}" if i else "none", five) for i in range(5)]
    assert (
        notes(*four)[0] == f"5 seeds cannot reach p < .05 after correction for 4 variants; 8 can: --seeds 8 ({SEEDS})"
    )
    swept = [arm(v, five, {"training.lr": lr}) for lr in (0.1, 0.5) for v in ("none", "batch")]
    assert notes(*swept)[0] == (
        f"5 seeds cannot reach p < .05 after correction for 2 comparisons; 7 can: --seeds 7 ({SEEDS})"
    )
    assert notes(*two, looks=Looks(planned=(5, 10)))[0].startswith(
        "5 seeds cannot reach p < .05 after correction for 2 looks; 7 can: --seeds 7"
    )
    assert notes(*two, made="elsewhere")[0] == f"5 seeds cannot reach p < .05; 6 can ({SEEDS})"


def test_from_there_to_ten_they_are_a_first_indication_and_then_nothing_is_said():
    def first(seeds):
        return notes(arm("none", [900, 800] * (seeds // 2)), arm("batch", [400, 500] * (seeds // 2)))[0]

    assert first(8) == "8 paired seeds are a first indication; 10 or more make a claim: --seeds 10"
    assert first(10) == "[ ] is a 95 % interval over pairs of runs with the same seed"


def test_what_equivalent_means_is_said_where_it_occurs():
    assert (
        "equivalent: the whole interval lies within 1/1.05 to 1.05x (steps to 95 %), ±0.2 points (final accuracy)"
        in (notes(arm("none", [900] * 5, every=10), arm("batch", [900] * 5, every=10)))
    )


def test_how_diverged_runs_count_is_said_by_measure():
    broken = arm_of("batch", [run_of({0: 0.1}, {0: 2.3}, status="diverged", step=9)] * 3)
    none = arm_of("none", [run_of({0: 0.1, 1000: 0.9}, {0: 2.3, 1000: 0.5})] * 3)
    found = notes(none, broken, measures=["final_accuracy", "final_loss", "final_train_loss"])
    assert [text for text in found if text.startswith("a diverged")] == [
        "a diverged run counts as chance: 10.0 % final accuracy",
        "a diverged run's loss counts as at least the loss it began with",
        "a diverged run's final train loss counts as no better than it began",
    ]


def test_steps_that_take_unlike_long_are_said_to_be_no_time():
    runs = {"none": (900, 1.0), "batch": (400, 1.5), "zca": (500, 9.0)}
    arms = [arm_of(name, [run_of_time(step, ms) for _ in range(5)]) for name, (step, ms) in runs.items()]
    assert notes(*arms, timed=True)[0] == (
        "steps are not seconds: the time to the target is batch 0.67x, zca 5x that of none (steps times ms/step, here)"
    )


def run_of_time(step, ms):
    """A run that reaches the target at this step and takes so many milliseconds a step."""
    run = reaching(step)
    seconds = {kind: 2 * ms * spent for kind, spent in run.info.seconds.items()}  # of 0.5 ms a step
    return dataclasses.replace(run, info=dataclasses.replace(run.info, seconds=seconds))


def test_a_target_that_a_variant_has_set_says_whose_it_is():
    arms = [arm("none", [900] * 5), arm("batch", [400] * 5)]
    found = analyse(arms, ask_of(target=None, final_of="none")).notes
    assert found[0].text == "the target of 97 % is the final accuracy of none, median over seeds"
