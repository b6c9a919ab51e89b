"""The mean alone, the variance alone, the mean absolute deviation."""

import math

import torch
from golden_arrays import assert_trains_like, golden

from bncli.norms.batch import BatchNorm
from bncli.norms.partial import L1BatchNorm, MeanOnlyBatchNorm, VarianceOnlyBatchNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def data(examples=20):
    return 3 * torch.randn(examples, 4, dtype=torch.float64) + torch.arange(4)


def test_mean_only_has_mean_zero_and_keeps_the_variance():
    x = data()
    y = MeanOnlyBatchNorm(4).double()(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(y.var(0), x.var(0))


def test_mean_only_learns_a_shift_and_no_scale():
    assert [name for name, _ in MeanOnlyBatchNorm(4).named_parameters()] == ["bias"]
    assert not list(MeanOnlyBatchNorm(4, affine=False).parameters())


def test_mean_only_backward_subtracts_the_mean_of_the_gradient():
    x, g = data().requires_grad_(), data()
    (found,) = torch.autograd.grad((MeanOnlyBatchNorm(4).double()(x) * g).sum(), x)
    torch.testing.assert_close(found, g - g.mean(0))


def test_mean_only_evaluates_with_the_running_mean():
    x = data()
    module = MeanOnlyBatchNorm(4, momentum=1.0).double()
    module(x)
    torch.testing.assert_close(module.eval()(x + 1), x + 1 - x.mean(0))


def test_variance_only_has_variance_one_and_keeps_the_mean_in_units_of_it():
    x = data()
    y = VarianceOnlyBatchNorm(4, eps=1e-12).double()(x)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(y.mean(0), x.mean(0) / x.std(0, correction=0))


def test_the_mean_alone_and_then_the_variance_alone_is_batch():
    x = data()
    y = VarianceOnlyBatchNorm(4).double()(MeanOnlyBatchNorm(4).double()(x))
    torch.testing.assert_close(y, BatchNorm(4).double()(x))


def test_variance_only_evaluates_with_the_unbiased_running_variance():
    x = data()
    module = VarianceOnlyBatchNorm(4, momentum=1.0, eps=1e-12).double()
    module(x)
    torch.testing.assert_close(module.running_var, x.var(0, correction=1))
    torch.testing.assert_close(module.eval()(x), x / x.std(0, correction=1))


def test_l1_training_and_evaluation_equal_the_golden_ones():
    arrays = golden("l1bn")
    module = L1BatchNorm(8, eps=1e-30, momentum=0.9)  # theirs is the weight of the old value
    assert_trains_like(module, arrays)
    torch.testing.assert_close(module.running_mean, arrays["buf_after1.running_mean"], **EXACT)
    torch.testing.assert_close(module.running_scale, 0.1 + arrays["buf_after1.running_scale"], **EXACT)  # theirs from 0
    torch.testing.assert_close(module(arrays["x2"]), arrays["y2"], **EXACT)
    torch.testing.assert_close(module.running_mean, arrays["buf_after2.running_mean"], **EXACT)
    module.running_scale.copy_(arrays["buf_after2.running_scale"])
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


def test_l1_running_scale_is_averaged_from_one():
    x = data()
    module = L1BatchNorm(4, momentum=0.25).double()
    module(x)
    scale = math.sqrt(math.pi / 2) * (x - x.mean(0)).abs().mean(0)
    torch.testing.assert_close(module.running_scale, 0.75 + 0.25 * scale)


def test_l1_of_a_gaussian_is_batch():
    x = torch.randn(200_000, 2, dtype=torch.float64)
    torch.testing.assert_close(L1BatchNorm(2).double()(x), BatchNorm(2).double()(x), rtol=0.01, atol=0.01)


def test_l1_of_two_examples_is_root_two_over_pi_with_their_signs():
    x = data(examples=2)
    y = L1BatchNorm(4, eps=1e-30).double()(x)
    torch.testing.assert_close(y, math.sqrt(2 / math.pi) * (x - x.mean(0)).sign())


def test_l1_of_a_constant_channel_is_zero_with_a_finite_gradient():
    x = torch.ones(5, 4, requires_grad=True)
    y = L1BatchNorm(4)(x)
    y.sum().backward()
    assert y.equal(torch.zeros(5, 4))
    assert x.grad.isfinite().all()
