"""Where a job's seconds go: start, training, evaluation, data, checkpointing, compilation, probing."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
KINDS = ("start", "training", "evaluation", "data", "checkpointing", "compilation", "probing")


class Clock:
    """Seconds of each kind; of two that nest, a second counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Charge what happens inside to `kind`."""
        start, others = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            nested = sum(self.seconds.values()) - others
            self.seconds[kind] += time.perf_counter() - start - nested

    def each(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """`items`, with the making of each charged to `kind`."""
        source = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds[kind] += time.perf_counter() - start
            yield item
