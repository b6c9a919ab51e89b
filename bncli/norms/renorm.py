"""Batch Renormalization: the batch's statistics, corrected towards the running ones."""

import torch
from torch import Tensor, nn, ones, zeros

from bncli.errors import ConfigError
from bncli.norms.channels import add_averages, add_parameters, along, average, moments, values_per_channel
from bncli.norms.groups import bessel, scaled, single_or_better


class Renorm(nn.Module):
    """Batch Renormalization (Ioffe 2017, arXiv:1702.03275, algorithm 1).

    y = weight ((x - mean) / std r + d) + bias with std = sqrt(var + eps), biased, over examples and locations,

        r = std / running_std within [1 / rmax_t, rmax_t],    d = (mean - running_mean) / running_std within +-dmax_t,

    both constants to the gradient and taken before the step's update. Where neither is clipped, y is that of
    evaluation: weight (x - running_mean) / running_std + bias. As in the paper it is the standard deviation that is
    averaged, eps in it and biased, where `Batch` averages the unbiased variance.

    Training step t allows rmax_t = 1, dmax_t = 0 (which is `Batch`) up to `plain_steps`; from there they grow in
    proportion to t up to `rmax` at `rmax_steps` and `dmax` at `dmax_steps`. The paper names these ends and says
    that the growth is gradual; torch has no such layer.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ConfigError: if a bound is to be reached before `plain_steps`.
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        rmax: float = 3.0,
        dmax: float = 5.0,
        plain_steps: int = 5_000,
        rmax_steps: int = 40_000,
        dmax_steps: int = 25_000,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
    ) -> None:
        super().__init__()
        for name, steps in (("rmax_steps", rmax_steps), ("dmax_steps", dmax_steps)):
            if steps < plain_steps:
                raise ConfigError(f"norm 'renorm': {name} must be >= plain_steps, {plain_steps}, got {steps}")
        self.rmax, self.dmax = rmax, dmax
        self.plain_steps, self.rmax_steps, self.dmax_steps = plain_steps, rmax_steps, dmax_steps
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_parameters(self, channels, affine)
        add_averages(self, {"running_mean": zeros(channels), "running_std": ones(channels)})

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m, wide = values_per_channel(x, self.channels), single_or_better(x)
        if self.training:
            y = self._corrected(wide, m)
        else:
            y = (wide - along(self.running_mean, x)) / along(single_or_better(self.running_std), x)
        return scaled(y, self.weight, self.bias).to(x.dtype)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The rmax_t and dmax_t of the step whose number `num_batches_tracked` is."""
        of_r = self._progress(self.rmax_steps)
        return 1 + (self.rmax - 1) * of_r, self.dmax * self._progress(self.dmax_steps)

    def _progress(self, end: int) -> Tensor:
        return ((self.num_batches_tracked - self.plain_steps) / max(end - self.plain_steps, 1)).clamp(0, 1)

    def _corrected(self, x: Tensor, m: int) -> Tensor:
        bessel(m)  # refuses a single value
        mean, var = moments(x)
        std = (var + self.eps).sqrt()
        self.num_batches_tracked.add_(1)
        r, d = self._correction(mean.detach(), std.detach())
        average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
        average(self.running_std, std, self.momentum, self.num_batches_tracked)
        return (x - along(mean, x)) * along(r / std, x) + along(d, x)

    def _correction(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        rmax, dmax = self.bounds()
        r = torch.maximum(torch.minimum(std / self.running_std, rmax), 1 / rmax)
        d = (mean - self.running_mean) / self.running_std
        return r, torch.maximum(torch.minimum(d, dmax), -dmax)

    def extra_repr(self) -> str:
        """Its options."""
        return (
            f"{self.channels}, rmax={self.rmax}, dmax={self.dmax}, plain_steps={self.plain_steps}, "
            f"rmax_steps={self.rmax_steps}, dmax_steps={self.dmax_steps}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}"
        )
