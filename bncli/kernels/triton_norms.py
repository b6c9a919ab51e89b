"""Training batch norm on a GPU by Triton: forward, backward, lanes, and under torch's compiler.

`batch_norm` has the arguments of its reference, `bncli.kernels.batch_norm.plain`. This file says what is launched with
which parameters; the device code is `triton_kernels`, imported at the first launch: without Triton this file still
imports, and `why_not` says so.

Shapes: N examples, C channels, L locations, M = N L values a channel, S lanes.
"""

import importlib.util
import math
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from bncli.kernels import is_traced, is_wrapped, lanes_first

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LARGEST_SINGLE = 2**14  # values that one program keeps in registers
_PHASE_BYTES = 2**23  # what the ordered way reduces before it applies; a few times this must fit in 50 MB of L2
_TILE = 2**12  # values: 16 for each of 256 threads
_MOST_CHUNKS = 256  # of a slab: merged by one program
_LOOKS = 2**22  # seconds: a program's wait for another, before it gives up and writes nan
_MERGE = 1024  # values that a merging program takes at a time


@dataclass(frozen=True)
class Plan:
    """How a kernel is launched: see `triton_kernels` for the ways; a tile is rows x channels, both powers of 2."""

    way: Literal["single", "staged", "ordered"]
    rows: int
    channels: int
    tiles: int  # in a chunk
    warps: int
    group: int = 1  # slabs in a phase of the ordered way
    hints: bool = True  # whether loads and stores tell the cache what will be read again


@dataclass(frozen=True)
class Layout:
    """Where the values of x lie, in the terms of `triton_kernels`."""

    M: int
    C: int
    L: int
    last: bool
    itemsize: int

    @property
    def wide(self) -> bool:
        """Whether positions pass 2^31 (with room for what is masked)."""
        return self.M * self.C >= 2**31 - 2**24


def why_not(x: Tensor) -> str | None:
    """What keeps x from these kernels, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if x.dtype not in _DTYPES:
        return f"no kernel for {str(x.dtype).removeprefix('torch.')}"
    if x.numel() == 0 or x.numel() // x.shape[1] >= 2**30:
        return f"no kernel for shape {tuple(x.shape)}"
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"no kernel for device {x.device.type}"
    return None


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
    out: Tensor = _BatchNorm.apply(x, running_mean, running_var, weight, bias, momentum, eps)
    return out


def layout(x: Tensor) -> tuple[Tensor, Layout]:
    """x, or a contiguous copy of it, and where its values lie."""
    C = x.shape[1]
    last = x.numel() == x.shape[0] * C or (x.movedim(1, -1).is_contiguous() and C > 1)
    if not last or x.numel() == x.shape[0] * C:
        x = x.contiguous()
    M = x.numel() // C
    return x, Layout(M, C, M // x.shape[0], last, x.element_size())


def choose_plan(at: Layout, backward: bool) -> Plan:
    """The launch parameters: a rule of shape, layout and dtype, never a clock at run time."""
    values = 2 * at.itemsize if backward else at.itemsize  # bytes read for one value of x
    if at.last:
        narrow = min(_power(at.C), 32 // at.itemsize)  # a sector of 32 bytes
        if _power(at.M) * narrow <= _LARGEST_SINGLE:
            return Plan("single", _power(at.M), narrow, 1, _warps(_power(at.M) * narrow))
        wide = min(_power(at.C), 128 // at.itemsize)
        while wide * at.itemsize > 64 and at.M * wide * values > 2 * _PHASE_BYTES:
            wide //= 2
        rows = _TILE // wide
        tiles = max(4, math.ceil(at.M / (rows * _MOST_CHUNKS)))
        return Plan("staged", rows, wide, tiles, 8, max(1, _PHASE_BYTES // (at.M * wide * values)))
    if _power(at.M) <= _LARGEST_SINGLE:
        return Plan("single", _power(at.M), 1, 1, _warps(_power(at.M)))
    tiles = max(4, math.ceil(at.M / (_TILE * _MOST_CHUNKS)))
    return Plan("staged", _TILE, 1, tiles, 8, max(1, _PHASE_BYTES // (at.M * values)))


def launch_forward(
    x: Tensor,
    running: tuple[Tensor, Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    updated: tuple[Tensor, Tensor],
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor]:
    """y, and `saved` (2, C): mean and 1 / sqrt(var + eps). `updated`, which may be `running`, gets the new averages."""
    x, at = layout(x)
    plan = plan or choose_plan(at, backward=False)
    kernels, y = _kernels(), torch.empty_like(x)
    saved = torch.empty(2, at.C, dtype=torch.float32, device=x.device)
    averages = (*running, *updated)
    how = _how(at, plan)
    slabs, warps = math.ceil(at.C / plan.channels), plan.warps
    if plan.way == "single":
        assert plan.rows >= at.M
        kernels.forward_single[(slabs,)](
            x, y, weight, bias, saved, *averages, at.M, at.C, momentum, eps, **how, num_warps=warps
        )
        return y, saved
    chunks = math.ceil(at.M / (plan.rows * plan.tiles))
    partial = torch.empty(2, chunks, at.C, dtype=torch.float32, device=x.device)
    if plan.way == "ordered":
        group = min(plan.group, slabs)
        flags = torch.zeros(2 * slabs, dtype=torch.int32, device=x.device)
        kernels.forward_ordered[(_programs(slabs, chunks, group),)](
            x, y, weight, bias, partial, saved, *averages, flags,
            at.M, at.C, slabs, chunks, plan.tiles, group, _LOOKS, momentum, eps,
            **how, MERGE=max(16, _MERGE // plan.channels), num_warps=warps,
        )  # fmt: skip
        return y, saved
    kernels.forward_reduce[(slabs * chunks,)](x, partial, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps)
    width = min(_power(at.C), 16)
    kernels.forward_merge[(math.ceil(at.C / width),)](
        x, partial, saved, *averages, at.M, at.C, chunks, plan.tiles * plan.rows, momentum, eps,
        L=how["L"], LAST=at.last, COLS=width, MERGE=_MERGE // width, num_warps=4,
    )  # fmt: skip
    kernels.forward_apply[(slabs * chunks,)](
        x, y, weight, bias, saved, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps
    )
    return y, saved


def launch_backward(
    gy: Tensor, x: Tensor, weight: Tensor | None, saved: Tensor, plan: Plan | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, and of weight and bias in float32 (C,), whether or not those are there.

    gb = sum g, gw = sum g x^, gx = weight / s (g - gb / M - x^ gw / M) for x^ = (x - mean) / s (Ioffe & Szegedy 2015,
    section 3, with the sums taken together).
    """
    x, at = layout(x)
    gy = _placed_like(gy, x, at)
    plan = plan or choose_plan(at, backward=True)
    kernels, gx = _kernels(), torch.empty_like(x)
    gw, gb = torch.empty(2, at.C, dtype=torch.float32, device=x.device)
    how = _how(at, plan)
    slabs, warps = math.ceil(at.C / plan.channels), plan.warps
    if plan.way == "single":
        assert plan.rows >= at.M
        kernels.backward_single[(slabs,)](gy, x, gx, weight, saved, gw, gb, at.M, at.C, **how, num_warps=warps)
        return gx, gw, gb
    chunks = math.ceil(at.M / (plan.rows * plan.tiles))
    partial = torch.empty(2, chunks, at.C, dtype=torch.float32, device=x.device)
    if plan.way == "ordered":
        group = min(plan.group, slabs)
        flags = torch.zeros(2 * slabs, dtype=torch.int32, device=x.device)
        kernels.backward_ordered[(_programs(slabs, chunks, group),)](
            gy, x, gx, weight, saved, partial, gw, gb, flags,
            at.M, at.C, slabs, chunks, plan.tiles, group, _LOOKS,
            **how, MERGE=max(16, _MERGE // plan.channels), num_warps=warps,
        )  # fmt: skip
        return gx, gw, gb
    kernels.backward_reduce[(slabs * chunks,)](
        gy, x, saved, partial, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps
    )
    width = min(_power(at.C), 16)
    kernels.backward_merge[(math.ceil(at.C / width),)](
        partial, saved, gw, gb, at.C, chunks, COLS=width, MERGE=_MERGE // width, num_warps=4
    )
    kernels.backward_apply[(slabs * chunks,)](
        gy, x, gx, weight, saved, gw, gb, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps
    )
    return gx, gw, gb


class _BatchNorm(Function):
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


def _placed_like(gy: Tensor, x: Tensor, at: Layout) -> Tensor:
    """gy, moved where its values lie in another order than x's."""
    if gy.dtype != x.dtype:
        gy = gy.to(x.dtype)
    if at.last and x.ndim > 2 and at.L > 1:
        return gy.movedim(1, -1).contiguous().movedim(-1, 1)
    return gy.contiguous()


def _how(at: Layout, plan: Plan) -> dict[str, int]:
    """What a kernel is compiled for; L only where it matters."""
    L = 1 if at.last else at.L
    return {
        "L": L, "LAST": at.last, "WIDE": at.wide, "HINTS": plan.hints, "ROWS": plan.rows, "COLS": plan.channels,
    }  # fmt: skip


def _programs(slabs: int, chunks: int, group: int) -> int:
    """Each chunk of each group of slabs twice."""
    return 2 * math.ceil(slabs / group) * group * chunks


def _power(n: int) -> int:
    """The least power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def _warps(values: int) -> int:
    """32 values a thread, within what a program may have."""
    return max(1, min(16, values // 1024))


def _kernels() -> ModuleType:
    from bncli.kernels import triton_kernels

    return triton_kernels
