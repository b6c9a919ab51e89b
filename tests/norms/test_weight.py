"""Weight normalisation and standardisation: published arrays, and what their papers promise."""

import math

import numpy as np
import pytest
import torch
from golden_arrays import golden
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from bncli.norms import normalise
from bncli.norms.weight import GAINS

EXACT = {"rtol": 1e-10, "atol": 1e-10}
FUNCTIONS = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def trained_on(arrays, name, parameters, **options):
    """Outputs and gradients of a normalised 3x3 convolution, with the array's keys."""
    layer = normalise(nn.Conv2d(8, 8, 3, padding=1, bias="param.bias" in arrays).double(), name, **options)
    for key, parameter in layer.named_parameters():
        parameter.data = parameters[key].clone()
    x = arrays["x1"].clone().requires_grad_()
    y = layer(x)
    (y * arrays["gy1"]).sum().backward()
    return {"y1": y, "gx1": x.grad, **{key: p.grad for key, p in layer.named_parameters()}}


def linear(name, fan_in=30, outputs=7, **options):
    return normalise(nn.Linear(fan_in, outputs).double(), name, **options)


def test_weight_norm_equals_torchs():
    arrays = golden("weightnorm_conv")
    parameters = {key.removeprefix("param."): value for key, value in arrays.items() if key.startswith("param.")}
    found = trained_on(arrays, "weight", parameters)
    for key, value in found.items():
        torch.testing.assert_close(value, arrays.get(key, arrays.get(f"gparam.{key}")), **EXACT)


def test_weight_norm_reads_a_state_dict_of_torchs():
    theirs, ours = parametrizations.weight_norm(nn.Linear(5, 3)), normalise(nn.Linear(5, 3), "weight")
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_weight_norm_starts_as_the_layer_it_is_given():
    layer = nn.Linear(30, 7).double()
    weight = layer.weight.detach().clone()
    torch.testing.assert_close(normalise(layer, "weight").weight, weight)


def test_weight_norms_weights_have_the_length_g():
    layer = linear("weight")
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    v.data *= torch.rand(7, 1) + 0.5
    g.data = torch.linspace(0.5, 2, 7).double().view(7, 1)
    torch.testing.assert_close(layer.weight.norm(dim=1, keepdim=True), g.detach())


def test_weight_norms_gradient_is_orthogonal_to_v():
    """Salimans & Kingma 2016, section 2.1: v's gradient has w's direction projected away."""
    layer = linear("weight")
    layer(torch.randn(9, 30).double()).square().sum().backward()
    v = layer.parametrizations.weight.original1
    torch.testing.assert_close((v.grad * v).sum(1), torch.zeros(7).double(), **EXACT)


def test_weight_norms_gradients_are_those_of_the_papers_equation_3():
    layer, x = linear("weight"), torch.randn(9, 30).double()
    plain = nn.Linear(30, 7).double()
    plain.weight.data, plain.bias.data = layer.weight.detach(), layer.bias.detach()
    for module in (layer, plain):
        module(x).sin().sum().backward()
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    length = v.norm(dim=1, keepdim=True)
    dg = (plain.weight.grad * v).sum(1, keepdim=True) / length
    torch.testing.assert_close(g.grad, dg, **EXACT)
    torch.testing.assert_close(v.grad, g / length * plain.weight.grad - g * dg / length**2 * v, **EXACT)


def test_weight_std_with_eps_in_the_root_equals_timms():
    arrays = golden("ws_stdconv")
    parameters = {"parametrizations.weight.original": arrays["param.weight"]}
    found = trained_on(arrays, "weight-std", parameters, form="root", eps=1e-6)
    torch.testing.assert_close(found["y1"], arrays["y1"], **EXACT)
    torch.testing.assert_close(found["gx1"], arrays["gx1"], **EXACT)
    torch.testing.assert_close(found["parametrizations.weight.original"], arrays["gparam.weight"], **EXACT)


@pytest.mark.parametrize(("form", "correction"), [("paper", 0), ("readme", 1), ("root", 0)])
def test_weight_std_gives_each_output_mean_0_and_std_1(form, correction):
    weight = linear("weight-std", form=form, eps=1e-14).weight
    torch.testing.assert_close(weight.mean(1), torch.zeros(7).double())
    torch.testing.assert_close(weight.std(1, correction=correction), torch.ones(7).double())


@pytest.mark.parametrize(("form", "std"), [("paper", 2 + 0.5), ("readme", 8**0.5 + 0.5), ("root", 4.5**0.5)])
def test_weight_std_of_two_weights_by_hand(form, std):
    """Weights 3 and 7: mean 5, biased variance 4, unbiased 8."""
    layer = linear("weight-std", fan_in=2, outputs=1, form=form, eps=0.5)
    layer.weight = torch.tensor([[3.0, 7.0]]).double()
    torch.testing.assert_close(layer.weight, torch.tensor([[-2 / std, 2 / std]]).double())


@pytest.mark.parametrize("name", ["weight-std", "scaled-weight-std"])
def test_standardised_weights_do_not_see_a_shift_or_a_scale(name):
    layer = linear(name, eps=1e-14)
    weight = layer.weight.detach()
    layer.weight = 3 * layer.parametrizations.weight.original + torch.arange(7).double().view(7, 1)
    torch.testing.assert_close(layer.weight, weight)


@pytest.mark.parametrize("name", ["weight-std", "scaled-weight-std"])
def test_standardising_far_from_zero_in_single_precision_loses_no_variance(name):
    layer = normalise(nn.Linear(4000, 2), name, eps=1e-12)
    layer.weight = 1e4 + torch.randn(2, 4000)
    exact = layer.parametrizations.weight.original.double()
    ratio = layer.weight.double() / (exact - exact.mean(1, keepdim=True))
    gain = 1.0 if name == "weight-std" else GAINS["relu"] / 4000**0.5
    torch.testing.assert_close(
        ratio.median(1).values * exact.std(1), torch.full((2,), gain).double(), rtol=0.01, atol=0
    )


def test_scaled_weight_std_equals_timms():
    """timm's variance carries eps in the root, ours has a bound instead: a gain of sqrt(var / (var + eps)) makes up."""
    arrays = golden("scaled_ws")
    layer = normalise(nn.Conv2d(8, 8, 3, padding=1).double(), "scaled-weight-std", activation="identity")
    x, v, gain, bias = (
        arrays[key].clone().requires_grad_() for key in ("x1", "param.weight", "param.gain", "param.bias")
    )
    var = v.var((1, 2, 3), correction=0, keepdim=True)
    state = {
        "bias": bias,
        "parametrizations.weight.original": v,
        "parametrizations.weight.0.gain": gain * (var / (var + 1e-6)).sqrt(),
    }
    y = functional_call(nn.Sequential(layer), {f"0.{key}": value for key, value in state.items()}, (x,))
    (y * arrays["gy1"]).sum().backward()
    torch.testing.assert_close(y, arrays["y1"], **EXACT)
    torch.testing.assert_close(x.grad, arrays["gx1"], **EXACT)
    for leaf, key in ((v, "weight"), (gain, "gain"), (bias, "bias")):
        torch.testing.assert_close(leaf.grad, arrays[f"gparam.{key}"], **EXACT)


@pytest.mark.parametrize("activation", GAINS)
def test_gains_are_one_over_the_standard_deviation_of_the_activation_within_a_thousandth(activation):
    points, weights = np.polynomial.hermite_e.hermegauss(160)
    y, w = FUNCTIONS[activation](torch.from_numpy(points)), torch.from_numpy(weights / math.sqrt(2 * math.pi))
    mean = (w * y).sum()
    std = (w * (y - mean).square()).sum().sqrt()
    assert GAINS[activation] * std.item() == pytest.approx(1, abs=1e-3)


def test_the_relu_gain_is_the_published_one_near_the_closed_form():
    assert GAINS["relu"] == 1.7139588594436646
    assert GAINS["relu"] == pytest.approx(math.sqrt(2 / (1 - 1 / math.pi)), rel=7e-4)


def test_scaled_weight_std_keeps_the_variance_of_rectified_gaussians():
    layer = normalise(nn.Linear(512, 256, bias=False), "scaled-weight-std", activation="relu")
    y = layer(torch.relu(torch.randn(4000, 512)))
    assert y.mean().item() == pytest.approx(0, abs=0.01)
    assert y.var().item() == pytest.approx(1, rel=0.02)


def test_scaled_weight_std_bounds_what_it_divides_by():
    layer = linear("scaled-weight-std", eps=4.0, activation="identity", affine=False)
    layer.weight = 1e-6 * torch.randn(7, 30).double()
    v = layer.parametrizations.weight.original
    torch.testing.assert_close(layer.weight, (v - v.mean(1, keepdim=True)) / 2)


def test_scaled_weight_std_without_a_gain_has_no_more_parameters_than_the_layer():
    layer = linear("scaled-weight-std", affine=False)
    assert sum(p.numel() for p in layer.parameters()) == 30 * 7 + 7
