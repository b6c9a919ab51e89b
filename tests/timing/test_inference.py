"""Changes between sets of processes, against scipy where it has the same, and by simulation where it has not."""

import math
import random

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_1samp, ttest_ind

from bncli.timing.results import Estimate
from bncli.timing.stats import Contrast, Observation, Prior, adjust_levels, adjust_p_values, contrast, fit_prior

ALONE = Prior(1.0, 0.0)  # no family


def _sample(chance: random.Random, count: int, sigma: float = 0.02, mean: float = 0.0) -> list[float]:
    return [chance.gauss(mean, sigma) for _ in range(count)]


@pytest.mark.parametrize("counts", [(3, 4), (8, 10), (12, 5)])
def test_without_a_family_it_is_yuens_test(counts: tuple[int, int]) -> None:
    chance = random.Random(0)
    now, before = _sample(chance, counts[0], mean=0.05), _sample(chance, counts[1])
    expected = ttest_ind(now, before, equal_var=False, trim=0.2, alternative="greater")
    found = contrast(now, ALONE, before, ALONE)
    assert found.test_slower(0.0) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.change / found.error == pytest.approx(expected.statistic, rel=1e-9)
    assert found.test_faster(0.0) == pytest.approx(1 - expected.pvalue, rel=1e-9)


def test_without_a_before_it_is_the_t_test_of_one_sample() -> None:
    now = _sample(random.Random(1), 4, mean=0.05)
    low, high = ttest_1samp(now, 0.0).confidence_interval(0.95)
    found = contrast(now, ALONE, (), ALONE).estimate()
    assert (found.low, found.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))


def test_one_wild_process_does_not_move_a_change() -> None:
    calm = [0.01 * i for i in range(8)]
    wild = [*calm[:-1], 0.5]
    assert contrast(wild, ALONE, calm, ALONE).change == pytest.approx(0.0, abs=1e-12)


def test_adjusted_p_values_are_benjamini_and_hochbergs() -> None:
    p = [0.01, 0.9, 0.03, 0.03, 0.0001, 1.0, 0.2]
    assert adjust_p_values(p) == pytest.approx(list(false_discovery_control(p)))
    assert adjust_p_values([]) == []


def test_a_family_of_equal_variances_gives_all_cases_one() -> None:
    chance = random.Random(2)
    found = fit_prior([_sample(chance, 4, sigma=0.02) for _ in range(400)])
    assert found.freedom > 30
    assert math.sqrt(found.variance) == pytest.approx(0.02, rel=0.05)


def test_a_family_of_unequal_variances_is_recognised() -> None:
    """Variances drawn as Smyth's model has it: s0^2 d0 / chi-squared of d0, with d0 = 6."""
    chance = random.Random(3)
    sigmas = [0.02 * math.sqrt(6 / chance.gammavariate(3, 2)) for _ in range(2000)]
    found = fit_prior([_sample(chance, 4, sigma) for sigma in sigmas])
    assert found.freedom == pytest.approx(6, rel=0.25)
    assert math.sqrt(found.variance) == pytest.approx(0.02, rel=0.05)


def test_two_cases_are_no_family() -> None:
    assert fit_prior([[0.0, 0.1], [0.0, 0.2]]).freedom == 0.0


def test_intervals_over_processes_cover_what_they_promise() -> None:
    chance, covered, trials = random.Random(4), 0, 2000
    for _ in range(trials):
        found = contrast([math.log(1.5) + e for e in _sample(chance, 5)], ALONE, (), ALONE).estimate()
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.5 <= found.high
    assert covered / trials == pytest.approx(0.95, abs=0.015)


def _points(chance: random.Random, count: int, level: float, shift: float) -> list[Observation]:
    """Ratios that fall by 0.3 % for each 1 % by which the machine is slower."""
    xs = [chance.gauss(level, 0.2) for _ in range(count)]
    return [(x, shift - 0.3 * x + chance.gauss(0, 0.01)) for x in xs]


def test_levelled_changes_are_those_of_an_analysis_of_covariance() -> None:
    """Against least squares on two groups and one slope; four values a side, of which none is trim."""
    chance = random.Random(3)
    now, before = _points(chance, 4, 0.4, 0.05), _points(chance, 4, 0.0, 0.0)
    design = np.array(
        [[side == 0, side == 1, x] for side, points in enumerate((now, before)) for x, _ in points], float
    )
    y = np.array([y for points in (now, before) for _, y in points])
    solution, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = residual[0] / (8 - 3) * np.linalg.inv(design.T @ design)
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = adjust_levels(now, before)
    same = fit_prior([found.now, found.before])
    assert same.freedom == 0  # two samples are no family
    result = contrast(found.now, ALONE, found.before, ALONE, found.leverage)
    assert result.change == pytest.approx(solution[0] - solution[1], rel=1e-9)
    assert result.error == pytest.approx(error, rel=1e-6)


def test_levelling_leaves_alone_what_has_no_before_or_no_spread() -> None:
    assert adjust_levels([(0.1, 1.0), (0.2, 2.0)], []).now == [1.0, 2.0]
    flat = adjust_levels([(0.1, 1.0), (0.1, 2.0)], [(0.1, 1.5), (0.1, 1.5)])
    assert (flat.now, flat.before, flat.leverage) == ([1.0, 2.0], [1.5, 1.5], 0.0)


def test_where_levels_have_nothing_in_common_the_interval_is_wide_and_a_number() -> None:
    found = Contrast(0.2, 1e12, 13.0)
    assert found.half_width == 20
    assert found.estimate() == Estimate(math.exp(0.2), math.exp(-19.8), math.exp(20.2))


def test_one_wild_process_sets_no_slope() -> None:
    """It lies at another level, 150 % above the others; the change is 10 %."""
    changes = []
    for seed in range(100):
        chance = random.Random(seed)
        now, before = _points(chance, 5, 0.07, 0.1), _points(chance, 9, 0.0, 0.0)
        found = adjust_levels(now, [*before, (0.7, 0.9)])
        changes.append(contrast(found.now, ALONE, found.before, ALONE, found.leverage).change)
    assert sum(changes) / 100 == pytest.approx(0.1, abs=0.01)


def test_a_third_set_lends_its_slope() -> None:
    chance = random.Random(4)
    now, before, others = (_points(chance, n, level, 0.0) for n, level in ((3, 0.5), (3, 0.0), (30, 1.0)))
    assert adjust_levels(now, before, others).leverage < adjust_levels(now, before).leverage / 3


def test_levelled_intervals_cover_the_truth() -> None:
    """Of 1,000 changes at another load each, 93 to 97 % lie in their interval."""
    chance, inside = random.Random(5), 0
    for _ in range(1000):
        now, before = _points(chance, 8, chance.gauss(0, 0.3), 0.05), _points(chance, 10, 0.0, 0.0)
        found = adjust_levels(now, before)
        result = contrast(found.now, ALONE, found.before, ALONE, found.leverage)
        inside += abs(result.change - 0.05) <= result.half_width
    assert 930 <= inside <= 970
