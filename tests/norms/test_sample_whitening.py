"""Norms that whiten each example by itself: group whitening and instance whitening."""

import pytest
import torch
import torch.nn.functional as F
from golden_arrays import assert_trains_like, golden
from torch.autograd import gradcheck, gradgradcheck

from bncli.errors import ConfigError
from bncli.norms.sample_whitening import GroupWhitening, InstanceWhitening

WAYS = ["iterative", "zca"]
torch_warns_of_itself = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
every_way = pytest.mark.parametrize("by", WAYS)
each = pytest.mark.parametrize("norm", [GroupWhitening, InstanceWhitening])


def data(*shape, dtype=torch.float64):
    x = torch.randn(*shape, dtype=dtype)
    return x + 0.5 * x.roll(1, 1) + 3


@pytest.mark.parametrize(
    ("module", "arrays"),
    [
        (GroupWhitening(8, groups=2, eps=1e-12), "gw_itn_2groups"),
        (GroupWhitening(8, groups=2, by="zca"), "gw_svd_2groups"),
    ],
    ids=WAYS,
)
def test_training_and_evaluation_equal_the_golden_ones(module, arrays):
    expected = golden(arrays)
    assert_trains_like(module, expected)
    torch.testing.assert_close(module.eval()(expected["x3"]), expected["y3_eval"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 4), (5, 6, 3, 2)])
@every_way
def test_one_group_is_layer_norm(shape, by):
    x = data(*shape)
    module = GroupWhitening(6, groups=1, by=by, affine=False)
    torch.testing.assert_close(module(x), F.layer_norm(x, x.shape[1:]))


@every_way
def test_groups_of_one_channel_are_instance_norm(by):
    x = data(5, 6, 4, 3)
    module = InstanceWhitening(6, by=by, affine=False, group_size=1).double()
    torch.testing.assert_close(module(x), F.instance_norm(x))


def test_groups_of_an_example_are_uncorrelated_and_of_variance_one():
    y = GroupWhitening(12, groups=4, by="zca", eps=1e-12).double()(data(5, 12, 6))
    for example in y.view(5, 4, -1):
        torch.testing.assert_close(example.cov(correction=0), torch.eye(4, dtype=torch.float64))


def test_channels_of_an_example_are_uncorrelated_and_of_variance_one():
    y = InstanceWhitening(6, by="zca", eps=1e-12, group_size=4).double()(data(5, 6, 5, 5))
    for example in y.flatten(2):
        for group in example.split(4):
            torch.testing.assert_close(group.cov(correction=0), torch.eye(len(group), dtype=torch.float64))


@each
def test_many_steps_are_the_exact_root(norm):
    x, options = data(5, 8, 7, 7), {"eps": 1e-3}
    torch.testing.assert_close(norm(8, T=40, **options).double()(x), norm(8, by="zca", **options).double()(x))


@each
@every_way
def test_an_example_does_not_hang_on_the_others(norm, by):
    x, module = data(5, 8, 4, 3), norm(8, by=by).double()
    torch.testing.assert_close(module(x)[2:3], module(x[2:3]))


@each
@every_way
def test_an_example_that_is_not_finite_leaves_the_others_alone(norm, by):
    x, module = data(5, 8, 4, 3), norm(8, by=by).double()
    expected = module(x)
    for bad in (torch.nan, torch.inf, -torch.inf):
        x[1, 2, 0, 0] = bad
        y = module(x)
        assert not y[1].isfinite().all()
        torch.testing.assert_close(y[[0, 2, 3, 4]], expected[[0, 2, 3, 4]])


@every_way
def test_a_smaller_last_group_is_a_norm_of_its_own(by):
    x = data(5, 6, 4, 3)
    whole = InstanceWhitening(6, by=by, group_size=4).double()
    apart = [InstanceWhitening(4, by=by).double()(x[:, :4]), InstanceWhitening(2, by=by).double()(x[:, 4:])]
    torch.testing.assert_close(whole(x), torch.cat(apart, 1))


@each
@every_way
def test_equal_and_constant_channels_have_finite_output_and_gradient(norm, by):
    x = data(3, 8, 4, 3, dtype=torch.float32)
    x[:, 1], x[:, 5] = x[:, 0], 1.0
    x.requires_grad_()
    y = norm(8, by=by)(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@each
@every_way
def test_gradients_of_a_degenerate_input_are_those_of_finite_differences(norm, by):
    x = data(2, 4, 3, 2)
    x[:, 1] = x[:, 0]
    module = norm(4, by=by, eps=0.1).double()
    assert gradcheck(module, x.requires_grad_())
    assert gradgradcheck(module, x)


@each
@every_way
def test_a_channels_last_input_comes_out_as_it_went_in(norm, by):
    x = data(5, 8, 4, 3)
    inner = x.contiguous(memory_format=torch.channels_last)
    module = norm(8, by=by).double()
    assert module(inner).is_contiguous(memory_format=torch.channels_last)
    assert module(x).is_contiguous()
    torch.testing.assert_close(module(inner), module(x))


@each
@every_way
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_out_as_it_went_in(norm, by, dtype):
    x = data(5, 8, 4, 3).to(dtype)
    y = norm(8, by=by)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, norm(8, by=by)(x.float()).to(dtype))


@torch_warns_of_itself
@each
@every_way
def test_it_compiles_whole(norm, by):
    x, module = data(5, 8, 4, 3), norm(8, by=by).double()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


@each
def test_a_large_mean_does_not_spoil_the_variance(norm):
    x = torch.randn(5, 8, 16, 16) + 1e4
    y = norm(8, by="zca", affine=False)(x)
    assert y.var().item() == pytest.approx(1, rel=0.01)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ConfigError, match=r"^norm 'group-whitening': groups=4 does not divide 6 channels$"):
        GroupWhitening(6)


def test_a_single_value_per_group_is_refused():
    with pytest.raises(ValueError, match="expected more than 1 value per group of an example, got 1"):
        GroupWhitening(4)(torch.randn(9, 4))


@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 1, 1), (9, 4, 0, 3)])
def test_a_single_location_is_refused(shape):
    with pytest.raises(ValueError, match="expected more than 1 location per channel, got input of shape"):
        InstanceWhitening(4)(torch.randn(shape))


@each
@every_way
def test_no_examples_give_no_examples(norm, by):
    assert norm(4, by=by)(torch.randn(0, 4, 3)).shape == (0, 4, 3)


@each
def test_another_number_of_channels_is_refused(norm):
    with pytest.raises(ValueError, match=r"expected 4 channels, got input of shape \(9, 8, 2\)"):
        norm(4)(torch.randn(9, 8, 2))
