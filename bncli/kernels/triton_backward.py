"""Training batch norm, backward, on the device (Triton); shapes and terms as in `triton_forward`."""

import triton
import triton.language as tl

from bncli.kernels.triton_forward import COUNTS, KEEP, LAST_USE, offsets, per_channel, take_turn, wait_for


@triton.jit
def _incoming(gy, y, at, inside, POLICY: tl.constexpr):
    """The gradient of the normalised values: where y is there it was cut off at 0, and so is its gradient."""
    g = tl.load(gy + at, mask=inside, other=0.0, eviction_policy=POLICY).to(tl.float32)
    if y is not None:
        g = tl.where(tl.load(y + at, mask=inside, other=0.0, eviction_policy=POLICY) <= 0.0, 0.0, g)
    return g


@triton.jit
def _chunk_sums(
    gy, x, y, mean, start, channels, M, C, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Sums of g and of g (x - mean) over a chunk."""
    sg = tl.zeros((ROWS, COLS), tl.float32)
    sgx = tl.zeros((ROWS, COLS), tl.float32)
    for i in range(0, tiles):
        rows = start + i * ROWS + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & (channels < C)[None, :]
        at = offsets(rows, channels, C, L, LAST, WIDE)
        g = _incoming(gy, y, at, inside, KEEP if HINTS else "")
        values = tl.load(x + at, mask=inside, other=0.0, eviction_policy=KEEP if HINTS else "").to(tl.float32)
        sg += g
        sgx += g * (values - mean[None, :])
    return tl.sum(sg, 0), tl.sum(sgx, 0)


@triton.jit
def _merge_sums(partial, channels, C, chunks, MERGE: tl.constexpr):
    """The chunks' sums (2, chunks, C) to the channels'."""
    sg = tl.zeros((MERGE, channels.shape[0]), tl.float32)
    sgx = tl.zeros((MERGE, channels.shape[0]), tl.float32)
    for above in range(0, chunks, MERGE):
        chunk = above + tl.arange(0, MERGE)
        inside = (chunk < chunks)[:, None] & (channels < C)[None, :]
        at = partial + chunk[:, None] * C + channels[None, :]
        sg += tl.load(at, mask=inside, other=0.0, cache_modifier=".cg")
        sgx += tl.load(at + chunks * C, mask=inside, other=0.0, cache_modifier=".cg")
    return tl.sum(sg, 0), tl.sum(sgx, 0)


@triton.jit
def _store_sums(sg, sgx, invstd, channels, C, gw, gb):
    """The parameters' gradients."""
    tl.store(gw + channels, sgx * invstd, mask=channels < C)
    tl.store(gb + channels, sg, mask=channels < C)


@triton.jit
def _gradient_chunk(
    gy, x, y, gx, residual_gradient, mean, invstd, scale, gw, gb, start, channels, M, C, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """gx = scale (g - gb / m - x^ gw / m), x^ = (x - mean) invstd, last tile first; gw, gb those of weight 1."""
    m = M.to(tl.float32)
    level = gb / m
    slope = gw * invstd / m
    for i in range(0, tiles):
        rows = start + (tiles - 1 - i) * ROWS + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & (channels < C)[None, :]
        at = offsets(rows, channels, C, L, LAST, WIDE)
        g = _incoming(gy, y, at, inside, LAST_USE if HINTS else "")
        values = tl.load(x + at, mask=inside, other=0.0, eviction_policy=LAST_USE if HINTS else "").to(tl.float32)
        out = (g - level[None, :] - (values - mean[None, :]) * slope[None, :]) * scale[None, :]
        tl.store(gx + at, out.to(gx.dtype.element_ty), mask=inside, eviction_policy=LAST_USE if HINTS else "")
        if residual_gradient is not None:
            tl.store(residual_gradient + at, g.to(gx.dtype.element_ty), mask=inside)


@triton.jit
def backward_single(
    gy, x, y, gx, residual_gradient, weight, saved, gw, gb, M, C,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """A slab of at most ROWS values a channel: g and x read once, gx written once."""
    channels = tl.program_id(0) * COLS + tl.arange(0, COLS)
    rows = tl.arange(0, ROWS)
    inside = (rows < M)[:, None] & (channels < C)[None, :]
    at = offsets(rows, channels, C, L, LAST, WIDE)
    g = _incoming(gy, y, at, inside, "")
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.load(saved + channels, mask=channels < C, other=0.0)
    invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0)
    normal = (values - mean[None, :]) * invstd[None, :]
    sg = tl.sum(g, 0)
    sgx = tl.sum(g * normal, 0)  # g is 0 outside
    tl.store(gw + channels, sgx, mask=channels < C)
    tl.store(gb + channels, sg, mask=channels < C)
    m = M.to(tl.float32)
    scale = invstd * per_channel(weight, channels, C, 1.0)
    out = (g - (sg / m)[None, :] - normal * (sgx / m)[None, :]) * scale[None, :]
    tl.store(gx + at, out.to(gx.dtype.element_ty), mask=inside)
    if residual_gradient is not None:
        tl.store(residual_gradient + at, g.to(gx.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=COUNTS)
def backward_reduce(
    gy, x, y, saved, partial, M, C, chunks, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """First of the stages: each chunk's sums."""
    chunk = tl.program_id(0) % chunks
    channels = tl.program_id(0) // chunks * COLS + tl.arange(0, COLS)
    mean = tl.load(saved + channels, mask=channels < C, other=0.0)
    start = chunk * tiles * ROWS
    sg, sgx = _chunk_sums(gy, x, y, mean, start, channels, M, C, tiles, L, LAST, WIDE, HINTS, ROWS, COLS)
    tl.store(partial + chunk * C + channels, sg, mask=channels < C)
    tl.store(partial + (chunks + chunk) * C + channels, sgx, mask=channels < C)


@triton.jit(do_not_specialize=COUNTS)
def backward_merge(partial, saved, gw, gb, C, chunks, COLS: tl.constexpr, MERGE: tl.constexpr):
    """Second of the stages: each channel's sums."""
    channels = tl.program_id(0) * COLS + tl.arange(0, COLS)
    sg, sgx = _merge_sums(partial, channels, C, chunks, MERGE)
    invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0)
    _store_sums(sg, sgx, invstd, channels, C, gw, gb)


@triton.jit(do_not_specialize=COUNTS)
def backward_apply(
    gy, x, y, gx, residual_gradient, weight, saved, gw, gb, M, C, chunks, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Third of the stages, from the end of x."""
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    channels = pid // chunks * COLS + tl.arange(0, COLS)
    mean = tl.load(saved + channels, mask=channels < C, other=0.0)
    invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0)
    sgx = tl.load(gw + channels, mask=channels < C, other=0.0)
    sg = tl.load(gb + channels, mask=channels < C, other=0.0)
    scale = invstd * per_channel(weight, channels, C, 1.0)
    start = pid % chunks * tiles * ROWS
    _gradient_chunk(
        gy, x, y, gx, residual_gradient, mean, invstd, scale, sgx, sg, start, channels, M, C, tiles,
        L, LAST, WIDE, HINTS, ROWS,
    )  # fmt: skip


@triton.jit(do_not_specialize=COUNTS)
def backward_ordered(
    gy, x, y, gx, residual_gradient, weight, saved, partial, gw, gb, flags,
    M, C, slabs, chunks, tiles, group, limit,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
    MERGE: tl.constexpr,
):  # fmt: skip
    """All stages in one launch; flags as in `forward_ordered`."""
    reduces, slab, chunk = take_turn(slabs, chunks, group)
    channels = slab * COLS + tl.arange(0, COLS)
    if slab < slabs:
        mean = tl.load(saved + channels, mask=channels < C, other=0.0)
        invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0)
        if reduces:
            start = chunk * tiles * ROWS
            sg, sgx = _chunk_sums(gy, x, y, mean, start, channels, M, C, tiles, L, LAST, WIDE, HINTS, ROWS, COLS)
            tl.store(partial + chunk * C + channels, sg, mask=channels < C)
            tl.store(partial + (chunks + chunk) * C + channels, sgx, mask=channels < C)
            tl.debug_barrier()
            done = tl.atomic_add(flags + slab, 1, sem="acq_rel")
            if done == chunks - 1:
                sg, sgx = _merge_sums(partial, channels, C, chunks, MERGE)
                _store_sums(sg, sgx, invstd, channels, C, gw, gb)
                tl.debug_barrier()
                tl.atomic_xchg(flags + slabs + slab, 1, sem="release")
        else:
            ready = wait_for(flags + slabs + slab, limit)
            sgx = tl.load(gw + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
            sg = tl.load(gb + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
            scale = tl.where(ready == 1, invstd * per_channel(weight, channels, C, 1.0), float("nan"))
            start = (chunks - 1 - chunk) * tiles * ROWS
            _gradient_chunk(
                gy, x, y, gx, residual_gradient, mean, invstd, scale, sgx, sg, start, channels, M, C, tiles,
                L, LAST, WIDE, HINTS, ROWS,
            )  # fmt: skip
