"""Online Normalization: its recursions, forward and backward."""

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch.utils.checkpoint import checkpoint

from bncli.norms.online import OnlineNorm, linear_recurrence
from bncli.norms.renorm import BatchRenorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def test_training_step_and_states_equal_the_golden_ones():
    arrays = golden("online_norm1d_ls")
    module = OnlineNorm(8)
    assert_trains_like(module, arrays)
    torch.testing.assert_close(module.running_mean, arrays["m"], **EXACT)
    torch.testing.assert_close(module.running_var, arrays["var"], **EXACT)
    torch.testing.assert_close(module.control_mean, arrays["u"], **EXACT)
    torch.testing.assert_close(module.control_scale, arrays["v"], **EXACT)


def test_one_example_by_hand():
    module = OnlineNorm(1, bound="none", forward_momentum=0.1, eps=1e-20)
    module.running_mean.fill_(1.0)
    module.running_var.fill_(4.0)
    assert module(torch.tensor([[5.0]])).item() == pytest.approx(2)  # (5 - 1) / 2, by the statistics before it
    assert module.running_mean.item() == pytest.approx(1.4)
    assert module.running_var.item() == pytest.approx(0.9 * 4 + 0.9 * 0.1 * 16)


def test_one_gradient_by_hand():
    module = OnlineNorm(1, bound="none", backward_momentum=0.1, affine=False, eps=1e-20)
    module.running_var.fill_(4.0)
    module.control_scale.fill_(3.0)
    module.control_mean.fill_(5.0)
    x = torch.tensor([[4.0]], requires_grad=True)  # z = 2
    module(x).backward()
    inner = 1 - 0.1 * 3 * 2
    assert x.grad.item() == pytest.approx(inner / 2 - 0.1 * 5)
    assert module.control_scale.item() == pytest.approx(3 + inner * 2)
    assert module.control_mean.item() == pytest.approx(5 + inner / 2 - 0.5)


def test_a_constant_input_is_learned_as_the_mean_and_its_variance_dies_out():
    module = OnlineNorm(2, forward_momentum=0.1, bound="none")
    for _ in range(30):
        y = module(torch.full((10, 2), 7.0))
    torch.testing.assert_close(module.running_mean, torch.full((2,), 7.0))
    assert module.running_var.max().item() < 1e-10
    assert y.abs().max().item() < 1e-2


def test_two_halves_of_a_batch_do_what_the_batch_does():
    x, weights = torch.randn(2, 13, 3, 4, dtype=torch.float64)
    whole, halves = OnlineNorm(3).double(), OnlineNorm(3).double()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    (whole(a) * weights).sum().backward()
    for part in (slice(0, 5), slice(5, 13)):
        (halves(b[part]) * weights[part]).sum().backward()
    torch.testing.assert_close(b.grad, a.grad, **EXACT)
    for key, buffer in whole.named_buffers():
        torch.testing.assert_close(halves.get_buffer(key), buffer, **EXACT)


def test_an_example_does_not_change_those_before_it():
    x = torch.randn(8, 3)
    y = OnlineNorm(3)(x)
    x[5:] = 100.0
    torch.testing.assert_close(OnlineNorm(3)(x)[:5], y[:5])


def test_statistics_of_locations_are_the_law_of_total_variance():
    x = torch.randn(1, 2, 50, dtype=torch.float64) + 3
    module = OnlineNorm(2, forward_momentum=0.5).double()
    module(x)
    m, s = x.mean(2).flatten(), x.var(2, correction=0).flatten()
    torch.testing.assert_close(module.running_mean, m / 2)
    torch.testing.assert_close(module.running_var, 0.5 + s / 2 + m.square() / 4)  # half 1 about 0, half s about m


def test_on_the_average_the_gradient_is_orthogonal_to_ones_and_outputs():
    module = OnlineNorm(3, bound="none", affine=False).double()
    sums = torch.zeros(2, 3, dtype=torch.float64)
    plain = 0.0
    for step in range(200):
        x = torch.randn(50, 3, dtype=torch.float64).requires_grad_()
        z = module(x)
        (z.square() / 2 + z).sum().backward()  # its own gradient, z + 1, is orthogonal to neither
        if step >= 100:
            sums += torch.stack([x.grad.sum(0), (x.grad * z.detach()).sum(0)])
            plain += 50
    assert sums.abs().max().item() < 0.05 * plain


def test_clamping_stops_at_five():
    module = OnlineNorm(1, bound="clamp")
    torch.testing.assert_close(module(torch.tensor([[100.0]])), torch.tensor([[5.0]]))


def test_evaluation_uses_the_statistics_as_they_stand():
    module = OnlineNorm(2, bound="none", eps=1e-20).eval()
    module.running_mean.fill_(1.0)
    module.running_var.fill_(4.0)
    torch.testing.assert_close(module(torch.tensor([[5.0, -1.0]])), torch.tensor([[2.0, -1.0]]))


def test_a_second_derivative_is_refused():
    x = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(OnlineNorm(3)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_mean_of_1e4_leaves_variance_1():
    single, double = OnlineNorm(3, bound="none"), OnlineNorm(3, bound="none").double()
    x = torch.randn(2000, 3) + 1e4
    for module in (single, double):
        module.running_mean.fill_(1e4)
    torch.testing.assert_close(single(x), double(x.double()).float(), rtol=0, atol=5e-3)
    torch.testing.assert_close(single.running_var, double.running_var.float(), rtol=0.01, atol=0)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 8, 13])
def test_the_recurrence_is_that_of_a_loop(steps):
    keep, step = torch.randn(2, steps, 3, dtype=torch.float64)
    keep[steps // 2 :: 5] = 0
    h = [torch.randn(3, dtype=torch.float64)]
    for t in range(steps):
        h.append(keep[t] * h[-1] + step[t])
    torch.testing.assert_close(linear_recurrence(keep, step, h[0]), torch.stack(h))


@pytest.mark.parametrize("norm", [OnlineNorm(3), BatchRenorm(3, plain_steps=0, rmax_steps=0, dmax_steps=0)])
def test_the_same_examples_in_another_order_are_another_batch_to_a_recomputation(norm):
    x = torch.randn(12, 3).requires_grad_()
    y = checkpoint(norm, x, use_reentrant=False)
    norm(x.detach().flip(0))
    with pytest.raises(RuntimeError, match="has seen another batch between the forward pass and its recomputation"):
        y.sum().backward()
