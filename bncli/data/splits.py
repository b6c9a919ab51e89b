"""Examples as tensors, on the device where they fit, what every data set is loaded into; and data drawn by rule."""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from bncli.data.tokens import Masking

AHEAD = 3  # batches that are read from the disk while one trains


@dataclass(frozen=True)
class Split:
    """Inputs (N, features) as stored, and targets (N,) or (N, outputs) on the device that trains.

    Stored inputs may be bytes; `inputs` turns the chosen ones into floats as `stored * scale + shift`. What is too
    large for the device is stored elsewhere, as a rule in a file that is mapped into memory, and read batch by batch.
    """

    stored: Tensor
    targets: Tensor
    scale: float | Tensor = 1.0  # or of each feature, as shift
    shift: float | Tensor = 0.0
    streamed: bool = False  # stored elsewhere
    rows: Tensor | None = None  # where example n is stored, if not as n
    order: Tensor | None = None  # which stored number is feature n, if not n
    tokens: bool = False  # stored are whole numbers that stay so
    masking: "Masking | None" = None  # how training masks them anew each time

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, index: Tensor) -> Tensor:
        """The examples at `index` (any shape I), as floats, or tokens, of shape (*I, features)."""
        return self._floats(self._chosen(index)).view(*index.shape, -1)

    def batches(self, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The examples at index[0], index[1], ... (batches, *I), as (inputs (*I, features), targets (*I, ...)).

        Those that are stored elsewhere are read ahead by threads: the same numbers, sooner.
        """
        if not self.streamed:
            for one in index.to(self.targets.device):
                yield self.inputs(one), self.targets[one]
            return
        with ThreadPoolExecutor(AHEAD) as pool:
            ahead: deque[tuple[Tensor, Future[Tensor]]] = deque()
            for one in index:
                ahead.append((one, pool.submit(self._chosen, one)))
                if len(ahead) > AHEAD:
                    yield self._ready(*ahead.popleft())
            while ahead:
                yield self._ready(*ahead.popleft())

    def _ready(self, index: Tensor, stored: Future[Tensor]) -> tuple[Tensor, Tensor]:
        inputs = self._floats(stored.result()).view(*index.shape, -1)
        return inputs, self.targets[index.to(self.targets.device)]

    def slice(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Examples first..last-1 as (inputs, targets)."""
        targets = self.targets[first:last]
        if self.rows is not None:
            return self._floats(self.stored.index_select(0, self.rows[first:last])), targets
        return self._floats(self.stored[first:last]), targets

    def _chosen(self, index: Tensor) -> Tensor:
        flat = index.reshape(-1)
        if self.streamed:
            flat = flat.cpu()
            flat = flat if self.rows is None else self.rows[flat]
        return self.stored.index_select(0, flat)  # several times as fast as stored[index]

    def _floats(self, stored: Tensor) -> Tensor:
        if self.tokens:
            return stored
        if self.streamed:
            stored = stored.to(self.targets.device)
            stored = stored if self.order is None else stored.index_select(1, self.order)
        plain = not isinstance(self.scale, Tensor) and self.scale == 1
        if stored.is_floating_point():
            values = stored.to(torch.get_default_dtype())
            return values if plain else values * self.scale + self.shift
        values = stored.to(torch.get_default_dtype())
        values = values if plain else values.mul_(self.scale)
        return values.add_(self.shift) if isinstance(self.shift, Tensor) or self.shift else values


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set."""

    train: Split
    validation: Split
    test: Split


SplitParts = Mapping[str, tuple[Any, Any, Any]]
"""Part -> inputs (M, ...), a numpy array or one mapped from a file; targets (N,); which rows are its own, or None."""


def splits_of(
    parts: SplitParts,
    shape: tuple[int, ...],
    *,
    standardize: bool,
    device: str,
    top: int = 255,
    channels_last: bool = False,
) -> Splits:
    """Arrays as splits: on the device if they fit there, else left where they are.

    Args:
        parts: train, validation, test.
        shape: of one example, (numbers,) or (channels, height, width).
        standardize: each channel, or each of the numbers, to mean 0 and variance 1 over the training part.
        device: that trains.
        top: what becomes 1 of inputs that are bytes; other numbers stay as they are.
        channels_last: images are stored as (height, width, channels).
    """
    size = sum({id(x): x.nbytes for x, _, _ in parts.values()}.values())
    streamed = size > memory_for_data(device)
    order = torch.arange(prod(shape)).view(shape).permute(1, 2, 0).reshape(-1).argsort() if channels_last else None
    found = {}
    for name, (x, y, rows) in parts.items():
        x, y = (x, y) if streamed or rows is None else (x[rows], y)
        if channels_last and not streamed:
            x = np.moveaxis(x, -1, 1)
        targets = torch.as_tensor(np.array(y, np.float64 if y.dtype.kind == "f" else np.int64))
        if targets.is_floating_point():
            targets = targets.view(len(y), -1).to(torch.get_default_dtype())
        stored = _tensor(x)
        found[name] = Split(
            stored if streamed else stored.to(device), targets.to(device), 1 / top if x.dtype == np.uint8 else 1.0,
            streamed=streamed, rows=torch.from_numpy(rows) if streamed and rows is not None else None,
            order=order.to(device) if streamed and order is not None else None,
        )  # fmt: skip
    splits = Splits(**found)
    return _standardized(splits, shape) if standardize else splits


def memory_for_data(device: str) -> int:
    """Bytes that a data set may take on a device: half of what is free on a GPU, a quarter of a machine's memory.

    A quarter, because each worker holds a copy.
    """
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0] // 2)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):  # Windows
        return 4 << 30


def _tensor(x: Any) -> Tensor:
    """An array as (N, features), in a type that torch gathers from; what is mapped from a file stays so."""
    wide = {"b1": np.uint8, "f2": np.float32, "u2": np.int32, "u4": np.int64, "u8": np.int64, "f16": np.float64}
    wanted = np.dtype(wide.get(x.dtype.str[1:], x.dtype)).newbyteorder("=")
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    if flat.dtype != wanted:
        flat = flat.astype(wanted)
    return torch.from_numpy(flat if flat.flags.writeable else flat.copy())


def _standardized(splits: Splits, shape: tuple[int, ...]) -> Splits:
    """Each channel to mean 0 and variance 1 over the training part; one that does not vary is only centred."""
    train, size = splits.train, max(1, 2**24 // prod(shape))
    chunks = [(i, min(i + size, len(train))) for i in range(0, len(train), size)]

    def mean(of: Any) -> Tensor:
        sums = [of(train.slice(a, b)[0].cpu().double().unflatten(-1, (shape[0], -1))).sum((0, 2)) for a, b in chunks]
        return torch.stack(sums).sum(0) / (len(train) * prod(shape[1:]))

    centre = mean(lambda x: x)
    deviation = mean(lambda x: (x - centre[:, None]).square()).sqrt()
    deviation = torch.where(deviation > 0, deviation, 1.0)
    dtype, each = torch.get_default_dtype(), prod(shape[1:])

    def scaled(split: Split) -> Split:
        scale = (split.scale / deviation).repeat_interleave(each)
        shift = (-centre / deviation).repeat_interleave(each)
        return replace(split, scale=scale.to(dtype), shift=shift.to(dtype))

    return Splits(scaled(splits.train), scaled(splits.validation), scaled(splits.test))


NUMBERS = 10


def load_linear_map(*, seed: int, device: str) -> Splits:
    """Draw A (10, 10) and training, validation and test examples x, each (1000, 10), all standard normal; y = A x."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(NUMBERS, NUMBERS, generator=generator, dtype=torch.float64)

    def split() -> Split:
        x = torch.randn(EXAMPLES, NUMBERS, generator=generator, dtype=torch.float64)
        return Split(x.to(device), (x @ a.T).to(device, torch.get_default_dtype()))

    return Splits(split(), split(), split())


EXAMPLES = 1000


def load_offset(*, seed: int, device: str) -> Splits:
    """Draw training, validation and test examples, each (1000, 1); all targets are 1."""
    generator = torch.Generator().manual_seed(seed)

    def split() -> Split:
        inputs = torch.randn(EXAMPLES, 1, generator=generator, dtype=torch.float64)
        return Split(inputs.to(device), torch.ones(EXAMPLES, 1, device=device))

    return Splits(split(), split(), split())
