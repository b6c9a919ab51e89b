"""Norms that decorrelate: what they do to a batch, what they remember, and when they recompute."""

import copy

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch.func import functional_call

from bncli.norms.batch import BatchNorm
from bncli.norms.groups import LastRoot
from bncli.norms.roots import inverse_cholesky, inverse_root
from bncli.norms.whitening import ZCA, Cholesky, IterNorm

every_whitening = pytest.mark.parametrize("whitening", [ZCA, Cholesky, IterNorm])


def data(examples, channels, dtype=torch.float64):
    x = torch.randn(examples, channels, dtype=dtype)
    return x @ torch.randn(channels, channels, dtype=dtype) + 3


@pytest.mark.parametrize("whitening", [ZCA, Cholesky])
@pytest.mark.parametrize("channels", [8, 10])
def test_output_of_a_group_has_unit_covariance(whitening, channels):
    y = whitening(channels, eps=1e-12, group_size=4).double()(data(50, channels))
    for group in y.T.split(4):
        torch.testing.assert_close(group.cov(correction=0), torch.eye(len(group), dtype=torch.float64))


def test_iternorm_shrinks_what_it_does_not_whiten():
    y = IterNorm(8, T=5).double()(data(50, 8))
    assert torch.linalg.eigvalsh(y.T.cov(correction=0)).max() < 1.001


@every_whitening
def test_output_has_mean_zero(whitening):
    torch.testing.assert_close(whitening(5).double()(data(50, 5)).mean(0), torch.zeros(5, dtype=torch.float64))


def test_cholesky_leaves_the_first_channel_to_itself():
    x = data(50, 4)
    torch.testing.assert_close(Cholesky(4).double()(x)[:, 0], BatchNorm(4, eps=1e-3).double()(x)[:, 0])


@every_whitening
def test_groups_of_one_channel_are_batch_norm(whitening):
    x = data(50, 5)
    ours = whitening(5, group_size=1, eps=1e-3, affine=False).double()
    theirs = BatchNorm(5, eps=1e-3, affine=False).double()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_iternorm_of_many_steps_is_zca():
    x = data(50, 10)
    many, exact = IterNorm(10, T=40, group_size=4, eps=1e-3).double(), ZCA(10, group_size=4).double()
    torch.testing.assert_close(many(x), exact(x))


@every_whitening
@pytest.mark.parametrize("training", [True, False])
def test_a_smaller_last_group_is_a_norm_of_its_own(whitening, training):
    x = data(50, 10).requires_grad_()
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]
    whole = whitening(10, group_size=4).double()
    apart = [whitening(part.stop - part.start).double() for part in parts]
    for module in [whole, *apart]:
        module(x[:, parts[apart.index(module)]] if module in apart else x)
        module.train(training)
    expected = torch.cat([module(x[:, part]) for module, part in zip(apart, parts, strict=True)], 1)
    torch.testing.assert_close(whole(x), expected)
    weights = torch.randn(50, 10)
    found, wanted = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (whole(x), expected))
    torch.testing.assert_close(found, wanted)


@every_whitening
def test_running_covariance_is_unbiased_and_without_eps(whitening):
    x = data(50, 10)
    module = whitening(10, momentum=1.0, group_size=4).double()
    module(x)
    for found, group in zip(module.running_cov, x.T.split(4), strict=True):
        expected = torch.zeros(4, 4, dtype=torch.float64)
        expected[: len(group), : len(group)] = group.cov(correction=1)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("whitening", "root"), [(ZCA, inverse_root), (Cholesky, inverse_cholesky)])
def test_evaluation_whitens_by_the_running_covariance(whitening, root):
    module = whitening(5, eps=0.1).double()
    for _ in range(3):
        module(data(50, 5))
    x = data(7, 5)
    W = root(module.running_cov[0] + 0.1 * torch.eye(5))
    torch.testing.assert_close(module.eval()(x), (x - module.running_mean) @ W.T)


@pytest.mark.parametrize(
    ("module", "arrays"),
    [
        (ZCA(8, group_size=4), "dbn_zca_sigma_nc4_2d"),
        (ZCA(8, group_size=8), "dbn_zca_sigma_nc8_4d"),
        (Cholesky(8, group_size=4), "cd_sigma_nc4_2d"),
        (IterNorm(8, T=5, group_size=8), "iternorm_T5_g8_2d"),
        (IterNorm(8, T=7, group_size=8), "iternorm_T7_g8_4d"),
        (IterNorm(8, T=5, group_size=4), "iternorm_flex_T5_nc4_2d"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_training_step_equals_the_golden_one(module, arrays):
    assert_trains_like(copy.deepcopy(module), golden(arrays))


def test_fewer_examples_than_channels_still_give_finite_output_and_gradient():
    x = data(4, 8, torch.float32).requires_grad_()
    y = ZCA(8)(x)
    (y * torch.randn(4, 8)).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@every_whitening
def test_a_broken_channel_breaks_only_its_group(whitening):
    x = data(50, 10)
    expected = whitening(10, group_size=4).double()(x)
    x[0, 5] = torch.nan
    y = whitening(10, group_size=4).double()(x)
    kept = [0, 1, 2, 3, 8, 9]
    assert not y[:, 4:8].isfinite().all()
    torch.testing.assert_close(y[:, kept], expected[:, kept])


@every_whitening
def test_statistics_are_taken_in_single_precision_under_autocast(whitening):
    x = data(50, 10, torch.float32)
    expected = whitening(10)(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(whitening(10)(x), expected)


@every_whitening
def test_half_precision_comes_out_as_it_went_in(whitening):
    x = data(50, 10, torch.float32).bfloat16()
    module = whitening(10)
    y = module(x)
    assert y.dtype == module.eval()(x).dtype == torch.bfloat16
    torch.testing.assert_close(y, whitening(10)(x.float()).bfloat16())


@every_whitening
def test_a_single_value_per_channel_is_refused_in_training(whitening):
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got 1"):
        whitening(3)(torch.randn(1, 3))


@every_whitening
def test_another_number_of_channels_is_refused(whitening):
    with pytest.raises(ValueError, match=r"expected 3 channels, got input of shape \(9, 4\)"):
        whitening(3)(torch.randn(9, 4))


def evaluated(cov_scale=1.0):
    """A norm in evaluation that has its root in memory, and an input."""
    module = ZCA(4, affine=False).eval()
    module.running_cov.mul_(cov_scale)
    x = data(9, 4, torch.float32)
    module(x)
    return module, x


def test_the_root_is_computed_once_for_an_unchanged_covariance():
    calls = []
    last, cov = LastRoot(), torch.eye(3)
    for _ in range(3):
        last(cov, lambda cov: calls.append(1) or cov)
    assert len(calls) == 1


def test_evaluation_follows_a_change_in_place():
    module, x = evaluated()
    module.running_cov.mul_(4)
    torch.testing.assert_close(module(x), x / 2, rtol=1e-3, atol=1e-3)


def test_evaluation_follows_a_loaded_state():
    module, x = evaluated()
    other, _ = evaluated(cov_scale=4.0)
    module.load_state_dict(other.state_dict())
    assert torch.equal(module(x), other(x))


def test_evaluation_follows_buffers_given_for_one_call():
    module, x = evaluated()
    expected = module(x)
    given = functional_call(module, {"running_cov": 4 * module.running_cov}, (x,))
    torch.testing.assert_close(given, x / 2, rtol=1e-3, atol=1e-3)
    assert torch.equal(module(x), expected)


def test_evaluation_of_a_copy_follows_the_copy():
    module, x = evaluated(cov_scale=4.0)
    twin = copy.deepcopy(module)
    while twin.running_cov._version < module.running_cov._version + 3:
        twin.running_cov.copy_(torch.eye(4))
        torch.testing.assert_close(twin(x), x, rtol=1e-3, atol=1e-3)
        twin.running_cov.copy_(4 * torch.eye(4))
        torch.testing.assert_close(twin(x), x / 2, rtol=1e-3, atol=1e-3)


def test_evaluation_in_inference_mode_does_not_spoil_a_later_gradient():
    module, x = ZCA(4).eval(), data(9, 4, torch.float32)
    with torch.inference_mode():
        module(x)
    x.requires_grad_()
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_evaluation_answers_in_the_precision_of_its_input():
    module, x = evaluated()
    assert module(x.double()).dtype == torch.float64
    assert module(x.bfloat16()).dtype == torch.bfloat16


def test_a_module_in_half_precision_evaluates():
    module, x = evaluated(cov_scale=4.0)
    torch.testing.assert_close(module.bfloat16()(x.bfloat16()).float(), x / 2, rtol=0.02, atol=0.02)
