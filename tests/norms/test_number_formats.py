"""What every norm keeps in every number format and layout, under the compiler, and of what is not finite."""

import pytest
import torch

from bncli.norms import NORMS, norm
from bncli.norms.contract import conduct, numbers
from bncli.norms.contract.candidates import Candidate

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


def candidate(name):
    return Candidate(lambda device=None: build(name), 6, ((5,),))


@every_norm
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_in_and_out_is_single_inside_and_in_the_running_statistics(name, dtype):
    numbers.is_single_inside(candidate(name), dtype)


@every_norm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES], ids=str)
def test_a_module_keeps_its_own_number_format(name, dtype):
    numbers.keeps_its_own_type(candidate(name), dtype)


@every_norm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_nothing(name, dtype):
    numbers.is_the_same_within_autocast(candidate(name), dtype)


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
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_comes_out_not_finite(name, bad):
    if name not in BOUNDED or bad != bad:
        numbers.passes_on(candidate(name), bad)


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
@pytest.mark.parametrize(("examples", "locations"), [(4000, (2,)), (10, (800,))])
def test_a_mean_of_1e4_leaves_the_variance_what_it_is_in_double_precision(name, examples, locations):
    numbers.is_exact_far_from_zero(candidate(name), examples=examples, locations=locations)


@every_norm
def test_constants_give_finite_outputs_and_gradients(name):
    numbers.is_finite_on_constants(candidate(name))


@every_norm
def test_one_example_and_none_are_normalised_or_refused(name):
    numbers.takes_a_single_example(candidate(name))
    numbers.takes_an_empty_batch(candidate(name))


@every_norm
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
def test_the_compiler_finds_one_graph_that_does_the_same(name):
    conduct.compiles(candidate(name), "eager")


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
