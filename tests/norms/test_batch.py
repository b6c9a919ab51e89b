"""No norm, and Batch Normalization, also frozen."""

import re

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from bncli.errors import ConfigError
from bncli.norms import norm
from bncli.norms.batch import BatchNorm, FrozenBatchNorm, NoNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def test_no_norm_returns_its_input():
    x = torch.randn(4, 3)
    assert NoNorm(3)(x) is x


def test_no_norm_has_no_state():
    assert not NoNorm(3).state_dict()


def test_training_step_equals_the_golden_one():
    assert_trains_like(BatchNorm(8), golden("torch_bn1d"))


def test_running_statistics_and_evaluation_equal_the_golden_ones():
    arrays = golden("torch_bn1d")
    module = BatchNorm(8)
    assert_trains_like(module, arrays)
    module(arrays["x2"])
    torch.testing.assert_close(module.running_mean, arrays["buf_after2.running_mean"], **EXACT)
    torch.testing.assert_close(module.running_var, arrays["buf_after2.running_var"], **EXACT)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


@pytest.mark.parametrize(
    ("theirs", "shape"),
    [(nn.BatchNorm1d, (8, 3)), (nn.BatchNorm1d, (8, 3, 4)), (nn.BatchNorm2d, (4, 3, 2, 2)), (nn.BatchNorm3d, (2,) * 5)],
)
def test_one_class_does_what_torch_does_for_each_rank(theirs, shape):
    x = torch.randn(shape)
    ours, reference = BatchNorm(shape[1]), theirs(shape[1])
    assert torch.equal(ours(x), reference(x))
    assert ours.state_dict().keys() == reference.state_dict().keys()


def test_running_variance_is_unbiased():
    x = torch.randn(5, 3)
    module = BatchNorm(3, momentum=1.0)
    module(x)
    torch.testing.assert_close(module.running_var, x.var(0, correction=1))


def test_a_single_value_per_channel_is_refused_in_training():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(3)(torch.randn(1, 3))


def test_a_batch_of_two_leaves_only_the_sign():
    x = torch.randn(2, 3, dtype=torch.float64)
    y = BatchNorm(3, eps=1e-30).double()(x)
    torch.testing.assert_close(y, (x - x.mean(0)).sign(), rtol=0, atol=1e-12)


def weighted(examples=20, inputs=5, units=3):
    """Inputs, a weight matrix and a loss's weights, in float64."""
    return (
        torch.randn(shape, dtype=torch.float64) for shape in [(examples, inputs), (inputs, units), (examples, units)]
    )


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_scaling_the_weights_before_it_changes_nothing_without_eps(scale):
    u, W, _ = weighted()
    module = BatchNorm(3, eps=1e-30).double()
    torch.testing.assert_close(module(u @ (scale * W)), module(u @ W), **EXACT)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_gradient_of_scaled_weights_is_that_much_smaller(scale):
    u, W, g = weighted()
    module = BatchNorm(3, eps=1e-30).double()
    of_one, of_scaled = (
        torch.autograd.grad((module(u @ V) * g).sum(), V)[0]
        for V in (W.clone().requires_grad_(), (scale * W).requires_grad_())
    )
    torch.testing.assert_close(scale * of_scaled, of_one, **EXACT)


def test_the_gradient_of_the_weights_before_it_is_orthogonal_to_them():
    u, W, g = weighted()
    W.requires_grad_()
    (gradient,) = torch.autograd.grad((BatchNorm(3, eps=1e-30).double()(u @ W).tanh() * g).sum(), W)
    torch.testing.assert_close((W * gradient).sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)


def test_the_gradient_is_the_compact_formula():
    x, _, g = weighted(inputs=3)
    module = BatchNorm(3, eps=0.1).double()
    module.weight.data = torch.tensor([0.5, 1.0, -2.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((module(x.requires_grad_()) * g).sum(), x)
    std = (x.var(0, correction=0) + 0.1).sqrt()
    standard = (x - x.mean(0)) / std
    expected = module.weight / std * (g - g.mean(0) - standard * (g * standard).mean(0))
    torch.testing.assert_close(found, expected.detach(), **EXACT)


def test_a_bias_before_it_has_no_gradient():
    x, _, g = weighted(inputs=3)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((BatchNorm(3).double()(x + bias) * g).sum(), bias)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("affine", "kept"), [(True, ["weight", "bias"]), (False, []), ("scale", ["weight"]), ("shift", ["bias"])]
)
def test_affine_says_what_is_learned(affine, kept):
    assert [name for name, _ in BatchNorm(3, affine=affine).named_parameters()] == kept


@pytest.mark.parametrize("affine", ["scale", "shift"])
def test_what_is_not_learned_acts_as_scale_one_and_shift_zero(affine):
    x = torch.randn(8, 3)
    part, both = BatchNorm(3, affine=affine), BatchNorm(3)
    for name, parameter in part.named_parameters():
        parameter.data += torch.randn(3)
        both.get_parameter(name).data.copy_(parameter)
    torch.testing.assert_close(part(x), both(x))
    torch.testing.assert_close(part.eval()(x), both.eval()(x))


def test_cumulative_statistics_are_the_mean_over_the_batches():
    batches = torch.randn(7, 20, 3, dtype=torch.float64)
    module = BatchNorm(3, momentum="cumulative").double()
    for x in batches:
        module(x)
    torch.testing.assert_close(module.running_mean, batches.mean((0, 1)), **EXACT)
    torch.testing.assert_close(module.running_var, batches.var(1, correction=1).mean(0), **EXACT)


def test_cumulative_training_and_evaluation_equal_the_golden_ones():
    arrays = golden("torch_bn2d_cma")
    module = BatchNorm(8, momentum="cumulative")
    assert_trains_like(module, arrays)
    torch.testing.assert_close(module.running_var, arrays["buf_after1.running_var"], **EXACT)
    torch.testing.assert_close(module(arrays["x2"]), arrays["y2"], **EXACT)
    torch.testing.assert_close(module.running_mean, arrays["buf_after2.running_mean"], **EXACT)
    torch.testing.assert_close(module.running_var, arrays["buf_after2.running_var"], **EXACT)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


@pytest.mark.parametrize("options", [{"momentum": "cumulative"}, {"affine": "scale"}, {"affine": "shift"}], ids=str)
def test_an_ablation_in_lanes_equals_runs_one_at_a_time(options):
    modules, batches = (
        [BatchNorm(3, **options).double() for _ in range(2)],
        torch.randn(4, 2, 9, 3, dtype=torch.float64),
    )
    state = stack_module_state(modules)
    for x in batches:
        y = vmap(lambda state, x: functional_call(modules[0], state, (x,)))(state, x)
        torch.testing.assert_close(y, torch.stack([m(one) for m, one in zip(modules, x, strict=True)]))
    for name, buffer in state[1].items():
        torch.testing.assert_close(buffer, torch.stack([m.get_buffer(name) for m in modules]))


def test_cumulative_statistics_compile_without_a_break_in_the_graph():
    modules = [BatchNorm(3, momentum="cumulative") for _ in range(2)]
    program = torch.compile(modules[0], backend="eager", fullgraph=True)
    for x in torch.randn(3, 9, 3):
        torch.testing.assert_close(program(x), modules[1](x))
    torch.testing.assert_close(modules[0].running_var, modules[1].running_var)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("momentum", 0, "momentum: must be a number > 0 and <= 1, or 'cumulative', got 0"),
        ("momentum", True, "momentum: must be a number > 0 and <= 1, or 'cumulative', got True"),
        ("momentum", "average", "momentum: must be a number > 0 and <= 1, or 'cumulative', got 'average'"),
        ("affine", "both", "affine: must be one of True, False, 'scale' or 'shift', got 'both'"),
    ],
)
def test_a_wrong_option_is_refused_in_words(option, value, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        norm("batch", 3, **{option: value})


def test_a_wrong_affine_is_refused_without_the_catalogue_too():
    with pytest.raises(ConfigError, match=r"^BatchNorm: affine must be True, False, 'scale' or 'shift', got 'both'$"):
        BatchNorm(3, affine="both")


def test_frozen_is_at_first_the_identity_but_for_eps():
    x = torch.randn(5, 3)
    torch.testing.assert_close(FrozenBatchNorm(3, eps=1e-12)(x), x)


def test_frozen_does_in_training_what_batch_does_in_evaluation():
    batch, frozen, x = BatchNorm(3), FrozenBatchNorm(3), torch.randn(20, 3) * 2 + 1
    batch(x)
    frozen.load_state_dict(batch.state_dict())
    assert torch.equal(frozen.train()(x), batch.eval()(x))


def test_frozen_training_moves_no_buffer():
    frozen = FrozenBatchNorm(3).train()
    frozen(torch.randn(20, 3) + 5)
    assert frozen.running_mean.equal(torch.zeros(3))
    assert frozen.running_var.equal(torch.ones(3))


def test_frozen_takes_a_single_example():
    assert FrozenBatchNorm(3).train()(torch.randn(1, 3)).shape == (1, 3)
