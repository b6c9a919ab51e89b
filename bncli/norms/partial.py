"""Parts and relatives of Batch Normalization: the mean alone, the variance alone, the mean absolute deviation."""

import math

from torch import Tensor, nn, ones, zeros

from bncli.norms.channels import add_averages, add_parameters, along, average, axes, moments, values_per_channel
from bncli.norms.groups import bessel, scaled, single_or_better


class BatchMean(nn.Module):
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

    def __init__(self, channels: int, *, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.momentum, self.affine = channels, momentum, affine
        add_parameters(self, channels, "shift" if affine else False)
        add_averages(self, {"running_mean": zeros(channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Centre, and in training update the running mean in place."""
        m, wide = values_per_channel(x, self.channels), single_or_better(x)
        mean = self._of_batch(wide, m) if self.training else self.running_mean
        y = wide - along(mean, x)
        return (y if self.bias is None else y + along(self.bias, x)).to(x.dtype)

    def _of_batch(self, x: Tensor, m: int) -> Tensor:
        bessel(m)  # refuses a single value
        mean = x.mean(axes(x))
        self.num_batches_tracked.add_(1)
        average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
        return mean

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, momentum={self.momentum}, affine={self.affine}"


class BatchVar(nn.Module):
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

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_parameters(self, channels, affine)
        add_averages(self, {"running_var": ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Scale, and in training update the running variance in place."""
        m, wide = values_per_channel(x, self.channels), single_or_better(x)
        var = self._of_batch(wide, m) if self.training else self.running_var
        y = wide * along((single_or_better(var) + self.eps).rsqrt(), x)
        return scaled(y, self.weight, self.bias).to(x.dtype)

    def _of_batch(self, x: Tensor, m: int) -> Tensor:
        unbiased = bessel(m)
        _, var = moments(x)
        self.num_batches_tracked.add_(1)
        average(self.running_var, var * unbiased, self.momentum, self.num_batches_tracked)
        return var

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class BatchL1(nn.Module):
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

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_parameters(self, channels, affine)
        add_averages(self, {"running_mean": zeros(channels), "running_scale": ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m, wide = values_per_channel(x, self.channels), single_or_better(x)
        if self.training:
            bessel(m)  # refuses a single value
        mean = wide.mean(axes(x)) if self.training else self.running_mean
        centred = wide - along(mean, x)
        scale = self._of_batch(mean, centred) if self.training else single_or_better(self.running_scale)
        return scaled(centred / along(scale + self.eps, x), self.weight, self.bias).to(x.dtype)

    def _of_batch(self, mean: Tensor, centred: Tensor) -> Tensor:
        scale = math.sqrt(math.pi / 2) * centred.abs().mean(axes(centred))
        self.num_batches_tracked.add_(1)
        average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
        average(self.running_scale, scale, self.momentum, self.num_batches_tracked)
        return scale

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
