"""What the norms per sample and those that are an activation keep in every number format, layout and under the compiler."""

import pytest
import torch

from bncli.norms import NORMS, norm

SMALL = {"group_size": 4, "groups": 2}
NAMES = [name for name, row in NORMS.items() if row.family in ("sample", "activation")]
HALVES = [torch.bfloat16, torch.float16]

every_norm = pytest.mark.parametrize("name", NAMES)


def build(name):
    return norm(name, 6, **{key: value for key, value in SMALL.items() if key in NORMS[name].options})


@every_norm
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_in_and_out_is_single_inside(name, dtype, training):
    x = torch.randn(4, 6, 5).to(dtype)
    module = build(name).train(training)
    expected = build(name).train(training)(x.float())
    y = module(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected.to(dtype))


@every_norm
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_module_in_half_precision_trains(name, dtype):
    x = torch.randn(4, 6, 5).to(dtype).requires_grad_()
    y = build(name).to(dtype)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype


@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(name, dtype):
    x = torch.randn(4, 6, 5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = build(name)(x)
    assert torch.equal(y, build(name)(x))


@every_norm
def test_nan_in_is_nan_out(name):
    x = torch.randn(4, 6, 5)
    x[1, 2, 3] = torch.nan
    assert build(name)(x)[1, 2, 3].isnan()


@every_norm
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
def test_the_compiler_finds_one_graph_that_does_the_same(name):
    x, weights = torch.randn(2, 4, 6, 5)
    plain, compiled = build(name), build(name)
    found = []
    for module, run in ((plain, plain), (compiled, torch.compile(compiled, fullgraph=True, backend="eager"))):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        (y * weights).sum().backward()
        found.append([y, leaf.grad, *module.buffers()])
    torch.testing.assert_close(found[1], found[0])
