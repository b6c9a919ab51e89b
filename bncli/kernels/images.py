"""Batch norm, ReLU and max pooling of images in fewer passes over memory: pooled first, normalised after.

Pooling takes the largest of several values, so what grows with each of them may as well come after it, where fewer are
left: ReLU, and a norm's scale and shift, of channels with a negative scale after a change of sign. The gradient is
written out (Ioffe & Szegedy 2015, section 3), its sums taken over what pooling has left.

Shapes: N examples, C channels, H W pixels; images lie as (N, H, W, C). What both are held against stands beside them,
in torch's own operations. They are for traced steps (`bncli.engine.stages`), where autograd has done its part.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
Window = Sequence[Any]  # of pooling: kernel, stride, padding, dilation, whether sizes are rounded up
_COLUMNS = 64  # of fewer channels several pixels are read side by side: whole vectors, and sums of fewer numbers


def plain_pooled_norm(
    y: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float, window: Window
) -> Tensor:
    """The reference of `pooled_norm`: y (N, C, H, W) to what the window leaves; running statistics change in place."""
    return F.max_pool2d(F.batch_norm(y, mean, var, weight, bias, True, momentum, eps).relu(), *window)


def pooled_norm(
    y: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float,
    window: Window,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Batch norm in training, ReLU and max pooling.

    Returns:
        What comes out, and what `pooled_norm_gradient` needs of it.
    """
    mean, invstd = _moments(y, running_mean, running_var, momentum, eps)
    if weight.amin() > 0:
        pooled, index = aten.max_pool2d_with_indices(y, *window)
    else:
        _, index = aten.max_pool2d_with_indices(y * weight.sign().view(-1, 1, 1), *window)
        pooled = y.flatten(2).gather(2, index.flatten(2)).view(index.shape)
        pooled = pooled.contiguous(memory_format=torch.channels_last)
    pooled.sub_(mean.view(-1, 1, 1))
    out = torch.addcmul(bias.view(-1, 1, 1), pooled, (weight * invstd).view(-1, 1, 1)).relu_()
    return out, pooled, index, mean, invstd


def pooled_norm_gradient(
    g: Tensor, y: Tensor, weight: Tensor, out: Tensor, pooled: Tensor, index: Tensor, mean: Tensor, invstd: Tensor,
    window: Window,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of y, weight and bias; g is that of what came out."""
    g = aten.threshold_backward(g.contiguous(memory_format=torch.channels_last), out, 0)
    along, gb, scale, m = (g * pooled).sum((0, 2, 3)), g.sum((0, 2, 3)), weight * invstd, y.numel() // len(weight)
    gw = along * invstd
    slope = scale * invstd * gw / -m
    gy = _affine(y, slope, scale * gb / -m - slope * mean)
    g.mul_(scale.view(-1, 1, 1))
    gy += aten.max_pool2d_with_indices_backward(g, y, *window, index)
    return gy, gw, gb


def _columns(y: Tensor) -> tuple[Tensor, int]:
    """y (N, C, H, W) as a matrix (N H W / k, k C), and k."""
    C, m, k = y.shape[1], y.numel() // y.shape[1], 1
    while 2 * k * C <= _COLUMNS and m % (2 * k) == 0:
        k *= 2
    return y.permute(0, 2, 3, 1).view(m // k, k * C), k


def _moments(
    y: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(biased variance + eps) of each channel; the running ones move by the unbiased variance."""
    matrix, k = _columns(y)
    means, variances = (each.view(k, -1) for each in aten.batch_norm_update_stats(matrix, None, None, 0.0))
    between, mean = torch.var_mean(means, 0, correction=0)
    var, m = between.add_(variances.mean(0)), y.numel() // y.shape[1]
    running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
    running_var.mul_(1 - momentum).add_(var, alpha=momentum * m / (m - 1))
    return mean, torch.rsqrt(var + eps)


def _affine(y: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """y slope + offset of each channel."""
    matrix, k = _columns(y)
    slopes, offsets = (each.expand(k, -1).reshape(-1) for each in (slope, offset))
    found = torch.addcmul(offsets, matrix, slopes)
    return found.view(y.shape[0], *y.shape[2:], y.shape[1]).permute(0, 3, 1, 2)
