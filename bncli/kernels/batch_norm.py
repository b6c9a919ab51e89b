"""Batch Normalization in training from moments of rows, where torch's own forward pass is far from the memory's speed.

Shapes: N examples, C channels, L locations; a row is one channel of one example.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import (
    Impl,
    broadcast,
    is_ordinary,
    is_run_as_written,
    is_traced,
    is_wrapped,
    lanes_first,
    may_look,
    note_fallback,
    obstacle,
    triton_launch,
)

# Below these the calls cost more than the reading than they save.
_LEAST_VALUES, _LEAST_LOCATIONS = 2**17, 32
# E[x^2] - mean^2 loses a factor of (1 + mean^2 / var) in precision; beyond this ratio the input is shifted first.
_LARGEST_RATIO = 16.0


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    impl: Impl = "auto",
) -> Tensor:
    """Normalise x (N, C, ...) by its own mean and biased variance, and update running statistics, if any, in place."""
    if impl == "fast" and triton_launch.runs_on(x) and triton_launch.why_not(x) is None:
        from bncli.kernels import triton_norms  # which registers its operations

        return triton_norms.batch_norm(x, running_mean, running_var, weight, bias, momentum, eps)
    chosen = fast if impl == "fast" or (impl == "auto" and is_faster(x)) else plain
    return chosen(x, running_mean, running_var, weight, bias, momentum, eps)


def is_faster(x: Tensor) -> bool:
    """Contiguous float32 with many locations on a processor, and lanes on any device.

    Of lanes in bfloat16 torch's own rules refuse running statistics in float32 on a GPU.
    """
    if is_wrapped(x):
        return is_run_as_written()
    return x.ndim > 2 and _has_long_rows(x) and is_ordinary(x) and may_look(x)


def plain(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The reference: torch's own."""
    return F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)


def fast(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The same, by row moments where rows are long, and by plain operations within transforms of torch.func.

    May be differentiated twice; outside of those transforms it has no forward-mode derivative.

    Raises:
        ValueError: for a single value per channel.
    """
    y: Tensor
    if x.shape[0] * math.prod(x.shape[2:]) == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input of shape {tuple(x.shape)}")
    if is_wrapped(x) and is_traced() and x.ndim == 2 and weight is not None and bias is not None:
        y, mean, var = _Lanes.apply(x, weight, bias, eps)[:3]
    elif is_wrapped(x):
        y, mean, var = _composed(x, weight, bias, eps)
    else:
        y, mean, var = _BatchNorm.apply(x, weight, bias, eps)[:3]
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(var, alpha=momentum)
    return y


class _BatchNorm(Function):
    """x to y, and the mean, unbiased variance and 1 / sqrt(biased variance + eps) of each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        if is_ordinary(x) and may_look(x) and _has_long_rows(x):
            y, mean, var, invstd = _by_moments(x, weight, bias, eps)
        else:
            note_fallback("batch normalisation", _obstacle(x))
            like = x if weight is None else weight
            running = like.new_zeros(2, x.shape[1])  # with momentum 1 the batch's own
            y, mean, invstd = torch.native_batch_norm(x, weight, bias, running[0], running[1], True, 1.0, eps)
            mean, var = mean.clone(), running[1].clone()
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, invstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, invstd)
        return y, mean, var, invstd

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Torch's own backward pass, which is fast and can be differentiated, mean and invstd as functions of x."""
        if gy is None:
            return None, None, None, None
        x, weight, mean, invstd = ctx.saved_tensors
        gx, gw, gb = torch.ops.aten.native_batch_norm_backward(
            gy, x, weight, None, None, mean, invstd, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return gx, gw, gb, None


def _composed(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """By operations that vmap batches without moving lanes, where its rules for torch's batch norm copy them thrice."""
    axes = [0, *range(2, x.ndim)]
    m = x.numel() // x.shape[1]
    values = x if x.dtype == torch.float64 else x.float()
    mean = values.mean(axes)
    centred = values - broadcast(mean, x)
    var = centred.square().mean(axes)
    scale = torch.rsqrt(var + eps)
    A = broadcast(scale if weight is None else weight * scale, x)
    y = centred * A if bias is None else torch.addcmul(broadcast(bias, x), centred, A)
    return y.to(x.dtype), mean.detach(), var.detach() * (m / (m - 1))


class _Lanes(Function):
    """`_composed` on (*lanes, N, C) with the backward pass in closed form (Ioffe & Szegedy 2015, section 3).

    dx = weight / s (g - mean(g) - x^ mean(g x^)). Under vmap a Function costs more than it saves, so it is for traces.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        m = x.shape[-2]
        values = x if x.dtype == torch.float64 else x.float()
        mean = values.mean(-2, keepdim=True)
        centred = values - mean
        var = (centred * centred).sum(-2, keepdim=True) / m
        invstd = torch.rsqrt(var + eps)
        y = torch.addcmul(bias.unsqueeze(-2), centred, weight.unsqueeze(-2) * invstd)
        return y.to(x.dtype), mean.squeeze(-2), var.squeeze(-2) * (m / (m - 1)), centred, invstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[1], *output[3:])

    @staticmethod
    def backward(ctx: Any, gy: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        weight, centred, invstd = ctx.saved_tensors
        g = gy.to(centred.dtype)
        gb, along = g.sum(-2, keepdim=True), (g * centred).sum(-2, keepdim=True)
        scale, m = weight.unsqueeze(-2) * invstd, gy.shape[-2]
        gx = torch.addcmul(scale * gb / -m, g, scale)
        gx = torch.addcmul(gx, centred, scale * along * invstd * invstd, value=-1 / m)
        return gx.to(gy.dtype), (along * invstd).squeeze(-2), gb.squeeze(-2), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        *tensors, eps = inputs
        return _Lanes.apply(*lanes_first(tensors, in_dims[:-1], info.batch_size), eps), (0,) * 5


def _has_long_rows(x: Tensor) -> bool:
    return (
        x.ndim > 2
        and x.dtype == torch.float32
        and x.numel() >= _LEAST_VALUES
        and x[0, 0].numel() >= _LEAST_LOCATIONS
        and x.is_contiguous()
    )


def _obstacle(x: Tensor) -> str:
    """Why the moments of rows are not taken, in words."""
    if triton_launch.runs_on(x):
        return triton_launch.why_not(x) or ""
    if found := obstacle(x):
        return found
    if not may_look(x):
        return "it looks at values, which a traced step cannot"
    if x.ndim == 2:
        return "it takes rows of locations, and (N, C) has none"
    if x.dtype != torch.float32:
        return f"it takes float32, not {str(x.dtype).removeprefix('torch.')}"
    return "it takes contiguous inputs" if not x.is_contiguous() else f"an input {tuple(x.shape)} is too small for it"


def _by_moments(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    """Torch's evaluation pass with the batch's own moments."""
    mean, var = _moments(x)
    shift = None
    if bool(cancels(mean, var).any()):
        shift = mean.to(x.dtype)
        x = x - broadcast(shift, x)
        mean, var = _moments(x)
    invstd = torch.rsqrt(var + eps).to(x.dtype)
    mean, var = mean.to(x.dtype), var.to(x.dtype)
    y = F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
    m = x.numel() // x.shape[1]
    return y, mean if shift is None else mean + shift, var * (m / (m - 1)), invstd


def cancels(mean: Tensor, var: Tensor, largest: float = _LARGEST_RATIO) -> Tensor:
    """Where var = E[x^2] - mean^2 is not to be trusted; False where either is nan, which no shift mends."""
    return mean.square() > var * largest


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel in double precision, from the means and norms of rows."""
    rows = x.view(x.shape[0] * x.shape[1], -1)
    means, norms = rows.mean(1), torch.linalg.vector_norm(rows, dim=1)
    mean = means.view(x.shape[:2]).mean(0, dtype=torch.float64)
    square = norms.view(x.shape[:2]).double().square_().mean(0) / rows.shape[1]
    return mean, (square - mean.square()).clamp_(min=0)
