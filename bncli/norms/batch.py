"""No normalisation and Batch Normalization, which every other norm is held against; the latter also frozen."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from bncli.kernels import Impl
from bncli.kernels.batch_norm import batch_norm
from bncli.norms.channels import (
    Affine,
    DType,
    RunningMomentum,
    add_affine,
    add_running,
    average,
    bessel,
    check_channels,
    count_values,
    describe,
    reset_affine,
    reset_running,
)


class NoNorm(nn.Module):
    """y = x. Takes `channels`, `device` and `dtype` as every norm does; it has no parameters and no buffers."""

    def __init__(self, channels: int, *, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels = channels

    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x


class BatchNorm(nn.Module):
    """Batch Normalization (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2).

    y = weight (x - mean) / sqrt(var + eps) + bias, where mean and the biased var of each channel are taken over
    examples and locations in training, and are `running_mean` and the unbiased `running_var` in evaluation.

    One class for all four shapes. Equal to torch's `BatchNorm1d/2d/3d`, whose `momentum=None` is `"cumulative"` here,
    but for `track_running_stats=False`, which it has not. The paper averages the evaluation statistics over many
    batches with the weights frozen; this, like torch, averages along training.

    Args:
        momentum: weight of the newest batch in the running statistics, or "cumulative": all batches weigh the same.
        affine: which of weight and bias are learned: both (True), none (False), the weight ("scale") or the bias
            ("shift"); the other is left out.

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
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: RunningMomentum = 0.1,
        affine: Affine = True,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine, self.impl = channels, eps, momentum, affine, impl
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m = count_values(x, self.channels)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        bessel(m)  # refuses a single value
        mean, var, momentum = self._averaged()
        y = batch_norm(x, mean, var, self.weight, self.bias, momentum, self.eps, self.impl)
        self.num_batches_tracked.add_(1)
        if mean is not self.running_mean:  # they now hold the batch's own
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
            average(self.running_var, var, self.momentum, self.num_batches_tracked)
        return y

    def _averaged(self) -> tuple[Tensor, Tensor, float]:
        """What the kernel updates and by how much: copies, replaced whole, if its fixed momentum will not do."""
        if not isinstance(self.momentum, str):
            return self.running_mean, self.running_var, self.momentum
        return self.running_mean.clone(), self.running_var.clone(), 1.0


class FrozenBatchNorm(nn.Module):
    """Frozen Batch Normalization: the evaluation of `BatchNorm`, in training too.

    y = weight (x - running_mean) / sqrt(running_var + eps) + bias: an affine map of each channel, whose running
    statistics nothing updates. It starts from mean 0 and variance 1; `load_state_dict` takes a `BatchNorm`'s state,
    which is how it is meant: the last epochs of a training (Wu & Johnson 2021, arXiv:2105.07576), or fine-tuning with
    batches too small for statistics. Unlike torchvision's `FrozenBatchNorm2d` it learns weight and bias.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, *, eps: float = 1e-5, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine = channels, eps, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the running statistics."""
        check_channels(x, self.channels)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
