"""Intervals against hand calculation and by simulation; every verdict."""

import math

import numpy as np
import pytest

from bncli.analysis.stats import interval, observed, probability_of_improvement, verdict
from bncli.findings import Value

T2, T4 = 4.302652730, 2.776445105  # two-sided 95 % quantiles of t with 2 and 4 degrees of freedom


def exact(*numbers):
    return [Value(seed, x, x, x) for seed, x in enumerate(numbers)]


def crossing(low, high):
    return Value(0, float(high), float(low), float(high))


def censored(budget):
    return Value(0, None, float(budget), None, "not reached")


def pairs_of(variant, reference):
    return list(zip(variant, reference, strict=True))


def test_the_interval_of_exact_differences_is_the_paired_t_interval():
    pairs = pairs_of(exact(11, 22, 33), exact(10, 20, 30))  # differences 1, 2, 3: mean 2, standard deviation 1
    assert interval(pairs, "difference") == pytest.approx((2 - T2 / math.sqrt(3), 2 + T2 / math.sqrt(3)))


def test_the_interval_of_exact_ratios_is_that_of_their_logarithms():
    pairs = pairs_of(exact(20, 40, 80), exact(10, 10, 10))  # ratios 2, 4, 8
    half = T2 * math.log(2) / math.sqrt(3)
    assert interval(pairs, "ratio") == pytest.approx((math.log(4) - half, math.log(4) + half))


def test_equal_crossings_on_a_coarse_grid_are_not_falsely_certain():
    pairs = [(crossing(400, 500), crossing(900, 1000))] * 5
    low, high = interval(pairs, "ratio")
    assert (math.exp(low), math.exp(high)) == pytest.approx((400 / 1000, 500 / 900))
    assert math.exp(observed(pairs, "ratio").mean()) == pytest.approx(0.5)


def test_each_end_has_its_own_spread():
    pairs = [(crossing(a - 100, a), crossing(900, 1000)) for a in (400, 500, 600, 500, 400)]
    lows = np.log([0.3, 0.4, 0.5, 0.4, 0.3])
    highs = np.log([4 / 9, 5 / 9, 6 / 9, 5 / 9, 4 / 9])
    half = [T4 * x.std(ddof=1) / math.sqrt(5) for x in (lows, highs)]
    assert interval(pairs, "ratio") == pytest.approx((lows.mean() - half[0], highs.mean() + half[1]))


def test_neighbouring_brackets_can_hold_the_same_crossing():
    low, _ = interval([(crossing(400, 500), crossing(300, 400))] * 5, "ratio")
    assert low == 0


def test_a_crossing_in_the_first_bracket_came_at_step_one_at_the_earliest():
    low, high = interval([(crossing(0, 100), crossing(900, 1000))] * 3, "ratio")
    assert (math.exp(low), math.exp(high)) == pytest.approx((1 / 1000, 100 / 900))


def test_a_censored_reference_leaves_only_an_upper_bound():
    pairs = [(crossing(400, 500), censored(1000))] * 3
    assert interval(pairs, "ratio") == pytest.approx((-math.inf, math.log(500 / 1000)))
    assert observed(pairs, "ratio") is None


def test_a_censored_variant_leaves_only_a_lower_bound():
    pairs = [(crossing(400, 500), crossing(400, 500)), (censored(1000), crossing(400, 500))]
    low, high = interval(pairs, "ratio")
    assert high == math.inf
    assert math.isfinite(low)


def test_two_censored_runs_leave_nothing():
    assert interval([(censored(1000), censored(1000))] * 3, "ratio") == (-math.inf, math.inf)


def test_an_unknown_value_leaves_nothing():
    unknown = Value(0, None, None, None, "not measured")
    assert interval([(unknown, exact(1)[0]), (exact(1)[0], exact(1)[0])], "difference") == (-math.inf, math.inf)


def test_the_bracketed_interval_covers_the_ratio_on_a_coarse_grid():
    rng = np.random.default_rng(2)
    covered, grid = 0, 100

    def seen(step):
        high = math.ceil(step / grid) * grid
        return crossing(high - grid, high)

    for _ in range(1000):
        reference = rng.lognormal(math.log(1000), 0.03, 5)
        variant = 0.5 * reference * rng.lognormal(0, 0.03, 5)
        low, high = interval([(seen(a), seen(b)) for a, b in zip(variant, reference, strict=True)], "ratio")
        covered += low <= math.log(0.5) <= high
    assert covered >= 950


def test_superiority_counts_ties_half():
    assert probability_of_improvement(pairs_of(exact(1, 2, 3, 9), exact(2, 2, 4, 5)), "lower")[0] == 2.5 / 4
    assert probability_of_improvement(pairs_of(exact(1, 2, 3, 9), exact(2, 2, 4, 5)), "higher")[0] == 1.5 / 4


def test_a_censored_run_is_worse_than_any_that_got_there_and_two_tie():
    pairs = [(censored(10), crossing(900, 1000)), (crossing(900, 1000), censored(10)), (censored(10), censored(10))]
    assert probability_of_improvement(pairs, "lower")[0] == 1.5 / 3
    assert probability_of_improvement(pairs[1:], "lower")[0] == 0.75


def test_superiority_is_unknown_where_a_value_is():
    assert probability_of_improvement([(Value(0, None, None, None), exact(1)[0])], "lower") is None


@pytest.mark.parametrize(
    ("low", "high", "direction", "expected"),
    [
        (-3, -1, "lower", "better"),
        (-3, -1, "higher", "worse"),
        (1, 3, "lower", "worse"),
        (1, 3, "higher", "better"),
        (-1, 3, "lower", "inconclusive"),
        (-math.inf, -1, "lower", "better"),
        (1, math.inf, "lower", "worse"),
        (-math.inf, 1, "lower", "inconclusive"),
        (-math.inf, math.inf, "lower", "inconclusive"),
        (-0.4, 0.5, "lower", "equivalent"),
        (0, 0, "higher", "equivalent"),
        (-0.4, 0.6, "lower", "inconclusive"),
        (0, 0.6, "lower", "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_interval_alone(low, high, direction, expected):
    assert verdict(low, high, 0.5, direction) == expected


def test_a_sure_difference_within_the_margin_is_equivalent_not_better():
    assert verdict(0.1, 0.2, 0.5, "higher") == "equivalent"
