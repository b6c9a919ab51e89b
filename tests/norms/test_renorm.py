"""Batch Renormalization: its correction, its schedule, and what it reduces to."""

import pytest
import torch
from golden_arrays import golden
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from bncli.errors import ConfigError
from bncli.norms.batch import BatchNorm
from bncli.norms.renorm import BatchRenorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}
AT_ONCE = {"plain_steps": 0, "rmax_steps": 0, "dmax_steps": 0}


def data(examples=20):
    return 2 * torch.randn(examples, 3, dtype=torch.float64) + 1


def corrected(rmax=1e9, dmax=1e9, **options):
    """A norm whose bounds are there from the first step, after two batches."""
    module = BatchRenorm(3, rmax=rmax, dmax=dmax, momentum=0.1, **AT_ONCE, **options).double()
    for _ in range(2):
        module(data())
    return module


def test_training_step_equals_the_golden_one():
    arrays = golden("batch_renorm")
    module = BatchRenorm(8, eps=2e-5, momentum=0.1, **AT_ONCE).double()
    module.weight.data, module.bias.data = arrays["gamma"].clone(), arrays["beta"].clone()
    module.running_mean.copy_(arrays["rm0"])
    module.running_std.copy_((arrays["rv0"] + 2e-5).sqrt())
    x = arrays["x1"].clone().requires_grad_()
    y = module(x)
    (y * arrays["gy1"]).sum().backward()
    torch.testing.assert_close(y, arrays["y1"], **EXACT)
    torch.testing.assert_close(x.grad, arrays["gx1"], **EXACT)
    torch.testing.assert_close(module.weight.grad, arrays["ggamma"], **EXACT)
    torch.testing.assert_close(module.bias.grad, arrays["gbeta"], **EXACT)
    torch.testing.assert_close(module.running_mean, arrays["rm1"], **EXACT)


def test_without_room_for_correction_it_trains_like_batch():
    x, g = data().requires_grad_(), data()
    module = corrected(rmax=1.0, dmax=0.0)
    found, expected = module(x), BatchNorm(3).double()(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad((y * g).sum(), x)[0] for y in (found, expected)))


def test_with_unlimited_correction_it_trains_as_it_evaluates():
    module, x = corrected(), data()
    expected = module.eval()(x)
    torch.testing.assert_close(module.train()(x), expected)


def test_correction_is_clipped():
    module = corrected(rmax=1.1, dmax=0.2)
    module.running_mean.zero_()
    module.running_std.fill_(1.0)
    x = torch.tensor([[100.0, -100.0, 0.0], [120.0, -120.0, 0.02]], dtype=torch.float64)
    expected = torch.tensor([[-1.1 + 0.2, 1.1 - 0.2, -1 / 1.1 + 0.01], [1.1 + 0.2, -1.1 - 0.2, 1 / 1.1 + 0.01]])
    module.eps = 1e-30
    torch.testing.assert_close(module(x), expected.double(), rtol=1e-6, atol=1e-6)


def test_the_gradient_takes_the_correction_for_a_constant():
    module, x, g = corrected(), data().requires_grad_(), data()
    std = (x.var(0, correction=0) + module.eps).sqrt()
    r = (std / module.running_std).detach()
    (expected,) = torch.autograd.grad(((x - x.mean(0)) / std * r * g).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((module(x) * g).sum(), x)[0], expected)


@pytest.mark.parametrize(
    ("step", "rmax", "dmax"),
    [
        (1, 1, 0),
        (5_000, 1, 0),
        (15_000, 1 + 2 * 10 / 35, 2.5),
        (25_000, 1 + 2 * 20 / 35, 5),
        (40_000, 3, 5),
        (10**6, 3, 5),
    ],
)
def test_schedule_is_the_papers(step, rmax, dmax):
    module = BatchRenorm(3)
    module(torch.randn(4, 3))
    module.num_batches_tracked.fill_(step)
    found = torch.stack(module.bounds())
    torch.testing.assert_close(found, torch.tensor([rmax, dmax], dtype=torch.float32))


def test_a_training_step_counts_itself():
    module = BatchRenorm(3, plain_steps=2, rmax_steps=4, dmax_steps=4)
    found = []
    for _ in range(5):
        module(torch.randn(4, 3))
        found.append(module.bounds()[0].item())
    assert found == [1, 1, 2, 3, 3]


def test_it_averages_the_standard_deviation_with_eps_in_it():
    x = data()
    module = BatchRenorm(3, eps=0.1, momentum=0.25).double()
    module(x)
    torch.testing.assert_close(module.running_std, 0.75 + 0.25 * (x.var(0, correction=0) + 0.1).sqrt())


@pytest.mark.parametrize("bound", ["rmax_steps", "dmax_steps"])
def test_a_bound_reached_before_it_starts_to_grow_is_refused(bound):
    with pytest.raises(ConfigError, match=f"^norm 'renorm': {bound} must be >= plain_steps, 5000, got 10$"):
        BatchRenorm(3, **{bound: 10})


def test_lanes_with_correction_equal_runs_one_at_a_time():
    modules = [corrected(rmax=1.1, dmax=0.2) for _ in range(2)]
    modules[1].num_batches_tracked.fill_(7)
    x = torch.stack([data(), data() + 1])
    state = stack_module_state(modules)
    y = vmap(lambda state, x: functional_call(modules[0], state, (x,)))(state, x)
    torch.testing.assert_close(y, torch.stack([module(one) for module, one in zip(modules, x, strict=True)]))


def test_lanes_at_different_steps_have_different_bounds():
    modules = [BatchRenorm(3, plain_steps=2, rmax_steps=4, dmax_steps=4).double() for _ in range(2)]
    modules[1].num_batches_tracked.fill_(10)
    x = data().expand(2, 20, 3)
    state = stack_module_state(modules)
    y = vmap(lambda state, x: functional_call(modules[0], state, (x,)))(state, x)
    torch.testing.assert_close(y[0], BatchNorm(3).double()(x[0]))
    assert not torch.allclose(y[1], y[0])


def test_a_batch_between_a_forward_pass_and_its_recomputation_is_told():
    module = BatchRenorm(6, **AT_ONCE)
    first, second = (torch.randn(12, 6).requires_grad_() for _ in range(2))
    y = checkpoint(module, first, use_reentrant=False)
    module(second)
    with pytest.raises(RuntimeError, match="has seen another batch between the forward pass and its recomputation"):
        y.sum().backward()
