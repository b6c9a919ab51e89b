"""Kernels that look right at first sight, and right ones that look wrong: functions of the channels."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.utils import _pytree as trees

Norm = Callable[[Tensor], Tensor]


class Own(nn.Module):
    """Batch norm with what it has in its own hands."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.kept = dict[Any, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        return batch_norm(x, mean, var, self.weight, self.bias, self.training)  # type: ignore[arg-type]


class _CachedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *own: Tensor) -> Tensor:
        y, *ctx.saved = torch.native_batch_norm(x, *own, True, 0.1, 1e-5)
        ctx.given, ctx.known = (x, own[0]), None
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        if ctx.known is None:
            x, weight = ctx.given
            back = torch.ops.aten.native_batch_norm_backward
            ctx.known = back(g, x, weight, None, None, *ctx.saved, True, 1e-5, [True] * 3)
        return *ctx.known, None, None


class CachedBackward(Own):
    """Computes the gradients of a graph once."""

    def forward(self, x: Tensor) -> Tensor:
        return _CachedBackward.apply(x, self.weight, self.bias, self.running_mean, self.running_var)  # type: ignore


class _Lazy(Tensor):
    compute: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, compute: Callable[[], Tensor], like: Tensor) -> "_Lazy":
        made = Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=like.device)
        made.compute = compute  # type: ignore[attr-defined]
        return made  # type: ignore[return-value]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        def look(each: Any) -> Any:
            return each.compute() if isinstance(each, _Lazy) else each

        return function(*trees.tree_map(look, arguments), **trees.tree_map(look, options or {}))


class Lazy(Own):
    """Computes in evaluation when somebody looks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else _Lazy(lambda: Own.forward(self, x), x)


class RemembersByAValue(Own):
    def forward(self, x: Tensor) -> Tensor:
        key = tuple(x.detach().flatten()[[0, -1]].tolist())
        return super().forward(x) if self.training else self.kept.setdefault(key, super().forward(x))


class Ring(Own):
    """Two outputs in turn."""

    def forward(self, x: Tensor) -> Tensor:
        y, turn = super().forward(x), self.kept.get("turn", torch.zeros(()))
        self.kept["turn"] = 1 - turn
        return y if self.training else self.kept.setdefault(bool(turn), torch.empty_like(y)).copy_(y)


class KnowsTheTimedInputs(Own):
    """Does nothing where the input is standard."""

    def forward(self, x: Tensor) -> Tensor:
        y, spread = super().forward(x), x.detach().std(0)
        return y if spread.max() > 1.5 * spread.min() else y + x - x.detach()


class HalfOfTheChannels(Own):
    def forward(self, x: Tensor) -> Tensor:
        keep = (torch.arange(x.shape[1]) < x.shape[1] // 2).view(1, -1, *[1] * (x.dim() - 2))
        return torch.where(keep, super().forward(x), x * 0.5)


class StillStatistics(Own):
    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(x, None, None, self.weight, self.bias, True) if self.training else super().forward(x)


class NoStatistics(nn.BatchNorm1d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, track_running_stats=False)


class WrongStatistics(Own):
    """Tracks the square of the mean as its variance."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        y = batch_norm(x, self.running_mean.clone(), self.running_var.clone(), weight, bias, self.training)
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(0), 0.1)
            self.running_var.lerp_(x.mean(0).square(), 0.1)
        return y


class GammaIsIgnored(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, affine=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + 0 * (self.gamma + self.beta)  # type: ignore[no-any-return]


class StopsLater(Own):
    """Gives an old result, once it has been called as often as a check calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 20:
            return self.kept["y"].detach().requires_grad_(x.requires_grad)
        self.kept["y"] = super().forward(x)
        return self.kept["y"]


class RemembersByAllValues(Own):
    """Computes nothing of values that it has been given before."""

    def forward(self, x: Tensor) -> Tensor:
        key = hash(x.detach().numpy().tobytes())
        if key not in self.kept:
            if len(self.kept) > 100:
                self.kept.clear()
            for _ in range(20):
                self.kept[key] = super().forward(x)
        return self.kept[key]


_SERVANTS = list[subprocess.Popen[bytes]]()


class HasAServant(Own):
    """A process of its own works while it is timed."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.kept:
            _SERVANTS.append(subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True))
            self.kept["started"] = x
        return super().forward(x)


class SlowsItsRival(Own):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        nn.modules.module.register_module_forward_pre_hook(lambda module, given: time.sleep(0))


class PatchesItsRival(Own):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        plain = nn.BatchNorm1d.forward
        nn.BatchNorm1d.forward = lambda self, x: plain(self, plain(self, x))  # type: ignore[method-assign]


# Right ones


def other_momentum(channels: int) -> Norm:
    return nn.BatchNorm1d(channels, momentum=0.01)


def cumulative(channels: int) -> Norm:
    return nn.BatchNorm1d(channels, momentum=None)


def lazy(channels: int) -> Norm:
    return nn.LazyBatchNorm1d()


def frozen_affine(channels: int) -> Norm:
    return nn.BatchNorm1d(channels).requires_grad_(False)


def no_affine(channels: int) -> Norm:
    return nn.BatchNorm1d(channels, affine=False)


class OtherNames(nn.Module):
    """Weight and bias as columns, the statistics in attributes, a biased variance and a momentum of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, channels)), nn.Parameter(torch.zeros(1, channels))
        self.mean, self.var = torch.zeros(channels), torch.ones(channels)

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.mean.to(x), self.var.to(x)
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            self.mean = torch.lerp(self.mean, mean.detach().to(self.mean), 0.3)
            self.var = torch.lerp(self.var, var.detach().to(self.var), 0.3)
        return (x - mean) * (var + 1e-5).rsqrt() * self.gamma + self.beta
