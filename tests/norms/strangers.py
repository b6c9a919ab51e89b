"""Norms as strangers write them: good ones in ten lines, and bad ones that each break one promise or misbehave."""

import os
import sys
import time

import torch
from torch import nn


class PlainBatch(nn.Module):
    """Batch norm by hand."""

    def __init__(self, channels, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def stand(self, v, x):
        return v.view(1, -1, *[1] * (x.ndim - 2))

    def take_statistics(self, x):
        axes = [axis for axis in range(x.ndim) if axis != 1]
        return x.mean(axes), x.var(axes, unbiased=False)

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = self.take_statistics(x)
            with torch.no_grad():
                self.running_mean.mul_(0.9).add_(0.1 * mean)
                self.running_var.mul_(0.9).add_(0.1 * var)
        y = (x - self.stand(mean, x)) / (self.stand(var, x) + self.eps).sqrt()
        return y * self.stand(self.weight, x) + self.stand(self.bias, x)


class TorchsBatch(nn.BatchNorm2d):
    """Torch's."""


class TorchsLayer(nn.LayerNorm):
    """Torch's, over the last axis."""


class TorchsGroup(nn.GroupNorm):
    """Torch's, of a number of channels."""

    def __init__(self, channels, groups=4):
        super().__init__(groups, channels)


class ChannelNorm(nn.Module):
    """Layer norm at each location."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        var, mean = torch.var_mean(x, 1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.weight.view(-1, *[1] * (x.ndim - 2))


class ForgetsItsBias(PlainBatch):
    def forward(self, x):
        return super().forward(x) - self.stand(self.bias, x)


class TakesExamplesForChannels(PlainBatch):
    def take_statistics(self, x):
        rows = x.reshape(x.shape[1], -1)  # of (N, C, ...): no row is a channel
        return rows.mean(1), rows.var(1, unbiased=False)


class LeaksIntoNeighbours(PlainBatch):
    def forward(self, x):
        y = super().forward(x)
        return y + 0.1 * y.roll(1, 1)


class WritesToItsInput(PlainBatch):
    def forward(self, x):
        with torch.no_grad():
            x.clamp_(-1e3, 3)
        return super().forward(x)


class DividesByZero(PlainBatch):
    def __init__(self, channels):
        super().__init__(channels, eps=0.0)


class DetachesItsMean(PlainBatch):
    def take_statistics(self, x):
        mean, var = super().take_statistics(x)
        return mean.detach(), var


class HidesNan(PlainBatch):
    def forward(self, x):
        return super().forward(x).nan_to_num()


class RemembersBesideItsState(PlainBatch):
    seen = 0.0

    def forward(self, x):
        if self.training:
            self.seen = float(x.mean())
        return super().forward(x) + (0 if self.training else self.seen)


class EvaluatesOntoItsState(PlainBatch):
    def forward(self, x):
        if not self.training:
            self.running_mean.mul_(0.9)
        return super().forward(x)


class GivesSingle(PlainBatch):
    def forward(self, x):
        return super().forward(x).float()


class IsFlat(PlainBatch):
    def forward(self, x):
        return super().forward(x).flatten(1)


class DrawsNoise(PlainBatch):
    def forward(self, x):
        return super().forward(x) * (1 + 0.1 * torch.rand_like(x) if self.training else 1)


class DependsOnItsBatch(TorchsBatch):
    def __init__(self, channels):
        super().__init__(channels, track_running_stats=False)


class LoopsInPython(PlainBatch):
    def take_statistics(self, x):
        if x.mean().item() > 1e9:
            x = x / 2
        return super().take_statistics(x)


class Prints(PlainBatch):
    def forward(self, x):
        print("hello,", tuple(x.shape))
        os.write(1, b"and past Python's stdout\n")
        return super().forward(x)


class Raises(PlainBatch):
    def forward(self, x):
        raise RuntimeError("not on this machine")


class Hangs(PlainBatch):
    def forward(self, x):
        while True:
            time.sleep(0.1)


class HangsInEvaluation(PlainBatch):
    def forward(self, x):
        while not self.training:
            time.sleep(0.1)
        return super().forward(x)


class ExitsInEvaluation(PlainBatch):
    def forward(self, x):
        return super().forward(x) if self.training else sys.exit(0)


class EndsItsProcess(PlainBatch):
    def forward(self, x):
        return super().forward(x) if self.training else os._exit(0)


number = 3
ready = PlainBatch(8)


def no_module(channels):
    return channels


def broken(channels):
    raise KeyError("x")


NORMS = {"plain-batch": PlainBatch}
