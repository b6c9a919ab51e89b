"""What the device code of training batch norm shares: where values lie, and whose turn it is (Triton).

One set of kernels for every layout. Shapes: M values in each of C channels, L locations of an example. A value is
(row, channel); `offsets` knows where that lies: channels last (LAST; also (N, C)) row C + channel, otherwise
(row // L) C L + channel L + row % L. A tile is (ROWS, COLS) of them, reduced along its rows. A chunk is `tiles` tiles
under one another: what one program reads. A slab is COLS channels, which `chunks` chunks cover.

Three ways to the same numbers, all with float32 sums in an order that only the shape decides:

- single: one program has a slab in registers and reads it once;
- staged: three launches, each chunk's moments, their merge, the application, which reads x again;
- ordered: one launch of programs that are dealt out so that the chunks of a few slabs are reduced and then applied
  while they are in the cache. A program that applies waits for the slab's last reducing program, which has a smaller
  number and so is running already. The atomic counters only say who is last: no sum depends on them.
  Right and equal in bits on an H100, but not timed yet, so no rule chooses it.
"""

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
    else:
        return (rows // L * (C * L) + rows % L)[:, None] + (channels * L)[None, :]


@triton.jit
def per_channel(pointer, channels, C, default):
    """(COLS,) parameters in float32, or `default` where there are none."""
    if pointer is None:
        return tl.zeros(channels.shape, tl.float32) + default
    else:
        return tl.load(pointer + channels, mask=channels < C, other=0.0).to(tl.float32)


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
