"""What goes wrong when the gradient does not see the statistics."""

import pytest
import torch

from bncli.norms.detached import DetachedNorm

WAYS = ["centring", "scaling", "whitening"]


def descend(norm, steps):
    """Learn the bias in y = norm(u + b) by gradient descent on a mean squared error; b and the loss at each step."""
    u = torch.randn(100, 1, dtype=torch.float64)
    target = torch.randn(100, 1, dtype=torch.float64)
    target += 1.01 - target.mean()  # so that b moves by 2 lr 1.01 a step
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    biases, losses = [], []
    for _ in range(steps):
        loss = (norm(u + b) - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, b)
        b = (b - 0.1 * gradient).detach().requires_grad_()
        biases.append(b.item())
        losses.append(loss.item())
    return biases, losses


def test_a_bias_before_detached_centring_grows_linearly():
    biases, _ = descend(DetachedNorm(1, by="centring").double(), steps=100)
    assert biases[9] == pytest.approx(2.02)
    assert biases[99] == pytest.approx(20.2)


@pytest.mark.parametrize("by", WAYS)
def test_the_loss_stays_fixed_while_the_bias_grows(by):
    biases, losses = descend(DetachedNorm(1, by=by).double(), steps=100)
    assert abs(biases[99]) > 2 * abs(biases[49]) * 0.99
    assert losses[99] == pytest.approx(losses[0], abs=1e-9)


@pytest.mark.parametrize("by", WAYS)
def test_with_differentiated_statistics_the_bias_has_no_gradient(by):
    biases, _ = descend(DetachedNorm(1, by=by, differentiate=True).double(), steps=100)
    assert abs(biases[99]) < 1e-12


@pytest.mark.parametrize("by", WAYS)
def test_differentiating_does_not_change_the_output(by):
    x = torch.randn(20, 3)
    assert torch.equal(DetachedNorm(3, by=by)(x), DetachedNorm(3, by=by, differentiate=True)(x))


@pytest.mark.parametrize("by", WAYS)
def test_gradient_is_that_with_constants_for_statistics(by):
    x = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    module = DetachedNorm(3, by=by).double()
    y = module(x)
    y[0].sum().backward()
    assert torch.count_nonzero(x.grad[1:]) == 0


def test_centring_leaves_the_variance():
    x = torch.randn(20, 3) * 5 + 2
    torch.testing.assert_close(DetachedNorm(3, by="centring")(x), x - x.mean(0))


def test_scaling_is_batch_normalization_without_affine():
    x = torch.randn(20, 3)
    expected = torch.nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(DetachedNorm(3, by="scaling")(x), expected)


def test_whitening_gives_unit_covariance():
    x = torch.randn(20, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    y = DetachedNorm(3, by="whitening", eps=1e-12).double()(x)
    torch.testing.assert_close(y.T.cov(correction=0), torch.eye(3, dtype=torch.float64))


def test_evaluation_uses_the_unbiased_running_spread():
    x = torch.randn(20, 3)
    module = DetachedNorm(3, by="scaling", momentum=1.0, eps=1e-12)
    module(x)
    torch.testing.assert_close(module.eval()(x), (x - x.mean(0)) / x.std(0))


def test_a_single_value_per_channel_is_refused_in_training():
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got 1"):
        DetachedNorm(3)(torch.randn(1, 3))
