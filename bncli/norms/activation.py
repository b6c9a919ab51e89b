"""Norms with an activation of their own: Filter Response Normalization with TLU, EvoNorm-B0 and -S0."""

import torch
from torch import Tensor, nn

from bncli.norms.channels import channels_checked, values_per_channel
from bncli.norms.groups import bessel, scaled, single_or_better
from bncli.norms.sample import add_affine, per_channel, refuse_lonely, refuse_uneven


class EvoNormB0(nn.Module):
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

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        add_affine(self, channels, affine=True)
        self.v = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Scale, and in training update the running variance in place."""
        m = values_per_channel(x, self.channels)
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(x)
            var = self._batch_var(values, bessel(m)) if self.training else self.running_var.to(values.dtype)
            locations = tuple(range(2, x.ndim))
            varied = locations and m > 0
            instance = values.var(locations, correction=0, keepdim=True) if varied else torch.zeros_like(values)
            by_example = torch.addcmul(torch.sqrt(instance + self.eps), per_channel(self.v, values), values)
            y = values / torch.maximum(per_channel(torch.sqrt(var + self.eps), values), by_example)
            return scaled(y, self.weight, self.bias).to(x.dtype)

    def _batch_var(self, values: Tensor, unbiased: float) -> Tensor:
        var = values.var((0, *range(2, values.ndim)), correction=0)
        self.running_var.mul_(1 - self.momentum).add_(var.detach(), alpha=self.momentum * unbiased)
        self.num_batches_tracked.add_(1)
        return var

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


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

    def __init__(self, channels: int, *, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        refuse_uneven("evonorm-s0", groups, channels)
        self.channels, self.groups, self.eps = channels, groups, eps
        add_affine(self, channels, affine=True)
        self.v = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and gate."""
        refuse_lonely(channels_checked(x, self.channels), self.groups)
        if len(x) == 0:  # of which torch's variance warns
            return x
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(x)
            var = values.unflatten(1, (self.groups, -1)).var(tuple(range(2, x.ndim + 1)), correction=0)  # (N, G)
            scale = torch.rsqrt(var + self.eps).repeat_interleave(self.channels // self.groups, 1)
            gate = torch.sigmoid(per_channel(self.v, values) * values)
            y = values * gate * scale.view(*x.shape[:2], *[1] * (x.ndim - 2))
            return scaled(y, self.weight, self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, groups={self.groups}, eps={self.eps}"


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

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        add_affine(self, channels, affine=True)
        self.tau = nn.Parameter(torch.zeros(channels))
        self.learned_eps = nn.Parameter(torch.tensor([1e-4]))

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of each example, then cut off at tau."""
        with torch.autocast(x.device.type, enabled=False):
            values = single_or_better(channels_checked(x, self.channels))
            squares = values.square()
            if x.shape[2:].numel() == 1:
                squares = squares + single_or_better(self.learned_eps).abs()
            elif x.ndim > 2:
                squares = squares.mean(tuple(range(2, x.ndim)), keepdim=True)
            y = scaled(values * torch.rsqrt(squares + self.eps), self.weight, self.bias)
            return torch.maximum(y, per_channel(self.tau, y).to(y.dtype)).to(x.dtype)

    def extra_repr(self) -> str:
        """Its options."""
        return f"{self.channels}, eps={self.eps}"
