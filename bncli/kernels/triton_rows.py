"""Layer, group and RMS normalisation on the device (Triton): a program for each group of each example.

Shapes: N examples, C channels, G groups of K channels, L locations; a row is a group of an example, D = K L values.
"""

import triton
import triton.language as tl

from bncli.kernels.triton_forward import offsets


@triton.jit
def _find_row(groups, K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr):
    """Where this program's row begins, and its first channel."""
    example, group = tl.program_id(0) // groups, tl.program_id(0) % groups
    begin = example.to(tl.int64) * (groups * K * L)
    return begin + group * (K if LAST else K * L), group * K


@triton.jit
def _locate(at, groups, K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr):
    """Values of a row, as offsets from where it begins and as channels from its first."""
    if LAST:
        place, channel = at // K * (groups * K) + at % K, at % K
    else:
        place, channel = at, at // L
    return place, channel


@triton.jit
def _of_channels(pointer, channels, inside, default):
    """Parameters in float32, or `default` where there are none."""
    if pointer is None:
        return tl.zeros(channels.shape, tl.float32) + default
    return tl.load(pointer + channels, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def row_forward(
    x, y, weight, bias, saved, groups, D, eps,
    K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr, CENTRED: tl.constexpr, BLOCK: tl.constexpr,
    SINGLE: tl.constexpr,
):  # fmt: skip
    """y and saved (2, N G), mean and 1 / sqrt(mean square + eps): from one reading if SINGLE, else from two.

    Sums of a row that is read in tiles are taken around the first tile's mean, as in `triton_forward`.
    """
    row = tl.program_id(0)
    begin, first = _find_row(groups, K, L, LAST)
    at = tl.arange(0, BLOCK)
    inside = at < D
    place, channel = _locate(at, groups, K, L, LAST)
    values = tl.load(x + begin + place, mask=inside, other=0.0).to(tl.float32)
    n = D.to(tl.float32)
    mean = tl.sum(values, 0) / tl.minimum(D, BLOCK).to(tl.float32) if CENTRED else n * 0.0
    centred = tl.where(inside, values - mean, 0.0)
    s1, s2 = centred, centred * centred
    if not SINGLE:
        for start in range(BLOCK, D, BLOCK):
            more = start + at
            place, channel = _locate(more, groups, K, L, LAST)
            values = tl.load(x + begin + place, mask=more < D, other=0.0).to(tl.float32)
            deviation = tl.where(more < D, values - mean, 0.0)
            s1 += deviation
            s2 += deviation * deviation
    away = tl.sum(s1, 0) / n if CENTRED else mean
    invstd = tl.rsqrt(tl.maximum(tl.sum(s2, 0) / n - away * away, 0.0) + eps)
    tl.store(saved + row, mean + away)
    tl.store(saved + tl.num_programs(0) + row, invstd)
    if SINGLE:
        scale = invstd * _of_channels(weight, first + channel, inside, 1.0)
        out = (centred - away) * scale + _of_channels(bias, first + channel, inside, 0.0)
        tl.store(y + begin + place, out.to(y.dtype.element_ty), mask=inside)
    else:
        for back in range(0, D, BLOCK):  # last tile first: it is the likeliest to be in the cache
            more = (D - 1) // BLOCK * BLOCK - back + at
            place, channel = _locate(more, groups, K, L, LAST)
            values = tl.load(x + begin + place, mask=more < D, other=0.0).to(tl.float32)
            scale = invstd * _of_channels(weight, first + channel, more < D, 1.0)
            out = (values - mean - away) * scale + _of_channels(bias, first + channel, more < D, 0.0)
            tl.store(y + begin + place, out.to(y.dtype.element_ty), mask=more < D)


@triton.jit
def _read_row(
    gy, x, weight, mean, invstd, begin, first, groups, at, D,
    K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Where values `at` of a row lie, their standardised values and the gradients of these."""
    place, channel = _locate(at, groups, K, L, LAST)
    inside = at < D
    g = tl.load(gy + begin + place, mask=inside, other=0.0).to(tl.float32)
    g = g * _of_channels(weight, first + channel, inside, 1.0)
    values = tl.load(x + begin + place, mask=inside, other=0.0).to(tl.float32)
    return place, (values - mean) * invstd, g


@triton.jit
def row_backward(
    gy, x, gx, weight, saved, groups, D,
    K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr, CENTRED: tl.constexpr, BLOCK: tl.constexpr,
    SINGLE: tl.constexpr,
):  # fmt: skip
    """gx = (g - mean(g) - x^ mean(g x^)) / s for g = weight gy, without mean(g) where nothing was centred."""
    row = tl.program_id(0)
    begin, first = _find_row(groups, K, L, LAST)
    mean, invstd = tl.load(saved + row), tl.load(saved + tl.num_programs(0) + row)
    at = tl.arange(0, BLOCK)
    place, normal, g = _read_row(gy, x, weight, mean, invstd, begin, first, groups, at, D, K, L, LAST)
    sg, sgx = g, g * normal  # g is 0 outside
    if not SINGLE:
        for start in range(BLOCK, D, BLOCK):
            _, other, more = _read_row(gy, x, weight, mean, invstd, begin, first, groups, start + at, D, K, L, LAST)
            sg += more
            sgx += more * other
    n = D.to(tl.float32)
    level = tl.sum(sg, 0) / n if CENTRED else 0.0
    slope = tl.sum(sgx, 0) / n
    if SINGLE:
        tl.store(gx + begin + place, ((g - level - normal * slope) * invstd).to(gx.dtype.element_ty), mask=at < D)
    else:
        for back in range(0, D, BLOCK):
            more = (D - 1) // BLOCK * BLOCK - back + at
            place, normal, g = _read_row(gy, x, weight, mean, invstd, begin, first, groups, more, D, K, L, LAST)
            tl.store(gx + begin + place, ((g - level - normal * slope) * invstd).to(gx.dtype.element_ty), mask=more < D)


@triton.jit
def parameter_sums(
    gy, x, saved, partial, M, C, groups, count, chunks, tiles,
    K: tl.constexpr, L: tl.constexpr, LAST: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of the M = N L values of each channel: of g x^ and of g, to partial (2, chunks, C)."""
    chunk = tl.program_id(0) % chunks
    channels = tl.program_id(0) // chunks * COLS + tl.arange(0, COLS)
    sgx, sg = tl.zeros((ROWS, COLS), tl.float32), tl.zeros((ROWS, COLS), tl.float32)
    for i in range(0, tiles):
        rows = (chunk * tiles + i) * ROWS + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & (channels < C)[None, :]
        at = offsets(rows, channels, C, L, LAST, WIDE)
        g = tl.load(gy + at, mask=inside, other=0.0).to(tl.float32)
        values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        row = (rows // L * groups)[:, None] + (channels // K)[None, :]
        mean = tl.load(saved + row, mask=inside, other=0.0)
        invstd = tl.load(saved + count + row, mask=inside, other=0.0)
        sgx += g * (values - mean) * invstd
        sg += g
    tl.store(partial + chunk * C + channels, tl.sum(sgx, 0), mask=channels < C)
    tl.store(partial + (chunks + chunk) * C + channels, tl.sum(sg, 0), mask=channels < C)
