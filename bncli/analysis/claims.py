"""Claims against runs: what holds by its whole interval, and how small an effect could have been decided."""

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from bncli.analysis.comparisons import apart, lonely, unpaired
from bncli.analysis.exact import Floats
from bncli.analysis.notes import CLAIM_PAIRS
from bncli.analysis.quantiles import beta_quantile, t_quantile
from bncli.analysis.readers import ArmRuns, Ask, values_of
from bncli.analysis.stats import (
    ALONE,
    Level,
    Pair,
    are_shares,
    critical_t,
    differences,
    half_width,
    interval,
    interval_method,
    observed,
    share_interval,
)
from bncli.findings import CHECKED, Check, Claim, Findings, Judgement, Measure, Method, Scale, Value, outcome_of
from bncli.format import written_claim, written_detectable, written_judgement

Interval = tuple[float | None, float, float]  # estimate, low, high; unbounded ends are infinite


def judge_study_claims(
    claims: Sequence[Claim], arms: Sequence[ArmRuns], targets: Sequence[float | None], measures: Mapping[str, Measure],
    ask: Ask, level: Level = ALONE,
) -> Iterator[Judgement]:  # fmt: skip
    """Judge every claim at every setting that it speaks of.

    Args:
        claims: in the order of the study.
        arms: with their runs.
        targets: of each arm.
        measures: by name, those that the claims are about.
        ask: what the study wants to know.
        level: of each claim's interval.
    """
    timed = list(zip(arms, targets, strict=True))
    for claim in claims:
        ours = [(a, t) for a, t in timed if a.variant == claim.of and claim.at.items() <= dict(a.setting).items()]
        for arm, target in ours:
            same = [a for a in arms if a.variant == claim.versus and dict(a.setting) == dict(arm.setting)]
            yield _judge(claim, arm, same[0] if same else None, target, measures[claim.measure], ask, level)


def _judge(
    claim: Claim, arm: ArmRuns, other: ArmRuns | None, target: float | None, measure: Measure, ask: Ask, level: Level
) -> Judgement:
    bare = Judgement(claim, measure, arm.setting, "undecided", 0, None, None, None, level=1 - level.error)
    ours = {v.seed: v for v in values_of(claim.measure, arm, target, ask)}
    if claim.kind == "level":
        found = [value for value, _ in apart([(ours[seed], ours[seed]) for seed in sorted(ours)], measure)]
        reason = next((v.reason for v in found if v.low is None and v.high is None), "") if found else "no run"
        enough = len(found) > 1 and not reason
        exact: Method = "e-value" if level.anytime else "exact test"
        rough: Method = "e-value, rests on normality" if level.anytime else "t-interval, rests on normality"
        bare = replace(bare, method=None if not enough else exact if measure.unit == "share" else rough)
        if enough:
            bare = _with_detectable(bare, _detect_level(found, measure, claim, level))
        return _decided(bare, len(found), reason, _level(found, measure, level) if enough else None)
    theirs = {v.seed: v for v in values_of(claim.measure, other, target, ask)} if other else {}
    pairs = apart([(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())], measure)
    reason = unpaired(pairs, (claim.of, str(claim.versus)))
    if len(pairs) < 2 or reason:
        return _decided(bare, len(pairs), reason, None)
    scale: Literal["ratio", "difference"] = "ratio" if claim.kind == "ratio" else "difference"
    bare = replace(bare, method=interval_method(pairs, scale, level))
    bare = _with_detectable(bare, _detect_between(pairs, scale, level))
    return _decided(bare, len(pairs), reason, _versus(pairs, scale, level))


def _decided(bare: Judgement, count: int, reason: str, found: Interval | None) -> Judgement:
    if found is None:
        why = reason or lonely(bare.measure)
        return replace(bare, pairs=count, reason=why, detectable_reason=why)
    estimate, low, high = found
    weak = f"a first indication: fewer than {CLAIM_PAIRS} seeds" if count < CLAIM_PAIRS else ""
    return replace(
        bare,
        outcome=outcome_of(low, high, bare.claim.below, bare.claim.above),
        pairs=count,
        estimate=estimate,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        reason=weak,
    )


def _versus(pairs: Sequence[Pair], scale: Scale, level: Level) -> Interval:
    points, (low, high) = observed(pairs, scale), interval(pairs, scale, level)
    estimate = None if points is None else float(np.mean(points))
    if scale == "ratio":
        low = math.exp(low) if math.isfinite(low) else low  # no lower bound, rather than 0
        return (None if estimate is None else math.exp(estimate)), low, math.exp(high)
    return estimate, low, high


def _level(values: Sequence[Value], measure: Measure, level: Level) -> Interval:
    """Mean of one arm's values, with its t-interval; of a share the exact one."""
    lows, highs = _ends(values)
    known = [v.value for v in values if v.value is not None]
    estimate = float(np.mean(known)) if len(known) == len(values) else None
    if measure.unit == "share":
        return estimate, *share_interval(float(sum(known)), len(values), level)
    low = float(lows.mean() - half_width(lows, level)) if np.isfinite(lows).all() else -math.inf
    high = float(highs.mean() + half_width(highs, level)) if np.isfinite(highs).all() else math.inf
    return estimate, low, high


def _ends(values: Sequence[Value]) -> tuple[Floats, Floats]:
    """Least and greatest values, each (n,); infinite where one is unbounded."""
    nothing = Value(0, 0.0, 0.0, 0.0)
    return differences([(value, nothing) for value in values], "difference")


POWER = 0.8  # the share of studies that would decide: the field's custom (Cohen 1988)


def find_detectable(lows: Floats, highs: Floats, level: Level = ALONE) -> float | str:
    """The least distance of the true mean from a claim's bound that such values decide in 80 % of studies.

    (t_c + t_.8) s / sqrt(n), the minimum detectable effect of Bloom (1995, Evaluation Review 19:547), with t_c the
    statistic that the interval asks for and t_.8 the quantile of Student's distribution with n - 1 degrees of freedom;
    and half of what each value leaves open, since an interval clears a bound with its nearer end only. It rests on
    normality also where the interval does not.

    Args:
        lows: (n,) least values, n >= 2; logarithms of ratios.
        highs: (n,) greatest values of the same runs or pairs.
        level: of the claim's interval.

    Returns:
        It, on the scale of the values; or why there is none, in words.
    """
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        return "a run has no value, so that nothing says how much they vary"
    spread, n = max(float(np.std(ends, ddof=1)) for ends in (lows, highs)), len(lows)
    if spread <= 1e-12 * max(np.abs(lows).max(), np.abs(highs).max()):
        return "all values are alike, so that nothing says how much they vary"
    distance = (critical_t(n, level) + t_quantile(n - 1, POWER)) * spread / math.sqrt(n)
    if not math.isfinite(distance):
        return "so few seeds decide nothing at this level"
    return distance + float((highs - lows).mean()) / 2


def find_detectable_share(n: int, bounds: Sequence[float], level: Level = ALONE) -> float | str:
    """The same of a share of n runs, exact: the share nearest to a bound at which 80 % of studies would decide.

    With k the least number of runs whose interval lies above the bound, that at which k or more come in 80 % of
    studies; likewise below it.
    """
    found = []
    for bound in bounds:
        k = bisect_left(range(n + 1), True, key=lambda k: share_interval(k, n, level)[0] > bound)  # the least above
        found += [beta_quantile(k, n - k + 1, POWER) - bound] if k <= n else []
        k = bisect_left(range(n + 1), True, key=lambda k: share_interval(k, n, level)[1] >= bound) - 1  # the last below
        found += [bound - 1 + beta_quantile(n - k, k + 1, POWER)] if k >= 0 else []
    return min(found) if found else "so few seeds decide nothing at this level"


def _detect_between(pairs: Sequence[Pair], scale: Scale, level: Level) -> float | str:
    """The least ratio to, or difference from, a bound that these pairs decide."""
    if are_shares(pairs, scale):
        return "of two shares it depends on how many pairs differ"
    found = find_detectable(*differences(pairs, scale), level)
    return math.exp(found) if scale == "ratio" and isinstance(found, float) else found


def _detect_level(values: Sequence[Value], measure: Measure, claim: Claim, level: Level) -> float | str:
    if measure.unit == "share":
        bounds = [bound for bound in (claim.below, claim.above) if bound is not None]
        return find_detectable_share(len(values), bounds, level)
    return find_detectable(*_ends(values), level)


def _with_detectable(bare: Judgement, found: float | str) -> Judgement:
    if isinstance(found, str):
        return replace(bare, detectable_reason=found)
    return replace(bare, detectable=found)


def check_claims(findings: Findings) -> list[Check]:
    """One check a claim and setting: confirmed passes, refuted fails."""
    return [_check(judgement) for judgement in findings.claims]


def _check(judgement: Judgement) -> Check:
    claim = judgement.claim
    pairs = f"{judgement.pairs} {'runs' if claim.kind == 'level' else 'pairs'}"
    reason = f"; {judgement.reason}" if judgement.reason else ""
    effect = written_detectable(judgement)
    decidable = f", could have decided {effect}" if effect else ""
    message = f"measured {written_judgement(judgement)}, {pairs}{decidable}{reason}; claimed by {claim.source}"
    return Check(written_claim(judgement), CHECKED[judgement.outcome], message, judgement.outcome)
