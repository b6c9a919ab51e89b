"""A document read and written again is the same document, whatever it is of."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bncli.errors import StoreError
from bncli.findings import Findings
from bncli.records import Record, RunInfo, RunResult, StudyRun
from bncli.report.data import ReportData
from bncli.report.documents import build_document, read_document
from bncli.report.exports import KIND_NAMES, ReportKind, render
from bncli.report.study.json import dumps
from bncli.store.pack import migrate_findings
from report.test_schema import made  # noqa: F401 - a fixture
from tests.report.test_exports import DATA

NAN = float("nan")


def as_read(data: ReportData) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dumps(build_document(data)))
    return found


@pytest.mark.parametrize("kind", [kind for kind in KIND_NAMES if kind != "sheet"])
def test_a_document_comes_back(kind: ReportKind) -> None:
    before = as_read(DATA[kind])
    assert as_read(read_document("x.json", before)) == before


def test_a_document_with_all_that_findings_can_hold_comes_back(made: Findings) -> None:  # noqa: F811
    infos = RunInfo("a", "diverged", 3, "it diverged", seconds={"training": 1.5}), RunInfo("b", "done", 9)
    records = (Record("loss", 0, 2.3, "nats"), Record("loss", 3, NAN, "nats"), Record("w1", 3, 1.0, "", "hidden.0"))
    runs = tuple(
        StudyRun("none", {"training.batch_size": 60}, seed, info.id, RunResult({"seed": seed}, info, records))
        for seed, info in enumerate(infos)
    )
    data = ReportData("x", made, {"seeds": [0, 1]}, (*runs, StudyRun("batch", {}, 5, "c", None)), (), "bncli compare x")
    before = as_read(data)
    assert as_read(read_document("x.json", before)) == before


def test_a_number_that_was_not_finite_comes_back_as_none() -> None:
    data = DATA["shift"]
    arm = data.findings.arms[0]  # type: ignore[union-attr]
    lost = replace(arm, cells=(replace(arm.cells[0], mean=NAN, values={0: NAN, 1: 0.5}),))  # type: ignore[call-arg, arg-type]
    before = as_read(replace(data, findings=replace(data.findings, arms=(lost,))))  # type: ignore[type-var]
    assert before["arms"][0]["cells"][0]["values"] == {
        "0": None,
        "0_reason": "a number that was not finite is null",
        "1": 0.5,
    }
    assert as_read(read_document("x.json", before)) == before


def test_documents_of_shift_from_before_are_read() -> None:
    now = as_read(DATA["shift"])
    arms = [
        {**arm, "cells": [{**cell, "centre": cell["mean"], "spread": cell["std"]} for cell in arm["cells"]]}
        for arm in json.loads(json.dumps(now["arms"]))
    ]
    for arm in arms:
        for cell in arm["cells"]:
            del cell["mean"], cell["std"]
    notes = [note["text"] for note in now["notes"]]
    old = {**now, "schema": "bncli/shift/2", "arms": arms, "notes": notes}
    assert as_read(read_document("x.json", migrate_findings(old))) == now


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"schema": "bncli/findings/9"},
            r"^x.json: document of schema 'bncli/findings/9', this bncli reads bncli/find",
        ),
        ({"a": 1}, r"^x.json: document of schema 'None', this bncli reads"),
        ({"schema": "bncli/findings/3", "runs": []}, r"^x.json: not a whole document \(KeyError: 'arms'\)$"),
        ({"schema": "bncli/shift/3", "runs": [], "arms": 3}, r"^x.json: not a whole document \(ValidationError: "),
        ({"schema": "bncli/bench/2"}, r"^x.json: no document of `bncli bench --json` \(KeyError: 'rows'\)$"),
    ],
)
def test_what_is_no_document_is_one_line(document: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        read_document("x.json", document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["probed", "quickstart"])
def test_documents_of_the_first_schemas_are_read_and_shown_in_every_format(name: str) -> None:
    packed = (Path(__file__).parent.parent / f"fixtures/before_second_house/{name}.json.gz").read_bytes()
    data = read_document(name, migrate_findings(json.loads(gzip.decompress(packed))))
    for form in ("text", "markdown", "latex", "csv", "json"):
        assert "batch" in str(render(data, form))
