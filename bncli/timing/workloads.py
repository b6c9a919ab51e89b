"""What is timed: the candidate and its rivals, copies of the arguments that rotate, how long it is timed."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from bncli.timing.clock import Arguments, Call, Clock

# Sets are padded apart by so many bytes at most, at random: which addresses share a cache line's place, or alias in
# their last 12 bits, is a process's luck otherwise, and worth 10 % and more of some times.
_MOST_PADDING_BYTE = 2**16
_MOST_COPIES = 1024  # making one takes tens of microseconds
_CACHE_BYTE = 32 * 2**20  # where the system does not say


@dataclass(frozen=True)
class Workload:
    """One thing that is timed: `call(*arguments)`.

    Args:
        call: what is timed; what it returns is dropped.
        make_arguments: makes a set of its arguments, new memory each time.
        size_byte: what one set takes in memory, and what hangs on it.
        norm: anybody's norm that `call` calls; none of bncli's or torch's.
    """

    call: Call
    make_arguments: Callable[[], Arguments]
    size_byte: int
    norm: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Entry:
    """A case ready to be timed: the candidate, and the rivals by name ("native", "copy") that it is held against.

    The first rival decides when the ratio is known well enough.
    """

    name: str
    candidate: Workload
    rivals: tuple[tuple[str, Workload], ...]

    def workloads(self) -> dict[str, Workload]:
        """All by name, the candidate first, as "case"."""
        return {"case": self.candidate, **dict(self.rivals)}


def count_argument_copies(size_byte: int, cache_byte: int, memory_byte: int) -> int:
    """How many sets of `size_byte` must rotate so that each has left the cache before it comes again.

    The sets amount to one and a half caches, at most to `memory_byte`, and to two sets at least.
    """
    wanted = math.ceil(1.5 * cache_byte / max(size_byte, 1))
    return max(2, min(wanted, memory_byte // max(size_byte, 1), _MOST_COPIES))


def make_argument_copies(workload: Workload, count: int, chance: random.Random) -> list[Arguments]:
    """`count` argument sets, padded apart at random."""
    padding, copies = [], []
    for _ in range(count):
        padding.append(bytearray(chance.randrange(64, _MOST_PADDING_BYTE)))
        copies.append(workload.make_arguments())
    return copies


@cache
def read_last_level_cache(system: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the processor's last-level cache, or a common one where the system does not say."""
    sizes = [_parse_size(file.read_text().strip()) for file in system.glob("index*/size")]
    return max(sizes, default=_CACHE_BYTE)


def _parse_size(text: str) -> int:
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
    return int(text.rstrip("KMG") or 0) * factor


_MOST_CALLS = 1_000_000
_WARM_SETS = 8  # layouts that rotate from block to block when the cache is warm


@dataclass(frozen=True)
class TimerSettings:
    """How long and how exactly one process measures one case."""

    seconds: float = 2.0  # for the blocks of one case, at most; one block more is finished
    half_width: float = 0.01  # of the ratio's 95 % interval, relative: narrow enough
    warmup: float = 0.1  # seconds of untimed calls, candidate and rivals one after the other
    # Seconds that a timed chunk of calls lasts at least. A hundred times what reading the clock takes; longer ones are
    # held up by other processes more often, shorter ones feel the calls that touch the cache before them.
    chunk: float = 2e-4
    least_blocks: int = 8
    most_blocks: int = 400
    warm: bool = False  # each chunk on one argument set that is in the cache, if it fits
    graph: bool = False  # on a GPU, chunks are captured in CUDA graphs and replayed
    memory_byte: int = 2**30  # for the argument sets of the candidate, and of each rival
    cache_byte: int = 0  # of the last-level cache; 0 is the processor's, as the system says


class Timer(Protocol):
    """What the scheduler asks of a workload, wherever that runs."""

    calls: int  # in one chunk
    argument_copies: int  # that rotate
    cold: bool  # whether those are larger than the last-level cache

    def time_chunk(self, block: int) -> float:
        """Seconds a call of one timed chunk."""
        ...

    def size(self, wanted: float) -> None:
        """Choose as many calls as last `wanted` seconds."""
        ...


class LocalTimer:
    """Times a workload in this process."""

    def __init__(self, call: Call, sets: Sequence[Arguments], clock: Clock, *, warm: bool, cold: bool) -> None:
        self.calls, self.argument_copies, self.cold = 1, len(sets), cold
        self._call, self._sets, self._clock, self._warm, self._turn = call, sets, clock, warm, 0

    def time_chunk(self, block: int) -> float:
        """See Timer. Warm, a block has one set, touched untimed first; cold, the next call takes the next set."""
        if self._warm:
            chosen = self._sets[block % len(self._sets)]
            self._call(*chosen)
            sets = [chosen] * self.calls
        else:
            sets = [self._sets[(self._turn + i) % len(self._sets)] for i in range(self.calls)]
            self._turn += self.calls
        return self._clock.time_chunk(self._call, sets) / self.calls

    def size(self, wanted: float) -> None:
        """See Timer. By chunks that grow, each the faster of two."""
        self.calls = 1
        while True:
            seconds = self.calls * min(self.time_chunk(0), self.time_chunk(0))
            if seconds >= wanted or self.calls == _MOST_CALLS:
                return
            factor = min(10.0, 1.1 * wanted / seconds) if seconds > 0 else 10.0
            self.calls = min(math.ceil(self.calls * factor), _MOST_CALLS)


def make_timers(entry: Entry, clock: Clock, settings: TimerSettings, chance: random.Random) -> dict[str, LocalTimer]:
    """An entry's workloads by name, with their argument sets made."""
    return {name: _make_timer(workload, clock, settings, chance) for name, workload in entry.workloads().items()}


def _make_timer(workload: Workload, clock: Clock, settings: TimerSettings, chance: random.Random) -> LocalTimer:
    cache_byte = settings.cache_byte or read_last_level_cache()
    count = count_argument_copies(workload.size_byte, cache_byte, settings.memory_byte)
    if settings.warm:
        count = min(count, _WARM_SETS)
    sets = make_argument_copies(workload, count, chance)
    cold = not settings.warm and count * workload.size_byte >= cache_byte
    return LocalTimer(workload.call, sets, clock, warm=settings.warm, cold=cold)
