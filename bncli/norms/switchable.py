"""Switchable Normalization: a learned mixture of the statistics of an instance, a layer and a batch norm."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.types import Device

from bncli.kernels import broadcast, suspend_autocast
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


class SwitchableNorm(RunningNorm):
    """Switchable Normalization (Luo et al. 2019, arXiv:1806.10779).

    y = weight (x - mean) / sqrt(var + eps) + bias with mean = sum_k softmax(mean_weight)_k mean_k and
    var = sum_k softmax(var_weight)_k var_k, k in (instance, layer, batch): over the locations, over channels and
    locations, over examples and locations. On inputs with a single location, (N, C) above all, there is no instance
    part and the softmax goes over the other two. In evaluation the batch part is `running_mean` and `running_var`.

    As in the authors' code, and unlike the paper's formulas, variances over locations are unbiased and those over
    channels or examples are made of them: var_layer = mean over channels of var_instance, plus the biased variance of
    mean_instance; the same over examples for the batch. On a single location the two variances are unbiased.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel; with a single value in each example.
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
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        self.mean_weight = nn.Parameter(torch.empty(3, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.empty(3, device=device, dtype=dtype))
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m = count_values(x, self.channels)
        if self.training:
            bessel(m)  # refuses a single value
        elif m == 0:  # of which torch's variance warns
            return x
        with suspend_autocast(x):
            values = widen(x).flatten(2) if x.ndim > 2 else widen(x).unsqueeze(2)  # (N, C, L)
            parts = _of_examples(values)
            parts.append(self._of_batch(values, parts[0]) if self.training else self._running(values))
            mean = _mixed(self.mean_weight, [part.mean for part in parts])
            var = _mixed(self.var_weight, [part.var for part in parts])
            y = (values - mean) * torch.rsqrt(var + self.eps)
            return apply_affine(y, self.weight, self.bias).view_as(x).to(x.dtype)

    def _of_batch(self, values: Tensor, instance: "_Moments") -> "_Moments":
        batch = _batch_moments(values, instance)
        if count_batch(self):
            average(self.running_mean, batch.mean.flatten(), self.momentum, self.num_batches_tracked)
            average(self.running_var, batch.var.flatten(), self.momentum, self.num_batches_tracked)
        return batch

    def _running(self, values: Tensor) -> "_Moments":
        mean, var = (broadcast(b.to(values.dtype), values) for b in (self.running_mean, self.running_var))
        return _Moments(mean, var)


class _Moments(NamedTuple):
    """Mean and variance, each broadcasting along (N, C, L)."""

    mean: Tensor
    var: Tensor


def _of_examples(values: Tensor) -> list[_Moments]:
    """Instance and layer moments of (N, C, L); for L = 1 only the layer's."""
    C, L = values.shape[1:]
    if C * L < 2:
        raise ValueError(f"expected more than 1 value per example, got {C * L}")
    if L == 1:
        return [_along(values, 1)]
    instance = _along(values, 2)
    return [instance, _pooled(instance, 1)]


def _batch_moments(values: Tensor, instance: _Moments) -> _Moments:
    return _along(values, 0) if values.shape[2] == 1 else _pooled(instance, 0)


def _along(values: Tensor, axis: int) -> _Moments:
    """Mean and unbiased variance."""
    var, mean = torch.var_mean(values, axis, correction=1, keepdim=True)
    return _Moments(mean, var)


def _pooled(parts: _Moments, axis: int) -> _Moments:
    """Moments of a union of equally large parts: variance within plus variance of the means."""
    between, mean = torch.var_mean(parts.mean, axis, correction=0, keepdim=True)
    return _Moments(mean, parts.var.mean(axis, keepdim=True) + between)


def _mixed(weight: Tensor, parts: list[Tensor]) -> Tensor:
    """sum_k softmax(weight)_k parts_k over the last parts, all of them if there are as many as weights."""
    share = torch.softmax(widen(weight)[-len(parts) :], 0)
    mixed = share[0] * parts[0]
    for k in range(1, len(parts)):
        mixed = mixed + share[k] * parts[k]
    return mixed
