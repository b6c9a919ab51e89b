"""Norms that bring an activation (FRN with TLU, EvoNorm-B0 and -S0), and functions in a norm's place (DyT, Derf)."""

import math

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
    check_channels,
    count_batch,
    count_values,
    describe,
    reset_affine,
    reset_running,
    widen,
)
from bncli.norms.sample import refuse_uneven
from bncli.norms.standardise import refuse_lonely


class EvoNormB0(RunningNorm):
    """EvoNorm-B0 (Liu et al. 2020, arXiv:2004.02967).

    y = weight x / max(sqrt(var_batch + eps), v x + sqrt(var_instance + eps)) + bias, both variances biased: var_batch
    of each channel over examples and locations, `running_var` (unbiased) in evaluation; var_instance of each channel of
    each example over its locations, 0 where there is one. Nothing is subtracted. v is learned per channel, starts at 1,
    and makes the layer its own activation. Published code often has eps 1e-3.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor
    bias: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        add_affine(self, channels, device=device, dtype=dtype)
        self.v = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        add_running(self, channels, "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale, and in training update the running variance in place."""
        m = count_values(x, self.channels)
        with suspend_autocast(x):
            values = widen(x)
            var = self._batch_var(values, bessel(m)) if self.training else self.running_var.to(values.dtype)
            locations = tuple(range(2, x.ndim))
            varied = locations and m > 0
            instance = values.var(locations, correction=0, keepdim=True) if varied else torch.zeros_like(values)
            by_example = torch.addcmul(torch.sqrt(instance + self.eps), broadcast(self.v, values), values)
            y = values / torch.maximum(broadcast(torch.sqrt(var + self.eps), values), by_example)
            return apply_affine(y, self.weight, self.bias).to(x.dtype)

    def _batch_var(self, values: Tensor, unbiased: float) -> Tensor:
        var = values.var((0, *range(2, values.ndim)), correction=0)
        if count_batch(self):
            average(self.running_var, var, self.momentum, self.num_batches_tracked, unbiased)
        return var


class EvoNormS0(nn.Module):
    """EvoNorm-S0 (Liu et al. 2020, arXiv:2004.02967).

    y = weight x sigmoid(v x) / sqrt(var + eps) + bias, the biased var of each example over the locations and the C / G
    channels of a group; the same in evaluation. Nothing is subtracted. v is learned per channel, starts at 1, and makes
    the layer its own activation.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ConfigError: if `groups` does not divide `channels`.
        ValueError: for a single value in each group.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, channels: int, *, groups: int = 32, eps: float = 1e-5, device: Device = None, dtype: DType = None
    ) -> None:
        super().__init__()
        refuse_uneven("evonorm-s0", groups, channels)
        self.channels, self.groups, self.eps = channels, groups, eps
        add_affine(self, channels, device=device, dtype=dtype)
        self.v = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Scale and gate."""
        refuse_lonely(check_channels(x, self.channels), self.groups)
        if x.shape[0] == 0:  # of which torch's variance warns
            return x
        with suspend_autocast(x):
            values = widen(x)
            var = values.unflatten(1, (self.groups, -1)).var(tuple(range(2, x.ndim + 1)), correction=0)  # (N, G)
            scale = torch.rsqrt(var + self.eps).repeat_interleave(self.channels // self.groups, 1)
            gate = torch.sigmoid(broadcast(self.v, values) * values)
            y = values * gate * broadcast(scale, x)
            return apply_affine(y, self.weight, self.bias).to(x.dtype)


class FRN(nn.Module):
    """Filter Response Normalization and Thresholded Linear Unit (Singh & Krishnan 2020, arXiv:1911.09737).

    y = max(weight x / sqrt(nu^2 + eps) + bias, tau), nu^2 the mean of x^2 of each channel of each example over its
    locations; the same in evaluation. tau is learned, starts at 0 (a relu) and makes the layer its own activation.

    On inputs with a single location, (N, C) above all, nu^2 is x^2 and eps decides how much of x's size is left:
    there, as in the paper, |`learned_eps`|, one number that starts at 1e-4, is added to eps. On maps it is unused.
    Nothing is subtracted, so an offset common to all values stays, and takes the place of the signal.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-6, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        add_affine(self, channels, device=device, dtype=dtype)
        self.tau = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.learned_eps = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    extra_repr = describe

    def reset_parameters(self) -> None:
        """Put what it learns back to where it starts, in place: weight 1, bias 0, tau 0 and `learned_eps` 1e-4."""
        reset_affine(self)
        nn.init.zeros_(self.tau)
        nn.init.constant_(self.learned_eps, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of each example, then cut off at tau."""
        with suspend_autocast(x):
            values = widen(check_channels(x, self.channels))
            squares = values.square()
            if math.prod(x.shape[2:]) == 1:
                squares = squares + widen(self.learned_eps).abs()
            elif x.ndim > 2:
                squares = squares.mean(tuple(range(2, x.ndim)), keepdim=True)
            y = apply_affine(values * torch.rsqrt(squares + self.eps), self.weight, self.bias)
            return torch.maximum(y, broadcast(self.tau, y).to(y.dtype)).to(x.dtype)


class DyT(nn.Module):
    """Dynamic Tanh (Zhu et al. 2025, arXiv:2503.10622).

    y = weight tanh(alpha x) + bias with one learned alpha for all channels, starting at `alpha0`; the same in
    evaluation. Takes no statistics, so it mixes neither examples nor channels nor locations. Of an infinite
    value it leaves the sign: the output is finite, only nan stays nan.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, alpha0: float = 0.5, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels, self.alpha0 = channels, alpha0
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        add_affine(self, channels, device=device, dtype=dtype)
        self.reset_parameters()

    extra_repr = describe

    def reset_parameters(self) -> None:
        """Put what it learns back to where it starts, in place: weight 1, bias 0 and alpha `alpha0`."""
        reset_affine(self)
        nn.init.constant_(self.alpha, self.alpha0)

    def forward(self, x: Tensor) -> Tensor:
        """Squash each value."""
        with suspend_autocast(x):
            values = widen(check_channels(x, self.channels))
            return apply_affine(torch.tanh(self.alpha * values), self.weight, self.bias).to(x.dtype)


class Derf(nn.Module):
    """Dynamic erf (Chen et al. 2025, arXiv:2512.10938).

    y = weight erf(alpha x + shift) + bias with one learned alpha and one learned shift for all channels, starting at
    `alpha0` and 0; the same in evaluation. Takes no statistics; infinite values come out finite, as in `DyT`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, alpha0: float = 0.5, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels, self.alpha0 = channels, alpha0
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.shift = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        add_affine(self, channels, device=device, dtype=dtype)
        self.reset_parameters()

    extra_repr = describe

    def reset_parameters(self) -> None:
        """Put what it learns back to where it starts, in place: weight 1, bias 0, alpha `alpha0` and shift 0."""
        reset_affine(self)
        nn.init.constant_(self.alpha, self.alpha0)
        nn.init.zeros_(self.shift)

    def forward(self, x: Tensor) -> Tensor:
        """Squash each value."""
        with suspend_autocast(x):
            values = widen(check_channels(x, self.channels))
            return apply_affine(torch.erf(self.alpha * values + self.shift), self.weight, self.bias).to(x.dtype)
