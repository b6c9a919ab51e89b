"""The one JSON document of whatever was found, and back again."""

from dataclasses import asdict
from typing import Any

from bncli.findings.shift import ShiftFindings
from bncli.report.data import ReportData
from bncli.report.study.json import document, dumps, plain, run_document, shift_document
from bncli.report.timing import exports as bench
from bncli.timing.results import BenchRecord

RUNS_SCHEMA = "bncli/runs/1"
_NOT_FINITE = "a number that was not finite is null"  # as report/study/json.py says it


def build_document(data: ReportData) -> dict[str, Any]:
    """All of it in types that JSON knows (docs/schema.json)."""
    found, study = data.findings, data.study
    if isinstance(found, BenchRecord):
        return {**bench.build_document(found), "command": data.command}
    if isinstance(found, ShiftFindings):
        made = shift_document(found, study or {}, data.runs)
    elif found is None:
        made = {"schema": RUNS_SCHEMA, "name": data.name, "study": study, "runs": list(map(run_document, data.runs))}
    else:
        made = document(found, study, data.runs or None)
    checks = [asdict(check) for check in data.checks]
    whole: dict[str, Any] = plain({**made, "checks": checks, "command": data.command})
    return whole


def export_json(data: ReportData) -> str:
    """The document as text."""
    return dumps(build_document(data)) + "\n"
