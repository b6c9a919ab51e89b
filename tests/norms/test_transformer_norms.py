"""PowerNorm and ScaleNorm against what their papers write."""

import copy

import pytest
import torch

from bncli.norms.sample import RMSNorm
from bncli.norms.transformer import PowerNorm, ScaleNorm

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def batches(count, *shape):
    return torch.randn(count, *shape, dtype=torch.float64) + 1


def written_out(x, g, weight, bias, square, control, *, momentum=0.1, eps=1e-5):
    """Algorithm 2 of Shen et al. 2020, for x (B, C): output, gradient at x, the new states."""
    z = x / torch.sqrt(square + eps)
    inner = weight * g
    dx = (inner - control * z) / torch.sqrt(square + eps)
    gamma, product = (z * z).mean(0), (inner * z).mean(0)
    after = square + momentum * ((x * x).mean(0) - square)
    return weight * z + bias, dx, after, control * (1 - momentum * gamma) + momentum * product


def test_power_norm_takes_three_steps_as_the_algorithm_says():
    module = PowerNorm(4).double()
    module.weight.data, module.bias.data = torch.rand(2, 4, dtype=torch.float64) + 0.5
    square, control = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for x, g in zip(batches(3, 6, 4), batches(3, 6, 4), strict=True):
        x.requires_grad_()
        y = module(x)
        y.backward(g)
        expected, dx, square, control = written_out(
            x.detach(), g, module.weight.detach(), module.bias.detach(), square, control
        )
        torch.testing.assert_close(y.detach(), expected, **EXACT)
        torch.testing.assert_close(x.grad, dx, **EXACT)
        torch.testing.assert_close(module.running_square, square, **EXACT)
        torch.testing.assert_close(module.control, control, **EXACT)


def test_in_the_warm_up_the_gradient_is_that_of_the_output():
    module = PowerNorm(4, warmup=5).double()
    (x,) = batches(1, 6, 4)
    assert torch.autograd.gradcheck(lambda x: copy.deepcopy(module)(x), x.requires_grad_())
    torch.testing.assert_close(module(x).square().mean(0), torch.ones(4, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_warm_up_ends_after_as_many_batches():
    module = PowerNorm(4, warmup=2).double()
    for x in batches(2, 6, 4):
        torch.testing.assert_close(module(x), x / (x.square().mean(0) + 1e-5).sqrt(), **EXACT)
    (x,), before = batches(1, 6, 4), module.running_square.clone()
    torch.testing.assert_close(module(x), x / (before + 1e-5).sqrt(), **EXACT)


@pytest.mark.parametrize("warmup", [0, 1])
def test_lanes_move_the_states_that_runs_one_at_a_time_move(warmup):
    norms = [PowerNorm(4, warmup=warmup).double() for _ in range(3)]
    together = copy.deepcopy(norms)
    parameters, buffers = torch.func.stack_module_state(together)

    def call(parameters, buffers, x):
        return torch.func.functional_call(together[0], (parameters, buffers), (x,))

    for x, g in zip(batches(2, 3, 6, 4, 5), batches(2, 3, 6, 4, 5), strict=True):
        x.requires_grad_()
        y = torch.vmap(call)(parameters, buffers, x)
        (found,) = torch.autograd.grad(y, x, g)
        for i, norm in enumerate(norms):
            own = x[i].detach().requires_grad_()
            alone = norm(own)
            torch.testing.assert_close(y[i], alone, **EXACT)
            torch.testing.assert_close(found[i], torch.autograd.grad(alone, own, g[i])[0], **EXACT)
            for name, buffer in norm.named_buffers():
                torch.testing.assert_close(buffers[name][i], buffer, **EXACT)


def test_on_the_average_the_gradient_is_orthogonal_to_outputs():
    module = PowerNorm(3, affine=False).double()
    product, plain = torch.zeros(3, dtype=torch.float64), 0.0
    for step in range(300):
        x = torch.randn(50, 3, dtype=torch.float64).requires_grad_()
        z = module(x)
        (z.square() / 2).sum().backward()  # whose own gradient is z
        if step >= 100:
            product += (x.grad * z.detach()).sum(0)
            plain += 50
    assert product.abs().max().item() < 0.05 * plain


def test_scale_norm_starts_as_rms_norm_over_channels():
    x = torch.randn(5, 8, 3, 2, dtype=torch.float64)
    expected = RMSNorm(8, eps=1e-12, over="channels").double()(x)
    torch.testing.assert_close(ScaleNorm(8).double()(x), expected)


def test_scale_norm_gives_each_location_the_length_of_its_scale():
    module = ScaleNorm(2)
    module.scale.data.fill_(10.0)
    torch.testing.assert_close(module(torch.tensor([[3.0, -4.0]])), torch.tensor([[6.0, -8.0]]))
    assert torch.equal(module(torch.zeros(1, 2)), torch.zeros(1, 2))
