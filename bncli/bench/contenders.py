"""What is timed: a case and its yardsticks, each with arguments made as often as a cold cache asks for."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bncli.bench.clock import Arguments, Call

# Sets are padded apart by so many bytes at most, at random: which addresses share a cache line's place, or alias in
# their last 12 bits, is a process's luck otherwise, and worth 10 % and more of some times.
_MOST_PADDING_BYTE = 2**16
_MOST_CLONES = 1024  # making one takes tens of microseconds
_CACHE_BYTE = 32 * 2**20  # where the system does not say


@dataclass(frozen=True)
class Contender:
    """One thing that is timed: `call(*arguments)`.

    Args:
        call: what is timed; what it returns is dropped.
        make_arguments: makes a set of its arguments, new memory each time.
        size_byte: what one set takes in memory, and what hangs on it.
    """

    call: Call
    make_arguments: Callable[[], Arguments]
    size_byte: int


@dataclass(frozen=True)
class Entry:
    """A case ready to be timed: itself, and the yardsticks by name ("native", "copy") that it is held against.

    The first yardstick decides when the ratio is known well enough.
    """

    name: str
    case: Contender
    yardsticks: tuple[tuple[str, Contender], ...]

    def contenders(self) -> dict[str, Contender]:
        """All by name, the case first."""
        return {"case": self.case, **dict(self.yardsticks)}


def clones_needed(size_byte: int, cache_byte: int, memory_byte: int) -> int:
    """How many sets of `size_byte` must take turns so that each has left the cache before its next turn.

    The sets amount to one and a half caches, at most to `memory_byte`, and to two sets at least.
    """
    wanted = math.ceil(1.5 * cache_byte / max(size_byte, 1))
    return max(2, min(wanted, memory_byte // max(size_byte, 1), _MOST_CLONES))


def make_clones(contender: Contender, count: int, chance: random.Random) -> list[Arguments]:
    """`count` argument sets, padded apart at random."""
    padding, clones = [], []
    for _ in range(count):
        padding.append(bytearray(chance.randrange(64, _MOST_PADDING_BYTE)))
        clones.append(contender.make_arguments())
    return clones


@cache
def last_level_cache_byte(system: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the processor's last-level cache, or a common one where the system does not say."""
    sizes = [_size_byte(file.read_text().strip()) for file in system.glob("index*/size")]
    return max(sizes, default=_CACHE_BYTE)


def _size_byte(text: str) -> int:
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
    return int(text.rstrip("KMG") or 0) * factor
