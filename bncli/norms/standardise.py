"""Each group of each example to mean 0 and variance 1: by torch's kernels where their numbers hold, or by Triton.

Shapes: N examples, C channels; x is (N, C, ...), its locations being all axes after C.
"""

import math

import torch
from torch import Tensor

from bncli.kernels import Impl, broadcast, is_run_as_written, is_wrapped, may_look, suspend_autocast, triton_launch
from bncli.kernels.whitening import layout_of
from bncli.norms.channels import apply_affine, widen

_FAR = 256.0  # mean^2 / var above which values are moved to zero first; below, rounding costs 16 times eps


def standardise(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, impl: Impl = "plain"
) -> Tensor:
    """Each group of each example of x (N, C, ...) to mean 0 and variance 1, then weight and bias per channel."""
    refuse_lonely(x, groups)
    if triton_launch.is_forced(impl, "group normalisation" if groups > 1 else "layer normalisation", x):
        return group_norm(x, groups, weight, bias, eps)
    with suspend_autocast(x):
        values = widen(x)
        if not values.is_contiguous():
            values = values - _about_centre(values.detach(), groups)
        return apply_affine(standardise_rows(values, groups, (), eps), weight, bias).to(x.dtype)


def standardise_rows(values: Tensor, groups: int, axes: tuple[int, ...], eps: float) -> Tensor:
    """Each group of each example of (N, C, ...), or with groups=0 the last `axes`, to mean 0 and variance 1.

    torch's kernels compute x / std - mean / std, and their gradients alike: of a mean of 1e4 and a variance of 1 in
    float32 that leaves an error of .002, and of .16 in groups of two channels (docs/log.md). So what is far from zero
    is moved there first, by its first value, which leaves of constants exactly 0. Not on other devices, whose values
    are not looked at.
    """
    foreign = values.device.type != "cpu"
    if not is_wrapped(values) and is_run_as_written() and (foreign or may_look(values)):
        y, mean, rstd = _of_torch(values, groups, axes, eps)
        if foreign or mean.numel() == 0:
            return y
        if torch.linalg.vector_norm(mean.detach() * rstd.detach(), torch.inf).item() ** 2 <= _FAR:
            return y
    rows = values.unflatten(1, (groups, -1)).flatten(2) if groups else values.flatten(-len(axes))
    seen, least = rows.detach(), (1 + 1 / _FAR) * rows.shape[-1]
    mean, norm = seen.mean(-1, keepdim=True), torch.linalg.vector_norm(seen, dim=-1, keepdim=True)
    centre = torch.where(least * mean.square() > norm.square(), seen[..., :1], 0.0)
    return _of_torch((rows - centre).view_as(values), groups, axes, eps)[0]


def refuse_lonely(x: Tensor, groups: int) -> None:
    """Raise a ValueError if x (N, C, ...) has fewer than 2 values in each group of each example."""
    values = x.shape[1] // groups * math.prod(x.shape[2:])
    if values < 2:
        what = "location per channel" if groups == x.shape[1] else "value per group of channels"
        raise ValueError(
            f"expected more than 1 {what} in each example, got {values} in an input of shape {tuple(x.shape)}"
        )


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool = True
) -> Tensor:
    """That of `bncli.kernels.triton_group_norm`, whose import registers its operations."""
    from bncli.kernels.triton_group_norm import group_norm

    return group_norm(x, groups, weight, bias, eps, centred)


def last_axes_norm(
    x: Tensor, axes: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool = True
) -> Tensor:
    """`group_norm` over the last `axes` axes of x, weight and bias of their shape; what stands before are examples."""
    weight, bias = (None if each is None else each.flatten() for each in (weight, bias))
    rows = x.flatten(-axes)
    return group_norm(rows.reshape(-1, rows.shape[-1]), 1, weight, bias, eps, centred).view(x.shape)


def _of_torch(values: Tensor, groups: int, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Standardised values, means and 1 / sqrt(var + eps)."""
    if not groups:
        return torch.native_layer_norm(values, axes, None, None, eps)
    N, C, *locations = values.shape
    values = values.contiguous(memory_format=layout_of(values))  # others its gradient refuses
    return torch.native_group_norm(values, None, None, N, C, math.prod(locations), groups, eps)


def _about_centre(x: Tensor, groups: int) -> Tensor:
    """Mean of each group, (N, C, 1, ...): torch's kernel for channels_last takes var = E[x^2] - E[x]^2.

    Of a mean of 1e4 and a variance of 1 in float32 that makes an output of variance 50,000 (docs/log.md).
    """
    means = x.unflatten(1, (groups, -1)).flatten(2).mean(2)  # (N, G)
    each: Tensor = means.repeat_interleave(x.shape[1] // groups, 1)
    return broadcast(each, x)
