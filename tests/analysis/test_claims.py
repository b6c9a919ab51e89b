"""Claims against runs made by hand: an outcome follows from the whole interval."""

import dataclasses
from xml.etree import ElementTree

import pytest

from analysis.made_runs import arm_of, ask_of, reaching, run_of
from bncli.analysis import analyse
from bncli.analysis.comparisons import check_claims
from bncli.findings import Claim
from bncli.format import written_claim, written_judgement
from bncli.report.checks import annotations, junit, markdown


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
