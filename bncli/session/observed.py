"""Runs that were made elsewhere, on the way that ours go: to records, to findings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bncli.analysis import ArmRuns, Ask, analyse
from bncli.config.observed import ObservedStudy
from bncli.config.reading import read_observed
from bncli.errors import ConfigError, unknown
from bncli.findings import Findings
from bncli.measures import Metric
from bncli.observed import Observed, ObservedRun
from bncli.records import Record, RunInfo, RunResult, StudyRun, group_arms
from bncli.session.metrics import choose_measures, margins_of


@dataclass(frozen=True)
class ObservedSession:
    """Runs that were made elsewhere, and how they are compared."""

    study: ObservedStudy
    found: Observed
    metrics: Mapping[str, Metric]  # that a measure or the target is of, by name, but for accuracy and loss
    aim: Metric  # that has a target, or would have


def open_observed(found: Observed, source: Path, sets: Sequence[str] = ()) -> ObservedSession:
    """How these runs are to be compared: what was set, and defaults that depend on what they hold.

    The first variant is the reference, the first metric the measure: its value at the end and at its best, and with a
    target how many steps it took.

    Raises:
        ConfigError: with every mistake.
    """
    variants = list(dict.fromkeys(run.variant for run in found.runs))
    metrics = list(dict.fromkeys(metric for run in found.runs for metric in run.curves))
    study = read_observed({"source": str(source), "reference": variants[0]}, sets)
    if len(variants) < 2:
        raise ConfigError(f"--from {source}: holds one variant, {variants[0]!r}; a comparison needs two")
    for key, name in (("reference", study.reference), ("target", study.target.get("final_of", study.reference))):
        if name not in variants:
            raise ConfigError(f"{key}: {unknown('variant', name, variants, in_order=True)}")
    chosen = choose_measures(study, study.target, metrics)
    study = study.model_copy(update={"measures": chosen.measures})
    return ObservedSession(study, found, chosen.metrics, chosen.aim)


def results_of(found: Observed) -> tuple[StudyRun, ...]:
    """The runs as records; one whose last number is not finite has diverged, unless its file says how it ended."""
    return tuple(StudyRun(r.variant, _setting(r.setting), r.seed, r.place, _result(r)) for r in found.runs)


def _result(run: ObservedRun) -> RunResult:
    points = [
        (metric, step, value)
        for metric, (steps, values) in run.curves.items()
        for step, value in zip(steps, values, strict=True)
    ]
    broken = [step for _, step, value in points if not math.isfinite(value)]
    last = max(step for _, step, _ in points)
    ends_broken = any(not math.isfinite(values[-1]) for _, values in run.curves.values())
    info = RunInfo(
        run.place,
        run.status or ("diverged" if ends_broken else "done"),
        run.ended if run.ended is not None else min(broken, default=last),
    )
    spec = {"training": {"steps": run.budget or last}, **({"classes": run.classes} if run.classes else {})}
    return RunResult(spec, info, [Record(*point, "") for point in points if math.isfinite(point[2])])


def _setting(text: str) -> Mapping[str, Any]:
    pairs = (part.partition("=") for part in text.split())
    return {key: value for key, _, value in pairs}


def analyse_observed(session: ObservedSession, runs: Sequence[StudyRun]) -> Findings:
    """Findings of runs that were made elsewhere."""
    study = session.study
    level = study.target.get(session.aim.name)
    ask = Ask(
        name=Path(study.source).name,
        question=study.question,
        setup=_setup(study, session.found),
        reference=study.reference,
        measures=study.measures,
        target_level=level if isinstance(level, float) else None,
        target_final_of=str(study.target["final_of"]) if "final_of" in study.target else None,
        margins=margins_of(study, session.metrics),
        split="",
        warnings=(*session.found.notes, *_warn_of_gaps(session.found)),
        environment={},
        metrics=session.metrics,
        aim=session.aim,
        made="elsewhere",
    )
    return analyse([ArmRuns(*arm) for arm in group_arms(runs)], ask)


def _setup(study: ObservedStudy, found: Observed) -> str:
    seeds = len({run.seed for run in found.runs})
    counted = f"{seeds} paired seeds" if found.seeded and seeds > 1 else f"{seeds} runs a variant at most"
    return f"{len(found.runs)} runs made elsewhere, read from {study.source} · {counted}"


def _warn_of_gaps(found: Observed) -> Iterator[str]:
    """What is missing in such runs, and what it does to the comparison."""
    ends = {max(steps[-1] for steps, _ in run.curves.values()) for run in found.runs if run.status in (None, "done")}
    if len(ends) > 1 and all(run.budget is None for run in found.runs):
        yield (
            f"runs end after {min(ends):,} to {max(ends):,} steps and no column says what they were allowed (budget):"
            " their last values are not of the same training; add the column"
        )
    if not found.seeded:
        yield (
            "the first run of a variant is held against the first of another, as if all had been drawn by themselves;"
            " add a column `seed` to pair them"
        )
