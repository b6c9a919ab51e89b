"""Norms in a layer's weights, plain and scaled; Fixup and SkipInit, which do without a norm in residual branches.

They are torch parametrizations: the layer stays the layer it was, `layer.weight` is the normalised weight computed from
learned tensors, and assigning to `layer.weight` sets those. A weight is (C, fan in) or (C, C_in, ...kernel); each
output has statistics of its own, in float32 or float64.
"""

from typing import Any

import torch
from torch import Tensor, nn, ones
from torch.nn.utils.parametrize import register_parametrization

from bncli.errors import ConfigError

# What restores variance 1 in the layer after the activation g: 1 / std of g(x), x ~ N(0, 1). These are the authors'
# numbers, estimated from samples and so up to 0.09 % from exact: for relu that is sqrt(2 / (1 - 1/pi)) = 1.71286.
GAINS = {
    "identity": 1.0,
    "relu": 1.7139588594436646,
    "silu": 1.7881293296813965,
    "gelu": 1.7015043497085571,
    "tanh": 1.5939117670059204,
    "sigmoid": 4.803835391998291,
}


class WeightNorm(nn.Module):
    """w = g v / |v| for each output; see `weight_norm`. Not torch's own, which has no rule for `torch.func.vmap`."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """g (C, 1, ...) and v (C, ...) to w (C, ...)."""
        wide = _wide(v)
        return (_wide(g) * wide / _length(wide)).to(v.dtype)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The g and v that give `weight`: its lengths and itself."""
        return _length(_wide(weight)).to(weight.dtype), weight


class WeightStd(nn.Module):
    """w = (v - mean) / std for each output; see `weight_std`."""

    def __init__(self, *, eps: float = 1e-5, form: str = "paper") -> None:
        super().__init__()
        self.eps, self.form = eps, form

    def forward(self, v: Tensor) -> Tensor:
        """V (C, ...) to w (C, ...)."""
        var, centred = _moments(_wide(v), correction=1 if self.form == "readme" else 0)
        std = (var + self.eps).sqrt() if self.form == "root" else _root(var) + self.eps
        return (centred / std).to(v.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """V itself: assigning a weight assigns what is standardised."""
        return weight

    def extra_repr(self) -> str:
        """Its options."""
        return f"eps={self.eps}, form={self.form}"


class ScaledWeightStd(nn.Module):
    """w = gain gamma (v - mean) / sqrt(max(N var, eps)) for each output; see `scaled_weight_std`."""

    gain: Tensor | None

    def __init__(self, like: Tensor, *, eps: float = 1e-4, activation: str = "relu", affine: bool = True) -> None:
        super().__init__()
        self.eps, self.activation, self.affine = eps, activation, affine
        gain = ones(len(like), *[1] * (like.dim() - 1), dtype=like.dtype, device=like.device)
        self.register_parameter("gain", nn.Parameter(gain) if affine else None)

    def forward(self, v: Tensor) -> Tensor:
        """V (C, ...) to w (C, ...)."""
        var, centred = _moments(_wide(v), correction=0)
        fan_in = v[0].numel()
        weight = GAINS[self.activation] * centred * (fan_in * var).clamp_min(self.eps).rsqrt()
        return (weight if self.gain is None else _wide(self.gain) * weight).to(v.dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """V itself: assigning a weight assigns what is standardised."""
        return weight

    def extra_repr(self) -> str:
        """Its options."""
        return f"eps={self.eps}, activation={self.activation}, affine={self.affine}"


def weight_norm(layer: nn.Module) -> nn.Module:
    """Weight Normalization (Salimans & Kingma 2016, arXiv:1602.07868, eq. 2) of a layer, in place.

    w = g v / |v| for each output, with g and v learned; the same in training and evaluation. It starts from v = w and
    g = |w|, so that the layer does what it did. The paper's data-dependent start (section 3) is left out: it needs
    a batch, which a layer that is being built has not.

    Raises:
        ConfigError: for anything but a linear or convolution layer.
    """
    _check("weight", layer, 1)
    return register_parametrization(layer, "weight", WeightNorm())


def weight_std(layer: nn.Module, *, eps: float = 1e-5, form: str = "paper") -> nn.Module:
    """Weight Standardization (Qiao et al. 2019, arXiv:1903.10520) of a layer, in place.

    w = (v - mean) / std for each output, mean and std over its weights; the same in training and evaluation. `form`
    says what std is: "paper" the biased one plus eps, "readme" the unbiased one plus eps (the authors' code), "root"
    sqrt(biased variance + eps) (most later code). The paper puts a group or batch norm behind the layer.

    Raises:
        ConfigError: for anything but a linear or convolution layer with two weights for each output.
    """
    _check("weight-std", layer, 2)
    return register_parametrization(layer, "weight", WeightStd(eps=eps, form=form))


def scaled_weight_std(
    layer: nn.Module, *, eps: float = 1e-4, activation: str = "relu", affine: bool = True
) -> nn.Module:
    """Scaled Weight Standardization (Brock et al. 2021, arXiv:2101.08692) of a layer, in place.

    w = gain gamma (v - mean) / sqrt(max(N var, eps)) for each output, N its fan-in, var biased, gain learned (with
    `affine`) from 1, gamma the constant of the activation *before* the layer; the same in training and evaluation.
    With x ~ N(0, 1) the layer gives g(x) variance 1 again. The bound on N var is the authors' code's.

    Raises:
        ConfigError: for anything but a linear or convolution layer with two weights for each output.
    """
    weight = _check("scaled-weight-std", layer, 2)
    norm = ScaledWeightStd(weight, eps=eps, activation=activation, affine=affine)
    return register_parametrization(layer, "weight", norm)


def _check(name: str, layer: nn.Module, least: int) -> Tensor:
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise ConfigError(f"norm {name!r}: expected a linear or convolution layer, got {type(layer).__name__}")
    fan_in = layer.weight[0].numel()
    if fan_in < least:
        raise ConfigError(f"norm {name!r}: expected at least {least} weights for each output, got {fan_in}")
    return layer.weight


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _root(square: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0."""
    return square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()


def _length(v: Tensor) -> Tensor:
    return _root(v.square().sum(_axes(v), keepdim=True))


def _moments(v: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """Variance (C, 1, ...) of each output's weights, and the weights less their mean."""
    centred = v - v.mean(_axes(v), keepdim=True)
    return centred.square().sum(_axes(v), keepdim=True) / (v[0].numel() - correction), centred


def _axes(v: Tensor) -> tuple[int, ...]:
    return tuple(range(1, v.dim()))


class Multiplier(nn.Module):
    """y = multiplier x, one learned number for all channels. Any shape."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.multiplier = nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return self.multiplier * x

    def extra_repr(self) -> str:
        """Where it starts."""
        return f"{self.start}"


class ScalarBias(nn.Module):
    """y = x + bias, one learned number for all channels, 0 at the start. Any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x + self.bias


def skipinit(model: nn.Module) -> nn.Module:
    """SkipInit (De & Smith 2020, arXiv:2002.10444) of a residual network, in place.

    Each branch ends in a learned multiplier that starts at 0, so that at the start every block is its shortcut, and of
    a branch's parameters only the multiplier has a gradient.

    Raises:
        ConfigError: for a network without residual branches.
    """
    for branch in _branches("skipinit", model):
        branch.add_module("multiplier", Multiplier(0.0).to(_layers(branch)[-1].weight))
    return model


@torch.no_grad()
def fixup(model: nn.Module) -> nn.Module:
    """Fixup (Zhang, Dauphin & Ma 2019, arXiv:1901.09321, section 3) of a residual network, in place.

    With L branches of m layers: a branch's last layer and the readout start at 0, and its other layers' weights
    are multiplied by L^(-1 / (2m - 2)); each branch ends in a learned multiplier that starts at 1; a learned scalar
    bias that starts at 0 stands before each layer and activation of the branches, the joints and the head and
    before the readout, instead of the branches' biases per channel.

    Raises:
        ConfigError: for a network without residual branches.
    """
    branches = _branches("fixup", model)
    for branch in branches:
        *inner, last = _layers(branch)
        for layer in inner:
            layer.weight.mul_(len(branches) ** (-1 / (2 * len(inner))))
        nn.init.zeros_(last.weight)
        for layer in (*inner, last):
            layer.register_parameter("bias", None)
        _put_biases(branch, last.weight)
        branch.add_module("multiplier", Multiplier(1.0).to(last.weight))
    head, readout, joints = _head(model)
    for chain in (*joints, head):
        _put_biases(chain, readout.weight)
    head.add_module("last_bias", ScalarBias().to(readout.weight))
    for parameter in readout.parameters():
        nn.init.zeros_(parameter)
    return model


def _branches(name: str, model: Any) -> list[nn.Sequential]:
    missing = [part for part in ("branches", "head", "readout") if not hasattr(model, part)]
    if missing:
        raise ConfigError(
            f"norm {name!r}: expected a residual network with branches, head and readout; {type(model).__name__} has no"
            f" {' and no '.join(missing)}"
        )
    for branch in model.branches:
        if not _layers(branch):
            raise ConfigError(f"norm {name!r}: expected a linear or convolution layer in each branch, got {branch}")
    return list(model.branches)


def _head(model: Any) -> tuple[nn.Sequential, nn.Linear, list[nn.Sequential]]:
    return model.head, model.readout, list(model.joints) if hasattr(model, "joints") else []


def _layers(branch: nn.Sequential) -> list[Any]:
    return [layer for layer in branch.modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]


def _put_biases(chain: nn.Sequential, like: Tensor) -> None:
    """Put a scalar bias before each module, which keeps its name."""
    modules = list(chain.named_children())
    for name, _ in modules:
        delattr(chain, name)
    for name, module in modules:
        chain.add_module(f"{name}_bias", ScalarBias().to(like))
        chain.add_module(name, module)
