"""The published Newton-Schulz recursion: the same iterates as the coupled one, until rounding errors take over."""

import pytest
import torch
from golden_arrays import assert_trains_like, golden
from torch.autograd import gradcheck, gradgradcheck

from bncli.errors import ConfigError
from bncli.norms.roots import newton_schulz, uncoupled_newton_schulz
from bncli.norms.whitening import IterNorm


def ill_conditioned():
    Q, _ = torch.linalg.qr(torch.randn(16, 16))
    S = Q @ torch.logspace(0, 4, 16).diag() @ Q.T
    return (S + S.T) / 2


def residual(W, S):
    W = W.double()
    return (W @ S.double() @ W - torch.eye(16)).norm() / 4


@pytest.mark.parametrize("T", [1, 3, 5, 7])
def test_iterates_are_those_of_the_coupled_form(T):
    x = torch.randn(3, 8, 30, dtype=torch.float64)
    S = x @ x.mT / 30
    torch.testing.assert_close(uncoupled_newton_schulz(S, T), newton_schulz(S, T))


def test_beyond_seven_steps_its_rounding_errors_grow():
    S = ill_conditioned()
    assert residual(uncoupled_newton_schulz(S, 7), S) == pytest.approx(0.59, rel=0.05)
    assert residual(uncoupled_newton_schulz(S, 9), S) > 2 * residual(newton_schulz(S, 9), S)
    assert residual(uncoupled_newton_schulz(S, 12), S) > 1e10


def test_gradients_are_those_of_finite_differences():
    A = torch.randn(2, 4, 20, dtype=torch.float64)
    S = (A @ A.mT / 20).requires_grad_()
    assert gradcheck(lambda S: uncoupled_newton_schulz((S + S.mT) / 2, 5), S)
    assert gradgradcheck(lambda S: uncoupled_newton_schulz((S + S.mT) / 2, 5), S)


@pytest.mark.parametrize(("T", "arrays"), [(5, "iternorm_T5_g8_2d"), (7, "iternorm_T7_g8_4d")])
def test_training_step_equals_the_golden_one(T, arrays):
    assert_trains_like(IterNorm(8, T=T, form="paper", group_size=8), golden(arrays))


def test_more_than_seven_steps_are_refused():
    with pytest.raises(ConfigError) as refusal:
        IterNorm(8, T=9, form="paper")
    assert str(refusal.value) == (
        "norm 'iternorm': form 'paper' takes T <= 7, got 9: its rounding errors grow (in float32, for a condition number "
        "of 1e4, to a residual of 41 at T=9 and 5e20 at T=12); form 'coupled' has the same iterates and is stable"
    )
