"""Filter Response Normalization with its thresholded activation: no mean, no batch."""

import torch
from torch import Tensor, nn

from bncli.norms.channels import channels_checked
from bncli.norms.groups import scaled, single_or_better
from bncli.norms.sample import add_affine, per_channel


class FRN(nn.Module):
    """Filter Response Normalization and Thresholded Linear Unit (Singh & Krishnan 2020, arXiv:1911.09737).

    y = max(weight x / sqrt(nu^2 + eps) + bias, tau), nu^2 the mean of x^2 of each channel of each example over its
    locations; the same in evaluation. tau is learned, starts at 0 (a relu) and makes the layer its own activation.

    On inputs with a single location, (N, C) above all, nu^2 is x^2 and eps decides how much of x's size is left:
    there, as in the paper, |`learned_eps`|, one number that starts at 1e-4, is added to eps. On maps it is unused.
    Nothing is subtracted, so an offset common to all values stays, and takes the place of the signal.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        add_affine(self, channels, affine=True)
        self.tau = nn.Parameter(torch.zeros(channels))
        self.learned_eps = nn.Parameter(torch.tensor([1e-4]))

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of each example, then cut off at tau."""
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(channels_checked(x, self.channels))
            squares = values.square()
            if x.shape[2:].numel() == 1:
                squares = squares + single_or_better(self.learned_eps).abs()
            elif x.ndim > 2:
                squares = squares.mean(tuple(range(2, x.ndim)), keepdim=True)
            y = scaled(values * torch.rsqrt(squares + self.eps), self.weight, self.bias)
            return torch.maximum(y, per_channel(self.tau, y).to(y.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}"
