"""Inverse square roots: their values, their gradients, and what a bad matrix does to the others."""

import functools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap

from bncli.norms.roots import inverse_cholesky, inverse_root, newton_schulz

ROOTS = {
    "root": inverse_root,
    "cholesky": inverse_cholesky,
    "schulz T=1": functools.partial(newton_schulz, T=1),
    "schulz T=2": functools.partial(newton_schulz, T=2),
    "schulz T=5": functools.partial(newton_schulz, T=5),
}
every_root = pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS.keys())
exact_root = pytest.mark.parametrize("root", [inverse_root, inverse_cholesky])


def covariances(*leading, d=4, m=20, eps=1e-3):
    x = torch.randn(*leading, d, m, dtype=torch.float64)
    return x @ x.mT / m + eps * torch.eye(d, dtype=torch.float64)


SPECTRA = {
    "generic": lambda: covariances(2),
    "all equal": lambda: 0.7 * torch.eye(4, dtype=torch.float64).expand(2, 4, 4),
    "rank deficient": lambda: covariances(2, m=2, eps=0.1),
}
every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())


def of_symmetric(root):
    """So that finite differences stay among symmetric matrices."""
    return lambda A: root((A + A.mT) / 2)


@exact_root
def test_square_is_the_inverse(root):
    S = covariances(3)
    W = root(S)
    torch.testing.assert_close(W.mT @ W, S.inverse())


def test_inverse_root_is_symmetric():
    W = inverse_root(covariances(3))
    torch.testing.assert_close(W, W.mT)


def test_inverse_cholesky_is_lower_triangular():
    assert torch.count_nonzero(inverse_cholesky(covariances(3)).triu(1)) == 0


def test_many_newton_schulz_steps_give_the_inverse_root():
    S = covariances(3)
    torch.testing.assert_close(newton_schulz(S, 30), inverse_root(S))


@pytest.mark.parametrize(
    ("condition", "T", "residual"),
    [(10, 3, 0.58), (10, 5, 0.19), (100, 3, 0.70), (100, 5, 0.45), (100, 7, 0.17), (100, 9, 0.0076)],
)
def test_newton_schulz_leaves_the_known_residual(condition, T, residual):
    S = torch.logspace(0, torch.tensor(condition).log10().item(), 16, dtype=torch.float64).diag()
    W = newton_schulz(S, T)
    found = (W @ S @ W - torch.eye(16)).norm() / 4
    assert found.item() == pytest.approx(residual, rel=0.03)


@pytest.mark.parametrize(("T", "residual"), [(3, 0.82), (5, 0.71), (7, 0.59), (9, 0.433), (12, 0.136)])
def test_newton_schulz_is_stable_in_single_precision(T, residual):
    Q, _ = torch.linalg.qr(torch.randn(16, 16))
    S = Q @ torch.logspace(0, 4, 16).diag() @ Q.T
    W = newton_schulz((S + S.T) / 2, T).double()
    found = (W @ S.double() @ W - torch.eye(16)).norm() / 4
    assert found.item() == pytest.approx(residual, rel=0.03)


def test_newton_schulz_does_not_diverge_after_many_steps_in_single_precision():
    Q, _ = torch.linalg.qr(torch.randn(16, 16))
    S = Q @ torch.logspace(0, 4, 16).diag() @ Q.T
    W = newton_schulz((S + S.T) / 2, 30).double()
    assert (W @ S.double() @ W - torch.eye(16)).norm() < 0.01


@every_root
@every_spectrum
def test_gradient_is_that_of_finite_differences(root, spectrum):
    gradcheck(of_symmetric(root), spectrum().clone().requires_grad_())


@every_root
@every_spectrum
def test_second_gradient_is_that_of_finite_differences(root, spectrum):
    gradgradcheck(of_symmetric(root), spectrum().clone().requires_grad_())


@every_root
def test_gradient_is_symmetric(root):
    S = covariances(2).requires_grad_()
    (root(S) * torch.randn(2, 4, 4)).sum().backward()
    torch.testing.assert_close(S.grad, S.grad.mT)


@every_root
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_matrix_gives_a_bad_root_and_leaves_the_others_alone(root, bad):
    S = covariances(3)
    expected = root(S)
    S[1, 2, 2] = bad
    W = root(S)
    assert not W[1].isfinite().all()
    torch.testing.assert_close(W[[0, 2]], expected[[0, 2]])


@every_root
def test_a_bad_matrix_leaves_the_gradients_of_the_others_alone(root):
    S, weights = covariances(3), torch.randn(3, 4, 4)
    gradients = []
    for entry in (1.0, torch.nan):
        S[1, 2, 2] = entry
        leaf = S.clone().requires_grad_()
        (root(leaf) * weights).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0][[0, 2]], gradients[1][[0, 2]])
    assert not gradients[1][1].isfinite().all()


@pytest.mark.filterwarnings("ignore:whitening. the covariance:RuntimeWarning")  # it is so on purpose
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e15])
def test_cholesky_of_what_rounding_made_indefinite_is_finite(scale):
    x = scale * torch.logspace(-2, 2, 16).view(16, 1) * torch.randn(30, 16, 2)
    S = (x @ x.mT).requires_grad_()  # of rank 2
    W = inverse_cholesky(S)
    W.square().sum().sqrt().backward()
    assert W.isfinite().all()
    assert S.grad.isfinite().all()


def test_cholesky_of_an_indefinite_matrix_is_nan():
    S = covariances(2)
    S[1] = -S[1]
    W = inverse_cholesky(S)
    assert W[0].isfinite().all()
    assert W[1].isnan().all()


@every_root
def test_leading_dimensions_are_matrices_apart(root):
    S = covariances(2, 3)
    torch.testing.assert_close(root(S)[1, 2], root(S[1, 2]))


@every_root
@pytest.mark.parametrize("dim", [0, 1])
def test_vmap_batches_over_any_dimension(root, dim):
    S = covariances(2, 3)
    torch.testing.assert_close(vmap(root, in_dims=dim, out_dims=dim)(S), root(S))
