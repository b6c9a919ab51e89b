"""Draws batches by index: epochs from a generator of each run's own, so that variants see the same ones."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bncli.config import Augmentation
from bncli.data.augment import augment, draw
from bncli.data.splits import Split
from bncli.errors import DataError
from bncli.models.unit import generator


class Batches:
    """Batches of `size` examples for every lane.

    Each epoch is a fresh permutation of the training examples; its last, smaller batch is dropped, because batch
    statistics of fewer examples are another norm. With `classes` an epoch is as many batches of so many classes each
    (`_FewClasses`). The order depends on the seed only, and so does what augmentation does to each example of an epoch,
    or which of its tokens are masked.
    """

    def __init__(
        self, split: Split, size: int, seeds: Sequence[int], lanes: tuple[int, ...],
        augmentation: Augmentation | None = None, shape: tuple[int, ...] = (), share: tuple[int, int] | None = None,
        classes: int | None = None,
    ) -> None:  # fmt: skip
        """`shape` is that of an example, which augmentation needs to know; `share` is where a rank's examples of each
        batch begin, and how many they are.

        Raises:
            DataError: where `classes` of the classes have too few examples for a batch.
        """
        self.split, self.size, self._lanes, self._share = split, size, lanes, share or (0, size)
        self._how, self._shape = augmentation, shape
        self._draw = split.masking.draw if split.masking else draw if augmentation else None
        self._together = _FewClasses(split.targets.cpu(), classes, size).draw if classes else self._draw_any
        self._orders = {seed: self._order(generator(seed, "batches")) for seed in seeds}
        self._seeds = seeds

    def _order(self, draws: torch.Generator) -> "_Order":
        return _Order(len(self.split), self.size, draws, self._together, self._draw)

    def _draw_any(self, batches: int, draws: torch.Generator) -> Tensor:
        """(batches, size), no example twice."""
        whole = torch.randperm(len(self.split), generator=draws)
        return whole[: batches * self.size].view(batches, self.size)

    def next(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The next `steps` batches, or shares, as (inputs (*lanes, N, features), targets (*lanes, N, ...))."""
        drawn = {seed: order.next(steps) for seed, order in self._orders.items()}
        index, chance = (
            torch.stack([drawn[seed][i] for seed in self._seeds], 1)
            .view(steps, *self._lanes, self.size, *more)
            .narrow(1 + len(self._lanes), *self._share)
            for i, more in ((0, ()), (1, (-1,)))
        )
        for (x, y), draws in zip(self.split.batches(index), chance, strict=True):
            yield self._augmented(x, y, draws)

    def state(self) -> list[tuple[int, Tensor, int]]:
        """Where every seed's order stands: (seed, its generator before the epoch, batches taken of the epoch)."""
        return [(seed, order.start, order.taken) for seed, order in self._orders.items()]

    def restore(self, state: Sequence[tuple[int, Tensor, int]]) -> None:
        """Go on where `state` said; this redraws one epoch."""
        for seed, start, taken in state:
            self._orders[seed].restore(start, taken)

    def fixed(self, count: int) -> Iterator[Tensor]:
        """`count` batches (N, features) that every lane and every call shares."""
        order = self._order(generator(0, "precise"))
        for _ in range(count):
            index, draws = order.next(1)
            one = index[0].to(self.split.targets.device)
            yield self._augmented(self.split.inputs(one), self.split.targets[one], draws[0])[0]

    def _augmented(self, x: Tensor, y: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets as this epoch has them: images moved, tokens masked."""
        how, masking = self._how, self.split.masking
        if masking is not None:
            return masking.mask_anew(x, y, draws)
        return (augment(x, draws, self._shape, crop=how.crop, flip=how.flip, cutout=how.cutout) if how else x), y


class _Order:
    """One generator's epochs, batch by batch."""

    def __init__(
        self,
        examples: int,
        size: int,
        generator: torch.Generator,
        together: Callable[[int, torch.Generator], Tensor],
        chance: Callable[[int, torch.Generator], Tensor] | None,
    ) -> None:
        """`together` draws which examples are in so many batches, `chance` what is done to so many examples."""
        self._examples, self._size, self._draw, self._draw_chance = examples, size, generator, chance
        self._together = together
        self._epoch: Tensor | None = None  # drawn when its first batch is
        self._chance = torch.empty(0)  # what is done to each of its examples
        self.start, self.taken = generator.get_state(), 0

    def next(self, batches: int) -> tuple[Tensor, Tensor]:
        """Which examples (batches, size), and draws for what is done to each (batches, size, draws)."""
        parts, chances = [], []
        while batches:
            if self._epoch is None:
                whole = self._examples // self._size
                if not whole:
                    raise DataError(
                        f"{self._examples} training examples are fewer than training.batch_size {self._size}"
                    )
                self._epoch = self._together(whole, self._draw)
                self._chance = self._epoch.new_empty(whole, self._size, 0)
                if self._draw_chance:
                    seed = hashlib.sha256(self.start.numpy().tobytes() + b"augmentation").digest()[:7]
                    own = torch.Generator().manual_seed(
                        int.from_bytes(seed, "big")
                    )  # the order is that of no augmentation
                    self._chance = self._draw_chance(whole * self._size, own).view(whole, self._size, -1)
            parts.append(self._epoch[self.taken : self.taken + batches])
            chances.append(self._chance[self.taken : self.taken + batches])
            batches -= len(parts[-1])
            self.taken += len(parts[-1])
            if self.taken == len(self._epoch):
                self.restore(self._draw.get_state(), 0)
        return torch.cat(parts), torch.cat(chances)

    def restore(self, start: Tensor, taken: int) -> None:
        self._draw.set_state(start)
        self._epoch, self.start, self.taken = None, start, taken


class _FewClasses:
    """Batches of a few classes each: the class of an example drawn at random, others at random, then examples of them.

    So a set of classes is drawn in proportion to its examples (Midzuno 1952), and every example is as likely as any
    other to be in a batch, however many its class has: size / N. None is twice in a batch, and they come in any order.
    A class without examples is never drawn.
    """

    def __init__(self, targets: Tensor, few: int, size: int) -> None:
        """`targets` (N,) are classes."""
        self._targets, self._few, self._size = targets.unique(return_inverse=True)[1], few, size
        self._counts = self._targets.bincount()
        self._starts, self._by_class = self._counts.cumsum(0) - self._counts, self._targets.argsort(stable=True)
        place = "training.batches.classes_per_batch"
        if few > len(self._counts):
            raise DataError(f"{place}: must be <= {len(self._counts)} classes that have training examples, got {few}")
        if (least := int(self._counts.sort().values[:few].sum())) < size:
            raise DataError(
                f"{place}: {few} of the classes have {least} training examples together, fewer than"
                f" training.batch_size {size}; use more classes or a smaller batch"
            )

    def draw(self, batches: int, draws: torch.Generator) -> Tensor:
        """Which examples, (batches, size)."""
        first = self._targets[torch.randint(len(self._targets), (batches, 1), generator=draws)]
        places = torch.rand(batches, len(self._counts), generator=draws).scatter_(1, first, -1.0)
        classes = places.topk(self._few, largest=False).indices  # (batches, few)
        ends = self._counts[classes].cumsum(1)
        numbers = _draw_distinct(ends[:, -1], self._size, draws)  # of the examples of these classes, class by class
        which = torch.searchsorted(ends, numbers, right=True)
        begins = self._starts[classes] - (ends - self._counts[classes])
        chosen: Tensor = self._by_class[numbers + begins.gather(1, which)]
        return chosen


def _draw_distinct(totals: Tensor, size: int, draws: torch.Generator) -> Tensor:
    """`size` different numbers below each total (M,), any as likely as any other, in any order: (M, size).

    Floyd's algorithm (Bentley & Floyd 1987), then shuffled.
    """
    found = torch.empty(len(totals), size, dtype=torch.int64)
    for i in range(size):
        last = totals - size + i
        number = (torch.rand(len(totals), dtype=torch.float64, generator=draws) * (last + 1)).long()
        found[:, i] = torch.where((found[:, :i] == number[:, None]).any(1), last, number)
    return found.gather(1, torch.rand(found.shape, generator=draws).argsort(1))
