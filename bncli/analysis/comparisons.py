"""One arm against the reference over pairs of runs with the same seed."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bncli.analysis.exact import paired_test
from bncli.analysis.stats import (
    Level,
    Pair,
    are_shares,
    critical_t,
    differences,
    interval,
    interval_method,
    is_constant,
    level_of,
    observed,
    probability_of_improvement,
    ranked,
    share_difference_interval,
    verdict,
)
from bncli.findings import (
    Arm,
    Comparison,
    Looks,
    Measure,
    Scale,
    Summary,
    Value,
)
from bncli.measures import CLOCKED


def compare(
    arms: Sequence[Arm], reference_name: str, margins: Mapping[str, float], measures: Sequence[Measure], looks: Looks
) -> tuple[Arm, ...]:
    """Compare every arm with the reference at the same setting, on every measure.

    Verdicts on a measure hold for all of its comparisons, at all looks, at once in 95 % of studies.

    Args:
        arms: with their summaries.
        reference_name: says which is the reference.
        margins: by measure; a ratio's is its distance from 1.
        measures: those that the arms are summarised by.
        looks: with how many seeds the study is reported.
    """
    found: dict[int, list[Comparison]] = {i: [] for i, arm in enumerate(arms) if not arm.is_reference}
    for measure in measures:
        margin = log_margin(margins[measure.name], measure)
        bare = [_compare_alone(arms[i], arms, reference_name, measure) for i in found]
        told = [place for place, (c, _) in enumerate(bare) if c.verdict != "not comparable" and c.pairs > 1]
        settled = iter(_settle([bare[place] for place in told], margin, measure, looks))
        for place, i in enumerate(found):
            found[i].append(next(settled) if place in told else bare[place][0])
    return tuple(replace(arm, comparisons=tuple(found.get(i, ()))) for i, arm in enumerate(arms))


def paired(arm: Arm, reference: Arm, measure: str) -> list[Pair]:
    """Values of one measure of the seeds that both arms have, in order of seeds."""
    ours, theirs = (_by_seed(summary_of(a, measure)) for a in (arm, reference))
    return [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]


def apart(pairs: Sequence[Pair], measure: Measure) -> list[Pair]:
    """Those pairs that are measurements of their own: runs that are trained together as lanes share one clock."""
    if measure.name not in CLOCKED:
        return list(pairs)
    return list({(ours.value, theirs.value): (ours, theirs) for ours, theirs in pairs}.values())


def lonely(measure: Measure) -> str:
    """Why one pair has no interval."""
    together = "seeds trained together are timed once: no interval; --engine plain times them one by one"
    return together if measure.name in CLOCKED else "one seed: no interval"


def summary_of(arm: Arm, measure: str) -> Summary:
    """The arm's summary of one measure."""
    return next(s for s in arm.summaries if s.measure == measure)


def log_margin(margin: float, measure: Measure) -> float:
    """A margin on the scale that intervals are computed on: a ratio of 1.05 is as far from 1 as 1/1.05."""
    return math.log1p(margin) if measure.scale == "ratio" else margin


def _compare_alone(
    arm: Arm, arms: Sequence[Arm], reference_name: str, measure: Measure
) -> tuple[Comparison, list[Pair]]:
    """One comparison as if there were no other, still without a verdict, and its pairs."""
    sides = (arm.variant, reference_name)
    reference = next((a for a in arms if a.is_reference and dict(a.setting) == dict(arm.setting)), None)
    pairs = apart(paired(arm, reference, measure.name), measure) if reference is not None else []
    bare = Comparison(
        measure.name, *sides, arm.setting, len(pairs), None, None, None, None, "not comparable", unpaired(pairs, sides)
    )
    if bare.reason:
        return bare, pairs
    points, ranks = observed(pairs, measure.scale), ranked(pairs)
    low, high = interval(pairs, measure.scale) if len(pairs) > 1 else (-math.inf, math.inf)
    share = probability_of_improvement(pairs, measure.direction) or (None, None, None)
    tested = ranks if points is None else points
    alone = replace(
        bare,
        estimate=None if points is None else on_scale(float(np.mean(points)), measure),
        low=on_scale(low, measure),
        high=on_scale(high, measure),
        probability_of_improvement=share[0],
        verdict="inconclusive",
        reason=lonely(measure) if len(pairs) == 1 else _open(pairs, sides, measure.scale),
        probability_of_improvement_low=share[1],
        probability_of_improvement_high=share[2],
        p=None if tested is None else paired_test(tested),
    )
    return alone, pairs


def _settle(
    family: Sequence[tuple[Comparison, list[Pair]]], margin: float, measure: Measure, looks: Looks
) -> list[Comparison]:
    """The comparisons with verdicts that hold for all of them at once.

    Holm's step-down correction (1979): each interval allows for all comparisons; where that decides some, the others
    allow for each other only; and so on until it decides none.
    """
    found, left = [c for c, _ in family], list(range(len(family)))
    while left:
        level = level_of(looks, len(left))
        for i in left:
            found[i] = _with_verdict(found[i], family[i][1], margin, measure, level, len(left))
        still_open = [i for i in left if found[i].verdict == "inconclusive"]
        left = still_open if len(still_open) < len(left) else []
    for i, p in enumerate(holm([c.p for c in found])):
        later = level_of(Looks(unplanned=(len(family[i][1]),)), found[i].family)  # whoever adds seeds has looked
        more = more_seeds(family[i][1], measure.scale, margin, later) if found[i].verdict == "inconclusive" else None
        found[i] = replace(found[i], p_holm=p, more_seeds=more)
    return found


def _with_verdict(
    alone: Comparison, pairs: Sequence[Pair], margin: float, measure: Measure, level: Level, family: int
) -> Comparison:
    low, high = interval(pairs, measure.scale, level)
    return replace(
        alone,
        verdict=verdict(low, high, margin, measure.direction),
        corrected_low=on_scale(low, measure),
        corrected_high=on_scale(high, measure),
        level=1 - level.error,
        family=family,
        method=interval_method(pairs, measure.scale, level),
    )


def holm(tests: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): each p as if all the hypotheses were tested at once; None stays None."""
    known = sorted((p, i) for i, p in enumerate(tests) if p is not None)
    adjusted: list[float | None] = [None] * len(tests)
    least = 0.0
    for place, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - place)))
        adjusted[i] = least
    return adjusted


MOST_SEEDS = 1000  # beyond it "more seeds" is no advice


def more_seeds(pairs: Sequence[Pair], scale: Scale, margin: float, level: Level) -> int | None:
    """How many more pairs would decide, if means and spreads stay as they are; None if none up to 1,000 would.

    Decided is an interval that excludes 0, or one within the margin. Where the evaluation grid alone leaves both open,
    seeds do not help.

    Args:
        pairs: so far.
        scale: of the differences.
        margin: too small to matter, on the interval's scale.
        level: at which more of them are judged: the study is extended after a look.
    """
    lows, highs = differences(pairs, scale)
    if len(lows) < 2 or is_constant(pairs, scale) or not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        return None

    shares = are_shares(pairs, scale)
    (low_end, low_spread), (high_end, high_spread) = [
        (float(e.mean()), float(np.std(e, ddof=1))) for e in (lows, highs)
    ]
    ups, downs = (float(np.mean(signs)) for signs in (lows > 0, lows < 0))

    def decided(n: int) -> bool:
        factor = critical_t(n, level) / math.sqrt(n)
        low, high = low_end - factor * low_spread, high_end + factor * high_spread
        if shares:
            low, high = share_difference_interval(ups * n, downs * n, n, level)
        return low > 0 or high < 0 or (-margin <= low and high <= margin)

    n = bisect_left(range(MOST_SEEDS + 1), True, lo=len(pairs) + 1, key=decided)
    return n - len(pairs) if n <= MOST_SEEDS else None


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
        if all(pair[i].low is None and pair[i].high is None for pair in pairs):
            return f"{sides[i]}: {pairs[0][i].reason}"
    return ""


def _open(pairs: Sequence[Pair], sides: tuple[str, str], scale: Scale) -> str:
    """Which runs leave the interval open, and at which end."""
    if is_constant(pairs, scale):
        return f"every run has the same value, {pairs[0][0].value:.4g}, so that nothing says how it varies"
    found = []
    for i, end in ((0, "upper"), (1, "lower")):
        lacking = [pair[i] for pair in pairs if pair[i].value is None]
        if lacking:
            ends = "limits" if any(v.low is None for v in lacking) else f"{end} limit"
            reasons = {v.reason for v in lacking}
            reason = reasons.pop() if len(reasons) == 1 else lacking[0].reason.partition(", diverged")[0]
            why = f"{reason} in {len(lacking)} of {len(pairs)} pairs"
            found.append(f"{sides[i]}: {why}, so that the {scale} has no {ends}")
    return "; ".join(found)


def _by_seed(summary: Summary) -> dict[int, Value]:
    return {value.seed: value for value in summary.values}
