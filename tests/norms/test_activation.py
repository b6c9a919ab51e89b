"""Filter response normalisation, the EvoNorms, Dynamic Tanh and Derf."""

import math

import pytest
import torch
from golden_arrays import assert_trains_like, golden

from bncli.errors import ConfigError
from bncli.norms.activation import FRN, Derf, DyT, EvoNormB0, EvoNormS0

SINGLE_INSIDE = 1e-6  # these arrays' sources compute in float32
ALL = [FRN(6), EvoNormB0(6), EvoNormS0(6, groups=2), DyT(6), Derf(6)]


@pytest.mark.parametrize(
    ("module", "name", "tolerance"),
    [
        (FRN(8, eps=1e-5), "frn_tlu", 3e-6),
        (EvoNormB0(8, eps=1e-3), "evonorm_b0", SINGLE_INSIDE),
        (EvoNormS0(8, groups=4), "evonorm_s0", SINGLE_INSIDE),
        (DyT(8), "dyt", 1e-10),
    ],
)
def test_training_step_and_evaluation_equal_the_golden_ones(module, name, tolerance):
    arrays, exact = golden(name), {"rtol": tolerance, "atol": tolerance}
    assert_trains_like(module, arrays, tolerance)
    module(arrays["x2"])
    for key, buffer in module.named_buffers():
        if key.startswith("running_"):
            torch.testing.assert_close(buffer, arrays[f"buf_after2.{key}"], **exact)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **exact)


def test_frn_of_three_and_four_by_hand():
    y = FRN(1, eps=1e-12)(torch.tensor([[[3.0, -4.0]]]))
    torch.testing.assert_close(y, torch.tensor([[[3 / math.sqrt(12.5), 0.0]]]))


def test_frn_on_one_location_adds_its_learned_eps():
    module = FRN(1)
    y = module(torch.tensor([[0.01]]))
    assert y.item() == pytest.approx(0.01 / math.sqrt(1e-4 + 1e-4 + 1e-6))
    y.backward()
    assert module.learned_eps.grad.item() == pytest.approx(-0.5 * 0.01 * (2e-4 + 1e-6) ** -1.5)


def test_frn_on_maps_does_not_use_its_learned_eps():
    module = FRN(6)
    module(torch.randn(3, 6, 4)).sum().backward()
    assert module.learned_eps.grad is None


def test_frn_is_cut_off_at_tau():
    module = FRN(6)
    module.tau.data.fill_(0.7)
    assert module(torch.randn(3, 6, 4)).min().item() == pytest.approx(0.7)


def test_frn_does_not_change_with_the_scale_of_a_channel():
    x = torch.randn(3, 6, 4)
    torch.testing.assert_close(FRN(6, eps=1e-20)(100 * x), FRN(6, eps=1e-20)(x))


def test_evonorm_s0_by_hand():
    y = EvoNormS0(2, groups=1, eps=1e-12).double()(torch.tensor([[1.0, 3.0]], dtype=torch.float64))  # of deviation 1
    torch.testing.assert_close(y, torch.tensor([[1 / (1 + math.exp(-1)), 3 / (1 + math.exp(-3))]], dtype=torch.float64))


def test_evonorm_s0_refuses_groups_that_do_not_divide_the_channels():
    with pytest.raises(ConfigError) as caught:
        EvoNormS0(6)
    assert str(caught.value) == ("norm 'evonorm-s0': groups=32 does not divide 6 channels (their divisors: 1, 2, 3, 6)")


def test_evonorm_s0_refuses_a_single_value():
    with pytest.raises(ValueError, match="in each example, got 1 in an input"):
        EvoNormS0(6, groups=6)(torch.randn(4, 6))


def test_evonorm_b0_divides_by_the_larger_deviation():
    x = torch.tensor([[-2.0], [4.0]], dtype=torch.float64)  # of deviation 3: -2 / max(3, -2), 4 / max(3, 4)
    y = EvoNormB0(1, eps=1e-20).double()(x)
    torch.testing.assert_close(y, torch.tensor([[-2 / 3], [1.0]], dtype=torch.float64))


def test_evonorm_b0_evaluates_by_the_unbiased_running_variance():
    module = EvoNormB0(1, eps=1e-20, momentum=1.0).double()
    module(torch.tensor([[-2.0], [4.0]], dtype=torch.float64))
    assert module.running_var.item() == pytest.approx(18)
    assert module.eval()(torch.tensor([[1.0]], dtype=torch.float64)).item() == pytest.approx(18**-0.5)


def test_evonorm_b0_refuses_a_single_value_per_channel_in_training():
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got 1"):
        EvoNormB0(6)(torch.randn(1, 6))


def test_variances_at_a_mean_of_1e4_are_1():
    module = EvoNormB0(6, momentum=1.0)
    x = torch.randn(50, 6, 20, 20) + 1e4
    module(x)
    torch.testing.assert_close(module.running_var, torch.ones(6), rtol=0.03, atol=0)
    torch.testing.assert_close(EvoNormS0(6, groups=1)(x) / x, torch.ones_like(x), rtol=0.05, atol=0)


def test_dyt_at_one_is_tanh_of_a_half():
    assert DyT(1)(torch.ones(1, 1)).item() == pytest.approx(math.tanh(0.5))


def test_derf_at_one_is_erf_of_a_half():
    assert Derf(1)(torch.ones(1, 1)).item() == pytest.approx(math.erf(0.5))


def test_derf_is_shifted_before_and_scaled_after():
    module = Derf(1)
    for parameter, value in zip(module.parameters(), (0.25, 0.1, 3.0, 1.0), strict=True):
        parameter.data.fill_(value)
    assert module(torch.full((1, 1), 2.0)).item() == pytest.approx(3 * math.erf(0.6) + 1)


def test_gradient_of_derf_at_zero_is_that_of_a_gaussian():
    x = torch.zeros(1, 1, requires_grad=True)
    Derf(1)(x).backward()
    assert x.grad.item() == pytest.approx(0.5 * 2 / math.sqrt(math.pi))


@pytest.mark.parametrize("module", ALL, ids=lambda module: type(module).__name__)
def test_channels_last_stays_and_gives_the_same_numbers(module):
    x = torch.randn(4, 6, 5, 3)
    y = module(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, module(x))
