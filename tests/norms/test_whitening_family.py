"""What all whitenings have in common: a rotation apart, and unmoved by what is degenerate, huge or not finite."""

import pytest
import torch

from bncli.norms import NORMS, norm
from bncli.norms.pca import principal_axes
from bncli.norms.roots import inverse_cholesky, inverse_root
from bncli.norms.whitening import correlation_root

FULL = {"zca": inverse_root, "zca-cor": correlation_root, "cholesky": inverse_cholesky, "pca": principal_axes}
FAMILY = [name for name, row in NORMS.items() if row.family == "whitening"]
BY_BATCH = [name for name in FAMILY if NORMS[name].whitens]
every_root = pytest.mark.parametrize("root", FULL.values(), ids=FULL.keys())
every_full = pytest.mark.parametrize("name", FULL)
every_whitening = pytest.mark.parametrize("name", FAMILY)
every_batch_whitening = pytest.mark.parametrize("name", BY_BATCH)
torch_warns_of_itself = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

DEGENERATE = {
    "constant": lambda x: x * 0 + 2,
    "equal channels": lambda x: x[:, :1].expand_as(x).clone(),
    "channels of very different size": lambda x: x * torch.logspace(-6, 6, 8).view(8, 1, 1),
    "two examples": lambda x: x[:2],
    "two examples of two locations": lambda x: x[:2, :, :1, :2],
    "huge": lambda x: x * 1e15,
    "tiny": lambda x: x * 1e-30,
    "denormal": lambda x: x * 1e-40,
    "far from zero": lambda x: x + 1e4,
}


def covariances(*leading, d=4, m=20, eps=1e-3):
    x = torch.randn(*leading, d, m, dtype=torch.float64)
    return x @ x.mT / m + eps * torch.eye(d, dtype=torch.float64)


@every_root
@pytest.mark.parametrize("m", [2, 20])
def test_full_whitenings_are_a_rotation_apart(root, m):
    S = covariances(3, m=m)
    Q = root(S) @ torch.linalg.inv(inverse_root(S))
    torch.testing.assert_close(Q @ Q.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))


@every_full
def test_evaluation_whitens_by_the_running_covariance(name):
    x = torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    module = norm(name, 6, eps=0.1, momentum=1.0, affine=False).double()
    module(x)
    W = FULL[name](x.T.cov(correction=1) + 0.1 * torch.eye(6))
    z = torch.randn(7, 6, dtype=torch.float64)
    torch.testing.assert_close(module.eval()(z), (z - x.mean(0)) @ W.T)


@every_full
def test_groups_of_one_channel_are_batch_norm(name):
    x = torch.randn(50, 5, dtype=torch.float64) * 3 + 1
    ours = norm(name, 5, group_size=1, eps=1e-3, affine=False).double()
    theirs = norm("batch", 5, eps=1e-3, affine=False).double()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@every_whitening
@pytest.mark.parametrize("degenerate", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_a_degenerate_batch_has_finite_output_gradient_and_statistics(name, degenerate):
    x = degenerate(torch.randn(12, 8, 4, 3)).requires_grad_()
    module = norm(name, 8)
    y = module(x)
    (y * torch.randn_like(y)).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert module.eval()(x).isfinite().all()


@every_whitening
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_what_is_not_finite_or_overflows_comes_out_not_finite(name, bad):
    x = torch.randn(12, 8, 4, 3)
    x[3, 2, 1, 0] = bad
    module, x = norm(name, 8), x.requires_grad_()
    y = module(x)
    y.sum().backward()
    assert not y.isfinite().all()
    module.eval()(x)


@every_batch_whitening
def test_a_large_mean_does_not_spoil_the_variance(name):
    x = torch.randn(400, 4) + 1e4
    module = norm(name, 4, momentum=1.0)
    module(x)
    assert module.running_cov[0].trace().item() / 4 == pytest.approx(x.double().var(0).mean().item(), rel=0.01)


@every_batch_whitening
def test_a_single_value_per_channel_is_refused_in_training(name):
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got 1"):
        norm(name, 3)(torch.randn(1, 3))


@every_batch_whitening
def test_half_precision_comes_out_as_it_went_in(name):
    x = torch.randn(50, 10).bfloat16()
    y = norm(name, 10)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, norm(name, 10)(x.float()).bfloat16())


@torch_warns_of_itself
@pytest.mark.parametrize("name", ["pca", "zca-cor", "deconv"])
@pytest.mark.parametrize("training", [True, False])
def test_it_compiles_whole(name, training):
    x, module = torch.randn(20, 6, dtype=torch.float64), norm(name, 6, group_size=4).double().train(training)
    torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(x), module(x))
