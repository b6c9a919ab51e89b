"""Findings as one JSON document: raw values, verdicts, units, and a reason wherever a number is missing."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any

from bncli.findings import Arm, Comparison, Findings, Judgement, SearchFindings
from bncli.findings.shift import ShiftFindings
from bncli.format import written_claim
from bncli.records import CurveKey, StudyRun

SCHEMA = "bncli/findings/3"
SHIFT_SCHEMA = "bncli/shift/3"
NOT_FINITE = "a number that was not finite is null"  # the reason beside it


def document(
    findings: Findings, study: Mapping[str, Any] | None = None, runs: Sequence[StudyRun] | None = None
) -> dict[str, Any]:
    """Everything that a study says, in types that JSON knows.

    A number that is not finite becomes None, with a sentence under `<key>_reason` beside it.

    Args:
        findings: what the analysis says.
        study: the configuration, whole; null where it is not at hand.
        runs: those of the study, with status and curves; each gets its value of every measure added as `values`.
            Without them: those that the values are of.
    """
    values = _values(findings.arms)
    found = list(_bare_runs(findings.arms)) if runs is None else [run_document(run) for run in runs]
    whole = {
        "schema": SCHEMA,
        "name": findings.name,
        "question": findings.question,
        "setup": findings.setup,
        "study": study,
        **({} if study else {"study_reason": "not kept with findings alone"}),
        "measures": [asdict(measure) for measure in findings.measures],
        "runs": [{**run, "values": values.get(_key(run), {})} for run in found],
        "arms": [_arm(arm) for arm in findings.arms],
        "verdicts": [_comparison(comparison) for arm in findings.arms for comparison in arm.comparisons],
        "claims": [_judgement(judgement) for judgement in findings.claims],
        "tunings": [asdict(tuning) for tuning in findings.tunings],
        "searches": [_search(search) for search in findings.searches],
        "answer": findings.answer,
        "headlines": findings.headlines,
        "notes": [asdict(note) for note in findings.notes],
        "warnings": findings.warnings,
        "looks": asdict(findings.looks),
        "curves": [asdict(curve) for curve in findings.curves],
        "environment": findings.environment,
    }
    made: dict[str, Any] = plain(whole)
    return made


def shift_document(findings: ShiftFindings, study: Mapping[str, Any], runs: Sequence[StudyRun]) -> dict[str, Any]:
    """The same of a study with probes: every number that a sentence of it says, and the curves behind them."""
    whole = {"schema": SHIFT_SCHEMA, **asdict(findings), "study": study, "runs": [run_document(run) for run in runs]}
    made: dict[str, Any] = plain(whole)
    return made


def run_document(run: StudyRun) -> dict[str, Any]:
    """One run in a document: what was asked, how it ended, its curves."""
    head = {"variant": run.variant, "setting": dict(run.setting), "seed": run.seed, "id": run.id}
    if run.result is None:
        return {**head, "info": None, "reason": "not trained", "curves": []}
    curves: dict[CurveKey, dict[str, Any]] = {}
    for record in run.result.records:
        key = record.key
        if key not in curves:
            curves[key] = {**key._asdict(), "unit": record.unit, "steps": [], "values": []}
        curve = curves[key]
        curve["steps"].append(record.step)
        curve["values"].append(record.value)
    return {**head, "spec": run.result.spec, "info": asdict(run.result.info), "curves": list(curves.values())}


def dumps(document: Mapping[str, Any]) -> str:
    """The document as text, indented; refuses NaN and infinities."""
    return json.dumps(document, allow_nan=False, indent=2)


def _arm(arm: Arm) -> dict[str, Any]:
    """An arm without its comparisons and raw values, which stand under `verdicts` and `runs`."""
    fields = {key: value for key, value in asdict(arm).items() if key not in ("summaries", "comparisons")}
    for key, reason in (
        ("target", "no target is timed"),
        ("reached", "no target is timed"),
        ("ms_per_step", "no training time was recorded"),
        ("parameters", "not recorded"),
        ("crossing", "no target is timed"),
    ):
        if fields[key] is None:
            fields[f"{key}_reason"] = reason
    if arm.crossing:
        fields["crossing"] = _reasoned(
            asdict(arm.crossing), median="fewer than half of the runs got there", running_time="no run got there"
        )
    summaries = []
    for each in arm.summaries:
        said = {key: value for key, value in asdict(each).items() if key != "values"}
        whole = "every run has a value: see the mean" if each.mean is not None else each.reason
        summaries.append(_reasoned(said, mean=each.reason, std=each.reason, median=whole))
    return {**fields, "summaries": summaries}


def _bare_runs(arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    for arm in arms:
        for seed in sorted({value.seed for summary in arm.summaries for value in summary.values}):
            yield {"variant": arm.variant, "setting": arm.setting, "seed": seed}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    decided = "no more are needed" if comparison.verdict != "inconclusive" else "none up to 1,000 would decide"
    unbounded = comparison.reason or "so few pairs bound nothing at this level"
    return _reasoned(
        asdict(comparison), more_seeds=decided, corrected_low=unbounded, corrected_high=unbounded, method="no interval"
    )


def _search(search: SearchFindings) -> dict[str, Any]:
    weights = [_reasoned(asdict(each), share=each.reason, p=each.reason) for each in search.importances]
    return {**asdict(search), "importances": weights}


def _judgement(judgement: Judgement) -> dict[str, Any]:
    """A judgement with its claim in words, of the claim what was given, and its measure: the table may have others."""
    fields = asdict(judgement)
    fields["claim"] = {key: value for key, value in fields["claim"].items() if value is not None}
    open_end = judgement.reason or "unbounded: a run has no value"
    unasked = fields.pop("detectable_reason") or "not worked out by the bncli that judged it"
    return {
        "text": written_claim(judgement),
        **_reasoned(fields, estimate=open_end, low=open_end, high=open_end, method="no interval", detectable=unasked),
    }


def _reasoned(fields: dict[str, Any], **reasons: str) -> dict[str, Any]:
    """`fields` with a sentence beside each of these that is None."""
    return {**fields, **{f"{key}_reason": reason for key, reason in reasons.items() if fields[key] is None}}


def _values(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """Raw values of each run by measure, found by variant, setting and seed."""
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        for summary in arm.summaries:
            for value in summary.values:
                bracket = {key: part for key, part in asdict(value).items() if key != "seed"}
                key = _key({"variant": arm.variant, "setting": arm.setting, "seed": value.seed})
                found.setdefault(key, {})[summary.measure] = bracket
    return found


def _key(run: Mapping[str, Any]) -> str:
    return json.dumps(plain([run["variant"], run["setting"], run["seed"]]), sort_keys=True)


def plain(value: Any) -> Any:
    """Mappings, lists, texts, booleans, whole and finite numbers; anything else as text."""
    if isinstance(value, Mapping):
        return _with_reasons(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _with_reasons(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    made = {}
    for key, value in mapping.items():
        made[str(key)] = plain(value)
        if not isinstance(value, Mapping) and _not_finite(value):
            made[f"{key}_reason"] = NOT_FINITE
    return made


def _not_finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_not_finite(item) for item in value)
    return isinstance(value, Real) and not math.isfinite(value)
