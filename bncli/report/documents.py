"""The one JSON document of whatever was found, and back again."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bncli.errors import StoreError, as_line
from bncli.findings import Check, Findings, Value
from bncli.findings.shift import ShiftFindings
from bncli.records import StudyRun, read_run_document
from bncli.report.data import ReportData
from bncli.report.study.json import (
    NOT_FINITE,
    SCHEMA,
    SHIFT_SCHEMA,
    document,
    dumps,
    plain,
    run_document,
    shift_document,
)
from bncli.report.timing.exports import build_document as build_bench_document
from bncli.report.timing.gate import list_checks
from bncli.timing.documents import SCHEMA as BENCH_SCHEMA
from bncli.timing.documents import read_record
from bncli.timing.results import BenchRecord

RUNS_SCHEMA = "bncli/runs/1"


def build_document(data: ReportData) -> dict[str, Any]:
    """All of it in types that JSON knows (docs/schema.json)."""
    found, study = data.findings, data.study
    if isinstance(found, BenchRecord):
        return {**build_bench_document(found), "command": data.command}
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


def read_document(place: str, document: Mapping[str, Any]) -> ReportData:
    """What a document of today's schemas was made from: the inverse of `build_document`.

    Args:
        place: where it was read, for what is said if it is no such document.
        document: all of it; one of an older schema is migrated before.

    Raises:
        StoreError: if it is none.
    """
    schema = str(document.get("schema"))
    if schema.startswith("bncli/bench/"):
        record = read_record(place, {key: value for key, value in document.items() if key != "command"})
        return ReportData(record.name, record, None, (), tuple(list_checks(record)), document.get("command", ""))
    if schema not in (SCHEMA, SHIFT_SCHEMA, RUNS_SCHEMA):
        known = f"{SCHEMA}, {SHIFT_SCHEMA}, {BENCH_SCHEMA} and {RUNS_SCHEMA}"
        raise StoreError(f"{place}: document of schema {schema!r}, this bncli reads {known}, and older ones of these")
    try:
        told = _thaw(document)
        runs = tuple(_read_run(run) for run in document["runs"] if "id" in run)
        found: Findings | ShiftFindings | None = None
        if schema == SCHEMA:
            found = TypeAdapter(Findings).validate_python({**told, "arms": _gather_arms(told), "claims": _gather(told)})
        elif schema == SHIFT_SCHEMA:
            found = TypeAdapter(ShiftFindings).validate_python(told)
        checks = TypeAdapter(tuple[Check, ...]).validate_python(told.get("checks", ()))
        return ReportData(document["name"], found, document["study"], runs, checks, document.get("command", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise StoreError(as_line(f"{place}: not a whole document ({type(error).__name__}: {why:.100})")) from None


def _read_run(run: Mapping[str, Any]) -> StudyRun:
    result = None if run["info"] is None else read_run_document(run)
    return StudyRun(run["variant"], run["setting"], run["seed"], run["id"], result)


def _gather_arms(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Arms with what the document keeps elsewhere: raw values by run, verdicts by comparison."""
    return [
        {
            **arm,
            "summaries": [{**s, "values": _gather_values(told["runs"], arm, s["measure"])} for s in arm["summaries"]],
            "comparisons": [v for v in told["verdicts"] if _is_of(v, arm)],
        }
        for arm in told["arms"]
    ]


def _gather_values(runs: Any, arm: Mapping[str, Any], measure: str) -> list[Value]:
    return [
        Value(run["seed"], **{key: run["values"][measure][key] for key in ("value", "low", "high", "reason")})
        for run in runs
        if _is_of(run, arm) and measure in run["values"]
    ]


def _is_of(what: Mapping[str, Any], arm: Mapping[str, Any]) -> bool:
    return bool(what["variant"] == arm["variant"] and what["setting"] == arm["setting"])


def _gather(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judgements with all of their claim, and their measure, which older documents have among the table's alone."""
    measures = {measure["name"]: measure for measure in told["measures"]}
    nothing = {"versus": None, "below": None, "above": None}
    return [
        {
            **claim,
            "claim": nothing | claim["claim"],
            "measure": claim.get("measure") or measures[claim["claim"]["measure"]],
        }
        for claim in told["claims"]
    ]


def _thaw(value: Any) -> Any:
    """The same with numbers that were not finite, and are null with that reason, as nan."""
    if isinstance(value, list):
        return [_thaw(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    lost = {key for key in value if value.get(f"{key}_reason") == NOT_FINITE}
    reasons = {f"{key}_reason" for key in lost}
    kept = {key: item for key, item in value.items() if key not in reasons}
    return {key: _not_a_number(item) if key in lost else _thaw(item) for key, item in kept.items()}


def _not_a_number(value: Any) -> Any:
    return math.nan if value is None else [_not_a_number(item) for item in value] if isinstance(value, list) else value
