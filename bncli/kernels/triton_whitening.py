"""Whitening in training on a GPU by Triton, in lanes too: a product of values on the way in, one on the way out.

`fast` has the arguments of its reference, `bncli.kernels.whitening.plain`, and the closed form of the root. Tested by
the interpreter and compiled for sm_90; not yet run or timed on a GPU, so nothing chooses it by itself.

Shapes: N examples, C channels, G groups of d channels, L locations, m = N L; S lanes stand side by side as channels,
and then there are S C channels and S G groups.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import lanes_first, suspend_autocast, triton_launch
from bncli.kernels.triton_launch import MemoryLayout, layout, place_like, power_above
from bncli.kernels.triton_ops import empty_like, flatten_lanes, lanes_as_channels, pull_back
from bncli.kernels.whitening import Root, plain
from bncli.kernels.whitening_rows import ClosedForm

LARGEST = 64  # of d: two matrices and two tiles fit into a program's registers
PRECISION = "ieee"  # of products: float32 proper, where "tf32x3" would come near it on matrix units
_FIRST = 128  # values of a channel whose mean is subtracted before squares are summed
_WIDTHS = (
    2**14
)  # of all programs together: at d = 64 two for each multiprocessor of an H100, each of which writes d x d


def why_not(x: Tensor, identity: Tensor, closed: ClosedForm | None) -> str | None:
    """What keeps whitening of x in groups such as those of `identity` from these kernels, or None."""
    if closed is None:
        return "this root has no closed form"
    if torch.compiler.is_compiling():
        return "it is not for torch.compile"
    if identity.shape[-1] > LARGEST:
        return f"it takes groups of at most {LARGEST} channels, not {identity.shape[-1]}"
    return triton_launch.why_not(x)


def newton_schulz_form(T: int, otherwise: ClosedForm) -> ClosedForm:
    """The closed form of `T` Newton-Schulz steps in a launch each way; `otherwise` for matrices that have no kernel."""
    from bncli.kernels import triton_newton_schulz as kernel

    def of(S: Tensor) -> tuple[Tensor, ...]:
        if not kernel.is_possible(S):
            return otherwise.of(S)
        W, iterates = kernel.forward(S, T)
        return W, S, iterates

    def gradient(gW: Tensor, W: Tensor, S: Tensor, *kept: Tensor) -> Tensor:
        if not kernel.is_possible(S):
            return otherwise.gradient(gW, W, S, *kept)
        gS: Tensor = kernel.gradient(gW, S, W, *kept)
        return gS

    return ClosedForm(of, gradient)


def fast(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    identity: Tensor,
    eps: float,
    root: Root,
    closed: ClosedForm,
) -> tuple[Tensor, Tensor, Tensor]:
    """y = weight W (x - mean) + bias, mean (C,) and covariance (G, d, d) of x (N, C, ...), the latter two as constants.

    Covariances are sums in float64 of products in float32, around a mean of the first values, so that a large mean does
    not cancel; S and its root are in the type of `identity`. Two calls on equal inputs give equal bits. May be
    differentiated again, then as `plain`.
    """
    y, mean, S = _Whitening.apply(x, weight, bias, identity, eps, root, closed, 1)[:3]
    return y, mean, S - eps * identity


class _Whitening(Function):
    """x to y, mean and S, and to what the gradient needs: the mean in float64, A = weight W, and what the root kept."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        identity: Tensor,
        eps: float,
        root: Root,
        closed: ClosedForm,
        lanes: int,
    ) -> tuple[Tensor, ...]:
        d, m = identity.shape[-1], x.numel() // x.shape[1]
        first = _average_first(x)
        sums, products = torch.ops.bncli.triton_group_products(None, x, first, d, lanes)
        away = sums / m
        S = torch.baddbmm(products, away.unsqueeze(2), away.unsqueeze(1), beta=1 / m, alpha=-1).to(identity.dtype)
        S = torch.add(S, identity, alpha=eps)
        mean = _group(first, lanes, d) + away
        W, *kept = closed.of(S)
        A = W.float() if weight is None else W.float() * _group(weight.float(), lanes, d).unsqueeze(-1)
        shift, offset = _ungroup(mean.float(), lanes, x.shape[1]), None if bias is None else bias.float()
        y = torch.ops.bncli.triton_group_apply(x, shift, A.mT, None, None, None, offset, lanes)
        return y, shift.to(x.dtype), S, mean, A, W, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, identity, ctx.eps, ctx.root, ctx.closed, ctx.lanes = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, identity, *output[3:])

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Of x: A^T (g - its mean) + 2 gS (x - mean) / m, as in `whitening`."""
        if gy is None:
            return (None,) * 8
        x, weight, bias, identity, mean, A, W, *kept = ctx.saved_tensors
        with suspend_autocast(gy):
            if torch.is_grad_enabled():
                return *_differentiate_again(ctx, gy, x, weight, bias, identity), *[None] * 5
            lanes, C, d, m = ctx.lanes, x.shape[1], identity.shape[-1], x.numel() // x.shape[1]
            shift = mean.float()
            sums, gA = torch.ops.bncli.triton_group_products(gy, x, _ungroup(shift, lanes, C), d, lanes)
            gA = gA.baddbmm_(
                sums.unsqueeze(2), (mean - shift).unsqueeze(1), alpha=-1
            )  # what rounding left in x - shift
            g_weight, g_bias = None, None if bias is None else _ungroup(sums, lanes, C).to(bias.dtype)
            gW = gA
            if weight is not None:
                g_weight = _ungroup((gA * W).sum(-1), lanes, C).to(weight.dtype)
                gW = gA * _group(weight.to(gA.dtype), lanes, d).unsqueeze(-1)
            gS = ctx.closed.gradient(gW.to(W.dtype), W, *kept)
            g_mean = _ungroup((sums / m).float(), lanes, C)
            gx = torch.ops.bncli.triton_group_apply(
                gy, g_mean, A, x, _ungroup(shift, lanes, C), (gS * (2 / m)).float(), None, lanes
            )
            return gx, g_weight, g_bias, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Lanes as channels, and so as groups: the roots of all lanes are one batch of matrices."""
        S, (eps, root, closed, lanes) = info.batch_size, inputs[4:]
        x, weight, bias, identity = lanes_first(inputs[:4], in_dims[:4], S)
        assert x is not None
        assert identity is not None
        found = _Whitening.apply(
            lanes_as_channels(x), flatten_lanes(weight), flatten_lanes(bias), identity.flatten(0, 1),
            eps, root, closed, S * lanes,
        )  # fmt: skip
        y, *others = found
        return (y.unflatten(1, (S, -1)), *[t.unflatten(0, (S, -1)) for t in others]), (1, *[0] * len(others))


def _differentiate_again(
    ctx: Any, gy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, identity: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias by the reference."""
    lanes = ctx.lanes
    identity = identity.unflatten(0, (lanes, -1))

    def again(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        weights, biases = ([None] * lanes if each is None else each.chunk(lanes) for each in (weight, bias))
        of_lanes = zip(x.chunk(lanes, 1), weights, biases, identity, strict=True)
        return torch.cat([plain(*lane, ctx.eps, ctx.root)[0] for lane in of_lanes], 1)

    return pull_back(again, (x, weight, bias), gy)


def _average_first(x: Tensor) -> Tensor:
    """The mean over the first values of each channel: (C,) in float32."""
    values = x.flatten(2) if x.ndim > 2 else x.unsqueeze(-1)
    return values[: math.ceil(_FIRST / values.shape[2]), :, :_FIRST].mean((0, 2), dtype=torch.float32)


def _group(vector: Tensor, lanes: int, d: int) -> Tensor:
    """(S C,) to (S G, d), filled up with zeros."""
    rows = vector.view(lanes, -1)
    return F.pad(rows, (0, -rows.shape[1] % d)).view(-1, d)


def _ungroup(groups: Tensor, lanes: int, channels: int) -> Tensor:
    """(S G, d) to (S C,), S C being `channels`."""
    return groups.reshape(lanes, -1)[:, : channels // lanes].flatten()


@torch.library.custom_op("bncli::triton_group_products", mutates_args=())
def _products_op(a: Tensor | None, b: Tensor, shift: Tensor, d: int, lanes: int) -> tuple[Tensor, Tensor]:
    """In float64: sums (G, d) of a and (G, d, d) of a (b - shift)^T, a being b - shift where it is None."""
    from bncli.kernels import triton_products as kernels

    b, at = layout(b)
    a = None if a is None else place_like(a, b, at)
    grid, groups, chunks, how = _how(at, d, lanes)
    sums = torch.empty(chunks, lanes * groups, d, dtype=torch.float64, device=b.device)
    products = torch.empty(chunks, lanes * groups, d, d, dtype=torch.float64, device=b.device)
    kernels.group_products[grid](a, b, shift, sums, products, at.M, at.C // lanes, lanes, groups, d, chunks, **how)
    return sums.sum(0), products.sum(0)


@_products_op.register_fake
def _(a: Tensor | None, b: Tensor, shift: Tensor, d: int, lanes: int) -> tuple[Tensor, Tensor]:
    G = lanes * -(-b.shape[1] // lanes // d)
    return b.new_empty(G, d, dtype=torch.float64), b.new_empty(G, d, d, dtype=torch.float64)


@torch.library.custom_op("bncli::triton_group_apply", mutates_args=())
def _apply_op(
    a: Tensor, shift_a: Tensor, A: Tensor, b: Tensor | None, shift_b: Tensor | None, B: Tensor | None,
    offset: Tensor | None, lanes: int,
) -> Tensor:  # fmt: skip
    """(a - shift_a) A + (b - shift_b) B + offset of each value of a (N, C, ...), A and B (G, d, d)."""
    from bncli.kernels import triton_products as kernels

    like, at = layout(a if b is None else b)
    a, b = (like, None) if b is None else (place_like(a, like, at), like)
    grid, groups, chunks, how = _how(at, A.shape[-1], lanes)
    out, A, B = torch.empty_like(like), A.contiguous(), None if B is None else B.contiguous()
    kernels.group_apply[grid](
        a, shift_a, A, b, shift_b, B, offset, out, at.M, at.C // lanes, lanes, groups, A.shape[-1], chunks, **how
    )
    return out


@_apply_op.register_fake
def _(
    a: Tensor, shift_a: Tensor, A: Tensor, b: Tensor | None, shift_b: Tensor | None, B: Tensor | None,
    offset: Tensor | None, lanes: int,
) -> Tensor:  # fmt: skip
    return empty_like(a if b is None else b)


def _how(at: MemoryLayout, d: int, lanes: int) -> tuple[tuple[int], int, int, dict[str, Any]]:
    """The grid, groups in a lane, chunks, and what a kernel is compiled for."""
    D, groups = max(16, power_above(d)), -(-at.C // lanes // d)
    rows = min(64, max(16, power_above(at.M)))
    chunks = max(1, min(math.ceil(at.M / (4 * rows)), _WIDTHS // (D * lanes * groups)))
    tiles = math.ceil(at.M / (chunks * rows))
    how = {
        "tiles": tiles, "L": 1 if at.last else at.L, "LAST": at.last, "WIDE": at.wide, "ROWS": rows, "D": D,
        "PRECISION": PRECISION, "num_warps": 4 if D < 64 else 8, "num_stages": 1,
    }  # fmt: skip
    return (lanes * groups * chunks,), groups, chunks, how
