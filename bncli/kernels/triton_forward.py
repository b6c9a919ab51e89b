"""Training batch norm, forward, on the device (Triton); shapes and terms as in `triton_forward`."""

import triton
import triton.language as tl

KEEP, LAST_USE = tl.constexpr("evict_last"), tl.constexpr("evict_first")  # what is read again soon, and what is not
COUNTS = ["slabs", "chunks", "tiles", "group", "limit", "chunk_rows"]  # a kernel serves all values of these


@triton.jit
def offsets(rows, channels, C, L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr):
    """(ROWS,) and (COLS,) to (ROWS, COLS) positions; WIDE where those pass 2^31."""
    if WIDE:
        rows = rows.to(tl.int64)
    if LAST:
        return rows[:, None] * C + channels[None, :]
    return (rows // L * (C * L) + rows % L)[:, None] + (channels * L)[None, :]


@triton.jit
def per_channel(pointer, channels, C, default):
    """(COLS,) parameters in float32, or `default` where there are none."""
    if pointer is None:
        return tl.zeros(channels.shape, tl.float32) + default
    return tl.load(pointer + channels, mask=channels < C, other=0.0).to(tl.float32)


@triton.jit
def finish(out, residual, at, inside, RELU: tl.constexpr):
    """What is added to the normalised values where there is something, and then ReLU if it is asked for."""
    if residual is not None:
        out += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    return tl.where(out < 0.0, 0.0, out) if RELU else out  # nan stays nan


@triton.jit
def take_turn(slabs, chunks, group):
    """Whether this program reduces, and its slab and chunk.

    In phases of `group` slabs: reduce 0, reduce 1, apply 0, reduce 2, apply 1, ... apply the last.
    """
    phase = tl.program_id(0) // (group * chunks)
    inside = tl.program_id(0) % (group * chunks)
    groups = tl.cdiv(slabs, group)
    before = (phase + 1) // 2 - 1  # the group that an even phase applies
    odd = phase % 2 == 1
    reduces = (phase == 0) | (odd & (before + 1 < groups))
    turn = tl.where(phase == 0, 0, tl.where(odd, tl.minimum(before + 1, groups - 1), before))
    return reduces, turn * group + inside // chunks, inside % chunks


@triton.jit
def wait_for(flag, limit):
    """1 when the flag is set; 0 after `limit` looks: a result of nan is better than a device that hangs."""
    ready = tl.atomic_add(flag, 0, sem="acquire")
    looks = 0
    while (ready == 0) & (looks < limit):
        ready = tl.atomic_add(flag, 0, sem="acquire")
        looks += 1
    return ready


@triton.jit
def _chunk_moments(
    x, start, channels, M, C, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean, less the channel's first value, and sum of squared deviations of a chunk, from one reading of it.

    Sums are taken around K, the first tile's mean: as K is itself the mean of a part f of the chunk, the final
    subtraction loses at most a factor of 1 + 1 / f in precision, whatever the values are.
    """
    rows = start + tl.arange(0, ROWS)
    inside = (rows < M)[:, None] & (channels < C)[None, :]
    at = offsets(rows, channels, C, L, LAST, WIDE)
    values = tl.load(x + at, mask=inside, other=0.0, eviction_policy=KEEP if HINTS else "").to(tl.float32)
    K = tl.sum(values, 0) / tl.minimum(M - start, ROWS).to(tl.float32)
    centred = tl.where(inside, values - K[None, :], 0.0)
    s1 = centred
    s2 = centred * centred
    for i in range(1, tiles):
        rows = start + i * ROWS + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & (channels < C)[None, :]
        at = offsets(rows, channels, C, L, LAST, WIDE)
        values = tl.load(x + at, mask=inside, other=0.0, eviction_policy=KEEP if HINTS else "").to(tl.float32)
        centred = tl.where(inside, values - K[None, :], 0.0)
        s1 += centred
        s2 += centred * centred
    n = tl.minimum(M - start, tiles * ROWS).to(tl.float32)
    away = tl.sum(s1, 0) / n
    first = _first(x, channels, C, L, LAST)
    return K - first + away, tl.maximum(tl.sum(s2, 0) - n * away * away, 0.0)


@triton.jit
def _first(x, channels, C, L: tl.constexpr, LAST: tl.constexpr):
    """(COLS,) first values: what the means of chunks are held against, lest large ones lose their differences."""
    return tl.load(x + channels * (1 if LAST else L), mask=channels < C, other=0.0).to(tl.float32)


@triton.jit
def _merge_moments(partial, first, channels, M, C, chunks, chunk_rows, MERGE: tl.constexpr):
    """Mean and biased variance from the chunks' own, (2, chunks, C) (Chan, Golub & LeVeque 1983, equation 2.1)."""
    K = tl.load(partial + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
    s1 = tl.zeros((MERGE, channels.shape[0]), tl.float32)
    s2 = tl.zeros((MERGE, channels.shape[0]), tl.float32)
    for above in range(0, chunks, MERGE):
        chunk = above + tl.arange(0, MERGE)
        inside = (chunk < chunks)[:, None] & (channels < C)[None, :]
        at = partial + chunk[:, None] * C + channels[None, :]
        n = tl.minimum(M - chunk * chunk_rows, chunk_rows).to(tl.float32)[:, None]
        away = tl.where(inside, tl.load(at, mask=inside, other=0.0, cache_modifier=".cg") - K[None, :], 0.0)
        s1 += n * away
        s2 += tl.load(at + chunks * C, mask=inside, other=0.0, cache_modifier=".cg") + n * away * away
    m = M.to(tl.float32)
    away = tl.sum(s1, 0) / m
    return first + (K + away), tl.maximum(tl.sum(s2, 0) / m - away * away, 0.0)


@triton.jit
def _store_moments(mean, var, channels, M, C, saved, running_mean, running_var, new_mean, new_var, momentum, eps):
    """Mean and 1 / sqrt(var + eps) to `saved` (2, C), and the running statistics, of the unbiased variance."""
    inside = channels < C
    invstd = tl.rsqrt(var + eps)
    tl.store(saved + channels, mean, mask=inside)
    tl.store(saved + C + channels, invstd, mask=inside)
    m = M.to(tl.float32)
    old_mean = tl.load(running_mean + channels, mask=inside, other=0.0).to(tl.float32)
    old_var = tl.load(running_var + channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(new_mean + channels, (1 - momentum) * old_mean + momentum * mean, mask=inside)
    tl.store(new_var + channels, (1 - momentum) * old_var + momentum * (var * (m / (m - 1))), mask=inside)
    return invstd


@triton.jit
def _apply_chunk(
    x, y, residual, mean, scale, shift, start, channels, M, C, tiles, RELU: tl.constexpr,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """y = (x - mean) scale + shift, finished, last tile first: it is the likeliest to be in the cache."""
    for i in range(0, tiles):
        rows = start + (tiles - 1 - i) * ROWS + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & (channels < C)[None, :]
        at = offsets(rows, channels, C, L, LAST, WIDE)
        values = tl.load(x + at, mask=inside, other=0.0, eviction_policy=LAST_USE if HINTS else "").to(tl.float32)
        out = finish((values - mean[None, :]) * scale[None, :] + shift[None, :], residual, at, inside, RELU)
        tl.store(y + at, out.to(y.dtype.element_ty), mask=inside, eviction_policy=LAST_USE if HINTS else "")


@triton.jit
def forward_single(
    x, y, residual, weight, bias, saved, running_mean, running_var, new_mean, new_var, M, C, momentum, eps,
    RELU: tl.constexpr,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """A slab of at most ROWS values a channel: read once, moments in two passes over registers, written once."""
    channels = tl.program_id(0) * COLS + tl.arange(0, COLS)
    rows = tl.arange(0, ROWS)
    inside = (rows < M)[:, None] & (channels < C)[None, :]
    at = offsets(rows, channels, C, L, LAST, WIDE)
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    m = M.to(tl.float32)
    mean = tl.sum(values, 0) / m
    centred = tl.where(inside, values - mean[None, :], 0.0)
    away = tl.sum(centred, 0) / m  # what rounding left in the mean
    var = tl.maximum(tl.sum(centred * centred, 0) / m - away * away, 0.0)
    invstd = _store_moments(
        mean + away, var, channels, M, C, saved, running_mean, running_var, new_mean, new_var, momentum, eps
    )
    scale = invstd * per_channel(weight, channels, C, 1.0)
    shift = per_channel(bias, channels, C, 0.0) - away * scale
    out = finish(centred * scale[None, :] + shift[None, :], residual, at, inside, RELU)
    tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=COUNTS)
def forward_reduce(
    x, partial, M, C, chunks, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """First of the stages: each chunk's moments."""
    chunk = tl.program_id(0) % chunks
    channels = tl.program_id(0) // chunks * COLS + tl.arange(0, COLS)
    mean, square = _chunk_moments(x, chunk * tiles * ROWS, channels, M, C, tiles, L, LAST, WIDE, HINTS, ROWS)
    tl.store(partial + chunk * C + channels, mean, mask=channels < C)
    tl.store(partial + (chunks + chunk) * C + channels, square, mask=channels < C)


@triton.jit(do_not_specialize=COUNTS)
def forward_merge(
    x, partial, saved, running_mean, running_var, new_mean, new_var, M, C, chunks, chunk_rows, momentum, eps,
    L: tl.constexpr, LAST: tl.constexpr, COLS: tl.constexpr, MERGE: tl.constexpr,
):  # fmt: skip
    """Second of the stages: each channel's moments."""
    channels = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = _first(x, channels, C, L, LAST)
    mean, var = _merge_moments(partial, first, channels, M, C, chunks, chunk_rows, MERGE)
    _store_moments(mean, var, channels, M, C, saved, running_mean, running_var, new_mean, new_var, momentum, eps)


@triton.jit(do_not_specialize=COUNTS)
def forward_apply(
    x, y, residual, weight, bias, saved, M, C, chunks, tiles, RELU: tl.constexpr,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Third of the stages, from the end of x."""
    pid = tl.num_programs(0) - 1 - tl.program_id(0)
    channels = pid // chunks * COLS + tl.arange(0, COLS)
    mean = tl.load(saved + channels, mask=channels < C, other=0.0)
    invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0)
    scale = invstd * per_channel(weight, channels, C, 1.0)
    shift = per_channel(bias, channels, C, 0.0)
    start = pid % chunks * tiles * ROWS
    _apply_chunk(x, y, residual, mean, scale, shift, start, channels, M, C, tiles, RELU, L, LAST, WIDE, HINTS, ROWS)


@triton.jit(do_not_specialize=COUNTS)
def forward_ordered(
    x, y, residual, weight, bias, partial, saved, running_mean, running_var, new_mean, new_var, flags,
    M, C, slabs, chunks, tiles, group, limit, momentum, eps, RELU: tl.constexpr,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, HINTS: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
    MERGE: tl.constexpr,
):  # fmt: skip
    """All stages in one launch; flags (2, slabs) are 0 before: how many chunks have been reduced, and ready."""
    reduces, slab, chunk = take_turn(slabs, chunks, group)
    channels = slab * COLS + tl.arange(0, COLS)
    if slab < slabs:
        if reduces:
            mean, square = _chunk_moments(x, chunk * tiles * ROWS, channels, M, C, tiles, L, LAST, WIDE, HINTS, ROWS)
            tl.store(partial + chunk * C + channels, mean, mask=channels < C)
            tl.store(partial + (chunks + chunk) * C + channels, square, mask=channels < C)
            tl.debug_barrier()
            done = tl.atomic_add(flags + slab, 1, sem="acq_rel")
            if done == chunks - 1:
                first = _first(x, channels, C, L, LAST)
                mean, var = _merge_moments(partial, first, channels, M, C, chunks, tiles * ROWS, MERGE)
                _store_moments(
                    mean, var, channels, M, C, saved, running_mean, running_var, new_mean, new_var, momentum, eps
                )
                tl.debug_barrier()
                tl.atomic_xchg(flags + slabs + slab, 1, sem="release")
        else:
            ready = wait_for(flags + slabs + slab, limit)
            mean = tl.load(saved + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
            invstd = tl.load(saved + C + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
            scale = tl.where(ready == 1, invstd * per_channel(weight, channels, C, 1.0), float("nan"))
            shift = per_channel(bias, channels, C, 0.0)
            start = (chunks - 1 - chunk) * tiles * ROWS
            _apply_chunk(
                x, y, residual, mean, scale, shift, start, channels, M, C, tiles, RELU, L, LAST, WIDE, HINTS, ROWS
            )
