"""`--aa`: the reference against itself on other seeds, which must not come out better or worse."""

from collections.abc import Mapping
from dataclasses import replace

from bncli.analysis import ArmRuns
from bncli.cli.session import Session
from bncli.errors import ConfigError
from bncli.findings import Check, Findings
from bncli.format import written_comparison, written_setting
from bncli.plan import runs_of
from bncli.records import RunResult


def against_itself(session: Session) -> Session:
    """The session of the reference alone, on the study's seeds and on as many after them.

    Raises:
        ConfigError: for a study that searches first.
    """
    study = session.study
    if study.tune or study.bisect:
        raise ConfigError("--aa: a study that tunes or bisects cannot be compared with itself; leave those keys out")
    update = {"variants": {study.reference: study.variants[study.reference]}, "claims": ()}
    seeds = study.seeds + tuple(seed + _shift(session) for seed in study.seeds)
    alone = study.model_copy(update=update)
    runs = runs_of(alone.model_copy(update={"seeds": seeds}), session.device, session.engine)
    return replace(session, study=alone).planned(runs)


def both_halves(session: Session, results: Mapping[str, RunResult]) -> list[ArmRuns]:
    """The reference's arms, and the same again with the other seeds under the numbers of the first."""
    shift, found = _shift(session), []
    for variant, setting, runs in session.arms(results):
        found.append(ArmRuns(variant, setting, {s: r for s, r in runs.items() if s in session.study.seeds}))
        others = {s - shift: r for s, r in runs.items() if s not in session.study.seeds}
        found.append(ArmRuns(f"{variant} again", setting, others))
    return found


def same_checks(findings: Findings) -> list[Check]:
    """Each comparison must be equivalent or inconclusive; at 95 % one in twenty is not, by chance."""
    measures = {measure.name: measure for measure in findings.measures}
    checks = []
    for c in (c for arm in findings.arms for c in arm.comparisons):
        measure = measures[c.measure]
        at = f" at {written_setting(c.setting)}" if c.setting else ""
        outcome: dict[str, object] = {"better": "failed", "worse": "failed", "not comparable": "undecided"}
        name = f"{measure.label}, {c.reference} against itself{at}"
        message = f"{written_comparison(c, measure)}, {c.pairs} pairs"
        checks.append(Check(name, outcome.get(c.verdict, "passed"), message, c.verdict))  # type: ignore[arg-type]
    return checks


def _shift(session: Session) -> int:
    return max(session.study.seeds) + 1
