"""Spectra, correlations and ranks, and saturation, against closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F

from bncli.errors import ConfigError
from bncli.shift.conditioning import (
    condition_number,
    correlation,
    effective_rank,
    eigenvalues,
    mean_cosine,
    partial_condition_number,
    participation,
    stable_rank,
    whiteness,
)
from bncli.shift.statistics import SIGMOID_EDGE, TANH_EDGE, saturation


def with_covariance(*variances, examples=200):
    """A sample whose covariance has these eigenvalues exactly, along axes of no channel."""
    channels = len(variances)
    x = torch.randn(examples, channels, dtype=torch.float64)
    white = torch.linalg.qr(x - x.mean(0))[0] * math.sqrt(examples)
    rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
    return white * torch.tensor(variances, dtype=torch.float64).sqrt() @ rotation + 3


def test_eigenvalues_are_those_of_the_covariance():
    expected = torch.tensor([4, 2, 1], dtype=torch.float64)
    torch.testing.assert_close(eigenvalues(with_covariance(1, 4, 2)), expected)


def test_condition_number_is_the_largest_over_the_least():
    assert condition_number(with_covariance(8, 4, 2, 1)).item() == pytest.approx(8)


def test_partial_condition_number_leaves_the_least_out():
    x = with_covariance(8, 4, 2, 1)
    assert [partial_condition_number(x, share=s).item() for s in (0.5, 0.75, 1.0)] == pytest.approx([2, 4, 8])


@pytest.mark.parametrize("x", [torch.tensor([[1.0, 0], [2, 0], [4, 0]]), torch.randn(3, 5)], ids=["dead", "few"])
def test_a_dead_unit_or_too_few_examples_make_the_condition_infinite(x):
    assert condition_number(x).item() == math.inf


def test_a_constant_layer_has_no_condition():
    assert condition_number(torch.full((5, 3), 0.1)).isnan()


def test_whiteness_of_white_samples_is_0_and_of_doubled_ones_3():
    assert whiteness(with_covariance(1, 1, 1)).item() == pytest.approx(0, abs=1e-12)
    assert whiteness(2 * with_covariance(1, 1, 1)).item() == pytest.approx(3)


def test_correlation_of_two_channels_is_its_square():
    x = with_covariance(1, 1)
    x = torch.linalg.qr(x - x.mean(0))[0]
    y = torch.stack([x[:, 0], 0.6 * x[:, 0] + 0.8 * x[:, 1]], 1)
    assert correlation(100 * y).item() == pytest.approx(0.36)


def test_a_constant_channel_is_correlated_with_none():
    x = torch.randn(9, 3)
    x[:, 1:] = 0.1
    assert correlation(x).item() == 0


def test_ranks_of_even_directions_are_their_number():
    x = with_covariance(2, 2, 2, 0)
    assert [f(x).item() for f in (stable_rank, effective_rank, participation)] == pytest.approx([3, 3, 3])


def test_ranks_of_uneven_directions():
    x = with_covariance(4, 2, 2)
    assert stable_rank(x).item() == pytest.approx(2)
    assert effective_rank(x).item() == pytest.approx(2**1.5)
    assert participation(x).item() == pytest.approx(64 / 24)


def test_mean_cosine_of_right_angles_is_0_and_of_opposites_minus_1():
    x = torch.eye(4)
    assert mean_cosine(x).item() == 0
    assert mean_cosine(torch.stack([x[0], -2 * x[0]])).item() == pytest.approx(-1)


def test_mean_cosine_is_the_mean_over_all_pairs():
    x = torch.randn(7, 3, dtype=torch.float64)
    M = F.cosine_similarity(x[:, None], x[None], dim=-1)
    assert mean_cosine(x).item() == pytest.approx((M.sum() - 7).item() / 42)


def test_edges_of_saturation_are_where_the_slope_is_a_tenth():
    assert pytest.approx(3.637, abs=5e-4) == SIGMOID_EDGE
    assert pytest.approx(1.818, abs=5e-4) == TANH_EDGE


def test_saturation_is_the_share_beyond_the_edge():
    x = torch.tensor([[-4.0], [-1], [0], [3.7]])
    assert saturation(x).item() == 0.5
    assert saturation(x, activation="tanh").item() == 0.5
    assert saturation(x, activation="relu").item() == 0.75
    assert saturation(x, activation="identity").item() == 0


FUNCTIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu, "silu": F.silu}


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_saturation_follows_from_the_derivative(activation):
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(FUNCTIONS[activation](x).sum(), x)
    expected = (slope.abs() < 0.1 * slope.abs().max()).double().mean().item()
    assert saturation(x.detach().unsqueeze(1), activation=activation).item() == pytest.approx(expected, abs=2e-5)


def test_an_unknown_activation_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"no activation is called 'sigmoyd'; did you mean 'sigmoid'\? \(known: gelu"):
        saturation(torch.ones(2, 2), activation="sigmoyd")
