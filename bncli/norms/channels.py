"""Channels one by one: a norm's parameters and running statistics, and what is taken over each channel of a batch.

Shapes: N examples, C channels, m values of a channel (examples times locations). A statistic is (C,).
"""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.types import Device

from bncli.errors import ConfigError
from bncli.kernels import broadcast, may_look

DType = torch.dtype | None  # None: torch's default, as with `Device`
Affine = Literal[True, False, "scale", "shift"]
RunningMomentum = float | Literal["cumulative"] | None  # None: what torch calls cumulative


class RunningNorm(_BatchNorm):
    """A norm whose running statistics move by `momentum`: what code that looks for torch's batch norms finds.

    `torch.optim.swa_utils.update_bn` goes by that class alone, and passes over a norm of any other without a word; so
    do loops that freeze statistics or spare norms from weight decay. Nothing of it is used but that a state without
    `num_batches_tracked` loads. There is no `num_features` but in `BatchNorm`, so that
    `SyncBatchNorm.convert_sync_batchnorm`, which would make a batch norm of any of them, stops at all others.
    """

    channels: int
    momentum: RunningMomentum  # type: ignore[assignment]
    affine: Affine  # type: ignore[assignment]
    weight: Tensor | None  # type: ignore[assignment]
    bias: Tensor | None  # type: ignore[assignment]
    num_batches_tracked: Tensor

    optional_statistics = False  # it can do without them, as torch's batch norm

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.track_running_stats = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to have running statistics taken away, as `torch.func.replace_all_batch_norm_modules_` does.

        Raises:
            ConfigError: for these; not in `BatchNorm`, which then normalises by the batch alone.
        """
        taken = (name == "track_running_stats" and not value) or (name.startswith("running_") and value is None)
        if taken and not self.optional_statistics:
            raise ConfigError(
                f"{type(self).__name__}: {name} cannot be {value!r}, as the norm needs its running statistics; "
                "put another norm in its place (bncli.replace_norms)"
            )
        super().__setattr__(name, value)


def add_affine(
    norm: nn.Module,
    channels: int | tuple[int, ...],
    affine: Affine = True,
    *,
    device: Device = None,
    dtype: DType = None,
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


def add_running(
    norm: nn.Module, channels: int, *names: str, device: Device = None, dtype: DType = None, room: bool = True
) -> None:
    """Give a norm room for running statistics per channel, and for the count of its batches; None without `room`."""
    for name in names:
        norm.register_buffer(name, torch.empty(channels, device=device, dtype=dtype) if room else None)
    count = torch.empty((), device=device, dtype=torch.long) if room else None
    norm.register_buffer("num_batches_tracked", count)


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
    return check_channels(x, channels).shape[0] * math.prod(x.shape[2:])


def check_channels(x: Tensor, channels: int) -> Tensor:
    """`x`, if it is (N, C, ...) with as many channels as expected, of floating-point numbers.

    Raises:
        ValueError: if not.
    """
    check_floating(x)
    if x.ndim < 2 or x.shape[1] != channels:
        hint = "; one example alone is x.unsqueeze(0)" if x.ndim > 1 and x.shape[0] == channels else ""
        raise ValueError(f"expected {channels} channels, got input of shape {tuple(x.shape)}{hint}")
    return x


def check_floating(x: Tensor) -> Tensor:
    """`x`, if it is of floating-point numbers: a norm's output is not whole, and would be cut off without a word.

    Raises:
        ValueError: if not.
    """
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point values, got input of {x.dtype}; x.float() makes them so")
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
    """Weight y + bias for y (N, C, ...), each where there is one."""
    if weight is None:
        return y if bias is None else y + broadcast(bias, y)
    return y * broadcast(weight, y) if bias is None else torch.addcmul(broadcast(bias, y), y, broadcast(weight, y))


def count_batch(norm: Any) -> bool:
    """Count a training batch; False for one that is passed again, which may move no running statistic."""
    if is_recomputed():
        return False
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return True


def is_recomputed() -> bool:
    """Whether this forward pass runs within a backward pass, where gradient checkpointing does it a second time.

    So it is with `use_reentrant` either way. A compiled module cannot tell.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class FirstPass:
    """What a training forward pass took from running statistics that it then moved, for a recomputation of it.

    Neither copied nor pickled with its module.
    """

    def __init__(self) -> None:
        self.key: Tensor | None = None
        self.found: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, take: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """`take()`, or what it gave in the first pass over the batch x (N, C, ...), told from others by a statistic.

        Raises:
            RuntimeError: if another batch has passed between.
        """
        if is_recomputed():
            if self.key is None or self.found is None or not torch.allclose(self.key, _print_of(x), equal_nan=True):
                raise RuntimeError(
                    "a norm that normalises by running statistics in training has seen another batch between the "
                    "forward pass and its recomputation by gradient checkpointing; call backward() after each "
                    "forward pass, or leave the norm out of the part that is checkpointed"
                )
            return self.found
        found = take()
        if may_look(x):
            self.key, self.found = _print_of(x), found
        return found

    def __reduce__(self) -> tuple[type["FirstPass"], tuple[()]]:
        return FirstPass, ()


def _print_of(x: Tensor) -> Tensor:
    """What tells a batch (N, C, ...) from others, the same values in another order included: (C,).

    A sum with a weight of each place. Close is enough, as a recomputed x may be rounded in another way.
    """
    rows = x.detach().transpose(0, 1).flatten(1)
    return rows @ torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype, device=x.device).cos()


def average(running: Tensor, new: Tensor, momentum: RunningMomentum, batches: Tensor, factor: float = 1.0) -> None:
    """Move `running` in place towards `factor` times `new`: by `momentum`, or to the mean over all `batches` so far.

    The count is a tensor and stays one, so that lanes under vmap and torch.compile each keep theirs.
    """
    new = new.detach()
    if momentum is None or isinstance(momentum, str):
        running.add_((new * factor - running) / batches)
    else:
        running.mul_(1 - momentum).add_(new, alpha=momentum * factor)
