"""What all whitenings have in common: a rotation apart, and unmoved by what is degenerate, huge or not finite."""

import copy

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
beyond_what_holds = pytest.mark.filterwarnings("ignore:whitening. the covariance:RuntimeWarning")
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


@beyond_what_holds
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
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_comes_out_not_finite(name, bad):
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


def trained(name, **options):
    """A norm after two batches."""
    module = norm(name, 8, **options)
    for _ in range(2):
        module(2 * torch.randn(16, 8, 6, 6) + 1)
    return module


def as_new(module, name, **options):
    """A norm of the same state that has evaluated nothing."""
    fresh = norm(name, 8, **options).eval()
    fresh.load_state_dict(module.state_dict())
    return fresh


def write_through_data(buffer):
    buffer.data.mul_(2)


def write_through_numpy(buffer):
    buffer.numpy()[...] *= 2


def write_through_a_storage(buffer):
    torch.tensor([]).set_(buffer.untyped_storage()).mul_(2) if buffer.dtype == torch.float32 else None


@every_batch_whitening
@pytest.mark.parametrize("write", [write_through_data, write_through_numpy, write_through_a_storage])
def test_evaluation_follows_what_no_version_counts(name, write):
    module, x = trained(name).eval(), torch.randn(5, 8, 6, 6)
    before = module(x)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            write(buffer)
    assert torch.equal(module(x), as_new(module, name)(x))
    assert not torch.equal(module(x), before)


@every_batch_whitening
@pytest.mark.parametrize("option", [{"eps": 0.5}, {"T": 9}], ids=str)
def test_evaluation_follows_its_options(name, option):
    module, x = trained(name).eval(), torch.randn(5, 8, 6, 6)
    before = module(x)
    for key, value in option.items():
        if not hasattr(module, key):
            pytest.skip(f"{name} has no {key}")
        setattr(module, key, value)
    assert torch.equal(module(x), as_new(module, name, **option)(x))
    assert not torch.equal(module(x), before)


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3),
    "sliced": lambda x: x[..., ::2],
    "of tokens": lambda x: x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3),
}


@every_whitening
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_evaluation_lays_out_its_output_as_training_does(name, layout):
    module, x = trained(name), layout(torch.randn(4, 8, 6, 6))
    y = module(x)
    assert y.stride() == module.eval()(x).stride()
    assert y.is_contiguous() or y.is_contiguous(memory_format=torch.channels_last)


@every_whitening
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("locations", [(8, 8), (3, 2)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_an_activation_in_place_may_follow(name, layout, locations, training):
    x = LAYOUTS[layout](torch.randn(6, 8, *locations)).requires_grad_()
    found, expected = (
        torch.autograd.grad(torch.nn.ReLU(inplace)(norm(name, 8).train(training)(x)).square().sum(), x)[0]
        for inplace in (True, False)
    )
    assert torch.equal(found, expected)


@every_batch_whitening
@pytest.mark.parametrize("shape", [(32, 8), (6, 8, 6, 6), (6, 8, 3, 2)], ids=str)
def test_any_gradient_may_come_in(name, shape):
    x, g = torch.randn(2, *shape)
    incoming = {
        "innermost last": g.movedim(1, -1).contiguous().movedim(-1, 1),
        "every second": torch.stack([g, g], -1)[..., 0],
    }

    def gradient(g):
        leaf = x.clone().requires_grad_()
        norm(name, 8)(leaf).backward(g)
        return leaf.grad

    for how, other in incoming.items():
        torch.testing.assert_close(gradient(other), gradient(g), msg=lambda text, how=how: f"{how}: {text}")
    torch.testing.assert_close(gradient(torch.ones(1).expand(shape)), gradient(torch.ones(shape)))


@every_batch_whitening
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_backward_pass_within_autocast_is_that_without(name, layout, dtype):
    x = LAYOUTS[layout](torch.randn(6, 8, 8, 8).to(dtype))
    g, found = torch.randn(6, 8, 8, 8).to(dtype), []
    for within in (True, False):
        leaf = x.clone().requires_grad_()
        y = norm(name, 8)(leaf)
        with torch.autocast("cpu", torch.bfloat16, enabled=within):
            found.append(torch.autograd.grad(y, leaf, g)[0])
    assert torch.equal(*found)


@every_whitening
def test_a_norm_of_meta_tensors_is_whole_after_to_empty_and_a_state(name):
    uneven = {"group_size": 3} if "group_size" in NORMS[name].options else {}
    module, x = trained(name, **uneven), torch.randn(6, 8, 4, 4)
    with torch.device("meta"):
        found = norm(name, 8, **uneven)
    found.to_empty(device="cpu")
    for tensor in (*found.parameters(), *found.buffers()):
        tensor.data.fill_(7)  # what lies in memory
    found.load_state_dict(module.state_dict())
    for training in (False, True):
        assert torch.equal(found.train(training)(x), module.train(training)(x))


@every_whitening
@pytest.mark.parametrize("locations", [(4, 4), (8, 8)], ids=str)
def test_it_knows_the_shapes_of_meta_tensors(name, locations):
    with torch.device("meta"):
        module, x = norm(name, 8), torch.randn(6, 8, *locations, requires_grad=True)
    for training in (True, False):
        y = module.train(training)(x)
        y.sum().backward()
        assert y.shape == x.shape


@torch_warns_of_itself
@every_whitening
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_it_exports_for_any_number_of_examples(name, training, strict):
    module, x = trained(name).train(training), torch.randn(16, 8, 4, 4)
    batch = torch.export.Dim("batch", min=5)  # torch 2.6 does not say that it exports: fewer take another way
    program = torch.export.export(copy.deepcopy(module), (x,), dynamic_shapes=({0: batch},), strict=strict)
    for examples in (16, 5):
        found = program.module()(x[:examples])
        torch.testing.assert_close(found, copy.deepcopy(module)(x[:examples]), rtol=1e-4, atol=1e-4)


@every_whitening
def test_it_trains_and_evaluates_in_inference_mode(name):
    module, x = trained(name), torch.randn(6, 8, 8, 8)
    twin = copy.deepcopy(module)
    with torch.inference_mode():
        trained(name).eval()(x)
        y, z = module(x), module.eval()(x)
    assert torch.equal(y, twin(x))
    assert torch.equal(z, twin.eval()(x))
    module(x.requires_grad_()).sum().backward()
    module.train()(x).sum().backward()


@pytest.mark.parametrize("name", ["zca", "zca-cor", "cholesky", "pca"])
@pytest.mark.parametrize("loud", [3e3, 1e4, 1e5])
def test_a_channel_far_louder_than_the_others_leaves_them_at_variance_one(name, loud):
    x = torch.randn(64, 16, 4, 4)  # so many that products stay in float32
    x[:, 3] *= loud
    module = norm(name, 16, momentum=1.0)
    for y in (module(x), module.eval()(x)):
        torch.testing.assert_close(y.transpose(0, 1).flatten(1).std(1), torch.ones(16), rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["zca", "zca-cor", "cholesky", "pca", "detached"])
def test_a_condition_number_beyond_what_holds_is_said(name):
    x = torch.randn(64, 16) * torch.cat([torch.full((15,), 1e-3), torch.full((1,), 1e7)])
    if name in ("zca-cor", "cholesky"):  # which scales leave alone
        x[:, 1] = x[:, 0] = x[:, 15]
    module = norm(name, 16, **({"by": "whitening"} if name == "detached" else {}))
    with pytest.warns(RuntimeWarning, match=r"^whitening: the covariance of some group of channels .* above 1e\+12"):
        module(x)


def test_one_that_holds_is_not():
    norm("zca", 16)(torch.randn(64, 16) * torch.cat([torch.ones(15), torch.full((1,), 1e4)]))
