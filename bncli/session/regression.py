"""The gate for learning: a study trained by the code as it is now against a baseline, or a reference against itself."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bncli.code_hash import fingerprint
from bncli.config import Study
from bncli.config.task import name_metric
from bncli.errors import ConfigError, StoreError
from bncli.files import describe_failure
from bncli.findings import Check, Direction, Findings, Measure
from bncli.format import written_comparison, written_setting
from bncli.limits import Limit, limits_by_name, read_limit
from bncli.measures import RECORDED, measure_row
from bncli.plan import runs_of
from bncli.plugins import registered
from bncli.records import RunResult
from bncli.session.metrics import declare_metrics
from bncli.session.study import Session
from bncli.shift import METRICS
from bncli.store.folder import Store

if TYPE_CHECKING:
    from bncli.analysis import ArmRuns


def with_fresh_store(session: Session) -> Session:
    """The session with a store of this very code's runs: `STORE`/sources/HASH.

    A run's id says what was asked, not by which code it was answered; a gate must not be answered by the runs of a
    norm as it was before it changed.
    """
    code = fingerprint(plugins=[plugin.hash for plugin in registered()])
    return replace(session, store=Store(session.store.folder / "sources" / code))


def read_limits(texts: Sequence[str], ways: Mapping[str, Direction], variants: Iterable[str]) -> list[Limit]:
    """Read every `--fail-if`.

    Args:
        texts: as given.
        ways: measures that there are, with the side on which each is better.
        variants: that there are.

    Raises:
        ConfigError: if one is not `MEASURE:+10%`, is to the better side, about a measure that the study does not ask
            for, or for no variant.
    """
    either = [name for name, metric in METRICS.items() if metric.better is None]
    better = {name: way for name, way in ways.items() if name not in either}
    limits = [read_limit(text, list(ways), better) for text in texts]
    limits_by_name(limits, variants)
    return limits


def limits_of(texts: Sequence[str], study: Study, found: Sequence[Measure] = ()) -> list[Limit]:
    """Read every `--fail-if` of a study; of a task, whose measures nobody knows before it yields, once they are found.

    Raises:
        ConfigError: as `read_limits`.
    """
    if study.task:
        return read_limits(texts, {m.name: m.direction for m in found}, study.variants) if found else []
    declared, aim = declare_metrics(study.metrics, ()), name_metric(study)
    rows = {name: measure_row(name, declared, declared.get(aim) or RECORDED[aim]) for name in study.measures}
    return read_limits(texts, {name: row.direction for name, row in rows.items()}, study.variants)


def require_place(store: Store, baseline: str) -> None:
    """Make sure that a baseline can be written, before its runs are trained.

    Raises:
        StoreError: if it cannot.
    """
    place = store.baseline(baseline)
    there = next(folder for folder in place.parents if folder.exists())
    if place.is_dir() or not (there.is_dir() and os.access(place if place.exists() else there, os.W_OK)):
        raise StoreError(f"--save-baseline {baseline}: {place} cannot be written; choose another place")


def read_baseline(store: Store, name: str, schema: str) -> Mapping[str, Any]:
    """The baseline of that name or file, as a document of findings that can be compared.

    Raises:
        UndecidedError: if there is none.
        StoreError: if it is of another schema, or not whole.
    """
    from bncli.analysis.regression import check_values, regressions

    found, place = store.read_baseline(name), store.baseline(name)
    if found.get("schema") != schema:
        raise StoreError(f"{place}: expected a document of schema {schema!r}, got {found.get('schema')!r}")
    try:
        check_values(found)
        regressions(found, found, ())  # before hours of training: what it lacks would be missed after them
    except Exception as error:
        raise StoreError(f"{place}: not a whole baseline ({describe_failure(error)}); save it anew") from None
    return found


def refuse_mixtures(save: str | None, baseline: str | None, fail_if: Sequence[str], aa: bool, check: bool) -> None:
    """Options that mean nothing together.

    Raises:
        ConfigError: naming them.
    """
    if fail_if and not baseline:
        raise ConfigError("--fail-if: says how far a measure may move from a baseline; give --baseline too")
    if aa and (save or baseline or check):
        raise ConfigError("--aa: compares the reference with itself; it goes with no --check and no baseline")


def refuse_looks(session: Session) -> None:
    """Raise a ConfigError where a gate is to hold runs whose number is not fixed."""
    if session.study.looks:
        raise ConfigError("--until decided: a gate needs a fixed number of seeds; leave it out, or the gate")


def refuse_no_claims(session: Session) -> None:
    """Raise a ConfigError where there is nothing to check."""
    if not session.study.claims:
        why = f"{session.name} makes no claims about these variants"
        raise ConfigError(f"--check: {why}; write them under `claims:` (docs/studies.md)")


def against_itself(session: Session) -> Session:
    """The session of the reference alone, on the study's seeds and on as many after them.

    Raises:
        ConfigError: for a study that searches first.
    """
    study = session.study
    if study.any_search:
        raise ConfigError(
            "--aa: a study that tunes, bisects or searches cannot be compared with itself; leave those keys out"
        )
    update = {"variants": {study.reference: study.variants[study.reference]}, "claims": ()}
    seeds = study.seeds + tuple(seed + _shift(session) for seed in study.seeds)
    alone = study.model_copy(update=update)
    runs = runs_of(alone.model_copy(update={"seeds": seeds}), session.device, session.engine)
    return replace(session, study=alone).planned(runs)


def both_halves(session: Session, results: Mapping[str, RunResult]) -> "list[ArmRuns]":
    """The reference's arms, and the same again with the other seeds under the numbers of the first."""
    from bncli.analysis import ArmRuns  # brings scipy, which a plan does without

    shift, found = _shift(session), []
    for variant, setting, runs in session.arms({id_: r for id_, r in results.items() if r.info.has_numbers}):
        found.append(ArmRuns(variant, setting, {s: r for s, r in runs.items() if s in session.study.seeds}))
        others = {s - shift: r for s, r in runs.items() if s not in session.study.seeds}
        found.append(ArmRuns(f"{variant} again", setting, others))
    return found


def check_same(findings: Findings) -> list[Check]:
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
