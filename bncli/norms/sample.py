"""Norms that take their statistics from each example by itself: a batch of one is as good as any.

All do in evaluation what they do in training, and keep no running statistics, but for `InstanceNorm` if it is asked to.
Shapes: N examples, C channels, G groups; x is (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), its locations being
all axes after C.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import Impl, broadcast, suspend_autocast, triton_launch
from bncli.norms.channels import (
    Affine,
    DType,
    add_affine,
    add_running,
    average,
    check_channels,
    check_floating,
    describe,
    is_recomputed,
    reset_affine,
    reset_running,
    widen,
)
from bncli.norms.rows import undivided
from bncli.norms.standardise import group_norm, last_axes_norm, refuse_lonely, standardise, standardise_rows

Over = Literal["sample", "channels", "last"]
Channels = int | Sequence[int]


class LayerNorm(nn.Module):
    """Layer Normalization (Ba et al. 2016, arXiv:1607.06450).

    y = weight (x - mean) / sqrt(var + eps) + bias, biased var, with mean and var

    - `over="sample"`: of each example over all channels and locations, weight and bias per channel. On maps that is the
      paper's convolutional form, and torch's `GroupNorm(1, C)`.
    - `over="channels"`: of each location of each example over its channels, weight and bias per channel: ConvNeXt's.
    - `over="last"`: over the last axes, whose sizes `channels` gives, weight and bias of that shape; what stands before
      are examples. This is torch's `LayerNorm(channels)`, as transformers have it: (N, T, C), or (N, C, H, W) with
      `channels=(C, H, W)`.

    On (N, C) the three are the same.

    Raises:
        ConfigError: for several sizes without `over="last"`.
        ValueError: for a single value in each example; over channels or the last axes it gives the bias, as in torch.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: Channels,
        *,
        eps: float = 1e-5,
        affine: Affine = True,
        over: Over = "sample",
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine, self.over, self.impl = channels, eps, affine, over, impl
        add_affine(self, _sizes("layer", channels, over), affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each example, each location, or the last axes."""
        if self.over == "sample":
            values = check_channels(x, *_tuple(self.channels))
            return standardise(values, 1, self.weight, self.bias, self.eps, self.impl)
        with suspend_autocast(x):
            rows, axes = _rows(x, self.channels, self.over)
            if triton_launch.is_forced(self.impl, "layer normalisation", rows):
                return _back(last_axes_norm(rows, len(axes), self.weight, self.bias, self.eps), x, self.over)
            y = standardise_rows(widen(rows), 0, axes, self.eps)
            y = y if self.weight is None else y * self.weight
            return _back(y if self.bias is None else y + self.bias, x, self.over)


class RMSNorm(nn.Module):
    """Root Mean Square Layer Normalization (Zhang & Sennrich 2019, arXiv:1910.07467).

    y = weight x / sqrt(mean(x^2) + eps), the mean over what `over` says, as in `LayerNorm`: this without its centring.
    There is no bias. The paper's formula has no eps, torch's default is the type's smallest relative step. torch's
    `RMSNorm(channels)` is `over="last"`.

    Raises:
        ConfigError: for several sizes without `over="last"`.
    """

    weight: Tensor | None

    def __init__(
        self,
        channels: Channels,
        *,
        eps: float = 1e-6,
        affine: bool = True,
        over: Over = "sample",
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine, self.over, self.impl = channels, eps, affine, over, impl
        sizes = _sizes("rms", channels, over)
        scale = nn.Parameter(torch.empty(sizes, device=device, dtype=dtype)) if affine else None
        self.register_parameter("weight", scale)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale each example, each location, or the last axes."""
        forced = triton_launch.is_forced(self.impl, "RMS normalisation", x)
        with suspend_autocast(x):
            if self.over == "sample":
                values = check_channels(x, *_tuple(self.channels))
                if forced:
                    return group_norm(values, 1, self.weight, None, self.eps, centred=False)
                values = widen(values)
                y = F.rms_norm(values, x.shape[1:], eps=self.eps)
                return (y if self.weight is None else y * broadcast(self.weight, y)).to(x.dtype)
            rows, axes = _rows(x, self.channels, self.over)
            if forced:
                y = last_axes_norm(rows, len(axes), self.weight, None, self.eps, centred=False)
                return _back(y, x, self.over)
            y = F.rms_norm(widen(rows), axes, eps=self.eps)
            return _back(y if self.weight is None else y * self.weight, x, self.over)


class InstanceNorm(_NormBase):
    """Instance Normalization (Ulyanov et al. 2016, arXiv:1607.08022).

    y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased var of each channel of each example over its
    locations. As torch's `InstanceNorm1d/2d/3d` with `affine=True`, but that it refuses a single location in evaluation
    too, where torch returns the bias and nothing of x, and an example without the axis of examples, whose channels
    another axis might be.

    With `track_running_stats` the means over examples of mean and unbiased var move running statistics in training,
    which evaluation takes; as in torch, the batches are not counted, and `update_bn` does not find it.

    Raises:
        ValueError: for inputs with a single location, such as (N, C).
    """

    weight: Tensor | None  # type: ignore[assignment]
    bias: Tensor | None  # type: ignore[assignment]
    affine: Affine  # type: ignore[assignment]

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        affine: Affine = True,
        track_running_stats: bool = False,
        momentum: float = 0.1,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        nn.Module.__init__(self)
        self.channels, self.eps, self.affine = channels, eps, affine
        self.track_running_stats, self.momentum = track_running_stats, momentum
        add_affine(self, channels, affine, device=device, dtype=dtype)
        tracked = ("running_mean", "running_var")
        add_running(self, channels, *tracked, device=device, dtype=dtype, room=track_running_stats)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each example; with `track_running_stats` by what is tracked, in evaluation."""
        check_channels(x, self.channels)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            if not self.training:
                return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            refuse_lonely(x, self.channels)
            if x.shape[0] and not is_recomputed():
                var, mean = torch.var_mean(widen(x.detach()), list(range(2, x.ndim)))
                average(self.running_mean, mean.mean(0), self.momentum, self.running_mean)
                average(self.running_var, var.mean(0), self.momentum, self.running_var)
        return standardise(x, self.channels, self.weight, self.bias, self.eps)


class GroupNorm(nn.Module):
    """Group Normalization (Wu & He 2018, arXiv:1803.08494).

    y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased var of each example over the locations and the C / G
    channels of a group. One group is `LayerNorm`, C groups are `InstanceNorm`. Equal to torch's `GroupNorm`.

    Raises:
        ConfigError: if `groups` does not divide `channels`.
        ValueError: for a single value in each group.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 32,
        eps: float = 1e-5,
        affine: Affine = True,
        impl: Impl = "auto",
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        refuse_uneven("group", groups, channels)
        self.channels, self.groups, self.eps, self.affine, self.impl = channels, groups, eps, affine, impl
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each group of each example."""
        values = check_channels(x, self.channels)
        return standardise(values, self.groups, self.weight, self.bias, self.eps, self.impl)


def _tuple(channels: Channels) -> tuple[int, ...]:
    return (channels,) if isinstance(channels, int) else tuple(channels)


def _sizes(norm: str, channels: Channels, over: Over) -> tuple[int, ...]:
    """The shape of what is learned.

    Raises:
        ConfigError: for several sizes where the channels are one axis.
    """
    sizes = _tuple(channels)
    if len(sizes) != 1 and over != "last":
        raise ConfigError(f"norm {norm!r}: expected one number of channels, got {sizes}; several axes take over='last'")
    return sizes


def _rows(x: Tensor, channels: Channels, over: Over) -> tuple[Tensor, tuple[int, ...]]:
    """X with what is normalised in the last axes, and the sizes of these.

    Raises:
        ValueError: if they are not what x has.
    """
    sizes = _tuple(channels)
    if over == "channels":
        return check_channels(x, sizes[0]).movedim(1, -1), sizes
    if x.ndim < len(sizes) or tuple(x.shape[x.ndim - len(sizes) :]) != sizes:
        raise ValueError(f"expected {sizes} in the last axes, got input of shape {tuple(x.shape)}")
    return check_floating(x), sizes


def _back(y: Tensor, x: Tensor, over: Over) -> Tensor:
    """The inverse of `_rows`, laid out as x."""
    if over == "channels":
        y = y.movedim(-1, 1)
    return (y.contiguous() if x.is_contiguous() else y).to(x.dtype)


def refuse_uneven(norm: str, groups: int, channels: int) -> None:
    """Raise a ConfigError if `groups` does not divide `channels`."""
    wrong = undivided(groups, channels)
    if wrong:
        raise ConfigError(f"norm {norm!r}: {wrong}")
