"""Elementwise functions in a norm's place: Dynamic Tanh and Derf take no statistics at all."""

import torch
from torch import Tensor, nn

from bncli.norms.channels import channels_checked
from bncli.norms.groups import scaled, single_or_better
from bncli.norms.sample import add_affine


class DyT(nn.Module):
    """Dynamic Tanh (Zhu et al. 2025, arXiv:2503.10622).

    y = weight tanh(alpha x) + bias with one learned alpha for all channels, starting at `alpha0`; the same in
    evaluation. Takes no statistics, so it mixes neither examples nor channels nor locations. Of an infinite
    value it leaves the sign: the output is finite, only nan stays nan.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, alpha0: float = 0.5) -> None:
        super().__init__()
        self.channels, self.alpha0 = channels, alpha0
        self.alpha = nn.Parameter(torch.full((1,), alpha0))
        add_affine(self, channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Squash each value."""
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(channels_checked(x, self.channels))
            return scaled(torch.tanh(self.alpha * values), self.weight, self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, alpha0={self.alpha0}"


class Derf(nn.Module):
    """Dynamic erf (Chen et al. 2025, arXiv:2512.10938).

    y = weight erf(alpha x + shift) + bias with one learned alpha and one learned shift for all channels, starting at
    `alpha0` and 0; the same in evaluation. Takes no statistics; infinite values come out finite, as in `DyT`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, alpha0: float = 0.5) -> None:
        super().__init__()
        self.channels, self.alpha0 = channels, alpha0
        self.alpha = nn.Parameter(torch.full((1,), alpha0))
        self.shift = nn.Parameter(torch.zeros(1))
        add_affine(self, channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Squash each value."""
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(channels_checked(x, self.channels))
            return scaled(torch.erf(self.alpha * values + self.shift), self.weight, self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, alpha0={self.alpha0}"
