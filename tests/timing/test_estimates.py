"""Medians and ratios with their intervals, outliers, verdicts: exact values, and coverage by simulation."""

import math
import random
from collections.abc import Callable

import pytest

from bncli.timing.results import Estimate, judge_ratio
from bncli.timing.stats import count_outliers, estimate_median, estimate_ratio


@pytest.mark.parametrize(("n", "ends"), [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15)), (100, (40, 61))])
def test_the_interval_of_the_median_is_that_of_the_sign_test(n: int, ends: tuple[int, int]) -> None:
    found = estimate_median([float(i) for i in range(n, 0, -1)])  # Conover 1999, table A3: ranks at 95 %
    assert found == Estimate((n + 1) / 2, *ends)


def test_five_samples_have_no_interval() -> None:
    assert estimate_median([1.0, 2.0, 3.0, 4.0, 5.0]) == Estimate(3.0, None, None)


def test_a_ratio_is_taken_within_blocks() -> None:
    case, rival = [(2.0 * k, 4.0 * k) for k in range(1, 9)], [(1.0 * k, 2.0 * k) for k in range(1, 9)]
    assert estimate_ratio(case, rival) == Estimate(2, 2, 2)


def _steady(chance: random.Random, n: int) -> list[tuple[float, float, float, float]]:
    return [tuple(chance.gauss(0, 0.02) for _ in range(4)) for _ in range(n)]  # type: ignore[misc]


def _drifting(chance: random.Random, n: int) -> list[tuple[float, float, float, float]]:
    return [tuple(0.3 * (4 * b + i) / (4 * n) + chance.gauss(0, 0.02) for i in range(4)) for b in range(n)]  # type: ignore[misc]


def _bursty(chance: random.Random, n: int) -> list[tuple[float, float, float, float]]:
    """One chunk in six is held up by another process, for up to several times its own length."""
    late = lambda: chance.expovariate(1.0) if chance.random() < 1 / 6 else 0.0  # noqa: E731
    return [tuple(chance.gauss(0, 0.02) + late() for _ in range(4)) for _ in range(n)]  # type: ignore[misc]


@pytest.mark.parametrize("noise", [_steady, _drifting, _bursty])
@pytest.mark.parametrize("blocks", [8, 18, 60])
def test_intervals_of_the_ratio_cover_what_they_promise(
    noise: Callable[..., list[tuple[float, ...]]], blocks: int
) -> None:
    chance, covered, trials = random.Random(blocks), 0, 600
    for _ in range(trials):
        chunks = [
            [1.5 * math.exp(c1), math.exp(y1), math.exp(y2), 1.5 * math.exp(c2)]
            for c1, y1, y2, c2 in noise(chance, blocks)
        ]
        found = estimate_ratio([(c[0], c[3]) for c in chunks], [(c[1], c[2]) for c in chunks])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.5 <= found.high
    assert covered / trials >= 0.93  # 95 % less two standard errors of 600 trials


def test_outliers_lie_far_above_the_quartiles() -> None:
    assert count_outliers([1.0, 2.0, 3.0, 4.0, 5.0]) == 0
    assert count_outliers([1.0, 2.0, 3.0, 4.0, 11.0]) == 1  # quartiles 2 and 4: the fence is at 10
    assert count_outliers([-90.0, 2.0, 3.0, 4.0, 10.0]) == 0


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.8, 0.99), "better"),
        ((1.01, 1.2), "worse"),
        ((0.98, 1.02), "equivalent"),
        ((1.005, 1.02), "equivalent"),
        ((0.9, 1.1), "inconclusive"),
        ((None, None), "inconclusive"),
    ],
)
def test_less_time_is_better(interval: tuple[float | None, float | None], expected: str) -> None:
    assert judge_ratio(Estimate(1.0, *interval), margin=0.03) == expected
