"""Switchable Normalization."""

import pytest
import torch
from golden_arrays import assert_trains_like, golden

from bncli.norms.batch import BatchNorm
from bncli.norms.sample import InstanceNorm, LayerNorm
from bncli.norms.switchable import SwitchableNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def choosing(part):
    """A mixture that is all instance (0), layer (1) or batch (2)."""
    module = SwitchableNorm(6).double()
    for weight in (module.mean_weight, module.var_weight):
        weight.data = torch.full((3,), -1e3, dtype=torch.float64).index_fill_(0, torch.tensor(part), 0)
    return module


def same_scale(y):
    """Without what distinguishes a biased from an unbiased variance."""
    return y / y.square().mean().sqrt()


@pytest.mark.parametrize(("part", "norm"), [(0, InstanceNorm), (2, BatchNorm)])
def test_a_mixture_of_one_is_that_norm_but_for_the_unbiased_variance(part, norm):
    x = torch.randn(5, 6, 4, 3, dtype=torch.float64)
    if part == 2:  # where the examples have equal means, the pooled variance is a multiple of the biased one
        x = x - x.mean((2, 3), keepdim=True)
    y, expected = choosing(part)(x), norm(6, eps=1e-5).double()(x)
    torch.testing.assert_close(same_scale(y), same_scale(expected), rtol=1e-5, atol=1e-5)


def test_all_layer_on_one_location_is_layer_norm_with_unbiased_variance():
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(choosing(1)(x), LayerNorm(6).double()(x) * (5 / 6) ** 0.5, rtol=1e-4, atol=1e-4)


def test_on_maps_a_training_step_and_evaluation_equal_the_golden_ones():
    arrays = golden("switchnorm2d")
    module = SwitchableNorm(8)
    module.running_var.zero_()  # where theirs starts
    assert_trains_like(module, arrays)
    module(arrays["x2"])
    torch.testing.assert_close(module.running_mean, arrays["buf_after2.running_mean"].flatten(), **EXACT)
    torch.testing.assert_close(module.running_var, arrays["buf_after2.running_var"].flatten(), **EXACT)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


def test_on_one_location_a_training_step_and_evaluation_equal_the_golden_ones():
    arrays = golden("switchnorm1d")
    for key in ("mean_weight", "var_weight"):  # there only the layer's and the batch's
        arrays[f"param.{key}"] = torch.cat([torch.tensor([7.0]), arrays[f"param.{key}"]])
        arrays[f"gparam.{key}"] = torch.cat([torch.tensor([0.0]), arrays[f"gparam.{key}"]])
    module = SwitchableNorm(8, momentum=0.003)
    module.running_var.zero_()  # where theirs starts
    assert_trains_like(module, arrays)
    module(arrays["x2"])
    torch.testing.assert_close(module.running_mean, arrays["buf_after2.running_mean"].flatten(), **EXACT)
    torch.testing.assert_close(module.running_var, arrays["buf_after2.running_var"].flatten(), **EXACT)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


@pytest.mark.parametrize("shape", [(300, 6), (4, 6, 20, 20)])
def test_a_mean_of_1e4_changes_the_output_by_rounding_only(shape):
    x = torch.randn(shape) + 1e4
    torch.testing.assert_close(SwitchableNorm(6)(x), SwitchableNorm(6).double()(x.double()).float(), rtol=0, atol=5e-3)


def test_running_variance_at_a_mean_of_1e4_is_1():
    module = SwitchableNorm(6, momentum=1.0)
    module(torch.randn(50, 6, 20, 20) + 1e4)
    torch.testing.assert_close(module.running_var, torch.ones(6), rtol=0.03, atol=0)


def test_a_single_value_per_channel_is_refused_in_training():
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got 1"):
        SwitchableNorm(6)(torch.randn(1, 6))


def test_a_batch_of_one_with_locations_is_taken():
    assert SwitchableNorm(6)(torch.randn(1, 6, 4)).isfinite().all()


def test_channels_last_stays():
    x = torch.randn(4, 6, 5, 3).contiguous(memory_format=torch.channels_last)
    y = SwitchableNorm(6)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, SwitchableNorm(6)(x.contiguous()))
