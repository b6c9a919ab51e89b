"""Online Normalization: statistics that follow the examples one by one, and a backward pass that does likewise."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.types import Device

from bncli.kernels import broadcast, suspend_autocast
from bncli.norms.channels import (
    DType,
    FirstPass,
    add_affine,
    apply_affine,
    count_values,
    describe,
    is_recomputed,
    reset_affine,
    widen,
)

Bound = Literal["layer", "clamp", "none"]
LIMIT = 5.0  # of bound="clamp", the paper's


class OnlineNorm(nn.Module):
    """Online Normalization (Chiley et al. 2019, arXiv:1905.05894).

    z_t = (x_t - mean_{t-1}) / sqrt(var_{t-1} + eps) for the t-th example, whose own values do not enter its statistics.
    Then, with a = 1 - `forward_momentum`, m_t the mean and s_t the biased variance of x_t over its locations,

        var_t = a var_{t-1} + (1 - a) s_t + a (1 - a) (m_t - mean_{t-1})^2,  mean_t = a mean_{t-1} + (1 - a) m_t

    per channel, in `running_mean` and `running_var`, from batch to batch. Then y = weight bounded(z) + bias, where
    `bound` is layer (z / sqrt(mean(z^2) + eps) over each example's channels and locations), clamp (to +-5) or none.
    In evaluation the statistics stand still.

    The gradient is not that of y: it is kept orthogonal, on the average, to 1 and to z by two more states, with
    b = 1 - `backward_momentum` and means over locations, g_t being the gradient at z_t:

        g'_t = g_t - (1 - b) v_{t-1} z_t,                            v_t = v_{t-1} + mean(g'_t z_t)
        dx_t = g'_t / sqrt(var_{t-1} + eps) - (1 - b) u_{t-1},       u_t = u_{t-1} + mean(dx_t)

    in `control_scale` (v) and `control_mean` (u), which the backward pass moves. With `differentiate` the gradient is
    that of y within the batch instead, as a control. The order of the examples matters. All recursions are linear
    and run over the batch in log2 N steps. No second derivative, but with `differentiate`.

    Shapes: (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).

    Raises:
        ValueError: in training, without examples or without locations.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    control_scale: Tensor
    control_mean: Tensor

    def __init__(
        self,
        channels: int,
        *,
        forward_momentum: float = 0.001,
        backward_momentum: float = 0.01,
        bound: Bound = "layer",
        differentiate: bool = False,
        eps: float = 1e-5,
        affine: bool = True,
        device: Device = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        self.channels, self.eps, self.affine = channels, eps, affine
        self.forward_momentum, self.backward_momentum = forward_momentum, backward_momentum
        self.bound, self.differentiate = bound, differentiate
        self._first_pass = FirstPass()
        add_affine(self, channels, affine, device=device, dtype=dtype)
        for name in ("running_mean", "running_var", "control_scale", "control_mean"):
            self.register_buffer(name, torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    reset_parameters = reset_affine
    extra_repr = describe

    def reset_running_stats(self) -> None:
        """Put mean and variance back to 0 and 1, and the control's states to 0, in place."""
        for name, state in self.named_buffers(recurse=False):
            state.fill_(1 if name == "running_var" else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; in training move the running statistics, and in the backward pass the control's, in place."""
        if count_values(x, self.channels) < 1 and self.training:
            raise ValueError(
                f"expected at least 1 value per channel when training, got input of shape {tuple(x.shape)}"
            )
        with suspend_autocast(x):
            values = widen(x)
            values = values.flatten(2) if x.ndim > 2 else values.unsqueeze(2)  # (N, C, L)
            z = self._followed(values) if self.training else self._held(values)
            return apply_affine(_bounded(z, self.bound, self.eps), self.weight, self.bias).view_as(x).to(x.dtype)

    def _held(self, values: Tensor) -> Tensor:
        mean, var = (broadcast(b.to(values.dtype), values) for b in (self.running_mean, self.running_var))
        return (values - mean) * torch.rsqrt(var + self.eps)

    def _followed(self, values: Tensor) -> Tensor:
        mean, var = self._first_pass(values, lambda: (self.running_mean.clone(), self.running_var.clone()))
        centred = values - broadcast(mean.to(values.dtype), values)  # about the last mean: nothing cancels
        seen = centred if self.differentiate else centred.detach()
        shift, var = follow(seen, var.to(values.dtype), self.forward_momentum)
        if not is_recomputed():
            self.running_mean.add_(shift[-1].detach())
            self.running_var.copy_(var[-1].detach())
        shift, scale = shift[:-1].unsqueeze(2), torch.rsqrt(var[:-1] + self.eps).unsqueeze(2)
        if self.differentiate:
            return (centred - shift) * scale
        z: Tensor = Controlled.apply(
            centred, shift, scale, self.control_scale, self.control_mean, self.backward_momentum
        )
        return z


class Controlled(torch.autograd.Function):
    """z = (x - shift) scale, whose backward pass is the control process of `OnlineNorm` and moves its two states."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shift: Tensor, scale: Tensor, control_scale: Tensor, control_mean: Tensor, momentum: float
    ) -> Tensor:
        """(N, C, L) by shift and scale (N, C, 1); the states are (C,)."""
        z = (x - shift) * scale
        ctx.save_for_backward(z, scale)
        ctx.control_scale, ctx.control_mean, ctx.momentum = control_scale, control_mean, momentum
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The controlled gradient at x, and none at anything else."""
        (z, scale), rate = ctx.saved_tensors, ctx.momentum
        keep = 1 - rate * z.square().mean(2)
        v = linear_recurrence(keep, (gradient * z).mean(2), ctx.control_scale.to(z.dtype))
        inner = (gradient - rate * v[:-1].unsqueeze(2) * z) * scale
        means = inner.mean(2)
        u = linear_recurrence(torch.full_like(means, 1 - rate), means, ctx.control_mean.to(z.dtype))
        ctx.control_scale.copy_(v[-1])
        ctx.control_mean.copy_(u[-1])
        return inner - rate * u[:-1].unsqueeze(2), None, None, None, None, None


def follow(centred: Tensor, var: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Mean, counted from the one before the batch, and variance before each example and after the last.

    Args:
        centred: (N, C, L), less the mean before the batch.
        var: (C,), before the batch.
        momentum: weight of one example.

    Returns:
        Two tensors (N + 1, C).
    """
    spread, m = torch.var_mean(centred, 2, correction=0)
    keep = torch.full_like(m, 1 - momentum)
    mean = linear_recurrence(keep, momentum * m, torch.zeros_like(var))
    step = spread + (1 - momentum) * (m - mean[:-1]).square()
    return mean, linear_recurrence(keep, momentum * step, var)


def linear_recurrence(keep: Tensor, step: Tensor, start: Tensor) -> Tensor:
    """h_0 = start, h_t = keep_t h_{t-1} + step_t for t = 1..N, in log2 N steps (Hillis & Steele 1986).

    Divides by nothing, so that `keep` may be 0 or negative.

    Args:
        keep: (N, C).
        step: (N, C).
        start: (C,).

    Returns:
        (N + 1, C), h_0 to h_N.
    """
    reach = 1
    while reach < keep.shape[0]:  # row t holds the map from h_{t - reach} (h_0 at the earliest) to h_t
        step = torch.cat([step[:reach], torch.addcmul(step[reach:], keep[reach:], step[:-reach])])
        keep = torch.cat([keep[:reach], keep[reach:] * keep[:-reach]])
        reach *= 2
    return torch.cat([start.unsqueeze(0), torch.addcmul(step, keep, start)])


def _bounded(z: Tensor, bound: Bound, eps: float) -> Tensor:
    if bound == "layer":
        return z * torch.rsqrt(z.square().mean((1, 2), keepdim=True) + eps)
    return z.clamp(-LIMIT, LIMIT) if bound == "clamp" else z
