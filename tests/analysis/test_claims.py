"""Claims against runs made by hand: an outcome follows from the whole interval."""

import dataclasses
import math
from statistics import stdev
from xml.etree import ElementTree

import numpy as np
import pytest

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import analyse
from bncli.analysis.claims import check_claims, find_detectable, find_detectable_share
from bncli.analysis.stats import mean_interval
from bncli.findings import Claim
from bncli.format import written_claim, written_detectable, written_judgement
from bncli.report.checks import annotations, junit, markdown
from bncli.report.data import ReportData
from bncli.report.documents import read_document
from bncli.report.page.study import read_study
from bncli.report.study.json import document


def claim(measure="steps_to_target", versus="none", kind="ratio", below=None, above=None, at=None):
    return Claim(measure, "batch", versus, at or {}, kind, below, above, "Ioffe & Szegedy 2015, section 4.1")


def judged(one, batch, none=(), setting=None):
    arms = [arm_of("none", none, setting), arm_of("batch", batch, setting)]
    return analyse(arms, dataclasses.replace(ask_of(), claims=(one,)))


def steps(*numbers):
    return [reaching(step) for step in numbers]


FASTER = {"batch": steps(*[400] * 10), "none": steps(*[900] * 10)}  # the ratio lies in [3/9, 4/8]


@pytest.mark.parametrize(
    ("band", "outcome"),
    [({"below": 0.6}, "confirmed"), ({"below": 0.3}, "refuted"), ({"below": 0.4}, "undecided"), ({"above": 0.2}, "confirmed"),
     ({"above": 0.6}, "refuted"), ({"above": 0.2, "below": 0.6}, "confirmed"), ({"above": 0.35, "below": 0.6}, "undecided")],
)  # fmt: skip
def test_a_ratio_is_judged_by_its_whole_interval(band, outcome):
    (found,) = judged(claim(**band), **FASTER).claims
    assert (found.outcome, found.pairs, found.reason) == (outcome, 10, "")
    assert (found.estimate, found.low, found.high) == pytest.approx((4 / 9, 3 / 9, 4 / 8))


def test_a_reference_that_never_gets_there_confirms_by_its_bound():
    (found,) = judged(claim(below=0.6), steps(*[400] * 10), steps(*[None] * 10)).claims
    assert (found.outcome, found.low) == ("confirmed", None)
    assert found.high == pytest.approx(0.4)


def test_a_difference_of_accuracies_is_in_fractions():
    finals = [[reaching(400, f + 0.001 * i) for i in range(10)] for f in (0.95, 0.97)]
    (found,) = judged(claim("final_accuracy", kind="difference", above=0.01), finals[1], finals[0]).claims
    assert found.outcome == "confirmed"
    assert written_claim(found) == "final accuracy, batch - none: above 1 points"
    assert written_judgement(found) == "+2.0 [+2.0, +2.0]"


def test_the_level_of_one_arm_is_judged_alone():
    (found,) = judged(
        claim("final_accuracy", None, "level", above=0.9), [reaching(400, f) for f in (0.96, 0.97)] * 5
    ).claims
    assert found.outcome == "confirmed"
    assert written_judgement(found) == "96.5 % [96.1 %, 96.9 %]"


def test_a_share_has_the_exact_interval():
    diverged = [run_of({0: 0.1}, status="diverged", step=9)] * 10
    (found,) = judged(claim("diverged", None, "level", above=0.6), diverged).claims
    assert (found.estimate, found.low, found.high) == (1, pytest.approx(0.6915, abs=1e-4), 1)
    assert found.outcome == "confirmed"
    assert judged(claim("diverged", None, "level", above=0.7), diverged).claims[0].outcome == "undecided"


def test_few_seeds_are_labelled_and_one_decides_nothing():
    assert (
        judged(claim(below=0.6), steps(*[400] * 3), steps(*[900] * 3)).claims[0].reason
        == "a first indication: fewer than 10 seeds"
    )
    (found,) = judged(claim(below=0.6), steps(400), steps(900)).claims
    assert (found.outcome, found.reason) == ("undecided", "one seed: no interval")


def test_without_runs_a_claim_is_undecided_and_says_why():
    (found,) = judged(claim(below=0.6), steps(400, 400)).claims
    assert (found.outcome, found.reason) == ("undecided", "no seed has a run of both batch and none")


def test_a_claim_is_judged_at_every_setting_that_it_does_not_rule_out():
    arms = [
        arm_of(v, steps(*[s] * 10), {"training.lr": lr})
        for lr in (0.1, 0.5)
        for v, s in (("none", 900), ("batch", 400))
    ]
    both, one = (claim(below=0.6, at=at) for at in (None, {"training.lr": 0.5}))
    found = analyse(arms, dataclasses.replace(ask_of(), claims=(both, one))).claims
    assert [dict(f.setting) for f in found] == [{"training.lr": 0.1}, {"training.lr": 0.5}, {"training.lr": 0.5}]
    assert written_claim(found[0]) == "steps to 95 %, batch / none at lr 0.1: below 0.6x"


def test_checks_say_what_was_claimed_measured_and_by_whom():
    (check,) = check_claims(judged(claim(below=0.3), **FASTER))
    assert (check.outcome, check.word) == ("failed", "refuted")
    assert check.name == "steps to 95 %, batch / none: below 0.3x"
    assert check.message == "measured 0.44x [0.33, 0.50], 10 pairs; claimed by Ioffe & Szegedy 2015, section 4.1"


def test_checks_are_written_for_machines():
    checks = check_claims(judged(claim(below=0.3), **FASTER)) + check_claims(judged(claim(below=0.4), **FASTER))
    text = junit("claims", checks)
    assert '<testsuite name="claims" tests="2" failures="1" errors="1" skipped="0">' in text
    assert '<failure message="measured 0.44x' in text
    undecided = ElementTree.fromstring(text.partition("\n")[2]).findall("testcase/error")
    assert [(each.get("type"), each.get("message")) for each in undecided] == [("undecided", checks[1].message)]
    assert "| refuted | steps to 95 %, batch / none: below 0.3x |" in markdown("claims", checks)
    assert [line.split("::")[1] for line in annotations(checks)] == ["error", "warning"]
    assert "95 %25" in next(annotations(checks))


# Student's quantiles with 9 degrees of freedom: 97.5 % and 80 %
FACTOR = (2.262157 + 0.883404) / math.sqrt(10)


def finals(first, step=0.001):
    return [reaching(400, first + step * i) for i in range(10)]


def test_the_effect_that_could_have_been_decided_follows_from_the_scatter():
    better = claim("final_accuracy", kind="difference", above=0.01)
    (found,) = judged(better, finals(0.95, 0.002), finals(0.95)).claims  # differences of 0 to 9 thousandths
    assert found.detectable == pytest.approx(FACTOR * 0.001 * math.sqrt(55 / 6))  # their sample variance is 55 / 6
    assert written_detectable(found) == "0.3 points"
    (alone,) = judged(claim("final_accuracy", None, "level", above=0.9), finals(0.95)).claims
    assert alone.detectable == pytest.approx(found.detectable)


def test_an_effect_in_ratios_is_a_factor_with_what_the_grid_leaves_open():
    (found,) = judged(claim(below=0.6), steps(*[400, 500] * 5), steps(*[900] * 10)).claims
    lows, highs = [math.log(3 / 9), math.log(4 / 9)] * 5, [math.log(4 / 8), math.log(5 / 8)] * 5
    wide = FACTOR * max(stdev(lows), stdev(highs)) + (sum(highs) - sum(lows)) / 20
    assert found.detectable == pytest.approx(math.exp(wide))
    assert written_detectable(found) == "a factor of 1.40"


def test_that_effect_is_decided_in_four_of_five_studies():
    sample = np.random.default_rng(0).normal(0, 1, (2000, 10))
    spread = np.array([-1.0, 1.0] * 5)  # of the size of the truth's: s is 1 once divided by its own
    effect = find_detectable(spread / spread.std(ddof=1), spread / spread.std(ddof=1))
    low, _ = mean_interval(sample + effect)
    assert np.mean(low > 0) == pytest.approx(0.8, abs=0.03)


def test_of_a_share_the_effect_is_exact():
    assert find_detectable_share(10, [0.6]) == pytest.approx(0.8**0.1 - 0.6)  # all ten must: 9 of 10 may be 55 %
    assert find_detectable_share(10, [0.4]) == pytest.approx(0.8**0.1 - 0.6)
    assert find_detectable_share(3, [0.5]) == "so few seeds decide nothing at this level"


@pytest.mark.parametrize(
    ("arms", "reason"),
    [(FASTER, "all values are alike, so that nothing says how much they vary"),
     ({"batch": steps(400, 500), "none": steps(900, None)}, "a run has no value, so that nothing says how much they vary"),
     ({"batch": steps(400), "none": steps(900)}, "one seed: no interval"),
     ({"batch": steps(400, 400)}, "no seed has a run of both batch and none")],
)  # fmt: skip
def test_where_no_effect_can_be_told_the_document_says_why(arms, reason):
    made = judged(claim(below=0.6), **arms)
    assert (made.claims[0].detectable, made.claims[0].detectable_reason) == (None, reason)
    (told,) = document(made)["claims"]
    assert (told["detectable"], told["detectable_reason"]) == (None, reason)
    assert "could have decided" not in check_claims(made)[0].message


def test_the_effect_stands_in_every_report():
    made = judged(claim(below=0.6), steps(*[400, 500] * 5), steps(*[900] * 10))
    (check,) = check_claims(made)
    assert check.message.startswith(
        "measured 0.50x [0.33, 0.62], 10 pairs, could have decided a factor of 1.40; claimed"
    )
    assert check.message.partition(";")[0] in junit("x", [check])
    assert check.message in markdown("x", [check])
    (told,) = document(made)["claims"]
    assert told["detectable"] == made.claims[0].detectable
    assert "detectable_reason" not in told
    assert "a factor of 1.40" in read_study(ReportData("x", made), made).tables[2].body


def test_a_document_from_before_there_was_one_is_read():
    told = document(judged(claim(below=0.6), steps(*[400, 500] * 5), steps(*[900] * 10)), {})
    told["claims"] = [{key: value for key, value in told["claims"][0].items() if key != "detectable"}]
    read = read_document("x.json", told).findings
    assert read.claims[0].detectable is None
    assert document(read)["claims"][0]["detectable_reason"] == "not worked out by the bncli that judged it"
