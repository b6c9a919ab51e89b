"""What tuning and bisection say, on searches made by hand."""

import dataclasses
import math

import pytest

from analysis.made_runs import ask_of, reaching, run_of
from bncli.analysis import ArmRuns, analyse
from bncli.analysis.tuning import best, bracket, expected_best, largest_stable, scores_of, survivors, usable_range
from bncli.findings import Value


def accurate(accuracy):
    return run_of({0: 0.1, 1000: accuracy})


def search(*scores):
    """{seed: trials} of values 1, 10, 100, ...; scores[i][j] of value i and seed j, None where not run."""
    seeds = max(map(len, scores))
    return {
        seed: [(10.0**i, accurate(s[seed])) for i, s in enumerate(scores) if seed < len(s)] for seed in range(seeds)
    }


def scores(*numbers):
    return scores_of(search(*numbers), "validation_accuracy")


def test_the_highest_median_is_chosen_not_the_highest_run():
    assert best(scores((0.9, 0.9, 0.9), (0.99, 0.5, 0.5))).value == 1


def test_of_equals_the_smaller_value_is_chosen():
    assert best(scores((0.8,), (0.9,), (0.9,))).value == 10


def test_a_value_that_lost_the_race_is_not_chosen_for_its_few_lucky_seeds():
    assert best(scores((0.95, 0.95), (0.9, 0.9, 0.9))).value == 10


def test_a_diverged_run_scores_chance_and_by_loss_worse_than_any():
    diverged = {0: [(1.0, run_of({0: 0.5}, {0: 2.3}, status="diverged"))]}
    assert scores_of(diverged, "validation_accuracy")[0].median == 0.1
    assert scores_of(diverged, "validation_loss")[0].median == -math.inf


def test_surely_worse_values_get_no_more_seeds():
    assert survivors(scores((0.2, 0.21), (0.9, 0.91), (0.85, 0.93))) == [10, 100]


def test_one_seed_ends_no_race():
    assert survivors(scores((0.1,), (0.9,))) == [1, 10]


def test_the_usable_range_is_bracketed_by_the_grid():
    (trials,) = search((0.1,), (0.955,), (0.96,), (0.5,)).values()
    assert usable_range(7, trials) == Value(7, 1, 1, 3)


def test_a_range_that_touches_the_edge_has_no_upper_bound():
    (trials,) = search((0.1,), (0.955,), (0.96,)).values()
    assert usable_range(0, trials) == Value(0, None, 1, None, "usable up to the edge of the grid")


def test_a_usable_value_beyond_a_gap_does_not_count():
    (trials,) = search((0.955,), (0.1,), (0.96,), (0.1,)).values()
    assert usable_range(0, trials).low == 0


def test_the_largest_stable_value_is_below_every_unstable_one():
    learned, dead = run_of(loss={0: 2.3, 1000: 0.5}), run_of(loss={0: 2.3, 1000: 2.29})
    diverged = run_of(loss={0: 2.3}, status="diverged")
    assert bracket([(0.1, learned), (1, learned), (2, dead), (4, learned), (8, diverged)]) == (1, 2)
    assert largest_stable(0, [(0.1, learned), (1, diverged)]) == Value(0, 0.1, 0.1, 1)
    assert largest_stable(0, [(0.1, learned)]) == Value(0, None, 0.1, None, "stable up to 0.1, the largest tried")
    assert largest_stable(0, [(0.1, dead)]).reason == "no value that was tried trains stably"


def test_the_expected_best_of_n_trials_is_dodges():
    assert expected_best([0.2, 0.4, 0.9]) == pytest.approx(
        [0.5, (0.2 * 1 + 0.4 * 3 + 0.9 * 5) / 9, (0.2 * 1 + 0.4 * 7 + 0.9 * 19) / 27]
    )


def tuned(found, chosen_by="validation_accuracy"):
    arm = ArmRuns("none", {}, {0: reaching(400)}, found)
    ask = dataclasses.replace(ask_of("steps_to_target", "usable_range"), searched="training.lr", chosen_by=chosen_by)
    return analyse([arm], ask)


def test_findings_say_what_was_chosen_and_what_it_cost():
    findings = tuned(search((0.2, 0.2), (0.9, 0.9, 0.9), (0.905, 0.9, 0.9), (0.1, 0.1)))
    (found,) = findings.tunings
    assert (found.chosen, found.on_edge, found.usable_low, found.usable_high) == (10, False, 10, 100)
    assert (found.runs, found.saved, found.steps) == (10, 2, 10000)
    assert findings.arms[0].chosen == {"training.lr": 10}
    assert (
        "lr was tuned for each variant over 4 values x 3 seeds by validation accuracy: 10 runs, 10,000 steps; racing saved 2 runs; the report's seeds are fresh"
        in [n.text for n in findings.notes]
    )
    assert not [w for w in findings.warnings if "edge" in w]


def test_a_best_value_on_the_edge_is_flagged():
    findings = tuned(search((0.2,), (0.5,), (0.9,)))
    assert [w for w in findings.warnings if "none: the best lr, 100, is on the edge of the grid" in w]


def test_a_measure_of_the_search_has_a_value_a_tuning_seed():
    findings = tuned(search((0.1, 0.1), (0.9, 0.9), (0.1, 0.1)))
    assert [v.value for v in findings.arms[0].summaries[1].values] == [0, 0]
