"""Exact paired tests, the correction for several of them, and how many more seeds would decide."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from bncli.analysis.intervals import BOOTSTRAP_FROM, CONFIDENCE, Floats

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
