"""Training batch norm by Triton against float64."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from interpreter import (
    DEVICE,
    assert_close,
    check_in_the_interpreter,
    drawn,
    in_float64,
    of_old_triton,
    parameters,
    passed,
    runs_here,
    starts_the_interpreter,
)
from torch import Tensor

from bncli.kernels import batch_norm as of_norms
from bncli.kernels.triton_launch import (
    LaunchPlan,
    MemoryLayout,
    choose_plan,
    launch_backward,
    launch_forward,
    layout,
    why_not,
)
from bncli.kernels.triton_norms import batch_norm, plain

SHAPES = {
    "images": (2, 3, 5, 7),
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

pytestmark = of_old_triton


@starts_the_interpreter
@pytest.mark.timeout(600)
def test_all_of_this_file_passes_in_the_interpreter():
    check_in_the_interpreter(__file__)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def running(channels, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    return torch.full((channels,), 0.5, dtype=dtype, device=DEVICE), torch.full((channels,), 2.0, device=DEVICE).to(
        dtype
    )


def true(x, gy, weight, bias) -> list[Tensor]:
    """Output, running statistics and gradients in float64 by torch's own."""
    inputs, averages = in_float64(x, weight, bias), running(x.shape[1], torch.float64)
    y, *gradients = passed(plain(inputs[0], *averages, *inputs[1:], 0.1, 1e-5), inputs, gy.double())
    return [y, *averages, *gradients]


def launched(x, gy, weight, bias, plan) -> list[Tensor]:
    averages = running(x.shape[1])
    y, saved = launch_forward(x, averages, weight, bias, 0.1, 1e-5, averages, plan)
    gx, *pair, _ = launch_backward(gy, x, weight, saved, plan)
    return [y, *averages, gx, *(pair if weight is not None else [])]


def by_autograd(kernel, x, gy, weight, bias) -> list[Tensor]:
    inputs = [t if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    averages = running(x.shape[1])
    y, *gradients = passed(kernel(inputs[0], *averages, *inputs[1:], 0.1, 1e-5), inputs, gy)
    return [y, *averages, *gradients]


@runs_here
@pytest.mark.parametrize(
    ("way", "name", "last", "dtype"),
    [
        *product(["single", "staged"], SHAPES, [False, True], [torch.float32]),
        *product(["single", "staged"], ["odd"], [False, True], [torch.bfloat16, torch.float16]),
        *product(["ordered"], ["images", "odd", "matrix"], [False, True], [torch.float32]),
    ],
)
def test_every_way_equals_float64(way, name, last, dtype):
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
@pytest.mark.parametrize("way", ["single", "staged"])
def test_without_affine_parameters(way):
    x, gy = drawn((2, 3, 5, 7)), drawn((2, 3, 5, 7))
    assert_close(launched(x, gy, None, None, SMALL[way](70, False)), true(x, gy, None, None), torch.float32)


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


def fused(kernel, x, gy, weight, bias, residual, relu) -> list[Tensor]:
    inputs = (x, weight, bias, residual)
    averages = running(x.shape[1], torch.float64 if x.dtype == torch.float64 else torch.float32)
    return passed(kernel(x, *averages, weight, bias, 0.1, 1e-5, residual, relu), inputs, gy)


@runs_here
@pytest.mark.parametrize(
    ("way", "added", "relu", "last", "dtype"),
    [
        *product(["single", "staged"], [False, True], [True], [False, True], [torch.float32]),
        *product(["single", "staged"], [True], [False, True], [True], [torch.bfloat16]),
    ],
)
def test_with_a_residual_and_relu_it_equals_float64(way, added, relu, last, dtype, monkeypatch):
    monkeypatch.setattr("bncli.kernels.triton_launch.choose_plan", lambda at, backward: SMALL[way](at.M, at.last))
    x, gy, residual = (drawn((3, 3, 3, 5), dtype, last) for _ in range(3))
    inputs = [x, *parameters(3), residual if added else None]
    expected = fused(plain, *insert(in_float64(*inputs), gy.double()), relu)
    found = fused(batch_norm, *insert([t if t is None else t.detach().requires_grad_() for t in inputs], gy), relu)
    assert (found[0].stride(), found[0].dtype) == (x.stride(), dtype)
    assert_close(found, expected, dtype)


def insert(inputs, gy) -> list[Tensor | None]:
    return [inputs[0], gy, *inputs[1:]]


@runs_here
def test_relu_and_residual_in_the_ordered_way(monkeypatch):
    monkeypatch.setattr("bncli.kernels.triton_launch.choose_plan", lambda at, backward: SMALL["ordered"](at.M, at.last))
    x, gy, residual = (drawn((3, 2, 3, 5)) for _ in range(3))
    inputs = [x, *parameters(2), residual]
    found = fused(batch_norm, *insert([t.requires_grad_() for t in inputs], gy), True)
    assert_close(found, fused(plain, *insert(in_float64(*inputs), gy.double()), True), torch.float32)


@runs_here
def test_relu_keeps_nan_and_its_channel_alone():
    x, gy = drawn((4, 3, 2, 2)).requires_grad_(), drawn((4, 3, 2, 2))
    expected = fused(batch_norm, x, gy, *parameters(3, affine=False), None, True)
    with torch.no_grad():
        x[1, 2, 0, 0] = torch.nan
    found = fused(batch_norm, x, gy, *parameters(3, affine=False), None, True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[:, :2], other[:, :2])
        assert one[:, 2].isnan().all()


@runs_here
def test_lanes_with_a_residual_and_relu_equal_one_at_a_time():
    x, gy, residual = (drawn((2, 6, 3, 4)) for _ in range(3))
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(3))
    inputs = [t.requires_grad_() for t in (x, weight, bias, residual)]

    def kernel(x, weight, bias, residual):
        return batch_norm(x, None, None, weight, bias, 0.1, 1e-5, residual, True)

    found = passed(torch.vmap(kernel)(*inputs), inputs, gy)
    alone = []
    for lane in range(2):
        of_lane = in_float64(*(t[lane] for t in inputs))
        y = plain(of_lane[0], None, None, of_lane[1], of_lane[2], 0.1, 1e-5, of_lane[3], True)
        alone.append(passed(y, of_lane, gy[lane].double()))
    assert_close(found, [torch.stack(t) for t in zip(*alone, strict=True)], torch.float32)


@runs_here
def test_impl_fast_takes_the_kernel_and_auto_does_not():
    x, seen = drawn((4, 3, 2, 2)), []
    for impl in ("fast", "auto", "plain"):
        y = of_norms.batch_norm(x.requires_grad_(), *running(3), *parameters(3), 0.1, 1e-5, impl)
        seen.append(type(y.grad_fn).__name__)
    assert seen[0] == "_TritonBatchNormBackward"
    assert all("Triton" not in name for name in seen[1:])


@runs_here
@every_way
@pytest.mark.parametrize("mean", [1e3, -1e4])
def test_a_large_mean_does_not_cancel(way, mean):
    x = drawn((4, 2, 4, 5), mean=mean, std=1.0)
    averages = running(2)
    y, saved = launch_forward(x, averages, None, None, 1.0, 1e-5, averages, SMALL[way](80, False))
    var = x.double().var((0, 2, 3))
    torch.testing.assert_close(averages[1].double(), var, rtol=1e-5, atol=0)
    torch.testing.assert_close(saved[1].double(), (var * 79 / 80 + 1e-5).rsqrt(), rtol=1e-5, atol=0)
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
    x, gy = drawn((2, 5, 5, 6), last=True), drawn((2, 5, 5, 6), last=True)
    once, again = (launched(x, gy, *parameters(5), SMALL[way](60, True)) for _ in range(2))
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
    x, residual = drawn((2, 2, 2, 2), last=True), drawn((2, 2, 2, 2))
    weight, bias = parameters(2)
    inputs = (
        x.requires_grad_(),
        *running(2),
        weight.requires_grad_(),
        bias.requires_grad_(),
        0.1,
        1e-5,
        residual,
        True,
    )
    torch.library.opcheck(torch.ops.bncli.triton_batch_norm, inputs)


def test_a_single_value_per_channel_is_refused_as_torch_does():
    with pytest.raises(ValueError, match=r"expected more than 1 value per channel when training, got input of shape"):
        batch_norm(torch.ones(1, 3, 1, 1), *[torch.ones(3)] * 4, 0.1, 1e-5)


@runs_here
def test_what_has_no_kernel_is_refused_with_the_reason():
    x = torch.ones(2, 2, dtype=torch.float64, device=DEVICE)
    assert why_not(x) == "it takes float32, bfloat16 and float16, not float64"


@pytest.mark.skipif(
    DEVICE == "cpu" and why_not(torch.ones(2, 2)) is None, reason="the interpreter takes tensors of the processor"
)
def test_a_tensor_of_the_processor_is_refused():
    assert why_not(torch.ones(2, 2)) == "it is for CUDA devices, not cpu"


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
