"""Exact tests against enumeration by hand, Holm's correction, and advice on seeds."""

import itertools
import math

import numpy as np
import pytest

from bncli.analysis.comparisons import holm, more_seeds
from bncli.analysis.exact import paired_test, sign_flip_test, wilcoxon_test
from bncli.analysis.stats import (
    Level,
    critical_t,
    share_difference_interval,
)
from bncli.findings import Value


def array(*numbers):
    return np.array(numbers, dtype=float)


@pytest.mark.parametrize(("pairs", "least"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_no_p_is_below_two_in_two_to_the_n(pairs, least):
    assert paired_test(array(*range(1, pairs + 1))) == least
    assert wilcoxon_test(array(*range(1, pairs + 1))) == least


def test_sign_flips_are_counted():  # |sum| >= 4 of 1 2 3 -2: by hand 6 of 16 assignments
    sample = array(1, 2, 3, -2)
    every = [
        sum(s * x for s, x in zip(signs, (1, 2, 3, 2), strict=True)) for signs in itertools.product((1, -1), repeat=4)
    ]
    assert sign_flip_test(sample) == sum(abs(x) >= 4 for x in every) / 16


def test_wilcoxon_counts_ranks_with_ties_shared():
    sample = array(1, -1, 2, 3, 3)  # ranks 1.5 1.5 3 4.5 4.5, positive sum 13.5 of 15
    sums = [
        sum(r for r, s in zip((1.5, 1.5, 3, 4.5, 4.5), signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=5)
    ]
    assert wilcoxon_test(sample) == sum(abs(x - 7.5) >= 6 for x in sums) / 32


def test_wilcoxon_of_many_pairs_nears_its_normal_limit():
    sample = np.random.default_rng(3).normal(0.2, 1, 60)
    ranks = np.argsort(np.argsort(np.abs(sample))) + 1
    z = (ranks[sample > 0].sum() - 60 * 61 / 4) / math.sqrt(60 * 61 * 121 / 24)
    assert wilcoxon_test(sample) == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.005)


def test_runs_that_never_got_there_enter_as_the_greatest_ranks():
    assert paired_test(array(math.inf, math.inf, 1, 2, 3)) == 0.0625
    assert paired_test(array(-math.inf, 1, 2, 3, 4)) == wilcoxon_test(array(-9, 1, 2, 3, 4))


def test_no_difference_is_no_evidence():
    assert paired_test(array(0, 0, 0)) == 1.0
    assert paired_test(array(0, 0, 1, 2, 3)) == 0.25


@pytest.mark.parametrize("seeds", [6, 20])
def test_the_test_is_wrong_in_at_most_5_of_100_studies_without_a_difference(seeds):
    rng = np.random.default_rng(1)
    wrong = sum(paired_test(rng.normal(0, 1, seeds)) <= 0.05 for _ in range(600))
    assert wrong / 600 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_holm_multiplies_the_least_most_and_never_reorders():
    assert holm([0.01, 0.04, 0.03, None]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]
    assert holm([0.6, 0.7]) == [1.0, 1.0]


LATER = Level(0.05, anytime=True)  # a study that is extended


def exactly(differences):
    return [(Value(i, x, x, x), Value(i, 0.0, 0.0, 0.0)) for i, x in enumerate(differences)]


def test_more_seeds_are_as_many_as_shrink_the_e_values_interval_off_zero():
    sample = (0.1, 1.1, -0.9, 0.6, 0.6)  # mean 0.3, standard deviation 0.7583
    n = 5 + more_seeds(exactly(sample), "difference", 0.01, LATER)
    reached = [critical_t(m, LATER) * np.std(sample, ddof=1) / math.sqrt(m) for m in (n, n - 1)]
    assert reached[0] < 0.3 <= reached[1]
    assert n == 81  # 27 by the t-interval of a study looked at once, which it no longer is


def test_a_grid_too_coarse_is_not_mended_by_seeds():
    bracket = [(Value(i, 1.0, -1.0, 1.0), Value(i, 0.0, 0.0, 0.0)) for i in range(3)]
    assert more_seeds(bracket, "difference", 0.01, LATER) is None


def test_a_small_difference_is_decided_by_the_margin():
    assert more_seeds(exactly((0.01, -0.01, 0.02, -0.02, 0.0)), "difference", 0.02, LATER) == 5


def test_more_seeds_of_shares_are_as_many_as_narrow_the_exact_interval():
    never = [(Value(i, 1.0, 1.0, 1.0), Value(i, 1.0, 1.0, 1.0)) for i in range(10)]
    more = more_seeds(never, "difference", 0.05, LATER)
    assert (
        share_difference_interval(0, 0, 10 + more, LATER)[1]
        <= 0.05
        < share_difference_interval(0, 0, 9 + more, LATER)[1]
    )
