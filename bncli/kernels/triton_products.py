"""Products within groups of channels on the device (Triton): covariances, and matrices applied to every value.

Shapes: N examples, C channels, L locations, M = N L values a channel, G groups of d channels; `lanes` times so many
channels and groups where lanes lie side by side as channels. A tile is ROWS values by D channels, D a power of 2 and
16 at least. Numbers are in float32, and sums of tiles in float64: exact roots see small eigenvalues beside large ones.
"""

import triton
import triton.language as tl

from bncli.kernels.triton_forward import offsets


@triton.jit
def _find_channels(group, C, d, groups, D: tl.constexpr):
    """The channels of a group, and which of them there are; C and `groups` are those of a lane."""
    each = tl.arange(0, D)
    inside = (each < d) & (group % groups * d + each < C)
    return group // groups * C + group % groups * d + each, inside


@triton.jit
def _load_tile(
    pointer, shift, rows, channels, there, M, C, L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Values less the shift of their channels, 0 where there are none: (ROWS, D), and where they lie."""
    inside = (rows < M)[:, None] & there[None, :]
    at = offsets(rows, channels, C, L, LAST, WIDE)
    values = tl.load(pointer + at, mask=inside, other=0.0).to(tl.float32)
    if shift is not None:
        values = tl.where(inside, values - tl.load(shift + channels, mask=there, other=0.0)[None, :], 0.0)
    return values, at, inside


@triton.jit
def _load_matrix(pointer, group, d, D: tl.constexpr):
    """(D, D) of a group, 0 outside of d x d."""
    each = tl.arange(0, D)
    inside = (each < d)[:, None] & (each < d)[None, :]
    return tl.load(pointer + group * d * d + each[:, None] * d + each[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=["chunks", "tiles"])
def group_products(
    a, b, shift, sums, products, M, C, lanes, groups, d, chunks, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Of a chunk: sums of a, (chunks, G, d), and of a (b - shift)^T, (chunks, G, d, d). Without a it is b - shift."""
    chunk, group = tl.program_id(0) % chunks, tl.program_id(0) // chunks
    channels, there = _find_channels(group, C, d, groups, D)
    total = tl.zeros((D, D), tl.float64)
    total_of_a = tl.zeros((D,), tl.float64)
    for i in range(0, tiles):
        rows = (chunk * tiles + i) * ROWS + tl.arange(0, ROWS)
        right, _, _ = _load_tile(b, shift, rows, channels, there, M, C * lanes, L, LAST, WIDE)
        if a is None:
            left = right
        else:
            left, _, _ = _load_tile(a, None, rows, channels, there, M, C * lanes, L, LAST, WIDE)
        total_of_a += tl.sum(left, 0).to(tl.float64)
        total += tl.dot(tl.trans(left), right, input_precision=PRECISION).to(tl.float64)
    each = tl.arange(0, D)
    place = chunk * groups * lanes + group
    tl.store(sums + place * d + each, total_of_a, mask=each < d)
    inside = (each < d)[:, None] & (each < d)[None, :]
    tl.store(products + place * d * d + each[:, None] * d + each[None, :], total, mask=inside)


@triton.jit(do_not_specialize=["chunks", "tiles"])
def group_apply(
    a, shift_a, A, b, shift_b, B, offset, out, M, C, lanes, groups, d, chunks, tiles,
    L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """(a - shift_a) A + (b - shift_b) B + offset for rows of values; without b or an offset without that term."""
    chunk, group = tl.program_id(0) % chunks, tl.program_id(0) // chunks
    channels, there = _find_channels(group, C, d, groups, D)
    of_a = _load_matrix(A, group, d, D)
    if b is not None:
        of_b = _load_matrix(B, group, d, D)
    for i in range(0, tiles):
        rows = (chunk * tiles + i) * ROWS + tl.arange(0, ROWS)
        values, at, inside = _load_tile(a, shift_a, rows, channels, there, M, C * lanes, L, LAST, WIDE)
        y = tl.dot(values, of_a, input_precision=PRECISION)
        if b is not None:
            values, _, _ = _load_tile(b, shift_b, rows, channels, there, M, C * lanes, L, LAST, WIDE)
            y += tl.dot(values, of_b, input_precision=PRECISION)
        if offset is not None:
            y += tl.load(offset + channels, mask=there, other=0.0)[None, :]
        tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)
