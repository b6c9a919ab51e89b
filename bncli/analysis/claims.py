"""Claims against the runs: confirmed, refuted or undecided, by whether the whole interval agrees."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from bncli.analysis.comparisons import unpaired
from bncli.analysis.inputs import ArmRuns
from bncli.analysis.readers import values_of
from bncli.analysis.stats import Pair, differences, interval, mean_interval, observed, share_interval
from bncli.analysis.text import CLAIM_PAIRS
from bncli.findings import CHECKED, Check, Claim, Findings, Judgement, Measure, Value, outcome_of
from bncli.format import written_claim, written_judgement

Interval = tuple[float | None, float, float]  # estimate, low, high; unbounded ends are infinite


def judged(
    claims: Sequence[Claim], arms: Sequence[ArmRuns], targets: Sequence[float | None], measures: Mapping[str, Measure]
) -> Iterator[Judgement]:
    """Judge every claim at every setting that it speaks of.

    Args:
        claims: in the order of the study.
        arms: with their runs.
        targets: of each arm.
        measures: by name, those that the claims are about.
    """
    timed = list(zip(arms, targets, strict=True))
    for claim in claims:
        ours = [(a, t) for a, t in timed if a.variant == claim.of and claim.at.items() <= dict(a.setting).items()]
        for arm, target in ours:
            same = [a for a in arms if a.variant == claim.versus and dict(a.setting) == dict(arm.setting)]
            yield _judge(claim, arm, same[0] if same else None, target, measures[claim.measure])


def _judge(claim: Claim, arm: ArmRuns, other: ArmRuns | None, target: float | None, measure: Measure) -> Judgement:
    bare = Judgement(claim, measure, arm.setting, "undecided", 0, None, None, None)
    ours = {v.seed: v for v in values_of(claim.measure, arm, target)}
    if claim.kind == "level":
        found = [ours[seed] for seed in sorted(ours)]
        reason = next((v.reason for v in found if v.low is None and v.high is None), "") if found else "no run"
        return _decided(bare, len(found), reason, _level(found, measure) if len(found) > 1 and not reason else None)
    theirs = {v.seed: v for v in values_of(claim.measure, other, target)} if other else {}
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    reason = unpaired(pairs, (claim.of, str(claim.versus)))
    found_interval = _versus(pairs, claim.kind) if len(pairs) > 1 and not reason else None
    return _decided(bare, len(pairs), reason, found_interval)


def _decided(bare: Judgement, count: int, reason: str, found: Interval | None) -> Judgement:
    if found is None:
        return replace(bare, pairs=count, reason=reason or "one seed: no interval")
    estimate, low, high = found
    weak = f"indicative: fewer than {CLAIM_PAIRS} seeds" if count < CLAIM_PAIRS else ""
    return replace(
        bare,
        outcome=outcome_of(low, high, bare.claim.below, bare.claim.above),
        pairs=count,
        estimate=estimate,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        reason=weak,
    )


def _versus(pairs: Sequence[Pair], kind: str) -> Interval:
    scale: Literal["ratio", "difference"] = "ratio" if kind == "ratio" else "difference"
    points, (low, high) = observed(pairs, scale), interval(pairs, scale)
    estimate = None if points is None else float(np.mean(points))
    if kind == "ratio":
        low = math.exp(low) if math.isfinite(low) else low  # no lower bound, rather than 0
        return (None if estimate is None else math.exp(estimate)), low, math.exp(high)
    return estimate, low, high


def _level(values: Sequence[Value], measure: Measure) -> Interval:
    """Mean of one arm's values, with its interval; of a share the exact one."""
    nothing = Value(0, 0.0, 0.0, 0.0)
    lows, highs = differences([(value, nothing) for value in values], "difference")
    known = [v.value for v in values if v.value is not None]
    estimate = float(np.mean(known)) if len(known) == len(values) else None
    if measure.unit == "share":
        return estimate, *share_interval(float(sum(known)), len(values))
    low = float(mean_interval(lows)[0]) if np.isfinite(lows).all() else -math.inf
    high = float(mean_interval(highs)[1]) if np.isfinite(highs).all() else math.inf
    return estimate, low, high


def check_claims(findings: Findings) -> list[Check]:
    """One check a claim and setting: confirmed passes, refuted fails."""
    return [_check(judgement) for judgement in findings.claims]


def _check(judgement: Judgement) -> Check:
    claim = judgement.claim
    pairs = f"{judgement.pairs} {'runs' if claim.kind == 'level' else 'pairs'}"
    reason = f"; {judgement.reason}" if judgement.reason else ""
    message = f"measured {written_judgement(judgement)}, {pairs}{reason}; claimed by {claim.source}"
    return Check(written_claim(judgement), CHECKED[judgement.outcome], message, judgement.outcome)
