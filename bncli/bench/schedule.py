"""The scheduler: a case and its yardsticks take turns in palindromic blocks until their ratio is known.

A block of a case C, native N and copy K is C N K K N C, or the same from another order drawn at random: what drifts
linearly within a block cancels in every ratio, and what comes in time with the blocks, such as the turns of another
process on this core, meets each contender as often.
"""

import gc
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bncli.bench.clock import Arguments, Call, Clock
from bncli.bench.contenders import Entry, clones_needed, last_level_cache_byte, make_clones
from bncli.bench.doubts import doubts
from bncli.bench.estimates import median, outliers, ratio, relative_width
from bncli.bench.results import CaseResult, Stopped

_MOST_CALLS = 1_000_000
_WARM_SETS = 8  # layouts that take turns between blocks when the cache is warm

Samples = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Effort:
    """How long and how exactly one process measures one case."""

    seconds: float = 2.0  # for the blocks of one case, at most; one block more is finished
    half_width: float = 0.01  # of the ratio's 95 % interval, relative: narrow enough
    warmup: float = 0.1  # seconds of untimed calls, the contenders in turn
    chunk: float = 1e-3  # seconds that a timed chunk of calls lasts at least
    least_blocks: int = 8
    most_blocks: int = 400
    warm: bool = False  # each chunk on one argument set that is in the cache, if it fits
    memory_byte: int = 2**30  # for the argument sets of one contender
    cache_byte: int = 0  # of the last-level cache; 0 is what the system says


class _Lane:
    """One contender while it is measured: its argument sets, whose turn it is, and the calls in a chunk."""

    def __init__(self, call: Call, sets: Sequence[Arguments], clock: Clock, warm: bool) -> None:
        self.call, self.sets, self.clock, self.warm = call, sets, clock, warm
        self.calls, self._turn = 1, 0

    def chunk(self, block: int) -> float:
        """Seconds a call of one timed chunk."""
        if self.warm:
            chosen = self.sets[block % len(self.sets)]
            self.call(*chosen)  # untimed: brings the set into the cache
            sets = [chosen] * self.calls
        else:
            sets = [self.sets[(self._turn + i) % len(self.sets)] for i in range(self.calls)]
            self._turn += self.calls
        return self.clock.chunk(self.call, sets) / self.calls

    def size(self, wanted: float) -> None:
        """Choose as many calls as last `wanted` seconds: by chunks that grow, each the faster of two."""
        while True:
            seconds = self.calls * min(self.chunk(0), self.chunk(0))
            if seconds >= wanted or self.calls == _MOST_CALLS:
                return
            factor = min(10.0, 1.1 * wanted / seconds) if seconds > 0 else 10.0
            self.calls = min(math.ceil(self.calls * factor), _MOST_CALLS)


def measure(entry: Entry, clock: Clock, effort: Effort, seed: int = 0) -> CaseResult:
    """Time a case beside its yardsticks in this process.

    The garbage collector rests meanwhile. Stops when the interval of the ratio to the first yardstick is narrow enough,
    asked at 8, 12, 18, ... blocks only, so that looking often does not make it look narrow by chance; or when seconds
    or blocks have run out. `seed` draws the padding of the arguments and the
    order of the blocks.
    """
    chance = random.Random(seed)
    lanes = _lanes(entry, clock, effort, chance)
    with _no_garbage_collection():
        _warm_up(lanes, clock, effort)
        samples, stopped = _blocks(lanes, clock, effort, entry.yardsticks[0][0], chance)
    cold = not effort.warm and all(
        len(lanes[name].sets) * contender.size_byte >= _cache_byte(effort)
        for name, contender in entry.contenders().items()
    )
    return summarise(
        entry.name,
        {name: tuple(blocks) for name, blocks in samples.items()},
        {name: lane.calls for name, lane in lanes.items()},
        {name: len(lane.sets) for name, lane in lanes.items()},
        stopped,
        cold,
    )


def summarise(
    name: str,
    samples: Mapping[str, tuple[tuple[float, float], ...]],
    calls: Mapping[str, int],
    clones: Mapping[str, int],
    stopped: Stopped,
    cold: bool,
) -> CaseResult:
    """Read medians, ratios, outliers and doubts off raw samples."""
    flat = {contender: [s for block in blocks for s in block] for contender, blocks in samples.items()}
    return CaseResult(
        name=name,
        samples=samples,
        calls=calls,
        seconds={c: median([statistics.fmean(block) for block in blocks]) for c, blocks in samples.items()},
        ratios={c: ratio(samples["case"], blocks) for c, blocks in samples.items() if c != "case"},
        outliers={c: outliers(chunks) for c, chunks in flat.items()},
        stopped=stopped,
        clones=clones,
        cold=cold,
        warnings=doubts(samples),
    )


def _lanes(entry: Entry, clock: Clock, effort: Effort, chance: random.Random) -> dict[str, _Lane]:
    lanes = {}
    for name, contender in entry.contenders().items():
        needed = clones_needed(contender.size_byte, _cache_byte(effort), effort.memory_byte)
        sets = make_clones(contender, min(_WARM_SETS, needed) if effort.warm else needed, chance)
        lanes[name] = _Lane(contender.call, sets, clock, effort.warm)
    return lanes


def _cache_byte(effort: Effort) -> int:
    return effort.cache_byte or last_level_cache_byte()


def _warm_up(lanes: Mapping[str, _Lane], clock: Clock, effort: Effort) -> None:
    """Run every contender untimed, then choose its calls in a chunk."""
    end = clock.now() + effort.warmup
    for lane in lanes.values():
        lane.size(effort.chunk)
    while clock.now() < end:
        for lane in lanes.values():
            lane.chunk(0)
    for lane in lanes.values():  # again: the first calls were slow
        lane.calls = 1
        lane.size(effort.chunk)


def _blocks(
    lanes: Mapping[str, _Lane], clock: Clock, effort: Effort, decisive: str, chance: random.Random
) -> tuple[Samples, Stopped]:
    samples: Samples = {name: [] for name in lanes}
    names, end, look = list(lanes), clock.now() + effort.seconds, effort.least_blocks
    for block in range(effort.most_blocks):
        order = chance.sample(names, len(names))
        rise = {name: lanes[name].chunk(block) for name in order}
        fall = {name: lanes[name].chunk(block) for name in reversed(order)}
        for name in names:
            samples[name].append((rise[name], fall[name]))
        if block + 1 >= look:
            if relative_width(ratio(samples["case"], samples[decisive])) <= effort.half_width:
                return samples, "narrow"
            look = look * 3 // 2
        if block + 1 >= effort.least_blocks and clock.now() >= end:
            return samples, "time"
    return samples, "blocks"


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
