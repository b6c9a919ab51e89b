"""Distances between distributions, against closed forms."""

import math

import pytest
import torch
from scipy import stats

from bncli.shift.conditioning import frechet
from bncli.shift.distribution import (
    activation_rms,
    gaussian_w2,
    ks,
    location_drift,
    percentile_drift,
    percentiles,
    relative_percentile_drift,
    relative_w1,
    scale_drift,
    standardised_symmetric_kl,
    symmetric_kl,
    w1,
)
from bncli.shift.samples import moments


def standard(examples=1000, channels=2):
    """Samples with mean 0 and biased deviation 1, exactly."""
    x = torch.randn(examples, channels, dtype=torch.float64)
    return (x - x.mean(0)) / x.std(0, correction=0)


def grid(examples=101):
    """One channel with evenly spaced values from 0 to 1: its quantiles are its shares."""
    return torch.linspace(0, 1, examples, dtype=torch.float64)[torch.randperm(examples)].unsqueeze(1)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=tolerance, atol=tolerance)


def test_percentiles_of_an_even_grid_are_the_shares():
    torch.testing.assert_close(percentiles(grid())[:, 0].tolist(), [0.15, 0.5, 0.85])


def test_percentiles_are_numpys_linear_ones():
    x = torch.randn(37, 5, dtype=torch.float64)
    torch.testing.assert_close(
        percentiles(x), torch.quantile(x, torch.tensor([0.15, 0.5, 0.85], dtype=torch.float64), 0)
    )


def test_percentiles_drift_by_what_is_added():
    close(percentile_drift(grid(), grid() - 3), 3)


def test_relative_drift_is_in_widths_of_the_band():
    close(relative_percentile_drift(grid(), grid() - 3), 3 / 0.7)


def test_a_unit_that_was_constant_and_moved_has_drifted_infinitely_far():
    assert relative_percentile_drift(torch.ones(9, 1), torch.full((9, 1), 2.0)).item() == math.inf


def test_location_drifts_in_standard_deviations_before():
    close(location_drift(2 * standard(), 2 * standard() + 3), 1.5)


def test_scale_drift_is_the_same_for_twice_and_half():
    close(scale_drift(standard(), 2 * standard()), math.log(2))
    close(scale_drift(2 * standard(), standard()), math.log(2))


def test_a_gaussian_moved_by_3_and_widened_by_4_is_5_away():
    close(gaussian_w2(standard(), 5 * standard() + 3), 5)


def test_w1_of_a_shift_is_the_shift():
    x = standard()
    close(w1(x, x[torch.randperm(1000)] - 3), 3)


def test_w1_of_a_stretched_grid_is_the_area_between_the_distribution_functions():
    close(w1(grid(), 3 * grid()), 1)


def test_w1_is_scipys():
    x, y = torch.randn(2, 50, 1, dtype=torch.float64)
    assert w1(x, y).item() == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]))


def test_relative_w1_is_in_standard_deviations_before():
    x = 2 * standard()
    close(relative_w1(x, x - 3), 1.5)


def test_symmetric_kl_of_a_shift_by_3_deviations_is_9():
    close(symmetric_kl(standard(), standard() + 3), 9)


def test_symmetric_kl_of_twice_the_width_is_nine_eighths():
    close(symmetric_kl(standard(), 2 * standard()), 9 / 8)


def test_symmetric_kl_adds_both_directions():
    m1, s1, m2, s2 = 0.3, 0.7, -1.1, 2.5
    one = math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    other = math.log(s1 / s2) + (s2**2 + (m1 - m2) ** 2) / (2 * s1**2) - 0.5
    close(symmetric_kl(s1 * standard() + m1, s2 * standard() + m2), one + other)


def test_symmetric_kl_of_a_tiny_shift_does_not_cancel():
    x = standard()
    torch.testing.assert_close(symmetric_kl(x, x + 1e-9), torch.full((2,), 1e-18).double(), rtol=1e-5, atol=0)


def test_symmetric_kl_to_a_constant_unit_is_infinite():
    assert symmetric_kl(torch.randn(9, 1), torch.ones(9, 1)).item() == math.inf


def test_standardised_kl_does_not_see_what_the_whole_layer_does():
    x = standard() * torch.tensor([1, 3]) + torch.tensor([2, -1])
    close(standardised_symmetric_kl(x, 7 * x - 5), 0)


def test_standardised_kl_sees_one_unit_move_beside_the_others():
    before = standard() + torch.tensor([1, -1])  # the layer: mean 0, variance 2
    after = before[:, [1, 0]]
    close(standardised_symmetric_kl(before, after), 4)  # 2 deviations


def test_ks_is_the_share_that_moved_past():
    before = torch.arange(10, dtype=torch.float64).unsqueeze(1)
    close(ks(before, before + 3), 0.3)


def test_ks_of_samples_that_do_not_touch_is_1():
    close(ks(standard(), standard() + 100), 1)


def test_ks_is_scipys_also_where_values_are_tied():
    x, y = torch.randn(2, 200, 1, dtype=torch.float64).round(decimals=1)
    assert ks(x, y).item() == pytest.approx(stats.ks_2samp(x[:, 0], y[:, 0]).statistic)


def test_frechet_of_independent_channels_adds_their_w2():
    x = torch.linalg.qr(standard(channels=3) - standard(channels=3).mean(0))[0]
    x = (x - x.mean(0)) * 1000**0.5  # covariance: the identity
    y = x * torch.tensor([5.0, 5.0, 5.0]) + torch.tensor([3.0, 3.0, 3.0])
    assert frechet(x, y).item() == pytest.approx(5 * 3**0.5, rel=1e-3)
    assert frechet(x, y).item() == pytest.approx(gaussian_w2(x, y).norm().item(), rel=1e-6)


def test_frechet_is_the_formula_with_roots_of_matrices():
    x, y = torch.randn(2, 50, 4, dtype=torch.float64) @ torch.randn(2, 4, 4, dtype=torch.float64) + 1
    S, T = (torch.cov(z.T, correction=0) for z in (x, y))
    values, Q = torch.linalg.eigh(S)
    root = Q * values.sqrt() @ Q.T
    crossed = torch.linalg.eigvalsh(root @ T @ root).sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + S.trace() + T.trace() - 2 * crossed
    assert frechet(x, y).item() == pytest.approx(expected.sqrt().item(), rel=1e-9)


def test_frechet_sees_correlation_that_no_channel_shows():
    x = torch.tensor([[1, 1], [-1, -1]] * 4, dtype=torch.float64)
    y = torch.tensor([[1, -1], [-1, 1]] * 4, dtype=torch.float64)
    close(gaussian_w2(x, y), 0)
    assert frechet(x, y).item() == pytest.approx(2)  # two directions of variance 2 at right angles


def test_frechet_works_with_dead_units_and_few_examples():
    x = torch.randn(3, 6, dtype=torch.float64)
    x[:, 2] = 0
    assert frechet(x, x + 2).item() == pytest.approx(2 * 6**0.5)


def test_a_deviation_far_from_0_does_not_cancel():
    x = standard().float()
    _, s = moments(x + 2**14)
    close(s, 1.0, 1e-3)


def test_a_constant_channel_has_deviation_0_exactly():
    assert moments(torch.full((7, 1), 0.1))[1].item() == 0


def test_the_root_mean_square_of_a_layer_is_over_examples_and_units():
    assert activation_rms(torch.tensor([[1.0, 7.0], [5.0, -5.0]])).item() == 5  # (1 + 49 + 25 + 25) / 4 = 25


def test_a_root_mean_square_whose_squares_leave_float32_is_still_finite():
    assert activation_rms(torch.full((4, 3), 1e30)).item() == pytest.approx(1e30)
    assert activation_rms(torch.full((4, 3), 1e-30)).item() == pytest.approx(1e-30)
