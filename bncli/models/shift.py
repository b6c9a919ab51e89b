"""One learned bias and a norm: the smallest network in which a bias can explode."""

import torch
from torch import Tensor, nn

from bncli.models.normalised import Normaliser, activations_normalised


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
