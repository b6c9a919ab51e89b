"""Whitening by a mixture of the batch's statistics with each example's."""

import pytest
import torch
import torch.nn.functional as F
from golden_arrays import golden
from torch.autograd import gradgradcheck

from bncli.norms.sample_whitening import InstanceWhitening
from bncli.norms.switchable_whitening import SwitchableWhitening
from bncli.norms.whitening import IterNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}
MIXTURES = ["bw-iw", "bw-iw-ln", "bw-iw-bn-in-ln"]
torch_warns_of_itself = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
every_mixture = pytest.mark.parametrize("of", MIXTURES)


def data(*shape, dtype=torch.float64):
    x = torch.randn(*shape, dtype=dtype)
    return x + 0.5 * x.roll(1, 1) + 3


def only(component, of, **options):
    """With all the weight on one component."""
    module = SwitchableWhitening(6, of=of, affine=False, **options).double()
    for weights in (module.mean_weight, module.cov_weight):
        weights.data.fill_(-1e3)[of.split("-").index(component)] = 0
    return module


@pytest.mark.parametrize(("of", "arrays"), [("bw-iw", "sw_type2_g8"), ("bw-iw-ln", "sw_type3_g8")])
def test_training_step_equals_the_golden_one(of, arrays):
    expected = golden(arrays)
    module = SwitchableWhitening(8, of=of, group_size=8).double()
    parameters = {"sw_mean_weight": "mean_weight", "sw_var_weight": "cov_weight", "weight": "weight", "bias": "bias"}
    for theirs, ours in parameters.items():
        module.get_parameter(ours).data = expected[f"param.{theirs}"]
    x = expected["x1"].clone().requires_grad_()
    y = module(x)
    (y * expected["gy1"]).sum().backward()
    torch.testing.assert_close(y, expected["y1"], **EXACT)
    torch.testing.assert_close(x.grad, expected["gx1"], **EXACT)
    for theirs, ours in parameters.items():
        torch.testing.assert_close(module.get_parameter(ours).grad, expected[f"gparam.{theirs}"], **EXACT)


def test_running_statistics_are_the_golden_ones_but_unbiased_and_from_the_identity():
    expected, eye = golden("sw_type2_g8"), torch.eye(8, dtype=torch.float64)
    module = SwitchableWhitening(8, group_size=8).double()
    module(expected["x1"])
    m = expected["x1"].numel() / 8
    torch.testing.assert_close(module.running_mean, expected["buf_after1.running_mean"].flatten(), **EXACT)
    theirs = expected["buf_after1.running_cov"][0] * m / (m - 1) + 0.99 * eye
    torch.testing.assert_close(module.running_cov[0], theirs, **EXACT)


@pytest.mark.parametrize("training", [True, False])
@every_mixture
def test_the_batch_alone_is_iternorm(of, training):
    switchable, iterative = only("bw", of, group_size=4), IterNorm(6, group_size=4, affine=False).double()
    for module in (switchable, iterative):
        module.momentum = 0.1
        torch.manual_seed(0)
        module(data(5, 6, 4))
        module.train(training)
    x = data(5, 6, 4)
    torch.testing.assert_close(switchable(x), iterative(x))


@pytest.mark.parametrize("training", [True, False])
@every_mixture
def test_the_example_alone_is_instance_whitening(of, training):
    x = data(5, 6, 7)
    expected = InstanceWhitening(6, group_size=4, affine=False).double()(x)
    torch.testing.assert_close(only("iw", of, group_size=4).train(training)(x), expected)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("bn", lambda x: F.batch_norm(x, None, None, training=True)),
        ("in", F.instance_norm),
        ("ln", lambda x: (x - x.mean((1, 2), keepdim=True)) * (x.var((1, 2), keepdim=True) + 1e-5).rsqrt()),
    ],
)
def test_a_diagonal_alone_is_the_norm_of_that_name(component, expected):
    x = data(5, 6, 7)
    torch.testing.assert_close(only(component, "bw-iw-bn-in-ln", T=30, group_size=4)(x), expected(x))


def test_tied_mixtures_share_their_weights():
    x, tied, free = data(5, 6, 7), *(SwitchableWhitening(6, tie=tie).double() for tie in (True, False))
    weights = torch.tensor([0.3, -1.0], dtype=torch.float64)
    tied.mean_weight.data = free.mean_weight.data = free.cov_weight.data = weights
    torch.testing.assert_close(tied(x), free(x))
    assert tied.cov_weight is None


@every_mixture
def test_second_gradient_is_that_of_finite_differences(of):
    module = SwitchableWhitening(4, of=of, group_size=3, eps=0.1).double()
    assert gradgradcheck(module, data(3, 4, 5).requires_grad_())


@every_mixture
def test_equal_and_constant_channels_have_finite_output_and_gradient(of):
    x = data(3, 8, 4, 3, dtype=torch.float32)
    x[:, 1], x[:, 5] = x[:, 0], 1.0
    x.requires_grad_()
    y = SwitchableWhitening(8, of=of)(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@every_mixture
def test_one_example_is_enough(of):
    assert SwitchableWhitening(6, of=of)(torch.randn(1, 6, 8)).isfinite().all()


@every_mixture
def test_a_channels_last_input_comes_out_as_it_went_in(of):
    x, module = data(5, 8, 4, 3), SwitchableWhitening(8, of=of).double()
    y = module(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, module(x))


@every_mixture
def test_half_precision_comes_out_as_it_went_in(of):
    x = data(5, 8, 4, 3).bfloat16()
    y = SwitchableWhitening(8, of=of)(x)
    torch.testing.assert_close(y, SwitchableWhitening(8, of=of)(x.float()).bfloat16())
    assert SwitchableWhitening(8, of=of).bfloat16()(x).dtype == torch.bfloat16


@torch_warns_of_itself
@pytest.mark.parametrize("training", [True, False])
@every_mixture
def test_it_compiles_whole(of, training):
    x, module = data(5, 8, 4, 3), SwitchableWhitening(8, of=of).double().train(training)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


def test_a_single_location_is_refused():
    with pytest.raises(ValueError, match="expected more than 1 location per channel, got input of shape"):
        SwitchableWhitening(4)(torch.randn(9, 4))
