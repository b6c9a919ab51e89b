"""Intervals of means and shares: by hand, and by simulation how often they cover the truth."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from bncli.analysis.exact import paired_test, sign_flip_test, subset_weights
from bncli.analysis.stats import (
    Level,
    critical_t,
    level_of,
    mean_interval,
    method_of,
    share_difference_interval,
    share_interval,
)
from bncli.findings import Looks

STUDIES = 4000  # a share of 0.95 is then known to 0.0034; 0.93 and 0.97 are six standard errors off

PAIRED = {
    "normal": lambda rng, size: rng.normal(0.3, 1, size) - rng.normal(0, 1, size),
    "logarithms of skewed times": lambda rng, size: np.log(rng.gamma(4, 1, size) / rng.gamma(4, 1, size)) + 0.3,
    "even": lambda rng, size: rng.uniform(0, 0.6, size),
}


@pytest.mark.parametrize("seeds", [5, 10, 15, 30])
@pytest.mark.parametrize("kind", PAIRED)
def test_an_interval_of_95_percent_covers_the_mean_in_93_to_97_of_100_studies(kind, seeds):
    samples = PAIRED[kind](np.random.default_rng(seeds), (STUDIES, seeds))
    low, high = np.array([mean_interval(part) for part in np.array_split(samples, 40)]).swapaxes(0, 1).reshape(2, -1)
    covered = np.mean((low <= 0.3) & (high >= 0.3))
    assert 0.93 <= covered <= 0.97


def test_where_no_exact_test_reaches_the_level_it_is_the_t_interval():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302652730 / np.sqrt(3), 2 + 4.302652730 / np.sqrt(3)))
    assert [method_of(n, Level(0.05)).split(",")[0] for n in (5, 6)] == ["t-interval", "exact test"]
    assert [method_of(n, Level(0.0125)).split(",")[0] for n in (7, 8)] == ["t-interval", "exact test"]


def test_six_values_of_one_sign_exclude_0_and_five_and_a_smaller_one_do_not():  # the least p of six is 2 / 64
    assert mean_interval(np.array([1.0, 2, 3, 4, 5, 6])) == (1, 6)
    assert mean_interval(np.array([-1.0, 2, 3, 4, 5, 6])) == (-1, 6)


def test_the_exact_interval_is_what_enumeration_of_signs_does_not_reject():
    sample = np.random.default_rng(1).normal(0.5, 1, 8)
    low, high = mean_interval(sample)
    for end, inside in ((low, 1e-6), (high, -1e-6)):
        assert sign_flip_test(sample - (end + inside)) > 0.05
        assert sign_flip_test(sample - (end - inside)) <= 0.05


@pytest.mark.parametrize("pairs", [8, 13, 14, 30])
@pytest.mark.parametrize("error", [0.05, 0.0125])
def test_the_interval_excludes_0_where_the_test_rejects_it(pairs, error):
    rng = np.random.default_rng(pairs)
    for sample in rng.normal(0.6, 1, (40, pairs)):
        low, high = mean_interval(sample, Level(error))
        assert (low > 0 or high < 0) == (sign_flip_test(sample) <= error)


def test_many_values_are_tested_by_a_group_of_signs():
    words = subset_weights(16) > 0
    every = {tuple(word) for word in words}
    assert len(every) == 2**13 - 1
    first, second = words[np.random.default_rng(0).integers(0, len(words), (2, 50))]
    both = {tuple(a ^ b) for a, b in zip(first, second, strict=True)} - {(False,) * 16}
    assert both <= every  # with no flip at all they are closed under flipping one after the other


@pytest.mark.parametrize("seeds", [10, 15, 30])
def test_one_diverged_run_decides_nothing(seeds):
    rng, false = np.random.default_rng(0), 0
    for _ in range(400):
        a, b = (np.where(rng.random(seeds) < 0.05, 0.1, rng.normal(0.97, 0.003, seeds)) for _ in range(2))
        low, high = mean_interval(a - b)
        false += low > 0 or high < 0
    assert false / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_fourteen_small_differences_and_a_large_one_are_open():  # exact p = .12; a bootstrap said better
    sample = np.append(np.random.default_rng(0).normal(0, 0.004, 14), 0.87)
    low, high = mean_interval(sample)
    assert low <= 0 <= high
    assert paired_test(sample) > 0.05


def test_differences_that_cancel_are_0_whatever_the_rounding():
    low, high = mean_interval(np.array([0.1, 0.2, -0.3] * 4))
    assert low < 0 < high
    assert mean_interval(np.array([0.1, 0.2, -0.3, 0, 0, 0, 0]))[1] >= 0


def test_the_same_sample_has_the_same_interval():
    sample = np.random.default_rng(0).normal(0, 1, 20)
    assert mean_interval(sample) == mean_interval(sample.copy())


def test_the_critical_t_of_an_e_value_is_that_of_its_formula():
    found = [critical_t(n, Level(0.05, anytime=True)) for n in (5, 8, 10, 15, 20, 30, 50)]
    assert found == pytest.approx([5.36, 4.20, 3.97, 3.73, 3.63, 3.56, 3.54], abs=0.005)
    n, t = 12, critical_t(12, Level(0.05, anytime=True))
    e = (1 + 4 * n) ** -0.5 * ((1 + t**2 / (n - 1)) / (1 + t**2 / ((n - 1) * (1 + 4 * n)))) ** (n / 2)
    assert e == pytest.approx(20)


def test_three_values_reach_no_e_value_of_20():
    assert mean_interval(np.array([1.0, 1.0, 1.1]), Level(0.05, anytime=True)) == (-math.inf, math.inf)


def test_fixed_looks_share_the_5_percent():
    seven = level_of(Looks(planned=(5, 8, 10, 15, 20, 30, 50)))
    assert 0.0100 < seven.error < 0.0125  # simulated apart: 4.5 % at .01, 5.4 % at .0125
    assert level_of(Looks(planned=(10,))).error == pytest.approx(0.05)
    assert level_of(Looks(planned=(5, 10))).error > level_of(Looks(planned=(5, 10, 15))).error > seven.error


def test_a_family_shares_the_5_percent_and_an_unplanned_look_asks_for_an_e_value():
    assert level_of(Looks(), 4) == Level(pytest.approx(0.0125))
    assert level_of(Looks(planned=(5, 8), unplanned=(6,)), 2) == Level(pytest.approx(0.0125), anytime=True)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 10, (0, 0.3085)), (10, 10, (0.6915, 1)), (8, 10, (0.4439, 0.9748)), (5, 10, (0.1871, 0.8129))],
)
def test_the_interval_of_a_share_is_clopper_and_pearsons(successes, trials, expected):
    assert share_interval(successes, trials) == pytest.approx(expected, abs=5e-5)  # their tables


def test_no_share_that_differs_has_a_width_all_the_same():
    low, high = share_difference_interval(0, 0, 10)
    assert (low, high) == pytest.approx((-0.3085, 0.3085), abs=5e-5)  # Clopper & Pearson's of 0 of 10


@pytest.mark.parametrize(("ups", "downs"), [(6, 0), (5, 0), (7, 1), (9, 1), (3, 9), (10, 3)])
def test_the_sign_of_a_difference_of_shares_is_that_of_mcnemars_exact_test(ups, downs):
    low, high = share_difference_interval(ups, downs, 15)
    p = binomtest(ups, ups + downs).pvalue
    assert (low > 0 or high < 0) == (p <= 0.05)
    assert paired_test(np.array([1.0] * ups + [-1.0] * downs + [0.0] * 2)) == pytest.approx(p)


@pytest.mark.parametrize("pairs", [3, 5, 10, 20, 30])
def test_the_interval_of_a_difference_of_shares_covers_every_two_shares(pairs):
    """Counted out over every outcome, for shares of pairs that go up and down on a grid of 1/20."""
    told = [(b, c, *share_difference_interval(b, c, pairs)) for b in range(pairs + 1) for c in range(pairs + 1 - b)]
    ups, downs, lows, highs = np.array(told).T
    least = 1.0
    for up, down in ((i / 20, j / 20) for i in range(21) for j in range(21 - i)):
        chances = multinomial.pmf(np.stack([ups, downs, pairs - ups - downs], -1), pairs, [up, down, 1 - up - down])
        held = (lows <= up - down + 1e-9) & (up - down - 1e-9 <= highs)
        least = min(least, float(chances[held].sum()))
    assert least >= 0.955


def test_shares_at_any_number_of_looks_are_rarely_wrong():
    rng, level, wrong = np.random.default_rng(0), Level(0.05, anytime=True), 0
    for runs in rng.random((300, 2, 30)) < 0.7:
        gone = runs[0].astype(int) - runs[1]
        ends = [
            share_difference_interval((gone[:n] > 0).sum(), (gone[:n] < 0).sum(), n, level) for n in range(5, 31, 5)
        ]
        wrong += any(low > 0 or high < 0 for low, high in ends)
    assert wrong / 300 <= 0.05
    low, high = share_interval(9, 10, level)
    assert low < 0.5 < high < 1  # wider than the exact interval [.55, .998] of one look


def test_what_rounding_leaves_of_a_share_of_all_is_no_failure():
    anytime = Level(0.0025, anytime=True)
    assert share_interval(503.00000000000006, 503, anytime) == share_interval(503, 503, anytime)
