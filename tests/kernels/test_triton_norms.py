"""The Triton kernels against float64: on a GPU, or on the processor by Triton's interpreter in a process of its own."""

import importlib.util
import math
import os
import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bncli.kernels.triton_launch import (
    LaunchPlan,
    MemoryLayout,
    choose_plan,
    launch_backward,
    launch_forward,
    layout,
    why_not,
)
from bncli.kernels.triton_norms import batch_norm

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
HAS_TRITON = importlib.util.find_spec("triton") is not None

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
runs_here = pytest.mark.skipif(
    not HAS_TRITON or not (INTERPRETED or torch.cuda.is_available()),
    reason="no Triton" if not HAS_TRITON else "runs in the interpreter's process, by the first test of this file",
)

# Of ||found - true|| / ||true||: sums in float32, and the rounding of what is written.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 5e-4}

SHAPES = {
    "images": (3, 6, 5, 7),
    "odd": (5, 3, 3, 3),
    "one channel": (4, 1, 6, 6),
    "one sample": (1, 5, 4, 7),
    "matrix": (37, 5),
    "rows": (4, 5, 9),
    "volumes": (2, 3, 2, 3, 4),
    "one location": (7, 5, 1, 1),
}
SMALL = {
    "single": lambda M, last: LaunchPlan("single", max(1, 1 << (M - 1).bit_length()), 4 if last else 1, 1, 1),
    "staged": lambda M, last: LaunchPlan("staged", 16, 4 if last else 1, 2, 1),
    "ordered": lambda M, last: LaunchPlan("ordered", 16, 4 if last else 1, 2, 1, 2),
}

every_way = pytest.mark.parametrize("way", SMALL)


@needs_triton
@pytest.mark.skipif(INTERPRETED or torch.cuda.is_available(), reason="the tests run in this very process")
@pytest.mark.timeout(600)
def test_all_of_this_file_passes_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def drawn(shape, dtype=torch.float32, last=False, mean=1.0, std=3.0) -> Tensor:
    x = (torch.randn(shape, dtype=torch.float64) * std + mean).to(dtype).to(DEVICE)
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def parameters(channels, affine=True, dtype=torch.float32) -> list[Tensor | None]:
    ends = [(0.5, 2.0), (-1.0, 1.0)]
    return [torch.linspace(*end, channels, dtype=dtype, device=DEVICE) if affine else None for end in ends]


def running(channels, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    return torch.full((channels,), 0.5, dtype=dtype, device=DEVICE), torch.full((channels,), 2.0, device=DEVICE).to(
        dtype
    )


def true(x, gy, weight, bias) -> list[Tensor]:
    """Output, running statistics and gradients in float64 by torch's own."""
    x, *pair = [t if t is None else t.detach().double().requires_grad_() for t in (x, weight, bias)]
    averages = running(x.shape[1], torch.float64)
    y = F.batch_norm(x, *averages, *pair, True, 0.1, 1e-5)
    return [y.detach(), *averages, *torch.autograd.grad(y, [x, *filter(lambda p: p is not None, pair)], gy.double())]


def launched(x, gy, weight, bias, plan) -> list[Tensor]:
    averages = running(x.shape[1])
    y, saved = launch_forward(x, averages, weight, bias, 0.1, 1e-5, averages, plan)
    gx, *pair = launch_backward(gy, x, weight, saved, plan)
    return [y, *averages, gx, *(pair if weight is not None else [])]


def by_autograd(kernel, x, gy, weight, bias) -> list[Tensor]:
    x, *pair = [t if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    averages = running(x.shape[1])
    y = kernel(x, *averages, *pair, 0.1, 1e-5)
    return [y.detach(), *averages, *torch.autograd.grad(y, [x, *filter(lambda p: p is not None, pair)], gy)]


def assert_close(found, expected, dtype, factor=1.0) -> None:
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        error = float((one.detach().double() - other).norm() / other.norm())
        assert error <= TOLERANCES[dtype] * factor, f"tensor {k}: {error}"


@runs_here
@every_way
@pytest.mark.parametrize(
    ("name", "last", "dtype"),
    [
        *product(SHAPES, [False, True], [torch.float32]),
        *product(["images", "odd"], [False, True], [torch.bfloat16, torch.float16]),
    ],
)
def test_every_way_equals_float64(name, last, dtype, way):
    x, gy = drawn(SHAPES[name], dtype, last), drawn(SHAPES[name], dtype, last, mean=0.1)
    _, at = layout(x)
    weight, bias = parameters(at.C)
    found = launched(x, gy, weight, bias, SMALL[way](at.M, at.last))
    assert_close(found, true(x, gy, weight, bias), dtype)


@runs_here
@pytest.mark.parametrize("last", [False, True])
def test_the_public_function_keeps_memory_format_and_dtype(last):
    x, gy = drawn((4, 6, 5, 4), torch.bfloat16, last), drawn((4, 6, 5, 4), torch.bfloat16)
    found = by_autograd(batch_norm, x, gy, *parameters(6))
    assert_close(found, true(x, gy, *parameters(6)), torch.bfloat16)
    assert (found[0].stride(), found[0].dtype) == (x.stride(), x.dtype)


@runs_here
@every_way
def test_without_affine_parameters(way):
    x, gy = drawn((3, 6, 5, 7)), drawn((3, 6, 5, 7))
    assert_close(launched(x, gy, None, None, SMALL[way](105, False)), true(x, gy, None, None), torch.float32)


@runs_here
@pytest.mark.parametrize("kept", [0, 1], ids=["weight", "bias"])
def test_with_one_of_weight_and_bias(kept):
    x, gy = drawn((3, 6, 5, 7)), drawn((3, 6, 5, 7))
    pair = [p if k == kept else None for k, p in enumerate(parameters(6))]
    assert_close(by_autograd(batch_norm, x, gy, *pair), true(x, gy, *pair), torch.float32)


@runs_here
def test_parameters_and_averages_in_half_precision():
    x, gy = drawn((3, 6, 5, 7), torch.bfloat16), drawn((3, 6, 5, 7), torch.bfloat16)
    pair = parameters(6, dtype=torch.bfloat16)
    averages = running(6, torch.bfloat16)
    y = batch_norm(x, *averages, *[p.requires_grad_() for p in pair], 0.1, 1e-5)
    found = [y, *averages, *torch.autograd.grad(y, pair, gy)]
    expected = true(x, gy, *pair)
    assert_close(found, expected[:3] + expected[4:], torch.bfloat16)
    assert [t.dtype for t in found] == [torch.bfloat16] * 5


@runs_here
@every_way
@pytest.mark.parametrize("mean", [1e3, -1e4])
def test_a_large_mean_does_not_cancel(way, mean):
    x = drawn((4, 3, 6, 6), mean=mean, std=1.0)
    averages = running(3)
    y, saved = launch_forward(x, averages, None, None, 1.0, 1e-5, averages, SMALL[way](144, False))
    var = x.double().var((0, 2, 3))
    torch.testing.assert_close(averages[1].double(), var, rtol=1e-5, atol=0)
    torch.testing.assert_close(saved[1].double(), (var * 143 / 144 + 1e-5).rsqrt(), rtol=1e-5, atol=0)
    expected = F.batch_norm(x.double(), None, None, training=True)
    assert float((y.double() - expected).abs().max()) < 2 * abs(mean) * 2**-24


@runs_here
@every_way
def test_a_first_tile_unlike_the_rest_costs_little_precision(way):
    x = drawn((16, 1, 4, 4), std=1.0)
    x[0] = 1e4  # the tile whose mean the sums are taken around
    averages = running(1)
    launch_forward(x, averages, None, None, 1.0, 1e-5, averages, SMALL[way](256, False))
    torch.testing.assert_close(averages[1].double(), x.double().var((0, 2, 3)), rtol=1e-5, atol=0)


@runs_here
@every_way
def test_two_calls_give_equal_bits(way):
    x, gy = drawn((3, 5, 6, 6), last=True), drawn((3, 5, 6, 6), last=True)
    once, again = (launched(x, gy, *parameters(5), SMALL[way](108, True)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@runs_here
def test_running_statistics_are_updated_in_place_and_known_to_autograd():
    averages = running(6)
    versions = [t._version for t in averages]
    batch_norm(drawn((3, 6, 5, 7)), *averages, *parameters(6), 0.1, 1e-5)
    assert [t._version for t in averages] == [v + 1 for v in versions]


@runs_here
def test_neither_contiguous_nor_channels_last_is_copied():
    x, gy = drawn((3, 6, 5, 7)).transpose(2, 3), drawn((3, 6, 7, 5))
    assert_close(by_autograd(batch_norm, x, gy, *parameters(6)), true(x, gy, *parameters(6)), torch.float32)


@runs_here
def test_the_gradient_can_be_differentiated():
    x = drawn((4, 3, 2, 2)).requires_grad_()
    weight, bias = (p.requires_grad_() for p in parameters(3))

    def twice(kernel, *inputs):
        y = kernel(inputs[0], *running(3, inputs[0].dtype), *inputs[1:], 0.1, 1e-5)
        (g,) = torch.autograd.grad((y * y.detach().sin()).sum(), inputs[0], create_graph=True)
        return torch.autograd.grad(g.square().sum(), inputs[:2])

    def reference(x, mean, var, weight, bias, momentum, eps):
        return F.batch_norm(x, mean, var, weight, bias, True, momentum, eps)

    expected = twice(reference, *(t.detach().double().requires_grad_() for t in (x, weight, bias)))
    assert_close(twice(batch_norm, x, weight, bias), expected, torch.float32, factor=100)


@runs_here
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 4, 3, 3, 2)], ids=["matrices", "images"])
def test_lanes_equal_one_at_a_time(shape):
    x, gy = drawn(shape), drawn(shape)
    C = shape[2]
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(C))

    def step(x, gy, mean, var, weight, bias):
        def loss(x, weight, bias, mean, var):
            y = batch_norm(x, mean, var, weight, bias, 0.1, 1e-5)
            return (y * gy).sum(), y

        gradients, y = torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True)(x, weight, bias, mean, var)
        return y, mean, var, *gradients

    averages = [torch.stack([t, t]) for t in running(C)]
    found = torch.func.vmap(step)(x, gy, *averages, weight, bias)
    alone = [true(x[s], gy[s], weight[s], bias[s]) for s in range(2)]
    assert_close(found, [torch.stack(t) for t in zip(*alone, strict=True)], torch.float32)


@runs_here
def test_the_compiler_keeps_the_kernels():
    seen = []

    def backend(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    x, gy = drawn((3, 6, 5, 7)), drawn((3, 6, 5, 7))

    def kernel(*inputs):
        return batch_norm(*inputs) * 1.0

    compiled = torch.compile(kernel, backend=backend, fullgraph=True)
    assert_close(by_autograd(compiled, x, gy, *parameters(6)), true(x, gy, *parameters(6)), torch.float32)
    assert any("triton_batch_norm" in name for name in seen)


@runs_here
def test_the_operations_pass_the_checks_of_torch():
    x = drawn((3, 4, 3, 2), last=True)
    weight, bias = parameters(4)
    inputs = (x.requires_grad_(), *running(4), weight.requires_grad_(), bias.requires_grad_(), 0.1, 1e-5)
    torch.library.opcheck(torch.ops.bncli.triton_batch_norm, inputs)


def test_a_single_value_per_channel_is_refused_as_torch_does():
    with pytest.raises(ValueError, match=r"expected more than 1 value per channel when training, got input of shape"):
        batch_norm(torch.ones(1, 3, 1, 1), *[torch.ones(3)] * 4, 0.1, 1e-5)


def test_what_has_no_kernel_is_refused_with_the_reason():
    assert why_not(torch.ones(2, 2, dtype=torch.float64)) in (
        "no kernel for float64",
        "triton is not installed",
    )


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_every_plan_covers_its_input(last, backward):
    for M, C, size in product((2, 60, 3136, 12544, 200704, 802816, 2**29), (1, 3, 64, 2048), (2, 4)):
        at = MemoryLayout(M, C, 1 if last else 2, last, size)
        plan = choose_plan(at, backward)
        chunks = math.ceil(M / (plan.rows * plan.tiles))
        assert all(n & (n - 1) == 0 for n in (plan.rows, plan.channels, plan.warps))
        assert (plan.rows >= M) if plan.way == "single" else (chunks <= 256)
        assert plan.rows * plan.channels <= 2**14
