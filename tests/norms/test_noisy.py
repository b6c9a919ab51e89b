"""Noisy Batch Normalization: what its noise is, and when there is none."""

import copy

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from bncli.norms.batch import BatchNorm
from bncli.norms.ghost import NoisyBatchNorm

SILENT = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0}


def drawn(examples, channels, *, scales=False, **options):
    """The shifts that a batch gets, or (without shifts) its scales: what the norm makes of zeros, or of ones."""
    module = NoisyBatchNorm(channels, **options)
    module.weight.data.zero_()
    module.bias.data.fill_(float(scales))
    return module(torch.randn(examples, channels)).detach()


def test_evaluation_adds_no_noise():
    x = torch.randn(20, 3)
    noisy, batch = NoisyBatchNorm(3), BatchNorm(3)
    noisy(x), batch(x)
    torch.testing.assert_close(noisy.eval()(x), batch.eval()(x))


def test_without_spread_it_is_batch_norm():
    x = torch.randn(20, 3)
    torch.testing.assert_close(NoisyBatchNorm(3, **SILENT)(x), BatchNorm(3)(x))


def test_a_channels_shift_is_uniform_within_n_mu():
    mu = drawn(2, 100_000, r_mu=0.0)[0]
    assert mu.abs().max() <= 0.5
    assert mu.mean().item() == pytest.approx(0, abs=0.01)
    assert mu.std().item() == pytest.approx(1 / 12**0.5, rel=0.02)


def test_a_values_shift_is_uniform_about_its_channels():
    shifts = drawn(100_000, 2)
    spread = shifts - (shifts.max(0).values + shifts.min(0).values) / 2
    assert spread.abs().max().item() == pytest.approx(0.1, rel=0.01)
    assert spread.std(0).tolist() == pytest.approx([0.1 / 3**0.5] * 2, rel=0.02)


def test_a_channels_scale_is_uniform_from_one_to_n_sigma():
    sigma = drawn(2, 100_000, scales=True, n_mu=0.0, r_mu=0.0, r_sigma=0.0)[0]
    assert 1 <= sigma.min() < 1.001
    assert 1.249 < sigma.max() <= 1.25
    assert sigma.std().item() == pytest.approx(0.25 / 12**0.5, rel=0.02)


def test_a_values_scale_is_normal_about_its_channels():
    s = drawn(100_000, 2, scales=True, n_mu=0.0, r_mu=0.0, n_sigma=1.0)
    assert s.mean(0).tolist() == pytest.approx([1.0] * 2, abs=0.002)
    assert s.std(0).tolist() == pytest.approx([0.1] * 2, rel=0.02)
    inside = ((s - 1).abs() < 0.1).float().mean(0)
    assert inside.tolist() == pytest.approx([0.6827] * 2, abs=0.01)


def test_channels_of_a_layer_share_a_draw_if_asked():
    mu = drawn(2, 100, r_mu=0.0, draws="layer")
    assert mu.unique().numel() == 1


def test_noise_is_drawn_anew_in_every_step():
    module, x = NoisyBatchNorm(3), torch.randn(20, 3)
    assert not module(x).equal(module(x))


def test_the_global_seed_determines_the_noise():
    module, x = NoisyBatchNorm(3), torch.randn(20, 3)
    torch.manual_seed(5)
    expected = module(x)
    torch.manual_seed(5)
    assert module(x).equal(expected)


def test_gradient_under_fixed_noise_is_that_of_finite_differences():
    module = NoisyBatchNorm(3).double()

    def output(x, weight, bias):
        torch.manual_seed(5)
        return functional_call(module, {"weight": weight, "bias": bias}, (x,))

    values = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(8, 3), 3, 3])
    torch.autograd.gradcheck(output, tuple(values))


def test_lanes_draw_noise_of_their_own():
    module, x = NoisyBatchNorm(3), torch.randn(20, 3)
    state = stack_module_state([module, copy.deepcopy(module)])
    y = vmap(lambda state: functional_call(module, state, (x,)), randomness="different")(state)
    assert not y[0].equal(y[1])
