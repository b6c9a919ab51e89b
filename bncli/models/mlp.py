"""Fully connected networks: plain, deep, with shortcuts, linear, and the smallest in which a bias can explode."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bncli.models.unit import (
    ACTIVATIONS,
    Normaliser,
    Unit,
    activations_normalised,
    named,
    normalised,
    weights_normalised,
)


class MLP(nn.Module):
    """Hidden layers y = g(norm(W u + b)), or norm(g(W u + b)) with `placement="post"`; then a linear readout.

    With `bias="auto"` the bias is left out where the norm subtracts each channel's mean over the batch: it would be
    cancelled there (section 3.2), and only be counted and decayed in vain.

    Args:
        features: numbers in one example.
        outputs: classes, or numbers predicted.
        norm: normalises each hidden layer.
    """

    def __init__(
        self, features: int, outputs: int, norm: Normaliser, *,
        hidden: Sequence[int], activation: str, init: Any, bias: str, placement: str = "pre",
    ) -> None:  # fmt: skip
        super().__init__()
        self.init = init
        unit = Unit(norm, activation, placement, bias)
        layers, width = [], features
        for units in hidden:
            layers.append(unit.linear(width, units))
            width = units
        self.hidden = nn.Sequential(*layers)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        logits: Tensor = self.readout(self.hidden(x))
        return logits


def deep_mlp(
    features: int, outputs: int, norm: Normaliser, *,
    depth: int, width: int, activation: str, init: Any, bias: str, placement: str,
) -> MLP:  # fmt: skip
    """`MLP` with `depth` hidden layers of `width` units: depth as one number, to be swept."""
    hidden = [width] * depth
    return MLP(features, outputs, norm, hidden=hidden, activation=activation, init=init, bias=bias, placement=placement)


class DeepLinear(nn.Module):
    """y = W_depth ... W_1 x without biases, a norm behind each matrix, the last one included.

    Santurkar et al. 2018 (arXiv:1805.11604): 25 layers of 10 x 10, fitted to a Gaussian matrix. Which layers the paper
    normalises is our reading. With a norm that divides by what it measures, y is not linear in x.

    Args:
        features: numbers in one example.
        outputs: numbers predicted.
        norm: normalises each layer.
    """

    def __init__(self, features: int, outputs: int, norm: Normaliser, *, depth: int, width: int, init: Any) -> None:
        super().__init__()
        self.init = init
        widths = (features, *[width] * (depth - 1), outputs)
        self.layers = nn.Sequential(*(_layer(norm, before, after) for before, after in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        y: Tensor = self.layers(x)
        return y


def _layer(norm: Normaliser, features: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*normalised(norm, nn.Linear(features, channels, bias=False), channels))


class Shift(nn.Module):
    """x = u + b, normalised (Ioffe & Szegedy 2015, section 2); the bias stays whatever the norm."""

    init = "glorot"  # there is no weight to draw

    def __init__(self, features: int, outputs: int, norm: Normaliser) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        (self.norm,) = activations_normalised(norm, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, features)."""
        y: Tensor = self.norm(x + self.bias)
        return y


class ResidualMLP(nn.Module):
    """u = W x + b; then u <- u + branch(u) for each block; then g(norm(u)) and a linear readout.

    A branch is norm, g, linear, norm, g, linear: full pre-activation (He et al. 2016, arXiv:1603.05027), so that the
    shortcuts carry u untouched from the first layer to the head. With `bias="auto"` biases before the readout are left
    out where the norm subtracts each channel's mean over the batch: all that reads u does.

    Args:
        features: numbers in one example.
        outputs: classes, or numbers predicted.
        norm: normalises activations wherever one is named above, or the weights of every layer but the readout.
    """

    def __init__(
        self, features: int, outputs: int, norm: Normaliser, *,
        width: int, blocks: int, activation: str, init: Any, bias: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.init = init
        keep_bias = bias == "always" or not norm.absorbs_bias
        self.first = weights_normalised(norm, nn.Linear(features, width, bias=keep_bias))
        self.branches = nn.ModuleList(_branch(width, norm, activation, keep_bias) for _ in range(blocks))
        self.head = named(norm=activations_normalised(norm, width), activation=(ACTIVATIONS[activation](),))
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        u = self.first(x)
        for branch in self.branches:
            u = u + branch(u)
        logits: Tensor = self.readout(self.head(u))
        return logits


def _branch(width: int, norm: Normaliser, activation: str, keep_bias: bool) -> nn.Sequential:
    inner, *norm2 = normalised(norm, nn.Linear(width, width, bias=keep_bias), width)
    return named(
        norm1=activations_normalised(norm, width),
        activation1=(ACTIVATIONS[activation](),),
        linear1=(inner,),
        norm2=tuple(norm2),
        activation2=(ACTIVATIONS[activation](),),
        linear2=(weights_normalised(norm, nn.Linear(width, width, bias=keep_bias)),),
    )
