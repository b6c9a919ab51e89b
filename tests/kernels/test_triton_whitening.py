"""Whitening by Triton against its reference in float64."""

from functools import partial
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
from torch.func import functional_call, stack_module_state

from bncli.engine.trace import trace
from bncli.kernels import fallbacks_noted, triton_whitening
from bncli.kernels.triton_whitening import fast, newton_schulz_form, why_not
from bncli.kernels.whitening import plain
from bncli.norms import norm, roots

STEPS = 4
ROOTS = {  # with the closed form, and the type of the covariance
    "zca": (roots.inverse_root, roots.INVERSE_ROOT, torch.float64),
    "cholesky": (roots.inverse_cholesky, roots.INVERSE_CHOLESKY, torch.float64),
    "iternorm": (partial(roots.newton_schulz, T=STEPS), None, torch.float32),
}
SHAPES = {  # with the channels of a group
    "images": ((6, 4, 5, 7), 2),
    "matrix": ((40, 6), 3),
    "filled up": ((9, 5, 3, 4), 3),
    "one channel": ((6, 1, 3, 3), 1),
    "one sample": ((1, 4, 30), 4),
    "volumes": ((5, 2, 2, 3, 4), 2),
}
every_root = pytest.mark.parametrize("name", ROOTS)

pytestmark = of_old_triton


@starts_the_interpreter
@pytest.mark.timeout(600)
def test_all_of_this_file_passes_in_the_interpreter():
    check_in_the_interpreter(__file__)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def correlated(shape, dtype=torch.float32, last=False, mean=1.0):
    x = drawn(shape, torch.float64, mean=mean)
    x = (x + 0.5 * x.roll(1, 1)).to(dtype)
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


def of_root(name):
    root, closed, dtype = ROOTS[name]
    return root, closed or newton_schulz_form(STEPS, roots.newton_schulz_form(STEPS)), dtype


def identities(channels, d, dtype):
    return torch.eye(d, dtype=dtype, device=DEVICE).repeat(-(-channels // d), 1, 1)


def whitened(name, x, weight, bias, gy, d=2, truly=False):
    """Output, gradients, mean and S; those of the reference in float64 if `truly`."""
    root, closed, dtype = of_root(name)
    inputs = (
        in_float64(x, weight, bias)
        if truly
        else [t if t is None else t.detach().requires_grad_() for t in (x, weight, bias)]
    )
    arguments = (*inputs, identities(x.shape[1], d, torch.float64 if truly else dtype), 1e-3, root)
    y, mean, S = plain(*arguments) if truly else fast(*arguments, closed)
    return [*passed(y, inputs, gy.to(y.dtype)), mean.detach(), S.detach()]


@runs_here
@pytest.mark.parametrize(
    ("shape", "last", "dtype", "name"),
    [
        *product(SHAPES, [False, True], [torch.float32], ["iternorm"]),
        *product(["images", "filled up"], [False, True], [torch.float32], ["zca", "cholesky"]),
        *product(["images", "matrix"], [False], [torch.bfloat16, torch.float16], ["iternorm"]),
    ],
)
def test_it_equals_float64(shape, last, dtype, name):
    size, d = SHAPES[shape]
    x, gy = correlated(size, dtype, last), drawn(size, dtype, last)
    pair = parameters(size[1]) if size[1] > 1 else [torch.full((1,), p, device=DEVICE) for p in (0.5, 0.2)]
    found, expected = (whitened(name, x, *pair, gy, d, truly) for truly in (False, True))
    assert (found[0].stride(), found[0].dtype, found[4].dtype) == (x.stride(), dtype, dtype)
    # of one channel, and of one sample's S, little is left of a gradient
    factor = 20 if "one" in shape else 3
    assert_close(found, expected, dtype, factor)


@runs_here
@pytest.mark.parametrize("kept", [(), (0,), (1,)], ids=["neither", "weight", "bias"])
def test_without_all_parameters(kept):
    x, gy = correlated((12, 4, 3)), drawn((12, 4, 3))
    pair = [p if k in kept else None for k, p in enumerate(parameters(4))]
    found, expected = (whitened("zca", x, *pair, gy, truly=truly) for truly in (False, True))
    assert_close(found, expected, torch.float32, factor=3)


@runs_here
def test_many_chunks_of_tiles(monkeypatch):
    monkeypatch.setattr(triton_whitening, "_WIDTHS", 16 * 6)  # three programs for each of two groups
    x, gy = correlated((40, 4, 9)), drawn((40, 4, 9))
    found, expected = (whitened("iternorm", x, *parameters(4), gy, truly=truly) for truly in (False, True))
    assert_close(found, expected, torch.float32, factor=3)


@runs_here
def test_groups_of_sixty_four():
    x, gy = correlated((160, 70)), drawn((160, 70))
    found, expected = (whitened("iternorm", x, *parameters(70), gy, 64, truly) for truly in (False, True))
    assert_close(found, expected, torch.float32, factor=10)


@runs_here
@every_root
@pytest.mark.parametrize("mean", [1e3, -1e4])
def test_a_large_mean_does_not_cancel(name, mean):
    x, gy = correlated((30, 4, 6), mean=mean), drawn((30, 4, 6))
    found, expected = (whitened(name, x, *parameters(4), gy, truly=truly) for truly in (False, True))
    # y moves by as much as its mean is rounded
    assert_close(found, expected, torch.float32, factor=max(3, abs(mean) / 5))
    assert_close(found[-1:], expected[-1:], torch.float32, factor=3)


@runs_here
def test_first_values_unlike_the_rest_cost_little_precision():
    x, gy = correlated((300, 2)), drawn((300, 2))
    x[:128, 0] += 1e4
    found, expected = (whitened("iternorm", x, None, None, gy, truly=truly)[-1] for truly in (False, True))
    assert_close([found], [expected], torch.float32, factor=3)


@runs_here
@every_root
def test_a_group_that_is_not_finite_stays_alone(name):
    x, gy = correlated((9, 4, 5)), drawn((9, 4, 5))
    expected = whitened(name, x, None, None, gy)
    x[1, 1, 1] = torch.nan
    found = whitened(name, x, None, None, gy)
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(one[:, 2:], other[:, 2:])
        assert not one[:, :2].isfinite().all()


@runs_here
def test_two_calls_give_equal_bits():
    x, gy = correlated((20, 4, 9), last=True), drawn((20, 4, 9))
    once, again = (whitened("iternorm", x, *parameters(4), gy) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@runs_here
@every_root
def test_the_gradient_is_differentiated_as_the_reference_is(name):
    root, closed, dtype = of_root(name)

    def twice(kernel, x, weight, bias, dtype, *more):
        y = kernel(x, weight, bias, identities(4, 2, dtype), 1e-3, root, *more)[0]
        (g,) = torch.autograd.grad((y * y.detach().sin()).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, weight))

    inputs = (correlated((9, 4, 3)), *parameters(4))
    found = twice(fast, *[t.requires_grad_() for t in inputs], dtype, closed)
    assert_close(found, twice(plain, *in_float64(*inputs), torch.float64), torch.float32, factor=100)


@runs_here
@every_root
@pytest.mark.parametrize("channels", [4, 5], ids=["whole groups", "a group filled up"])
def test_lanes_equal_one_at_a_time(name, channels):
    x, gy = (torch.stack([correlated((12, channels, 3)), drawn((12, channels, 3))]) for _ in range(2))
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(channels))
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    root, closed, dtype = of_root(name)
    identity = identities(channels, 2, dtype)
    y, mean, S = torch.vmap(lambda *lane: fast(*lane, identity, 1e-3, root, closed))(*inputs)
    found = [*passed(y, inputs, gy), mean, S]
    alone = [whitened(name, x[s], weight[s], bias[s], gy[s], truly=True) for s in range(2)]
    assert_close(found, [torch.stack(t) for t in zip(*alone, strict=True)], torch.float32, factor=3)


@runs_here
def test_gradients_within_lanes_equal_one_at_a_time():
    x, gy = (torch.stack([correlated((12, 4)), drawn((12, 4))]) for _ in range(2))
    weight, bias = (torch.stack([p, p + 1]) for p in parameters(4))
    root, closed, dtype = of_root("iternorm")

    def loss(x, weight, bias, gy):
        y = fast(x, weight, bias, identities(4, 2, dtype), 1e-3, root, closed)[0]
        return (y * gy).sum(), y

    gradients, y = torch.vmap(torch.func.grad(loss, argnums=(0, 1, 2), has_aux=True))(x, weight, bias, gy)
    alone = [whitened("iternorm", x[s], weight[s], bias[s], gy[s], truly=True)[:4] for s in range(2)]
    assert_close([y, *gradients], [torch.stack(t) for t in zip(*alone, strict=True)], torch.float32, factor=10)


@runs_here
def test_the_operations_pass_the_checks_of_torch():
    x, shift, A = drawn((6, 4, 3), last=True), drawn((4,)), drawn((2, 2, 2))
    torch.library.opcheck(torch.ops.bncli.triton_group_products, (None, x, shift, 2, 1))
    torch.library.opcheck(torch.ops.bncli.triton_group_products, (x, x, shift, 2, 1))
    torch.library.opcheck(torch.ops.bncli.triton_group_apply, (x, shift, A, None, None, None, shift, 1))
    torch.library.opcheck(torch.ops.bncli.triton_group_apply, (x, shift, A, x, shift, A, None, 1))


@runs_here
@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_impl_fast_is_the_norm_itself(name, dtype, monkeypatch):
    calls = []
    monkeypatch.setattr(triton_whitening, "fast", lambda *given: calls.append(1) or fast(*given))
    x, gy = correlated((40, 6, 2), dtype), drawn((40, 6, 2), dtype)
    found = {}
    for impl in ("fast", "plain"):
        module = norm(name, 6, impl=impl, group_size=4).to(DEVICE)
        given = x.clone().requires_grad_()
        if impl == "plain":
            module, given = module.double(), x.double().requires_grad_()
        y = module(given)
        found[impl] = [
            *passed(y, [given, *module.parameters()], gy.to(y.dtype)),
            module.running_mean,
            module.running_cov,
        ]
    assert found["fast"][0].dtype == dtype
    assert_close(found["fast"], found["plain"], dtype, factor=4)
    assert calls == [1]


@runs_here
def test_what_the_kernels_cannot_take_is_said(monkeypatch):
    monkeypatch.setattr("bncli.kernels.whitening.is_possible", lambda x: False)  # as on a GPU
    found = []
    with fallbacks_noted(found):
        norm("iternorm", 80, group_size=80, impl="fast").to(DEVICE)(drawn((90, 80)))
        norm("zca", 4, impl="fast").to(DEVICE)(drawn((9, 4)))
        norm("iternorm", 4, form="paper", impl="fast").to(DEVICE)(drawn((9, 4)))
    start = "whitening takes its plain version, not the fast one that impl: fast asks for: "
    assert [line.removeprefix(start) for line in found] == [
        "it takes groups of at most 64 channels, not 80",
        "with up to 8 values for each channel of a group it is computed in double precision",
        "this root has no closed form",
    ]


def test_groups_that_are_too_large_are_refused():
    closed = roots.INVERSE_ROOT
    assert why_not(torch.ones(2, 2), torch.empty(1, 65, 65), closed) == "it takes groups of at most 64 channels, not 65"


@runs_here
@pytest.mark.parametrize("name", ["batch", "layer", "rms", "group", "iternorm", "zca"])
def test_a_traced_step_of_lanes_keeps_the_kernels(name):
    options = {"group": {"groups": 1}, "iternorm": {"group_size": 3}, "zca": {"group_size": 1}}.get(name, {})
    modules = [norm(name, 3, impl="fast", **options).to(DEVICE) for _ in range(2)]
    parameters, buffers = stack_module_state(modules)
    x, gy = drawn((2, 9, 3)), drawn((2, 9, 3))

    def step(x, *tensors):
        learned = {key: t.detach().requires_grad_() for key, t in zip(parameters, tensors, strict=False)}
        running = dict(zip(buffers, tensors[len(learned) :], strict=True))
        y = torch.vmap(lambda p, b, x: functional_call(modules[0], (p, b), (x,)))(learned, running, x)
        gradients = torch.autograd.grad((y * gy).sum(), list(learned.values()))
        return torch.stack([g.sum() for g in gradients])

    tensors = [t.detach().clone() for t in (*parameters.values(), *buffers.values())]
    operations = trace(step, [x, *tensors])
    assert any("triton" in str(node.target) for node in operations.graph.nodes)
    other, again = drawn((2, 9, 3)), [t.clone() for t in tensors]
    assert torch.equal(operations(other, *tensors), step(other, *again))
    assert all(torch.equal(a, b) for a, b in zip(tensors, again, strict=True))
