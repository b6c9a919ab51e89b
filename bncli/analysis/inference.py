"""Paired inference: 95 % intervals that respect what the evaluation grid leaves open, and verdicts."""

import math
from collections.abc import Sequence

import numpy as np

from bncli.analysis.intervals import Floats, mean_interval, share_interval
from bncli.findings import Direction, Scale, Value, Verdict

Pair = tuple[Value, Value]  # (variant, reference) of one seed


def differences(pairs: Sequence[Pair], scale: Scale) -> tuple[Floats, Floats]:
    """Least and greatest difference, variant less reference, that each pair allows.

    Differences of logarithms on the ratio scale. Infinite where a value is unbounded or unknown.

    Returns:
        Two arrays (n,): lows and highs.
    """
    variant, reference = (np.array([_bounds(pair[i], scale) for pair in pairs]).reshape(-1, 2) for i in (0, 1))
    return variant[:, 0] - reference[:, 1], variant[:, 1] - reference[:, 0]


def observed(pairs: Sequence[Pair], scale: Scale) -> Floats | None:
    """(n,) differences of the observed values, logarithms on the ratio scale; None if a pair lacks one."""
    values = [(a.value, b.value) for a, b in pairs]
    if any(a is None or b is None for a, b in values):
        return None
    sample = np.array(values, dtype=np.float64).reshape(-1, 2)
    sample = np.log(np.where(sample > 0, sample, 1.0)) if scale == "ratio" else sample
    return np.asarray(sample[:, 0] - sample[:, 1])


def interval(pairs: Sequence[Pair], scale: Scale) -> tuple[float, float]:
    """95 % interval of the mean difference (of logarithms on the ratio scale); an unbounded end is infinite.

    Each pair's true difference lies between a least and a greatest one, hence its mean lies between their means. The
    lower end is the lower end of the interval of the least, the upper end the upper end of that of the greatest, each
    exceeded with 2.5 %. Where values are exact, both are the usual paired interval.
    """
    lows, highs = differences(pairs, scale)
    low = float(mean_interval(lows)[0]) if np.isfinite(lows).all() else -math.inf
    high = float(mean_interval(highs)[1]) if np.isfinite(highs).all() else math.inf
    return low, high


def ranked(pairs: Sequence[Pair]) -> Floats | None:
    """(n,) differences of observed values where one that never got there is later than all that did, and as late as
    another such; None if something is unknown. For tests that ask for signs and ranks only.
    """
    ranks = [tuple(_rank(value) for value in pair) for pair in pairs]
    if any(math.isnan(rank) for pair in ranks for rank in pair):
        return None
    return np.array([0.0 if a == b else a - b for a, b in ranks])


def superiority(pairs: Sequence[Pair], direction: Direction) -> tuple[float, float, float] | None:
    """P(A > B): share of pairs in which the variant is better, ties counted half, with its exact 95 % interval.

    A censored run is worse than any that has a value, and ties with another censored one. None if something is unknown.
    """
    told = ranked(pairs)
    if told is None or not len(told):
        return None
    better = told < 0 if direction == "lower" else told > 0
    wins = float(better.sum() + 0.5 * (told == 0).sum())
    return wins / len(told), *share_interval(wins, len(told))


def verdict(low: float, high: float, margin: float, direction: Direction) -> Verdict:
    """What an interval of differences (of logarithms on the ratio scale) says.

    Equivalent comes first: a difference that is surely there and surely within the margin is too small to matter.
    """
    if -margin <= low and high <= margin:
        return "equivalent"
    if high < 0:
        return "better" if direction == "lower" else "worse"
    if low > 0:
        return "worse" if direction == "lower" else "better"
    return "inconclusive"


def _bounds(value: Value, scale: Scale) -> tuple[float, float]:
    """What is possible, brackets taken with both ends. In ratios 0 counts as 1: no crossing comes before step 1."""
    low = -math.inf if value.low is None else value.low
    high = math.inf if value.high is None else value.high
    if scale == "difference":
        return low, high
    return (_log(low) if value.low is not None else low), _log(high)


def _log(number: float) -> float:
    return math.log(number) if number > 0 else 0.0


def _rank(value: Value) -> float:
    """An unbounded value is infinite; one of which nothing is known NaN."""
    if value.value is not None:
        return value.value
    return math.inf if value.low is not None else -math.inf if value.high is not None else math.nan
