"""Batch Renormalization: the batch's statistics, corrected towards the running ones."""

import torch
from torch import Tensor
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import broadcast
from bncli.norms.channels import (
    DType,
    FirstPass,
    RunningNorm,
    add_affine,
    add_running,
    apply_affine,
    average,
    bessel,
    count_batch,
    count_values,
    describe,
    moments,
    reset_affine,
    reset_running,
    widen,
)


class BatchRenorm(RunningNorm):
    """Batch Renormalization (Ioffe 2017, arXiv:1702.03275, algorithm 1).

    y = weight ((x - mean) / std r + d) + bias with std = sqrt(var + eps), biased, over examples and locations,

        r = std / running_std within [1 / rmax_t, rmax_t],    d = (mean - running_mean) / running_std within +-dmax_t,

    both constants to the gradient and taken before the step's update. Where neither is clipped, y is that of
    evaluation: weight (x - running_mean) / running_std + bias. As in the paper it is the standard deviation that is
    averaged, eps in it and biased, where `BatchNorm` averages the unbiased variance.

    Training step t allows rmax_t = 1, dmax_t = 0 (which is `BatchNorm`) up to `plain_steps`; from there they grow in
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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        for name, steps in (("rmax_steps", rmax_steps), ("dmax_steps", dmax_steps)):
            if steps < plain_steps:
                raise ConfigError(f"norm 'renorm': {name} must be >= plain_steps, {plain_steps}, got {steps}")
        self.rmax, self.dmax = rmax, dmax
        self.plain_steps, self.rmax_steps, self.dmax_steps = plain_steps, rmax_steps, dmax_steps
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        self._first_pass = FirstPass()
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_std", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m, wide = count_values(x, self.channels), widen(x)
        if self.training:
            y = self._corrected(wide, m)
        else:
            y = (wide - broadcast(self.running_mean, x)) / broadcast(widen(self.running_std), x)
        return apply_affine(y, self.weight, self.bias).to(x.dtype)

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
        counts = count_batch(self)
        r, d = self._first_pass(x, lambda: self._correction(mean.detach(), std.detach()))
        if counts:
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
            average(self.running_std, std, self.momentum, self.num_batches_tracked)
        return (x - broadcast(mean, x)) * broadcast(r / std, x) + broadcast(d, x)

    def _correction(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        rmax, dmax = self.bounds()
        r = torch.maximum(torch.minimum(std / self.running_std, rmax), 1 / rmax)
        d = (mean - self.running_mean) / self.running_std
        return r, torch.maximum(torch.minimum(d, dmax), -dmax)
