"""Batch normalisation over the batches of all processes that train one network, by all-reduce on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.types import Device

from bncli.kernels import broadcast
from bncli.norms.batch import normalise_batch
from bncli.norms.channels import (
    Affine,
    DType,
    RunningMomentum,
    RunningNorm,
    add_affine,
    add_running,
    apply_affine,
    average,
    axes,
    bessel,
    count_batch,
    count_values,
    describe,
    reset_affine,
    reset_running,
    widen,
)

_ALONE = ContextVar("alone", default=False)


class SyncBatchNorm(RunningNorm):
    """Synchronised Batch Normalization (Peng et al. 2018, arXiv:1711.07240: "cross-GPU batch normalization").

    y = weight (x - mean) / sqrt(var + eps) + bias, where in training mean and the biased var of each channel are taken
    over the examples and locations of the batches of all ranks of torch's default process group; a rank with twice
    the examples counts twice. Evaluation uses `running_mean` and the unbiased `running_var`, the same in all ranks.

    Without a process group, or with a group of one, it is `BatchNorm`. With one, outputs, gradients and running
    statistics are those of `BatchNorm` in one process on all ranks' examples together, if the loss is the sum of the
    ranks' losses, whose gradients of `weight` and `bias` are to be added. It can be differentiated as often as wanted:
    the derivative of a sum over ranks is a sum over ranks.

    Every rank has to run the same training passes, forward and backward: each is four sums over ranks, of C numbers.
    Unlike torch's `SyncBatchNorm` it runs on a CPU (gloo), and can be differentiated twice.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W); N may differ from rank to rank, and be 0 in some.

    Raises:
        ValueError: in training, with a single value for each channel in all ranks together.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        momentum: RunningMomentum = 0.1,
        affine: Affine = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        if not (self.training and _has_others()):
            return normalise_batch(self, x, "auto")
        own, values = count_values(x, self.channels), widen(x)
        sums = _AllReduce.apply(torch.cat([values.sum(axes(x)), values.new_full((1,), own)]))
        count = sums[-1].detach()
        if own < 2:  # else there are two in all
            bessel(int(count))
        mean = sums[:-1] / count
        centred = values - broadcast(mean, x)
        var = _AllReduce.apply(centred.square().sum(axes(x))) / count
        if count_batch(self):
            average(self.running_mean, mean, self.momentum, self.num_batches_tracked)
            average(self.running_var, var.detach() * (count / (count - 1)), self.momentum, self.num_batches_tracked)
        return apply_affine(centred * broadcast((var + self.eps).rsqrt(), x), self.weight, self.bias).to(x.dtype)


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process normalises by itself: for passes that the other ranks do not run."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def _has_others() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 and not _ALONE.get()


class _AllReduce(Function):
    """The sum of x over all ranks, in all ranks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Tensor:
        """Each rank's x is in every rank's sum: the sum of the gradients of all."""
        summed: Tensor = _AllReduce.apply(gy)
        return summed
