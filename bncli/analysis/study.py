"""The flow from runs to findings: targets, arms, comparisons, and what is said of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from bncli.analysis import summaries
from bncli.analysis.answer import find_answer
from bncli.analysis.claims import judge_study_claims
from bncli.analysis.comparisons import compare
from bncli.analysis.curves import find_curves
from bncli.analysis.notes import find_notes
from bncli.analysis.readers import ArmRuns, Ask, final_accuracy, final_value, values_of
from bncli.analysis.search import find_search_warnings, find_searches, search_notes
from bncli.analysis.stats import level_of
from bncli.analysis.summaries import crossing
from bncli.analysis.text import headlines, written_level
from bncli.analysis.tuning import find_tuning_warnings, tuning_notes, tunings
from bncli.analysis.warnings import find_warnings
from bncli.findings import Arm, Findings, Measure
from bncli.measures import ACCURACY, CROSSINGS, Metric
from bncli.records import RunResult


def analyse(arms: Sequence[ArmRuns], ask: Ask) -> Findings:
    """Summarise every arm, compare each with the reference at the same setting, and say what may be said.

    Runs that failed count as missing. The order of the arms is kept.
    """
    arms = [_finished(arm) for arm in arms]
    tuned, searches = tuple(tunings(arms, ask)), tuple(find_searches(arms, ask))
    targets = [_target(arm, arms, ask) for arm in arms]
    measures = tuple(_measure(name, targets, arms, ask) for name in ask.measures)
    claimed = {claim.measure: _measure(claim.measure, targets, arms, ask) for claim in ask.claims}
    choices: dict[tuple[str, str], Mapping[str, Any]] = {(t.variant, repr(t.setting)): {t.key: t.chosen} for t in tuned}
    choices |= {(each.variant, repr(each.setting)): each.chosen for each in searches}
    bare = [
        replace(_arm(arm, target, ask), chosen=choices.get((arm.variant, repr(arm.setting)), {}))
        for arm, target in zip(arms, targets, strict=True)
    ]
    margins: Mapping[str, float] = {m.name: ask.margins[m.margin] for m in measures}
    compared = compare(bare, ask.reference, margins, measures, ask.looks)
    chosen = [*tuning_notes(tuned), *search_notes(searches)]  # the first says how, the others what was chosen
    return Findings(
        ask.name,
        ask.question,
        ask.setup,
        headlines=headlines(compared, measures[0], ask),
        measures=measures,
        arms=compared,
        notes=(*chosen[:1], *find_notes(arms, compared, measures, ask), *chosen[1:]),
        warnings=(
            *ask.warnings,
            *find_tuning_warnings(tuned),
            *find_search_warnings(searches),
            *find_warnings(arms, compared, measures, ask),
        ),
        environment=ask.environment,
        claims=tuple(judge_study_claims(ask.claims, arms, targets, claimed, ask, level_of(ask.looks))),
        tunings=tuned,
        searches=searches,
        looks=ask.looks,
        curves=tuple(find_curves(arms, ask.aim, ask.metrics)),
        answer=find_answer(compared, measures, arms, ask),
    )


def _finished(arm: ArmRuns) -> ArmRuns:
    return replace(arm, runs={s: r for s, r in sorted(arm.runs.items()) if r.info.status != "failed"})


def _target(arm: ArmRuns, arms: Sequence[ArmRuns], ask: Ask) -> float | None:
    """The level timed at the arm's setting; None where there is none to be had."""
    if ask.target_final_of is None:
        return ask.target_level
    timed = [a for a in arms if a.variant == ask.target_final_of and dict(a.setting) == dict(arm.setting)]
    finals = [_final(seed, run, ask.aim) for a in timed for seed, run in a.runs.items()]
    known = [f for f in finals if f is not None and math.isfinite(f)]
    return median(known) if known else None


def _final(seed: int, run: RunResult, aim: Metric) -> float | None:
    return (final_accuracy(seed, run) if aim == ACCURACY else final_value(seed, run, aim)).value


def _measure(name: str, targets: Sequence[float | None], arms: Sequence[ArmRuns], ask: Ask) -> Measure:
    kind = ask.row(name)
    unit, label = kind.unit, kind.summary
    noun = " ".join(kind.noun.format(split=ask.split, target=ask.aimed()).split())
    if name in CROSSINGS:
        label = f"{unit} to {_target_words(targets, ask)}"
    elif unit == "nats":
        classes = {run.spec.get("classes") for arm in arms for run in arm.runs.values()}
        # without classes numbers are fitted; of runs that were made elsewhere nobody knows
        unit = "squared error" if classes == {0} else "" if None in classes else unit
        label = f"{label} ({unit})" if unit else label
    return Measure(name, label, unit, kind.direction, kind.scale, noun, kind.margin)


def _target_words(targets: Sequence[float | None], ask: Ask) -> str:
    """`95 %`; where settings have levels of their own, whose they are."""
    levels = {target for target in targets if target is not None}
    if len(levels) == 1:
        return written_level(levels.pop(), ask.aim)
    return f"final of {ask.target_final_of}" if levels else "target"


def _arm(arm: ArmRuns, target: float | None, ask: Ask) -> Arm:
    found = {name: values_of(name, arm, target, ask) for name in ask.measures}
    runs = list(arm.runs.values())
    timed = target is not None and any(name in CROSSINGS for name in ask.measures)
    steps = (found.get("steps_to_target") or values_of("steps_to_target", arm, target, ask)) if timed else None
    return Arm(
        arm.variant,
        arm.setting,
        is_reference=arm.variant == ask.reference,
        seeds=len(runs),
        target=target,
        reached=None if steps is None else sum(value.value is not None for value in steps),
        statuses=summaries.statuses(runs),
        summaries=tuple(summaries.summary(name, values) for name, values in found.items()),
        comparisons=(),
        ms_per_step=summaries.ms_per_step(runs),
        parameters=summaries.parameters(runs),
        crossing=None if steps is None else crossing(steps, runs),
    )
