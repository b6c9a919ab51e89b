"""Network deconvolution over channels."""

import pytest
import torch
from golden_arrays import golden
from torch.autograd import gradcheck, gradgradcheck

from bncli.norms.batch import BatchNorm
from bncli.norms.roots import frobenius_newton_schulz, inverse_root, newton_schulz
from bncli.norms.whitening import Deconv

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def covariances(*leading, d=4, m=20, eps=1e-2):
    x = torch.randn(*leading, d, m, dtype=torch.float64)
    return x @ x.mT / m + eps * torch.eye(d, dtype=torch.float64)


def test_the_norm_of_a_huge_matrix_does_not_overflow():
    S = covariances().float()
    torch.testing.assert_close(frobenius_newton_schulz(S * 1e30, 5) * 1e15, frobenius_newton_schulz(S, 5))


def test_root_equals_the_golden_one_of_an_uncentred_covariance():
    """The array's source leaves the mean in the covariance: so here, with our root and its gradient."""
    expected = golden("netdeconv_channel_block8")
    x = expected["x1"].clone().requires_grad_()
    S = x.T @ x / len(x) + 1e-2 * torch.eye(8, dtype=torch.float64)
    W = frobenius_newton_schulz(S, 5)
    y = (x - x.mean(0)) @ W
    (y * expected["gy1"]).sum().backward()
    torch.testing.assert_close(W, expected["buf_after1.running_deconv"], **EXACT)
    torch.testing.assert_close(y, expected["y1"], **EXACT)
    torch.testing.assert_close(x.grad, expected["gx1"], **EXACT)


def test_it_whitens_by_its_root_of_the_centred_covariance():
    x = torch.randn(50, 4, dtype=torch.float64) @ torch.randn(4, 4, dtype=torch.float64) + 3
    centred = x - x.mean(0)
    W = frobenius_newton_schulz(centred.T @ centred / 50 + 1e-2 * torch.eye(4), 5)
    torch.testing.assert_close(Deconv(4).double()(x), centred @ W)


def test_many_steps_give_the_inverse_root():
    S = covariances(3)
    torch.testing.assert_close(frobenius_newton_schulz(S, 40), inverse_root(S))


def test_as_many_steps_come_closer_to_the_root_than_by_the_trace():
    S = covariances(3, d=16, m=40)
    exact = inverse_root(S)
    assert (frobenius_newton_schulz(S, 5) - exact).norm() < (newton_schulz(S, 5) - exact).norm()


def test_groups_of_one_channel_are_batch_norm():
    x = torch.randn(50, 5) * 3 + 1
    ours, theirs = Deconv(5, group_size=1, eps=1e-3), BatchNorm(5, eps=1e-3, affine=False)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_smaller_last_group_is_a_norm_of_its_own():
    x = torch.randn(50, 10, dtype=torch.float64) @ torch.randn(10, 10, dtype=torch.float64)
    apart = [Deconv(part.shape[1]).double()(part) for part in x.split(4, 1)]
    torch.testing.assert_close(Deconv(10, group_size=4).double()(x), torch.cat(apart, 1))


@pytest.mark.parametrize("m", [2, 20])
def test_gradients_are_those_of_finite_differences(m):
    S = covariances(2, m=m, eps=0.1).requires_grad_()
    assert gradcheck(lambda S: frobenius_newton_schulz((S + S.mT) / 2, 5), S)
    assert gradgradcheck(lambda S: frobenius_newton_schulz((S + S.mT) / 2, 5), S)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_matrix_gives_a_bad_root_and_leaves_the_others_alone(bad):
    S = covariances(3)
    expected = frobenius_newton_schulz(S, 5)
    S[1, 2, 2] = bad
    W = frobenius_newton_schulz(S, 5)
    assert not W[1].isfinite().all()
    torch.testing.assert_close(W[[0, 2]], expected[[0, 2]])
