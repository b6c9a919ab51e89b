"""No normalisation, and Batch Normalization: the two that every other norm is held against."""

import torch.nn.functional as F
from torch import Tensor, nn, ones, tensor, zeros

from bncli.kernels import Impl
from bncli.kernels.batch_norm import batch_norm


class NoNorm(nn.Module):
    """y = x. Takes `channels` like every norm, and has no parameters and no buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}"


class Batch(nn.Module):
    """Batch Normalization (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2).

    y = weight (x - mean) / sqrt(var + eps) + bias, where mean and the biased var of each channel are taken over
    examples and locations in training, and are `running_mean` and the unbiased `running_var` in evaluation.

    One class for all four shapes. Equal to torch's `BatchNorm1d/2d/3d`, but for `momentum=None` and
    `track_running_stats=False`, which it has not. The paper averages the evaluation statistics over many batches with
    the weights frozen; this, like torch, is an exponential average along training.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, impl: Impl = "auto"
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine, self.impl = channels, eps, momentum, affine, impl
        self.register_parameter("weight", nn.Parameter(ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(zeros(channels)) if affine else None)
        self.register_buffer("running_mean", zeros(channels))
        self.register_buffer("running_var", ones(channels))
        self.register_buffer("num_batches_tracked", tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        self.num_batches_tracked.add_(1)
        return batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.momentum, self.eps, self.impl
        )

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, impl={self.impl}"
