"""Channels one by one: a norm's parameters and running statistics, and what is taken over each channel of a batch.

Shapes: N examples, C channels, m values of a channel (examples times locations). A statistic is (C,).
"""

from inspect import signature
from typing import Literal

import torch
from torch import Tensor, nn
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import broadcast

DType = torch.dtype | None  # None: torch's default, as with `Device`
Affine = Literal[True, False, "scale", "shift"]
RunningMomentum = float | Literal["cumulative"]


def add_affine(
    norm: nn.Module, channels: int, affine: Affine = True, *, device: Device = None, dtype: DType = None
) -> None:
    """Give a norm room for `weight` and `bias` per channel, None where `affine` leaves them out.

    Raises:
        ConfigError: for another value of `affine`.
    """
    if affine not in (True, False, "scale", "shift"):
        raise ConfigError(f"{type(norm).__name__}: affine must be True, False, 'scale' or 'shift', got {affine!r}")
    for name, learned in (("weight", affine in (True, "scale")), ("bias", affine in (True, "shift"))):
        room = nn.Parameter(torch.empty(channels, device=device, dtype=dtype)) if learned else None
        norm.register_parameter(name, room)


def add_running(norm: nn.Module, channels: int, *names: str, device: Device = None, dtype: DType = None) -> None:
    """Give a norm room for running statistics per channel, and for the count of its batches."""
    for name in names:
        norm.register_buffer(name, torch.empty(channels, device=device, dtype=dtype))
    norm.register_buffer("num_batches_tracked", torch.empty((), device=device, dtype=torch.long))


def reset_affine(norm: nn.Module) -> None:
    """Put what a norm learns back to where it starts, weights at 1 and bias at 0, and its running statistics too.

    All in place. A norm's `reset_parameters`, which `torch.nn.Module.to_empty` is to be followed by.
    """
    for name, parameter in norm.named_parameters(recurse=False):
        nn.init.constant_(parameter, 0.0 if name == "bias" else 1.0)
    reset = getattr(norm, "reset_running_stats", None)
    if reset is not None:
        reset()


def reset_running(norm: nn.Module) -> None:
    """Put the running statistics back to where they start, in place: a norm's `reset_running_stats`.

    As in torch, the mean and the count of batches start at 0, and what measures a spread at 1.
    """
    for name, statistic in norm.named_buffers(recurse=False):
        statistic.fill_(0 if name in ("running_mean", "num_batches_tracked") else 1)


def describe(norm: nn.Module) -> str:
    """The number of channels and the options: a norm's `extra_repr`."""
    options = [key for key in signature(type(norm)).parameters if key != "channels" and hasattr(norm, key)]
    return ", ".join([f"{norm.channels}", *(f"{key}={getattr(norm, key)}" for key in options)])


def count_values(x: Tensor, channels: int) -> int:
    """How many values of each channel x (N, C, ...) has.

    Raises:
        ValueError: for another number of channels.
    """
    return check_channels(x, channels).shape[0] * x.shape[2:].numel()


def check_channels(x: Tensor, channels: int) -> Tensor:
    """`x`, if it is (N, C, ...) with as many channels as expected.

    Raises:
        ValueError: if not.
    """
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(f"expected {channels} channels, got input of shape {tuple(x.shape)}")
    return x


def bessel(m: int) -> float:
    """m / (m - 1): from the biased variance of m values to the unbiased.

    Raises:
        ValueError: for a single value.
    """
    if m < 2:
        raise ValueError(f"expected more than 1 value per channel when training, got {m}")
    return m / (m - 1)


def widen(tensor: Tensor) -> Tensor:
    """In float32, if it is in less: sums lose too much in half precision, and the decompositions have none."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of x (N, C, ...): each (C,). Two passes or Welford: nothing cancels."""
    var, mean = torch.var_mean(x, axes(x), correction=0)
    return mean, var


def axes(x: Tensor) -> list[int]:
    """Examples and locations of x (N, C, ...)."""
    return [0, *range(2, x.ndim)]


def apply_affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Weight y + bias for y (N, C, ...), or y if there are none."""
    return y if weight is None or bias is None else torch.addcmul(broadcast(bias, y), y, broadcast(weight, y))


def average(running: Tensor, new: Tensor, momentum: RunningMomentum, batches: Tensor) -> None:
    """Move `running` in place towards `new` by `momentum`, or to the mean over all `batches` so far, this one counted.

    The count is a tensor and stays one, so that lanes under vmap and torch.compile each keep theirs.
    """
    new = new.detach()
    if isinstance(momentum, str):
        running.add_((new - running) / batches)
    else:
        running.mul_(1 - momentum).add_(new, alpha=momentum)
