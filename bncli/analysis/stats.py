"""Statistics of paired runs: intervals, exact tests, verdicts that respect the evaluation grid."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from bncli.analysis.exact import MOST_SIGNS, Floats, subset_means, subset_weights
from bncli.analysis.quantiles import beta_quantile, log_beta, t_quantile
from bncli.findings import Direction, Looks, Method, Scale, Value, Verdict

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Level:
    """How often one interval may miss the truth."""

    error: float = 1 - CONFIDENCE  # on both sides together
    anytime: bool = False  # over all numbers of values that it is looked at with, however they are chosen


ALONE = Level()  # one comparison, looked at once


def level_of(looks: Looks, family: int = 1) -> Level:
    """The level at which `family` intervals are wrong in at most 5 % of studies, all of them and all looks together.

    A study looked at once divides the 5 % by the family (Bonferroni). Fixed looks share it. What was extended after a
    look that no plan allowed for, and that took the 5 %, is looked at by an e-value at half of that (docs/log.md).
    """
    error = (1 - CONFIDENCE) / family
    if looks.unplanned:
        return Level(error / 2, anytime=True)
    return Level(_nominal_error(looks.planned, error) if len(looks.planned) > 1 else error)


@cache
def _nominal_error(looks: tuple[int, ...], error: float) -> float:
    """Two-sided error of each t-test such that normal studies err at any of these looks with `error` in all.

    It is that quantile of the least p of 100,000 simulated studies (known to 2 % of itself at 5 %, to 6 % at .5 %): at
    5, 8, 10, 15, 20, 30 and 50 pairs 1.1 % for 5 %.
    """
    from scipy.special import stdtr  # only now: it takes as long to import as a table to make

    rng, least = np.random.default_rng(0), np.ones(100_000)
    total, squares = np.zeros_like(least), np.zeros_like(least)
    for before, n in pairwise((0, *looks)):
        new = n - before  # the sum and the sum of squares of as many normal values
        added = rng.normal(0, math.sqrt(new), least.shape)
        total += added
        squares += added**2 / new + (rng.chisquare(new - 1, least.shape) if new > 1 else 0)
        t = np.abs(total) / np.sqrt(np.maximum(n * squares - total**2, 1e-300) / (n - 1))
        least = np.minimum(least, 2 * stdtr(n - 1, -t))
    return float(np.quantile(least, error))


def mean_interval(samples: Floats, level: Level = ALONE) -> tuple[Any, Any]:
    """Interval of the mean of each sample.

    Where n values can reach the level, 2 / 2^n <= error, what the exact sign-flip test does not reject: the k-th least
    and greatest of the means of subsets (Hartigan 1969). It holds for differences symmetric about their mean, however
    heavy their tails. Below, the t-interval, which rests on normality; at any number of looks what the e-value does not
    reject, which rests on it too.

    Args:
        samples: (..., n), n >= 2; the ends are (...).
        level: how often it may miss.
    """
    if method_of(samples.shape[-1], level) != "exact test":
        mean, half = samples.mean(-1), half_width(samples, level)
        return mean - half, mean + half
    subsets = subset_weights(samples.shape[-1])
    k = _rank_of(level, len(subsets))
    if samples.ndim == 1 and level.error <= ALONE.error:
        ends = _ordered_means(samples.tobytes())[[k - 1, -k]]
    else:
        means = np.partition(samples @ subsets.T, (k - 1, len(subsets) - k), axis=-1)
        ends = means[..., [k - 1, len(subsets) - k]]
    ends[np.abs(ends) <= 1e-9 * np.abs(samples).max(-1)[..., None]] = 0.0  # rounding is no sign
    return ends[..., 0], ends[..., 1]


@lru_cache(2**10)
def _ordered_means(sample: bytes) -> Floats:
    """Means of subsets as far as any interval may end, ascending: of one comparison it is taken at several levels."""
    values = np.frombuffer(sample)
    means = subset_means(values)
    k = _rank_of(ALONE, len(means))
    means.partition((k - 1, len(means) - k))
    return np.concatenate([np.sort(means[:k]), np.sort(means[-k:])])


def method_of(n: int, level: Level) -> Method:
    """What the interval of a mean of n values rests on."""
    if level.anytime:
        return "e-value, rests on normality"
    return "exact test" if _rank_of(level, 2 ** min(n, MOST_SIGNS) - 1) else "t-interval, rests on normality"


def half_width(samples: Floats, level: Level = ALONE) -> Any:
    """Half the width of the interval of a mean by its t-statistic, t s / sqrt(n). (..., n) to (...), n >= 2."""
    n = samples.shape[-1]
    with np.errstate(invalid="ignore"):  # an infinite t of values without a spread
        half = critical_t(n, level) * np.std(samples, axis=-1, ddof=1) / math.sqrt(n)
    return np.nan_to_num(half, nan=math.inf, posinf=math.inf)


@cache
def critical_t(n: int, level: Level = ALONE) -> float:
    """The least t-statistic of n values that excludes 0: 2.78 of 5 values, 2.26 of 10.

    At any number of looks that at which the e-value reaches 1 / error, for effects of N(0, 4) standard deviations:
    e = (1 + 4 n)^-1/2 ((1 + t^2 / nu) / (1 + t^2 / (nu (1 + 4 n))))^(n / 2), nu = n - 1 (Lai 1976; Wang & Ramdas 2024):
    5.36 of 5 values, 3.97 of 10, 3.54 of 50; infinite where no t does.
    """
    if not level.anytime:
        return t_quantile(n - 1, 1 - level.error / 2)
    growth = 1 + 4 * n
    root = (math.sqrt(growth) / level.error) ** (2 / n)
    return math.sqrt((n - 1) * (root - 1) / (1 - root / growth)) if root < growth else math.inf


def share_interval(successes: float, trials: float, level: Level = ALONE) -> tuple[float, float]:
    """Exact interval of a share (Clopper & Pearson 1934); half successes (ties) are allowed. It covers 95 % or more.

    At any number of looks the shares at which an even mixture of binomials is not 1 / error times as likely as they
    are (Robbins 1970).
    """
    failures = round(trials - successes, 9)  # of shares times pairs: what is left of rounding is no failure
    if level.anytime:
        return _mixture_interval(successes, failures, level.error)
    tail = level.error / 2
    low = beta_quantile(successes, failures + 1, tail) if successes else 0.0
    high = beta_quantile(successes + 1, failures, 1 - tail) if failures else 1.0
    return low, high


def share_difference_interval(ups: float, downs: float, pairs: float, level: Level = ALONE) -> tuple[float, float]:
    """Interval of the difference of two paired shares, from the pairs that differ.

    With the share psi of pairs that differ and the share theta of these that go up it is psi (2 theta - 1), anywhere in
    the box of both exact intervals: its sign is that of McNemar's exact test, and it has a width where no pair differs.
    For 3 to 30 pairs and every two shares it covers 95.7 % or more (counted out in tests/analysis/test_intervals.py).

    Args:
        ups: pairs in which the variant alone has the property; `downs`: the reference alone; `pairs`: all of them.
        level: how often it may miss.
    """
    least, most = share_interval(ups + downs, pairs, level)
    low, high = (2 * end - 1 for end in (share_interval(ups, ups + downs, level) if ups + downs else (0.0, 1.0)))
    return low * (least if low > 0 else most), high * (most if high > 0 else least)


def _mixture_interval(successes: float, failures: float, error: float) -> tuple[float, float]:
    most = log_beta(successes + 1, failures + 1) + math.log(error)  # log of the least likelihood that is not rejected
    total = successes + failures

    def rejected(share: float) -> bool:
        return bool(successes * math.log(share) + failures * math.log1p(-share) < most)

    best = min(max(successes / total, 1e-12), 1 - 1e-12) if total else 0.5
    low = _boundary(rejected, best, 0.0) if successes else 0.0
    return low, _boundary(rejected, best, 1.0) if failures else 1.0


def _boundary(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where `rejected` turns true between a number that is not and one that is, by 40 bisections."""
    for _ in range(40):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
    return outside


def _rank_of(level: Level, subsets: int) -> int:
    """Which of the ordered means ends the interval; 0 where so few cannot reach the level."""
    return int(level.error / 2 * (subsets + 1) + 1e-9)


Pair = tuple[Value, Value]  # (variant, reference) of one seed


def differences(pairs: Sequence[Pair], scale: Scale) -> tuple[Floats, Floats]:
    """Least and greatest difference, variant less reference, that each pair allows.

    Differences of logarithms on the ratio scale. Infinite where a value is unbounded or unknown. Two
    arrays (n,), lows and highs.
    """
    lows, highs = (np.array([[end(v) for v in pair] for pair in pairs]).reshape(-1, 2) for end in _BOUNDS[scale])
    return lows[:, 0] - highs[:, 1], highs[:, 0] - lows[:, 1]


def observed(pairs: Sequence[Pair], scale: Scale) -> Floats | None:
    """(n,) differences of the observed values, logarithms on the ratio scale; None if a pair lacks one."""
    values = [(a.value, b.value) for a, b in pairs]
    if any(a is None or b is None for a, b in values):
        return None
    sample = np.array(values, dtype=np.float64).reshape(-1, 2)
    sample = np.log(np.where(sample > 0, sample, 1.0)) if scale == "ratio" else sample
    return np.asarray(sample[:, 0] - sample[:, 1])


def interval(pairs: Sequence[Pair], scale: Scale, level: Level = ALONE) -> tuple[float, float]:
    """Interval of the mean difference (of logarithms on the ratio scale), at 95 %; an unbounded end is infinite.

    Each pair's true difference lies between a least and a greatest one, hence its mean lies between their means. The
    lower end is the lower end of the interval of the least, the upper end the upper end of that of the greatest, each
    exceeded with 2.5 %. Where values are exact, both are the usual paired interval. Shares, whose runs count 0 or 1,
    have one of their own. Where every run has the same other value nothing says how it varies: both ends are open.
    """
    lows, highs = differences(pairs, scale)
    if are_shares(pairs, scale):
        return share_difference_interval(float((lows > 0).sum()), float((lows < 0).sum()), len(pairs), level)
    if is_constant(pairs, scale):
        return -math.inf, math.inf
    finite = [bool(np.isfinite(ends).all()) for ends in (lows, highs)]
    below, above = mean_interval(lows, level) if finite[0] else (-math.inf, math.inf)
    if not np.array_equal(lows, highs):
        above = mean_interval(highs, level)[1] if finite[1] else math.inf
    return float(below), float(above)


def interval_method(pairs: Sequence[Pair], scale: Scale, level: Level = ALONE) -> Method:
    """What `interval` rests on for these pairs, at least two."""
    if are_shares(pairs, scale):
        return "e-value" if level.anytime else "exact test"
    return method_of(len(pairs), level)


def is_constant(pairs: Sequence[Pair], scale: Scale) -> bool:
    """Whether every run, of both variants, has one and the same exact value that is no share."""
    first = pairs[0][0].value
    return first is not None and all(end == first for end in _ends(pairs)) and not are_shares(pairs, scale)


def are_shares(pairs: Sequence[Pair], scale: Scale) -> bool:
    """Whether every run counts 0 or 1."""
    return scale == "difference" and all(end in (0.0, 1.0) for end in _ends(pairs))


def _ends(pairs: Sequence[Pair]) -> Iterator[float | None]:
    return (end for pair in pairs for value in pair for end in (value.low, value.high))


def ranked(pairs: Sequence[Pair]) -> Floats | None:
    """(n,) differences of observed values where one that never got there is later than all that did, and as late as
    another such; None if something is unknown. For tests that ask for signs and ranks only.
    """
    ranks = np.array([(_rank(ours), _rank(theirs)) for ours, theirs in pairs]).reshape(-1, 2)
    if np.isnan(ranks).any():
        return None
    ours, theirs = ranks.T
    return np.asarray(np.subtract(ours, theirs, out=np.zeros(len(ranks)), where=ours != theirs))


def probability_of_improvement(pairs: Sequence[Pair], direction: Direction) -> tuple[float, float, float] | None:
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


def _least(value: Value) -> float:
    """What is possible, brackets taken with both ends."""
    return -math.inf if value.low is None else value.low


def _greatest(value: Value) -> float:
    return math.inf if value.high is None else value.high


def _log_least(value: Value) -> float:
    """The same in ratios, where 0 counts as 1: no crossing comes before step 1."""
    return -math.inf if value.low is None else math.log(value.low) if value.low > 0 else 0.0


def _log_greatest(value: Value) -> float:
    return math.inf if value.high is None else math.log(value.high) if value.high > 0 else 0.0


_BOUNDS: Mapping[Scale, tuple[Callable[[Value], float], Callable[[Value], float]]] = {
    "difference": (_least, _greatest), "ratio": (_log_least, _log_greatest),
}  # fmt: skip


def _rank(value: Value) -> float:
    """An unbounded value is infinite; one of which nothing is known NaN."""
    if value.value is not None:
        return value.value
    return math.inf if value.low is not None else -math.inf if value.high is not None else math.nan
