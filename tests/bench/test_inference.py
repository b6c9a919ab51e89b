"""Changes between sets of processes, against scipy where it has the same, and by simulation where it has not."""

import math
import random

import pytest
from scipy.stats import false_discovery_control, ttest_1samp, ttest_ind

from bncli.bench.inference import Prior, contrast, false_discovery, over_processes, prior
from bncli.bench.results import Estimate

ALONE = Prior(1.0, 0.0)  # no family


def _sample(chance: random.Random, count: int, sigma: float = 0.02, mean: float = 0.0) -> list[float]:
    return [chance.gauss(mean, sigma) for _ in range(count)]


@pytest.mark.parametrize("counts", [(3, 4), (8, 10), (12, 5)])
def test_without_a_family_it_is_yuens_test(counts: tuple[int, int]) -> None:
    chance = random.Random(0)
    now, before = _sample(chance, counts[0], mean=0.05), _sample(chance, counts[1])
    expected = ttest_ind(now, before, equal_var=False, trim=0.2, alternative="greater")
    found = contrast(now, ALONE, before, ALONE)
    assert found.slower_than(0.0) == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.change / found.error == pytest.approx(expected.statistic, rel=1e-9)
    assert found.faster_than(0.0) == pytest.approx(1 - expected.pvalue, rel=1e-9)


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
    assert false_discovery(p) == pytest.approx(list(false_discovery_control(p)))
    assert false_discovery([]) == []


def test_a_family_of_equal_variances_gives_all_cases_one() -> None:
    chance = random.Random(2)
    found = prior([_sample(chance, 4, sigma=0.02) for _ in range(400)])
    assert found.freedom > 30
    assert math.sqrt(found.variance) == pytest.approx(0.02, rel=0.05)


def test_a_family_of_unequal_variances_is_recognised() -> None:
    """Variances drawn as Smyth's model has it: s0^2 d0 / chi-squared of d0, with d0 = 6."""
    chance = random.Random(3)
    sigmas = [0.02 * math.sqrt(6 / chance.gammavariate(3, 2)) for _ in range(2000)]
    found = prior([_sample(chance, 4, sigma) for sigma in sigmas])
    assert found.freedom == pytest.approx(6, rel=0.25)
    assert math.sqrt(found.variance) == pytest.approx(0.02, rel=0.05)


def test_two_cases_are_no_family() -> None:
    assert prior([[0.0, 0.1], [0.0, 0.2]]).freedom == 0.0


def test_intervals_over_processes_cover_what_they_promise() -> None:
    chance, covered, trials = random.Random(4), 0, 2000
    for _ in range(trials):
        found = over_processes([1.5 * math.exp(e) for e in _sample(chance, 5)])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.5 <= found.high
    assert covered / trials == pytest.approx(0.95, abs=0.015)


def test_one_process_has_no_interval() -> None:
    assert over_processes([1.5]) == Estimate(1.5)
