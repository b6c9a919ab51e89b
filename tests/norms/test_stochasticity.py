"""How much a norm's output hangs on the company in its batch, and what an average of whitening matrices is worth."""

import functools

import pytest
import torch

from bncli.norms.batch import BatchNorm
from bncli.norms.pca import PCA
from bncli.norms.roots import inverse_root
from bncli.norms.whitening import ZCA, Cholesky, IterNorm

NORMS = [BatchNorm, IterNorm, ZCA, Cholesky, PCA]
d = 16


def correlated():
    """Turns white rows into Gaussian ones with a condition number of 100."""
    Q, _ = torch.linalg.qr(torch.randn(d, d))
    return torch.logspace(0, -1, d).diag() @ Q.T


def stochastic_disturbance(build, batch, *, among):
    """Mean distance of a fixed example's outputs over batches from their mean, over sqrt(d) (IterNorm, section 3.3).

    The example is a member of the batch, or (`among=False`) normalised by the statistics of a batch without it.
    """
    module, A, distances = build(d, momentum=1.0, affine=False), correlated(), []
    for _ in range(8):
        x, outputs = torch.randn(1, d) @ A, []
        for _ in range(40):
            others = torch.randn(batch - among, d) @ A
            if among:
                outputs.append(module.train()(torch.cat([x, others]))[0])
            else:
                module.train()(others)
                outputs.append(module.eval()(x)[0])
        y = torch.stack(outputs)
        distances.append((y - y.mean(0)).norm(dim=1).mean() / d**0.5)
    return torch.stack(distances).mean().item()


@functools.cache
def disturbances(batch, *, among):
    """Of each of NORMS, from the same random numbers."""
    found = {}
    for build in NORMS:
        torch.manual_seed(0)
        found[build] = stochastic_disturbance(build, batch, among=among)
    return found


@pytest.mark.parametrize("among", [True, False])
@pytest.mark.parametrize("batch", [32, 256])
def test_disturbance_grows_from_batch_over_iternorm_zca_and_cholesky_to_pca(batch, among):
    found = list(disturbances(batch, among=among).values())
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("batch", "expected"), [(32, [0.19, 0.22, 0.62, 0.81, 1.23]), (256, [0.066, 0.071, 0.135, 0.175, 0.564])]
)
def test_disturbance_has_the_known_size(batch, expected):
    found = list(disturbances(batch, among=False).values())
    assert found == pytest.approx(expected, rel=0.3)


def test_disturbance_by_swapping_axes_does_not_shrink_like_the_others():
    small, large = disturbances(32, among=False), disturbances(256, among=False)
    assert large[ZCA] / small[ZCA] < 8**-0.5
    assert large[PCA] / small[PCA] > 8**-0.5


@pytest.mark.parametrize(
    ("batch", "of_roots", "of_covariances"), [(32, 1.345, 1.016), (64, 1.133, 1.010), (256, 1.027, 1.002)]
)
def test_an_average_of_roots_scales_too_much_and_the_root_of_an_average_hardly(batch, of_roots, of_covariances):
    x = torch.randn(400, d, batch, dtype=torch.float64)
    x -= x.mean(-1, keepdim=True)
    S = x @ x.mT / batch
    assert inverse_root(S).mean(0).trace().item() / d == pytest.approx(of_roots, rel=0.01)
    assert inverse_root(S.mean(0)).trace().item() / d == pytest.approx(of_covariances, rel=0.005)


def test_evaluation_of_zca_does_not_scale_too_much():
    module = ZCA(d, momentum=0.01, eps=1e-9, affine=False).double()
    for _ in range(400):
        module(torch.randn(32, d, dtype=torch.float64))
    y = module.eval()(torch.randn(10_000, d, dtype=torch.float64))
    assert y.std().item() == pytest.approx(1, abs=0.02)
