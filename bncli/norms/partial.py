"""Parts and relatives of Batch Normalization: the mean alone, the variance alone, the mean absolute deviation."""

import math

import torch
from torch import Tensor
from torch.types import Device

from bncli.kernels import broadcast, may_look
from bncli.norms.channels import (
    DType,
    RunningNorm,
    add_affine,
    add_running,
    apply_affine,
    average,
    axes,
    bessel,
    count_batch,
    count_values,
    describe,
    moments,
    reset_affine,
    reset_running,
    widen,
)

# |mean| / scale above which L1BatchNorm takes the mean in float64: rounded in float32, of a constant channel 12.345 it
# left 8.5e-7, which over a scale as small made an output of .085 (docs/log.md). Below, it costs 16 times eps.
_FAR = 16.0


class MeanOnlyBatchNorm(RunningNorm):
    """Mean-only Batch Normalization (Salimans & Kingma 2016, arXiv:1602.07868, section 2.3).

    y = x - mean + bias, where the mean of each channel is taken over examples and locations in training, and is
    `running_mean` in evaluation. The paper uses it together with weight normalization, which sees to the scale.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel: nothing of it would be left.
    """

    weight: None
    bias: Tensor | None
    running_mean: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, *, momentum: float = 0.1, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.momentum, self.affine = channels, momentum, affine
        add_affine(self, channels, "shift" if affine else False, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Centre, and in training update the running mean in place."""
        m, wide = count_values(x, self.channels), widen(x)
        mean = self._of_batch(wide, m) if self.training else self.running_mean
        y = wide - broadcast(mean, x)
        return (y if self.bias is None else y + broadcast(self.bias, x)).to(x.dtype)

    def _of_batch(self, x: Tensor, m: int) -> Tensor:
        bessel(m)  # refuses a single value
        mean = x.mean(axes(x))
        if count_batch(self):
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
        return mean


class VarianceOnlyBatchNorm(RunningNorm):
    """Variance-only Batch Normalization (after Daneshmand et al. 2020, arXiv:2003.01652).

    y = weight x / sqrt(var + eps) + bias, where the biased var of each channel, about its mean, is taken over examples
    and locations in training, and is the unbiased `running_var` in evaluation. The mean stays in y, scaled.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale, and in training update the running variance in place."""
        m, wide = count_values(x, self.channels), widen(x)
        var = self._of_batch(wide, m) if self.training else self.running_var
        y = wide * broadcast((widen(var) + self.eps).rsqrt(), x)
        return apply_affine(y, self.weight, self.bias).to(x.dtype)

    def _of_batch(self, x: Tensor, m: int) -> Tensor:
        unbiased = bessel(m)
        _, var = moments(x)
        if count_batch(self):
            average(self.running_var, var * unbiased, self.momentum, self.num_batches_tracked)
        return var


class L1BatchNorm(RunningNorm):
    """L1 Batch Normalization (Hoffer et al. 2018, arXiv:1803.01814, section 4).

    y = weight (x - mean) / (scale + eps) + bias with scale = sqrt(pi / 2) mean |x - mean|, which is the standard
    deviation of a Gaussian. Mean and scale of each channel are taken over examples and locations in training, and are
    `running_mean` and `running_scale` in evaluation. The paper has no eps.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_scale: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_scale", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m, wide = count_values(x, self.channels), widen(x)
        if self.training:
            bessel(m)  # refuses a single value
            centred, scale = self._of_batch(wide)
        else:
            centred, scale = wide - broadcast(self.running_mean, x), widen(self.running_scale)
        return apply_affine(centred / broadcast(scale + self.eps, x), self.weight, self.bias).to(x.dtype)

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(axes(x))
        centred = x - broadcast(mean, x)
        scale = _deviation(centred)
        far = mean.abs() > _FAR * scale
        if not (x.device.type == "cpu" and may_look(x)) or bool(far.any()):
            exact = x.detach().mean(axes(x), dtype=torch.float64)  # of constants to the last bit
            rest = torch.where(far, exact - mean.detach(), 0.0).to(x.dtype)
            mean, centred = mean + rest, centred - broadcast(rest, x)
            scale = _deviation(centred)
        if count_batch(self):
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
            average(self.running_scale, scale, self.momentum, self.num_batches_tracked)
        return centred, scale


def _deviation(centred: Tensor) -> Tensor:
    """The standard deviation (C,) of Gaussians of the same mean absolute deviation."""
    return math.sqrt(math.pi / 2) * centred.abs().mean(axes(centred))
