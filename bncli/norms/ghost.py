"""Ghost Batch Normalization: the statistics of small batches within a large one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.types import Device

from bncli.norms.channels import (
    DType,
    add_affine,
    add_running,
    apply_affine,
    average,
    bessel,
    count_values,
    describe,
    reset_affine,
    reset_running,
    widen,
)


class GhostBatchNorm(nn.Module):
    """Ghost Batch Normalization (Hoffer et al. 2017, arXiv:1705.08741, algorithm 1).

    y = weight (x - mean) / sqrt(var + eps) + bias, where in training mean and the biased var of each channel are taken
    over the locations and examples of a virtual batch: `ghost_size` examples that follow one another, fewer in the
    last one if the batch does not divide. Evaluation uses `running_mean` and `running_var`.

    A training step moves the running statistics once, towards the whole batch's mean and the pooled unbiased variance
    within its virtual batches; the paper moves them once for each virtual batch. Independent examples give both the
    same expectation.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel in some virtual batch.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        ghost_size: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.ghost_size = ghost_size
        self.channels, self.eps, self.momentum, self.affine = channels, eps, momentum, affine
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_mean", "running_var", device=device, dtype=dtype)
        self.reset_parameters()

    reset_running_stats = reset_running
    reset_parameters = reset_affine
    extra_repr = describe

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and in training update the running statistics in place."""
        values = count_values(x, self.channels)
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        bessel(values)  # refuses a single value
        parts, totals, squares, freedom = [], [], [], 0
        for part in _virtual_batches(widen(x), self.ghost_size):  # (V, n, C, ...)
            y, mean, var, m = _normalised(part, self.eps)
            parts.append(y.flatten(0, 1))
            totals.append(mean.sum(0) * m)
            squares.append(var.sum(0) * m)
            freedom += len(mean) * (m - 1)
        self.num_batches_tracked.add_(1)
        average(self.running_mean, _sum(totals) / values, self.momentum, self.num_batches_tracked)
        average(self.running_var, _sum(squares) / freedom, self.momentum, self.num_batches_tracked)
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return apply_affine(y, self.weight, self.bias).to(x.dtype)


def _virtual_batches(x: Tensor, size: int) -> list[Tensor]:
    """The full virtual batches of x (N, C, ...), as (V, size, C, ...); then what is left, if any, as (1, n, C, ...)."""
    size = min(size, len(x))
    whole = len(x) - len(x) % size
    full, rest = x[:whole].unflatten(0, (-1, size)), x[whole:].unsqueeze(0)
    return [full] if whole == len(x) else [full, rest]


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, int]:
    """Each virtual batch of x (V, n, C, ...) standardised, with its mean and biased variance (V, C) over m values."""
    inner = [1, *range(3, x.ndim)]
    m = x.shape[1] * x.shape[3:].numel()
    if m < 2:
        raise ValueError("expected more than 1 value per channel in every virtual batch when training, got 1")
    var, mean = torch.var_mean(x, inner, correction=0, keepdim=True)
    y = (x - mean) * (var + eps).rsqrt()
    return y, mean.flatten(1), var.flatten(1), m


def _sum(tensors: list[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(tensors).sum(0)
