"""No norm, and Batch Normalization."""

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch import nn

from bncli.norms.batch import Batch, NoNorm

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def test_no_norm_returns_its_input():
    x = torch.randn(4, 3)
    assert NoNorm(3)(x) is x


def test_no_norm_has_no_state():
    assert not NoNorm(3).state_dict()


def test_training_step_equals_the_golden_one():
    assert_trains_like(Batch(8), golden("torch_bn1d"))


def test_running_statistics_and_evaluation_equal_the_golden_ones():
    arrays = golden("torch_bn1d")
    module = Batch(8)
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
    ours, reference = Batch(shape[1]), theirs(shape[1])
    assert torch.equal(ours(x), reference(x))
    assert ours.state_dict().keys() == reference.state_dict().keys()


def test_running_variance_is_unbiased():
    x = torch.randn(5, 3)
    module = Batch(3, momentum=1.0)
    module(x)
    torch.testing.assert_close(module.running_var, x.var(0, correction=1))


def test_without_affine_there_is_nothing_to_learn():
    assert not list(Batch(3, affine=False).parameters())


def test_a_single_value_per_channel_is_refused_in_training():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Batch(3)(torch.randn(1, 3))


def test_a_batch_of_two_leaves_only_the_sign():
    torch.testing.assert_close(Batch(3)(torch.randn(2, 3)).abs(), torch.ones(2, 3), atol=1e-3, rtol=0)
