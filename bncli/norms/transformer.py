"""Norms that were made for transformers: PowerNorm, which follows a running quadratic mean, and ScaleNorm."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.types import Device

from bncli.kernels import broadcast, lanes_first, suspend_autocast
from bncli.norms.channels import (
    DType,
    FirstPass,
    RunningNorm,
    add_affine,
    add_running,
    apply_affine,
    average,
    axes,
    bessel,
    check_channels,
    count_batch,
    count_values,
    describe,
    reset_affine,
    widen,
)


class PowerNorm(RunningNorm):
    """Power Normalization (Shen et al. 2020, arXiv:2003.07845, algorithm 2).

    z = x / sqrt(q + eps), y = weight z + bias, where q is `running_square` as it was before the batch; then, with the
    batch's mean square b of each channel, q <- (1 - momentum) q + momentum b. Nothing is subtracted. In evaluation q
    stands still. For the first `warmup` batches q is b itself: the paper's PN-V.

    The gradient is not that of y, whose q is a constant: a running product v, in `control`, takes the place of what the
    batch's own q would bring in. With g the gradient at z, the means over the batch, and r = `backward_momentum`,

        dx = (g - v z) / sqrt(q + eps),        v <- v (1 - r mean(z^2)) + r mean(g z)

    During the warm-up v is mean(g z) itself, and the gradient that of y. With `differentiate` it is that of y always,
    as a control. The authors' code scales groups of each token's channels first, divides its gradient by the batch's b,
    and warms up by itself; this does what the paper writes. No second derivative, but with `differentiate`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, with a single value for each channel.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_square: Tensor
    control: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        backward_momentum: float = 0.1,
        warmup: int = 0,
        differentiate: bool = False,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine, self.warmup = channels, eps, affine, warmup
        self.momentum, self.backward_momentum, self.differentiate = momentum, backward_momentum, differentiate
        self._first_pass = FirstPass()
        add_affine(self, channels, affine, device=device, dtype=dtype)
        add_running(self, channels, "running_square", "control", device=device, dtype=dtype)
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def reset_running_stats(self) -> None:
        """Put the quadratic mean back to 1, the control and the count of batches to 0, in place."""
        for name, statistic in self.named_buffers(recurse=False):
            statistic.fill_(1 if name == "running_square" else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Scale; in training move the running square, and in the backward pass the control, in place."""
        m = count_values(x, self.channels)
        with suspend_autocast(x):
            values = widen(x)
            if self.training:
                bessel(m)  # refuses a single value
                z = self._followed(values)
            else:
                z = values * broadcast(torch.rsqrt(widen(self.running_square) + self.eps), values)
            return apply_affine(z, self.weight, self.bias).to(x.dtype)

    def _followed(self, values: Tensor) -> Tensor:
        counts, square = count_batch(self), values.square().mean(axes(values))
        before, warm = self._first_pass(values, lambda: (self.running_square.clone(), self._warming(square)))
        if counts:
            average(self.running_square, square, self.momentum, self.num_batches_tracked)
        used = torch.where(warm > 0, square if self.differentiate else square.detach(), before.to(square.dtype))
        scale = torch.rsqrt(used + self.eps)
        if self.differentiate:
            return values * broadcast(scale, values)
        z: Tensor = _Controlled.apply(values, scale, warm, self.control, self.backward_momentum)[0]
        return z

    def _warming(self, like: Tensor) -> Tensor:
        """(C,), 1 while the batch's own mean square is used, else 0: a number, so that every lane has its own."""
        return (self.num_batches_tracked <= self.warmup).to(like.dtype).expand_as(like)


class _Controlled(Function):
    """z = x scale for x (N, C, ...), whose backward pass moves `control` (C,) and is described in `PowerNorm`.

    Lanes are channels more: what moves is then the part of each lane.
    """

    @staticmethod
    def forward(x: Tensor, scale: Tensor, warm: Tensor, control: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
        return x * broadcast(scale, x), scale.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, _, warm, ctx.control, ctx.momentum = inputs
        ctx.save_for_backward(output[0], output[1], warm)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        z, scale, warm = ctx.saved_tensors
        product, square, rate = (gradient * z).mean(axes(z)), z.square().mean(axes(z)), ctx.momentum
        control = torch.where(warm > 0, product, ctx.control.to(z.dtype))
        found = (gradient - broadcast(control, z) * z) * broadcast(scale, z)
        ctx.control.mul_((1 - rate * square).to(ctx.control.dtype)).add_(product.to(ctx.control.dtype), alpha=rate)
        return found, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        S = info.batch_size
        x, *of_channels = (
            t for t in lanes_first(inputs[:4], in_dims[:4], S) if t is not None
        )  # (S, N, C, ...), (S, C)
        joined = x.transpose(0, 1).flatten(1, 2)  # (N, S C, ...)
        z, scale = _Controlled.apply(joined, *(each.reshape(-1) for each in of_channels), inputs[4])
        return (z.unflatten(1, (S, -1)).transpose(0, 1), scale.view(S, -1)), (0, 0)


class ScaleNorm(nn.Module):
    """ScaleNorm (Nguyen & Salazar 2019, arXiv:1910.05895, section 2.2).

    y = scale x / max(|x|, eps), |x| the Euclidean length of the channels of each location of each example; the same in
    evaluation. The only parameter is one number, which starts at sqrt(C): then y is x with root mean square 1.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, device: Device = None, dtype: DType = None) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.scale = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    extra_repr = describe

    def reset_parameters(self) -> None:
        """Put the scale back to where it starts, in place."""
        nn.init.constant_(self.scale, math.sqrt(self.channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale each location."""
        with suspend_autocast(x):
            values = widen(check_channels(x, self.channels))
            length = torch.linalg.vector_norm(values, dim=1, keepdim=True).clamp_min(self.eps)
            scaled: Tensor = values * (self.scale / length)
            return scaled.to(x.dtype)
