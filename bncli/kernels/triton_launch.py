"""What is launched with which parameters for training batch norm by Triton: plans, and both directions.

The device code is imported at the first launch: without Triton this file still imports, and `why_not` says so.

Shapes: N examples, C channels, L locations, M = N L values a channel.
"""

import functools
import importlib.util
import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bncli.kernels import Impl, note_fallback

_HAS_TRITON = importlib.util.find_spec("triton") is not None  # looking for it takes longer than a launch
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # which Triton asks when it is imported
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LARGEST_SINGLE = 2**14  # values that one program keeps in registers
_PHASE_BYTES = 2**23  # what the ordered way reduces before it applies; a few times this must fit in 50 MB of L2
_TILE = 2**12  # values: 16 for each of 256 threads
_MOST_CHUNKS = 256  # of a slab: merged by one program
_LOOKS = 2**22  # seconds: a program's wait for another, before it gives up and writes nan
_MERGE = 1024  # values that a merging program takes at a time


@dataclass(frozen=True)
class LaunchPlan:
    """How a kernel is launched: see `triton_forward` for the ways; a tile is rows x channels, both powers of 2."""

    way: Literal["single", "staged", "ordered"]
    rows: int
    channels: int
    tiles: int  # in a chunk
    warps: int
    group: int = 1  # slabs in a phase of the ordered way
    hints: bool = True  # whether loads and stores tell the cache what will be read again


@dataclass(frozen=True)
class MemoryLayout:
    """Where the values of x lie, in the terms of `triton_forward`."""

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
    if not runs_on(x):
        return f"it is for CUDA devices, not {x.device.type}"
    if not _HAS_TRITON:
        return "triton is not installed"
    if x.dtype not in _DTYPES:
        return f"it takes float32, bfloat16 and float16, not {str(x.dtype).removeprefix('torch.')}"
    if x.ndim < 2 or x.numel() == 0 or x.numel() // x.shape[1] >= 2**30:
        return f"no kernel for shape {tuple(x.shape)}"
    return None


def runs_on(x: Tensor) -> bool:
    """Whether x lies where these kernels run: on a CUDA device, or anywhere if Triton is to interpret them."""
    return x.is_cuda or _INTERPRETED


def is_forced(impl: Impl, kernel: str, x: Tensor) -> bool:
    """Whether `impl: fast` asks for these kernels and they take x; what keeps them from it is noted."""
    reason = why_not(x) if impl == "fast" else None
    if reason is not None:
        note_fallback(kernel, reason)
    return impl == "fast" and reason is None


def is_faster(x: Tensor) -> bool:
    """Where these kernels are at least torch's equal at every shape of ResNet-50, forward and backward from a graph.

    On an H100 at batch 64 (tests/gpu/triton_check.py), times torch's speed as geometric mean and least of 12 shapes:
    bfloat16 contiguous 3.5 and 1.8, channels last 1.4 and 1.1; float32 contiguous 1.5 and 1.0. float32 channels last,
    .95 and .84, stays torch's. Called from Python a small batch norm costs more than torch's: launches take longer.
    """
    return x.is_cuda and x.ndim > 2 and why_not(x) is None and (x.dtype != torch.float32 or x.is_contiguous())


def layout(x: Tensor) -> tuple[Tensor, MemoryLayout]:
    """x, or a contiguous copy of it, and where its values lie."""
    C = x.shape[1]
    last = x.numel() == x.shape[0] * C or (x.movedim(1, -1).is_contiguous() and C > 1)
    if not last or x.numel() == x.shape[0] * C:
        x = x.contiguous()
    M = x.numel() // C
    return x, MemoryLayout(M, C, M // x.shape[0], last, x.element_size())


@functools.lru_cache(4096)
def choose_plan(at: MemoryLayout, backward: bool) -> LaunchPlan:
    """The launch parameters: a rule of shape, layout and dtype, never a clock at run time."""
    values = 2 * at.itemsize if backward else at.itemsize  # bytes read for one value of x
    if at.last:
        narrow = min(power_above(at.C), 32 // at.itemsize)  # a sector of 32 bytes
        if power_above(at.M) * narrow <= _LARGEST_SINGLE:
            return LaunchPlan("single", power_above(at.M), narrow, 1, count_warps(power_above(at.M) * narrow))
        wide = min(power_above(at.C), 128 // at.itemsize)  # a cache line: half of it was .7 of the speed
        rows = _TILE // wide
        tiles = max(4, math.ceil(at.M / (rows * _MOST_CHUNKS)))
        return LaunchPlan("staged", rows, wide, tiles, 8, max(1, _PHASE_BYTES // (at.M * wide * values)))
    if power_above(at.M) <= _LARGEST_SINGLE:
        return LaunchPlan("single", power_above(at.M), 1, 1, count_warps(power_above(at.M)))
    tiles = max(4, math.ceil(at.M / (_TILE * _MOST_CHUNKS)))
    return LaunchPlan("staged", _TILE, 1, tiles, 8, max(1, _PHASE_BYTES // (at.M * values)))


def launch_forward(
    x: Tensor,
    running: tuple[Tensor, Tensor],
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    updated: tuple[Tensor, Tensor],
    plan: LaunchPlan | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor]:
    """y, and `saved` (2, C): mean and 1 / sqrt(var + eps). `updated`, which may be `running`, gets the new averages.

    `residual` is added to what is normalised, and after that negative values become 0 with `relu`.
    """
    from bncli.kernels import triton_forward as kernels

    x, at = layout(x)
    residual = None if residual is None else place_like(residual, x, at)
    plan = plan or choose_plan(at, backward=False)
    y = torch.empty_like(x)
    saved = torch.empty(2, at.C, dtype=torch.float32, device=x.device)
    averages = (*running, *updated)
    how = _how(at, plan)
    slabs, warps = math.ceil(at.C / plan.channels), plan.warps
    if plan.way == "single":
        assert plan.rows >= at.M
        kernels.forward_single[(slabs,)](
            x, y, residual, weight, bias, saved, *averages, at.M, at.C, momentum, eps, relu, **how, num_warps=warps
        )
        return y, saved
    chunks = math.ceil(at.M / (plan.rows * plan.tiles))
    partial = torch.empty(2, chunks, at.C, dtype=torch.float32, device=x.device)
    if plan.way == "ordered":
        group = min(plan.group, slabs)
        flags = torch.zeros(2 * slabs, dtype=torch.int32, device=x.device)
        kernels.forward_ordered[(_programs(slabs, chunks, group),)](
            x, y, residual, weight, bias, partial, saved, *averages, flags,
            at.M, at.C, slabs, chunks, plan.tiles, group, _LOOKS, momentum, eps, relu,
            **how, MERGE=max(16, _MERGE // plan.channels), num_warps=warps,
        )  # fmt: skip
        return y, saved
    kernels.forward_reduce[(slabs * chunks,)](x, partial, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps)
    width = min(power_above(at.C), 16)
    kernels.forward_merge[(math.ceil(at.C / width),)](
        x, partial, saved, *averages, at.M, at.C, chunks, plan.tiles * plan.rows, momentum, eps,
        L=how["L"], LAST=at.last, COLS=width, MERGE=_MERGE // width, num_warps=4,
    )  # fmt: skip
    kernels.forward_apply[(slabs * chunks,)](
        x, y, residual, weight, bias, saved, at.M, at.C, chunks, plan.tiles, relu, **how, num_warps=warps
    )
    return y, saved


def launch_backward(
    gy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    saved: Tensor,
    plan: LaunchPlan | None = None,
    y: Tensor | None = None,
    residual: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, and of weight and bias in float32 (C,), whether or not those are there.

    Where a ReLU came last, `y` is its output, and the fourth gradient that of the `residual` before it, if there was
    one; else that is empty.

    gb = sum g, gw = sum g x^, gx = weight / s (g - gb / M - x^ gw / M) for x^ = (x - mean) / s (Ioffe & Szegedy 2015,
    section 3, with the sums taken together).
    """
    from bncli.kernels import triton_backward as kernels

    x, at = layout(x)
    gy = place_like(gy, x, at)
    plan = plan or choose_plan(at, backward=True)
    y = None if y is None else place_like(y, x, at)
    gx, gr = torch.empty_like(x), torch.empty_like(x) if residual and y is not None else None
    of_residual = gy.new_empty(0) if gr is None else gr
    gw, gb = torch.empty(2, at.C, dtype=torch.float32, device=x.device)
    how = _how(at, plan)
    slabs, warps = math.ceil(at.C / plan.channels), plan.warps
    if plan.way == "single":
        assert plan.rows >= at.M
        kernels.backward_single[(slabs,)](gy, x, y, gx, gr, weight, saved, gw, gb, at.M, at.C, **how, num_warps=warps)
        return gx, gw, gb, of_residual
    chunks = math.ceil(at.M / (plan.rows * plan.tiles))
    partial = torch.empty(2, chunks, at.C, dtype=torch.float32, device=x.device)
    if plan.way == "ordered":
        group = min(plan.group, slabs)
        flags = torch.zeros(2 * slabs, dtype=torch.int32, device=x.device)
        kernels.backward_ordered[(_programs(slabs, chunks, group),)](
            gy, x, y, gx, gr, weight, saved, partial, gw, gb, flags,
            at.M, at.C, slabs, chunks, plan.tiles, group, _LOOKS,
            **how, MERGE=max(16, _MERGE // plan.channels), num_warps=warps,
        )  # fmt: skip
        return gx, gw, gb, of_residual
    kernels.backward_reduce[(slabs * chunks,)](
        gy, x, y, saved, partial, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps
    )
    width = min(power_above(at.C), 16)
    kernels.backward_merge[(math.ceil(at.C / width),)](
        partial, saved, gw, gb, at.C, chunks, COLS=width, MERGE=_MERGE // width, num_warps=4
    )
    kernels.backward_apply[(slabs * chunks,)](
        gy, x, y, gx, gr, weight, saved, gw, gb, at.M, at.C, chunks, plan.tiles, **how, num_warps=warps
    )
    return gx, gw, gb, of_residual


def place_like(gy: Tensor, x: Tensor, at: MemoryLayout) -> Tensor:
    """gy, moved where its values lie in another order than x's."""
    if gy.dtype != x.dtype:
        gy = gy.to(x.dtype)
    if at.last and x.ndim > 2 and at.L > 1:
        return gy.movedim(1, -1).contiguous().movedim(-1, 1)
    return gy.contiguous()


def _how(at: MemoryLayout, plan: LaunchPlan) -> dict[str, int]:
    """What a kernel is compiled for; L only where it matters."""
    L = 1 if at.last else at.L
    return {
        "L": L, "LAST": at.last, "WIDE": at.wide, "HINTS": plan.hints, "ROWS": plan.rows, "COLS": plan.channels,
    }  # fmt: skip


def _programs(slabs: int, chunks: int, group: int) -> int:
    """Each chunk of each group of slabs twice."""
    return 2 * math.ceil(slabs / group) * group * chunks


def power_above(n: int) -> int:
    """The least power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def count_warps(values: int) -> int:
    """32 values a thread, within what a program may have."""
    return max(1, min(16, values // 1024))
