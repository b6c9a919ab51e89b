"""Whitening in training as one function with a closed gradient: of planes as they lie, or of rows of channels.

Shapes: N examples, C channels, G groups, d channels in a group, L locations, m = N L; a plane is (d, L), a row (C,).
Planes take no centred and no transposed copy; rows, (m, C), are how (N, C) and channels_last lie in memory.

Covariances, roots and their gradients are in the type of `identity`, which may be wider than that of the values.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import broadcast, is_ordinary, is_wrapped, may_look, obstacle, suspend_autocast
from bncli.kernels import whitening_rows as by_rows
from bncli.kernels.batch_norm import cancels
from bncli.kernels.whitening_rows import BLOCK, ClosedForm

Root = Callable[[Tensor], Tensor]

_LEAST_LOCATIONS = 32  # planes shorter than this make products too thin: they are taken as rows
# Stricter than for variances: small eigenvalues see what is lost in the largest.
_LARGEST_RATIO = 4.0


def is_possible(x: Tensor) -> bool:
    """Float32 or float64 of a processor, outside of transforms and compilers."""
    return is_ordinary(x) and not is_wrapped(x) and x.dtype in (torch.float32, torch.float64) and x.numel() > 0


def why_impossible(x: Tensor) -> str:
    """What stands in the way of `fast`, in words; empty where nothing does."""
    if is_wrapped(x):
        return "in lanes it is for inputs (N, C) of zca, cholesky, iternorm and deconv, in traced training"
    if found := obstacle(x):
        return found
    return "" if is_possible(x) else f"it takes float32 and float64, not {str(x.dtype).removeprefix('torch.')}"


def plain(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, identity: Tensor, eps: float, root: Root
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference: y = weight W (x - mean) + bias, mean (C,) and covariance (G, d, d), by plain operations."""
    G, d = identity.shape[:2]
    C = x.shape[1]
    values = F.pad(x.transpose(0, 1).reshape(C, -1), (0, 0, 0, G * d - C)).view(G, d, -1)
    mean = values.mean(-1, keepdim=True)
    centred = values - mean
    wide = centred.to(identity.dtype)
    cov = wide @ wide.mT / values.shape[-1]
    W = root(cov + eps * identity).to(x.dtype)
    whitened = (W @ centred).flatten(0, 1)[:C].view(C, x.shape[0], *x.shape[2:]).transpose(0, 1)
    y = whitened if weight is None else whitened * broadcast(weight, x)
    return y if bias is None else y + broadcast(bias, x), mean.flatten()[:C], cov


def fast(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    identity: Tensor,
    eps: float,
    root: Root,
    closed: ClosedForm | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, with mean and covariance as constants: y = A (x - mean) + bias, A = weight W, five products of values.

    `closed` is the root's closed form, which saves autograd's pass through it; `dtype` that of these products, if it is
    wider than that of x. May be differentiated any number of times (the gradient's graph is that of `plain`); has no
    forward-mode derivative and no rule for vmap. Lanes (`whitening_rows.are_possible_lanes`) are differentiated once.
    """
    G, d = identity.shape[:2]
    dtype = dtype or x.dtype
    if is_wrapped(x):
        assert closed is not None
        return by_rows.whiten_lanes(x, weight, bias, identity, eps, closed, dtype)
    of_planes = x.ndim > 2 and x.shape[1] == G * d and x.is_contiguous() and x[0, 0].numel() >= _LEAST_LOCATIONS
    values = x.to(dtype) if of_planes else x
    pair = [None if each is None else each.to(values.dtype) for each in (weight, bias)]
    kernel = _Planes if of_planes else _Rows
    y, mean, cov = kernel.apply(values, *pair, identity, eps, root, closed or _by_autograd(root), dtype)
    return y.to(x.dtype), mean, cov


def _by_autograd(root: Root) -> ClosedForm:
    """The closed form of a root that has none."""

    def of(S: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(False), torch.enable_grad():
            S = S.clone().detach().requires_grad_()  # not an inference tensor, which no graph may hold
            return root(S), S

    def gradient(gW: Tensor, W: Tensor, S: Tensor) -> Tensor:
        (gS,) = torch.autograd.grad(W, S, gW, retain_graph=True)
        return (gS + gS.mT) / 2

    return ClosedForm(of, gradient)


Gradients = tuple[Tensor | None, ...]


def _again(ctx: Any, gy: Tensor) -> Gradients:
    """The gradients of `plain`, with their graph, for a backward pass that is to be differentiated again."""
    x, weight, bias, identity = ctx.saved_tensors[:4]
    with torch.enable_grad():
        y = plain(x.to(ctx.dtype), weight, bias, identity, ctx.eps, ctx.plain_root)[0].to(x.dtype)
    wanted = [each for each in (x, weight, bias) if each is not None and each.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, gy, create_graph=True))
    gradients = [next(found) if each is not None and each.requires_grad else None for each in (x, weight, bias)]
    return *gradients, None, None, None, None, None


class _Rows(Function):
    """Over x (N, C, ...) as rows (m, C), centred by a copy."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        identity: Tensor,
        eps: float,
        root: Root,
        closed: ClosedForm,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(x)
        ctx.part = by_rows.ChannelSpan(0, rows.shape[1], identity.shape[1])
        found = by_rows.whiten(rows, ctx.part, weight, bias, identity, eps, closed, dtype)
        mean = found.mean.flatten()[: rows.shape[1]]
        ctx.save_for_backward(x, weight, bias, identity, found.centred, found.A, found.weight)
        ctx.eps, ctx.plain_root, ctx.closed, ctx.dtype, ctx.kept = eps, root, closed, dtype, found.root
        ctx.mark_non_differentiable(mean, found.cov)
        ctx.set_materialize_grads(False)
        return _laid_out(ctx.part, found.y, x), mean, found.cov

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> Gradients:
        if gy is None:
            return (None,) * 8
        with suspend_autocast(gy):
            if torch.is_grad_enabled():
                return _again(ctx, gy)
            x, weight, bias, _, centred, A, scale = ctx.saved_tensors
            found = by_rows.differentiate(_rows(gy), ctx.part, ctx.closed, centred, A, scale, ctx.kept)
            gx = _laid_out(ctx.part, found.x, x)
            of_affine = [
                None if parameter is None or g is None else g.flatten()[: len(parameter)].to(parameter.dtype)
                for parameter, g in ((weight, found.weight), (bias, found.bias))
            ]
            return gx, *of_affine, None, None, None, None, None


class _Planes(Function):
    """Over contiguous x (N, C, ...) as planes (N G, d, L), shifted by a copy only where the covariance would cancel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        identity: Tensor,
        eps: float,
        root: Root,
        closed: ClosedForm,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        N, (G, d) = len(x), identity.shape[:2]
        planes = x.view(N * G, d, -1)
        mean, cov = _moments(planes, G, identity.dtype)
        shift = None
        if not may_look(x) or bool(cancels(mean, cov.diagonal(dim1=-2, dim2=-1), _LARGEST_RATIO).any()):
            shift = mean
            planes = (planes.view(N, G, d, -1) - shift.unsqueeze(-1)).view(planes.shape)
            mean, cov = _moments(planes, G, identity.dtype)
        S = torch.add(cov, identity, alpha=eps)
        W, *kept = closed.of(S)
        A = W.detach().to(x.dtype)
        A = A if weight is None else A * weight.view(G, d, 1)
        offset = torch.bmm(A, mean.unsqueeze(-1)).neg_()
        if bias is not None:
            offset += bias.view(G, d, 1)
        y = torch.empty_like(x)
        _affine(y.view(planes.shape), offset, (A, planes))
        ctx.save_for_backward(x, weight, bias, identity, planes, A, mean)
        ctx.eps, ctx.plain_root, ctx.closed, ctx.dtype, ctx.kept = eps, root, closed, dtype, (W, *kept)
        mean_of_x = (mean if shift is None else mean + shift).flatten()
        ctx.mark_non_differentiable(mean_of_x, cov)
        ctx.set_materialize_grads(False)
        return y, mean_of_x, cov

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> Gradients:
        """Of x: A^T g + K x + constant, K = 2 gS / m, the constant such that the mean over m is 0."""
        if gy is None:
            return (None,) * 8
        with suspend_autocast(gy):
            if torch.is_grad_enabled():
                return _again(ctx, gy)
            x, weight, bias, identity, planes, A, mean = ctx.saved_tensors
            N, (G, d), L = len(x), identity.shape[:2], planes.shape[-1]
            g = gy.contiguous().view(planes.shape)
            sums = g.view(-1, L).sum(1).view(N, G, d, 1).sum(0)
            gA = torch.bmm(g, planes.mT).view(N, G, d, d).sum(0).baddbmm_(sums, mean.unsqueeze(-2), alpha=-1)
            gS, g_weight = _of_root(ctx, gA, weight)
            K = gS * (2 / (N * L))
            constant = torch.baddbmm(torch.bmm(K, mean.unsqueeze(-1)), A.mT, sums, beta=-1, alpha=-1 / (N * L))
            gx = torch.empty_like(x)
            _affine(gx.view(planes.shape), constant, (A.mT, g), (K, planes))
            return gx, g_weight, None if bias is None else sums.flatten(), None, None, None, None, None


def _of_root(ctx: Any, gA: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The gradients of S and of weight (C,) from that of A = weight W, in its type."""
    W: Tensor = ctx.kept[0]
    g_weight = None
    gW = gA
    if weight is not None:
        G, d = gA.shape[:2]
        g_weight = (gA * W.detach().to(gA.dtype)).sum(-1).flatten()
        gW = gA * weight.view(G, d, 1)
    return ctx.closed.gradient(gW.to(W.dtype), *ctx.kept).to(gA.dtype), g_weight


def _affine(y: Tensor, constant: Tensor, *terms: tuple[Tensor, Tensor]) -> None:
    """Fill y with the sum of M planes + constant (G, d, 1) for M (G, d, d) and planes (N G, d, L), by blocks."""
    G, d = constant.shape[:2]
    step = _examples_in_block(y, G) * G
    matrices = [M.repeat(step // G, 1, 1) for M, _ in terms]
    for part, *parts in zip(y.split(step), *(planes.split(step) for _, planes in terms), strict=True):
        torch.bmm(matrices[0][: len(part)], parts[0], out=part)
        for M, planes in zip(matrices[1:], parts[1:], strict=True):
            part.baddbmm_(M[: len(part)], planes)
        part.view(-1, G, d, part.shape[-1]).add_(constant)


def _moments(planes: Tensor, G: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Planes (N G, d, L) to the mean (G, d) and, in `dtype`, the biased covariance (G, d, d) of each group.

    In a wider type it is by blocks of examples, widened while they are in the cache.
    """
    count, d, L = planes.shape
    total = planes.new_zeros(G, d, dtype=dtype)
    squares = planes.new_zeros(G, d, d, dtype=dtype)
    for part in planes.split(count if dtype == planes.dtype else _examples_in_block(planes, G) * G):
        wide = part.to(dtype)
        total += wide.view(-1, L).mean(1).view(-1, G, d).sum(0)
        squares += torch.bmm(wide, wide.mT).view(-1, G, d, d).sum(0)
    mean = total * (G / count)
    column = mean.unsqueeze(-1)
    return mean.to(planes.dtype), squares.baddbmm_(column, column.mT, beta=G / (count * L), alpha=-1)


def _examples_in_block(planes: Tensor, G: int) -> int:
    """Of planes (N G, d, L)."""
    return min(len(planes) // G, max(1, BLOCK // (G * planes[0].numel())))


def _rows(x: Tensor) -> Tensor:
    """(N, C, ...) to (m, C)."""
    return x if x.ndim == 2 else x.movedim(1, -1).reshape(-1, x.shape[1])


def _laid_out(part: by_rows.ChannelSpan, values: Tensor, x: Tensor) -> Tensor:
    """Values (B, m, w) in the shape of x (N, C, ...), laid out by `layout_of`, in memory of its own."""
    inner = x.ndim > 2 and layout_of(x) != torch.contiguous_format
    y = torch.empty_like(x, memory_format=layout_of(x) if inner else torch.contiguous_format)
    if x.ndim == 2:
        by_rows.fill_rows(part, values, y)
        return y
    last = y.movedim(1, -1)
    rows = (last if inner else last.new_empty(last.shape)).view(-1, x.shape[1])
    by_rows.fill_rows(part, values, rows)
    if not inner:
        last.copy_(rows.view(last.shape))
    return y


def layout_of(x: Tensor) -> torch.memory_format:
    """How a norm lays out its output: channels innermost (channels_last) where those of x (N, C, ...) are."""
    inner = x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1
    return (torch.channels_last if x.ndim == 4 else torch.channels_last_3d) if inner else torch.contiguous_format
