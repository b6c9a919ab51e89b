"""Batch normalisation by other statistics: of virtual batches within a batch, or with noise behind it."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.types import Device

from bncli.kernels import broadcast
from bncli.norms.batch import normalise_batch
from bncli.norms.channels import (
    DType,
    RunningNorm,
    add_affine,
    add_running,
    apply_affine,
    average,
    bessel,
    count_batch,
    count_values,
    describe,
    reset_affine,
    reset_running,
    widen,
)


class GhostBatchNorm(RunningNorm):
    """Ghost Batch Normalization (Hoffer et al. 2017, arXiv:1705.08741, algorithm 1).

    y = weight (x - mean) / sqrt(var + eps) + bias, where in training mean and the biased var of each channel are taken
    over the locations and examples of a virtual batch: `ghost_size` examples that follow one another, fewer in the
    last one if the batch does not divide. Evaluation uses `running_mean` and `running_var`.

    A training step moves the running statistics once, towards the whole batch's mean and the pooled unbiased variance
    within its virtual batches; the paper moves them once for each virtual batch. Independent examples give both the
    same expectation.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel in some virtual batch.
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
        ghost_size: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.ghost_size = ghost_size
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        values = count_values(x, self.channels)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        bessel(values)  # refuses a single value
        parts, totals, squares, freedom = [], [], [], 0
        for part in _virtual_batches(widen(x), self.ghost_size):  # (V, n, C, ...)
            y, mean, var, m = _normalised(part, self.eps)
            parts.append(y.flatten(0, 1))
            totals.append(mean.sum(0) * m)
            squares.append(var.sum(0) * m)
            freedom += len(mean) * (m - 1)
        if count_batch(self):
            average(self.running_mean, _sum(totals) / values, self.momentum, self.num_batches_tracked)
            average(self.running_var, _sum(squares) / freedom, self.momentum, self.num_batches_tracked)
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return apply_affine(y, self.weight, self.bias).to(x.dtype)


def _virtual_batches(x: Tensor, size: int) -> list[Tensor]:
    """The full virtual batches of x (N, C, ...), as (V, size, C, ...); then what is left, if any, as (1, n, C, ...)."""
    size = min(size, len(x))
    whole = len(x) - len(x) % size
    full, rest = x[:whole].unflatten(0, (-1, size)), x[whole:].unsqueeze(0)
    return [full] if whole == len(x) else [full, rest]


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, int]:
    """Each virtual batch of x (V, n, C, ...) standardised, with its mean and biased variance (V, C) over m values."""
    inner = [1, *range(3, x.ndim)]
    m = x.shape[1] * math.prod(x.shape[3:])
    if m < 2:
        raise ValueError("expected more than 1 value per channel in every virtual batch when training, got 1")
    var, mean = torch.var_mean(x, inner, correction=0, keepdim=True)
    y = (x - mean) * (var + eps).rsqrt()
    return y, mean.flatten(1), var.flatten(1), m


def _sum(tensors: list[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(tensors).sum(0)


class NoisyBatchNorm(RunningNorm):
    """Batch Normalization with non-stationary noise after it (Santurkar et al. 2018, arXiv:1805.11604, section 2.2).

    y = s a + m, where a is the output of `BatchNorm`, weight and bias included. In a training step each channel j draws

        mu_j ~ U(-n_mu, n_mu)     sigma_j ~ U(1, n_sigma)

    and each value i of it draws m_ij ~ U(mu_j - r_mu, mu_j + r_mu) and s_ij ~ N(sigma_j, standard deviation r_sigma).
    Evaluation adds no noise. With `draws="layer"` all channels of a layer share mu and sigma. The source leaves open
    whether mu and sigma are drawn per channel or per layer, and whether r_sigma is a standard deviation or a variance.

    The noise comes from torch's global generator of the input's device: seed it for reproducible noise. Under vmap it
    needs `randomness="different"`, and lanes then draw other noise than runs alone.

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
        n_mu: float = 0.5,
        n_sigma: float = 1.25,
        r_mu: float = 0.1,
        r_sigma: float = 0.1,
        draws: Literal["channel", "layer"] = "channel",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.n_mu, self.n_sigma, self.r_mu, self.r_sigma, self.draws = n_mu, n_sigma, r_mu, r_sigma, draws
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training add noise and update the running statistics in place."""
        a = normalise_batch(self, x, "plain")
        return self._noisy(a) if self.training else a

    def _noisy(self, a: Tensor) -> Tensor:
        wide = widen(a)
        units = wide.new_empty(self.channels if self.draws == "channel" else 1)
        mu = self.n_mu * _symmetric(units)
        sigma = 1 + (self.n_sigma - 1) * torch.rand_like(units)
        scale = broadcast(sigma, a) + self.r_sigma * torch.randn_like(wide)
        shift = broadcast(mu, a) + self.r_mu * _symmetric(wide)
        return torch.addcmul(shift, scale, wide).to(a.dtype)


def _symmetric(like: Tensor) -> Tensor:
    """Of the shape of `like`, uniform in [-1, 1]."""
    return 2 * torch.rand_like(like) - 1
