"""Channels one by one: their parameters, and their statistics over a batch, averaged along training.

Shapes: N examples, C channels, m values of a channel (examples times locations). A statistic is (C,).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from bncli.errors import ConfigError

Affine = Literal[True, False, "scale", "shift"]
Momentum = float | Literal["cumulative"]


def add_parameters(norm: nn.Module, channels: int, affine: Affine) -> None:
    """Give a norm `weight` and `bias`, None where `affine` leaves them out.

    Raises:
        ConfigError: for another value of `affine`.
    """
    if affine not in (True, False, "scale", "shift"):
        raise ConfigError(f"{type(norm).__name__}: affine must be True, False, 'scale' or 'shift', got {affine!r}")
    scale, shift = affine in (True, "scale"), affine in (True, "shift")
    norm.register_parameter("weight", nn.Parameter(torch.ones(channels)) if scale else None)
    norm.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if shift else None)


def add_averages(norm: nn.Module, starts: Mapping[str, Tensor]) -> None:
    """Give a norm its running statistics, each with the value it starts from, and the count of batches."""
    for name, start in starts.items():
        norm.register_buffer(name, start)
    norm.register_buffer("num_batches_tracked", torch.tensor(0))


def values_per_channel(x: Tensor, channels: int) -> int:
    """How many values of each channel x (N, C, ...) has.

    Raises:
        ValueError: for another number of channels.
    """
    return channels_checked(x, channels).shape[0] * x.shape[2:].numel()


def channels_checked(x: Tensor, channels: int) -> Tensor:
    """`x`, if it is (N, C, ...) with as many channels as expected.

    Raises:
        ValueError: if not.
    """
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(f"expected {channels} channels, got input of shape {tuple(x.shape)}")
    return x


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of x (N, C, ...): each (C,). Two passes or Welford: nothing cancels."""
    var, mean = torch.var_mean(x, axes(x), correction=0)
    return mean, var


def axes(x: Tensor) -> list[int]:
    """Examples and locations of x (N, C, ...)."""
    return [0, *range(2, x.ndim)]


def along(statistic: Tensor, x: Tensor) -> Tensor:
    """(C,) to a shape that multiplies x (N, C, ...)."""
    return statistic.view(-1, *[1] * (x.ndim - 2))


def average(running: Tensor, new: Tensor, momentum: Momentum, batches: Tensor) -> None:
    """Move `running` in place towards `new` by `momentum`, or to the mean over all `batches` so far, this one counted.

    The count is a tensor and stays one, so that lanes under vmap and torch.compile each keep theirs.
    """
    new = new.detach()
    if isinstance(momentum, str):
        running.add_((new - running) / batches)
    else:
        running.mul_(1 - momentum).add_(new, alpha=momentum)
