"""What all norms with statistics over the batch keep: precision, layouts, dtypes, and words for what they refuse."""

import pytest
import torch

from bncli.norms import NORMS, norm

FAMILY = [name for name, row in NORMS.items() if row.family == "batch" and name != "detached"]
TRAINED = [name for name in FAMILY if NORMS[name].batch_statistics and name != "power"]  # which takes nothing off
SILENT = {"n_mu": 0.0, "n_sigma": 1.0, "r_mu": 0.0, "r_sigma": 0.0}

every_norm = pytest.mark.parametrize("name", FAMILY)
every_mode = pytest.mark.parametrize("training", [True, False])


def build(name):
    return norm(name, 4, **(SILENT if name == "noisy-batch" else {}))


def far_from_zero(*shape):
    """Mean 1e4 and variance 1 in each channel, as far as float32 goes."""
    return torch.randn(*shape) + 1e4


def what_remains(name):
    """The standard deviation of a norm's output for a far input: 1, but where the scale is left to the input."""
    return {"batch-mean": lambda x: x.std(0, correction=0)}.get(name, lambda x: torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("shape", [(30_000, 4), (30, 4, 30, 30)], ids=len)
def test_a_huge_mean_leaves_the_variance_right_to_one_percent(name, shape):
    x = far_from_zero(*shape)
    y, x = (t.detach().double().movedim(1, -1).reshape(-1, 4) for t in (build(name)(x), x))
    torch.testing.assert_close(y.std(0, correction=0), what_remains(name)(x), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "batch-mean"])
def test_a_huge_mean_leaves_the_running_spread_right_to_one_percent(name):
    module = norm(name, 4, momentum=1.0)
    module(far_from_zero(30_000, 4))
    (spread,) = (b for key, b in module.named_buffers() if key in ("running_var", "running_std", "running_scale"))
    torch.testing.assert_close(spread, torch.ones(4), rtol=0.02, atol=0)  # 1 % ours, 1 % the sample's


@every_norm
@every_mode
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_of_the_input_comes_out_and_the_numbers_are_those_of_float32(name, training, dtype):
    module, reference = (build(name).train(training) for _ in range(2))
    if dtype == torch.float64:
        module.double()
    x = torch.randn(20, 4).to(dtype)
    y = module(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), reference(x.float()).to(dtype).float(), rtol=0.02, atol=0.02)


@every_norm
def test_running_statistics_stay_in_float32_for_an_input_in_less(name):
    module = build(name)
    module(torch.randn(20, 4).bfloat16())
    assert all(b.dtype == torch.float32 for key, b in module.named_buffers() if key.startswith("running_"))


@every_norm
@every_mode
def test_autocast_changes_nothing(name, training):
    x = torch.randn(20, 4)
    expected = build(name).train(training)(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(build(name).train(training)(x), expected)


@every_norm
@every_mode
@pytest.mark.parametrize(
    ("shape", "layout"), [((5, 4, 3, 2), torch.channels_last), ((5, 4, 3, 2, 2), torch.channels_last_3d)]
)
def test_channels_last_stays_channels_last(name, training, shape, layout):
    x = torch.randn(shape).contiguous(memory_format=layout)
    y = build(name).train(training)(x)
    assert y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y, build(name).train(training)(x.contiguous()))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, tracing a Function
@every_norm
@every_mode
def test_compiles_without_a_break_in_the_graph(name, training):
    eager, compiled, x = build(name).train(training), build(name).train(training), torch.randn(20, 4)
    program = torch.compile(compiled, backend="eager", fullgraph=True)
    torch.testing.assert_close(program(x), eager(x))
    for key, buffer in eager.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(key), buffer)


@every_norm
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_spoils_its_channel_and_no_other(name, bad):
    x = torch.randn(20, 4)
    expected = build(name)(x)
    x[3, 1] = bad
    y = build(name)(x)
    assert not y[:, 1].isfinite().all()
    torch.testing.assert_close(y[:, [0, 2, 3]], expected[:, [0, 2, 3]])


@every_norm
def test_a_constant_channel_gives_finite_numbers_and_gradients(name):
    x = torch.full((20, 4), 3.0, requires_grad=True)
    y = build(name)(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)], ids=len)
def test_a_single_value_per_channel_is_refused_in_training_and_not_in_evaluation(name, shape):
    module = build(name)
    with pytest.raises(ValueError, match=r"[Ee]xpected more than 1 value per channel when training, got"):
        module(torch.randn(shape))
    assert module.eval()(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("name", TRAINED)
def test_a_refused_batch_leaves_no_trace(name):
    module = build(name)
    with pytest.raises(ValueError, match="more than 1 value"):
        module(torch.randn(1, 4))
    assert module.num_batches_tracked == 0


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in ("batch", "frozen")])
def test_another_number_of_channels_is_refused(name):
    with pytest.raises(ValueError, match=r"^expected 4 channels, got input of shape \(9, 3\)$"):
        build(name)(torch.randn(9, 3))
