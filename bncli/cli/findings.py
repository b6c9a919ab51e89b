"""From a session's results to findings, and to the JSON document."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from bncli import findings
from bncli.analysis import ArmRuns, Ask, analyse
from bncli.cli.again import both_halves
from bncli.cli.output import write
from bncli.cli.session import Session
from bncli.config import Claim
from bncli.config.study import searched_keys
from bncli.findings import Findings
from bncli.plan import describe, warnings_of
from bncli.records import RunResult
from bncli.report.study.json import document, dumps


def findings_of(session: Session, results: Mapping[str, RunResult], *, again: bool = False) -> Findings:
    """Analyse every run that the plan asked for and that did not fail; `again`: the reference against itself."""
    good = {key: result for key, result in results.items() if result.info.status != "failed"}
    study, environments = session.study, environments_of(good)
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
        warnings=(*warnings_of(study), *mixed(environments)),
        environment=environments[0] if environments else {},
        claims=tuple(map(_claim, study.claims)),
        searched=next(iter(searched_keys(study)), ""),
        chosen_by=study.tune.by if study.tune else "",
    )
    return analyse(both_halves(session, good) if again else _arms(session, good), ask)


def _arms(session: Session, results: Mapping[str, RunResult]) -> list[ArmRuns]:
    """The arms of the report with what was searched for them; of a bisection, the arms that were searched."""
    if not session.searched:
        return [ArmRuns(*arm) for arm in session.arms(results)]
    from bncli.session.search import arm_of, search_of

    key = next(iter(searched_keys(session.study)))
    search = search_of(session.searched, key, results)
    arms = {(variant, repr(dict(setting))): (setting, runs) for variant, setting, runs in session.arms(results)}
    for run in session.searched:
        setting = {k: v for k, v in run.setting.items() if k != key}
        arms.setdefault(arm_of(run, key), (setting, {}))
    return [ArmRuns(arm[0], setting, runs, search.get(arm, {})) for arm, (setting, runs) in arms.items()]


def findings_document(session: Session, found: Findings, results: Mapping[str, RunResult]) -> dict[str, Any]:
    """Findings with the study and every run behind them, as one JSON document."""
    runs = [run_document(run, results.get(run.id)) for run in (*session.searched, *session.runs)]
    return document(found, session.study.model_dump(mode="json"), runs)


def write_json(place: str, document: Mapping[str, Any]) -> None:
    """Write the one JSON document to a file, or to stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    write_text(place, dumps(document))


def write_text(place: str, text: str) -> None:
    """Write a document to a file, or to stdout for `-`.

    Raises:
        BncliError: if the file cannot be written.
    """
    write(place, text + "\n", f"--json {place}", after="; the runs themselves are stored")


def _claim(claim: Claim) -> findings.Claim:
    kind: Literal["ratio", "difference", "level"] = (
        "ratio" if claim.ratio else "difference" if claim.difference else "level"
    )
    band = claim.ratio or claim.difference or claim.level
    assert band is not None
    return findings.Claim(claim.measure, claim.of, claim.versus, claim.at, kind, band.below, band.above, claim.source)


def run_document(run: Any, result: RunResult | None) -> dict[str, Any]:
    """One run in a document: what was asked, how it ended, its curves."""
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


def environments_of(results: Mapping[str, RunResult]) -> list[Mapping[str, Any]]:
    """The machines that the results were made on, each once."""
    return list({repr(r.info.environment): r.info.environment for r in results.values()}.values())


def mixed(environments: list[Mapping[str, Any]]) -> list[str]:
    """A warning where there are several."""
    if len(environments) < 2:
        return []
    keys = {key for e in environments for key in e if e[key] != environments[0].get(key)}
    return [f"the runs were made in {len(environments)} environments that differ in {', '.join(sorted(keys))}"]
