"""A clock turned by hand: every call takes the seconds it is told to, and nothing else takes any."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bncli.timing.workloads import Entry, Workload


class HandClock:
    """Time passes only in calls; what is called, and with which arguments, is kept."""

    def __init__(self) -> None:
        self.time = 0.0
        self.called: list[tuple[str, Any]] = []
        self.chunks: list[str] = []  # the workload of each timed chunk

    def now(self) -> float:
        return self.time

    def time_chunk(self, call: Callable[..., object], sets: Sequence[tuple[Any, ...]]) -> float:
        start = self.time
        for arguments in sets:
            call(*arguments)
        self.chunks.append(self.called[-1][0])
        return self.time - start

    def workload(self, name: str, seconds: Callable[[float], float] | float, size_byte: int = 100) -> Workload:
        """Calls that take `seconds`, or `seconds(time)`; argument sets are numbered."""
        numbers: Iterator[int] = iter(range(10**9))

        def call(number: int) -> None:
            self.called.append((name, number))
            self.time += seconds(self.time) if callable(seconds) else seconds

        return Workload(call, lambda: (next(numbers),), size_byte)

    def entry(self, case: Any, native: Any = 1.0, copy: Any = 0.25) -> Entry:
        rivals = (("native", self.workload("native", native)), ("copy", self.workload("copy", copy)))
        return Entry("made", self.workload("case", case), rivals)


def noisy(seconds: float, sigma: float, seed: int) -> Callable[[float], float]:
    """Lognormal noise about `seconds`."""
    chance = random.Random(seed)
    return lambda time: seconds * chance.lognormvariate(0, sigma)
