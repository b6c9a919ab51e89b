"""Layer, root mean square, instance and group normalisation."""

import copy

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from bncli.errors import ConfigError
from bncli.norms import norm
from bncli.norms.sample import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}
CENTRING = [LayerNorm(6), InstanceNorm(6), GroupNorm(6, groups=2)]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (LayerNorm(8), "torch_ln"),
        (RMSNorm(8), "torch_rms"),
        (InstanceNorm(8), "torch_in_affine"),
        (GroupNorm(8, groups=4), "torch_gn"),
    ],
)
def test_training_step_and_evaluation_equal_the_golden_ones(module, name):
    arrays = golden(name)
    assert_trains_like(module, arrays)
    torch.testing.assert_close(module.eval()(arrays["x3"]), arrays["y3_eval"], **EXACT)


def test_layer_gives_each_example_mean_0_and_variance_1():
    y = LayerNorm(6, eps=1e-12).double()(torch.randn(4, 6, 3, 2, dtype=torch.float64) * 7 + 2).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(4, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(4, dtype=torch.float64), **EXACT)


def test_layer_without_locations_is_that_of_torch():
    x = torch.randn(5, 6)
    torch.testing.assert_close(LayerNorm(6)(x), nn.LayerNorm(6)(x))


def test_layer_of_three_values_by_hand():
    y = LayerNorm(3, eps=1e-12).double()(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    torch.testing.assert_close(y, torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64) * 1.5**0.5, **EXACT)


def test_rms_of_ones_is_ones():
    torch.testing.assert_close(RMSNorm(6, eps=1e-12)(torch.ones(2, 6)), torch.ones(2, 6))


def test_rms_of_three_and_four_by_hand():
    y = RMSNorm(2, eps=1e-12)(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(y, torch.tensor([[0.6, 0.8]]) * 2**0.5)


def test_rms_does_not_change_with_the_scale_of_an_example():
    x = torch.randn(4, 6, 3)
    torch.testing.assert_close(RMSNorm(6, eps=1e-20)(1000 * x), RMSNorm(6, eps=1e-20)(x))


def test_rms_weights_channels_and_not_locations():
    module, x = RMSNorm(2), torch.randn(3, 2, 4)
    plain = module(x)
    module.weight.data = torch.tensor([1.0, 5.0])
    torch.testing.assert_close(module(x), plain * torch.tensor([1.0, 5.0]).view(1, 2, 1))


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 3, 2), (4, 6, 2, 3, 2)])
def test_as_many_groups_as_channels_are_instance_norm(shape):
    x = torch.randn(shape)
    assert torch.equal(GroupNorm(6, groups=6)(x), InstanceNorm(6)(x))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5), (4, 6, 3, 2)])
def test_one_group_is_layer_norm(shape):
    x = torch.randn(shape)
    assert torch.equal(GroupNorm(6, groups=1)(x), LayerNorm(6)(x))


def test_groups_do_not_see_each_other():
    x = torch.randn(4, 6, 3)
    y = GroupNorm(6, groups=2)(x)
    x[:, 3:] += 100 * torch.randn(4, 3, 3)
    assert torch.equal(GroupNorm(6, groups=2)(x)[:, :3], y[:, :3])


def test_groups_that_do_not_divide_the_channels_are_refused_with_those_that_do():
    with pytest.raises(ConfigError) as caught:
        GroupNorm(12, groups=5)
    assert str(caught.value) == (
        "norm 'group': groups=5 does not divide 12 channels (their divisors: 1, 2, 3, 4, 6, 12)"
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 1, 1), (4, 6, 0)])
def test_instance_refuses_fewer_than_two_locations(shape, training):
    locations = torch.Size(shape[2:]).numel()
    with pytest.raises(ValueError, match=f"expected more than 1 location per channel in each example, got {locations}"):
        InstanceNorm(6).train(training)(torch.randn(shape))


def test_group_refuses_a_single_value():
    with pytest.raises(ValueError, match=r"expected more than 1 .* in each example, got 1 in .* shape \(4, 6\)"):
        GroupNorm(6, groups=6)(torch.randn(4, 6))


@pytest.mark.parametrize("module", CENTRING, ids=lambda module: type(module).__name__)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_mean_of_1e4_leaves_variance_1(module, layout):
    x = (torch.randn(4, 6, 32, 32) + 1e4).contiguous(memory_format=layout)
    assert module(x).var().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("module", [*CENTRING, RMSNorm(6)], ids=lambda module: type(module).__name__)
def test_channels_last_stays_and_gives_the_same_numbers_and_gradients(module):
    x, weights = torch.randn(4, 6, 5, 3), torch.randn(4, 6, 5, 3)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.contiguous(memory_format=layout).requires_grad_()
        y = module(leaf)
        assert y.is_contiguous(memory_format=layout)
        found.append((y, torch.autograd.grad((y * weights).sum(), leaf)[0]))
    torch.testing.assert_close(found[1], found[0])


def test_without_affine_there_is_nothing_to_learn():
    modules = [
        LayerNorm(6, affine=False),
        RMSNorm(6, affine=False),
        InstanceNorm(6, affine=False),
        GroupNorm(6, groups=2, affine=False),
    ]
    assert not [parameter for module in modules for parameter in module.parameters()]


FAR = {  # what normalises (N, C) or (N, C, L) far from zero
    "layer": {},
    "layer over channels": {"over": "channels"},
    "layer over the last axes": {"over": "last"},
    "group": {"groups": 8},
    "instance": {},
    "batch-l1": {},
}


def far_from_zero(name, mean):
    shape = (64, 16, 16) if name in ("instance", "layer over channels") else (256, 16)
    return torch.randn(shape) + mean


def output_and_gradient(module, x):
    x = x.clone().requires_grad_()
    y = module(x)
    y.backward(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype))
    return y.detach(), x.grad


@pytest.mark.parametrize("mean", [1e3, 1e4, 1e5])
@pytest.mark.parametrize("name", FAR)
def test_far_from_zero_float32_is_as_exact_as_near(name, mean):
    module, x = norm(name.split()[0], 16, **FAR[name]), far_from_zero(name, mean)
    stack = stack_module_state([module, module])
    lanes = vmap(lambda state, x: functional_call(module, state, (x,)))(stack, torch.stack([x, x]))
    y, gradient = output_and_gradient(module, x)
    truth, true_gradient = output_and_gradient(copy.deepcopy(module).double(), x.double())
    scale = true_gradient.square().mean().sqrt()
    assert (y - truth).abs().max() < 2e-6
    assert (lanes[1] - truth).abs().max() < 2e-6
    assert (gradient - true_gradient).abs().max() < 2e-5 * scale


@pytest.mark.parametrize("value", [0.3, 12.345, 123.45, 1.2345e7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", [*FAR, "ghost"])
def test_constants_become_zero(name, layout, value):
    x = torch.full((8, 16, 6, 16), value).to(memory_format=layout)
    y = norm(name.split()[0], 16, **FAR.get(name, {}))(x)
    assert y.abs().max() <= (0 if layout == torch.contiguous_format else 1e-8)


def test_near_zero_nothing_is_moved():
    x = torch.randn(64, 16)
    assert torch.equal(norm("layer", 16, affine=False)(x), nn.functional.group_norm(x, 1))


@pytest.mark.parametrize("affine", ["scale", "shift"])
@pytest.mark.parametrize("name", ["layer", "group", "instance"])
def test_scale_or_shift_may_be_learned_alone(name, affine):
    module = norm(name, 6, affine=affine, **({"groups": 2} if name == "group" else {}))
    learned, left_out = ("weight", "bias") if affine == "scale" else ("bias", "weight")
    assert [key for key, _ in module.named_parameters()] == [learned]
    assert getattr(module, left_out) is None
    both = norm(name, 6, **({"groups": 2} if name == "group" else {}))
    for each in (module, both):
        getattr(each, learned).data.copy_(torch.arange(6.0) + 2)
    x = torch.randn(4, 6, 5)
    torch.testing.assert_close(module(x), both(x))


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_that_tracks_equals_torchs(training):
    ours, theirs = (
        norm("instance", 6, track_running_stats=True),
        nn.InstanceNorm1d(6, affine=True, track_running_stats=True),
    )
    for seed in range(3):
        x = torch.randn(4, 6, 5) + seed
        ours(x)
        theirs(x)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))
    ours.reset_running_stats()
    assert torch.equal(ours.running_var, torch.ones(6))


@pytest.mark.parametrize("shape", [(3, 5, 6), (2, 3, 4, 6), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("name", ["layer", "group", "instance"])
def test_any_strides_give_the_same(name, shape):
    module = norm(name, 6, **({"groups": 2} if name == "group" else {}))
    for x in (torch.randn(shape).movedim(-1, 1), torch.randn(shape).movedim(-1, 1).transpose(2, -1)):
        torch.testing.assert_close(module(x), module(x.contiguous()))
