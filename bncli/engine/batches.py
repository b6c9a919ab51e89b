"""Draws batches by index: shuffled epochs from a generator of each run's own, so that variants see the same ones."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bncli.data.splits import Split
from bncli.errors import DataError
from bncli.models.unit import generator


class Batches:
    """Batches of `size` examples for every lane.

    Each epoch is a fresh permutation of the training examples; its last, smaller batch is dropped, because batch
    statistics of fewer examples are another norm. The order depends on the seed only.
    """

    def __init__(self, split: Split, size: int, seeds: Sequence[int], lanes: tuple[int, ...]) -> None:
        self.split, self.size, self._lanes = split, size, lanes
        self._orders = {seed: _Order(len(split), size, generator(seed, "batches")) for seed in seeds}
        self._seeds = seeds

    def next(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches as (inputs (*lanes, N, features), targets (*lanes, N, ...))."""
        drawn = {seed: order.next(steps) for seed, order in self._orders.items()}
        index = torch.stack([drawn[seed] for seed in self._seeds], 1).view(steps, *self._lanes, self.size)
        for one in index.to(self.split.targets.device):
            yield self.split.inputs(one), self.split.targets[one]

    def state(self) -> list[tuple[int, Tensor, int]]:
        """Where every seed's order stands: (seed, its generator before the epoch, batches taken of the epoch)."""
        return [(seed, order.start, order.taken) for seed, order in self._orders.items()]

    def restore(self, state: Sequence[tuple[int, Tensor, int]]) -> None:
        """Go on where `state` said; this redraws one epoch."""
        for seed, start, taken in state:
            self._orders[seed].restore(start, taken)

    def fixed(self, count: int) -> Iterator[Tensor]:
        """`count` batches (N, features) that every lane and every call shares."""
        order = _Order(len(self.split), self.size, generator(0, "precise"))
        for _ in range(count):
            yield self.split.inputs(order.next(1)[0].to(self.split.targets.device))


class _Order:
    """One generator's epochs, batch by batch."""

    def __init__(self, examples: int, size: int, draw: torch.Generator) -> None:
        self._examples, self._size, self._draw = examples, size, draw
        self._epoch: Tensor | None = None  # drawn when its first batch is
        self.start, self.taken = draw.get_state(), 0

    def next(self, batches: int) -> Tensor:
        """(batches, size)."""
        parts = []
        while batches:
            if self._epoch is None:
                whole = self._examples // self._size
                if not whole:
                    raise DataError(
                        f"{self._examples} training examples are fewer than training.batch_size {self._size}"
                    )
                self._epoch = torch.randperm(self._examples, generator=self._draw)[: whole * self._size].view(
                    whole, self._size
                )
            parts.append(self._epoch[self.taken : self.taken + batches])
            batches -= len(parts[-1])
            self.taken += len(parts[-1])
            if self.taken == len(self._epoch):
                self.restore(self._draw.get_state(), 0)
        return torch.cat(parts)

    def restore(self, start: Tensor, taken: int) -> None:
        self._draw.set_state(start)
        self._epoch, self.start, self.taken = None, start, taken
