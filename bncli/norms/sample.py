"""Norms that take their statistics from each example by itself: a batch of one is as good as any.

All do in evaluation what they do in training, and keep no running statistics, but for `InstanceNorm` if it is asked to.
Shapes: N examples, C channels, G groups; x is (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), its locations being
all axes after C.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import broadcast, is_run_as_written, is_wrapped, may_look, suspend_autocast
from bncli.kernels.whitening import layout_of
from bncli.norms.channels import (
    Affine,
    DType,
    add_affine,
    add_running,
    apply_affine,
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

Over = Literal["sample", "channels", "last"]
Channels = int | Sequence[int]

_FAR = 256.0  # mean^2 / var above which values are moved to zero first; below, rounding costs 16 times eps


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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine, self.over = channels, eps, affine, over
        add_affine(self, _sizes("layer", channels, over), affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each example, each location, or the last axes."""
        if self.over == "sample":
            return standardise(check_channels(x, *_tuple(self.channels)), 1, self.weight, self.bias, self.eps)
        with suspend_autocast(x):
            rows, axes = _rows(x, self.channels, self.over)
            y = _standardised(rows, 0, axes, self.eps)
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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine, self.over = channels, eps, affine, over
        sizes = _sizes("rms", channels, over)
        scale = nn.Parameter(torch.empty(sizes, device=device, dtype=dtype)) if affine else None
        self.register_parameter("weight", scale)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale each example, each location, or the last axes."""
        with suspend_autocast(x):
            if self.over == "sample":
                values = widen(check_channels(x, *_tuple(self.channels)))
                y = F.rms_norm(values, x.shape[1:], eps=self.eps)
                return (y if self.weight is None else y * broadcast(self.weight, y)).to(x.dtype)
            rows, axes = _rows(x, self.channels, self.over)
            y = F.rms_norm(rows, axes, eps=self.eps)
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
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        refuse_uneven("group", groups, channels)
        self.channels, self.groups, self.eps, self.affine = channels, groups, eps, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each group of each example."""
        return standardise(check_channels(x, self.channels), self.groups, self.weight, self.bias, self.eps)


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
    """X with what is normalised in the last axes, in float32 or better, and the sizes of these.

    Raises:
        ValueError: if they are not what x has.
    """
    sizes = _tuple(channels)
    if over == "channels":
        return widen(check_channels(x, sizes[0]).movedim(1, -1)), sizes
    if x.ndim < len(sizes) or tuple(x.shape[x.ndim - len(sizes) :]) != sizes:
        raise ValueError(f"expected {sizes} in the last axes, got input of shape {tuple(x.shape)}")
    return widen(check_floating(x)), sizes


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


def refuse_lonely(x: Tensor, groups: int) -> None:
    """Raise a ValueError if x (N, C, ...) has fewer than 2 values in each group of each example."""
    values = x.shape[1] // groups * math.prod(x.shape[2:])
    if values < 2:
        what = "location per channel" if groups == x.shape[1] else "value per group of channels"
        raise ValueError(
            f"expected more than 1 {what} in each example, got {values} in an input of shape {tuple(x.shape)}"
        )


def standardise(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each group of each example of x (N, C, ...) to mean 0 and variance 1, then weight and bias per channel."""
    refuse_lonely(x, groups)
    with suspend_autocast(x):
        values = widen(x)
        if not values.is_contiguous():
            values = values - _about_centre(values.detach(), groups)
        return apply_affine(_standardised(values, groups, (), eps), weight, bias).to(x.dtype)


def _standardised(values: Tensor, groups: int, axes: tuple[int, ...], eps: float) -> Tensor:
    """Each group of each example of (N, C, ...), or with groups=0 the last `axes`, to mean 0 and variance 1.

    torch's kernels compute x / std - mean / std, and their gradients alike: of a mean of 1e4 and a variance of 1 in
    float32 that leaves an error of .002, and of .16 in groups of two channels (docs/log.md). So what is far from zero
    is moved there first, by its first value, which leaves of constants exactly 0. Not on other devices, whose values
    are not looked at.
    """
    foreign = values.device.type != "cpu"
    if not is_wrapped(values) and is_run_as_written() and (foreign or may_look(values)):
        y, mean, rstd = _of_torch(values, groups, axes, eps)
        if foreign or mean.numel() == 0:
            return y
        if torch.linalg.vector_norm(mean.detach() * rstd.detach(), torch.inf).item() ** 2 <= _FAR:
            return y
    rows = values.unflatten(1, (groups, -1)).flatten(2) if groups else values.flatten(-len(axes))
    seen, least = rows.detach(), (1 + 1 / _FAR) * rows.shape[-1]
    mean, norm = seen.mean(-1, keepdim=True), torch.linalg.vector_norm(seen, dim=-1, keepdim=True)
    centre = torch.where(least * mean.square() > norm.square(), seen[..., :1], 0.0)
    return _of_torch((rows - centre).view_as(values), groups, axes, eps)[0]


def _of_torch(values: Tensor, groups: int, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised values, means and 1 / sqrt(var + eps)."""
    if not groups:
        return torch.native_layer_norm(values, axes, None, None, eps)
    N, C, *locations = values.shape
    values = values.contiguous(memory_format=layout_of(values))  # others its gradient refuses
    return torch.native_group_norm(values, None, None, N, C, math.prod(locations), groups, eps)


def _about_centre(x: Tensor, groups: int) -> Tensor:
    """Mean of each group, (N, C, 1, ...): torch's kernel for channels_last takes var = E[x^2] - E[x]^2.

    Of a mean of 1e4 and a variance of 1 in float32 that makes an output of variance 50,000 (docs/log.md).
    """
    means = x.unflatten(1, (groups, -1)).flatten(2).mean(2)  # (N, G)
    each: Tensor = means.repeat_interleave(x.shape[1] // groups, 1)
    return broadcast(each, x)
