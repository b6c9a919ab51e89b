"""What this machine can do: its memory's speed, its matrix products', its noise and its timer, all measured."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from bncli.bench.clock import Clock, clock_for
from bncli.bench.contenders import last_level_cache_byte
from bncli.bench.entries import DTYPES
from bncli.bench.rows import Rates

_REPEATS, _LEAST_REPEATS, _ENOUGH_SECONDS = 9, 3, 0.5
_LARGEST_BYTE = 2**29  # of a copy's source and target together
# of a matrix product, large enough for full speed: 20 ms of one core, 22 ms of an H100 in float32 and 2 ms in bfloat16
_SIZE = {"cpu": 1024, "cuda": 8192}


def rates(threads: int, dtypes: Sequence[str], device: str) -> Rates:
    """Measure the ceilings for so many threads; takes half a second. Leaves the threads as it set them."""
    torch.set_num_threads(threads)
    clock = clock_for(device, threads)
    return Rates(threads, bandwidth(device, clock), {dtype: product_rate(dtype, device, clock) for dtype in dtypes})


def cache_byte(device: str) -> int:
    """The size of the last cache before the memory: the processor's, or the GPU's L2."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    return last_level_cache_byte()


def bandwidth(device: str, clock: Clock) -> float:
    """Bytes a second that a plain copy reads and writes, out of the last-level cache.

    A GPU's takes a copy of ten times its cache to forget it.
    """
    size = (_LARGEST_BYTE if device == "cuda" else min(2 * cache_byte(device), _LARGEST_BYTE)) // 2
    source, target = (torch.ones(size // 4, device=device) for _ in range(2))
    return 2 * source.nbytes / _median_seconds(lambda: target.copy_(source), clock)


def product_rate(dtype: str, device: str, clock: Clock) -> float:
    """Floating-point operations a second of a product of two square matrices."""
    size = _SIZE[device]
    a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _median_seconds(lambda: torch.mm(a, b, out=out), clock)


def noise_floor(clock: Clock, repeats: int = 200) -> float:
    """How much the same work varies from one time to the next: half the range of the middle half, as a fraction.

    The work is a copy of 4 MB, a millisecond or less, as the cases of a benchmark are.
    """
    source, target = torch.ones(2**20), torch.ones(2**20)
    times = [clock.chunk(lambda: target.copy_(source), [()]) for _ in range(repeats)]
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / 2 / middle


def timer_resolution() -> float:
    """Seconds between two readings of the clock that differ, at best."""
    found = []
    for _ in range(1000):
        first = second = time.perf_counter()
        while second == first:
            second = time.perf_counter()
        found.append(second - first)
    return min(found)


def _median_seconds(call: Callable[[], object], clock: Clock) -> float:
    """Of nine calls, or of as many as half a second allows, three at least."""
    call()
    times: list[float] = []
    end = clock.now() + _ENOUGH_SECONDS
    while len(times) < _REPEATS and (len(times) < _LEAST_REPEATS or clock.now() < end):
        times.append(clock.chunk(call, [()]))
    return statistics.median(times)
