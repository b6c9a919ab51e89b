"""Medians with distribution-free intervals, ratios of paired chunks, outliers, and the symbol a ratio gets."""

import math
import statistics
from collections.abc import Sequence
from functools import cache
from typing import Literal

from bncli.bench.results import Estimate

Blocks = Sequence[tuple[float, float]]  # of one contender: each block's two chunks, in seconds a call
Symbol = Literal["+", "-", "=", "?"]

CONFIDENCE = 0.95
# Tukey's far-out fence, in interquartile ranges; of normal samples one in 400,000 lies beyond it.
FENCE = 3.0


def median(values: Sequence[float]) -> Estimate:
    """The median and its order-statistic interval, which holds for independent samples of any distribution.

    Of n samples the k-th smallest and the k-th largest enclose the median but for a probability of
    2 P(Binomial(n, 1/2) < k); k is the greatest that leaves at most 5 %. Below 6 samples there is none.
    """
    ordered, k = sorted(values), _rank(len(values))
    middle = statistics.median(ordered)
    return Estimate(middle, ordered[k - 1], ordered[-k]) if k else Estimate(middle)


def ratio(case: Blocks, yardstick: Blocks) -> Estimate:
    """Case / yardstick: the median of the ratios of neighbouring chunks, with its interval.

    A block's chunks stand in a palindrome (case, yardstick, yardstick, case) and give two ratios, of each half one: a
    drift in time moves them by as much in opposite directions, which leaves the median where it is. A chunk that was
    held up spoils one ratio, not the whole block's: with eight busy processes on two cores, the standard deviation over
    processes is 1.2 % by halves and 2.1 % by blocks.
    """
    return median(ratios(case, yardstick))


def ratios(case: Blocks, yardstick: Blocks) -> list[float]:
    """Case / yardstick of each half of each block."""
    return [c / y for blocks in zip(case, yardstick, strict=True) for c, y in zip(*blocks, strict=True)]


def relative_width(estimate: Estimate) -> float:
    """Half of the interval's width in logarithms, near enough in fractions; infinite where there is no interval."""
    if estimate.low is None or estimate.high is None or estimate.low <= 0:
        return math.inf
    return math.log(estimate.high / estimate.low) / 2


def outliers(seconds: Sequence[float]) -> int:
    """How many samples lie more than three times the interquartile range above the upper quartile."""
    if len(seconds) < 4:
        return 0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return sum(s > high + FENCE * (high - low) for s in seconds)


def symbol(ratio: Estimate, margin: float) -> Symbol:
    """What an interval of case / yardstick says.

    `+` the case takes longer, `-` it takes less time, by whatever little and by no less than nothing; `=` the whole
    interval lies within 1 / (1 + margin) to 1 + margin, so that a difference, if any, does not matter; `?` neither.

    Args:
        ratio: of times, so that above 1 is slower.
        margin: the fraction that does not matter, such as 0.03.
    """
    if ratio.low is None or ratio.high is None:
        return "?"
    if ratio.high <= 1 + margin and ratio.low >= 1 / (1 + margin):
        return "="
    return "+" if ratio.low > 1 else "-" if ratio.high < 1 else "?"


@cache
def _rank(n: int) -> int:
    """The greatest k with 2 P(Binomial(n, 1/2) < k) <= 5 %; 0 where there is none."""
    below, k = 0, 0
    while 2 * (below + math.comb(n, k)) <= (1 - CONFIDENCE) * 2**n:
        below += math.comb(n, k)
        k += 1
    return k
