"""Exact tests of paired differences: by their signs, by their ranks."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ONE_THREAD = 9000  # numbers of a matrix; OpenBLAS takes threads from 9,216 on
MOST_SIGNS = 13  # values up to which every assignment of signs is taken: 2^13 = 8,192 keep 4 digits of p


@cache
def subset_weights(n: int) -> Floats:
    """Weights of the means of subsets, each over its size: (2^m - 1, n), every non-empty one up to 13 values.

    Beyond it those of a linear code with 2^13 words: signs that form a group keep the test exact (Hemerik & Goeman
    2018).
    """
    m = min(n, MOST_SIGNS)
    random = np.random.default_rng(n).integers(0, 2, (m, n - m))
    generator = np.concatenate([np.eye(m, dtype=np.int64), random], axis=1)
    words = ((np.arange(1, 2**m)[:, None] >> np.arange(m)) & 1) @ generator % 2
    found: Floats = words / words.sum(1, keepdims=True)
    return found


def subset_means(sample: Floats) -> Floats:
    """The means of all those subsets of a sample, (n,) to (2^m - 1,).

    In pieces that are too small for more than one thread of BLAS: those took 0.9 to 7.8 ms of processor time for 100
    values on two shared cores, one takes 0.25, and the numbers are the same to the last bit.
    """
    weights, n = subset_weights(len(sample)), len(sample)
    rows = 4 * max(1, _ONE_THREAD // (4 * n))  # its kernels take four at a time
    end = len(weights) // rows * rows
    return np.concatenate([(weights[:end].reshape(-1, rows, n) @ sample).ravel(), weights[end:] @ sample])


def paired_test(differences: Floats) -> float:
    """Two-sided p of the hypothesis that each difference is as likely to have the other sign; exact.

    The sign-flip test on their mean; where one is infinite (a run that never got there), or all are equally far from 0
    (shares: McNemar's test), Wilcoxon's on their ranks. Zeros say nothing. The least p possible is 2 / 2^n: 0.062 at 5
    pairs, 0.031 at 6. (n,), infinite allowed, no NaN.
    """
    told = differences[differences != 0]
    if not len(told):
        return 1.0
    if np.isfinite(told).all() and np.ptp(np.abs(told)) > 0:
        return sign_flip_test(differences)
    return wilcoxon_test(told)


def sign_flip_test(differences: Floats) -> float:
    """Share of the assignments of signs whose sum is at least as far from 0, on the same side, twice; exact. (n,).

    `stats.mean_interval` excludes 0 at the errors that this p does not exceed.
    """
    means = subset_means(differences)  # flipping a subset moves the sum by twice its own
    slack = 1e-9 * np.abs(differences).max()
    fewer = min((means <= slack).sum(), (means >= -slack).sum())
    return float(min(1.0, 2 * (1 + fewer) / (len(means) + 1)))


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
