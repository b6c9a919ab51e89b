"""Norm, ReLU and pooling with the pooling first, against torch's own operations, and where a traced step gets them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bncli.engine.stages import LEAST_VALUES
from bncli.engine.trace import trace
from bncli.kernels.images import plain_pooled_norm, pooled_norm, pooled_norm_gradient

TOLERANCES = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {"rtol": 1e-4, "atol": 1e-4}}
HALVES, THIRDS = ([2, 2], [2, 2], [0, 0], [1, 1], False), ([3, 3], [2, 2], [1, 1], [1, 1], True)
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _seeded_and_for_small_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("bncli.engine.stages.LEAST_VALUES", 1)


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(shape, dtype=dtype) * 3 + 1).contiguous(memory_format=LAST)


def parameters(channels: int, dtype: torch.dtype, *, signs: bool) -> tuple[Tensor, ...]:
    scale = torch.linspace(0.5, 2, channels, dtype=dtype)
    if signs and channels:
        scale[::3] *= -1
        scale[1] = 0
    return scale, *(torch.full((channels,), 0.5, dtype=dtype) for _ in range(3))


def assert_equal_to_plain(y: Tensor, window: object, *, signs: bool) -> None:
    channels, dtype = y.shape[1], y.dtype
    weight, bias, *running = parameters(channels, dtype, signs=signs)
    leaves = [each.clone().requires_grad_() for each in (y, weight, bias)]
    _, _, *expected_running = parameters(channels, dtype, signs=signs)
    expected = plain_pooled_norm(*leaves, *expected_running, 0.1, 1e-5, window)
    g = torch.randn(expected.shape, dtype=dtype)
    out, *kept = pooled_norm(y, weight, bias, *running, 0.1, 1e-5, window)
    found = pooled_norm_gradient(g, y, weight, out, *kept, window)
    assert out.stride() == expected.stride()
    for one, other in zip((out, *found), (expected, *torch.autograd.grad(expected, leaves, g)), strict=True):
        torch.testing.assert_close(one, other, **TOLERANCES[dtype])
    for one, other in zip(running, expected_running, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("window", [HALVES, THIRDS], ids=["2x2", "3x3"])
@pytest.mark.parametrize("signs", [False, True], ids=["positive", "all signs"])
@pytest.mark.parametrize("shape", [(6, 8, 12, 12), (5, 3, 7, 5), (2, 70, 4, 4), (3, 2, 9, 2)], ids=str)
def test_pooling_first_and_normalising_after_equals_torch(
    shape: tuple[int, ...], signs: bool, window: object, dtype: torch.dtype
) -> None:
    assert_equal_to_plain(images(shape, dtype), window, signs=signs)


def test_of_equals_the_first_takes_the_gradient() -> None:
    y = torch.randint(0, 3, (4, 3, 8, 8), dtype=torch.float64).contiguous(memory_format=LAST)
    assert_equal_to_plain(y, HALVES, signs=False)


def test_moments_far_from_zero_are_exact() -> None:
    y = images((16, 8, 16, 16), torch.float32) + 1e4
    weight, bias, *running = parameters(8, torch.float32, signs=False)
    *_, mean, invstd = pooled_norm(y, weight, bias, *running, 0.1, 1e-5, HALVES)
    torch.testing.assert_close(mean.double(), y.double().mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(invstd.double() ** -2, y.double().var((0, 2, 3), correction=0) + 1e-5, rtol=1e-4, atol=0)


def step(inner: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Loss, output and gradients of a stage as one vector; running statistics change in place."""

    def call(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        leaves = [each.detach().requires_grad_() for each in (x, weight, bias)]
        y = F.batch_norm(leaves[0], mean, var, leaves[1], leaves[2], True) if weight.numel() else leaves[0] * 2
        u = inner(y)
        grads = torch.autograd.grad((u * u.detach().sin()).sum(), leaves, materialize_grads=True, allow_unused=True)
        return torch.cat([each.detach().flatten() for each in (u, *grads)])

    return call


def operations(graph: torch.fx.GraphModule) -> list[str]:
    return [getattr(n.target, "__name__", str(n.target)) for n in graph.graph.nodes if n.op == "call_function"]


def pool(y: Tensor) -> Tensor:
    return F.max_pool2d(y.relu(), 2)


@pytest.mark.parametrize("normed", [True, False])
def test_a_traced_stage_pools_first_and_gives_the_same(normed: bool) -> None:
    x, given = images((4, 6, 7, 8)), parameters(6 if normed else 0, torch.float64, signs=True)
    graph = trace(step(pool), [x, *given])
    names = operations(graph)
    assert ("pooled_norm" in names) == normed
    assert normed or names.index("max_pool2d_with_indices.default") < names.index("relu.default")
    assert not {"native_batch_norm.default", "native_batch_norm_backward.default"} & set(names)
    other, mine, theirs = images((4, 6, 7, 8)), [p.clone() for p in given], [p.clone() for p in given]
    found, expected = graph(other, *mine), step(pool)(other, *theirs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10 if normed else 0)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    "inner",
    [lambda y: pool(y) + y.relu().mean(), lambda y: F.max_pool2d(r := y.relu(), 2) + r.mean(), F.relu],
    ids=["norm read twice", "relu read twice", "no pooling"],
)
def test_what_something_else_reads_stays(inner: Callable[[Tensor], Tensor]) -> None:
    x, given = images((4, 6, 8, 8)), parameters(6, torch.float64, signs=False)
    graph = trace(step(inner), [x, *given])
    assert "native_batch_norm.default" in operations(graph)
    torch.testing.assert_close(graph(x, *given), step(inner)(x, *given), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "x", [images((4, 6, 8, 8)).contiguous(), images((4, 6, 8, 8)).bfloat16()], ids=["nchw", "half"]
)
def test_only_exact_images_that_lie_pixel_by_pixel_are_pooled_first(x: Tensor) -> None:
    given = parameters(6, x.dtype, signs=False)
    names = operations(trace(step(pool), [x, *given]))
    assert "pooled_norm" not in names
    assert names.index("relu.default") < names.index("max_pool2d_with_indices.default")


def test_a_norm_of_few_values_stays_and_only_relu_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bncli.engine.stages.LEAST_VALUES", LEAST_VALUES)
    x, given = images((4, 6, 8, 8)), parameters(6, torch.float64, signs=False)
    graph = trace(step(pool), [x, *given])
    names = operations(graph)
    assert names.index("native_batch_norm.default") < names.index("max_pool2d_with_indices.default")
    assert names.index("max_pool2d_with_indices.default") < names.index("relu.default")
    torch.testing.assert_close(graph(x, *given), step(pool)(x, *given), rtol=0, atol=0)
