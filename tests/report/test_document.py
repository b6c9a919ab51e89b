"""The JSON document: whole, without NaN, with a reason for every missing number."""

import dataclasses
import json
import math

import numpy as np
import pytest
from analysis.made_runs import arm_of, ask_of, reaching, run_of

from bncli.analysis import analyse
from bncli.records import StudyRun
from bncli.report.study.json import document, dumps

STUDY = {"question": "?", "target": {"accuracy": 0.95, "final_of": None}, "seeds": (0, 1)}


@pytest.fixture
def made():
    """A document with a run that got there, one that did not, one that diverged."""
    setting = {"training.lr": 0.5}
    arms = [
        arm_of("none", [reaching(900), reaching(None)], setting),
        arm_of("batch", [reaching(400), run_of({0: 0.1}, status="diverged", step=30)], setting),
    ]
    runs = [StudyRun(arm.variant, arm.setting, seed, "id", run) for arm in arms for seed, run in arm.runs.items()]
    last = run_of({0: 0.1}, {0: 2.3, 100: math.nan}, status="diverged", step=np.int64(30))
    info = dataclasses.replace(last.info, samples_per_second=math.inf)
    runs[-1] = dataclasses.replace(runs[-1], result=dataclasses.replace(last, info=info))
    return document(analyse(arms, ask_of("steps_to_target", "final_accuracy", "final_loss")), STUDY, runs)


def test_the_document_comes_back_as_it_was_written(made):
    assert json.loads(dumps(made)) == made


def test_the_document_has_every_part(made):
    assert list(made) == [
        "schema", "name", "question", "setup", "study", "measures", "runs", "arms", "verdicts", "claims", "tunings", "searches",
        "answer", "headlines", "notes", "warnings", "looks", "curves", "environment",
    ]  # fmt: skip
    assert made["schema"] == "bncli/findings/3"


def test_units_and_directions_are_explicit(made):
    assert made["measures"][0] == {
        "name": "steps_to_target", "label": "steps to 95 %", "unit": "steps", "direction": "lower", "scale": "ratio",
        "noun": "steps to the target test accuracy", "margin": "ratio",
    }  # fmt: skip


def test_each_run_has_its_raw_values_with_brackets(made):
    steps = [run["values"]["steps_to_target"] for run in made["runs"]]
    assert steps[0] == {"value": 900.0, "low": 800.0, "high": 900.0, "reason": ""}
    assert steps[1] == {"value": None, "low": 1000.0, "high": None, "reason": "not reached within 1,000 steps"}


def test_a_number_that_is_not_finite_is_null_with_a_reason(made):
    run = made["runs"][-1]
    (loss,) = [curve for curve in run["curves"] if curve["metric"] == "loss"]
    assert (loss["values"], loss["values_reason"]) == ([2.3, None], "a number that was not finite is null")
    rate, reason = run["info"]["samples_per_second"], run["info"]["samples_per_second_reason"]
    assert (rate, reason) == (None, "a number that was not finite is null")


def test_every_null_of_the_findings_has_a_reason_beside_it(made):
    def check(value):
        if isinstance(value, dict):
            missing = [key for key, part in value.items() if part is None and key != "index"]  # null is: of no unit
            assert all(value.get("reason") or value.get(f"{key}_reason") for key in missing), value
            for part in value.values():
                check(part)
        elif isinstance(value, list):
            for part in value:
                check(part)

    check({key: part for key, part in made.items() if key != "study"})


def test_numbers_of_numpy_become_plain_ones(made):
    assert type(made["runs"][-1]["info"]["step"]) is int


def test_a_run_that_the_findings_do_not_know_has_no_values():
    findings = analyse([arm_of("none", [reaching(900)])], ask_of())
    (run,) = document(findings, {}, [StudyRun("none", {}, 5, "id", None)])["runs"]
    assert run["values"] == {}


def test_nan_is_refused_as_text():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"x": math.nan})
