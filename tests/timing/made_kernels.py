"""Kernels that are right, wrong in every way that somebody has thought of, or fatal: functions of the channels."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from bncli.norms import norm

Norm = Callable[[Tensor], Tensor]


class Batch(nn.Module):
    """Batch norm that keeps what it has inside another module, and that does something with its output or input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.calls, self.kept = _Either(channels), 0, dict[Any, Tensor]()

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.change(self.norm(x), x)

    def change(self, y: Tensor, x: Tensor) -> Any:
        return y


class _Either(nn.BatchNorm2d):
    def _check_input_dim(self, input: Tensor) -> None:
        """(N, C) as well."""


class Nan(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y * float("nan")


class NanInOneGradient(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return _Scaled.apply(y, float("nan"))  # type: ignore[no-untyped-call, no-any-return]


class HalfGradient(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return _Scaled.apply(y, 0.5)  # type: ignore[no-untyped-call, no-any-return]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g * ctx.factor, None


class Zeros(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y * 0


class Nothing(nn.Module):
    """Gives its input back."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class Empty(Batch):
    """Takes memory for its output and writes nothing there."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return torch.empty_like(y)


class Remembers(Batch):
    """Computes once a shape."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return self.kept.setdefault(x.shape, y)


class RemembersThePlace(Batch):
    """Computes once a tensor, by where it lies and how often autograd has seen it written."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return self.kept.setdefault((x.data_ptr(), x._version), y)


class Affine(Batch):
    """1.5 batch norm + .3."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return 1.5 * y + 0.3


class Shifted(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y + 0.1


class Scaled(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y * 1.02


class LargeEps(Batch):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm.eps = 1e-2


class ForgetsItsBias(_Either):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - self.bias.view(-1, *(1,) * (x.dim() - 2)).to(x.dtype)


class RoundsItsScale(Batch):
    """Right: its scale is rounded to the format of the case, another way in each channel."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (x.dim() - 2))
        scale = 1 + torch.finfo(x.dtype).eps / 2 * (torch.arange(x.shape[1]) * 0.618 % 1 * 2 - 1).view(shape)
        return (y.float() * scale).to(x.dtype)


def group(channels: int) -> Norm:
    """Torch's own."""
    return nn.GroupNorm(32, channels)


class ForgetsItsWeight(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, training=self.training)


class SecondCall(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y * (1.1 if self.calls == 2 else 1)


class WritesItsInput(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        x.data.mul_(2)
        return y


class OneOutputForAll(Batch):
    """Every call's output is the same memory."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        kept = self.kept.setdefault("y", torch.empty_like(y))
        kept.copy_(y)
        return kept


class NoGradient(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y.detach()


class NoGradientOfItsWeight(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.detach(), self.bias
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, weight, bias, training=self.training)


class Doubles(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y.double()


class Flattens(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y.flatten()


class Meta(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return y.to("meta")


class Two(Batch):
    def change(self, y: Tensor, x: Tensor) -> Any:
        return y, y


class NeverTracks(Batch):
    """Evaluates with the statistics that it began with."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm.momentum = 0.0


def layer(channels: int) -> Norm:
    """Layer norm's name, and batch norm's results."""
    return Batch(channels)


def plain_layer(channels: int) -> Norm:
    """Layer norm over all that an example has."""

    def norm(x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[1:])

    return norm


class Threads(Batch):
    """Leaves a thread behind."""

    def change(self, y: Tensor, x: Tensor) -> Tensor:
        threading.Thread(target=time.sleep, args=(60,)).start()
        return y


class ClosesStdout(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        sys.stdout.close()
        with suppress(OSError):  # the second time
            os.close(1)
        return y


class Fails(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        raise RuntimeError("planted\nand more")


class FailsLater(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        if self.calls > 40:
            raise ZeroDivisionError("planted")
        return y


class Exits(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        sys.exit(0)


class ExitsAtOnce(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        os._exit(0)


class Interrupts(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


class Crashes(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return y


class TakesTooMuchMemory(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        return torch.empty(2**60).sum() + y


class Hangs(Batch):
    def change(self, y: Tensor, x: Tensor) -> Tensor:
        time.sleep(600)
        return y


class OffByABit(nn.Module):
    """x + 1, wrong by 0.01 in one value."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        y.view(-1)[0] += 0.01
        return y


def __getattr__(name: str) -> Callable[[int], Norm]:
    """`as_zca`: a norm of the catalogue as somebody's kernel, by a name that says nothing."""
    if not name.startswith("as_"):
        raise AttributeError(name)
    return lambda channels: norm(name.removeprefix("as_").replace("_", "-"), channels)
