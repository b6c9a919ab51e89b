"""Training batch norm on a GPU by Triton: eagerly, in lanes, and under torch's compiler.

`batch_norm` has the arguments of its reference, `bncli.kernels.batch_norm.plain`.

Shapes: N examples, C channels, S lanes.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import is_traced, is_wrapped, lanes_first
from bncli.kernels.triton_launch import launch_backward, launch_forward, why_not


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise x (N, C, ...) by its own mean and biased variance, and update the running statistics in place.

    y = weight (x - mean) / sqrt(var + eps) + bias (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1), sums in
    float32 whatever x's dtype. x is read once where M values fit into a program's registers and where the cache holds
    what the ordered way has just reduced, twice otherwise. Two calls on equal inputs give equal bits. y has the
    memory format of x, which is made contiguous where it is neither that nor channels last. The gradient may be
    differentiated again, then by torch's own operations; there is no forward-mode derivative.

    Raises:
        ValueError: for a single value per channel.
        NotImplementedError: where `why_not` gives a reason.
    """
    if x.shape[0] * math.prod(x.shape[2:]) == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input of shape {tuple(x.shape)}")
    if torch.compiler.is_compiling() or is_wrapped(x) or is_traced():  # who writes operations down sees no launch
        operation = _InTransforms.apply if is_wrapped(x) else torch.ops.bncli.triton_batch_norm
        y, _, mean, var = operation(x, running_mean, running_var, weight, bias, momentum, eps)
        with torch.no_grad():
            running_mean.copy_(mean)
            running_var.copy_(var)
        return y  # type: ignore[no-any-return]
    if (reason := why_not(x)) is not None:
        raise NotImplementedError(f"triton batch norm: {reason}")
    out: Tensor = _TritonBatchNorm.apply(x, running_mean, running_var, weight, bias, momentum, eps)
    return out


class _TritonBatchNorm(Function):
    """The eager way: launches without a dispatcher's round, and running statistics updated in place."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
        momentum: float, eps: float,
    ) -> Tensor:  # fmt: skip
        running = (running_mean, running_var)
        y, saved = launch_forward(x, running, weight, bias, momentum, eps, running)
        torch.autograd.graph.increment_version(running)
        ctx.eps, ctx.bias_dtype = eps, None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight, saved)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, saved = ctx.saved_tensors
        needs_x, _, _, needs_weight, needs_bias = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled():  # to be differentiated again: mean and 1 / s then depend on x
            gx, gw, gb = torch.ops.aten.native_batch_norm_backward(
                gy, x, weight, None, None, saved[0], saved[1], True, ctx.eps, (needs_x, needs_weight, needs_bias)
            )
            return gx, None, None, gw, gb, None, None
        gx, gw, gb = launch_backward(gy, x, weight, saved)
        return (
            gx, None, None, gw.to(weight.dtype) if needs_weight else None,
            gb.to(ctx.bias_dtype) if needs_bias else None, None, None,
        )  # fmt: skip


@torch.library.custom_op("bncli::triton_batch_norm", mutates_args=())
def _forward_op(
    x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """For the compiler and for lanes: y, saved (2, C), and the running statistics after this batch."""
    if (reason := why_not(x)) is not None:
        raise NotImplementedError(f"triton batch norm: {reason}")
    updated = (torch.empty_like(running_mean), torch.empty_like(running_var))
    y, saved = launch_forward(x, (running_mean, running_var), weight, bias, momentum, eps, updated)
    return y, saved, *updated


@_forward_op.register_fake
def _(
    x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
    momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    saved = x.new_empty(2, x.shape[1], dtype=torch.float32)
    return _like(x), saved, torch.empty_like(running_mean), torch.empty_like(running_var)


@torch.library.custom_op("bncli::triton_batch_norm_backward", mutates_args=())
def _backward_op(gy: Tensor, x: Tensor, weight: Tensor | None, saved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`launch_backward` as an operation."""
    gx, gw, gb = launch_backward(gy, x, weight, saved)
    return gx, gw, gb.clone()  # an operation's outputs share no memory


@_backward_op.register_fake
def _(gy: Tensor, x: Tensor, weight: Tensor | None, saved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _like(x), torch.empty_like(saved[0]), torch.empty_like(saved[0])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, weight, bias, _, _ = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1])


def _backward(
    ctx: Any, gy: Tensor | None, *_: None, operation: Any = torch.ops.bncli.triton_batch_norm_backward
) -> tuple[Tensor | None, ...]:
    if gy is None:
        return (None,) * 7
    x, weight, saved = ctx.saved_tensors
    gx, gw, gb = operation(gy, x, weight, saved)
    gw = None if weight is None else gw.to(weight.dtype)
    return gx, None, None, gw, None if ctx.bias_dtype is None else gb.to(ctx.bias_dtype), None, None


_forward_op.register_autograd(_backward, setup_context=_setup)


class _InTransforms(Function):
    """The operation within torch.func, whose transforms do not take what `register_autograd` makes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.bncli.triton_batch_norm(*inputs)
        return found

    setup_context = staticmethod(_setup)

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        return _backward(ctx, gy, operation=_GradientInTransforms.apply)


class _GradientInTransforms(Function):
    """The gradient's operation there, where everything is asked for a derivative, needed or not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.bncli.triton_batch_norm_backward(*inputs)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise NotImplementedError("triton batch norm: within torch.func it is differentiated once; take impl='plain'")


@_forward_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Lanes as channels: statistics of a channel depend on no other."""
    S, (momentum, eps) = info.batch_size, inputs[5:]
    x, *rest = lanes_first(inputs[:5], in_dims[:5], S)
    assert x is not None
    found = torch.ops.bncli.triton_batch_norm(_lanes_as_channels(x), *map(_flat, rest), momentum, eps)
    return tuple(t.unflatten(-1 if k > 1 else 1, (S, -1)) for k, t in enumerate(found)), (1, 1, 0, 0)


@_backward_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    S = info.batch_size
    gy, x, weight, saved = lanes_first(inputs, in_dims, S)
    assert gy is not None
    assert x is not None
    assert saved is not None
    gx, gw, gb = torch.ops.bncli.triton_batch_norm_backward(
        _lanes_as_channels(gy), _lanes_as_channels(x), _flat(weight), _lanes_as_channels(saved)
    )
    return (gx.unflatten(1, (S, -1)), gw.unflatten(0, (S, -1)), gb.unflatten(0, (S, -1))), (1, 0, 0)


def _lanes_as_channels(x: Tensor) -> Tensor:
    """(S, N, C, ...) to (N, S C, ...)."""
    return x.movedim(0, 1).flatten(1, 2)


def _flat(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.flatten(0, 1)


def _like(x: Tensor) -> Tensor:
    """An empty tensor with the shape and strides of what `launch_forward` writes for x."""
    return torch.empty_like(x) if x.movedim(1, -1).is_contiguous() else torch.empty_like(x.contiguous())
