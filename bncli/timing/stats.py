"""Statistics of timings: medians, paired ratios and their intervals; changes between sets of processes.

The unit is the process: each gives one logarithm of a ratio for each case. What a machine does beside slows a case and
its rival by different factors, so ratios are compared at one level of the rival's own time (an analysis of
covariance, Fisher 1932). Now and then a process is far off, so means are trimmed by a fifth at either end (Yuen 1974,
Biometrika 61:165). A few processes say little of their own variance, so each case's is moderated by the family's (Smyth
2004, Stat. Appl. Genet. Mol. Biol. 3:3).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy.special import digamma, polygamma, stdtr, stdtrit

from bncli.timing.results import Estimate

Blocks = Sequence[tuple[float, float]]  # of the candidate or a rival: each block's two chunks, in seconds a call

CONFIDENCE = 0.95
# Tukey's far-out fence, in interquartile ranges; of normal samples one in 400,000 lies beyond it.
FENCE = 3.0
_MOST_WIDTH = 20.0  # a factor of half a billion: nothing is known


def estimate_median(values: Sequence[float]) -> Estimate:
    """The median and its order-statistic interval, which holds for independent samples of any distribution.

    Of n samples the k-th smallest and the k-th largest enclose the median but for a probability of
    2 P(Binomial(n, 1/2) < k); k is the greatest that leaves at most 5 %. Below 6 samples there is none.
    """
    ordered, k = sorted(values), _find_rank(len(values))
    middle = statistics.median(ordered)
    return Estimate(middle, ordered[k - 1], ordered[-k]) if k else Estimate(middle)


def estimate_ratio(case: Blocks, rival: Blocks) -> Estimate:
    """Case / rival: the median of the ratios of neighbouring chunks, with its interval.

    A block's chunks stand in a palindrome (case, rival, rival, case) and give two ratios, of each half one: a
    drift in time moves them by as much in opposite directions, which leaves the median where it is. A chunk that was
    held up spoils one ratio, not the whole block's: with eight busy processes on two cores, the standard deviation over
    processes is 1.2 % by halves and 2.1 % by blocks.
    """
    return estimate_median(pair_ratios(case, rival))


def pair_ratios(case: Blocks, rival: Blocks) -> list[float]:
    """Case / rival of each half of each block."""
    return [c / y for blocks in zip(case, rival, strict=True) for c, y in zip(*blocks, strict=True)]


def measure_width(estimate: Estimate) -> float:
    """Half of the interval's width in logarithms, near enough in fractions; infinite where there is no interval."""
    if estimate.low is None or estimate.high is None or estimate.low <= 0:
        return math.inf
    return math.log(estimate.high / estimate.low) / 2


def count_outliers(seconds: Sequence[float]) -> int:
    """How many samples lie more than three times the interquartile range above the upper quartile."""
    if len(seconds) < 4:
        return 0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return sum(s > high + FENCE * (high - low) for s in seconds)


@cache
def _find_rank(n: int) -> int:
    """The greatest k with 2 P(Binomial(n, 1/2) < k) <= 5 %; 0 where there is none."""
    below, k = 0, 0
    while 2 * (below + math.comb(n, k)) <= (1 - CONFIDENCE) * 2**n:
        below += math.comb(n, k)
        k += 1
    return k


# A standard deviation of 0.1 %: no set of processes agrees better, but for the coarseness of a timer.
_LEAST_VARIANCE = 1e-6
Observation = tuple[float, float]  # level, value
_MANY = 1e6  # degrees of freedom that are as good as infinite


@dataclass(frozen=True)
class TrimmedSample:
    """A sample of two or more without the lowest and highest fifth: as good as one of `count` with this variance."""

    mean: float
    variance: float
    count: int
    whole: int  # of the sample, with those left out


@dataclass(frozen=True)
class Levels:
    """Logarithms of ratios, a process each, as they would be at one level of the machine."""

    now: list[float]
    before: list[float]
    leverage: float = 0.0  # squared error of the change that the slope adds, in variances of one process


@dataclass(frozen=True)
class Prior:
    """What a family says of a case's variance: so much, worth so many degrees of freedom."""

    variance: float
    freedom: float

    def moderate(self, sample: TrimmedSample) -> tuple[float, float]:
        """Variance of a sample's mean, and its degrees of freedom, with the family's."""
        own = sample.count - 1
        freedom = own + self.freedom
        return (own * sample.variance + self.freedom * self.variance) / freedom / sample.count, freedom


@dataclass(frozen=True)
class Contrast:
    """A change of mean logarithms, its standard error, and that error's degrees of freedom."""

    change: float
    error: float
    freedom: float

    def test_slower(self, change: float) -> float:
        """P value against "slower by no more than `change`"."""
        return float(stdtr(self.freedom, (change - self.change) / self.error))

    def test_faster(self, change: float) -> float:
        """P value against "faster by no more than `change`"."""
        return float(stdtr(self.freedom, (change + self.change) / self.error))

    @property
    def half_width(self) -> float:
        """Of the 95 % interval, in logarithms; no wider than what has a factor, where levels have nothing in common."""
        return min(float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * self.error, _MOST_WIDTH)

    def estimate(self) -> Estimate:
        """As a factor, with its 95 % interval."""
        ends = (self.change - self.half_width, self.change + self.half_width)
        return Estimate(math.exp(self.change), *map(math.exp, ends))


def fit_prior(samples: Sequence[Sequence[float]]) -> Prior:
    """What the variances of a family of samples have in common (Smyth 2004, section 6.2: moments of their logarithms).

    Of fewer than three samples nothing is inferred: a prior without weight.
    """
    known = [trim(sample) for sample in samples if len(sample) > 1]
    if len(known) < 3:
        return Prior(_LEAST_VARIANCE, 0.0)
    halves = [(sample.count - 1) / 2 for sample in known]
    logs = [math.log(s.variance) - float(digamma(h)) + math.log(h) for s, h in zip(known, halves, strict=True)]
    centre, excess = statistics.fmean(logs), statistics.variance(logs) - statistics.fmean(polygamma(1, halves))
    if excess <= 0:  # no more spread than chance gives: one variance for all
        return Prior(math.exp(centre), _MANY)
    half = _invert_trigamma(excess)
    return Prior(math.exp(centre + float(digamma(half)) - math.log(half)), min(2 * half, _MANY))


def adjust_levels(
    now: Sequence[Observation], before: Sequence[Observation], others: Sequence[Observation] = ()
) -> Levels:
    """Move every ratio along the slope that it has within its set, to the mean level of all of `now` and `before`.

    Of the slope, and of what it adds to the error, processes know nothing whose ratio is far off those of their set.

    Args:
        now: two processes or more, each (level, value): logarithms of the rival's time and of the ratio to it.
        before: likewise, or none: then nothing is moved.
        others: a third set, which helps to know the slope.
    """
    if not before:
        return Levels([value for _, value in now], [])
    sets = [_drop_outliers(points) for points in (now, before, others) if points]
    centres = [tuple(map(statistics.fmean, zip(*points, strict=True))) for points in sets]
    inner = [(x - cx, y - cy) for points, (cx, cy) in zip(sets, centres, strict=True) for x, y in points]
    squares = sum(x * x for x, _ in inner)
    if squares == 0:
        return Levels([value for _, value in now], [value for _, value in before])
    slope, level = sum(x * y for x, y in inner) / squares, statistics.fmean(x for x, _ in (*now, *before))
    free = len(inner) - len(sets)
    stretch = math.sqrt(free / max(free - 1, 1))  # the slope has taken one degree of freedom from the deviations
    ours, theirs = (
        [cy - slope * (cx - level) + stretch * (y - cy - slope * (x - cx)) for x, y in points]
        for points, (cx, cy) in zip((now, before), centres, strict=False)
    )
    return Levels(ours, theirs, (centres[0][0] - centres[1][0]) ** 2 / squares)


def _drop_outliers(points: Sequence[Observation]) -> Sequence[Observation]:
    """The points whose value is within Tukey's far-out fences of their set."""
    if len(points) < 4:
        return points
    low, _, high = statistics.quantiles([value for _, value in points], n=4, method="inclusive")
    reach = FENCE * (high - low)
    return [(level, value) for level, value in points if low - reach <= value <= high + reach]


def contrast(
    now: Sequence[float], now_prior: Prior, before: Sequence[float], before_prior: Prior, leverage: float = 0.0
) -> Contrast:
    """The trim mean of `now` less that of `before`, logarithms of ratios; `before` empty is zero, known exactly.

    The two sides may differ in variance (Welch), since a neighbour may have come or gone; each has two values or more.
    `leverage` is of adjust_levels values.
    """
    sides = [(trim(sample), prior) for sample, prior in ((now, now_prior), (before, before_prior)) if sample]
    parts = [prior.moderate(side) for side, prior in sides]
    if leverage:
        each = statistics.fmean(part * side.whole for (part, _), (side, _) in zip(parts, sides, strict=True))
        parts.append((leverage * each, sum(freedom for _, freedom in parts)))
    square = sum(part for part, _ in parts)
    freedom = square**2 / sum(part**2 / own for part, own in parts)
    means = [side.mean for side, _ in sides]
    return Contrast(means[0] - sum(means[1:]), math.sqrt(square), freedom)


def trim(sample: Sequence[float]) -> TrimmedSample:
    """Mean without the lowest and highest fifth, and the variance by Winsorised deviations (Yuen 1974)."""
    ordered, out = sorted(sample), len(sample) // 5
    kept = ordered[out : len(ordered) - out]
    winsorised = [kept[0]] * out + kept + [kept[-1]] * out
    squares = statistics.variance(winsorised) * (len(sample) - 1)
    return TrimmedSample(
        statistics.fmean(kept), max(squares / (len(kept) - 1), _LEAST_VARIANCE), len(kept), len(sample)
    )


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's (1995) adjusted p values: calling all below q, at most the share q is called wrongly.

    Holds for independent and positively dependent tests; noise that all cases share is of the latter kind.
    """
    count, least = len(p_values), 1.0
    adjusted = [1.0] * count
    for rank, index in zip(range(count, 0, -1), sorted(range(count), key=lambda i: -p_values[i]), strict=True):
        least = min(least, p_values[index] * count / rank)
        adjusted[index] = least
    return adjusted


def _invert_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1 / trigamma, which is convex and nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
