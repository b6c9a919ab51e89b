"""One arm against the reference over pairs of runs with the same seed, and claims about them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from bncli.analysis.readers import ArmRuns, values_of
from bncli.analysis.stats import (
    Pair,
    differences,
    holm,
    interval,
    mean_interval,
    more_seeds,
    observed,
    paired_test,
    ranked,
    share_interval,
    superiority,
    verdict,
)
from bncli.analysis.text import CLAIM_PAIRS
from bncli.findings import (
    CHECKED,
    Arm,
    Check,
    Claim,
    Comparison,
    Findings,
    Judgement,
    Measure,
    Summary,
    Value,
    outcome_of,
)
from bncli.format import written_claim, written_judgement


def compare(
    arm: Arm, reference: Arm | None, reference_name: str, margins: Mapping[str, float], measure: Measure
) -> Comparison:
    """Compare two arms of the same setting on one measure.

    Args:
        arm: the variant.
        reference: None where the reference has no run at this setting.
        reference_name: says who it would be.
        margins: by measure; a ratio's is its distance from 1.
        measure: one of those that the arms are summarised by.
    """
    sides = (arm.variant, reference_name)
    pairs = paired(arm, reference, measure.name) if reference is not None else []
    bare = Comparison(
        measure.name, *sides, arm.setting, len(pairs), None, None, None, None, "not comparable", unpaired(pairs, sides)
    )
    return bare if bare.reason else _judged(bare, pairs, margins[measure.name], measure)


def paired(arm: Arm, reference: Arm, measure: str) -> list[Pair]:
    """Values of one measure of the seeds that both arms have, in order of seeds."""
    ours, theirs = (_by_seed(summary_of(a, measure)) for a in (arm, reference))
    return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def summary_of(arm: Arm, measure: str) -> Summary:
    """The arm's summary of one measure."""
    return next(s for s in arm.summaries if s.measure == measure)


def log_margin(margin: float, measure: Measure) -> float:
    """A margin on the scale that intervals are computed on: a ratio of 1.05 is as far from 1 as 1/1.05."""
    return math.log1p(margin) if measure.scale == "ratio" else margin


def correct_for_family(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Arms whose comparisons know their p corrected for all variants of the same setting and measure."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for arm in arms:
        for c in arm.comparisons:
            groups.setdefault((c.measure, repr(dict(c.setting))), []).append(c)
    adjusted = {id(c): p for group in groups.values() for c, p in zip(group, holm([c.p for c in group]), strict=True)}
    return tuple(
        replace(arm, comparisons=tuple(replace(c, p_holm=adjusted[id(c)]) for c in arm.comparisons)) for arm in arms
    )


def _judged(bare: Comparison, pairs: Sequence[Pair], margin: float, measure: Measure) -> Comparison:
    points, ranks = observed(pairs, measure.scale), ranked(pairs)
    low, high = interval(pairs, measure.scale) if len(pairs) > 1 else (-math.inf, math.inf)
    share = superiority(pairs, measure.direction) or (None, None, None)
    said = verdict(low, high, log_margin(margin, measure), measure.direction)
    tested = ranks if points is None else points
    return replace(
        bare,
        estimate=None if points is None else on_scale(float(np.mean(points)), measure),
        low=on_scale(low, measure),
        high=on_scale(high, measure),
        superiority=share[0],
        verdict=said,
        reason="one seed: no interval" if len(pairs) == 1 else _open(pairs, (bare.variant, bare.reference)),
        superiority_low=share[1],
        superiority_high=share[2],
        p=None if tested is None else paired_test(tested),
        more_seeds=_more(pairs, margin, measure) if said == "inconclusive" else None,
    )


def _more(pairs: Sequence[Pair], margin: float, measure: Measure) -> int | None:
    return more_seeds(*differences(pairs, measure.scale), log_margin(margin, measure))


def on_scale(number: float, measure: Measure) -> float | None:
    """A number of the interval's scale on that of the measure: a ratio for a logarithm; None if it is unbounded."""
    if not math.isfinite(number):
        return None
    return math.exp(number) if measure.scale == "ratio" else number


def unpaired(pairs: Sequence[Pair], sides: tuple[str, str]) -> str:
    """Why there is nothing to compare; empty if there is."""
    if not pairs:
        return f"no seed has a run of both {sides[0]} and {sides[1]}"
    for i in (0, 1):
        if all(pair[i].low is None for pair in pairs):
            return f"{sides[i]}: {pairs[0][i].reason}"
    return ""


def _open(pairs: Sequence[Pair], sides: tuple[str, str]) -> str:
    """Which runs leave the interval open, and at which end."""
    found = []
    for i, end in ((0, "upper"), (1, "lower")):
        lacking = [pair[i] for pair in pairs if pair[i].value is None]
        if lacking:
            ends = "both ends are" if any(v.low is None for v in lacking) else f"the {end} end is"
            found.append(f"{sides[i]} in {len(lacking)} of {len(pairs)} pairs: {lacking[0].reason}; {ends} unbounded")
    return "; ".join(found)


def _by_seed(summary: Summary) -> dict[int, Value]:
    return {value.seed: value for value in summary.values}


Interval = tuple[float | None, float, float]  # estimate, low, high; unbounded ends are infinite


def judge_study_claims(
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
