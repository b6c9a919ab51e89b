"""What every norm keeps in every number format and layout, under the compiler, and of what is not finite."""

import pytest
import torch

from bncli.norms import NORMS, norm

SMALL = {
    "group_size": 4,
    "groups": 2,
    **{"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0},  # an output that can be had twice
}
NAMES = [name for name, row in NORMS.items() if row.side == "activation"]
HALVES = [torch.bfloat16, torch.float16]
BOUNDED = ("dyt", "derf")  # of an infinite value they leave the sign

every_norm = pytest.mark.parametrize("name", NAMES)
every_mode = pytest.mark.parametrize("training", [True, False])


def build(name):
    return norm(name, 6, **{key: value for key, value in SMALL.items() if key in NORMS[name].options})


@every_norm
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@every_mode
def test_half_precision_in_and_out_is_single_inside(name, dtype, training):
    x = torch.randn(4, 6, 5).to(dtype)
    module = build(name).train(training)
    expected = build(name).train(training)(x.float())
    y = module(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected.to(dtype))


@every_norm
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_leaves_the_running_statistics_in_single(name, dtype):
    module, single = build(name), build(name)
    x = torch.randn(4, 6, 5).to(dtype)
    module(x)
    single(x.float())
    for key, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, single.get_buffer(key))


@every_norm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES], ids=str)
@every_mode
def test_a_module_keeps_its_own_number_format(name, dtype, training):
    x = torch.randn(4, 6, 5).to(dtype).requires_grad_()
    y = build(name).to(dtype).train(training)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype


@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every_mode
def test_autocast_changes_nothing(name, dtype, training):
    x = torch.randn(4, 6, 5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        y = build(name).train(training)(x)
    assert torch.equal(y, build(name).train(training)(x))


@every_norm
@every_mode
@pytest.mark.parametrize(
    ("shape", "layout"), [((4, 6, 3, 2), torch.channels_last), ((3, 6, 2, 3, 2), torch.channels_last_3d)], ids=str
)
def test_channels_last_stays_and_gives_the_same_numbers_and_gradients(name, training, shape, layout):
    x, weights = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    found = []
    for memory_format in (torch.contiguous_format, layout):
        leaf = x.clone(memory_format=memory_format).requires_grad_()
        y = build(name).double().train(training)(leaf)
        assert memory_format == torch.contiguous_format or y.is_contiguous(memory_format=layout)
        (y * weights).sum().backward()
        found.append([y, leaf.grad])
    torch.testing.assert_close(found[1], found[0])


@every_norm
@every_mode
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_comes_out_not_finite(name, training, bad):
    x = torch.randn(4, 6, 5)
    x[1, 2, 3] = bad
    x.requires_grad_()
    y = build(name).train(training)(x)
    y.sum().backward()
    assert not y[1, 2, 3].isfinite() or (name in BOUNDED and bad == bad)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if NORMS[name].batch_statistics and NORMS[name].over == "examples and locations"]
)
@every_mode
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_spoils_its_channel_and_no_other(name, training, bad):
    assert spoilt(name, training, bad) <= {2}


@pytest.mark.parametrize("name", [name for name in NAMES if NORMS[name].whitens])
@every_mode
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_spoils_its_group_of_channels_and_no_other(name, training, bad):
    assert spoilt(name, training, bad) <= {0, 1, 2, 3}


def spoilt(name, training, bad):
    """The channels whose output or running statistics a bad value in channel 2 changes."""
    x, found = torch.randn(8, 6, 5), []
    for entry in (0.0, bad):
        x[1, 2, 3] = entry
        module = build(name).train(training)
        y = module(x)
        found.append([y.transpose(0, 1).flatten(1), *(b for b in module.buffers() if b.shape == (6,))])
    assert not found[1][0].isfinite().all()
    changed = [
        (after - before).abs().view(6, -1).amax(1) < 1e-5 for before, after in zip(*found, strict=True)
    ]  # False for nan
    return {channel for same in changed for channel in range(6) if not same[channel]}


@every_norm
@pytest.mark.parametrize("shape", [(4000, 6, 2), (10, 6, 800)], ids=str)
def test_a_mean_of_1e4_leaves_the_variance_what_it_is_in_double_precision(name, shape):
    x = torch.randn(shape) + 1e4
    exact = build(name).double()(x.double()).var((0, 2))
    y = build(name)(x).double().var((0, 2))
    torch.testing.assert_close(y, exact, rtol=0.01, atol=1e-13)  # a float32 near 1 has steps of 1e-7


@every_norm
@every_mode
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
def test_the_compiler_finds_one_graph_that_does_the_same(name, training):
    x, weights = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    plain, compiled = build(name).double().train(training), build(name).double().train(training)
    found = []
    for module, run in ((plain, plain), (compiled, torch.compile(compiled, fullgraph=True, backend="eager"))):
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        (y * weights).sum().backward()
        found.append([y, leaf.grad, *(p.grad for p in module.parameters() if p.grad is not None), *module.buffers()])
    torch.testing.assert_close(found[1], found[0])


@every_norm
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_whole_numbers_are_refused_in_a_line(name, dtype):
    with pytest.raises(
        ValueError, match=rf"^expected floating-point values, got input of {dtype}; x.float\(\) makes them so$"
    ):
        build(name)(torch.ones(4, 6, 5, dtype=dtype))


def test_whole_numbers_in_the_last_axis_are_refused_in_a_line():
    with pytest.raises(ValueError, match=r"^expected floating-point values, got input of torch.int32;"):
        norm("layer", 6, over="last")(torch.ones(4, 6, dtype=torch.int32))


def is_exported_for_maps_of_any_size(name, training):
    module, sizes = build(name).train(training), {2: torch.export.Dim("H", min=4), 3: torch.export.Dim("W", min=4)}
    x = torch.randn(4, 6, 8, 8)
    exported = torch.export.export(module, (x,), dynamic_shapes=(sizes,)).module()
    wide = torch.randn(4, 6, 5, 11)
    torch.testing.assert_close(exported(wide), build(name).train(training)(wide))


@pytest.mark.parametrize("name", ["batch", "group", "evonorm-s0", "instance-whitening"])
def test_a_norm_is_exported_for_maps_of_any_size(name):
    is_exported_for_maps_of_any_size(name, training=False)


@pytest.mark.nightly
@every_norm
@every_mode
def test_every_norm_is_exported_for_maps_of_any_size(name, training):
    is_exported_for_maps_of_any_size(name, training)
