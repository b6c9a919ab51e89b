"""Norms that take their statistics from each example by itself: a batch of one is as good as any.

All do in evaluation what they do in training, and keep no running statistics. Shapes: N examples, C channels,
G groups; x is (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), its locations being all axes after C.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import broadcast
from bncli.norms.channels import DType, add_affine, apply_affine, check_channels, describe, reset_affine, widen
from bncli.norms.rows import undivided


class LayerNorm(nn.Module):
    """Layer Normalization (Ba et al. 2016, arXiv:1607.06450).

    y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased var of each example over all channels and locations;
    weight and bias are per channel. On maps that is the paper's convolutional form, and torch's `GroupNorm(1, C)`;
    torch's `LayerNorm(C)` takes channels last and each location by itself, its `LayerNorm((C, H, W))` learns a weight
    per channel and location.

    Raises:
        ValueError: for a single value in each example.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, channels: int, *, eps: float = 1e-5, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine = channels, eps, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each example."""
        return standardise(check_channels(x, self.channels), 1, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Root Mean Square Layer Normalization (Zhang & Sennrich 2019, arXiv:1910.07467).

    y = weight x / sqrt(mean(x^2) + eps), the mean of each example over all channels and locations: `LayerNorm` without
    its centring. There is no bias. The paper's formula has no eps, torch's default is the type's smallest relative
    step. torch's `RMSNorm(C)` takes channels last and each location by itself.
    """

    weight: Tensor | None

    def __init__(
        self, channels: int, *, eps: float = 1e-6, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine = channels, eps, affine
        scale = nn.Parameter(torch.empty(channels, device=device, dtype=dtype)) if affine else None
        self.register_parameter("weight", scale)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale each example."""
        with torch.autocast(x.device.type, enabled=False):
            y = F.rms_norm(widen(check_channels(x, self.channels)), x.shape[1:], eps=self.eps)
            return (y if self.weight is None else y * broadcast(self.weight, y)).to(x.dtype)


class InstanceNorm(nn.Module):
    """Instance Normalization (Ulyanov et al. 2016, arXiv:1607.08022).

    y = weight (x - mean) / sqrt(var + eps) + bias, mean and biased var of each channel of each example over its
    locations. As torch's `InstanceNorm1d/2d/3d` with `affine=True`, but that it refuses a single location in evaluation
    too, where torch returns the bias and nothing of x.

    Raises:
        ValueError: for inputs with a single location, such as (N, C).
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self, channels: int, *, eps: float = 1e-5, affine: bool = True, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine = channels, eps, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each example."""
        return standardise(check_channels(x, self.channels), self.channels, self.weight, self.bias, self.eps)


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
        affine: bool = True,
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


def refuse_uneven(norm: str, groups: int, channels: int) -> None:
    """Raise a ConfigError if `groups` does not divide `channels`."""
    wrong = undivided(groups, channels)
    if wrong:
        raise ConfigError(f"norm {norm!r}: {wrong}")


def refuse_lonely(x: Tensor, groups: int) -> None:
    """Raise a ValueError if x (N, C, ...) has fewer than 2 values in each group of each example."""
    values = x.shape[1] // groups * x.shape[2:].numel()
    if values < 2:
        what = "location per channel" if groups == x.shape[1] else "value per group of channels"
        raise ValueError(
            f"expected more than 1 {what} in each example, got {values} in an input of shape {tuple(x.shape)}"
        )


def standardise(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each group of each example of x (N, C, ...) to mean 0 and variance 1, then weight and bias per channel."""
    refuse_lonely(x, groups)
    with torch.autocast(x.device.type, enabled=False):
        values = widen(x)
        if not values.is_contiguous():
            values = values - _about_centre(values.detach(), groups)
        return apply_affine(F.group_norm(values, groups, eps=eps), weight, bias).to(x.dtype)


def _about_centre(x: Tensor, groups: int) -> Tensor:
    """Mean of each group, (N, C, 1, ...): torch's kernel for channels_last takes var = E[x^2] - E[x]^2.

    Of a mean of 1e4 and a variance of 1 in float32 that makes an output of variance 50,000 (docs/log.md).
    """
    means = x.unflatten(1, (groups, -1)).flatten(2).mean(2)  # (N, G)
    each: Tensor = means.repeat_interleave(x.shape[1] // groups, 1)
    return broadcast(each, x)
