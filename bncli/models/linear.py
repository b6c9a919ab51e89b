"""Networks without activations: the deep linear one of Santurkar et al. 2018, and one learned bias with a norm."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bncli.models.unit import Normaliser, activations_normalised, normalised


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
