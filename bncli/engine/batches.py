"""Draws batches by index: shuffled epochs from a generator of each run's own, so that variants see the same ones."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bncli.data.splits import Split
from bncli.models.initialise import generator


class Batches:
    """Batches of `size` examples for every lane.

    Each epoch is a fresh permutation of the training examples; its last, smaller batch is dropped, because batch
    statistics of fewer examples are another norm. The order depends on the seed only.
    """

    def __init__(self, split: Split, size: int, seeds: Sequence[int], lanes: tuple[int, ...]) -> None:
        self.split, self.size, self._lanes = split, size, lanes
        self._orders = {seed: _order(len(split), size, generator(seed, "batches")) for seed in seeds}
        self._seeds = seeds

    def next(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches as (inputs (*lanes, N, features), targets (*lanes, N, ...))."""
        drawn = {seed: torch.stack([next(order) for _ in range(steps)]) for seed, order in self._orders.items()}
        index = torch.stack([drawn[seed] for seed in self._seeds], 1).view(steps, *self._lanes, self.size)
        for one in index.to(self.split.targets.device):
            yield self.split.inputs(one), self.split.targets[one]

    def fixed(self, count: int) -> Iterator[Tensor]:
        """`count` batches (N, features) that every lane and every call shares."""
        order = _order(len(self.split), self.size, generator(0, "precise"))
        for _ in range(count):
            yield self.split.inputs(next(order).to(self.split.targets.device))


def _order(examples: int, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    while True:
        epoch = torch.randperm(examples, generator=draw)
        for first in range(0, examples - size + 1, size):
            yield epoch[first : first + size]
