"""Whitening by the root of the correlation."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from bncli.norms.batch import BatchNorm
from bncli.norms.roots import inverse_root
from bncli.norms.whitening import ZCACor, correlation_root


def data(examples, channels, dtype=torch.float64):
    x = torch.randn(examples, channels, dtype=dtype)
    return x @ torch.randn(channels, channels, dtype=dtype) + 3


def covariances(*leading, d=4, m=20, eps=1e-3):
    x = torch.randn(*leading, d, m, dtype=torch.float64)
    return x @ x.mT / m + eps * torch.eye(d, dtype=torch.float64)


SPECTRA = {
    "generic": lambda: covariances(2),
    "all equal": lambda: 0.7 * torch.eye(4, dtype=torch.float64).expand(2, 4, 4),
    "rank deficient": lambda: covariances(2, m=2, eps=0.1),
}
every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())


def of_symmetric(A):
    return correlation_root((A + A.mT) / 2)


@pytest.mark.parametrize("channels", [8, 10])
def test_output_of_a_group_has_unit_covariance(channels):
    y = ZCACor(channels, eps=1e-12, group_size=4).double()(data(50, channels))
    for group in y.T.split(4):
        torch.testing.assert_close(group.cov(correction=0), torch.eye(len(group), dtype=torch.float64))


def test_square_is_the_inverse():
    S = covariances(3)
    W = correlation_root(S)
    torch.testing.assert_close(W.mT @ W, S.inverse())


def test_of_two_channels_it_is_the_root_known_in_closed_form():
    """For P = [[1, r], [r, 1]], P^-1/2 has (a + b) / 2 on its diagonal, (a - b) / 2 off it; a, b = (1 +- r)^-1/2."""
    r, scales = 0.6, torch.tensor([2.0, 5.0], dtype=torch.float64)
    S = torch.tensor([[1, r], [r, 1]], dtype=torch.float64) * scales * scales.unsqueeze(1)
    a, b = (1 + r) ** -0.5, (1 - r) ** -0.5
    root = torch.tensor([[a + b, a - b], [a - b, a + b]], dtype=torch.float64) / 2
    torch.testing.assert_close(correlation_root(S), root / scales)


def test_where_variances_are_equal_it_is_zca():
    S = covariances(3)
    scale = S.diagonal(dim1=-2, dim2=-1).rsqrt()
    P = S * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    torch.testing.assert_close(correlation_root(4 * P), inverse_root(4 * P))


def test_scaling_a_channel_changes_nothing():
    x, factors = data(50, 4), torch.tensor([0.1, 1.0, 7.0, 100.0])
    torch.testing.assert_close(ZCACor(4, eps=1e-14).double()(x * factors), ZCACor(4, eps=1e-14).double()(x))


def test_of_uncorrelated_channels_it_is_batch_norm():
    x = torch.tensor([[3.0, 1], [-3, 1], [3, -1], [-3, -1]])
    torch.testing.assert_close(ZCACor(2, eps=1e-3)(x), BatchNorm(2, eps=1e-3)(x))


def test_no_whitening_correlates_more_with_its_channels():
    x = data(50, 4)
    x -= x.mean(0)
    S = x.T @ x / 50

    def correlation(W):
        return ((W @ S).diagonal() * S.diagonal().rsqrt()).sum()

    Q, _ = torch.linalg.qr(torch.randn(20, 4, 4, dtype=torch.float64))
    best = correlation(correlation_root(S))
    assert all(correlation(q @ correlation_root(S)) < best for q in Q)


@every_spectrum
def test_gradient_is_that_of_finite_differences(spectrum):
    assert gradcheck(of_symmetric, spectrum().clone().requires_grad_())


@every_spectrum
def test_second_gradient_is_that_of_finite_differences(spectrum):
    assert gradgradcheck(of_symmetric, spectrum().clone().requires_grad_())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [(2, 2), (1, 2)])
def test_a_bad_matrix_gives_a_bad_root_and_leaves_the_others_alone(bad, place):
    S = covariances(3)
    expected = correlation_root(S)
    S[1][place] = bad
    W = correlation_root(S)
    assert not W[1].isfinite().all()
    torch.testing.assert_close(W[[0, 2]], expected[[0, 2]])
