"""From a session's results to findings, and to the JSON document."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bncli.analysis import ArmRuns, Ask, analyse
from bncli.cli.files import write
from bncli.cli.session import Session
from bncli.findings import Findings
from bncli.plan import describe, warnings_of
from bncli.records import RunResult
from bncli.report.document import document, dumps


def findings_of(session: Session, results: Mapping[str, RunResult]) -> Findings:
    """Analyse every run that the plan asked for and that did not fail."""
    good = {key: result for key, result in results.items() if result.info.status != "failed"}
    study, environments = session.study, _environments(good)
    ask = Ask(
        name=session.name,
        question=study.question,
        setup=describe(study, session.device),
        reference=study.reference,
        measures=study.measures,
        target_accuracy=study.target.accuracy,
        target_final_of=study.target.final_of,
        margins=study.margins.model_dump(),
        split=study.evaluation.split,
        warnings=(*warnings_of(study), *_mixed(environments)),
        environment=environments[0] if environments else {},
    )
    return analyse([ArmRuns(*arm) for arm in session.arms(good)], ask)


def write_json(place: str, session: Session, findings: Findings, results: Mapping[str, RunResult]) -> None:
    """Write the one JSON document to a file, or to stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    study = session.study.model_dump(mode="json")
    text = dumps(document(findings, study, [_run(run, results.get(run.id)) for run in session.runs]))
    write(place, text + "\n", f"--json {place}", after="; the runs themselves are stored")


def _run(run: Any, result: RunResult | None) -> dict[str, Any]:
    head = {"variant": run.variant, "setting": dict(run.setting), "seed": run.seed, "id": run.id}
    if result is None:
        return {**head, "info": None, "reason": "not trained", "curves": []}
    curves: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in result.records:
        key = (record.quantity, record.layer, record.unit)
        curve = curves.setdefault(key, {"quantity": key[0], "layer": key[1], "unit": key[2], "steps": [], "values": []})
        curve["steps"].append(record.step)
        curve["values"].append(record.value)
    return {**head, "spec": result.spec, "info": asdict(result.info), "curves": list(curves.values())}


def _environments(results: Mapping[str, RunResult]) -> list[Mapping[str, Any]]:
    return list({repr(r.info.environment): r.info.environment for r in results.values()}.values())


def _mixed(environments: list[Mapping[str, Any]]) -> list[str]:
    if len(environments) < 2:
        return []
    keys = {key for e in environments for key in e if e[key] != environments[0].get(key)}
    return [f"the runs were made in {len(environments)} environments that differ in {', '.join(sorted(keys))}"]
