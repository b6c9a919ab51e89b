"""Layer, group and RMS normalisation by Triton against their reference in float64."""

from itertools import product

import pytest
import torch
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

from bncli.kernels import fallbacks_noted, triton_group_norm
from bncli.kernels.triton_group_norm import group_norm, plain
from bncli.norms import norm

SHAPES = {  # with the number of groups
    "images": ((2, 4, 3, 3), 2),
    "one group": ((3, 4, 3, 3), 1),
    "one channel": ((4, 1, 3, 3), 1),
    "one sample": ((1, 6, 4), 2),
    "matrix": ((7, 10), 2),
    "volumes": ((2, 4, 2, 1, 3), 4),
}
KINDS = {"sums": True, "squares": False}  # with and without centring

pytestmark = of_old_triton


@starts_the_interpreter
@pytest.mark.timeout(600)
def test_all_of_this_file_passes_in_the_interpreter():
    check_in_the_interpreter(__file__)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["one reading", "in tiles"])
def reading(request, monkeypatch):
    """The two ways of a row, on rows as short as those of these tests."""
    if request.param == "in tiles":
        monkeypatch.setattr(triton_group_norm, "_LARGEST_SINGLE", 1)
        monkeypatch.setattr(triton_group_norm, "_BLOCK", 8)


def called(kernel, x, groups, weight, bias, gy, centred=True):
    inputs = (x, weight, bias)
    return passed(kernel(x, groups, weight, bias, 1e-5, centred), inputs, gy)


def leaves(*tensors):
    return [t if t is None else t.detach().requires_grad_() for t in tensors]


@runs_here
@pytest.mark.parametrize(
    ("name", "last", "dtype", "centred"),
    [
        *product(SHAPES, [False, True], [torch.float32], [True]),
        *product(["images", "matrix"], [False, True], [torch.bfloat16, torch.float16], [True]),
        *product(["images", "matrix"], [False, True], [torch.float32], [False]),
    ],
)
def test_either_reading_equals_float64(name, last, dtype, centred, reading):
    shape, groups = SHAPES[name]
    x, gy = drawn(shape, dtype, last), drawn(shape, dtype, last, mean=0.5)
    weight, bias = parameters(shape[1]) if shape[1] > 1 else (torch.full((1,), p, device=DEVICE) for p in (0.5, 0.2))
    found = called(group_norm, *leaves(x), groups, *leaves(weight, bias), gy, centred)
    x, weight, bias = in_float64(x, weight, bias)
    assert_close(found, called(plain, x, groups, weight, bias, gy.double(), centred), dtype)


@runs_here
def test_memory_format_and_dtype_stay():
    for last, dtype in product([False, True], [torch.float32, torch.bfloat16]):
        x = drawn((2, 6, 3, 5), dtype, last)
        y = group_norm(x, 3, *parameters(6), 1e-5)
        assert (y.stride(), y.dtype) == (x.stride(), dtype)


@runs_here
@pytest.mark.parametrize("kept", [(), (0,), (1,)], ids=["neither", "weight", "bias"])
def test_without_all_parameters(kept):
    x, gy = drawn((2, 6, 3, 5)), drawn((2, 6, 3, 5))
    pair = [p if k in kept else None for k, p in enumerate(parameters(6))]
    found = called(group_norm, *leaves(x), 2, *leaves(*pair), gy)
    x, *pair = in_float64(x, *pair)
    assert_close(found, called(plain, x, 2, *pair, gy.double()), torch.float32)


@runs_here
@pytest.mark.parametrize("mean", [1e3, -1e4])
def test_a_large_mean_does_not_cancel(mean, reading):
    x = drawn((3, 4, 6), mean=mean, std=1.0)
    expected = plain(x.double(), 2, None, None, 1e-5)
    assert float((group_norm(x, 2, None, None, 1e-5).double() - expected).abs().max()) < 2 * abs(mean) * 2**-24


@runs_here
def test_a_group_that_is_not_finite_stays_alone(reading):
    x = drawn((2, 6, 3))
    expected = group_norm(x, 3, None, None, 1e-5)
    x[1, 3, 1] = torch.nan
    y = group_norm(x, 3, None, None, 1e-5)
    assert torch.equal(y[0], expected[0])
    assert torch.equal(y[1, [0, 1, 4, 5]], expected[1, [0, 1, 4, 5]])
    assert y[1, 2:4].isnan().all()


@runs_here
def test_a_constant_group_is_the_bias(reading):
    y = group_norm(torch.full((2, 4, 3), 7.3, device=DEVICE), 2, *parameters(4), 1e-5)
    assert float((y - parameters(4)[1].view(4, 1)).abs().max()) < 1e-3


@runs_here
def test_two_calls_give_equal_bits(reading):
    x, gy = drawn((2, 4, 3, 3), last=True), drawn((2, 4, 3, 3), last=True)
    once, again = (called(group_norm, *leaves(x), 2, *leaves(*parameters(4)), gy) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@runs_here
def test_the_gradient_can_be_differentiated():
    def twice(kernel, x, weight, bias):
        y = kernel(x, 2, weight, bias, 1e-5, True)
        (g,) = torch.autograd.grad((y * y.detach().sin()).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, weight))

    inputs = (drawn((2, 4, 3)), *parameters(4))
    assert_close(twice(group_norm, *leaves(*inputs)), twice(plain, *in_float64(*inputs)), torch.float32, factor=100)


def in_lanes(x, weight, bias, gy):
    """Each lane's output and gradients, in float64 by the reference."""
    alone = []
    for lane in range(len(x)):
        one = in_float64(x[lane], weight[lane], bias[lane])
        alone.append(called(plain, one[0], 2, one[1], one[2], gy[lane].double()))
    return [torch.stack(t) for t in zip(*alone, strict=True)]


@runs_here
@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 2, 6, 3, 2)], ids=["matrices", "images"])
def test_lanes_equal_one_at_a_time(shape):
    x, gy = drawn(shape), drawn(shape)
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(6))
    inputs = leaves(x, weight, bias)
    y = torch.vmap(lambda x, weight, bias: group_norm(x, 2, weight, bias, 1e-5))(*inputs)
    assert_close(passed(y, inputs, gy), in_lanes(x, weight, bias, gy), torch.float32)


@runs_here
def test_gradients_within_lanes_equal_one_at_a_time():
    x, gy = drawn((2, 3, 6)), drawn((2, 3, 6))
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(6))

    def loss(x, weight, bias, gy):
        y = group_norm(x, 2, weight, bias, 1e-5)
        return (y * gy).sum(), y

    gradients, y = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True))(x, weight, bias, gy)
    assert_close([y, *gradients], in_lanes(x, weight, bias, gy), torch.float32)


@runs_here
def test_the_compiler_keeps_the_kernel():
    seen = []

    def backend(graph, inputs):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(lambda *inputs: group_norm(*inputs) * 1.0, backend=backend, fullgraph=True)
    x, gy, pair = drawn((2, 4, 3)), drawn((2, 4, 3)), parameters(4)
    inputs = leaves(x, *pair)
    found = passed(compiled(inputs[0], 2, inputs[1], inputs[2], 1e-5), inputs, gy)
    x, *pair = in_float64(x, *pair)
    assert_close(found, called(plain, x, 2, *pair, gy.double()), torch.float32)
    assert any("triton_group_norm" in name for name in seen)


@runs_here
def test_the_operations_pass_the_checks_of_torch():
    x, (weight, bias) = drawn((2, 4, 2), last=True).requires_grad_(), leaves(*parameters(4))
    torch.library.opcheck(torch.ops.bncli.triton_group_norm, (x, 2, weight, bias, 1e-5, True))
    _, saved = torch.ops.bncli.triton_group_norm(x, 2, weight, bias, 1e-5, True)
    torch.library.opcheck(
        torch.ops.bncli.triton_group_norm_backward, (x.detach(), x.detach(), 2, weight.detach(), saved, True, True)
    )


NORMS = {
    "layer": ({}, (3, 4, 2, 5)),
    "layer, channels": ({"over": "channels"}, (3, 4, 2, 5)),
    "layer, last": ({"over": "last"}, (3, 2, 4)),
    "rms": ({}, (3, 4, 2, 5)),
    "rms, channels": ({"over": "channels"}, (3, 4, 2, 5)),
    "rms, last": ({"over": "last"}, (3, 2, 4)),
    "group": ({"groups": 2}, (3, 4, 2, 5)),
}


@runs_here
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_impl_fast_is_the_norm_itself(name, dtype, monkeypatch):
    calls = []
    launched = triton_group_norm.group_norm
    monkeypatch.setattr(
        triton_group_norm, "group_norm", lambda *given, **more: calls.append(1) or launched(*given, **more)
    )
    options, shape = NORMS[name]
    x, gy = drawn(shape, dtype), drawn(shape, dtype)
    found = {}
    for impl in ("fast", "auto"):
        module = norm(name.partition(",")[0], 4, impl=impl, **options).to(DEVICE)
        with torch.no_grad():
            module.weight += torch.linspace(0, 1, 4, device=DEVICE)
        one = x.double() if impl == "auto" else x
        inputs = leaves(one, *module.double().parameters()) if impl == "auto" else leaves(x, *module.parameters())
        names = [key for key, _ in module.named_parameters()]
        y = torch.func.functional_call(module, dict(zip(names, inputs[1:], strict=True)), (inputs[0],))
        found[impl] = passed(y, inputs, gy.to(one.dtype))
    assert found["fast"][0].dtype == dtype
    assert_close(found["fast"], found["auto"], dtype, factor=2)
    assert calls == [1]


@runs_here
def test_what_the_kernel_cannot_take_is_said():
    found = []
    with fallbacks_noted(found):
        y = norm("layer", 4, impl="fast").double().to(DEVICE)(torch.randn(3, 4, dtype=torch.float64, device=DEVICE))
    assert y.dtype == torch.float64
    assert found == [
        "layer normalisation takes its plain version, not the fast one that impl: fast asks for: it takes float32, "
        "bfloat16 and float16, not float64"
    ]


def test_the_reference_equals_torch():
    x, (weight, bias) = torch.randn(3, 6, 4, 2), (torch.linspace(0.5, 2, 6), torch.linspace(-1, 1, 6))
    torch.testing.assert_close(
        plain(x, 2, weight, bias, 1e-5), torch.nn.functional.group_norm(x, 2, weight, bias, 1e-5)
    )
    expected = torch.nn.functional.rms_norm(x, (6, 4, 2), eps=1e-6) * weight.view(6, 1, 1)
    torch.testing.assert_close(plain(x, 1, weight, None, 1e-6, centred=False), expected)


def test_on_the_processor_impl_fast_says_that_it_is_for_gpus():
    if triton_group_norm.why_not(torch.ones(3, 4)) is None:
        pytest.skip("the interpreter takes tensors of the processor")
    found = []
    with fallbacks_noted(found):
        for name, options in (("layer", {}), ("rms", {}), ("group", {"groups": 2})):
            x = torch.randn(3, 4)
            assert torch.equal(norm(name, 4, impl="fast", **options)(x), norm(name, 4, **options)(x))
    assert [line.partition(" takes")[0] for line in found] == [
        "layer normalisation", "RMS normalisation", "group normalisation",
    ]  # fmt: skip
    assert all(line.endswith("it is for CUDA devices, not cpu") for line in found)
