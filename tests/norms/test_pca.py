"""Whitening along principal axes: a whitening like the others, with a gradient that exists only for distinct eigenvalues."""

import pytest
import torch
from golden_arrays import golden
from torch.autograd import gradcheck, gradgradcheck

from bncli.norms.pca import PCA, principal_axes
from bncli.norms.roots import inverse_root

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def data(examples, channels, dtype=torch.float64):
    x = torch.randn(examples, channels, dtype=dtype)
    return x @ torch.randn(channels, channels, dtype=dtype) + 3


def covariances(*leading, d=4, m=20, eps=1e-3):
    x = torch.randn(*leading, d, m, dtype=torch.float64)
    return x @ x.mT / m + eps * torch.eye(d, dtype=torch.float64)


def of_symmetric(A):
    return principal_axes((A + A.mT) / 2)


@pytest.mark.parametrize("channels", [8, 10])
def test_output_of_a_group_has_unit_covariance(channels):
    y = PCA(channels, eps=1e-12, group_size=4).double()(data(50, channels))
    for group in y.T.split(4):
        torch.testing.assert_close(group.cov(correction=0), torch.eye(len(group), dtype=torch.float64))


def test_square_is_the_inverse():
    S = covariances(3)
    W = principal_axes(S)
    torch.testing.assert_close(W.mT @ W, S.inverse())


def test_axes_stand_in_the_order_of_descending_variance():
    S = covariances(3)
    lengths = principal_axes(S).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.linalg.eigvalsh(S).flip(-1).rsqrt())


def test_the_largest_entry_of_each_axis_is_positive():
    W = principal_axes(covariances(20))
    largest = W.gather(-1, W.abs().argmax(-1, keepdim=True))
    assert (largest > 0).all()


def test_turning_it_back_gives_zca():
    S = covariances(3)
    W = principal_axes(S)
    U = (W / W.norm(dim=-1, keepdim=True)).mT
    torch.testing.assert_close(U @ W, inverse_root(S))


def test_a_swap_of_axes_swaps_the_outputs():
    wide, narrow = torch.tensor([4.0, 1.0]).diag(), torch.tensor([1.0, 4.0]).diag()
    torch.testing.assert_close(principal_axes(wide), torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(principal_axes(narrow), torch.tensor([[0.0, 0.5], [1.0, 0.0]]))


def test_training_step_equals_the_golden_one_up_to_the_signs_of_axes():
    arrays = golden("pca_sigma_nc4_2d")
    module = PCA(8, group_size=4).double()
    theirs = (arrays["y1"] - arrays["param.bias"]) / arrays["param.weight"]
    with torch.no_grad():
        signs = (module(arrays["x1"]) * theirs).sum(0).sign()
    module.weight.data = arrays["param.weight"].flatten() * signs
    module.bias.data = arrays["param.bias"].flatten()
    x = arrays["x1"].clone().requires_grad_()
    y = module(x)
    (y * arrays["gy1"]).sum().backward()
    torch.testing.assert_close(y, arrays["y1"], **EXACT)
    torch.testing.assert_close(x.grad, arrays["gx1"], **EXACT)
    torch.testing.assert_close(module.weight.grad, arrays["gparam.weight"].flatten() * signs, **EXACT)


def test_gradient_is_that_of_finite_differences():
    assert gradcheck(of_symmetric, covariances(2).requires_grad_())


def test_second_gradient_is_that_of_finite_differences():
    assert gradgradcheck(of_symmetric, covariances(2).requires_grad_())


def test_gradient_is_that_of_autograd_through_eigh():
    S = covariances(3).requires_grad_()
    weights = torch.randn(3, 4, 4, dtype=torch.float64)
    W = principal_axes(S)
    values, U = torch.linalg.eigh(S)
    plain = (U * values.rsqrt().unsqueeze(-2)).mT.flip(-2)
    plain = plain * (plain * W).sum(-1, keepdim=True).sign().detach()
    found, expected = (torch.autograd.grad((w * weights).sum(), S)[0] for w in (W, plain))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_gradient_at_equal_eigenvalues_is_finite(scale):
    S = (scale * torch.eye(4)).requires_grad_()
    (principal_axes(S) * torch.randn(4, 4)).sum().backward()
    assert S.grad.isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_matrix_gives_nan_and_leaves_the_others_alone(bad):
    S = covariances(3)
    expected = principal_axes(S)
    S[1, 2, 2] = bad
    W = principal_axes(S.requires_grad_())
    assert W[1].isnan().all()
    torch.testing.assert_close(W[[0, 2]], expected[[0, 2]])
    (gS,) = torch.autograd.grad(W[[0, 2]].sum(), S)
    assert gS[[0, 2]].isfinite().all()


def test_a_constant_channel_of_an_uneven_group_is_not_mixed_with_fillers():
    x = data(50, 6)
    x[:, 5] = 1.0
    module = PCA(6, group_size=4, momentum=1.0, affine=False).double()
    module(x)
    x[:, 5] = torch.linspace(0, 2, 50)
    apart = module.eval()(x)[:, 5]
    torch.testing.assert_close(apart, (x[:, 5] - 1) / module.eps**0.5)
