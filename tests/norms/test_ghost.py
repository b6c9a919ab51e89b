"""Ghost Batch Normalization: virtual batches within a batch."""

import pytest
import torch
from torch.func import functional_call, grad, stack_module_state, vmap

from bncli.norms.batch import BatchNorm
from bncli.norms.ghost import GhostBatchNorm

SHAPES = [(14, 3), (14, 3, 4), (14, 3, 2, 2), (14, 3, 2, 1, 2)]


def data(*shape):
    return 2 * torch.randn(*shape, dtype=torch.float64) + 1


@pytest.mark.parametrize("ghost_size", [14, 32])
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_one_virtual_batch_is_batch_norm(shape, ghost_size):
    ours, theirs = GhostBatchNorm(3, ghost_size=ghost_size).double(), BatchNorm(3).double()
    for _ in range(2):
        x = data(*shape)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("ghost_size", [7, 4])
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_each_virtual_batch_is_batch_norm_of_its_own_the_last_one_smaller(shape, ghost_size):
    x = data(*shape)
    expected = torch.cat([BatchNorm(3).double()(part) for part in x.split(ghost_size)])
    torch.testing.assert_close(GhostBatchNorm(3, ghost_size=ghost_size).double()(x), expected)


def test_running_mean_is_that_of_the_whole_batch():
    x = data(14, 3)
    module = GhostBatchNorm(3, ghost_size=4, momentum=1.0).double()
    module(x)
    torch.testing.assert_close(module.running_mean, x.mean(0))


def test_running_variance_is_pooled_within_virtual_batches_and_unbiased():
    x = data(14, 3)
    module = GhostBatchNorm(3, ghost_size=4, momentum=1.0).double()
    module(x)
    squares = sum((part - part.mean(0)).square().sum(0) for part in x.split(4))
    torch.testing.assert_close(module.running_var, squares / (14 - 4))


def test_running_variance_expects_the_true_one():
    x = torch.randn(40_000, 3, dtype=torch.float64) * 2
    module = GhostBatchNorm(3, ghost_size=4, momentum=1.0).double()
    module(x)
    torch.testing.assert_close(module.running_var, torch.full((3,), 4.0, dtype=torch.float64), rtol=0.05, atol=0)


def test_examples_change_only_their_own_virtual_batch():
    x = data(14, 3)
    module = GhostBatchNorm(3, ghost_size=4).double()
    before = module(x)
    x[5] += 1
    changed = (module(x) != before).any(1).nonzero().flatten()
    assert changed.tolist() == [4, 5, 6, 7]


def test_gradient_over_uneven_virtual_batches_is_that_of_finite_differences():
    module = GhostBatchNorm(3, ghost_size=4).double()
    torch.autograd.gradcheck(module, data(10, 3).requires_grad_())


def test_lanes_of_uneven_virtual_batches_equal_runs_one_at_a_time():
    modules, x, g = [GhostBatchNorm(3, ghost_size=4).double() for _ in range(2)], data(2, 10, 3), data(10, 3)
    state = stack_module_state(modules)
    gradients = vmap(grad(lambda x, state: (functional_call(modules[0], state, (x,)) * g).sum()))(x, state)
    for lane, module in enumerate(modules):
        alone = x[lane].clone().requires_grad_()
        (module(alone) * g).sum().backward()
        torch.testing.assert_close(gradients[lane], alone.grad)
        torch.testing.assert_close(state[1]["running_var"][lane], module.running_var)


def test_virtual_batches_keep_channels_last():
    x = data(10, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    assert GhostBatchNorm(3, ghost_size=4).double()(x).is_contiguous(memory_format=torch.channels_last)


def test_a_last_virtual_batch_of_one_value_is_refused():
    with pytest.raises(
        ValueError, match=r"^expected more than 1 value per channel in every virtual batch when training"
    ):
        GhostBatchNorm(3, ghost_size=4)(torch.randn(9, 3))


def test_a_last_virtual_batch_of_one_example_with_several_locations_is_normalised():
    y = GhostBatchNorm(3, ghost_size=4, eps=1e-12)(torch.randn(9, 3, 5))
    torch.testing.assert_close(y[8].var(1, correction=0), torch.ones(3))
