"""Statistics of paired runs: intervals, exact tests, Holm's correction, verdicts that respect the evaluation grid."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from bncli.findings import Direction, Scale, Value, Verdict

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 15  # values; below it a bootstrap covers too little at any correction (docs/log.md)
RESAMPLES = 5000


def mean_interval(samples: Floats) -> tuple[Any, Any]:
    """Interval of the mean of each sample.

    Below 15 values the t-interval. From 15 the bias-corrected and accelerated bootstrap (Efron 1987) at the normal
    quantiles widened to those of t and by sqrt(n / (n - 1)) (Hesterberg 2015, section 3.2): plain BCa covers 92 to 93 %
    at 15 to 30 values, this 93 to 95 %. Resampling is seeded: the same sample has the same interval.

    Args:
        samples: (..., n), n >= 2.

    Returns:
        Lower and upper ends, (...).
    """
    if samples.shape[-1] < BOOTSTRAP_FROM:
        mean, half = samples.mean(-1), half_width(samples)
        return mean - half, mean + half
    return _bootstrap(samples)


def half_width(samples: Floats) -> Any:
    """Half the width of the t-interval of a mean: t_{n-1} s / sqrt(n). (..., n) to (...), n >= 2."""
    n = samples.shape[-1]
    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * np.std(samples, axis=-1, ddof=1) / math.sqrt(n)


def share_interval(successes: float, trials: int) -> tuple[float, float]:
    """Clopper & Pearson's exact interval of a share; half successes (ties) are allowed. It covers 95 % or more."""
    tail = (1 - CONFIDENCE) / 2
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return low, high


def _bootstrap(samples: Floats) -> tuple[Any, Any]:
    n = samples.shape[-1]
    means = np.sort(samples @ _weights(n).T, axis=-1)  # (..., RESAMPLES)
    mean = samples.mean(-1, keepdims=True)
    below = (np.mean(means < mean, axis=-1) + np.mean(means <= mean, axis=-1)) / 2
    bias = ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    centred = samples - mean  # the jackknife's influences, up to a factor that cancels
    cubes, squares = (centred**3).sum(-1), (centred**2).sum(-1)
    acceleration = np.divide(cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares > 0)
    wide = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    low, high = (_quantile(means, ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))) for z in (-wide, wide))
    same = squares == 0
    return np.where(same, mean[..., 0], low), np.where(same, mean[..., 0], high)


@cache
def _weights(n: int) -> Floats:
    """How often each value is drawn in each resample, over n: (RESAMPLES, n)."""
    drawn = np.random.default_rng(n).integers(0, n, (RESAMPLES, n))
    weights = np.zeros((RESAMPLES, n))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], drawn), 1 / n)
    return weights


def _quantile(ordered: Floats, at: Any) -> Any:
    """Linear interpolation between order statistics; `ordered` (..., RESAMPLES), `at` (...)."""
    place = np.clip(np.asarray(at) * (RESAMPLES + 1) - 1, 0, RESAMPLES - 1.000001)
    floor = place.astype(int)
    low, high = (np.take_along_axis(ordered, (floor + i)[..., None], -1)[..., 0] for i in (0, 1))
    return low + (place - floor) * (high - low)


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


MOST_SEEDS = 1000  # beyond it "more seeds" is no advice


def paired_test(differences: Floats) -> float:
    """Two-sided p of the hypothesis that each difference is as likely to have the other sign; exact.

    Below 15 differences the permutation test on their mean, over all 2^n signs; from there, or where one is infinite
    (a run that never got there), Wilcoxon's on their ranks. Zeros say nothing and are left out. The least p possible
    is 2 / 2^n: 0.062 at 5 pairs, 0.031 at 6.

    Args:
        differences: (n,), infinite allowed, no NaN.
    """
    told = differences[differences != 0]
    if not len(told):
        return 1.0
    if len(told) < BOOTSTRAP_FROM and np.isfinite(told).all():
        return sign_flip_test(told)
    return wilcoxon_test(told)


def sign_flip_test(differences: Floats) -> float:
    """Share of the 2^n assignments of signs whose sum is at least as far from 0. (n,), n < 21."""
    n = len(differences)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums = np.abs(signs @ np.abs(differences))
    return float(np.mean(sums >= abs(differences.sum()) * (1 - 1e-9)))


def wilcoxon_test(differences: Floats) -> float:
    """Wilcoxon's signed-rank test with its exact distribution, mean ranks for ties. (n,), none 0."""
    sizes = np.abs(differences)
    doubled = np.array([2 * np.sum(sizes < s) + np.sum(sizes == s) + 1 for s in sizes], dtype=int)  # 2 x mean rank
    total = int(doubled.sum())
    ways = np.zeros(total + 1)  # of the positive ranks' doubled sum, over all signs; 2^n stays exact far beyond use
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: total + 1 - rank]
    distance = abs(2 * int(doubled[differences > 0].sum()) - total)
    far = np.abs(2 * np.arange(total + 1) - total) >= distance
    return float(min(1.0, ways[far].sum() / ways.sum()))


def holm(tests: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979): each p as if all the hypotheses were tested at once; None stays None."""
    known = sorted((p, i) for i, p in enumerate(tests) if p is not None)
    adjusted: list[float | None] = [None] * len(tests)
    least = 0.0
    for place, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - place)))
        adjusted[i] = least
    return adjusted


def more_seeds(lows: Floats, highs: Floats, margin: float) -> int | None:
    """How many more pairs would decide, if means and spreads stay as they are; None if none up to 1,000 would.

    Decided is an interval that excludes 0, or one within the margin. `lows` and `highs` (n,) are the least and
    greatest differences that each pair allows; where the evaluation grid alone leaves both open, seeds do not help.
    """
    if len(lows) < 2 or not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        return None
    low, high = float(lows.mean()), float(highs.mean())
    spreads = float(np.std(lows, ddof=1)), float(np.std(highs, ddof=1))
    for n in range(len(lows) + 1, MOST_SEEDS + 1):
        factor = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) / math.sqrt(n)
        bottom, top = low - factor * spreads[0], high + factor * spreads[1]
        if bottom > 0 or top < 0 or (-margin <= bottom and top <= margin):
            return n - len(lows)
    return None
