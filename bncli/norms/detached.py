"""Normalisation by statistics that the gradient does not see: why Batch Normalization differentiates its own."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.types import Device

from bncli.kernels import suspend_autocast
from bncli.norms.channels import (
    DType,
    RunningNorm,
    average,
    bessel,
    count_batch,
    count_values,
    describe,
    reset_affine,
)
from bncli.norms.groups import (
    covariance,
    join_groups,
    lay_out_like,
    read_running,
    root_dtype,
    split_groups,
    widen_for_root,
)
from bncli.norms.roots import inverse_root

Normalisation = Literal["centring", "scaling", "whitening"]


class DetachedNorm(RunningNorm):
    """Normalisation as if its statistics were constants (Ioffe & Szegedy 2015, section 2).

    - centring: y = x - mean
    - scaling: y = (x - mean) / sqrt(var + eps), biased var
    - whitening: y = (cov + eps I)^-1/2 (x - mean), over all channels at once

    over examples and locations in training, by running statistics (unbiased) in evaluation. The gradient is that of y
    with mean, var and cov held fixed: a step on what these cancel (a bias before it, say) leaves y and the loss as they
    were, so that it is taken again and again, and the parameter grows without bound. `differentiate` makes the
    gradient the right one, as a control. The paper writes out only the centring of a bias. No affine parameters.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    running_mean: Tensor  # (C,)
    running_spread: Tensor  # var (C, 1), cov (C, C), or (C, 0) for centring
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        by: Normalisation = "scaling",
        differentiate: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.by, self.differentiate, self.eps, self.momentum = channels, by, differentiate, eps, momentum
        spread = torch.empty_like(_WAYS[by].start(channels), device=device, dtype=dtype)
        self.register_buffer("running_mean", torch.empty(channels, device=device, dtype=dtype))
        self.register_buffer("running_spread", spread)
        self.register_buffer("num_batches_tracked", torch.empty((), device=device, dtype=torch.long))
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def reset_running_stats(self) -> None:
        """Put mean, variance or covariance, and count back to 0, 1 or the identity, and 0, in place."""
        self.running_mean.zero_()
        self.running_spread.copy_(_WAYS[self.by].start(self.channels))
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        m = count_values(x, self.channels)
        if self.training:
            bessel(m)  # refuses a single value
        with suspend_autocast(x):
            whitens = self.by == "whitening"
            wide = widen_for_root(x, m, self.channels) if whitens and self.training else x
            values = split_groups(wide, self.channels, self.channels).squeeze(0)  # (C, m)
            if self.training:
                mean, spread = self._statistics(values)
            else:
                mean, spread = self.running_mean, self.running_spread
                spread = read_running(spread, self.eps, self.momentum) if whitens else spread.to(values.dtype)
            y = _WAYS[self.by].divide(values - mean.to(values.dtype).unsqueeze(1), spread, self.eps)
            return lay_out_like(join_groups(y.unsqueeze(0), x.shape).to(x.dtype), x)

    def _statistics(self, values: Tensor) -> tuple[Tensor, Tensor]:
        unbiased = bessel(values.shape[1])
        seen = values if self.differentiate else values.detach()
        mean = seen.mean(1)
        spread = _WAYS[self.by].spread(seen - mean.unsqueeze(1))
        if count_batch(self):
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
            average(self.running_spread, spread, self.momentum, self.num_batches_tracked, unbiased)
        return mean, spread


class _Way(NamedTuple):
    """What is kept of the centred values (C, m) beside their mean, and how they are divided by it."""

    start: Callable[[int], Tensor]
    spread: Callable[[Tensor], Tensor]
    divide: Callable[[Tensor, Tensor, float], Tensor]


def _whitened(centred: Tensor, cov: Tensor, eps: float) -> Tensor:
    eye = torch.eye(cov.shape[0], dtype=cov.dtype, device=cov.device)
    return inverse_root(cov + eps * eye).to(centred.dtype) @ centred


_WAYS = {
    "centring": _Way(
        lambda channels: torch.ones(channels, 0),
        lambda centred: centred[:, :0],
        lambda centred, _, eps: centred,
    ),
    "scaling": _Way(
        lambda channels: torch.ones(channels, 1),
        lambda centred: centred.square().mean(1, keepdim=True),
        lambda centred, var, eps: centred * torch.rsqrt(var + eps),
    ),
    "whitening": _Way(
        torch.eye,
        lambda centred: covariance(centred, root_dtype(centred)),
        _whitened,
    ),
}
