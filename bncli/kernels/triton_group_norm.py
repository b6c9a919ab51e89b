"""Layer, group and RMS normalisation on a GPU by Triton: eagerly, in lanes, and under torch's compiler.

`group_norm` has the arguments of its reference, `plain`. Tested by the interpreter and compiled for sm_90; not yet run
or timed on a GPU, so nothing chooses it by itself.

Shapes: N examples, C channels, G groups of K channels, L locations, D = K L values of a group of an example.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import broadcast, lanes_first
from bncli.kernels.triton_launch import choose_plan, count_warps, layout, place_like, power_above, why_not
from bncli.kernels.triton_ops import empty_like, flatten_lanes, lanes_as_channels, pull_back

_LARGEST_SINGLE = 2**14  # values that one program keeps in registers
_BLOCK = 2**13  # of a longer row, at a time


def plain(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool = True
) -> Tensor:
    """The reference: y = weight (x - mean) / sqrt(var + eps) + bias over each of `groups` groups of each example.

    x is (N, C, ...), weight and bias are (C,). Layer normalisation is one group (Ba et al. 2016, arXiv:1607.06450; Wu &
    He 2018, arXiv:1803.08494); without `centred` mean is 0, and it is RMS normalisation (Zhang & Sennrich 2019,
    arXiv:1910.07467). In float32, or in float64 for such an x.
    """
    values = x if x.dtype == torch.float64 else x.float()
    rows = values.unflatten(1, (groups, -1)).flatten(2)
    rows = rows - rows.mean(-1, keepdim=True) if centred else rows
    y: Tensor = (rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + eps)).view(x.shape)
    if weight is not None:
        y = y * broadcast(weight, x)
    y = y if bias is None else y + broadcast(bias, x)
    return y.to(x.dtype)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool = True
) -> Tensor:
    """The same: sums in float32, an example's group read once where its values fit into registers, else twice.

    Two calls on equal inputs give equal bits. y has the memory format of x, which is made contiguous where it is
    neither that nor channels last. The gradient may be differentiated again, then by the reference's operations.

    Raises:
        NotImplementedError: where `why_not` gives a reason.
    """
    compiling = torch.compiler.is_compiling()
    if not compiling and (reason := why_not(x)) is not None:
        raise NotImplementedError(f"triton group norm: {reason}")
    normalise = torch.ops.bncli.triton_group_norm if compiling else _GroupNorm.apply
    y: Tensor = normalise(x, groups, weight, bias, eps, centred)[0]
    return y


@torch.library.custom_op("bncli::triton_group_norm", mutates_args=())
def _forward_op(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool
) -> tuple[Tensor, Tensor]:
    """y, and saved (2, N G): mean and 1 / sqrt(var + eps)."""
    from bncli.kernels import triton_rows as kernels

    x, at = layout(x)
    y, rows = torch.empty_like(x), x.shape[0] * groups
    saved = torch.empty(2, rows, dtype=torch.float32, device=x.device)
    how = _how(at.M * at.C // rows, at.C // groups, at.L, at.last)
    kernels.row_forward[(rows,)](x, y, weight, bias, saved, groups, at.M * at.C // rows, eps, CENTRED=centred, **how)
    return y, saved


@_forward_op.register_fake
def _(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool
) -> tuple[Tensor, Tensor]:
    return empty_like(x), x.new_empty(2, x.shape[0] * groups, dtype=torch.float32)


@torch.library.custom_op("bncli::triton_group_norm_backward", mutates_args=())
def _backward_op(
    gy: Tensor, x: Tensor, groups: int, weight: Tensor | None, saved: Tensor, centred: bool, learned: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and in float32 (2, C) of weight and bias, (2, 0) if nothing is `learned`."""
    from bncli.kernels import triton_rows as kernels

    x, at = layout(x)
    gy, gx, rows = place_like(gy, x, at), torch.empty_like(x), x.shape[0] * groups
    how = _how(at.M * at.C // rows, at.C // groups, at.L, at.last)
    kernels.row_backward[(rows,)](gy, x, gx, weight, saved, groups, at.M * at.C // rows, CENTRED=centred, **how)
    if not learned:
        return gx, saved.new_empty(2, 0)
    plan = choose_plan(at, backward=True)
    chunks = math.ceil(at.M / (plan.rows * plan.tiles))
    partial = torch.empty(2, chunks, at.C, dtype=torch.float32, device=x.device)
    kernels.parameter_sums[(math.ceil(at.C / plan.channels) * chunks,)](
        gy, x, saved, partial, at.M, at.C, groups, rows, chunks, plan.tiles,
        K=at.C // groups, L=at.L, LAST=at.last, WIDE=at.wide, ROWS=plan.rows, COLS=plan.channels, num_warps=plan.warps,
    )  # fmt: skip
    return gx, partial.sum(1)


@_backward_op.register_fake
def _(
    gy: Tensor, x: Tensor, groups: int, weight: Tensor | None, saved: Tensor, centred: bool, learned: bool
) -> tuple[Tensor, Tensor]:
    return empty_like(x), saved.new_empty(2, x.shape[1] if learned else 0)


class _GroupNorm(Function):
    """x to y and what is saved of it."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = torch.ops.bncli.triton_group_norm(*inputs)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.groups, weight, bias, ctx.eps, ctx.centred = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, output[1])

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        x, weight, bias, saved = ctx.saved_tensors
        if gy is None:
            return (None,) * 6
        if torch.is_grad_enabled():  # to be differentiated again: mean and 1 / s then depend on x

            def again(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                return plain(x, ctx.groups, weight, bias, ctx.eps, ctx.centred)

            gx, g_weight, g_bias = pull_back(again, (x, weight, bias), gy)
        else:
            learned = weight is not None or bias is not None
            gx, pair = torch.ops.bncli.triton_group_norm_backward(
                gy, x, ctx.groups, weight, saved, ctx.centred, learned
            )
            g_weight = None if weight is None else pair[0].to(weight.dtype)
            g_bias = None if bias is None else pair[1].to(bias.dtype)
        return gx, None, g_weight, g_bias, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, None]]:
        """Lanes as channels, and so as groups."""
        x, groups, weight, bias, eps, centred = inputs
        S, at = info.batch_size, (in_dims[0], *in_dims[2:4])
        x, weight, bias = lanes_first((x, weight, bias), at, S)
        assert x is not None
        y, saved = _GroupNorm.apply(
            lanes_as_channels(x), S * groups, flatten_lanes(weight), flatten_lanes(bias), eps, centred
        )
        return (y.unflatten(1, (S, -1)), saved), (1, None)


_forward_op.register_autograd(_GroupNorm.backward, setup_context=_GroupNorm.setup_context)


def _how(D: int, K: int, L: int, last: bool) -> dict[str, Any]:
    """What a row's kernel is compiled for."""
    single = power_above(D) <= _LARGEST_SINGLE
    block = power_above(D) if single else _BLOCK
    return {"K": K, "L": L, "LAST": last, "BLOCK": block, "SINGLE": single, "num_warps": count_warps(block)}
