"""Every kernel against its plain reference, and what its fast way must not lose."""

from functools import partial

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from bncli.engine.trace import trace
from bncli.kernels import batch_norm, newton_schulz, whitening
from bncli.norms import norm
from bncli.norms.roots import inverse_cholesky, inverse_root

TOLERANCES = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},
}  # sums of thousands
LONG = (8, 16, 32, 32)  # past the sizes from which "auto" takes the fast way
ROOTS = {"zca": inverse_root, "cholesky": inverse_cholesky, "iternorm": partial(newton_schulz.fast, T=5)}

every_dtype = pytest.mark.parametrize("dtype", TOLERANCES)
every_root = pytest.mark.parametrize("root", ROOTS.values(), ids=ROOTS)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def assert_equal(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCES[dtype])


def batch(kernel, x, affine=True):
    """Output, gradients and running statistics after one step."""
    C = x.shape[1]
    x = x.detach().requires_grad_()
    pair = [torch.linspace(0.5, 2, C, dtype=x.dtype).requires_grad_() for _ in "wb"] if affine else [None, None]
    running = [torch.full((C,), 0.5, dtype=x.dtype) for _ in "mv"]
    y = kernel(x, *running, *pair, 0.1, 1e-5)
    gradients = torch.autograd.grad((y * y.detach().sin()).sum(), [x, *filter(lambda p: p is not None, pair)])
    return y, *gradients, *running


def whiten(kernel, x, root, d=4, affine=True):
    x = x.detach().requires_grad_()
    C = x.shape[1]
    pair = [torch.linspace(0.5, 2, C, dtype=x.dtype).requires_grad_() for _ in "wb"] if affine else [None, None]
    identity = torch.eye(d, dtype=x.dtype).repeat(C // d, 1, 1)
    y, mean, S = kernel(x, *pair, identity, 1e-3, root)
    return y, *torch.autograd.grad((y * y.detach().sin()).sum(), [x, *filter(lambda p: p is not None, pair)]), mean, S


@every_dtype
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [LONG, (4, 32, 2048), (2, 8, 8, 32, 32), (6, 5, 3, 2), (12, 6)], ids=len)
def test_batch_norm_by_moments_equals_torch(shape, affine, dtype):
    x = torch.randn(shape, dtype=dtype) * 3 + 1
    assert_equal(batch(batch_norm.fast, x, affine), batch(batch_norm.plain, x, affine), dtype)


def test_batch_norm_of_channels_last_equals_torch_and_stays_so():
    x = torch.randn(LONG).contiguous(memory_format=torch.channels_last)
    found = batch(batch_norm.fast, x)
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    assert_equal(found, batch(batch_norm.plain, x), torch.float32)


def test_batch_norm_of_half_precision_equals_torch():
    x = torch.randn(LONG).bfloat16()
    assert torch.equal(batch(batch_norm.fast, x, affine=False)[0], batch(batch_norm.plain, x, affine=False)[0])


@pytest.mark.parametrize("mean", [1e2, 1e4, -1e4])
def test_batch_norm_survives_a_mean_that_would_cancel(mean):
    x = torch.randn(LONG) + mean
    y, *_, var = batch(batch_norm.fast, x, affine=False)
    true = x.double().var((0, 2, 3))
    torch.testing.assert_close((var.double() - 0.45) / 0.1, true, rtol=1e-2, atol=0)
    torch.testing.assert_close(y.var((0, 2, 3)), torch.ones(16), rtol=1e-3, atol=0)


def test_batch_norm_of_constant_channels_is_the_bias():
    x = torch.randn(LONG)
    x[:, 2], x[:, 3] = 7.3, 0
    y = batch(batch_norm.fast, x, affine=False)[0]
    assert y[:, 2:4].abs().max() < 1e-3


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_batch_norm_of_tiny_and_huge_values_equals_torch(scale):
    x = torch.randn(LONG) * scale
    found, expected = batch(batch_norm.fast, x, affine=False), batch(batch_norm.plain, x, affine=False)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_channel_that_is_not_finite_stays_alone(bad):
    x = torch.randn(LONG) + 100
    expected = batch(batch_norm.fast, x)[0]
    x[3, 5, 1, 1] = bad
    y = batch(batch_norm.fast, x)[0]
    others = [c for c in range(16) if c != 5]
    torch.testing.assert_close(y[:, others], expected[:, others])
    assert not y[:, 5].isfinite().any()


def test_batch_norm_can_be_differentiated_twice(monkeypatch):
    monkeypatch.setattr(batch_norm, "_has_long_rows", lambda x: True)
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 2, 2, 2), 2, 2))
    call = lambda x, w, b: batch_norm.fast(x, torch.zeros(2), torch.ones(2), w, b, 0.1, 1e-5)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, w, b))
    assert torch.autograd.gradgradcheck(call, (x, w, b))


def test_a_single_value_per_channel_is_refused():
    with pytest.raises(ValueError, match="expected more than 1 value per channel when training, got input of shape"):
        batch(batch_norm.fast, torch.randn(1, 3, 1))


def test_auto_takes_the_fast_way_only_where_it_was_measured_to_win():
    x = torch.randn(LONG)
    assert batch_norm.is_faster(x)
    slower = [x.double(), x.bfloat16(), x.to(memory_format=torch.channels_last), x[:1], x.flatten(0, 2), x.mT]
    assert not any(batch_norm.is_faster(other) for other in slower)


def test_auto_leaves_the_compiler_to_the_plain_way(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not batch_norm.is_faster(torch.randn(LONG))
    assert not whitening.is_possible(torch.randn(LONG))


@pytest.mark.parametrize("kernel", [batch_norm.fast, *ROOTS], ids=["batch", *ROOTS])
@pytest.mark.parametrize("shape", [LONG, (128, 16)], ids=len)
def test_a_trace_holds_no_branch_on_values(kernel, shape):
    def outputs(x):
        if isinstance(kernel, str):
            found = whiten(whitening.fast, x, ROOTS[kernel], affine=False)
        else:
            found = batch(kernel, x, affine=False)
        return tuple(each.detach() for each in found)

    x = torch.randn(shape)
    traced = make_fx(outputs)(x)
    other = torch.randn(shape) + 100  # of whose mean the example knew nothing
    assert_equal(traced(other), outputs(other), torch.float32)


@pytest.mark.parametrize("name", ["zca", "cholesky", "iternorm", "pca"])
@pytest.mark.parametrize(("channels", "width"), [(8, 4), (6, 4), (50, 40)])
@pytest.mark.parametrize("affine", [True, False])
def test_whitening_of_rows_equals_the_plain_way(name, channels, width, affine):
    x = torch.randn(32, channels, 3, 2, dtype=torch.float64).to(memory_format=torch.channels_last)
    for values in (x, x.contiguous(), x[:, :, 0, 0]):
        found = []
        for impl in ("plain", "auto"):
            layer = norm(name, channels, group_size=width, affine=affine, impl=impl).double()
            values = values.detach().requires_grad_()
            y = layer(values)
            gradients = torch.autograd.grad((y * y.detach().sin()).sum(), [values, *layer.parameters()])
            found.append((y, *gradients, layer.running_mean, layer.running_cov))
        assert_equal(*found, torch.float64)


@pytest.mark.parametrize("name", ["zca", "cholesky", "iternorm", "deconv"])
@pytest.mark.parametrize(("channels", "width"), [(12, 4), (10, 4), (3, 4), (80, 40), (90, 40)])
@pytest.mark.parametrize("affine", [True, False])
def test_whitening_of_traced_lanes_equals_the_plain_way_of_each(name, channels, width, affine):
    x, g = torch.randn(2, 2, 96, channels, dtype=torch.float64)
    layers = [norm(name, channels, group_size=width, affine=affine).double() for _ in x]
    for parameter in [p for layer in layers for p in layer.parameters()]:
        torch.nn.init.normal_(parameter)
    parameters, buffers = torch.func.stack_module_state(layers)
    leaves = [x, *parameters.values()]

    def step(g, *tensors):
        inputs = [each.detach().requires_grad_() for each in tensors[: len(leaves)]]

        def lane(x, values, rest):
            return torch.func.functional_call(layers[0], (dict(zip(parameters, values, strict=True)), rest), (x,))

        y = torch.vmap(lane)(inputs[0], inputs[1:], dict(zip(buffers, tensors[len(leaves) :], strict=True)))
        return torch.cat([each.flatten() for each in (y, *torch.autograd.grad((y * g).sum(), inputs))])

    state = [each.detach().clone() for each in (*leaves, *buffers.values())]
    operations = trace(step, [g, *state])
    names = {str(node.target) for node in operations.graph.nodes}
    assert not {"aten.slice_backward.default", "aten.select_backward.default"} & names  # none of autograd's own
    found = operations(g, *state)
    expected = []
    for layer, x_of, g_of in zip(layers, x, g, strict=True):
        layer.impl = "plain"
        leaf = x_of.clone().requires_grad_()
        y = layer(leaf)
        expected.append((y, *torch.autograd.grad((y * g_of).sum(), [leaf, *layer.parameters()])))
    expected = torch.cat([torch.stack(each).flatten() for each in zip(*expected, strict=True)])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-9)
    for layer, running in zip(layers, zip(*state[len(leaves) :], strict=True), strict=True):
        for one, other in zip(running, layer.buffers(), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["zca", "cholesky"])
def test_a_lane_that_is_not_finite_leaves_the_others_alone_in_a_trace(name):
    def step(x):
        layer = norm(name, 6, affine=False)
        leaf, state = x.detach().requires_grad_(), {key: torch.stack([b] * 3) for key, b in layer.named_buffers()}
        y = torch.vmap(lambda x, state: torch.func.functional_call(layer, state, (x,)))(leaf, state)
        (gradient,) = torch.autograd.grad((y * y.detach().sin()).sum(), leaf)
        return torch.stack([y.detach(), gradient])

    x = torch.randn(3, 20, 6)
    operations = trace(step, [x])
    expected = operations(x)
    x[1, 4, 2] = torch.nan
    x[2, :, 5] = x[2, :, 0]  # of full rank no longer
    found = operations(x)
    assert torch.equal(found[:, 0], expected[:, 0])
    assert found[:, 1].isnan().all()
    assert found[:, 2].isfinite().all()


@every_dtype
@every_root
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(12, 8), (8, 16, 14, 14), (5, 8, 6), (3, 8, 3, 2, 4)], ids=len)
def test_whitening_in_one_function_equals_the_plain_way(shape, affine, root, dtype):
    x = torch.randn(shape, dtype=dtype)
    x = x + 0.5 * x.roll(1, 1) + 0.5
    found = whiten(whitening.fast, x, root, affine=affine)
    assert_equal(found, whiten(whitening.plain, x, root, affine=affine), dtype)


@every_root
def test_whitening_survives_a_mean_that_would_cancel(root):
    x = torch.randn(8, 8, 14, 14)
    expected, y = whiten(whitening.fast, x, root), whiten(whitening.fast, x + 1e4, root)
    torch.testing.assert_close(y[0], expected[0], rtol=0, atol=0.02)  # what rounding has left of x
    torch.testing.assert_close(y[-1], expected[-1], rtol=0, atol=0.01)


@every_root
def test_a_group_that_is_not_finite_stays_alone(root):
    x = torch.randn(8, 8, 14, 14)
    expected = whiten(whitening.fast, x, root)
    x[1, 1, 1, 1] = torch.nan
    y = whiten(whitening.fast, x, root)
    torch.testing.assert_close(y[0][:, 4:], expected[0][:, 4:])
    torch.testing.assert_close(y[1][:, 4:], expected[1][:, 4:])
    assert not y[0][:, :4].isfinite().all()


@every_root
def test_whitening_can_be_differentiated_twice(root):
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 2, 5), 2, 2))
    call = lambda x, w, b: whitening.fast(x, w, b, torch.eye(2, dtype=x.dtype)[None], 1e-3, root)[0]  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, w, b))
    assert torch.autograd.gradgradcheck(call, (x, w, b))


@every_dtype
@pytest.mark.parametrize("T", [1, 2, 5, 9])
def test_newton_schulz_by_one_matrix_equals_the_coupled_steps(T, dtype):
    X = torch.randn(3, 6, 24, dtype=dtype)
    S = (X @ X.mT / 24).requires_grad_()
    g = torch.randn(3, 6, 6, dtype=dtype)
    found, expected = newton_schulz.fast(S, T), newton_schulz.plain(S, T)
    gradients = [torch.autograd.grad(W, S, g + g.mT)[0] for W in (found, expected)]
    assert_equal((found, gradients[0]), (expected, (gradients[1] + gradients[1].mT) / 2), dtype)
