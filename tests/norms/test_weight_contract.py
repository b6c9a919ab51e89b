"""What every norm of weights keeps, on every layer that it takes."""

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.parametrize import remove_parametrizations

import bncli
from bncli.errors import ConfigError
from bncli.norms import NORMS, normalise

WEIGHT = {name: row for name, row in NORMS.items() if row.side == "weight"}
LAYERS = {
    "linear": (lambda: nn.Linear(4, 6), (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (5, 4, 6)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2, padding_mode="circular"), (5, 4, 5, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (5, 4, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2), (2, 4, 3, 3, 3)),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}

every_norm = pytest.mark.parametrize("name", WEIGHT)
every_layer = pytest.mark.parametrize("kind", LAYERS)


def build(name, kind, **options):
    make, shape = LAYERS[kind]
    return normalise(make().double(), name, **options), torch.randn(*shape, dtype=torch.float64)


def trained(name, kind):
    """A chain of one layer, with parameters that are not the initial ones."""
    module = nn.Sequential(build(name, kind)[0])
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


@every_norm
def test_options_of_the_row_are_keywords_of_the_target_with_the_same_defaults(name):
    layer, *options = inspect.signature(NORMS.load(name)).parameters.values()
    assert layer.name == "layer"
    assert all(option.kind is inspect.Parameter.KEYWORD_ONLY for option in options)
    assert {o.name: o.default for o in options} == {key: o.default for key, o in WEIGHT[name].options.items()}


@every_norm
@every_layer
def test_the_layer_stays_what_it_is_with_another_weight(name, kind):
    plain = LAYERS[kind][0]().double()
    layer, x = normalise(copy.deepcopy(plain), name), torch.randn(*LAYERS[kind][1], dtype=torch.float64)
    assert isinstance(layer, type(plain))
    assert layer.weight.shape == plain.weight.shape
    plain.weight.data = layer.weight.detach()
    assert torch.equal(layer(x), plain(x))


@every_norm
@every_layer
def test_training_and_evaluation_are_the_same(name, kind):
    layer, x = build(name, kind)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    assert not list(layer.buffers())


@every_norm
@every_layer
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_a_dtype_goes_in_and_comes_out(name, kind, dtype):
    layer, _ = build(name, kind)
    weight = layer.weight
    assert layer.to(dtype).weight.dtype == dtype
    torch.testing.assert_close(layer.weight.double(), weight, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@every_norm
def test_under_autocast_the_output_is_low_and_the_weight_is_not(name):
    layer = normalise(nn.Linear(64, 6), name)
    x = torch.randn(5, 64)
    with torch.autocast("cpu", torch.bfloat16):
        y, weight = layer(x), layer.weight
    assert (y.dtype, weight.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(weight, layer.weight)


@every_norm
def test_a_half_precision_weight_has_single_precision_statistics(name):
    layer = normalise(nn.Linear(20_000, 2, bias=False), name)
    layer.weight = torch.full((2, 20_000), 30.0) + 8 * torch.randn(2, 20_000)  # squares sum to more than float16 holds
    half = copy.deepcopy(layer).half()
    if name == "weight":
        half.parametrizations.weight.original0.data = layer.parametrizations.weight.original0.data / 64
        layer.parametrizations.weight.original0.data /= 64
        half.half()
    torch.testing.assert_close(half.weight.float(), layer.weight.detach(), rtol=0.02, atol=0.02)


@every_norm
def test_channels_last_stays_channels_last(name):
    layer, x = build(name, "conv2d")
    y = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


@every_norm
@every_layer
def test_lanes_equal_layers_one_at_a_time(name, kind):
    layers = [trained(name, kind) for _ in range(3)]
    x = torch.randn(3, *LAYERS[kind][1], dtype=torch.float64)
    state, _ = stack_module_state(copy.deepcopy(layers))

    def loss(parameters, x):
        y = functional_call(layers[0], parameters, (x,))
        return y.square().sum(), y

    (gradients, gx), y = vmap(grad(loss, argnums=(0, 1), has_aux=True))(state, x)
    for lane, layer in enumerate(layers):
        alone = x[lane].clone().requires_grad_()
        expected = layer(alone)
        expected.square().sum().backward()
        torch.testing.assert_close(y[lane], expected)
        torch.testing.assert_close(gx[lane], alone.grad)
        for key, parameter in layer.named_parameters():
            torch.testing.assert_close(gradients[key][lane], parameter.grad)


@every_norm
@every_layer
def test_gradient_is_that_of_finite_differences(name, kind):
    module, x = trained(name, kind), torch.randn(*LAYERS[kind][1], dtype=torch.float64)
    parameters = dict(module.named_parameters())

    def output(x, *values):
        return functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

    torch.autograd.gradcheck(output, (x[:2].requires_grad_(), *parameters.values()), fast_mode=True)


@every_norm
def test_second_derivatives_are_those_of_finite_differences(name):
    module = trained(name, "linear")
    parameters = dict(module.named_parameters())

    def loss(*values):
        return functional_call(module, dict(zip(parameters, values, strict=True)), (torch.ones(3, 4).double(),)).sin()

    torch.autograd.gradgradcheck(loss, tuple(parameters.values()))


@every_norm
def test_a_state_dict_carries_everything(name):
    (layer, x), (other, _) = build(name, "conv2d"), build(name, "conv2d")
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@every_norm
def test_changing_a_copy_leaves_the_original_alone(name):
    layer, x = build(name, "conv2d")
    expected, twin = layer(x), copy.deepcopy(layer)
    assert torch.equal(twin(x), expected)
    for parameter in twin.parameters():
        parameter.data += 1 + torch.randn_like(parameter)
    assert torch.equal(layer(x), expected)
    assert not torch.equal(twin(x), expected)


@every_norm
def test_repr_names_the_options(name):
    shown = repr(build(name, "linear")[0])
    for key, option in WEIGHT[name].options.items():
        assert f"{key}={option.default}" in shown


@every_norm
def test_the_norm_can_be_folded_into_a_plain_layer(name):
    layer, x = build(name, "conv2d")
    expected = layer(x)
    plain = remove_parametrizations(layer, "weight")
    assert type(plain) is nn.Conv2d
    assert torch.equal(plain(x), expected)


@every_norm
def test_a_weight_that_is_not_finite_gives_an_output_that_is_not(name):
    layer, x = build(name, "linear")
    originals = [p for key, p in layer.named_parameters() if "original" in key]
    for bad in (torch.nan, torch.inf):
        originals[-1].data[1, 2] = bad
        assert not layer(x)[:, 1].isfinite().any()
        assert layer(x)[:, 0].isfinite().all()


@every_norm
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_weights_have_finite_gradients(name, value):
    layer, x = build(name, "linear")
    layer.weight = torch.full_like(layer.weight, value)
    layer(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@every_norm
def test_a_layer_without_a_weight_per_output_is_refused(name):
    for module in (nn.ReLU(), nn.ConvTranspose2d(4, 6, 3)):
        message = f"norm '{name}': expected a linear or convolution layer, got {type(module).__name__}"
        with pytest.raises(ConfigError, match=f"^{message}$"):
            normalise(module, name)


@pytest.mark.parametrize("name", ["weight-std", "scaled-weight-std"])
def test_one_weight_has_no_standard_deviation(name):
    with pytest.raises(ConfigError, match=f"^norm '{name}': expected at least 2 weights for each output, got 1$"):
        normalise(nn.Linear(1, 3), name)


@every_norm
def test_a_norm_of_weights_cannot_be_built_from_channels(name):
    with pytest.raises(ConfigError) as caught:
        bncli.norm(name, 64)
    assert str(caught.value) == (
        f"norm '{name}' acts on a layer's weights, not on 64 channels; use bncli.norms.normalise(layer, '{name}')"
    )


def test_an_option_out_of_range_is_said_in_words():
    with pytest.raises(ConfigError, match=r"^form: must be one of 'paper', 'readme' or 'root', got 'timm'$"):
        normalise(nn.Linear(4, 3), "weight-std", form="timm")


def test_normalise_puts_a_norm_of_activations_behind_the_layer():
    layer = nn.Conv2d(4, 6, 3)
    first, second = normalise(layer, "batch", eps=1e-3)
    assert first is layer
    assert repr(second) == "BatchNorm(6, eps=0.001, momentum=0.1, affine=True, track_running_stats=True, impl=auto)"


def test_normalise_needs_a_layer_with_channels():
    with pytest.raises(ConfigError, match=r"^norm 'batch': expected a linear or convolution layer, got ReLU$"):
        normalise(nn.ReLU(), "batch")
