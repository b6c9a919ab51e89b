"""Whitening of rows of channels and its gradient: all groups of all lanes as one batch of matrices.

Shapes: lanes (...), or none; m rows of C channels; g groups of w channels in a part of the channels; B matrices, g of
each lane.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import is_run_as_written, is_traced, is_wrapped, lanes_first

BLOCK = 2**17  # values of an operand and its sum, which is widened while it is in the cache: 0.5 MiB
_WIDE = 32  # from here on products of matrices take longer than calling them, in lanes


class ClosedForm(NamedTuple):
    """A root with its gradient, both outside of autograd."""

    of: Callable[[Tensor], tuple[Tensor, ...]]  # S to W and what else the gradient needs, each (B, d, d) or (B, d)
    gradient: Callable[..., Tensor]  # of W, then all that `of` gave, to that of S, symmetric


def are_possible_lanes(x: Tensor, closed: ClosedForm | None) -> bool:
    """Lanes of (N, C) in float32 or float64 while they are traced, by a root in closed form.

    Under vmap a Function costs more than it saves.
    """
    wrapped = is_wrapped(x) and is_traced() and is_run_as_written()
    return wrapped and closed is not None and x.ndim == 2 and x.dtype in (torch.float32, torch.float64)


class ChannelSpan(NamedTuple):
    """Channels from `start` to `stop` in groups of `width`, the last filled up with zeros."""

    start: int
    stop: int
    width: int

    @property
    def groups(self) -> int:
        """How many there are."""
        return -(-(self.stop - self.start) // self.width)

    @property
    def missing(self) -> int:
        """How many channels fill up the last group."""
        return (self.start - self.stop) % self.width


def narrow_apart(channels: int, d: int) -> list[ChannelSpan]:
    """All channels in groups of d, but a last group narrower than a large d by itself: filled up it would cost more."""
    whole = channels // d * d
    if whole == channels or d < _WIDE:
        return [ChannelSpan(0, channels, d)]
    return [ChannelSpan(0, whole, d), ChannelSpan(whole, channels, channels - whole)]


class Whitened(NamedTuple):
    """What `whiten` makes of a part; from `centred` on for `differentiate`."""

    y: Tensor  # (B, m, w)
    mean: Tensor  # (B, 1, w)
    cov: Tensor  # (B, w, w)
    centred: Tensor  # (B, m, w)
    A: Tensor  # (B, w, w): y = centred A^T + bias
    weight: Tensor | None  # (B, w, 1)
    root: tuple[Tensor, ...]  # what the closed form gave


def whiten(
    rows: Tensor,
    part: ChannelSpan,
    weight: Tensor | None,
    bias: Tensor | None,
    identity: Tensor,
    eps: float,
    closed: ClosedForm,
    dtype: torch.dtype,
) -> Whitened:
    """A part of rows (..., m, C), with weight and bias (..., C), in `dtype`; the root in that of identity (B, w, w)."""
    values, m = _grouped(rows, part, dtype), rows.shape[-2]
    mean = values.sum(-2, keepdim=True).div_(m)
    centred = values.sub_(mean) if _is_copied(rows, part, dtype) else values - mean
    cov = _covariance(centred, identity)
    W, *kept = closed.of(torch.add(cov, identity, alpha=eps))
    A = W.detach().to(dtype)
    scale = None if weight is None else _of_groups(weight, part, part.width, 1)
    A = A if scale is None else A * scale
    if bias is None:
        y = torch.bmm(centred, A.mT)
    else:
        y = torch.baddbmm(_of_groups(bias, part, 1, part.width).to(dtype), centred, A.mT)
    return Whitened(y, mean, cov, centred, A, scale, (W, *kept))


class Differentiated(NamedTuple):
    """Of a part's values (B, m, w), of its weight (B, w), if there is one, and of its bias (B, 1, w)."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor


def differentiate(
    g: Tensor,
    part: ChannelSpan,
    closed: ClosedForm,
    centred: Tensor,
    A: Tensor,
    weight: Tensor | None,
    root: Sequence[Tensor],
) -> Differentiated:
    """From that of y (..., m, C): gx = gz A + 2 gS (x - mean) / m, gz the centred gradient of y."""
    gz, m = _grouped(g, part, centred.dtype), g.shape[-2]
    g_bias = gz.sum(-2, keepdim=True)
    gz = gz.sub_(g_bias, alpha=1 / m) if _is_copied(g, part, gz.dtype) else torch.sub(gz, g_bias, alpha=1 / m)
    gW = gA = torch.bmm(gz.mT, centred)
    W, g_weight = root[0].detach(), None
    if weight is not None:
        g_weight = (gA * W.to(gA.dtype)).sum(-1)
        gW = gA * weight
    gS = closed.gradient(gW.to(W.dtype), *root).to(gA.dtype)
    return Differentiated(torch.bmm(gz, A).baddbmm_(centred, gS, alpha=2 / m), g_weight, g_bias)


def fill_rows(part: ChannelSpan, values: Tensor, into: Tensor) -> None:
    """Values (B, m, w) of all channels into rows (m, C)."""
    _, channels, width = part
    if not part.missing:
        into.view(-1, part.groups, width).copy_(values.transpose(0, 1))
        return
    full = part.groups - 1
    if full:
        into[:, : full * width].view(-1, full, width).copy_(values[:full].transpose(0, 1))
    into[:, full * width :].copy_(values[full, :, : channels - full * width])


def join_rows(parts: list[ChannelSpan], values: list[Tensor], like: Tensor) -> Tensor:
    """Values (B, m, w) of each part as rows (..., m, C), perhaps as a view of longer ones."""
    *lanes, m, _ = like.shape
    found = []
    for part, each in zip(parts, values, strict=True):
        rows = each.view(*lanes, part.groups, m, part.width).transpose(-3, -2)
        rows = _lay_out(rows, like.dtype).flatten(-2) if part.groups > 1 else rows.squeeze(-2)
        found.append(rows.to(like.dtype)[..., : part.stop - part.start])
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def join_channels(parts: list[ChannelSpan], values: list[Tensor], lanes: torch.Size) -> Tensor:
    """(B, w) of each part to (..., C)."""
    found = [each.reshape(*lanes, -1) for each in values]
    if parts[-1].missing:
        found[-1] = found[-1][..., : parts[-1].stop - parts[-1].start]
    return found[0] if len(found) == 1 else torch.cat(found, -1)


def join_affine(
    parts: list[ChannelSpan], found: list[Differentiated], lanes: torch.Size, dtypes: list[torch.dtype | None]
) -> list[Tensor | None]:
    """The gradients of weight and bias (..., C), for those that have a dtype."""
    weights, biases = [one.weight for one in found if one.weight is not None], [one.bias for one in found]
    return [
        None if dtype is None else join_channels(parts, gradients, lanes).to(dtype)
        for dtype, gradients in zip(dtypes, (weights, biases), strict=True)
    ]


def join_groups(parts: list[ChannelSpan], matrices: list[Tensor], lanes: torch.Size) -> Tensor:
    """(B, w, w) of each part to (..., G, d, d), zeros where the last group is narrower."""
    d = parts[0].width
    if len(parts) == 1:
        return matrices[0].view(*lanes, -1, d, d)
    joined = matrices[0].new_zeros(*lanes, parts[0].groups + 1, d, d)
    joined[..., :-1, :, :] = matrices[0].view(*lanes, -1, d, d)
    narrow = parts[1].width
    joined[..., -1, :narrow, :narrow] = matrices[1].view(*lanes, narrow, narrow)
    return joined


def whiten_lanes(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    identity: Tensor,
    eps: float,
    closed: ClosedForm,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and covariance of lanes of x (N, C), with the arguments of `whiten`; y may be differentiated once."""
    y, mean, cov = _WhitenedLanes.apply(x, weight, bias, identity, eps, closed, dtype)[:3]
    return y, mean, cov


class _WhitenedLanes(Function):
    """`whiten` of x (*lanes, N, C), with all that the backward pass needs among the outputs, for a rule of vmap."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        identity: Tensor,
        eps: float,
        closed: ClosedForm,
        dtype: torch.dtype,
    ) -> tuple[Tensor, ...]:
        parts, lanes, found = narrow_apart(x.shape[-1], identity.shape[1]), x.shape[:-2], []
        for part in parts:
            ones = identity[: part.groups] if part is parts[0] else identity[-1:, : part.width, : part.width]
            ones = ones.expand(*lanes, *ones.shape).reshape(-1, *ones.shape[1:])
            found.append(whiten(x, part, weight, None, ones, eps, closed, dtype))
        y = join_rows(parts, [each.y for each in found], x)
        y = y.contiguous() if bias is None else y + bias.unsqueeze(-2)  # in memory of its own
        mean = join_channels(parts, [each.mean for each in found], lanes)
        cov = join_groups(parts, [each.cov for each in found], lanes)
        kept = [each for part in found for each in (part.centred, part.A, part.weight, *part.root) if each is not None]
        return y, mean, cov, *(each.reshape(*lanes, -1, *each.shape[1:]) for each in kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, identity, _, ctx.closed, _ = inputs
        ctx.parts = narrow_apart(x.shape[-1], identity.shape[1])
        ctx.affine = [None if each is None else each.dtype for each in (weight, bias)]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[3:])

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if gy is None:
            return (None,) * 7
        lanes, found = gy.shape[:-2], []
        kept = [tensor.flatten(0, len(lanes)) for tensor in ctx.saved_tensors]
        each = len(kept) // len(ctx.parts)
        for i, part in enumerate(ctx.parts):
            centred, A, *root = kept[i * each : (i + 1) * each]
            weight = None if ctx.affine[0] is None else root.pop(0)
            found.append(differentiate(gy, part, ctx.closed, centred, A, weight, root))
        gx = join_rows(ctx.parts, [each.x for each in found], gy)
        return gx, *join_affine(ctx.parts, found, lanes, ctx.affine), None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, tuple[int, ...]]:
        outputs = _WhitenedLanes.apply(*lanes_first(inputs[:3], in_dims[:3], info.batch_size), *inputs[3:])
        return outputs, (0,) * len(outputs)


def _grouped(rows: Tensor, part: ChannelSpan, dtype: torch.dtype) -> Tensor:
    """A part of rows (..., m, C) as (B, m, w) in `dtype`, without a copy where none is needed."""
    *lanes, m, C = rows.shape
    start, stop, width = part
    rows = rows if stop - start == C else rows[..., start:stop]
    if part.missing:
        rows = torch.constant_pad_nd(rows, (0, part.missing))
    if part.groups > 1:
        rows = rows.reshape(*lanes, m, part.groups, width).transpose(-3, -2)
        rows = _lay_out(rows, dtype) if lanes else rows
    return rows.to(dtype).reshape(-1, m, width)


def _is_copied(rows: Tensor, part: ChannelSpan, dtype: torch.dtype) -> bool:
    """Whether `_grouped` copies."""
    return part.missing > 0 or rows.dtype != dtype or (part.groups > 1 and rows.ndim > 2)


def _lay_out(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Contiguous in `dtype`, by one copy."""
    return values.contiguous() if values.dtype == dtype else values.to(dtype, memory_format=torch.contiguous_format)


def _of_groups(affine: Tensor, part: ChannelSpan, *shape: int) -> Tensor:
    """A part of weight or bias (..., C), each group's in a shape."""
    each = affine if part.stop - part.start == affine.shape[-1] else affine[..., part.start : part.stop]
    return (torch.constant_pad_nd(each, (0, part.missing)) if part.missing else each).reshape(-1, *shape)


def _covariance(centred: Tensor, like: Tensor) -> Tensor:
    """(B, m, w) to (B, w, w) as `like`; in a wider type by blocks of rows."""
    B, m, w = centred.shape
    if like.dtype == centred.dtype:
        return torch.baddbmm(like, centred.mT, centred, beta=0, alpha=1 / m)
    cov = centred.new_zeros(B, w, w, dtype=like.dtype)
    for block in centred.split(max(1, BLOCK // (B * w)), 1):
        wide = block.to(like.dtype)
        cov.baddbmm_(wide.mT, wide, alpha=1 / m)
    return cov
