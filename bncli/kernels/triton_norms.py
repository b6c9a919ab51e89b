"""Training batch norm on a GPU by Triton, alone or with what follows it: eagerly, in lanes, and under torch's compiler.

`batch_norm` has the arguments of its reference, `plain`.

Shapes: N examples, C channels, S lanes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import is_traced, is_wrapped, lanes_first
from bncli.kernels.triton_launch import launch_backward, launch_forward, why_not
from bncli.kernels.triton_ops import empty_like, flatten_lanes, lanes_as_channels


def plain(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The reference: torch's batch norm in training, then the sum with a `residual`, then ReLU if it is asked for."""
    y = F.batch_norm(x, running_mean, running_var, weight, bias, True, momentum, eps)
    y = y if residual is None else y + residual
    return y.relu() if relu else y


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Normalise x (N, C, ...) by its own mean and biased variance, and update running statistics, if any, in place.

    y = weight (x - mean) / sqrt(var + eps) + bias (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1), sums in
    float32 whatever x's dtype. x is read once where M values fit into a program's registers and where the cache holds
    what the ordered way has just reduced, twice otherwise. Two calls on equal inputs give equal bits. y has the
    memory format of x, which is made contiguous where it is neither that nor channels last. The gradient may be
    differentiated again, then by torch's own operations; there is no forward-mode derivative.

    `residual`, like x, and `relu` cost no pass of their own: y = relu(normalised + residual), as a residual block ends.

    Raises:
        ValueError: for a single value per channel.
        NotImplementedError: where `why_not` gives a reason.
    """
    if x.shape[0] * math.prod(x.shape[2:]) == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got input of shape {tuple(x.shape)}")
    tracked = running_mean is not None and running_var is not None
    if running_mean is None or running_var is None:
        running_mean, running_var = torch.zeros(2, x.shape[1], device=x.device)
    inputs = (x, running_mean, running_var, weight, bias, momentum, eps, residual, relu)
    if torch.compiler.is_compiling() or is_wrapped(x) or is_traced():  # who writes operations down sees no launch
        operation = _InTransforms.apply if is_wrapped(x) else torch.ops.bncli.triton_batch_norm
        y, _, mean, var = operation(*inputs)
        if tracked:
            with torch.no_grad():
                running_mean.copy_(mean)
                running_var.copy_(var)
        return y  # type: ignore[no-any-return]
    if (reason := why_not(x)) is not None:
        raise NotImplementedError(f"triton batch norm: {reason}")
    out: Tensor = _TritonBatchNorm.apply(*inputs)
    return out


class _TritonBatchNorm(Function):
    """The eager way: launches without a dispatcher's round, and running statistics updated in place."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
        momentum: float, eps: float, residual: Tensor | None, relu: bool,
    ) -> Tensor:  # fmt: skip
        running = (running_mean, running_var)
        y, saved = launch_forward(x, running, weight, bias, momentum, eps, running, None, residual, relu)
        torch.autograd.graph.increment_version(running)
        ctx.eps, ctx.bias_dtype = eps, None if bias is None else bias.dtype
        ctx.save_for_backward(x, weight, saved, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, saved, y = ctx.saved_tensors
        needs_x, _, _, needs_weight, needs_bias, _, _, needs_residual, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # to be differentiated again: mean and 1 / s then depend on x
            gy = gy if y is None else gy.masked_fill(y <= 0, 0)
            gx, gw, gb = torch.ops.aten.native_batch_norm_backward(
                gy, x, weight, None, None, saved[0], saved[1], True, ctx.eps, (needs_x, needs_weight, needs_bias)
            )
            return gx, None, None, gw, gb, None, None, gy if needs_residual else None, None
        gx, gw, gb, gr = launch_backward(gy, x, weight, saved, None, y, needs_residual)
        return (
            gx, None, None, gw.to(weight.dtype) if needs_weight else None,
            gb.to(ctx.bias_dtype) if needs_bias else None, None, None,
            None if not needs_residual else gy if y is None else gr, None,
        )  # fmt: skip


@torch.library.custom_op("bncli::triton_batch_norm", mutates_args=())
def _forward_op(
    x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
    momentum: float, eps: float, residual: Tensor | None, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """For the compiler and for lanes: y, saved (2, C), and the running statistics after this batch."""
    if (reason := why_not(x)) is not None:
        raise NotImplementedError(f"triton batch norm: {reason}")
    running, updated = (running_mean, running_var), (torch.empty_like(running_mean), torch.empty_like(running_var))
    y, saved = launch_forward(x, running, weight, bias, momentum, eps, updated, None, residual, relu)
    return y, saved, *updated


@_forward_op.register_fake
def _(
    x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Tensor | None, bias: Tensor | None,
    momentum: float, eps: float, residual: Tensor | None, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    saved = x.new_empty(2, x.shape[1], dtype=torch.float32)
    return empty_like(x), saved, torch.empty_like(running_mean), torch.empty_like(running_var)


@torch.library.custom_op("bncli::triton_batch_norm_backward", mutates_args=())
def _backward_op(
    gy: Tensor, x: Tensor, weight: Tensor | None, saved: Tensor, y: Tensor | None, residual: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`launch_backward` as an operation."""
    gx, gw, gb, gr = launch_backward(gy, x, weight, saved, None, y, residual)
    return gx, gw, gb.clone(), gr  # an operation's outputs share no memory


@_backward_op.register_fake
def _(
    gy: Tensor, x: Tensor, weight: Tensor | None, saved: Tensor, y: Tensor | None, residual: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gx = empty_like(x)
    masked = residual and y is not None
    return gx, torch.empty_like(saved[0]), torch.empty_like(saved[0]), empty_like(x) if masked else x.new_empty(0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, weight, bias, _, _, residual, relu = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.residual = residual is not None
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, output[1], output[0] if relu else None)


def _backward(
    ctx: Any, gy: Tensor | None, *_: None, operation: Any = torch.ops.bncli.triton_batch_norm_backward
) -> tuple[Tensor | None, ...]:
    if gy is None:
        return (None,) * 9
    x, weight, saved, y = ctx.saved_tensors
    gx, gw, gb, gr = operation(gy, x, weight, saved, y, ctx.residual)
    gw = None if weight is None else gw.to(weight.dtype)
    gb = None if ctx.bias_dtype is None else gb.to(ctx.bias_dtype)
    return gx, None, None, gw, gb, None, None, None if not ctx.residual else gy if y is None else gr, None


_forward_op.register_autograd(_backward, setup_context=_setup)


class _InTransforms(Function):
    """The operation within torch.func, whose transforms do not take what `register_autograd` makes."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.bncli.triton_batch_norm(*inputs)
        return found

    setup_context = staticmethod(_setup)

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        return _backward(ctx, gy, operation=_GradientInTransforms.apply)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Lanes as channels: statistics of a channel depend on no other."""
        S, (momentum, eps, residual, relu) = info.batch_size, inputs[5:]
        x, *rest, residual = lanes_first((*inputs[:5], residual), (*in_dims[:5], in_dims[7]), S)
        assert x is not None
        residual = None if residual is None else lanes_as_channels(residual)
        y, saved, *running = _InTransforms.apply(
            lanes_as_channels(x), *map(flatten_lanes, rest), momentum, eps, residual, relu
        )
        of_channels = (t.unflatten(1, (S, -1)) for t in (y, saved))
        return (*of_channels, *(t.unflatten(0, (S, -1)) for t in running)), (1, 1, 0, 0)


class _GradientInTransforms(Function):
    """The gradient's operation there, where everything is asked for a derivative, needed or not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor, Tensor] = torch.ops.bncli.triton_batch_norm_backward(*inputs)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise NotImplementedError("triton batch norm: within torch.func it is differentiated once; take impl='plain'")


@_backward_op.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    S, residual = info.batch_size, inputs[-1]
    tensors = lanes_first(inputs[:-1], in_dims[:-1], S)
    gy, x, weight, saved, y = (
        flatten_lanes(t) if k == 2 else None if t is None else lanes_as_channels(t) for k, t in enumerate(tensors)
    )
    gx, gw, gb, gr = torch.ops.bncli.triton_batch_norm_backward(gy, x, weight, saved, y, residual)
    masked = gr.numel() > 0
    return (
        (gx.unflatten(1, (S, -1)), gw.unflatten(0, (S, -1)), gb.unflatten(0, (S, -1)),
         gr.unflatten(1, (S, -1)) if masked else gr),
        (1, 0, 0, 1 if masked else None),
    )  # fmt: skip
