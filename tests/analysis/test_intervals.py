"""Intervals of means and shares: by hand, and by simulation how often they cover the truth."""

import numpy as np
import pytest

from bncli.analysis.stats import mean_interval, share_interval

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
    low, high = mean_interval(samples)
    covered = np.mean((low <= 0.3) & (high >= 0.3))
    assert 0.93 <= covered <= 0.97


def test_below_15_values_it_is_the_t_interval():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302652730 / np.sqrt(3), 2 + 4.302652730 / np.sqrt(3)))


def test_from_15_values_it_leans_towards_the_long_tail():
    sample = np.random.default_rng(0).lognormal(0, 1, 30)
    low, high = mean_interval(sample)
    assert high - sample.mean() > 1.1 * (sample.mean() - low)


def test_the_same_sample_has_the_same_interval():
    sample = np.random.default_rng(0).normal(0, 1, 20)
    assert mean_interval(sample) == mean_interval(sample.copy())


def test_equal_values_have_an_interval_of_no_width():
    assert mean_interval(np.full(20, 0.25)) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 10, (0, 0.3085)), (10, 10, (0.6915, 1)), (8, 10, (0.4439, 0.9748)), (5, 10, (0.1871, 0.8129))],
)
def test_the_interval_of_a_share_is_clopper_and_pearsons(successes, trials, expected):
    assert share_interval(successes, trials) == pytest.approx(expected, abs=5e-5)  # their tables
