"""What an earlier bncli wrote: its baselines decide gates, and its documents' readers find every key where it was."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bncli.errors import StoreError, UndecidedError
from bncli.limits import BENCH_MEASURES, read_limit
from bncli.report.timing.exports import build_document
from bncli.timing.baseline import check_comparable, read_baseline
from bncli.timing.documents import read_record
from bncli.timing.gate import judge
from bncli.timing.results import (
    CaseFailure,
    CaseJudgement,
    Estimate,
    GateResult,
    KernelJudgement,
    ProcessReading,
)
from tests.report.made_bench import record

FIXTURES = Path(__file__).parent / "fixtures"
LIMITS = [read_limit("ratio:+5%", BENCH_MEASURES, slower=True)]


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FIXTURES / name).read_text())
    return document


def test_a_baseline_of_twenty_processes_is_read_as_it_was_written() -> None:
    found = read_baseline("baseline.json", load("baseline.json"))
    assert (found.machine.processor, found.machine.torch, found.machine.launches) == (
        "Intel(R) Xeon(R) Processor", "2.13.0+cpu", "eager",
    )  # fmt: skip
    readings = found.readings["batch/train-forward/N256C512/f32/nc/cpu"]
    assert readings["native"][0] == ProcessReading(1.0325107063157763, 0.00013062125000007363)
    assert {len(taken) for of_case in found.readings.values() for taken in of_case.values()} == {20}
    assert found.to_json() == {**load("baseline.json"), "readings": found.readings}
    with pytest.raises(UndecidedError, match="processor 'Intel"):
        check_comparable(found, type(found.machine)("another", *list(vars(found.machine).values())[1:]))


def test_a_gate_against_it_holds_for_the_same_and_fails_for_a_tenth_more() -> None:
    before = read_baseline("baseline.json", load("baseline.json")).readings
    case = "batch/train-forward/N32C64H28W28/f32/nchw/cpu"

    def slowed(factor: float) -> dict[str, dict[str, tuple[ProcessReading, ...]]]:
        return {case: {"native": tuple(ProcessReading(factor * r.ratio, r.seconds) for r in before[case]["native"])}}

    same, slower = (judge(LIMITS, before, slowed(f), lambda names, f=f: slowed(f)) for f in (1.0, 1.2))
    assert (same.verdict, slower.verdict) == ("holds", "regression")
    assert slower.judgements[0].change.value == pytest.approx(1.2)


def test_a_document_of_the_schema_before_is_read_and_has_every_key_under_its_new_name() -> None:
    old = load("bench.json")
    read = read_record("bench.json", old)
    now = build_document(read)
    assert [row.facts.implementation for row in read.rows] == ["bncli", "native"]
    assert read.rows[0].results[0].argument_copies == old["rows"][0]["processes"][0]["clones"]
    assert (read.complete, read.remeasurements, read.rows[0].ratios["native"].value) == (
        True, (), old["rows"][0]["ratios"]["native"]["value"],
    )  # fmt: skip
    assert sorted(lost(old, now, "")) == ["/again", "/rows/processes/clones", "/rows/ran", "/whole"]
    assert not lost(load("bench.json") | {"rows": []}, now | {"whole": 0, "again": 0}, "")


def test_a_document_is_read_as_it_was_written() -> None:
    change = Estimate(1.2, 1.1, 1.3)
    judged = CaseJudgement("a", "ratio", 0.05, "regression", change, 0.01, True, "why")
    claim = KernelJudgement("batch", "torch", "at", None, 0.9, "a paper", "refuted", change)
    unknown = CaseJudgement("a", "peak", 0.05, "undecided", None, None, False, "nothing was seen")
    first, *others = record().rows
    beside = replace(first, case=replace(first.case, versus=("group", (("groups", 8),))), rival_facts=first.facts)
    whole = record(
        rows=(beside, *others), gate=GateResult("regression", (judged, unknown), new=("b",)), claims=(claim,), clock_hertz=(2e9,), complete=False,
        remeasurements=record().rows[0].results, failures=(CaseFailure("c", "raised", "an error"),),
    )  # fmt: skip
    document = json.loads(json.dumps(build_document(whole)))
    assert read_record("bench.json", document) == whole


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"schema": "bncli/findings/2"},
            "of schema 'bncli/findings/2', this bncli reads bncli/bench/2 and bncli/bench/1",
        ),
        ({"schema": "bncli/bench/2"}, "no document of `bncli bench --json` (KeyError: 'rows')"),
    ],
)
def test_what_is_no_document_of_bench_is_said(document: dict[str, Any], said: str) -> None:
    with pytest.raises(StoreError, match=re.escape(said)):
        read_record("x.json", document)


def lost(then: Any, now: Any, at: str) -> list[str]:
    """Keys of a document that another of its schema lacks; values that name something (cases, versions) may differ."""
    if isinstance(then, dict) and at not in ("/environment", "/rows/case"):
        assert isinstance(now, dict), at
        free = {key for key in then if key.endswith("_reason")}
        return [f"{at}/{key}" for key in then if key not in now and key not in free] + [
            key for name in then.keys() & now.keys() for key in lost(then[name], now[name], f"{at}/{name}")
        ]
    return lost(then[0], now[0], at) if isinstance(then, list) and then and now else []
