"""Kaplan-Meier, restricted mean and expected running time against cases worked out by hand."""

import pytest

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import analyse
from bncli.analysis.summaries import kaplan_meier, median, restricted_mean

# The 6-mercaptopurine arm of Freireich et al. 1963, the textbook case; S by hand: 18/21, then x 16/17, 14/15, ...
REMISSION = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [t in (7, 13, 16, 22, 23) for t in REMISSION]
RELAPSED[:3] = [True] * 3
RELAPSED[6] = True


def test_kaplan_meier_is_the_textbook_s():
    curve = kaplan_meier(REMISSION, RELAPSED)
    assert [time for time, _ in curve] == [0, 6, 7, 10, 13, 16, 22, 23]
    expected = [1, 18 / 21]
    for at_risk in (17, 15, 12, 11, 7, 6):
        expected.append(expected[-1] * (1 - 1 / at_risk))
    assert [share for _, share in curve] == pytest.approx(expected)
    assert curve[-1][1] == pytest.approx(0.4482, abs=5e-5)
    assert median(curve) == 23


def test_without_censoring_it_is_the_share_that_is_left():
    assert kaplan_meier([1, 2, 2, 4], [True] * 4) == [(0, 1), (1, 0.75), (2, 0.25), (4, 0)]


def test_the_restricted_mean_is_the_area_up_to_the_limit():
    curve = kaplan_meier([1, 2, 2, 4], [True] * 4)
    assert restricted_mean(curve, 4) == pytest.approx(1 * 1 + 1 * 0.75 + 2 * 0.25)
    assert restricted_mean(curve, 3) == pytest.approx((1 + 2 + 2 + 3) / 4)


def test_with_one_common_budget_the_restricted_mean_is_the_mean_of_times_cut_off_there():
    times, events = [200, 700, 1000, 1000], [True, True, False, False]
    assert restricted_mean(kaplan_meier(times, events), 1000) == pytest.approx(sum(times) / 4)


def test_half_exactly_reaches_the_median():
    assert median(kaplan_meier([3, 9, 9], [True, False, False])) is None
    assert median(kaplan_meier([3, 9], [True, False])) == 3


def test_an_arm_says_how_its_runs_got_there():
    diverged = run_of({0: 0.1}, status="diverged", step=40)
    found = analyse([arm_of("none", [reaching(400), reaching(600), reaching(None), diverged])], ask_of()).arms[0]
    assert (found.crossing.runs, found.crossing.reached, found.crossing.budget) == (4, 2, 1000)
    assert found.crossing.median == 600
    assert found.crossing.restricted_mean == (400 + 600 + 1000 + 1000) / 4
    assert found.crossing.running_time == (400 + 600 + 1000 + 40) / 2


def test_where_nobody_got_there_median_and_running_time_are_unknown():
    found = analyse([arm_of("none", [reaching(None)] * 3)], ask_of()).arms[0].crossing
    assert (found.median, found.restricted_mean, found.running_time) == (None, 1000, None)


def test_without_a_target_nothing_is_said():
    assert analyse([arm_of("none", [reaching(400)])], ask_of(target=None, final_of="x")).arms[0].crossing is None


def test_every_measure_of_a_run_can_be_asked_for():
    names = ("restricted_steps", "seconds_to_target", "examples_to_target", "reached", "best_accuracy", "diverged")
    arms = [arm_of("none", [reaching(900), reaching(None), reaching(900)]), arm_of("batch", [reaching(400)] * 3)]
    found = analyse(arms, ask_of(*names))
    assert [m.label for m in found.measures[1:3]] == ["seconds to 95 %", "examples to 95 %"]
    assert [s.mean for s in found.arms[1].summaries] == pytest.approx([400, 0.2, 24000, 1, 0.97, 0])
    assert [c.verdict for c in found.arms[1].comparisons[1:3]] == ["better", "better"]
