"""What a measurement leaves behind, as plain frozen data: raw samples first, what is read off them beside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Stopped = Literal["narrow", "time", "blocks"]  # the interval was narrow enough; seconds or blocks ran out


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % interval; the ends are None where there are too few samples for one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One case as one process timed it, beside its yardsticks.

    `samples[contender]` holds every block's two chunks, in seconds a call, in the order they were taken; nothing is
    left out. The contender "case" is the case itself, the others are its yardsticks.
    """

    name: str
    samples: Mapping[str, tuple[tuple[float, float], ...]]
    calls: Mapping[str, int]  # in one chunk
    seconds: Mapping[str, Estimate]  # a call, by contender
    ratios: Mapping[str, Estimate]  # case / yardstick, by yardstick
    outliers: Mapping[str, int]  # chunks far above the others: counted, and kept in the samples
    stopped: Stopped
    clones: Mapping[str, int]  # argument sets that took turns
    cold: bool  # whether those sets are larger than the last-level cache, so that no call finds its own in it
    warnings: tuple[str, ...] = ()
